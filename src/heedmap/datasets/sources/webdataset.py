"""WebDataset: tar files in which files that stand together and share a name, up to its first dot, are one sample."""

from __future__ import annotations

import json
import tarfile
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from heedmap.datasets.disk import FilePath, dated, needed_file
from heedmap.datasets.images import SUFFIXES
from heedmap.datasets.sources.row import SourceRow, made_row
from heedmap.errors import FileFormatError, InputError

TEXTS, SOUNDS, ARRAYS, TARGETS = ("txt", "text"), ("wav",), ("npz",), ("cls",)
ENDINGS: Mapping[str, str] = {
    **{suffix[1:]: "image" for suffix in SUFFIXES},
    **dict.fromkeys(TEXTS, "text"),
    **dict.fromkeys(SOUNDS, "audio"),
    **dict.fromkeys(ARRAYS, "boxes"),
    **dict.fromkeys(TARGETS, "target"),
}
"""Ending of a file of a sample → what it is. A ``json`` has fields of the same names as columns of other data sets."""


@dataclass
class TarSample:
    """A sample of a tar file.

    Attributes:
        key: the name that its files share.
        files: ending → where its bytes are, and how many.
    """

    key: str
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


class WebDataset:
    """Tar files; a row is a sample, its key the name that its files share.

    Attributes:
        description, roles, columns: see :class:`heedmap.datasets.sources.row.RowSource`.
    """

    def __init__(self, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._paths = list(paths)
        self._samples = [list(_samples(path)) for path in paths]
        self._ends = list(accumulate(map(len, self._samples)))
        named = {name: role for role, name in columns.items()}
        self._roles = {**ENDINGS, **named}
        endings = {ending for sample in self._samples[0][:100] for ending in sample.files}
        self.columns: Sequence[str] = sorted(endings)
        known = {self._roles[ending] for ending in endings if ending in self._roles}
        self.roles: Collection[str] = () if "json" in endings else tuple(known)
        if not known and "json" not in endings:
            raise InputError(
                f"the samples of {paths[0]} have files that end in {', '.join(self.columns)}; expected some of "
                f"{', '.join(ENDINGS)}, json: say which is which by columns={{'text': 'ENDING'}}"
            )
        described = [(path.name, path) for path in paths]
        self.description: Mapping[str, object] = dated("webdataset", described, len(self), columns=dict(columns))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> SourceRow:
        """The sample of that number."""
        file = bisect_right(self._ends, number)
        sample = self._samples[file][number - (self._ends[file - 1] if file else 0)]
        try:
            values = self._values(file, sample)
        except (OSError, ValueError) as error:
            needed_file(self._paths[file], "samples")  # where it is gone, that is no fault of the row
            return SourceRow(sample.key, problem=f"it cannot be read from {self._paths[file].name} ({error})")
        return made_row(sample.key, values, self._paths[file].parent)

    def _values(self, file: int, sample: TarSample) -> dict[str, object]:
        values: dict[str, object] = {}
        wanted = {ending: place for ending, place in sample.files.items() if ending in self._roles or ending == "json"}
        for ending, data in _contents(self._paths[file], wanted).items():
            if ending == "json":
                told = json.loads(data)
                fields = told if isinstance(told, dict) else {}
                values = {str(self._roles.get(name, name)): value for name, value in fields.items()} | values
            else:
                role = self._roles[ending]
                values[role] = data if role in ("image", "audio", "boxes") else _word(data, role)
        return values


def open_webdataset(
    folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> WebDataset:
    """Tar files in the form of WebDataset, not compressed.

    Args:
        folder: a ``.tar`` file, or a folder of them.
        columns: role → ending of its files, or field of its ``json``, where they differ.
        split: only the files whose name begins with it.
    """
    path = Path(folder)
    paths = [path] if path.is_file() else sorted(path.glob(f"{split or ''}*.tar"))
    if not paths:
        raise InputError(f"there is no {split or ''}*.tar at {path}; give such a file, or a folder of them")
    return WebDataset(paths, columns or {})


def _samples(path: Path) -> Iterator[TarSample]:
    """The samples of a tar file by its headers alone."""
    sample: TarSample | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in _members(tar):
                folder, slash, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}{slash}{stem}"
                if sample is None or sample.key != key:
                    if sample is not None:
                        yield sample
                    sample = TarSample(key)
                sample.files[ending.lower()] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise FileFormatError(f"{path} is no tar file that is not compressed ({error}); fetch it again") from error
    if sample is None:
        raise InputError(f"{path} holds no sample; expected files such as 0001.jpg and 0001.txt")
    yield sample


def _contents(path: Path, places: Mapping[str, tuple[int, int]]) -> dict[str, bytes]:
    """Ending → the bytes at a place of a tar file; ValueError where it is cut off."""
    contents = {}
    with path.open("rb") as tar:
        for ending, (start, size) in places.items():
            tar.seek(start)
            contents[ending] = tar.read(size)
            if len(contents[ending]) < size:
                raise ValueError(f"the tar is cut off: {len(contents[ending])} of {size} bytes are there")
    return contents


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a tar; of one that is cut off those whose headers are there."""
    try:
        for member in tar:
            if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                yield member
    except tarfile.ReadError:
        return


def _word(data: bytes, role: str) -> int | str:
    text = data.decode("utf-8").strip() if role == "target" else data.decode("utf-8")
    return int(text) if role == "target" and text.lstrip("-").isdecimal() else text
