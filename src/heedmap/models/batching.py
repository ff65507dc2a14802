"""Inputs of one size, explained together: no input is padded for the sake of another, so a map is the same as alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.types import OneBoxes, OneSound


class Made(Protocol):
    """An input that was made into what a model is called with: ``tensors``, a batch of one; empty where it could not be."""

    @property
    def tensors(self) -> Mapping[str, object]:
        """What the model is called with."""


AnyMade = TypeVar("AnyMade", bound=Made)


def alike(items: Sequence[AnyMade], most: int, beside: Callable[[AnyMade], Hashable]) -> Iterator[list[AnyMade]]:
    """Inputs of one size that can go through the model together, ``most`` at a time; what cannot be part of a batch alone.

    Args:
        items: the inputs.
        most: of a group.
        beside: what else has to be equal in a group, such as the target.
    """
    groups: dict[Hashable, list[AnyMade]] = {}
    for item in items:
        size = _size(item.tensors) if item.tensors else None
        groups.setdefault((size or id(item), beside(item)), []).append(item)
    for group in groups.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))


def explained(
    subject: Model,
    batches: Sequence[Mapping[str, object]],
    boxes: Sequence[OneBoxes] = (),
    sounds: Sequence[OneSound] = (),
    **wanted: object,
) -> list[Explanation]:
    """An explanation of each of several inputs of one size, from one call.

    Args:
        subject: the model.
        batches: what it is called with, each a batch of one.
        boxes: of each input, for their names; none where there are none.
        sounds: of each input, for their lengths; none where there are none.
        wanted: for :func:`heedmap.explain`.
    """
    from heedmap.engine.explain import explain

    asked: Callable[..., Explanation] = explain  # which checks what is wanted itself
    tensors = together(batches)
    made = asked(subject, tensors, **wanted)
    if boxes or sounds:
        made = subject.label(made, tensors, list(boxes) or None, list(sounds) or None)
    return [made.sample(number) for number in range(len(batches))]


def _size(tensors: Mapping[str, object]) -> tuple[object, ...] | None:
    """What two inputs have in common that can be one batch; None: this one cannot be part of any."""
    import torch

    shapes: list[object] = []
    for name, value in sorted(tensors.items()):
        if not isinstance(value, torch.Tensor):
            shapes.append((name, repr(value)))
        elif value.dim() and len(value) == 1:
            shapes.append((name, tuple(value.shape), value.dtype))
        else:
            return None
    return tuple(shapes)


def together(batches: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Batches of one as one batch."""
    import torch

    first = batches[0]
    return {
        name: torch.cat([part for batch in batches if isinstance(part := batch[name], torch.Tensor)])
        if isinstance(value, torch.Tensor) and len(batches) > 1
        else value
        for name, value in first.items()
    }
