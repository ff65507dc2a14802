"""Samples of the test split for each model of the zoo, with the true evidence: what the gallery and the figures are of.

A model is added by a line in :data:`MATERIALS`, with a function that makes a sample and one that says which questions
about it the model answered rightly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.attention.forward import output_of
from heedmap.common.printable import closest
from heedmap.datasets.sample import Found, Match, Objects, RightAnswers, Said
from heedmap.errors import UnknownNameError
from heedmap.evaluate.answer import inputs_of, tokenizer_of
from heedmap.models.names import PREFIX, shipped
from heedmap.outputs import class_logits, needed, no_object, object_probabilities
from heedmap.zoo import world
from heedmap.zoo.dates import ISO, DateSample, date_sample
from heedmap.zoo.lists import ListSample, list_sample
from heedmap.zoo.material import SEED, SPLIT, Evidence, KnownAnswer, Material, ZooSample, objects_mask
from heedmap.zoo.world import Caption, Object, Question, Scene, SceneRegions
from heedmap.zoo.world.regions import overlap

if TYPE_CHECKING:
    from jaxtyping import Float32

    from heedmap.models.model import Model
    from heedmap.types import Boxes

    Pair = ZooSample[tuple[Scene, Caption]]
    Asked = ZooSample[tuple[Question, SceneRegions]]


def right_answer(subject: Model, sample: ZooSample, index: int) -> RightAnswers:
    """What is right, in words."""
    return RightAnswers({sample.answer: 1.0})


def _date(index: int) -> ZooSample[DateSample]:
    sample = date_sample(SEED, SPLIT, index)
    return ZooSample({"text": sample.text}, sample.iso, sample, begun=sample.iso)


def _date_inputs(subject: Model, samples: Sequence[ZooSample[DateSample]]) -> Mapping[str, object]:
    """The decoder is given the right date, as it says it by itself where it is right."""
    begun = tokenizer_of(subject)([sample.begun for sample in samples], add_special_tokens=False, return_tensors="pt")
    ids = begun["input_ids"]
    start = ids.new_full((len(ids), 1), int(getattr(subject.config, "decoder_start_token_id", 0)))
    return inputs_of(subject, samples, decoder_input_ids=torch.cat([start, ids], 1))


def _date_asked(subject: Model, sample: ZooSample[DateSample], output: object, row: int) -> Sequence[KnownAnswer]:
    """The last digits of year, month and day, where the date is right in every character."""
    written = tokenizer_of(subject).decode(class_logits(output, 3)[row].argmax(-1), skip_special_tokens=True)
    return _digits(subject, sample) if written == sample.answer else ()


def _digits(subject: Model, sample: ZooSample[DateSample]) -> list[KnownAnswer]:
    asked = []
    for part, (_, end) in ISO.items():
        position = end - 1
        token = tokenizer_of(subject).convert_tokens_to_ids(sample.answer[position])
        title = f"the {part}: {sample.answer[:position]}[{sample.answer[position]}]{sample.answer[end:]}"
        asked.append(KnownAnswer(title, (position, token), Evidence(words=(sample.truth.spans[part],))))
    return asked


def _said_of_date(subject: Model, sample: ZooSample[DateSample], index: int) -> Said:
    """The last digit of the year, the month or the day, each in turn."""
    digits = _digits(subject, sample)
    return Said(*digits[index % len(digits)].place)


def _list(index: int) -> ZooSample[ListSample]:
    sample = list_sample(SEED, SPLIT, index)
    return ZooSample({"text": sample.text}, sample.answer, sample)


def _list_asked(subject: Model, sample: ZooSample[ListSample], output: object, row: int) -> Iterator[KnownAnswer]:
    """What is said at the last word, where it is right: the next word, or the label that it is given."""
    said = _said_of_list(subject, sample, row)
    if int(class_logits(output, 3)[row, said.place].argmax()) == said.index:
        words = [match.span() for match in re.finditer(r"\S+", sample.inputs["text"])]
        evidence = Evidence(words=(words[sample.truth.key], words[sample.truth.value]))
        yield KnownAnswer(f"the answer: {sample.answer}", (said.place, said.index), evidence)


def _said_of_list(subject: Model, sample: ZooSample[ListSample], index: int) -> Said:
    """At the last word: the token that follows it, or its label."""
    labels = {name: index for index, name in subject.class_names.items()}
    if sample.answer in labels:
        return Said(sample.truth.query, labels[sample.answer])
    return Said(sample.truth.query, tokenizer_of(subject).convert_tokens_to_ids(sample.answer))


DATES = Material(
    about=(
        "An encoder–decoder writes a date in ISO 8601, digit by digit. Each digit of the year, the month and the day "
        "has its own place in what was written; the last digit of each is explained."
    ),
    make=_date,
    ask=_date_asked,
    shown=17,
    inputs=_date_inputs,
    truths={"said": _said_of_date},
)

LISTS = Material(
    about=(
        "A causal language model reads pairs and a key, and its next word is the value of that key. The true evidence "
        "is that value and the key before it; the other pairs tell nothing."
    ),
    make=_list,
    ask=_list_asked,
    shown=8,
    truths={"said": _said_of_list},
)

LABELLED_LISTS = replace(
    LISTS,
    about=(
        "A model that sees the whole text reads pairs and a key, and labels the last word with the value of that key. The true "
        "evidence is that value and the key before it; the other pairs tell nothing."
    ),
)


SURE = 0.5
"""A detection counts as one from this probability."""
NEAR = 0.5
"""A detection is right from this intersection over union with an object of its shape."""
WRONG = 31
"""Captions that the right one is told from."""


def _scene(index: int) -> ZooSample[Scene]:
    scene = world.make_scene(SEED, SPLIT, index)
    return ZooSample({"image": scene.image}, ", ".join(_look(o) for o in scene.objects), scene, scene.image)


def _look(item: Object) -> str:
    return f"{item.colour} {item.shape}"


def shown_by(scene: Scene, label: str) -> list[int]:
    """Numbers of the objects that a label fits: a shape, a colour, or both, in any order and spelling of the gap."""
    words = set(label.lower().replace("_", " ").replace("-", " ").split())
    return [number for number, o in enumerate(scene.objects) if words and words <= {o.shape, o.colour, o.size}]


def _label(subject: Model, sample: ZooSample[Scene], index: int) -> RightAnswers:
    """One label that fits the picture, each in turn."""
    fits = [name for name in subject.class_names.values() if shown_by(sample.truth, name)]
    return RightAnswers({fits[index % len(fits)]: 1.0})


def _objects(subject: Model, sample: ZooSample[Scene], index: int) -> Objects:
    """The objects that each of the model's labels fits: once a label, for an object may have a shape's and a colour's."""
    objects = []
    for label in subject.class_names.values():
        for number in shown_by(sample.truth, label):
            shown = sample.truth.objects[number]
            x1, y1, x2, y2 = shown.box
            objects.append(Found(label, (x1, y1, x2 - x1, y2 - y1), shown.mask, False, float(shown.mask.sum())))
    return Objects(tuple(objects))


def _labels(subject: Model, sample: ZooSample[Scene], output: object, row: int) -> Iterator[KnownAnswer]:
    """The labels that are more probable than not, and right."""
    for index in (class_logits(output, 2)[row] > 0).nonzero()[:, 0].tolist():
        name = subject.class_names[index]
        if fits := shown_by(sample.truth, name):
            yield KnownAnswer(name, (index,), Evidence(mask=objects_mask(sample.truth, fits)))


def _detections(subject: Model, sample: ZooSample[Scene], output: object, row: int) -> Iterator[KnownAnswer]:
    """The kept queries (probability over :data:`SURE`, without "no object") that found an object."""
    logits = class_logits(output, 3)
    probability, labels = object_probabilities(logits, no_object(logits, subject.context({}), subject.name)).max(-1)
    for query in (probability[row] > SURE).nonzero()[:, 0].tolist():
        label = int(labels[row, query])
        x, y, width, height = needed(output, "pred_boxes")[row, query].tolist()
        frame = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dtype=np.float32)
        number = _found(sample.truth, subject.class_names[label], frame)
        if number is not None:
            title = f"{subject.class_names[label]}, object query {query} ({float(probability[row, query]):.0%} sure)"
            x1, y1, x2, y2 = frame.tolist()
            evidence = Evidence(mask=sample.truth.objects[number].mask)
            yield KnownAnswer(title, (query, label), evidence, (x1, y1, x2, y2))


def _found(scene: Scene, label: str, frame: Float32[np.ndarray, " 4"]) -> int | None:
    """The object of this label that the frame lies on best; None: on none well enough."""
    fits = shown_by(scene, label)
    if not fits:
        return None
    true = np.array([scene.objects[number].box for number in fits], dtype=np.float32) / np.float32(scene.side)
    overlaps = overlap(frame[None], true)[0]
    return fits[int(overlaps.argmax())] if overlaps.max() >= NEAR else None


def _caption(index: int) -> Pair:
    scene = world.make_scene(SEED, SPLIT, index)
    caption = world.caption(scene)
    return ZooSample({"text": caption.text, "image": scene.image}, caption.text, (scene, caption), scene.image)


def _pair(subject: Model, sample: Pair, output: object, row: int) -> Iterator[KnownAnswer]:
    """The similarity of a picture and its caption, where it is greater than that of :data:`WRONG` wrong ones."""
    scene, caption = sample.truth
    texts = [caption.text, *_match(subject, sample, row).wrong]
    similar = output_of(subject.model, subject.inputs(text=texts, image=scene.image)).logits_per_image[0]
    if int(similar.argmax()) == 0:
        words = tuple((w.start, w.end) for w in caption.words)
        evidence = Evidence(words, objects_mask(scene, caption.objects))
        yield KnownAnswer(f"picture and “{caption.text}”", (), evidence)


def _match(subject: Model, sample: Pair, index: int) -> Match:
    return Match(tuple(wrong.text for wrong in world.distractors(sample.truth[0], WRONG)))


LABELS = Material(
    about=(
        "An image classifier with a yes or no for each label. Every label that it rightly finds is explained by a map of "
        "its own; the true evidence is the pixels of the objects that the label fits."
    ),
    make=_scene,
    ask=_labels,
    least=2,
    truths={"answer": _label, "objects": _objects},
)

DETECTION = Material(
    about=(
        "A detector whose object queries each look for one object. Every query that is kept (probability over 0.5) and "
        "right is explained; the true evidence is the pixels of its object."
    ),
    make=_scene,
    ask=_detections,
    least=2,
    truths={"objects": _objects},
)

CAPTIONS = Material(
    about=(
        "A dual encoder that tells how well a picture and a caption fit. Their similarity is explained in both "
        "directions: by the patches of the picture and by the words of the caption."
    ),
    make=_caption,
    ask=_pair,
    truths={"answer": _match},
)


def _placed_question(index: int) -> Asked:
    """The same for VisualBERT, which takes no places: they are four more features."""
    sample = _question(index)
    _, regions = sample.truth
    features = np.concatenate([regions.features, regions.positions], 1)
    return replace(sample, inputs={**sample.inputs, "boxes": {**sample.inputs["boxes"], "features": features}})


def _question(index: int) -> Asked:
    """One question about each scene, of each kind in turn."""
    scene = world.make_scene(SEED, SPLIT, index)
    questions = world.ask(scene)
    question = questions[index % len(questions)]
    regions = world.regions(scene)
    looks = [*map(_look, scene.objects), "background"]  # a false box is of number -1
    labels = [looks[number] for number in regions.objects.tolist()]
    boxes: Boxes = {"features": regions.features, "boxes": regions.positions, "labels": labels}
    return ZooSample(
        {"text": question.text, "boxes": boxes}, question.answer, (question, regions), scene.image, regions.positions
    )


def _answer(subject: Model, sample: Asked, output: object, row: int) -> Iterator[KnownAnswer]:
    """The most probable answer, where it is right.

    It rests on the telling words, and on the boxes of the objects asked about, where it is not that there are none.
    """
    index = int(class_logits(output, 2)[row].argmax())
    if subject.class_names[index] == sample.answer:
        question, regions = sample.truth
        boxes = np.isin(regions.objects, question.objects)
        words = tuple((w.start, w.end) for w in question.words)
        evidence = Evidence(words, boxes=boxes if boxes.any() else None)
        yield KnownAnswer(f"{question.text} {sample.answer}", (index,), evidence)


QUESTIONS = Material(
    about=(
        "A question about ten boxes of a picture, given as their features: some are of objects, the others of the "
        "background. The true evidence is the telling words of "
        "the question and the boxes of the objects it is about."
    ),
    make=_question,
    ask=_answer,
    shown=20,
    truths={"answer": right_answer},
)

PLACED_QUESTIONS = replace(QUESTIONS, make=_placed_question)


QUESTION = "<image>what do you see?"
GRID = (6, 6)
"""Of the picture's tokens among the words: patches of 8 pixels, merged two by two."""


def _telling(index: int) -> Pair:
    scene = world.make_scene(SEED, SPLIT, index)
    caption = world.listing(scene)
    return ZooSample(
        {"text": QUESTION, "image": scene.image}, caption.text, (scene, caption), scene.image, begun=caption.text
    )


def _telling_inputs(subject: Model, samples: Sequence[Pair]) -> Mapping[str, object]:
    """The right answer stands after the question, as the model says it by itself where it is right."""
    texts = [f"{sample.inputs['text']} {sample.begun}" for sample in samples]
    return subject.inputs(text=texts, image=[sample.inputs["image"] for sample in samples])


def _telling_asked(subject: Model, sample: Pair, output: object, row: int) -> Iterator[KnownAnswer]:
    """Each word that tells of an object, where the answer is right in every word, and ends where it should."""
    scene, caption = sample.truth
    first = needed(inputs_of(subject, [sample]), "input_ids").shape[1] - 1  # where the answer's first token is said
    told = tokenizer_of(subject)(caption.text, add_special_tokens=False)
    ids = told["input_ids"]
    said = class_logits(output, 3)[row, first : first + len(ids) + 1].argmax(-1).tolist()
    for mention in caption.mentions if said == [*ids, tokenizer_of(subject).eos_token_id] else ():
        evidence = Evidence(mask=objects_mask(scene, mention.objects), grid=GRID)
        for word in mention.words:
            step = told.char_to_token(word.start)
            title = f"{caption.text[: word.start]}[{word.text}]{caption.text[word.end :]}"
            yield KnownAnswer(title, (first + step, ids[step]), evidence)


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


MATERIALS: Mapping[str, Material] = {
    "bamba-lists": LISTS,
    "bart-dates": DATES,
    "clip-shapes": CAPTIONS,
    "convbert-lists": LABELLED_LISTS,
    "deformable-shapes": DETECTION,
    "detr-shapes": DETECTION,
    "gpt-lists": LISTS,
    "idefics-shapes": TELLING,
    "lxmert-shapes": QUESTIONS,
    "mamba-lists": LISTS,
    "swin-shapes": LABELS,
    "visualbert-shapes": PLACED_QUESTIONS,
    "vit-shapes": LABELS,
}
"""Name, without ``zoo/`` → samples and how they are asked about."""


def chosen(names: list[str] | None) -> list[str]:
    """Those of ``names`` (all, where there are none) that are shipped and have samples, without ``zoo/``.

    Raises:
        UnknownNameError: a name is none of them; the message lists those there are.
    """
    known = [name for name in shipped() if name in MATERIALS]
    plain = [name.removeprefix(PREFIX) for name in names or known]
    for name in plain:
        if name not in known:
            raise UnknownNameError(
                f"no model {name!r} comes with heedmap{closest(name, known)}; it has: {', '.join(known) or 'none'}"
            )
    return list(dict.fromkeys(plain))


def zoo_sample(name: str, index: int = 0) -> ZooSample:
    """A sample of the test split of a zoo model: what to ask it, and what the right answer is.

    Args:
        name: of the model, with or without ``zoo/``.
        index: in the test split, from 0; the same index is always the same sample.

    Raises:
        UnknownNameError: no such model; the message lists those there are.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("lxmert-shapes")
        >>> sample.inputs["text"], sample.answer
        ('which colour does the heart have?', 'pink')
    """
    (plain,) = chosen([name])
    return MATERIALS[plain].make(index)
