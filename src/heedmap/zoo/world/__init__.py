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

from heedmap.zoo.world.captions import Caption, Mention, Relation, caption, distractors, judge, listing
from heedmap.zoo.world.files import write_coco, write_vqa
from heedmap.zoo.world.questions import ANSWERS, KINDS, Question, ask
from heedmap.zoo.world.regions import FEATURES, SceneRegions, region_features, regions
from heedmap.zoo.world.scene import COLOURS, SHAPES, SIZES, SPLITS, Object, Scene
from heedmap.zoo.world.vocabulary import VOCABULARY
from heedmap.zoo.world.words import TextWord, words_of
from heedmap.zoo.world.world import Shapes, make_scene

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
