"""Texts about a scene that know which of their words, and which of its objects, they say it with: captions and questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product

import numpy as np

from heedmap.zoo.world.making import undrawn_scene
from heedmap.zoo.world.scene import (
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    Object,
    Scene,
    check_whole,
    generator,
    relates,
)

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TextWord:
    """One word of a text.

    Attributes:
        text: as it stands there.
        index: its number among the words of the text, from 0; punctuation is no word.
        start, end: its characters are ``text[start:end]``.
    """

    text: str
    index: int
    start: int
    end: int


def words_of(text: str) -> tuple[TextWord, ...]:
    """The words of ``text`` in order."""
    return tuple(TextWord(m.group(), i, m.start(), m.end()) for i, m in enumerate(WORD.finditer(text)))


def compose(template: str, parts: dict[str, str]) -> tuple[str, dict[str, tuple[TextWord, ...]]]:
    """Fill in a template, and say which words came from which part.

    Args:
        template: with ``{name}`` for the part of that name, each once at most.
        parts: by name.

    Returns:
        The text, and for each part that the template has, its words in the text.
    """
    text, spans = "", {}
    for piece in re.split(r"(\{\w+\})", template):
        if piece.startswith("{"):
            spans[piece[1:-1]] = (len(text), len(text) + len(parts[piece[1:-1]]))
            piece = parts[piece[1:-1]]
        text += piece
    words = words_of(text)
    return text, {name: tuple(w for w in words if s <= w.start and w.end <= e) for name, (s, e) in spans.items()}


def article(phrase: str) -> str:
    """ "a" or "an", whichever goes before ``phrase``."""
    return "an" if phrase[0] in "aeiou" else "a"


def plural(shape: str) -> str:
    """The shape's name for several."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def in_order(words: Iterable[TextWord]) -> tuple[TextWord, ...]:
    """The words, each once, as they follow each other in the text."""
    return tuple(sorted(set(words), key=lambda word: word.index))


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
    relation = _clear_relation(rng, scene, chosen) if rng.random() < 0.5 else None
    return _caption(rng, [_describe(rng, scene, scene.objects[o]) for o in chosen], relation, scene)


def _caption(
    rng: np.random.Generator, descriptions: list[Description], relation: str | None, scene: Scene | None = None
) -> Caption:
    """The caption that says just this of 1 to 3 things, in a way that ``rng`` chooses.

    ``relation`` is of the first to the second, of just two; the mentions name the objects of ``scene``, where it is given.
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


def _clear_relation(rng: np.random.Generator, scene: Scene, chosen: list[int]) -> str | None:
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
            first, *others = (scene.objects[number] for number in chosen)
            relation = caption.relation
            truths.add(relation is None or relates(relation.name, first, others[0], scene.side))
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
            yield _caption(rng, [mention.description for mention in right.mentions], _relation_of(right))


@lru_cache(maxsize=4096)
def _caption_of(seed: int, split: str, index: int, side: int) -> Caption:
    return caption(undrawn_scene(seed, split, index, side))


def _edited(rng: np.random.Generator, scene: Scene, tries: int) -> Iterator[Caption]:
    """Captions of the scene with something changed."""
    for number in range(tries):
        right = caption(scene, number)
        descriptions, relation = [mention.description for mention in right.mentions], _relation_of(right)
        if relation and rng.random() < 0.5:
            relation = OPPOSITES[relation]
        else:
            changed = int(rng.integers(len(descriptions)))
            descriptions[changed] = _change(rng, descriptions[changed])
        yield _caption(rng, descriptions, relation)


def _change(rng: np.random.Generator, description: Description) -> Description:
    size, colour, shape = description
    if rng.random() < 0.5:
        return size, str(rng.choice([c for c in COLOURS if c != colour])), shape
    return size, colour, str(rng.choice([s for s in SHAPES if s != shape]))


def _relation_of(caption: Caption) -> str | None:
    return caption.relation.name if caption.relation else None


def listing(scene: Scene) -> Caption:
    """All objects of the scene with colour and shape, from left to right by the middle of what is seen of each.

    Where two are in one column, the upper one comes first. Each mention has the one object that it stands for, also where
    others look the same.
    """
    order = sorted(range(len(scene.objects)), key=lambda number: scene.objects[number].centre)
    looks = [(None, scene.objects[number].colour, scene.objects[number].shape) for number in order]
    parts = {f"object{place}": f"{article(colour)} {colour} {shape}" for place, (_, colour, shape) in enumerate(looks)}
    *before, last = (f"{{{name}}}" for name in parts)
    text, words = compose(f"{', '.join(before)} and {last}" if before else last, parts)
    mentions = (
        Mention(look, (number,), words[name][1:]) for name, look, number in zip(parts, looks, order, strict=True)
    )
    return Caption(text, tuple(mentions))


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
    return _question(rng, asked, {told: getattr(chosen, told)}, getattr(chosen, asked), (number,))


def _count(told: str, known: Sequence[str], rng: np.random.Generator, scene: Scene) -> Question | None:
    """A colour or a shape that occurs as often as a count drawn at random; None where there is none."""
    values = [getattr(o, told) for o in scene.objects]
    aim = rng.choice(COUNTED, p=np.array(COUNT_WEIGHTS) / sum(COUNT_WEIGHTS))
    fitting = [value for value in known if values.count(value) == aim]
    if not fitting:
        return None
    value = str(rng.choice(fitting))
    part = {"shapes": plural(value)} if told == "shape" else {told: value}
    objects = tuple(number for number, other in enumerate(values) if other == value)
    return _question(rng, f"count of a {told}", part, str(len(objects)), objects)


def _existence(rng: np.random.Generator, scene: Scene) -> Question | None:
    """A colour and a shape: "yes" as often as "no", and "no" with both in the scene, but apart, where that can be."""
    looks = [(o.colour, o.shape) for o in scene.objects]
    yes = rng.random() < 0.5
    colour, shape = looks[rng.integers(len(looks))] if yes else _absent(rng, looks)
    objects = tuple(number for number, look in enumerate(looks) if look == (colour, shape))
    parts = {"article": article(colour), "look": f"{colour} {shape}"}
    return _question(rng, "existence", parts, "yes" if yes else "no", objects)


def _of_two(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Two objects of a colour and shape of their own, in either order, along an axis on which they are clearly apart."""
    looks = [f"{o.colour} {o.shape}" for o in scene.objects]
    unique = rng.permutation(_once(looks))
    words = rng.permutation(list(RELATIONS))
    for word, a, b in ((str(w), int(a), int(b)) for w in words for a in unique for b in unique if a != b):
        holds = relates(word, scene.objects[a], scene.objects[b], scene.side)
        if holds is not None:
            parts = {"first": looks[a], "second": looks[b], "relation": RELATIONS[word][0]}
            return _question(rng, "relation", parts, "yes" if holds else "no", tuple(sorted((a, b))))
    return None


ASKERS: tuple[Callable[[np.random.Generator, Scene], Question | None], ...] = (
    partial(_of_one, "colour", "shape"),
    partial(_of_one, "shape", "colour"),
    partial(_count, "colour", tuple(COLOURS)),
    partial(_count, "shape", SHAPES),
    _existence,
    _of_two,
)


def _once(values: list[str]) -> list[int]:
    """Positions of the values that occur once."""
    return [position for position, value in enumerate(values) if values.count(value) == 1]


def _absent(rng: np.random.Generator, looks: list[tuple[str, str]]) -> tuple[str, str]:
    """A colour and shape that no object has together; both occur, or if that cannot be, one of them."""
    colours, shapes = {c for c, _ in looks}, {s for _, s in looks}
    pairs = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in looks]
    closeness = [(c in colours) + (s in shapes) for c, s in pairs]
    nearest = [pair for pair, close in zip(pairs, closeness, strict=True) if close == max(closeness)]
    return nearest[rng.integers(len(nearest))]


def _question(
    rng: np.random.Generator, template: str, parts: dict[str, str], answer: str, objects: tuple[int, ...]
) -> Question:
    ways = TEMPLATES[template]
    text, words = compose(ways[rng.integers(len(ways))], parts)
    words.pop("article", None)
    if "relation" in words:
        words["relation"] = words["relation"][:1]
    telling = in_order(word for part in words.values() for word in part)
    return Question(text, answer, template.split()[0], objects, telling)


def _words() -> tuple[str, ...]:
    templates = [*RELATED, *(t for ways in (*LISTS.values(), *TEMPLATES.values()) for t in ways)]
    fixed = [word for t in templates for word in WORD.findall(t) if f"{{{word}}}" not in t]
    phrases = [word for phrase, _, _ in RELATIONS.values() for word in phrase.split()]
    return tuple(sorted({*fixed, *phrases, *SIZES, *COLOURS, *SHAPES, *map(plural, SHAPES), "a", "an"}))


VOCABULARY = _words()
"""Every word that a caption or question can have, sorted; ",", "?" are the only other signs."""
