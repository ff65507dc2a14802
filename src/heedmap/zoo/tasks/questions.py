"""Questions about scenes of the shapes world, each with the scene's boxes, for the tasks that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from heedmap.zoo.world import COLOURS, KINDS, SHAPES, Question, Scene, ask, regions
from heedmap.zoo.world.world import make_scene

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64

SIDE = 96
"""Of the pictures, in pixels."""

BOXES = 10
"""Boxes a scene, true and false."""

POOL = 20_000
"""Scenes to train with. A scene costs more than a step of the model, so each is seen often, with new questions."""

ROUNDS = 3
"""Rounds of questions about a scene of the training split; after these they come again."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A scene as a model for questions sees it.

    Attributes:
        features: of its boxes, as :func:`heedmap.zoo.world.region_features` gives them.
        positions: of its boxes, 0 to 1.
        looks: shape and colour of what each box is of, as numbers from 1; both 0: of nothing.
        rounds: for each round a question of each of :data:`heedmap.zoo.world.KINDS`.
    """

    features: Float32[np.ndarray, "boxes features"]
    positions: Float32[np.ndarray, "boxes 4"]
    looks: Int64[np.ndarray, "boxes 2"]
    rounds: tuple[tuple[Question, ...], ...]


def sample(seed: int, split: str, index: int) -> tuple[Asked, Question]:
    """Sample ``index`` of a split: a scene and a question about it, the kinds in turn.

    Those of ``"train"`` ask five questions of each scene; those of the other splits one of each.
    """
    number, kind = divmod(index, len(KINDS))
    if split != "train":
        scene = scene_asked(seed, split, index, 1)
        return scene, scene.rounds[0][kind]
    scene = scene_asked(seed, split, number % POOL, ROUNDS)
    return scene, scene.rounds[number // POOL % ROUNDS][kind]


@lru_cache(maxsize=2 * POOL)
def scene_asked(seed: int, split: str, index: int, rounds: int) -> Asked:
    """A scene with its boxes and so many rounds of questions."""
    scene = make_scene(seed, split, index, SIDE)
    found = regions(scene, BOXES)
    asked = tuple(
        one_of_each((*ask(scene, 2 * n), *ask(scene, 2 * n + 1)), index // len(KINDS) + n) for n in range(rounds)
    )
    return Asked(found.features, found.positions, looks(scene)[found.objects], asked)


def looks(scene: Scene) -> Int64[np.ndarray, "objects 2"]:
    """Shape and colour of each object, as numbers from 1; in the last row, at -1, those of nothing: 0."""
    seen = [(1 + SHAPES.index(o.shape), 1 + list(COLOURS).index(o.colour)) for o in scene.objects]
    return np.array([*seen, (0, 0)])


def one_of_each(questions: Sequence[Question], turn: int) -> tuple[Question, ...]:
    """A question of each kind; for a kind of which there is none, one of another kind, and of several one by turns."""
    by_kind = [[q for q in questions if q.kind == kind] or list(questions) for kind in KINDS]
    return tuple(found[turn % len(found)] for found in by_kind)
