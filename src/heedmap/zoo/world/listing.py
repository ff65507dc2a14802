"""A scene told in words, object after object: the one text of it that is right."""

from __future__ import annotations

from heedmap.zoo.world.captions import Caption, Mention
from heedmap.zoo.world.scene import Scene
from heedmap.zoo.world.words import article, compose


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
