"""Which captions are true of which scenes, and wrong captions to tell the right one from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from heedmap.zoo.world.captions import Caption, Description, caption, fitting, write
from heedmap.zoo.world.relations import relates
from heedmap.zoo.world.scene import COLOURS, SHAPES, Scene
from heedmap.zoo.world.seeds import SPLITS, check_whole, generator
from heedmap.zoo.world.world import make_scene

OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}

EDITS = 20
"""Changed captions tried for each one wanted."""


def judge(caption: Caption, scene: Scene) -> bool | None:
    """Whether the caption is true of the scene; None where that hangs on a relation too close to tell.

    Args:
        caption: of any scene.
        scene: any scene.
    """
    found: set[bool | None] = set()
    for chosen in product(*(fitting(mention.description, scene) for mention in caption.mentions)):
        if len(set(chosen)) == len(chosen):
            found.add(_related(caption, scene, chosen))
    return True if True in found else None if None in found else False


def distractors(scene: Scene, amount: int = 31, *, edited: int = 0) -> list[Caption]:
    """Captions that are clearly false of the scene, no text twice: the wrong ones to retrieve the right one from.

    Args:
        scene: whose own caption is to be told from them.
        amount: how many.
        edited: how many of them, first in the list, are captions of this very scene with a colour, a shape or the
            relation changed (fewer where it does not yield so many); the others are true of other scenes of the split.

    Returns:
        The captions; their mentions name no objects.

    Raises:
        InputError: ``amount`` or ``edited`` is no whole number of 0 or more.
    """
    check_whole("amount", amount)
    check_whole("edited", edited)
    rng = generator(scene.seed, scene.split, scene.index, "distractors")
    found: dict[str, Caption] = {}
    _collect(found, min(edited, amount), _edited(rng, scene, EDITS * edited), scene)
    _collect(found, amount, _others(rng, scene), scene)
    return list(found.values())


def _collect(found: dict[str, Caption], amount: int, candidates: Iterator[Caption], scene: Scene) -> None:
    """Add candidates that are false of the scene until there are ``amount``."""
    while len(found) < amount:
        candidate = next(candidates, None)
        if candidate is None:
            return
        if judge(candidate, scene) is False:
            found.setdefault(candidate.text, candidate)


def _others(rng: np.random.Generator, scene: Scene) -> Iterator[Caption]:
    """Captions of other scenes, without end."""
    while True:
        index = int(rng.integers(SPLITS[scene.split]))
        if index != scene.index:
            right = caption(make_scene(scene.seed, scene.split, index, scene.side))
            yield _write(rng, [mention.description for mention in right.mentions], right)


def _edited(rng: np.random.Generator, scene: Scene, tries: int) -> Iterator[Caption]:
    """Captions of the scene with something changed."""
    for number in range(tries):
        right = caption(scene, number)
        descriptions = [mention.description for mention in right.mentions]
        if right.relation and rng.random() < 0.5:
            yield write(rng, descriptions, OPPOSITES[right.relation.name])
        else:
            changed = int(rng.integers(len(descriptions)))
            descriptions[changed] = _change(rng, descriptions[changed])
            yield _write(rng, descriptions, right)


def _change(rng: np.random.Generator, description: Description) -> Description:
    size, colour, shape = description
    if rng.random() < 0.5:
        return size, str(rng.choice([c for c in COLOURS if c != colour])), shape
    return size, colour, str(rng.choice([s for s in SHAPES if s != shape]))


def _write(rng: np.random.Generator, descriptions: list[Description], right: Caption) -> Caption:
    return write(rng, descriptions, right.relation.name if right.relation else None)


def _related(caption: Caption, scene: Scene, chosen: tuple[int, ...]) -> bool | None:
    """Whether the chosen objects, one a mention, lie to each other as the caption says."""
    if caption.relation is None:
        return True
    return relates(caption.relation.name, scene.objects[chosen[0]], scene.objects[chosen[1]], scene.side)
