"""What a run leaves in its folder: its configuration, its measurements part by part, and what they say.

``config.json`` is written first. Each part of the samples is one Parquet file, written whole or not at all, so a run that was
killed goes on behind its last whole part. ``summary.json`` comes last, with what people look at (:mod:`heedmap.evaluate.report`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from heedmap.common.extras import library
from heedmap.common.files import HeldFolder
from heedmap.errors import FileFormatError
from heedmap.evaluate.statistics import CurveLine, MeanRank, MeasureFigures, Row

FORMAT = "heedmap-evaluation"
VERSION = 1
SUMMARY = "summary.json"


class RunConfig(TypedDict):
    """All on which a run depends."""

    evaluation: str
    settings: dict[str, object]
    model: dict[str, str]
    data: dict[str, object]
    samples: int
    seed: int
    part: int
    contenders: list[dict[str, object]]


class SummaryCurve(TypedDict):
    """A curve as a summary has it."""

    key: str
    title: str
    x_label: str
    y_label: str
    x: list[float]
    lines: dict[str, CurveLine]


class Skipped(TypedDict):
    """How many samples a run skipped, and why the first ones."""

    count: int
    why: dict[str, str]


class Summary(RunConfig):
    """What a run found, as ``summary.json`` holds it."""

    format: str
    version: int
    reference: str
    skipped: Skipped
    refused: dict[str, str]
    leaderboard: list[MeanRank]
    measures: list[MeasureFigures]
    curves: list[SummaryCurve]
    facts: dict[str, object]


class RunFolder(HeldFolder[RunConfig]):
    """The folder of an evaluation."""

    format, version, holds = FORMAT, VERSION, "an evaluation"

    def has_part(self, number: int) -> bool:
        """Whether this part of the samples is measured."""
        return (self.path / _part(number)).exists()

    def write_part(self, number: int, rows: Sequence[Row], skipped: Mapping[str, str], seconds: float) -> None:
        """Write the measurements of a part, and which of its samples were skipped and why."""
        arrow, parquet = _libraries()
        facts = {"skipped": json.dumps(dict(skipped)), "seconds": repr(seconds)}
        table = arrow.Table.from_pylist(list(rows)).replace_schema_metadata(facts)
        buffer = arrow.BufferOutputStream()
        parquet.write_table(table, buffer)
        self.write_file(_part(number), buffer.getvalue().to_pybytes())

    def rows(self, parts: int) -> Iterator[Row]:
        """All measurements, in order of parts; FileFormatError names a damaged file."""
        _, parquet = _libraries()
        for number in range(parts):
            with _whole(self.path / _part(number)) as path:
                table = parquet.read_table(path)
            yield from table.to_pylist()

    def skipped(self, parts: int) -> dict[str, str]:
        """Key → why, of the samples that were skipped."""
        skipped: dict[str, str] = {}
        for number in range(parts):
            skipped |= json.loads(self._facts(number)[b"skipped"])
        return dict(sorted(skipped.items()))

    def seconds(self, parts: int) -> float:
        """How long the measurements took."""
        return sum(float(self._facts(number)[b"seconds"]) for number in range(parts))

    def _facts(self, number: int) -> Mapping[bytes, bytes]:
        _, parquet = _libraries()
        with _whole(self.path / _part(number)) as path:
            return dict(parquet.read_schema(path).metadata)


def _part(number: int) -> str:
    return f"rows/part-{number:05d}.parquet"


def read_summary(path: Path) -> Summary:
    """The summary of a finished run.

    Raises:
        FileFormatError: there is none, or it is damaged.
    """
    try:
        summary: Summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        if summary["format"] == FORMAT:
            return summary
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileFormatError(f"{path / SUMMARY} is no summary of an evaluation; run the evaluation to its end")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """The path of a part; whatever is wrong with it is a FileFormatError."""
    try:
        yield path
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path} is damaged ({error}); remove it and run again: only this part is measured anew"
        ) from error


def _libraries() -> tuple[ModuleType, ModuleType]:
    needs = "the measurements' Parquet files need"
    return library("pyarrow", "eval", needs), library("pyarrow.parquet", "eval", needs)
