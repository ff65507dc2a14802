"""The libraries that are swept: their subjects by family, and how a subject is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import build
from .build import Built
from .processes import Subject


@dataclass(frozen=True)
class Library:
    """Its subjects' names by family, and what makes one small."""

    families: Callable[[], Mapping[str, Sequence[str]]]
    built: Callable[[str, str], Built]


LIBRARIES = {"transformers": Library(build.families, build.built)}


def subjects(libraries: Sequence[str], families: Sequence[str] | None = None) -> list[Subject]:
    """All of these libraries, or those of ``families``."""
    return [
        Subject(library, family, name)
        for library in libraries
        for family, names in LIBRARIES[library].families().items()
        if families is None or family in families
        for name in names
    ]
