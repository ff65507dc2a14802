"""Labels of models and of data sets, which spell the same thing in several ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SHOWN = 20
"""Labels that a message lists."""


def plain(label: str) -> str:
    """A label without what differs between sources: capitals, and what stands between its words."""
    return " ".join(label.casefold().replace("_", " ").replace("-", " ").split())


def spellings(name: str) -> set[str]:
    """The plain label, and each of the names that it lists, as ImageNet's do: ``tench, Tinca tinca``."""
    return {plain(part) for part in (name, *name.split(","))} - {""}


def meant(names: Mapping[int, str], labels: Iterable[str]) -> dict[int, str]:
    """Class index → which of ``labels``, plain ones, the class is; classes that are none of them are left out."""
    wanted = sorted(set(labels))
    return {index: one for index, name in names.items() for one in wanted if one in spellings(name)}


def listed(labels: Iterable[str]) -> str:
    """Labels for a message, each once."""
    found = list(dict.fromkeys(labels))
    more = f", … ({len(found)} in all)" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more if found else "none"
