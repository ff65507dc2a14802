"""Captions: what they say, and which objects and words they say it with; and the one text that names every object in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from heedmap.zoo.world.scene import COLOURS, RELATIONS, SHAPES, SPLITS, Object, Scene, check_whole, generator, relates
from heedmap.zoo.world.words import TextWord, article, compose, in_order
from heedmap.zoo.world.world import undrawn_scene

Description = tuple[str | None, str, str]
"""Size (None: any), colour, shape."""

LISTS = {
    1: ("{first}", "a picture of {first}", "there is {first}"),
    2: ("{first} and {second}", "a picture of {first} and {second}", "there is {first} and {second}"),
    3: ("{first}, {second} and {third}", "a picture of {first}, {second} and {third}"),
}
"""Templates by the number of objects they mention."""

RELATED = ("{first} {relation} {second}", "there is {first} {relation} {second}")
"""Templates of how one object lies to another."""

PLACES = ("first", "second", "third")

AMOUNTS = (0.2, 0.5, 0.3)
"""How often a caption mentions 1, 2 or 3 objects, where the scene has them."""

SIZE_SAID = 0.35
"""How often a size is said that need not be."""


@dataclass(frozen=True)
class Mention:
    """One thing that a caption mentions.

    Attributes:
        description: size (None: not said), colour, shape.
        objects: the objects of the caption's own scene that it fits; only one, unless some look the same.
        words: those that describe it, without the article.
    """

    description: Description
    objects: tuple[int, ...]
    words: tuple[TextWord, ...]


@dataclass(frozen=True)
class Relation:
    """How a caption's first mention lies to its second.

    Attributes:
        name: a key of :data:`~heedmap.zoo.world.scene.RELATIONS`.
        words: the telling word.
    """

    name: str
    words: tuple[TextWord, ...]


@dataclass(frozen=True)
class Caption:
    """A text about a scene.

    It claims that the scene has as many objects as the caption has mentions, each fitting its own, and that the first
    two lie to each other as ``relation`` says; it does not claim that there are no others.

    Attributes:
        text: in lower case.
        mentions: in the order of the text, 1 to 3.
        relation: between the first and the second mention; None in most.
    """

    text: str
    mentions: tuple[Mention, ...]
    relation: Relation | None = None

    @property
    def objects(self) -> tuple[int, ...]:
        """Numbers of the objects that the caption is about, ascending."""
        return tuple(sorted({o for mention in self.mentions for o in mention.objects}))

    @property
    def words(self) -> tuple[TextWord, ...]:
        """The words that say something about an object, in order."""
        relation = self.relation.words if self.relation else ()
        return in_order([w for mention in self.mentions for w in mention.words] + list(relation))


def caption(scene: Scene, number: int = 0) -> Caption:
    """Caption ``number`` of the scene, true of it; always the same for the same number.

    Raises:
        InputError: ``number`` is no whole number of 0 or more.
    """
    rng = generator(scene.seed, scene.split, scene.index, "captions", number)
    chosen = _choose(rng, scene)
    relation = _relation(rng, scene, chosen) if rng.random() < 0.5 else None
    return write(rng, [_describe(rng, scene, scene.objects[o]) for o in chosen], relation, scene)


def write(
    rng: np.random.Generator, descriptions: list[Description], relation: str | None, scene: Scene | None = None
) -> Caption:
    """The caption that says just this, in one of several ways.

    Args:
        rng: chooses the way.
        descriptions: of 1 to 3 things.
        relation: of the first to the second, of just two; a key of :data:`~heedmap.zoo.world.scene.RELATIONS`.
        scene: whose objects the mentions name; None: they name none.
    """
    phrases = [" ".join(filter(None, description)) for description in descriptions]
    templates = RELATED if relation else LISTS[len(descriptions)]
    parts = {place: f"{article(phrase)} {phrase}" for place, phrase in zip(PLACES, phrases, strict=False)}
    if relation:
        parts["relation"] = RELATIONS[relation][0]
    text, words = compose(templates[rng.integers(len(templates))], parts)
    mentions = tuple(
        Mention(description, fitting(description, scene) if scene else (), words[place][1:])
        for place, description in zip(PLACES, descriptions, strict=False)
    )
    return Caption(text, mentions, Relation(relation, words["relation"][:1]) if relation else None)


def fitting(description: Description, scene: Scene) -> tuple[int, ...]:
    """Numbers of the scene's objects that the description fits."""
    size, colour, shape = description
    return tuple(
        number
        for number, o in enumerate(scene.objects)
        if (o.colour, o.shape) == (colour, shape) and size in (None, o.size)
    )


def _choose(rng: np.random.Generator, scene: Scene) -> list[int]:
    """1 to 3 objects, no two of them alike, in random order."""
    looks = {(o.size, o.colour, o.shape): number for number, o in enumerate(scene.objects)}
    amount = int(rng.choice(len(AMOUNTS), p=AMOUNTS)) + 1
    return rng.permutation(list(looks.values()))[:amount].tolist()


def _describe(rng: np.random.Generator, scene: Scene, chosen: Object) -> Description:
    """With its size where the scene has another of its colour and shape, and now and then anyway."""
    sized = rng.random() < SIZE_SAID or len(fitting((None, chosen.colour, chosen.shape), scene)) > 1
    return chosen.size if sized else None, chosen.colour, chosen.shape


def _relation(rng: np.random.Generator, scene: Scene, chosen: list[int]) -> str | None:
    """A relation that clearly holds between two chosen objects, neither of which has a double; None if there is none."""
    looks = [(o.size, o.colour, o.shape) for o in scene.objects]
    if len(chosen) != 2 or any(looks.count(looks[o]) > 1 for o in chosen):
        return None
    first, second = (scene.objects[o] for o in chosen)
    clear = [name for name in RELATIONS if relates(name, first, second, scene.side)]
    return str(rng.choice(clear)) if clear else None


OPPOSITES = {"left": "right", "right": "left", "above": "below", "below": "above"}

EDITS = 20
"""Changed captions tried for each one wanted."""


def judge(caption: Caption, scene: Scene) -> bool | None:
    """Whether the caption, of any scene, is true of this one; None where that hangs on a relation too close to tell."""
    truths: set[bool | None] = set()
    for chosen in product(*(fitting(mention.description, scene) for mention in caption.mentions)):
        if len(set(chosen)) == len(chosen):
            truths.add(_related(caption, scene, chosen))
    return True if True in truths else None if None in truths else False


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
    captions: dict[str, Caption] = {}
    _collect(captions, min(edited, amount), _edited(rng, scene, EDITS * edited), scene)
    _collect(captions, amount, _others(rng, scene), scene)
    return list(captions.values())


def _collect(captions: dict[str, Caption], amount: int, candidates: Iterator[Caption], scene: Scene) -> None:
    """Add candidates that are false of the scene until there are ``amount``."""
    while len(captions) < amount:
        candidate = next(candidates, None)
        if candidate is None:
            return
        if judge(candidate, scene) is False:
            captions.setdefault(candidate.text, candidate)


def _others(rng: np.random.Generator, scene: Scene) -> Iterator[Caption]:
    """Captions of other scenes, without end."""
    while True:
        index = int(rng.integers(SPLITS[scene.split]))
        if index != scene.index:
            right = _caption_of(scene.seed, scene.split, index, scene.side)
            yield _write(rng, [mention.description for mention in right.mentions], right)


@lru_cache(maxsize=4096)
def _caption_of(seed: int, split: str, index: int, side: int) -> Caption:
    return caption(undrawn_scene(seed, split, index, side))


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


def listing(scene: Scene) -> Caption:
    """All objects of the scene with colour and shape, from left to right by the middle of what is seen of each.

    Where two are in one column, the upper one comes first. Each mention has the one object that it stands for, also where
    others look the same.
    """
    order = sorted(range(len(scene.objects)), key=lambda number: scene.objects[number].centre)
    looks = [(None, scene.objects[number].colour, scene.objects[number].shape) for number in order]
    parts = {f"object{place}": f"{article(colour)} {colour} {shape}" for place, (_, colour, shape) in enumerate(looks)}
    text, words = compose(_template(list(parts)), parts)
    mentions = (
        Mention(look, (number,), words[name][1:]) for name, look, number in zip(parts, looks, order, strict=True)
    )
    return Caption(text, tuple(mentions))


def _template(names: list[str]) -> str:
    *before, last = (f"{{{name}}}" for name in names)
    return f"{', '.join(before)} and {last}" if before else last
