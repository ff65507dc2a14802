"""Questions, their answers, and the objects and words that the answers depend on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from heedmap.zoo.world.scene import COLOURS, RELATIONS, SHAPES, Scene, generator, relates
from heedmap.zoo.world.words import TextWord, article, compose, in_order, plural

KINDS = ("colour", "shape", "count", "existence", "relation")
"""What a question asks for."""

COUNTED = (0, 1, 2, 3, 4)
"""The counts that are asked for."""

ANSWERS = ("no", "yes", *map(str, COUNTED), *COLOURS, *SHAPES)
"""Every answer there is; the position is the class number."""

TEMPLATES = {
    "colour": ("what colour is the {shape}?", "which colour does the {shape} have?"),
    "shape": ("what shape is the {colour} object?", "which shape does the {colour} object have?"),
    "count of a colour": ("how many {colour} objects are there?", "how many objects are {colour}?"),
    "count of a shape": ("how many {shapes} are there?", "how many {shapes} do you see?"),
    "existence": ("is there {article} {look}?", "do you see {article} {look}?"),
    "relation": ("is the {first} {relation} the {second}?", "does the {first} lie {relation} the {second}?"),
}
"""The ways to ask; a part in braces is what the answer depends on, but for the article."""

COUNT_WEIGHTS = (1.0, 1.27, 2.85, 4.9, 9.0)
"""How often each of :data:`COUNTED` is aimed at: the rarer a count in the scenes, the more often, for even answers."""


@dataclass(frozen=True)
class Question:
    """A question about a scene.

    Attributes:
        text: in lower case.
        answer: one of :data:`ANSWERS`.
        kind: one of :data:`KINDS`.
        objects: numbers of the objects that the answer depends on, ascending: what is asked about, what is counted,
            what is found; both of a relation. None where the answer is that there is no such thing.
        words: those that pick the objects, or the relation: with another in its place the answer may be another.
    """

    text: str
    answer: str
    kind: str
    objects: tuple[int, ...]
    words: tuple[TextWord, ...]


def ask(scene: Scene, number: int = 0) -> tuple[Question, ...]:
    """Questions about the scene: one of each kind (of count up to two), where there is a clear one.

    Args:
        scene: what is asked about.
        number: which round of questions; the same number always gives the same, another may repeat some.

    Raises:
        InputError: ``number`` is no whole number of 0 or more.
    """
    rng = generator(scene.seed, scene.split, scene.index, "questions", number)
    return tuple(question for asker in ASKERS if (question := asker(rng, scene)) is not None)


def _of_one(asked: str, told: str, rng: np.random.Generator, scene: Scene) -> Question | None:
    """The colour of a shape that the scene has once, or the shape of the one object of a colour."""
    unique = _once([getattr(o, told) for o in scene.objects])
    if not unique:
        return None
    number = int(rng.choice(unique))
    chosen = scene.objects[number]
    return _write(rng, asked, {told: getattr(chosen, told)}, getattr(chosen, asked), (number,))


def _count_of_colour(rng: np.random.Generator, scene: Scene) -> Question | None:
    aim = _aim(rng, [o.colour for o in scene.objects], tuple(COLOURS))
    return aim and _write(rng, "count of a colour", {"colour": aim[0]}, str(len(aim[1])), aim[1])


def _count_of_shape(rng: np.random.Generator, scene: Scene) -> Question | None:
    aim = _aim(rng, [o.shape for o in scene.objects], SHAPES)
    return aim and _write(rng, "count of a shape", {"shapes": plural(aim[0])}, str(len(aim[1])), aim[1])


def _existence(rng: np.random.Generator, scene: Scene) -> Question | None:
    """A colour and a shape: "yes" as often as "no", and "no" with both in the scene, but apart, where that can be."""
    looks = [(o.colour, o.shape) for o in scene.objects]
    yes = rng.random() < 0.5
    colour, shape = looks[rng.integers(len(looks))] if yes else _absent(rng, looks)
    objects = tuple(number for number, look in enumerate(looks) if look == (colour, shape))
    parts = {"article": article(colour), "look": f"{colour} {shape}"}
    return _write(rng, "existence", parts, "yes" if yes else "no", objects)


def _relation(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Two objects of a colour and shape of their own, in either order, along an axis on which they are clearly apart."""
    looks = [f"{o.colour} {o.shape}" for o in scene.objects]
    unique = rng.permutation(_once(looks))
    words = rng.permutation(list(RELATIONS))
    for word, a, b in ((str(w), int(a), int(b)) for w in words for a in unique for b in unique if a != b):
        holds = relates(word, scene.objects[a], scene.objects[b], scene.side)
        if holds is not None:
            parts = {"first": looks[a], "second": looks[b], "relation": RELATIONS[word][0]}
            return _write(rng, "relation", parts, "yes" if holds else "no", tuple(sorted((a, b))))
    return None


ASKERS: tuple[Callable[[np.random.Generator, Scene], Question | None], ...] = (
    partial(_of_one, "colour", "shape"),
    partial(_of_one, "shape", "colour"),
    _count_of_colour,
    _count_of_shape,
    _existence,
    _relation,
)


def _once(values: list[str]) -> list[int]:
    """Positions of the values that occur once."""
    return [position for position, value in enumerate(values) if values.count(value) == 1]


def _aim(rng: np.random.Generator, values: list[str], known: tuple[str, ...]) -> tuple[str, tuple[int, ...]] | None:
    """A value that occurs as often as a count drawn at random, and where; None where there is none."""
    aim = rng.choice(COUNTED, p=np.array(COUNT_WEIGHTS) / sum(COUNT_WEIGHTS))
    counts = Counter(values)
    fitting = [value for value in known if counts[value] == aim]
    if not fitting:
        return None
    value = str(rng.choice(fitting))
    return value, tuple(position for position, other in enumerate(values) if other == value)


def _absent(rng: np.random.Generator, looks: list[tuple[str, str]]) -> tuple[str, str]:
    """A colour and shape that no object has together; both occur, or if that cannot be, one of them."""
    colours, shapes = {c for c, _ in looks}, {s for _, s in looks}
    pairs = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in looks]
    closeness = [(c in colours) + (s in shapes) for c, s in pairs]
    nearest = [pair for pair, close in zip(pairs, closeness, strict=True) if close == max(closeness)]
    return nearest[rng.integers(len(nearest))]


def _write(
    rng: np.random.Generator, template: str, parts: dict[str, str], answer: str, objects: tuple[int, ...]
) -> Question:
    ways = TEMPLATES[template]
    text, words = compose(ways[rng.integers(len(ways))], parts)
    words.pop("article", None)
    if "relation" in words:
        words["relation"] = words["relation"][:1]
    telling = in_order(word for part in words.values() for word in part)
    return Question(text, answer, template.split()[0], objects, telling)
