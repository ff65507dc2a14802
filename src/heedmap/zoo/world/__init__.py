"""The shapes world: pictures of shapes, with captions, questions and the exact evidence for each.

Everything follows from (seed, split, index) alone, so that any sample is made without the others::

    from heedmap.zoo import world

    shapes = world.Shapes("test")
    scene = shapes[3]
    scene.image, [(o.colour, o.shape, o.size, o.box) for o in scene.objects]
    world.caption(scene).text
    world.listing(scene).text
    [(q.text, q.answer, q.objects) for q in world.ask(scene)]
    world.regions(scene).features
"""

from heedmap.zoo.world.files import write_coco, write_vqa
from heedmap.zoo.world.making import Shapes, make_scene
from heedmap.zoo.world.regions import FEATURES, SceneRegions, region_features, regions
from heedmap.zoo.world.scene import COLOURS, SHAPES, SIZES, SPLITS, Object, Scene
from heedmap.zoo.world.texts import (
    ANSWERS,
    KINDS,
    VOCABULARY,
    Caption,
    Mention,
    Question,
    Relation,
    TextWord,
    ask,
    caption,
    distractors,
    judge,
    listing,
    words_of,
)

__all__ = [
    "ANSWERS",
    "COLOURS",
    "FEATURES",
    "KINDS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "VOCABULARY",
    "Caption",
    "Mention",
    "Object",
    "Question",
    "Relation",
    "Scene",
    "SceneRegions",
    "Shapes",
    "TextWord",
    "ask",
    "caption",
    "distractors",
    "judge",
    "listing",
    "make_scene",
    "region_features",
    "regions",
    "words_of",
    "write_coco",
    "write_vqa",
]
