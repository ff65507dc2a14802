"""Samples of the zoo's models, to be picked on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from heedmap.errors import UnknownNameError
from heedmap.models.shipped import PREFIX

if TYPE_CHECKING:
    from PIL.Image import Image

OFFERED = 8
LONGEST = 70


@dataclass(frozen=True, eq=False)
class Material:
    """A sample as the page gives it.

    Attributes:
        name: what it is called in the list.
        text: what the model reads; None: nothing.
        picture: what belongs to it; None: nothing.
        boxes: as for ``subject.explain``; None: the model takes none.
    """

    name: str
    text: str | None
    picture: Image | None
    boxes: Mapping[str, Any] | None


def offered(model: str) -> dict[int, str]:
    """Number of a sample → what it is called; empty for a model that is not of the zoo."""
    start = _first(model)
    return {} if start is None else {number: sample(model, number).name for number in range(start, start + OFFERED)}


def sample(model: str, number: int) -> Material:
    """One of the samples that are offered for a model; UnknownNameError where there is none of this number."""
    start = _first(model)
    if start is None or number not in range(start, start + OFFERED):
        raise UnknownNameError(f"{model} has no sample {number!r} here; choose one of the list")
    return _made(model, number)


def _first(model: str) -> int | None:
    from heedmap.zoo.samples import MATERIALS

    plain = model.removeprefix(PREFIX)
    return MATERIALS[plain].shown if model.startswith(PREFIX) and plain in MATERIALS else None


@cache
def _made(model: str, number: int) -> Material:
    from PIL import Image

    from heedmap.zoo.samples import MATERIALS

    made = MATERIALS[model.removeprefix(PREFIX)].make(number)
    text = made.inputs.get("text")
    about = text or made.answer
    name = about if len(about) <= LONGEST else about[: LONGEST - 1] + "…"
    picture = None if made.picture is None else Image.fromarray(made.picture)
    return Material(f"{number}: {name}", text, picture, made.inputs.get("boxes"))
