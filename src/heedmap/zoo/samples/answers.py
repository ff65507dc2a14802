"""Samples of the models that answer in words: the whole answer is given, and each word of it that names an object explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from heedmap.evaluate.answer import inputs_of, tokenizer_of
from heedmap.outputs import class_logits, needed
from heedmap.zoo import world
from heedmap.zoo.samples.sample import SEED, SPLIT, Evidence, KnownAnswer, Material, ZooSample, objects_mask
from heedmap.zoo.world import Caption, Scene

if TYPE_CHECKING:
    from heedmap.models.model import Model

    Telling = ZooSample[tuple[Scene, Caption]]

QUESTION = "<image>what do you see?"
GRID = (6, 6)
"""Of the picture's tokens among the words: patches of 8 pixels, merged two by two."""


def _telling(index: int) -> Telling:
    scene = world.make_scene(SEED, SPLIT, index)
    caption = world.listing(scene)
    return ZooSample(
        {"text": QUESTION, "image": scene.image}, caption.text, (scene, caption), scene.image, begun=caption.text
    )


def _telling_inputs(subject: Model, samples: Sequence[Telling]) -> Mapping[str, object]:
    """The right answer stands after the question, as the model says it by itself where it is right."""
    texts = [f"{sample.inputs['text']} {sample.begun}" for sample in samples]
    return subject.inputs(text=texts, image=[sample.inputs["image"] for sample in samples])


def _telling_asked(subject: Model, samples: Sequence[Telling], output: object) -> list[list[KnownAnswer]]:
    """The colours and shapes of answers that are right in every word, and end where they should."""
    first = needed(inputs_of(subject, samples[:1]), "input_ids").shape[1] - 1
    asked: list[list[KnownAnswer]] = []
    for logits, sample in zip(class_logits(output, 3), samples, strict=True):
        ids = tokenizer_of(subject)(sample.answer, add_special_tokens=False)["input_ids"]
        said = logits[first : first + len(ids) + 1].argmax(-1).tolist()
        right = said == [*ids, tokenizer_of(subject).eos_token_id]
        asked.append(list(_words(subject, sample, first)) if right else [])
    return asked


def _words(subject: Model, sample: Telling, first: int) -> Iterator[KnownAnswer]:
    """Each word that tells of an object; ``first``: the place at which the answer's first token is said."""
    scene, caption = sample.truth
    told = tokenizer_of(subject)(sample.answer, add_special_tokens=False)
    for mention in caption.mentions:
        evidence = Evidence(mask=objects_mask(scene, mention.objects), grid=GRID)
        for word in mention.words:
            step = told.char_to_token(word.start)
            title = f"{caption.text[: word.start]}[{word.text}]{caption.text[word.end :]}"
            yield KnownAnswer(title, (first + step, told["input_ids"][step]), evidence)


TELLING = Material(
    about=(
        "A vision–language model that tells what a picture shows, from left to right. Each colour and each shape of its answer "
        "is explained; the true evidence is the pixels of the one object that the word stands for."
    ),
    make=_telling,
    ask=_telling_asked,
    shown=41,
    least=2,
    inputs=_telling_inputs,
)
