"""Every word of the world."""

from __future__ import annotations

from heedmap.zoo.world.captions import LISTS, RELATED
from heedmap.zoo.world.questions import TEMPLATES
from heedmap.zoo.world.scene import COLOURS, RELATIONS, SHAPES, SIZES
from heedmap.zoo.world.words import WORD, plural


def _words() -> tuple[str, ...]:
    templates = [*RELATED, *(t for ways in (*LISTS.values(), *TEMPLATES.values()) for t in ways)]
    fixed = [word for t in templates for word in WORD.findall(t) if f"{{{word}}}" not in t]
    phrases = [word for phrase, _, _ in RELATIONS.values() for word in phrase.split()]
    return tuple(sorted({*fixed, *phrases, *SIZES, *COLOURS, *SHAPES, *map(plural, SHAPES), "a", "an"}))


VOCABULARY = _words()
"""Every word that a caption or question can have, sorted; ",", "?" are the only other signs."""
