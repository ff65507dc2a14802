"""``heedmap answer``: every word of what a model says, with what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heedmap.cli.command import command, end, progress_bar, tell
from heedmap.cli.inputs import drawn_on
from heedmap.cli.options import (
    CostOptions,
    FigureOptions,
    JsonOption,
    MemoryOption,
    MethodOptions,
    ModelOptions,
    OneInput,
    OpenOption,
    check_out,
    ending_of,
    generation,
)
from heedmap.errors import OptionError
from heedmap.memory import memory_bytes
from heedmap.methods import written

if TYPE_CHECKING:
    from heedmap.explanation import Explanation


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(MethodOptions):
    """Those of ``heedmap answer`` alone."""

    answer: Annotated[str | None, typer.Option(help="Explain this answer, and not what the model says by itself.")] = (
        None
    )
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            help="Explain why each token and not another: runner-up, another answer, or WORD=OTHER for a word of it "
            "(several times)."
        ),
    ] = None
    generate: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for transformers' generate, such as max_new_tokens=20. Several times."),
    ] = None
    system: Annotated[str | None, typer.Option(help="The system prompt, of a model with a chat template.")] = None
    memory: MemoryOption = None
    out: Annotated[Path | None, typer.Option(help="Write .html, .png, .svg, .pdf, .json or .safetensors.")] = None
    as_json: JsonOption = False
    show: OpenOption = False

    def check(self) -> None:
        """As :meth:`MethodOptions.check`, and of what is generated and contrasted."""
        super().check()
        _ = self.generation, self.against
        memory_bytes(self.memory)

    @property
    def generation(self) -> dict[str, object]:
        """For transformers' ``generate``.

        Raises:
            typer.BadParameter: no ``=``, or a key twice.
        """
        return generation(self.generate)

    @property
    def against(self) -> str | dict[str, str] | None:
        """As :func:`heedmap.explain_answer` takes a contrast.

        Raises:
            typer.BadParameter: several that are no pairs.
        """
        try:
            return written.contrast(self.contrast or ())
        except OptionError as error:
            raise typer.BadParameter(str(error), param_hint="--contrast") from error


@command()
def answer(*, inputs: OneInput, options: AnswerOptions, figures: FigureOptions, model: ModelOptions) -> None:
    """Explain an answer in words: what each word of it rests on, in text, picture and sound."""
    from heedmap.render.files import WRITERS, to_json, write

    check_out(options.out, WRITERS, options.show)
    look = figures.check(ending_of(options.out))
    given = inputs.read(model.model)
    model.check()
    options.check()
    subject = model.load()
    with progress_bar() as bar:
        task = bar.add_task("tokens", total=None)
        explanation = options.by(subject.explain_answer)(
            given["text"],
            given["image"],
            given["audio"],
            answer=options.answer,
            contrast=options.against,
            generate=options.generation,
            system=options.system,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
            **CostOptions(memory=options.memory).given,
        )
    if options.out is not None:
        picture, without = drawn_on(subject, given)
        if without:
            tell(f"the map is {without}")
        write(options.out, explanation, picture, given["audio"], **look)
    data = to_json(explanation) if options.as_json else None
    end(options.out, data, partial(_print_words, explanation), options.show)


def _print_words(explanation: Explanation) -> None:
    from rich.console import Console

    from heedmap.render.terminal import terminal_answer

    console = Console(highlight=False)
    console.print(terminal_answer(explanation), soft_wrap=not console.is_terminal)
