"""What a model answers to one input, as a list of things that can be explained, each with how probable it is.

What kind of answer an output holds is decided in :mod:`heedmap.outputs` and :class:`heedmap.targets.TopPrediction`, by which
an explanation without a target is made too: both always speak of the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from heedmap.attention.at_rest import answering
from heedmap.attention.forward import output_of
from heedmap.attention.inputs import ModelInputs, configuration, named, unwrapped
from heedmap.common.printable import percent, visible
from heedmap.data.picture import Box
from heedmap.errors import InputError, TargetError
from heedmap.models.saying import generate, places_of
from heedmap.models.words import token_labels
from heedmap.outputs import (
    INFERRED,
    MOST,
    Context,
    class_logits,
    get,
    needed,
    object_probabilities,
    place_name,
    spells_sound,
)
from heedmap.targets import (
    AnswerSpan,
    AnyTarget,
    ClassLogit,
    Depth,
    DetectionQuery,
    FeatureNorm,
    Forecast,
    NextToken,
    PromptMask,
    Region,
    Similarity,
    Target,
    TokenLabel,
    TopPrediction,
    Value,
    as_target,
    labelled,
    letter,
    present_classes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from torch import Tensor, nn

    from heedmap.engine.engine import Wrapped
    from heedmap.types import Inputs

SURE, MOST_OBJECTS, LEAST_OBJECTS = 0.5, 12, 3
"""Objects are told from this probability on, so many at most; where there are none, so many of the most probable."""
SAID = 6
"""Tokens that a causal model goes on by."""
BATCHED = (
    "logits_per_image", "logits", "start_logits", "pooler_output", "class_queries_logits", "pred_masks", "predicted_depth",
    "prediction_outputs", "mean_predictions", "loc",
)  # fmt: skip
"""Parts of an output that have the batch first."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Something that a model answers.

    Attributes:
        label: of it, for people.
        target: for ``heedmap.explain``; None: what the model's own target is.
        probability: 0 to 1; None: the answer has none.
        box: where it is, x1 y1 x2 y2 from 0 to 1 of what the model saw.
        said: (1, tokens): what a causal model itself said before it.
        token: its text where it is a token of what the model says; "": it is none.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/detr-shapes")
        >>> first = heedmap.predict(subject, subject.inputs(image=heedmap.zoo_sample("detr-shapes").picture))[0]
        >>> first.label, f"{first.probability:.2f}", [round(edge, 2) for edge in first.box]
        ('ring, object query 1', '1.00', [0.05, 0.25, 0.25, 0.45])
    """

    label: str
    target: AnyTarget = None
    probability: float | None = None
    box: Box | None = None
    said: Int[Tensor, "1 tokens"] | None = None
    token: str = ""

    def __str__(self) -> str:
        shown = visible(self.label).strip() or "␣"
        return shown if self.probability is None else f"{shown} — {percent(self.probability)}"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model answers: a sequence of :class:`Prediction`, one or more.

    Attributes:
        about: what they are, in words.
        answers: all of them.
        inputs: what the model was called with.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> answers = heedmap.predict(subject, subject.inputs(text="dog red ; cat blue ? cat"))
        >>> print(answers.about)
        Its next token: the most probable ones; then, token by token, what it says after the first of them
        >>> len(answers), answers[0].label
        (10, 'blue')
    """

    about: str
    answers: tuple[Prediction, ...]
    inputs: Mapping[str, object]

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, number: int) -> Prediction:
        return self.answers[number]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.answers)

    def inputs_of(self, prediction: Prediction) -> dict[str, object]:
        """What the model is called with so that it answers ``prediction``."""
        return dict(self.inputs) if prediction.said is None else _longer(self.inputs, prediction.said)


def predict(model: nn.Module | Wrapped, inputs: Inputs) -> Predictions:
    """What a model answers to one sample; it is left as it was found.

    Args:
        model: as for :func:`heedmap.explain`.
        inputs: what the model is called with, as for :func:`heedmap.explain`; a batch of one.

    Raises:
        InputError: the inputs do not fit the model, or are several samples.
        TargetError: what the model gives cannot be explained without a target of its own.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/vit-shapes")
        >>> inputs = subject.inputs(image=heedmap.zoo_sample("vit-shapes").picture)
        >>> answers = heedmap.predict(subject, inputs)
        >>> print(answers[0])
        pink — > 99.9 %
        >>> heedmap.explain(subject, inputs, target=answers[1].target)
        Explanation(generic, batch 1, target 'class 6 (ring)', image 12×12)
    """
    subject = None if isinstance(model, torch.nn.Module) else model
    module = unwrapped(model if isinstance(model, torch.nn.Module) else model.model)
    inputs = dict(ModelInputs.of(named(module, inputs)))
    context = Context.of(inputs, configuration(module), None, module.forward, subject)
    output = context.read(output_of(module, inputs))
    asked = as_target(None if subject is None else subject.resolve_target(None, inputs))
    about, answers = _Answers(module, subject, context, output).of(asked)
    return Predictions(about, tuple(answers), inputs)


@dataclass(frozen=True)
class _Answers:
    """What there is in one output."""

    module: nn.Module
    subject: Wrapped | None
    context: Context
    output: object

    def of(self, asked: Target) -> tuple[str, Sequence[Prediction]]:
        """What the answers are, and they themselves; ``asked``: what ``target=None`` means."""
        for name in BATCHED:
            part = get(self.output, name)
            if isinstance(part, torch.Tensor) and part.dim() and len(part) != 1:
                raise InputError(f"there are {len(part)} samples; give one")
        target = asked
        if isinstance(target, TopPrediction):
            try:
                target = target.kind(self.output, self.context)
            except TargetError:
                if get(self.output, "pooler_output") is None:
                    raise
                return "It gives features, no answers", [Prediction("the size of its features", FeatureNorm())]
        if isinstance(target, NextToken):
            return self._tokens(target)
        if isinstance(target, DetectionQuery):
            return "What it finds", self._objects()
        if isinstance(target, TokenLabel):
            return self._labelled()
        if isinstance(target, ClassLogit):
            return self._classes()
        if isinstance(target, Similarity) and target.reference is None:
            return self._pairs(target)
        if isinstance(target, Region):
            return "What it sees, and on how much of the picture", self._regions(target)
        if isinstance(target, PromptMask):
            return "Its masks of each prompt, the best first", self._masks()
        if isinstance(target, AnswerSpan):
            return "Its answer", [Prediction(target.choose(self.output, self.context).words[0], target)]
        if isinstance(target, (Depth, Forecast, Value)):
            chosen = target.choose(self.output, self.context)
            return "Its answer", [Prediction(f"{chosen.words[0]}: {float(chosen.values[0]):.4g}", target)]
        return "Its answer", [Prediction("its own answer")]

    def _classes(self) -> tuple[str, list[Prediction]]:
        scores = class_logits(self.output, 2)[0].detach().float()
        best = self.context.probabilities(scores).topk(min(MOST, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        about = "Its most probable answers" if self.context.exclusive else "Its most probable labels, each by itself"
        return about, [Prediction(self.context.short(i), ClassLogit(i), p) for i, p in pairs]

    def _pairs(self, target: Similarity) -> tuple[str, list[Prediction]]:
        logits = get(self.output, "logits_per_image")
        if logits is None or logits.shape[1] == 1:
            return "How well the picture and the text fit", [Prediction("their similarity", target)]
        shares = logits[0].detach().float().softmax(-1)
        order = shares.argsort(descending=True)[:MOST].tolist()
        return "Which text fits the picture", [
            Prediction(f"text {number}", number, float(shares[number])) for number in order
        ]

    def _regions(self, target: Region) -> list[Prediction]:
        """The classes of a segmenter that are the top ones somewhere, those of most pixels first; of one map, the map."""
        if target.where is not None or target.label is not None:
            return [Prediction(target.choose(self.output, self.context).words[0], target)]
        return [
            Prediction(f"{name}: {percent(share)} of the picture", Region(index))
            for index, name, share in present_classes(self.output, self.context)[:MOST_OBJECTS]
        ]

    def _masks(self) -> list[Prediction]:
        quality = needed(self.output, "iou_scores")[0].detach().float()
        return [
            Prediction(f"prompt {prompt}, mask {mask}: quality {float(row[mask]):.2f}", PromptMask(prompt, mask))
            for prompt, row in enumerate(quality)
            for mask in row.argsort(descending=True, stable=True).tolist()
        ]

    def _objects(self) -> list[Prediction]:
        objects = found_objects(self.output, self.context)
        sure = [prediction for prediction in objects if (prediction.probability or 0) >= SURE]
        told = sure[:MOST_OBJECTS] or objects[:LEAST_OBJECTS]
        return [replace(found, label=f"{found.label}, object query {_query(found)}") for found in told]

    def _labelled(self) -> tuple[str, list[Prediction]]:
        """The surest of the tokens that have a label; where none has, what the model's own target is."""
        logits, context = class_logits(self.output, 3), self.context
        sound = spells_sound(logits, context)
        name = partial(letter, context) if sound else context.short
        answers = [
            Prediction(
                f"{place_name(context, 0, place, place, logits.shape[1])}: {name(label)}",
                TokenLabel(label, place),
                probability,
            )
            for place, label, probability in labelled(logits, context)[0]
        ]
        about = f"The {'letters of the sound' if sound else 'labels of its words'}, the surest first"
        surest = sorted(answers, key=lambda answer: -(answer.probability or 0))[:MOST_OBJECTS]
        return about, surest or [Prediction("its own answer")]

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _tokens(self, target: NextToken) -> tuple[str, list[Prediction]]:
        logits = class_logits(self.output, 3)[0].detach()
        spoken = get(self.context.inputs, "decoder_input_ids")
        if spoken is not None:
            return "What it says, token by token", list(self._spoken(logits, spoken[0, 1:].tolist()))
        if target.position >= 0:
            return "The masked word", list(self._at(logits[target.position], target.position))
        position = int(target.position_in(class_logits(self.output, 3), self.context)[0])
        first, *others = self._at(logits[position], -1)
        about = "Its next token: the most probable ones; then, token by token, what it says after the first of them"
        return about, [replace(first, token=first.label), *others, *self._going_on()]

    def _at(self, row: Float[Tensor, " vocabulary"], position: int) -> Iterator[Prediction]:
        """The most probable tokens at a position."""
        best = row.float().softmax(-1).topk(min(MOST, len(row)))
        for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            yield Prediction(self._text(token), NextToken(token, position), probability)

    def _spoken(self, logits: Float[Tensor, "positions vocabulary"], said: Sequence[int]) -> Iterator[Prediction]:
        """The tokens that an encoder-decoder said; where it has said nothing yet, what it would begin with."""
        if not said:
            yield from self._at(logits[-1], -1)
        probabilities = logits.float().softmax(-1)
        for position, token in enumerate(said):
            text, probability = self._text(token), float(probabilities[position, token])
            yield Prediction(f"{position + 1}: {text}", NextToken(token, position), probability, token=text)

    def _going_on(self) -> Iterator[Prediction]:
        """The tokens that a causal model says after the first."""
        said = self._continuation()
        if said.shape[1] < 2:
            return
        output = output_of(self.module, _longer(self.context.inputs, said))
        rows = class_logits(self.context.read(output), 3)[0, -said.shape[1] - 1 : -1].float().softmax(-1)
        for place in range(1, said.shape[1]):
            token = int(said[0, place])
            text, before = self._text(token), said[:, :place]
            name = f"then {place + 1}: {text}"
            yield Prediction(name, NextToken(token), float(rows[place, token]), said=before, token=text)

    def _continuation(self) -> Int[Tensor, "1 tokens"]:
        """What it says by itself, up to the end token, as far as it has places for it."""
        inputs, config = self.context.inputs, self.context.config
        ids = get(inputs, "input_ids")
        if ids is None:
            return torch.empty(1, 0, dtype=torch.long)
        length = ids.shape[1]
        room = min(SAID, (places_of(config, "input_ids") or length + SAID) - length)
        if self.subject is None or room < 1 or not hasattr(self.module, "generate"):
            return ids[:, :0]
        with answering(self.module):
            whole = generate(self.module, inputs, room)
        said = whole[:, length:]
        ends = (said[0] == getattr(self.subject.tokenizer, "eos_token_id", None)).nonzero() if said.shape[1] else said
        return said[:, : int(ends[0])] if len(ends) else said

    def _text(self, token: int) -> str:
        tokenizer = None if self.subject is None else self.subject.tokenizer
        return str(token) if tokenizer is None else token_labels(tokenizer, [token])[0]


def found_objects(output: object, context: Context, no_object: int | str | None = INFERRED) -> list[Prediction]:
    """What each object query of a detector finds, the most probable first, with its box; the label has no "no object".

    ``output`` is of a detector, for one sample; ``no_object`` as for ``targets.DetectionQuery``.

    Raises:
        InputError: there are no boxes in the output, or several samples.
        TargetError: whether the model has a class "no object" cannot be told.
    """
    output = context.read(output)
    boxes, logits = get(output, "pred_boxes"), get(output, "logits")
    if boxes is None or logits is None:
        raise InputError("the model finds no boxes; detections is for models with object queries, such as DETR")
    if len(boxes) != 1:
        raise InputError(f"there are {len(boxes)} samples; give one")
    none = DetectionQuery(no_object=no_object).without_object(logits, context)
    best = object_probabilities(logits, none)[0].max(-1)
    values, indices = best.values.cpu(), best.indices.cpu()
    return [
        Prediction(
            context.short(int(indices[query])),
            DetectionQuery(query, int(indices[query]), no_object),
            float(values[query]),
            corners(boxes[0, query].tolist()),
        )
        for query in values.argsort(descending=True).tolist()
    ]


def _query(found: Prediction) -> int | None:
    return found.target.query if isinstance(found.target, DetectionQuery) else None


def corners(box: Sequence[float]) -> Box:
    """x1 y1 x2 y2, from 0 to 1, of a box given as centre and size."""
    x, y, width, height = box
    edges = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in edges)
    return left, top, right, bottom


def _longer(inputs: Mapping[str, object], said: Int[Tensor, "1 tokens"]) -> dict[str, object]:
    longer = dict(inputs)
    for name, more in (("input_ids", said), ("attention_mask", torch.ones_like(said))):
        before = get(inputs, name)
        if before is not None:
            longer[name] = torch.cat([before, more], 1)
    return longer
