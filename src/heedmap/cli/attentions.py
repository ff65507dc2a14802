"""``heedmap inspect`` and ``heedmap heads``: the attentions of a model, and each of them head by head."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import command, end, working
from heedmap.cli.inputs import asked, parse_target
from heedmap.cli.options import (
    FigureOptions,
    JsonOption,
    ModelOptions,
    OneInput,
    OpenOption,
    TargetOption,
    word_option,
)
from heedmap.common.files import write_output
from heedmap.render.files import DOTS, PICTURES, check_options, figure_bytes

if TYPE_CHECKING:
    from heedmap.engine.heads import Heads
    from heedmap.render.files import FigureLook

RANGE = re.compile(r"(\d+):(\d+)")


@command()
def inspect(*, inputs: OneInput, target: TargetOption = None, as_json: JsonOption = False, model: ModelOptions) -> None:
    """List the attentions that heedmap finds in a model, and the streams between which they run."""
    given = inputs.read(model.model)
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


@command()
def heads(
    *,
    inputs: OneInput,
    attention: Annotated[
        int | None, typer.Option(min=0, help="This one alone, large: its number, as `heedmap inspect` lists them.")
    ] = None,
    rollout: Annotated[
        str | None, typer.Option(help="The rollout of a range of self-attentions instead, such as 0:5.")
    ] = None,
    weights: Annotated[
        str, word_option(("attention", "relevance"), "attention: A; relevance: (∂y/∂A ⊙ A)⁺, for the target.")
    ] = "attention",
    target: TargetOption = None,
    out: Annotated[Path | None, typer.Option(help="Write .png, .svg, .pdf or .json.")] = None,
    as_json: JsonOption = False,
    show: OpenOption = False,
    figures: FigureOptions,
    model: ModelOptions,
) -> None:
    """Show every attention of a model, head by head: all small, one large, or the rollout of a range."""
    look = figures.look(out, (*PICTURES, ".json"), show)
    span = _range(rollout, attention)
    if weights not in ("attention", "relevance"):
        raise typer.BadParameter(f"{weights!r}; expected attention or relevance", param_hint="--weights")
    if look:
        from heedmap.render.matrices import plot_heads

        check_options(plot_heads, look, "a figure of heads")
    given = inputs.read(model.model)
    wanted = parse_target(target)
    subject = model.load()
    with working(subject, "reading the attentions"):
        numbers = None if attention is None else [attention]
        found = subject.heads(**asked(subject, given), target=wanted, weights=weights, attentions=numbers)
    if out is not None:
        write_output(out, _heads_file(out.suffix.lower(), found, attention, span, look))
    end(out, _heads_json(found) if as_json else None, partial(_print_heads, found), show)


def _range(rollout: str | None, attention: int | None) -> tuple[int, int] | None:
    if rollout is None:
        return None
    match = RANGE.fullmatch(rollout)
    if match is None or attention is not None:
        told = f"{rollout!r}; expected FIRST:LAST, such as 0:5" if match is None else "not with --attention"
        raise typer.BadParameter(told, param_hint="--rollout")
    return int(match[1]), int(match[2])


def _heads_file(
    ending: str, found: Heads, attention: int | None, span: tuple[int, int] | None, look: FigureLook
) -> bytes:
    if ending == ".json":
        return f"{_heads_json(found)}\n".encode()
    return figure_bytes(found.plot(attention, rollout=span, **look), ending, look.get("dpi", DOTS))


def _heads_json(found: Heads) -> str:
    return json.dumps(found.to_dict(), allow_nan=False, indent=1)


def _print_heads(found: Heads) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from heedmap.common.printable import visible

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("attention", justify="right", no_wrap=True)
    for heading in ("flow", "head", "asked most"):
        table.add_column(heading, overflow="fold")
    table.add_column("keys a query looks on", justify="right")
    for attention in found.attentions:
        flow, named = attention.flow, found.tokens[attention.info.source]
        for head, (key, spread) in enumerate(zip(attention.favourites, attention.spread.tolist(), strict=True)):
            number = "mean" if attention.averaged else str(head)
            words = (str(attention.info.index), flow, number, visible(named[key]), f"{spread:.1f}")
            table.add_row(*map(Text, words))
    console = Console(highlight=False)
    console.print(found.told, markup=False, soft_wrap=True)
    console.print(table)
