"""Rationales as ERASER has them (DeYoung and others, 2020): documents, labels, and the words given as reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from heedmap.datasets.files import FilePath, described, needed_file, needed_folder, parsed
from heedmap.datasets.sample import Rationale, Sample, Span
from heedmap.errors import FileFormatError, InputError, SampleError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Annotated:
    """One document with its label.

    Attributes:
        document: its file below the folder of documents.
        label: of it.
        reasons: from which word to which, the first one beyond.
    """

    document: str
    label: str
    reasons: tuple[tuple[int, int], ...]


class Eraser:
    """Documents, such as movie reviews, a :class:`~heedmap.datasets.sample.Reader`; a sample's key is its annotation_id."""

    def __init__(self, annotations: Path, documents: Path) -> None:
        self._documents = documents
        self._annotated: dict[str, Annotated] = {}
        self.problems: dict[str, str] = {}
        for number, line in _lines(annotations):
            self._add(number, line)
        self.keys: Sequence[str] = list(self._annotated)
        self.description = described("eraser", [annotations], len(self.keys), documents=documents.name)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``text``, the whole document, its words joined by single spaces; the truth is a Rationale."""
        key = self.keys[index]
        annotated = self._annotated[key]
        words = _words(self._documents / annotated.document, annotated.document)
        spans = _spans(words)
        last = max(end for _, end in annotated.reasons)
        if last > len(words):
            raise SampleError(f"{key}: a reason ends at word {last}, and {annotated.document} has {len(words)}")
        reasons = tuple((spans[start][0], spans[end - 1][1]) for start, end in annotated.reasons)
        return Sample(key, {"text": " ".join(words)}, Rationale(annotated.label, reasons, spans))

    def _add(self, number: int, line: object) -> None:
        fields = line if isinstance(line, dict) else {}
        key = fields.get("annotation_id")
        if not isinstance(key, str):
            self.problems[f"line {number}"] = "no JSON object with an annotation_id"
            return
        try:
            annotated = _annotated(fields["evidences"], fields["classification"])
        except (KeyError, TypeError, ValueError) as error:
            self.problems[key] = f"line {number} is not as ERASER's: {error}"
            return
        if key in self._annotated:
            self.problems[f"{key} (line {number})"] = "its annotation_id was there before"
        elif not (self._documents / annotated.document).is_file():
            self.problems[key] = f"there is no document {annotated.document} in {self._documents.name}"
        else:
            self._annotated[key] = annotated


def open_eraser(
    folder: FilePath, *, split: str = "test", annotations: FilePath | None = None, documents: FilePath | None = None
) -> Eraser:
    """Open a part of an ERASER data set.

    Args:
        folder: has ``test.jsonl`` and so on, and ``docs``, so far as no other paths are given.
        split: "train", "val" or "test".
        annotations: ``.jsonl`` file.
        documents: folder of documents.

    Raises:
        InputError: no such split, or a file or folder is not there.
        FileFormatError: a file is not what it should be.
    """
    if annotations is None and split not in SPLITS:
        raise InputError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return Eraser(
        needed_file(annotations or Path(folder, f"{split}.jsonl"), "annotations"),
        needed_folder(documents or Path(folder, "docs"), "documents"),
    )


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Number and content of each line that is not empty; None for one that is no JSON."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parsed(line)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no UTF-8 text ({error}); fetch it again") from error


def _annotated(evidences: Sequence[Sequence[Mapping[str, int | str]]], label: object) -> Annotated:
    evidence = [piece for group in evidences for piece in group]
    documents = sorted({str(piece["docid"]) for piece in evidence})
    if len(documents) != 1:
        raise ValueError(f"its evidence is in {len(documents)} documents; one is needed")
    reasons = sorted({(int(piece["start_token"]), int(piece["end_token"])) for piece in evidence})
    if not all(0 <= start < end for start, end in reasons):
        raise ValueError("a start_token is not before its end_token")
    if not isinstance(label, str):
        raise ValueError("its classification is no text")
    return Annotated(documents[0], label, tuple(reasons))


def _words(path: Path, name: str) -> list[str]:
    """The document's words as ERASER counts them: between spaces and line ends."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"the document {name} cannot be read ({error}); fetch it again") from error
    return [word for line in lines for word in line.strip().split(" ") if word]


def _spans(words: Sequence[str]) -> tuple[Span, ...]:
    """Characters of each word in the words joined by single spaces."""
    starts = accumulate((len(word) + 1 for word in words), initial=0)
    return tuple((start, start + len(word)) for start, word in zip(starts, words, strict=False))
