"""Captions: what they say, and which objects and words they say it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heedmap.zoo.world.relations import RELATIONS, relates
from heedmap.zoo.world.scene import Object, Scene
from heedmap.zoo.world.seeds import generator
from heedmap.zoo.world.words import Word, article, compose, in_order

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
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Relation:
    """How a caption's first mention lies to its second.

    Attributes:
        name: a key of :data:`~heedmap.zoo.world.relations.RELATIONS`.
        words: the telling word.
    """

    name: str
    words: tuple[Word, ...]


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
    def words(self) -> tuple[Word, ...]:
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
        relation: of the first to the second, of just two; a key of :data:`~heedmap.zoo.world.relations.RELATIONS`.
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
    said = rng.random() < SIZE_SAID or len(fitting((None, chosen.colour, chosen.shape), scene)) > 1
    return chosen.size if said else None, chosen.colour, chosen.shape


def _relation(rng: np.random.Generator, scene: Scene, chosen: list[int]) -> str | None:
    """A relation that clearly holds between two chosen objects, neither of which has a double; None if there is none."""
    looks = [(o.size, o.colour, o.shape) for o in scene.objects]
    if len(chosen) != 2 or any(looks.count(looks[o]) > 1 for o in chosen):
        return None
    first, second = (scene.objects[o] for o in chosen)
    clear = [name for name in RELATIONS if relates(name, first, second, scene.side)]
    return str(rng.choice(clear)) if clear else None
