"""A run's folder: its configuration, its parts, and a manifest of them.

``config.json`` is written first. The rows of the data set are cut into parts of equal number; each is one Parquet file, written
whole or not at all, that says in its own metadata of which run and part it is. So what is done is what is there and whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from heedmap.common.files import CONFIG, HeldFolder, write_atomically, writing
from heedmap.errors import FileFormatError, OutputError
from heedmap.scale.job import JobConfig
from heedmap.scale.shard import Line, arrow, file_bytes

MANIFEST, REPORT, PARTS = "manifest.json", "report.html", "parts"


@dataclass(frozen=True)
class MadePart:
    """What a part's file says of itself.

    Attributes:
        run: digest of the configuration.
        part: its number.
        rows: of the data set.
        lines: of the file; of answers there are several a row.
        bad: rows that could not be explained.
        seconds: that it took.
    """

    run: str
    part: int
    rows: int
    lines: int
    bad: int
    seconds: float


class ShardFolder(HeldFolder[JobConfig]):
    """The folder of a run over a data set."""

    format, version, holds = "heedmap-run", 1, "a run over a data set"

    def digest(self) -> str:
        """Of the configuration: what a part has to be of."""
        return sha256((self.path / CONFIG).read_bytes()).hexdigest()[:16]

    def path_of(self, number: int) -> Path:
        """The file of a part."""
        return self.path / PARTS / f"part-{number:06d}.parquet"

    def part(self, number: int, run: str) -> MadePart | None:
        """What the file of a part says; None: there is none.

        Raises:
            FileFormatError: it is cut off, damaged, or of another run.
        """
        path = self.path_of(number)
        pa = arrow()
        try:
            told = pa.parquet.read_metadata(path)
            part = MadePart(**json.loads(told.metadata[b"heedmap"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{path} is cut off or damaged ({error or 'no footer'})") from error
        if (part.run, part.part, part.lines) != (run, number, told.num_rows):
            raise FileFormatError(f"{path} is no part {number} of this run")
        return part

    def write_part(self, part: MadePart, lines: Sequence[Line]) -> None:
        """Write a part, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path_of(part.part)
        try:
            write_atomically(path, file_bytes(lines, asdict(part)))
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; what is there is whole: make room, and the same command goes on"
            ) from error

    def clean(self) -> None:
        """Remove what killed processes left half written; the folder has to be held."""
        with writing(self.path):
            (self.path / PARTS).mkdir(exist_ok=True)
            for left in (self.path / PARTS).glob(".part-*"):
                left.unlink(missing_ok=True)

    def write_manifest(self, parts: Sequence[MadePart], rows: int, expected: int) -> None:
        """Write which parts there are."""
        listed = [
            {"file": f"{PARTS}/{path.name}", "bytes": path.stat().st_size, "rows": part.rows, "bad": part.bad}
            for part in parts
            for path in [self.path_of(part.part)]
        ]
        manifest = {
            "format": self.format,
            "version": self.version,
            "rows": rows,
            "done": sum(part.rows for part in parts),
            "bad": sum(part.bad for part in parts),
            "complete": len(parts) == expected,
            "seconds": round(sum(part.seconds for part in parts), 3),
            "parts": listed,
        }
        self.write_json(MANIFEST, manifest)
