"""A run's folder: its configuration, its measurements part by part, and what they say.

``config.json`` is written first. Each part of the samples is one Parquet file, written whole or not at all, so a run that was
killed goes on behind its last whole part. ``summary.json``, the curves and the report come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heedmap.atomic import check_folder, write_atomically, writing
from heedmap.errors import FileFormatError, MissingLibraryError, OptionError, OutputError
from heedmap.evaluate.metrics.statistics import Row

FORMAT = "heedmap-evaluation"
VERSION = 1
CONFIG, SUMMARY, REPORT, LOCK = "config.json", "summary.json", "report.html", ".lock"


class RunFolder:
    """The folder of one run, which only one process writes at a time.

    Args:
        path: made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; another process that wants it gets OutputError. A killed process holds nothing."""
        from filelock import FileLock, Timeout

        check_folder(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(f"another run is writing {self.path}; wait for it, or give another folder") from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write the configuration, or find that the folder has the same.

        Raises:
            OptionError: it has another one; the message tells the differences.
            FileFormatError: what is there is no configuration.
        """
        wanted = json.loads(json.dumps({"format": FORMAT, "version": VERSION, **config}))
        existing = self.config()
        if existing is None:
            self._write(CONFIG, wanted)
        elif existing != wanted:
            names = sorted(name for name in {*existing, *wanted} if existing.get(name) != wanted.get(name))
            told = "; ".join(
                f"{name}: {_short(existing.get(name))} there, {_short(wanted.get(name))} now" for name in names
            )
            raise OptionError(f"{self.path} holds another run ({told}); give the same settings, or another folder")

    def config(self) -> dict[str, Any] | None:
        """The configuration in the folder; None: there is none yet."""
        path = self.path / CONFIG
        if not path.exists():
            return None
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if config["format"] == FORMAT and config["version"] <= VERSION:
                return dict(config)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise FileFormatError(f"{path} is no configuration of an evaluation by this heedmap; give another folder")

    def has_part(self, number: int) -> bool:
        """Whether this part of the samples is measured."""
        return self._part(number).exists()

    def write_part(self, number: int, rows: Sequence[Row], skipped: Mapping[str, str], seconds: float) -> None:
        """Write the measurements of a part, and which of its samples were skipped and why."""
        arrow, parquet = _libraries()
        facts = {"skipped": json.dumps(dict(skipped)), "seconds": repr(seconds)}
        table = arrow.Table.from_pylist(list(rows)).replace_schema_metadata(facts)
        buffer = arrow.BufferOutputStream()
        parquet.write_table(table, buffer)
        with writing(self.path):
            write_atomically(self._part(number), buffer.getvalue().to_pybytes())

    def rows(self, parts: int) -> Iterator[Row]:
        """All measurements, in order of parts; FileFormatError names a damaged file."""
        _, parquet = _libraries()
        for number in range(parts):
            with _whole(self._part(number)):
                table = parquet.read_table(self._part(number))
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

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write what the measurements say; the same summary is the same bytes."""
        self._write(SUMMARY, summary)

    def write_file(self, name: str, data: bytes) -> None:
        """Write another file of the folder."""
        with writing(self.path):
            write_atomically(self.path / name, data)

    def _facts(self, number: int) -> Mapping[bytes, bytes]:
        _, parquet = _libraries()
        with _whole(self._part(number)):
            return dict(parquet.read_schema(self._part(number)).metadata)

    def _part(self, number: int) -> Path:
        return self.path / "rows" / f"part-{number:05d}.parquet"

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        self.write_file(name, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        FileFormatError: there is none, or it is damaged.
    """
    try:
        summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        if summary["format"] == FORMAT:
            return dict(summary)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileFormatError(f"{path / SUMMARY} is no summary of an evaluation; run the evaluation to its end")


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path} is damaged ({error}); remove it and run again: only this part is measured anew"
        ) from error


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingLibraryError("the measurements are Parquet files; pip install 'heedmap[eval]'") from error
    return pyarrow, pyarrow.parquet
