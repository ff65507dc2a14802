"""Targets that are classes, objects, values or embeddings: one answer for the whole input, for a box, or for a step to come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import (
    INFERRED,
    Context,
    class_logits,
    get,
    no_object,
    object_probabilities,
    part,
    pooled,
    ranked,
    two_embeddings,
)
from heedmap.targets.target import Chosen, OneOrEach, Target, at, in_range, per_sample


@dataclass(frozen=True)
class ClassLogit(Target):
    """The logit of a class, from logits of shape (batch, classes).

    Attributes:
        label: class index or name; None: each sample's own top class. A sequence gives each sample its own.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> target = heedmap.targets.ClassLogit("pink")
        >>> heedmap.load("zoo/vit-shapes").explain(image=photo, target=target).target
        ('class 14 (pink)',)
    """

    label: OneOrEach = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 2)
        top = logits.detach().argmax(-1)
        labels = per_sample(self.label, len(logits), "class")
        picked = given_or_top(labels, top, lambda label: class_index(label, logits.shape[-1], context))
        words = tuple(context.name(i) for i in picked.tolist())
        values = partial(of_class, context, picked)
        odds = ranked(logits, picked, context.short, exclusive=context.exclusive)
        return Chosen(values(output), words, top, values, odds)


@dataclass(frozen=True)
class Value(Target):
    """The one output of a regression head (one label), or of a model that ranks pairs: logits (batch, 1) or (batch,).

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> model = BertForSequenceClassification(BertConfig(hidden_size=24, num_hidden_layers=1, num_labels=1))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.Value()
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('value of the output',)
    """

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), None)
        if logits.dim() not in (1, 2) or logits.shape[1:].numel() != 1:
            raise TargetError(f"Value explains one output a sample, the model has logits {tuple(logits.shape)}")
        values = logits.reshape(len(logits))
        return Chosen(values, ("value of the output",) * len(values))


@dataclass(frozen=True)
class DetectionQuery(Target):
    """The logit of a class at one object query, from logits of shape (batch, queries, classes).

    Of a detector, or of a segmenter whose queries have masks (``class_queries_logits``: Mask2Former, MaskFormer, OneFormer).

    Attributes:
        query: the object query; None: the query with the most probable object (of class ``label``, where given).
        label: class index or name; None: the query's top class, never "no object" and never a class without a name.
        no_object: index of the "no object" class; None: the model has none (a sigmoid head: yes or no for each class).
            The default, ``"inferred"``: one logit more than names of classes is "no object", the last, as in DETR and
            YOLOS; as many as names have none, as in Conditional and Deformable DETR. Names are those given as ``labels=``
            or in ``config.id2label`` (``LABEL_3`` counts as one); where they do not fit, ``config.num_labels`` is their
            number; where that does not fit either, TargetError.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("detr-shapes").picture
        >>> target = heedmap.targets.DetectionQuery(label="heart")
        >>> heedmap.load("zoo/detr-shapes").explain(image=photo, target=target).target
        ('query 8, class 5 (heart)',)
    """

    query: int | None = None
    label: OneOrEach = None
    no_object: int | str | None = INFERRED

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        none = self.without_object(logits, context)
        query, label, top = self.objects(logits, context)
        pairs = zip(query.tolist(), label.tolist(), strict=True)
        words = tuple(f"query {q}, {context.name(c)}" for q, c in pairs)
        values = partial(at_place, context, query, label)
        odds = ranked(at(logits, query), label, partial(_object_name, context, none), exclusive=none is not None)
        return Chosen(values(output), words, top, values, odds, box=_box_at(context.read(output), query))

    def objects(
        self, logits: Float[Tensor, "batch queries classes"], context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of each sample the query, the class that is meant there, and the top class there, (batch,) each."""
        none = self.without_object(logits, context)
        allowed = self._allowed(logits.shape[-1], none, context).to(logits.device)
        prob = object_probabilities(logits, none).masked_fill(~allowed, -1)
        given = per_sample(self.label, len(logits), "class")
        indices = [-1 if c is None else class_index(c, logits.shape[-1], context) for c in given]
        wanted = torch.tensor(indices, device=logits.device)
        if self.query is None:
            of_class = prob.gather(2, wanted.clamp(min=0)[:, None, None].expand(*prob.shape[:2], 1))[..., 0]
            query = torch.where(wanted[:, None] < 0, prob.amax(-1), of_class).argmax(-1)
        else:
            query = torch.full_like(wanted, in_range(self.query, logits.shape[1], "query"))
        top = at(prob, query).argmax(-1)
        return query, torch.where(wanted < 0, top, wanted), top

    def without_object(self, logits: Tensor, context: Context) -> int | None:
        """Index of the "no object" class of these logits, from 0; None: there is none."""
        if self.no_object == INFERRED:
            return no_object(logits, context)
        if self.no_object is None or isinstance(self.no_object, int):
            return None if self.no_object is None else in_range(self.no_object, logits.shape[-1], "class")
        raise TargetError(f"no_object={self.no_object!r}; expected the index of a class, None, or {INFERRED!r}")

    @staticmethod
    def _allowed(classes: int, none: int | None, context: Context) -> Tensor:
        allowed = torch.ones(classes, dtype=torch.bool)
        named = [i for i in range(classes) if context.labels.get(i, "N/A") not in ("N/A", "")]
        if named:  # COCO's heads have classes that no object ever had; transformers calls them N/A
            allowed = torch.isin(torch.arange(classes), torch.tensor(named))
        if none is not None:
            allowed[none] = False
        return allowed


def _box_at(output: object, query: Int[Tensor, " batch"]) -> Float[Tensor, "batch 4"] | None:
    """Of each sample the box of an object query, x1 y1 x2 y2; None: the output has none of centre and size in shares."""
    boxes = get(output, "pred_boxes")
    if boxes is None or boxes.dim() != 3 or boxes.shape[-1] != 4:
        return None
    middle, size = at(boxes, query).detach().float().cpu().split(2, -1)
    return torch.cat([middle - size / 2, middle + size / 2], -1).clamp(0, 1)


SIDES = {
    "left": (1.0, 0.0, -0.5, 0.0),
    "right": (1.0, 0.0, 0.5, 0.0),
    "top": (0.0, 1.0, 0.0, -0.5),
    "bottom": (0.0, 1.0, 0.0, 0.5),
    "width": (0.0, 0.0, 1.0, 0.0),
    "height": (0.0, 0.0, 0.0, 1.0),
    "x": (1.0, 0.0, 0.0, 0.0),
    "y": (0.0, 1.0, 0.0, 0.0),
}
"""What of a box can be explained: weights of its centre x, centre y, width and height."""


@dataclass(frozen=True)
class BoxSide(Target):
    """Where an edge of a detector's box lies, how wide or high it is, or where its centre is: one number of ``pred_boxes``.

    From ``pred_boxes`` (batch, queries, 4), centre and size as shares of the picture, beside logits (batch, queries, classes).

    Attributes:
        side: ``"left"``, ``"right"``, ``"top"``, ``"bottom"``, ``"width"``, ``"height"``, or ``"x"`` and ``"y"`` of the centre.
        query: the object query; None: the one that :class:`DetectionQuery` chooses.
        label: class index or name, where no query is given: the box of the most probable object of this class.
        no_object: as for :class:`DetectionQuery`.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("detr-shapes").picture
        >>> target = heedmap.targets.BoxSide("left", label="heart")
        >>> heedmap.load("zoo/detr-shapes").explain(image=photo, target=target).target
        ('left of the box of query 8, class 5 (heart)',)
    """

    side: str
    query: int | None = None
    label: OneOrEach = None
    no_object: int | str | None = INFERRED

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        if self.side not in SIDES:
            raise TargetError(f"a box has no {self.side!r}; expected one of {', '.join(SIDES)}")
        logits = class_logits(context.read(output), 3)
        query, label, top = DetectionQuery(self.query, self.label, self.no_object).objects(logits, context)
        values = partial(_of_box, context, query, SIDES[self.side])
        pairs = zip(query.tolist(), label.tolist(), strict=True)
        words = tuple(f"{self.side} of the box of query {q}, {context.name(c)}" for q, c in pairs)
        return Chosen(values(output), words, top, values)


@dataclass(frozen=True)
class Similarity(Target):
    """How alike two things are: the pairs of a dual encoder, or an encoder's output and a given embedding.

    With no ``reference``, the diagonal of ``logits_per_image`` (image i with text i; batches must be equal); for an
    output that is a tuple of two embeddings (open_clip), their cosine. With one, the cosine of the mean of
    ``last_hidden_state`` over the real tokens (or of ``pooler_output``, with ``pool="pooler"``) and the reference.

    Attributes:
        reference: (features,) or (batch, features).
        pool: ``"mean"`` or ``"pooler"``.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("clip-shapes")
        >>> target = heedmap.targets.Similarity()
        >>> heedmap.load("zoo/clip-shapes").explain(**sample.inputs, target=target).target
        ('similarity of image 0 and text 0',)
    """

    reference: Tensor | None = None
    pool: str = "mean"

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        output = context.read(output)
        if self.reference is not None:
            embedding = pooled(output, context, self.pool)
            values = torch.cosine_similarity(embedding, self.reference.to(embedding).expand_as(embedding), dim=-1)
            return Chosen(values, ("similarity to the reference",) * len(values))
        logits = get(output, "logits_per_image")
        if logits is not None:
            if logits.shape[0] != logits.shape[1]:
                raise TargetError(
                    f"Similarity explains pairs, image i with text i, but there are {logits.shape[0]} images and "
                    f"{logits.shape[1]} texts; repeat the image (or the text) so that both batches are equal"
                )
            values = logits.diagonal()
        else:
            image, text = two_embeddings(output)
            values = torch.cosine_similarity(image, text, dim=-1)
        words = tuple(f"similarity of image {i} and text {i}" for i in range(len(values)))
        return Chosen(values, words)


@dataclass(frozen=True)
class FeatureNorm(Target):
    """Half the squared norm of an encoder's embedding: what a model without classes (DINOv2, BERT) makes its features of.

    Attributes:
        pool: ``"pooler"`` (``pooler_output``, the [CLS] token's features) or ``"mean"`` (of ``last_hidden_state``).

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertModel
        >>> model = BertModel(BertConfig(hidden_size=24, num_hidden_layers=1))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.FeatureNorm()
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('norm of the pooler embedding',)
    """

    pool: str = "pooler"

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = pooled(output, context, self.pool).square().sum(-1) / 2
        return Chosen(values, (f"norm of the {self.pool} embedding",) * len(values))


@dataclass(frozen=True)
class Function(Target):
    """Any callable from the model's output to (batch,) values.

    Examples:
        >>> import heedmap
        >>> def pink_over_red(output):
        ...     return output.logits[:, 14] - output.logits[:, 7]
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> heedmap.load("zoo/vit-shapes").explain(image=photo, target=pink_over_red).target
        ('pink_over_red',)
    """

    function: Callable[..., Tensor]

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = self.function(output)
        if not isinstance(values, Tensor):
            raise TargetError(f"the target callable returned {type(values).__name__}; expected a (batch,) tensor")
        return Chosen(values, (getattr(self.function, "__name__", "callable"),) * (len(values) if values.dim() else 1))


def given_or_top(
    labels: Sequence[int | str | None], top: Int[Tensor, " batch"], index: Callable[[int | str], int]
) -> Int[Tensor, " batch"]:
    """Each sample's class: the ``index`` of its label, its top one where it has none."""
    pairs = zip(labels, top, strict=True)
    return torch.stack([t if w is None else torch.as_tensor(index(w), device=t.device) for w, t in pairs])


def class_index(label: int | str, classes: int, context: Context) -> int:
    """The index of a class given by its index or name; TargetError where there is none."""
    return in_range(context.index(label) if isinstance(label, str) else label, classes, "class")


def _object_name(context: Context, none: int | None, index: int) -> str:
    return "no object" if index == none else context.short(index)


def of_class(context: Context, picked: Tensor, output: object) -> Tensor:
    """(batch,): the logit of each sample's class ``picked``, from logits (batch, classes)."""
    return class_logits(context.read(output), 2).gather(1, picked[:, None])[:, 0]


def _of_box(context: Context, query: Tensor, weights: tuple[float, ...], output: object) -> Tensor:
    boxes = get(context.read(output), "pred_boxes")
    if not isinstance(boxes, Tensor) or boxes.dim() != 3 or boxes.shape[-1] != 4:
        raise TargetError("BoxSide needs pred_boxes (batch, queries, 4) in the output, which has none")
    box = at(boxes, query)
    return (box * box.new_tensor(weights)).sum(-1)


def at_place(context: Context, place: Tensor, picked: Tensor, output: object) -> Tensor:
    """(batch,): the logit of each sample's class ``picked`` at its ``place``, from logits (batch, places, classes)."""
    logits = class_logits(context.read(output), 3)
    return logits[torch.arange(len(logits), device=logits.device), place, picked]


SERIES = ("prediction_outputs", "mean_predictions", "params")
"""Names under which models return values to come: themselves, their means, or the parameters of their distribution."""
LOCATIONS = {"student_t": 1, "normal": 0}
"""``config.distribution_output`` → which of the parameters is the mean, before it is scaled."""


@dataclass(frozen=True)
class Forecast(Target):
    """A value to come of a time series.

    From ``prediction_outputs`` (batch, steps, channels) (PatchTST, PatchTSMixer) or ``mean_predictions`` (batch, steps)
    (TimesFM); of a model that gives a distribution (TimeSeriesTransformer, Informer, Autoformer: Student's t or normal) its
    mean, the location times ``scale`` plus ``loc``.

    Attributes:
        step: of the steps to come, from 0; negative from the last.
        channel: which of the series, from 0.

    Examples:
        >>> import heedmap, torch
        >>> class Next(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.read, self.head = torch.nn.Linear(1, 16), torch.nn.Linear(16, 4)
        ...         self.layer = torch.nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        ...     def forward(self, past_values):
        ...         states = self.layer(self.read(past_values))
        ...         return {"prediction_outputs": self.head(states[:, -1])[..., None]}
        >>> target = heedmap.targets.Forecast(step=2)
        >>> heedmap.explain(Next(), {"past_values": torch.randn(1, 32, 1)}, target=target).target
        ('value of step 2',)
    """

    step: int = 0
    channel: int = 0

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        _, steps, channels = forecast(output, context).shape
        step, channel = in_range(self.step, steps, "step"), in_range(self.channel, channels, "channel")
        values = partial(_at_step, context, step, channel)
        words = f"value of step {step}" + (f" of channel {channel}" if channels > 1 else "")
        scores = values(output)
        return Chosen(scores, (words,) * len(scores), again=values)


def to_come(output: object) -> Tensor | Sequence[Tensor] | None:
    """The part of an output that tells of values to come: a tensor, a tuple of a distribution's parameters, or None."""
    (values, means), parameters = (get(output, name) for name in SERIES[:2]), part(output, SERIES[2])
    if values is not None and values.dim() == 3:
        return values
    if means is not None and means.dim() == 2:
        return means[..., None]
    return parameters if isinstance(parameters, (tuple, list)) else None


def forecast(output: object, context: Context) -> Float[Tensor, "batch steps channels"]:
    """The values to come; TargetError where there are none, or their mean is not known."""
    output = context.read(output)
    given = to_come(output)
    if given is None:
        raise TargetError(
            "Forecast needs prediction_outputs (batch, steps, channels), mean_predictions (batch, steps) or params in the "
            "output; a model that gives params gives them only where it is called with future_values"
        )
    values = given if isinstance(given, Tensor) else _mean(given, output, context)
    return values if values.dim() == 3 else values[..., None]


def _mean(parameters: Sequence[Tensor], output: object, context: Context) -> Tensor:
    kind = context.setting("distribution_output")
    if kind not in LOCATIONS:
        raise TargetError(
            f"the output has the parameters of a distribution ({kind}), and Forecast knows the mean of "
            f"{', '.join(LOCATIONS)}; pass target=callable(output) -> (batch,) tensor"
        )
    mean, loc, scale = parameters[LOCATIONS[kind]], get(output, "loc"), get(output, "scale")
    return mean if loc is None or scale is None else mean * scale + loc


def _at_step(context: Context, step: int, channel: int, output: object) -> Tensor:
    return forecast(output, context)[:, step, channel]
