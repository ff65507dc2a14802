"""``heedmap methods`` and ``heedmap inspect``: the methods, and the attentions of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli import completion
from heedmap.cli.command import command
from heedmap.cli.inputs import asked, parse_target
from heedmap.cli.options import JsonOption, ModelOptions, OneInput, TargetOption, check_methods

if TYPE_CHECKING:
    from heedmap.methods import Method


@command()
def methods(
    *,
    name: Annotated[
        list[str] | None, typer.Argument(help="Methods; by default all.", autocompletion=completion.methods)
    ] = None,
    as_json: JsonOption = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the method cards to this file.")] = None,
) -> None:
    """List the methods: what each computes, its paper, what it costs, where it fails, and its options."""
    check_methods(name or (), groups=())
    import heedmap

    asked_for = [heedmap.METHODS[each.partition(":")[0]] for each in name or heedmap.METHODS]
    if markdown is not None:
        from heedmap.common.files import write_output
        from heedmap.methods.cards import page

        write_output(markdown, page(asked_for).encode())
    if as_json:
        typer.echo(json.dumps([_method_data(method) for method in asked_for], indent=1, default=str))
        return
    for method in asked_for:
        _print_method(method)


def _method_data(method: Method) -> dict[str, object]:
    from dataclasses import asdict

    from heedmap.methods.cards import CARDS, evidence

    return {
        "name": method.name,
        "summary": method.summary,
        "source": method.source,
        "options": dict(method.options),
        **asdict(CARDS[method.name]),
        "evidence": evidence(method.name),
    }


def _print_method(method: Method) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from heedmap.methods.cards import CARDS, evidence
    from heedmap.methods.supported import PAGE

    card = CARDS[method.name]
    options = ", ".join(f"{key}={value!r}" for key, value in method.options.items()) or "none"
    cost = f"forward passes: {card.forwards}, backward: {card.backwards}; needs {card.needs}"
    told = [cost, f"mind: {card.fails}", f"flows: {card.flows}", f"evidence: {evidence(method.name)} ({PAGE})"]
    told += [f"licence: {card.licence}"] if card.licence else []
    lines = ((method.summary, ""), (card.equation, ""), (method.source, "dim"), *((words, "") for words in told))
    console = Console(highlight=False)
    console.print(Text(method.name, style="bold"))
    for words, style in (*lines, (f"options: {options}", "")):
        console.print(Padding(Text(words, style=style), (0, 0, 0, 2)))


@command()
def inspect(*, inputs: OneInput, target: TargetOption = None, as_json: JsonOption = False, model: ModelOptions) -> None:
    """List the attentions that heedmap finds in a model, and the streams between which they run."""
    given = inputs.read(model.model)
    model.check()
    wanted = parse_target(target)
    subject = model.load()
    flow = subject.inspect(**asked(subject, given), target=wanted)
    if as_json:
        typer.echo(json.dumps(flow.to_dict(), indent=1))
        return
    from rich.console import Console

    from heedmap.data.flow import flow_table
    from heedmap.render.terminal import flow_rich

    console = Console()
    if console.is_terminal:
        console.print(flow_rich(flow))
    else:
        typer.echo(flow_table(flow))
