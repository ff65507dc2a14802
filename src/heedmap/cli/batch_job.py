"""What ``heedmap explain`` is to do with many inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from heedmap.cli.input_lists import Row
from heedmap.cli.manifest import INDEX
from heedmap.cli.map_names import names_of
from heedmap.errors import InputError, UnknownNameError


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be done.

    Attributes:
        rows: the inputs.
        names: of each, without an ending: of its map, and of its entry in the record.
        out: the folder; None: nothing is written.
        ending: of the maps, with its dot.
        target: as ``--target`` has it, of rows that have none.
        method, settings: of the explanations.
        batch: inputs of one size that are explained at once, at most.
        overwrite: whether to make again what is there.
        as_json: whether to print a line for each input.
    """

    rows: Sequence[Row]
    names: Sequence[str]
    out: Path | None
    ending: str
    target: str | None
    method: str
    settings: Mapping[str, Any]
    batch: int
    overwrite: bool
    as_json: bool

    @classmethod
    def of(cls, rows: Sequence[Row], out: Path | None, ending: str | None, *rest: Any) -> Wanted:
        """From the command line; ``rest`` are the attributes after ``ending``.

        Raises:
            typer.BadParameter: neither a folder nor JSON is wanted, or an ending without a folder.
            UnknownNameError: an ending that is not known.
            InputError: ``out`` is the name of a file, or rows have the same ``id``.
        """
        from heedmap.render.files import WRITERS

        dotted = f".{(ending or 'png').lower().removeprefix('.')}"
        if dotted not in WRITERS:
            raise UnknownNameError(f"--as is {ending!r}; known are {', '.join(one[1:] for one in WRITERS)}")
        if out is None and (ending is not None or not rest[-1]):
            raise typer.BadParameter(
                f"there are {len(rows)} inputs; give a folder for their maps, or --json", param_hint="--out"
            )
        if out is not None and not out.is_dir() and out.suffix.lower() in WRITERS:
            raise InputError(
                f"{out} is the name of a file, and there are {len(rows)} inputs; give a folder with --out, and "
                f"--as {out.suffix[1:]}"
            )
        return cls(rows, names_of(rows), out, dotted, *rest)

    @property
    def index(self) -> Path | None:
        """The page that lists the maps."""
        return None if self.out is None else self.out / INDEX
