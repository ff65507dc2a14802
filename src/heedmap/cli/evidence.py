"""``heedmap zoo evidence``: the figures of every method where the evidence is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from heedmap.atomic import write_output
from heedmap.cli import completion
from heedmap.cli.command import command, progress_bar, quiet
from heedmap.errors import FileFormatError

FORMAT = "heedmap-evidence"


@command()
def evidence(
    *,
    name: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models of the zoo; by default all that are shipped.", autocompletion=completion.zoo_models
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples of the test split a model.")] = 500,
    out: Annotated[Path | None, typer.Option(help="A .json file; other models' figures in it are kept.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write all figures of the --out file as a page.")] = None,
) -> None:
    """Measure every method against the true evidence."""
    from rich.console import Console

    from heedmap.zoo.samples import chosen

    if markdown is not None and out is None:
        raise typer.BadParameter("the page is written from a file of figures; give --out", param_hint="--markdown")
    names = chosen(name)
    kept = {} if out is None else read_figures(out)
    console = Console(highlight=False)
    for one, figures in _measured(names, samples).items():
        kept[one] = figures
        _print(console, one, figures)
    for path, text in _files(kept, out, markdown).items():
        write_output(path, text.encode())
        console.print(f"wrote {path}", soft_wrap=True)


def read_figures(path: Path) -> dict[str, Any]:
    """The figures by model that an earlier ``--out`` wrote to ``path``; none where there is no file.

    Raises:
        FileFormatError: the file is something else.
    """
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] == FORMAT:
            return dict(data["models"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileFormatError(f"{path} holds no figures of `heedmap zoo evidence`; give another file with --out")


def _measured(names: list[str], samples: int) -> dict[str, Any]:
    import heedmap
    from heedmap.zoo.evidence import measure
    from heedmap.zoo.samples import MATERIALS

    quiet()
    found = {}
    with progress_bar() as bar:
        for name in names:
            task = bar.add_task(name, total=samples)
            subject = heedmap.load(f"zoo/{name}")
            found[name] = measure(subject, MATERIALS[name], samples, lambda count, task=task: bar.advance(task, count))  # type: ignore[misc]
    return found


def _print(console: Any, name: str, figures: dict[str, Any]) -> None:
    from heedmap.zoo.report import FIGURES, tables, verdict

    console.print(f"zoo/{name}: {figures['right']} of {figures['samples']} samples answered rightly")
    for what, why in (figures.get("refused", {}) | figures.get("skipped", {})).items():
        console.print(f"left out: {what}: {why}", soft_wrap=True, markup=False)
    for table in tables(name, figures):
        console.print(table)
    for entry in figures["segments"].values():
        for figure in FIGURES:
            if figure in next(iter(entry["rows"].values())):
                console.print(verdict(figure, entry["rows"]).replace("**", "").replace("`", ""), soft_wrap=True)


def _files(figures: dict[str, Any], out: Path | None, page: Path | None) -> dict[Path, str]:
    from heedmap.zoo.report import markdown

    data = json.dumps({"format": FORMAT, "models": dict(sorted(figures.items()))}, indent=1) + "\n"
    wanted = {out: data, page: markdown(figures)}
    return {path: text for path, text in wanted.items() if path is not None}
