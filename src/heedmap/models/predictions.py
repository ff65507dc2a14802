"""What a model answers to one input, as a list of things that can be explained, each with how probable it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from heedmap.errors import TargetError
from heedmap.models.answers import Box, context_of, corners, objects, output_of
from heedmap.models.decoder import worded
from heedmap.outputs import is_value, labels_tokens, place_name
from heedmap.printable import percent, visible
from heedmap.targets import ClassLogit, DetectionQuery, FeatureNorm, NextToken, TokenLabel, class_logits, get, labelled

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from heedmap.outputs import Context

MOST = 5
"""Classes, and next tokens, that are shown."""
SURE, MOST_OBJECTS, LEAST_OBJECTS = 0.5, 12, 3
"""Objects are shown from this probability on, so many at most; where there are none, so many of the most probable."""
SAID = 6
"""Tokens that a causal model goes on by."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Something that the model answers.

    Attributes:
        name: of it, for people.
        target: for ``heedmap.explain``; None: what the model's own target is.
        probability: 0 to 1; None: the answer has none.
        box: where it is, x1 y1 x2 y2 from 0 to 1 of what the model saw.
        said: (1, tokens): what a causal model itself said before it.
        token: its text where it is a token of what the model says; "": it is none.
    """

    name: str
    target: Any = None
    probability: float | None = None
    box: Box | None = None
    said: Int[Tensor, "1 tokens"] | None = None
    token: str = ""

    def __str__(self) -> str:
        shown = visible(self.name).strip() or "␣"
        return shown if self.probability is None else f"{shown} — {percent(self.probability)}"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model answers.

    Attributes:
        about: what the choices are, in words.
        choices: one or more.
        inputs: what the model was called with.
    """

    about: str
    choices: tuple[Choice, ...]
    inputs: Mapping[str, Any]

    def inputs_of(self, choice: Choice) -> dict[str, Any]:
        """What the model is called with so that it answers ``choice``."""
        return dict(self.inputs) if choice.said is None else _longer(self.inputs, choice.said)


def predictions(subject: Any, said: str | None = None, **given: Any) -> Predictions:
    """What ``subject`` answers to one sample.

    Args:
        subject: ``heedmap.load(…)``.
        said: what an encoder-decoder should have said; None: what it says by itself.
        given: ``text``, ``image``, ``boxes``, ``audio``, as for ``subject.explain``; one of each.

    Raises:
        InputError: an input is missing, or does not fit the model.
        TargetError: what the model gives cannot be explained without a target of its own.
    """
    inputs = subject.inputs(**given)
    if subject.kind_row.speaks == "next":
        about = "Its next token: the most probable ones; then, token by token, what it says after the first of them"
        return Predictions(about, tuple(_going_on(subject, inputs)), inputs)
    if said is not None and "decoder_input_ids" in inputs:
        others = worded(inputs["decoder_input_ids"], said, subject.tokenizer, subject.config)
        inputs = {**inputs, "decoder_input_ids": others}
    output = output_of(subject, inputs)
    about, found = _answers(subject, inputs, output)
    return Predictions(about, tuple(found), inputs)


def _answers(subject: Any, inputs: Mapping[str, Any], output: Any) -> tuple[str, Sequence[Choice]]:
    meant = subject.meant(None, inputs)
    if subject.kind_row.speaks == "decoder":
        return "What it says, token by token", list(_spoken(subject, inputs, output))
    if get(output, "pred_boxes") is not None:
        return "What it finds", _objects(subject, inputs, output)
    if isinstance(meant, NextToken):
        row = class_logits(output, 3)[0, meant.position]
        return "The masked word", list(_tokens(subject, row, meant.position))
    if meant is not None:
        return "Its answer", [Choice("its own answer")]
    if get(output, "logits_per_image") is not None:
        return "How well the picture and the text fit", [Choice("their similarity")]
    return _classes(subject, inputs, output)


def _classes(subject: Any, inputs: Mapping[str, Any], output: Any) -> tuple[str, list[Choice]]:
    if get(output, "start_logits") is not None:
        return "Its answer", [Choice("its own answer")]
    try:
        logits = class_logits(output, None)
    except TargetError:
        return "It gives features, no answers", [Choice("the size of its features", FeatureNorm())]
    context = context_of(subject, inputs)
    if logits.dim() == 3 and labels_tokens(logits, context):
        return "The labels of its words, the surest first", _labelled(context, logits)
    if logits.dim() != 2 or is_value(logits, context):
        return "Its answer", [Choice("its own answer")]
    exclusive = context.exclusive
    scores = logits[0].float()
    best = (scores.softmax(-1) if exclusive else scores.sigmoid()).topk(min(MOST, len(scores)))
    names = _labels(subject)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    about = "Its most probable answers" if exclusive else "Its most probable labels, each by itself"
    return about, [Choice(names.get(i) or f"class {i}", ClassLogit(i), p) for i, p in pairs]


def _objects(subject: Any, inputs: Mapping[str, Any], output: Any) -> list[Choice]:
    boxes, probabilities, classes = objects(output, context_of(subject, inputs), name=subject.name)
    order = probabilities.argsort(descending=True).tolist()
    sure = [q for q in order if probabilities[q] >= SURE][:MOST_OBJECTS] or order[:LEAST_OBJECTS]
    names = _labels(subject)

    def choice(number: int, query: int) -> Choice:
        label = int(classes[query])
        name = f"{number}: {names.get(label) or f'class {label}'}"
        return Choice(name, DetectionQuery(query, label), float(probabilities[query]), corners(boxes[query].tolist()))

    return [choice(number, query) for number, query in enumerate(sure, 1)]


def _labelled(context: Context, logits: Float[Tensor, "1 tokens labels"]) -> list[Choice]:
    """The surest of the tokens that have a label; where none has, what the model's own target is."""
    found = [
        Choice(
            f"{place_name(context, 0, place, place, logits.shape[1])}: {context.short(label)}",
            TokenLabel(label, place),
            p,
        )
        for place, label, p in labelled(logits, context)[0]
    ]
    return sorted(found, key=lambda one: -(one.probability or 0))[:MOST_OBJECTS] or [Choice("its own answer")]


def _labels(subject: Any) -> dict[int, str]:
    labels = subject.labels or getattr(subject.config, "id2label", None) or {}
    return {int(i): str(name) for i, name in labels.items() if name != f"LABEL_{i}"}


def _tokens(subject: Any, row: Float[Tensor, " vocabulary"], position: int) -> Iterator[Choice]:
    """The most probable tokens at a position."""
    best = row.float().softmax(-1).topk(min(MOST, len(row)))
    for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        yield Choice(_text(subject, token), NextToken(token, position), probability)


def _spoken(subject: Any, inputs: Mapping[str, Any], output: Any) -> Iterator[Choice]:
    """The tokens that an encoder-decoder said."""
    said = inputs["decoder_input_ids"][0, 1:].tolist()
    probabilities = class_logits(output, 3)[0].float().softmax(-1)
    for position, token in enumerate(said):
        text = _text(subject, token)
        probability = float(probabilities[position, token])
        yield Choice(f"{position + 1}: {text}", NextToken(token, position), probability, token=text)


def _going_on(subject: Any, inputs: Mapping[str, Any]) -> Iterator[Choice]:
    """The most probable next tokens of a causal model, and the tokens that it says after the first of them."""
    logits = class_logits(output_of(subject, inputs), 3)[0, -1]
    first, *others = _tokens(subject, logits, -1)
    yield replace(first, token=first.name)
    yield from others
    said = _continuation(subject, inputs)
    if said.shape[1] < 2:
        return
    output = class_logits(output_of(subject, _longer(inputs, said)), 3)[0]
    rows = output[-said.shape[1] - 1 : -1].float().softmax(-1)
    for place in range(1, said.shape[1]):
        token = int(said[0, place])
        text, before = _text(subject, token), said[:, :place]
        name = f"then {place + 1}: {text}"
        yield Choice(name, NextToken(token), float(rows[place, token]), said=before, token=text)


def _continuation(subject: Any, inputs: Mapping[str, Any]) -> Int[Tensor, "1 tokens"]:
    """What it says by itself, up to the end token, as far as it has places for it."""
    length = inputs["input_ids"].shape[1]
    places = getattr(subject.config, "max_position_embeddings", None) or length + SAID
    room = min(SAID, places - length)
    if room < 1 or not hasattr(subject.model, "generate"):
        return inputs["input_ids"][:, :0]
    whole = subject.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=room)
    said = whole[:, length:]
    ends = (said[0] == getattr(subject.tokenizer, "eos_token_id", None)).nonzero() if said.shape[1] else said
    return said[:, : int(ends[0])] if len(ends) else said


def _longer(inputs: Mapping[str, Any], said: Int[Tensor, "1 tokens"]) -> dict[str, Any]:
    import torch

    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], said], 1)}
    if "attention_mask" in inputs:
        longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(said)], 1)
    return longer


def _text(subject: Any, token: int) -> str:
    from heedmap.models.labels import token_labels

    return str(token) if subject.tokenizer is None else token_labels(subject.tokenizer, [token])[0]
