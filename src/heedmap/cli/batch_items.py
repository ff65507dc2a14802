"""Inputs on their way through a model, and which of them can go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heedmap.cli.input_lists import Row

if TYPE_CHECKING:
    from heedmap.explanation import Explanation


@dataclass(eq=False)
class Item:
    """An input on its way.

    Attributes:
        row, name, key: the input, what it is called, and the digest of all that its map depends on.
        inputs: as the subject takes them.
        tensors: as the model takes them, a batch of one.
        result: the explanation, or why there is none; None: its map is there already.
    """

    row: Row
    name: str
    key: str
    inputs: Mapping[str, Any]
    tensors: Mapping[str, Any]
    result: Explanation | str | None = None


def groups(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """Inputs of one size and one target that can go through the model together; those that do not go through it alone."""
    alike: dict[Any, list[Item]] = {}
    for item in items:
        size = _size(item.tensors) if item.tensors else None
        alike.setdefault((size or id(item), item.row.target), []).append(item)
    for group in alike.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))


def _size(tensors: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """What two inputs have in common that can be one batch; None: this one cannot be part of any."""
    import torch

    found: list[Any] = []
    for name, value in sorted(tensors.items()):
        if not isinstance(value, torch.Tensor):
            found.append((name, repr(value)))
        elif value.dim() and len(value) == 1:
            found.append((name, tuple(value.shape), value.dtype))
        else:
            return None
    return tuple(found)


def together(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Batches of one as one batch."""
    import torch

    first = batches[0]
    return {
        name: torch.cat([one[name] for one in batches])
        if isinstance(value, torch.Tensor) and len(batches) > 1
        else value
        for name, value in first.items()
    }
