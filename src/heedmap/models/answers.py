"""Several answers of a model to one input, each with its explanation, all from one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heedmap.errors import InputError, OptionError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from heedmap.explanation import Explanation
    from heedmap.outputs import Context

INFERRED = "inferred"
"""As ``heedmap.outputs.INFERRED``, which torch comes with."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to one input, and what each answer rests on.

    ``answers["text"]`` is (answers, tokens), float32: the relevance of a segment, one row an answer.

    Attributes:
        names: of the answers, such as the tokens that a decoder says.
        explanations: one an answer, of a batch of one.
        boxes: where each answer lies, x1 y1 x2 y2 from 0 to 1; empty where answers have no place.
        joined: whether the answers are the tokens of one text.
    """

    names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    boxes: tuple[Box, ...] = ()
    joined: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Float[Tensor, "answers tokens"]:
        import torch

        return torch.cat([explanation[name] for explanation in self.explanations])

    def __repr__(self) -> str:
        return f"Answers({', '.join(self.names)}; {', '.join(self.explanations[0].segments)})"

    def to_html(self, image: Any = None) -> str:
        """All answers as one self-contained HTML page: choose one, see its map.

        Args:
            image: PIL, as the model saw it (``Subject.shown_image``), to lay maps of patches on.
        """
        from heedmap.render.answers_page import answers_page

        return answers_page(self, image)

    def _repr_html_(self) -> str:
        from heedmap.render.answers_page import answers_fragment

        return answers_fragment(self)


def alignment(subject: Any, *, method: Any = "generic", **given: Any) -> Answers:
    """What each token that an encoder-decoder says rests on: a row of relevance a token, from one forward pass.

    Args:
        subject: ``heedmap.load(…)`` of an encoder-decoder.
        method: a key of ``heedmap.METHODS``, or a method.
        given: one sample, as for ``subject.explain``; ``decoder_input_ids``, (1, tokens), for other words than its own;
            and the method's options.

    Raises:
        InputError: the model does not say a text, or what is given is a batch, or it says nothing.
    """
    from heedmap.models.labels import token_labels
    from heedmap.targets import NextToken

    names = ("text", "image", "boxes", "audio")
    inputs = subject.inputs(**{n: given.get(n) for n in names}, decoder_input_ids=given.pop("decoder_input_ids", None))
    said = inputs.get("decoder_input_ids")
    if said is None:
        raise InputError(f"{subject.name} says no text; alignment is for encoder-decoders that do")
    if len(said) != 1 or said.shape[1] < 2:
        raise InputError(
            f"there are {len(said)} samples of {said.shape[1]} tokens; give one sample that says something"
        )
    ids = said[0].tolist()
    targets = [NextToken(token, position) for position, token in enumerate(ids[1:])]
    options = {name: value for name, value in given.items() if name not in names}
    found = _explained(subject, inputs, targets, given.get("boxes"), method=method, **options)
    labels = token_labels(subject.tokenizer, ids) if subject.tokenizer is not None else tuple(map(str, ids))
    return Answers(labels[1:], found, joined=True)


def detections(
    subject: Any,
    *,
    threshold: float = 0.5,
    most: int = 20,
    no_object: int | str | None = INFERRED,
    method: Any = "generic",
    **given: Any,
) -> Answers:
    """What each object that a detector finds rests on, with its box, from one forward pass more.

    Args:
        subject: ``heedmap.load(…)`` of a detector with object queries, such as DETR.
        threshold: an object is kept from this probability on, 0 to 1.
        most: so many are kept at most, the most probable ones.
        no_object: as for ``targets.DetectionQuery``: index of the "no object" class; None: the model has none; by default
            inferred.
        method: a key of ``heedmap.METHODS``, or a method.
        given: one sample, as for ``subject.explain``, and the method's options.

    Raises:
        InputError: the model finds no boxes, what is given is a batch, or nothing is as probable as ``threshold``.
        OptionError: ``threshold`` or ``most`` is out of range.
    """
    from heedmap.targets import DetectionQuery

    if not 0 <= threshold <= 1 or most < 1:
        raise OptionError(f"threshold={threshold} and most={most}; expected a probability, 0 to 1, and at least 1")
    names = ("text", "image", "boxes", "audio")
    inputs = subject.inputs(**{name: given.get(name) for name in names})
    output = output_of(subject, inputs)
    boxes, probabilities, classes = objects(output, context_of(subject, inputs), no_object, subject.name)
    kept = [q for q in probabilities.argsort(descending=True).tolist() if probabilities[q] >= threshold][:most]
    if not kept:
        raise InputError(
            f"no object is as probable as {threshold}; the most probable has {float(probabilities.max()):.3g}"
        )
    options = {name: value for name, value in given.items() if name not in names}
    targets = [DetectionQuery(query, int(classes[query]), no_object) for query in kept]
    found = _explained(subject, inputs, targets, None, method=method, **options)
    labels = subject.labels or getattr(subject.config, "id2label", None) or {}
    called = tuple(f"{labels.get(int(classes[q]), int(classes[q]))} {float(probabilities[q]):.0%}" for q in kept)
    return Answers(called, found, tuple(corners(boxes[q].tolist()) for q in kept))


def _explained(
    subject: Any, inputs: Any, targets: Sequence[Any], boxes: Any, **settings: Any
) -> tuple[Explanation, ...]:
    from heedmap.engine import explain

    found = explain(subject, inputs, target=list(targets), **settings)
    return tuple(found if boxes is None else [subject.finish(one, inputs, boxes) for one in found])


def context_of(subject: Any, inputs: Mapping[str, Any]) -> Context:
    """What targets know of a model called with ``inputs``."""
    from heedmap.outputs import Context

    return Context.of(inputs, subject.config, subject.labels, getattr(subject.model, "forward", None), subject)


def output_of(subject: Any, inputs: Any) -> Any:
    """What the model answers, in eval mode and without gradients; it is left in the mode that it was in."""
    import torch

    was_training = subject.model.training
    subject.model.eval()
    try:
        with torch.no_grad():
            return subject.model(**inputs)
    finally:
        subject.model.train(was_training)


def objects(
    output: Any, context: Context, no_object: int | str | None = INFERRED, name: str = "the model"
) -> tuple[Float[Tensor, "queries 4"], Float[Tensor, " queries"], Int[Tensor, " queries"]]:
    """Of each object query: its box (centre, size), the probability of its most probable class, and which that is.

    Args:
        output: of a detector, for one sample.
        context: what a target may know of it.
        no_object: as for ``targets.DetectionQuery``.
        name: what messages call the model.

    Raises:
        InputError: there are no boxes in the output, or several samples.
        TargetError: whether the model has a class "no object" cannot be told.
    """
    from heedmap.outputs import get, object_probabilities
    from heedmap.targets import DetectionQuery

    output = context.read(output)
    boxes, logits = get(output, "pred_boxes"), get(output, "logits")
    if boxes is None or logits is None:
        raise InputError(f"{name} finds no boxes; detections is for models with object queries, such as DETR")
    if len(boxes) != 1:
        raise InputError(f"there are {len(boxes)} samples; give one")
    none = DetectionQuery(no_object=no_object).without_object(logits, context)
    best = object_probabilities(logits, none)[0].max(-1)
    return boxes[0].cpu(), best.values.cpu(), best.indices.cpu()


def corners(box: Sequence[float]) -> Box:
    """x1 y1 x2 y2, from 0 to 1, of a box given as centre and size."""
    x, y, width, height = box
    corners = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in corners)
    return left, top, right, bottom
