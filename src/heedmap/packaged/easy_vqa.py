"""easy-VQA: the data files of its package, as they are."""

from __future__ import annotations

from pathlib import Path

from heedmap.packaged.cache import Wheels

INSIDE = "easy_vqa/data/"
LICENCE = "easy_vqa-1.0.dist-info/LICENSE"


def build(wheels: Wheels, folder: Path) -> None:
    """Copy pictures, questions and licence into ``folder``, which :class:`heedmap.datasets.easy_vqa.EasyVqa` reads."""
    for name in wheels.names(INSIDE):
        place = folder / name.removeprefix(INSIDE)
        place.parent.mkdir(parents=True, exist_ok=True)
        wheels.copy(name, place)
    wheels.copy(LICENCE, folder / "LICENSE")
