"""Targets: the scalar per sample that is explained.

A target is called inside the recorder with the model's output, so that what it reads is known without being told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError, UnknownNameError
from heedmap.top import Top, ranked

LOGITS = ("logits", "question_answering_score", "logits_per_image", "itm_score")
"""Names under which models return class scores, in the order in which they are looked for."""


@dataclass(frozen=True)
class Context:
    """What a target may know besides the output: the model's inputs, its label names, its kind of head.

    Attributes:
        inputs: keyword arguments of the forward pass.
        labels: class index → name; empty where the model has no names.
        exclusive: whether one class is right; False: each by itself (``problem_type="multi_label_classification"``).
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    exclusive: bool = True

    def name(self, index: int) -> str:
        """``class 3 (cat)`` or ``class 3``."""
        label = self.labels.get(index)
        return f"class {index}" if label is None or label == f"LABEL_{index}" else f"class {index} ({label})"

    def short(self, index: int) -> str:
        """``cat``, or ``class 3`` where it has no name."""
        label = self.labels.get(index)
        return f"class {index}" if label in (None, "", f"LABEL_{index}") else str(label)

    def index(self, label: str) -> int:
        """The class called ``label``, in any case; UnknownNameError lists some of the known ones."""
        for index, name in self.labels.items():
            if name == label:
                return index
        folded = [i for i, name in self.labels.items() if name.casefold() == label.casefold()]
        if len(folded) == 1:
            return folded[0]
        known = ", ".join(list(self.labels.values())[:20]) or "none: give a class index instead"
        raise UnknownNameError(f"no class is called {label!r}; known labels: {known}")


@dataclass(frozen=True)
class Chosen:
    """What a target made of one output.

    Attributes:
        values: (batch,), the scalars to explain, still attached to the graph.
        words: what each is.
        prediction: (batch,) top class of each sample, where there are classes.
        again: another output of the same model → its values for the same classes, queries and tokens; None: the target
            chooses nothing, so that choosing again is the same.
        top: the most probable answers, where there are classes.
        names: of the prediction, where the model's label names are not what it is called by (tokens).
    """

    values: Float[Tensor, " batch"]
    words: tuple[str, ...]
    prediction: Int[Tensor, " batch"] | None = None
    again: Callable[[Any], Float[Tensor, " batch"]] | None = None
    top: Top | None = None
    names: tuple[str, ...] | None = None


class Target(ABC):
    """Chooses one scalar per sample from a model's output."""

    @abstractmethod
    def choose(self, output: Any, context: Context) -> Chosen:
        """The scalars to explain, (batch,), and what they are."""


@dataclass(frozen=True)
class ClassLogit(Target):
    """The logit of a class, from logits of shape (batch, classes).

    Attributes:
        label: class index or name; None: each sample's own top class. A sequence gives each sample its own.
    """

    label: int | str | tuple[int | str | None, ...] | list[int | str | None] | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(output, 2)
        top = logits.detach().argmax(-1)
        index = per_sample(self.label, len(logits), "class")
        picked = torch.stack(
            [
                t if i is None else torch.as_tensor(self._index(i, logits, context), device=t.device)
                for i, t in zip(index, top, strict=True)
            ]
        )
        words = tuple(context.name(i) for i in picked.tolist())
        values = partial(_of_class, picked)
        odds = ranked(logits, picked, context.short, exclusive=context.exclusive)
        return Chosen(values(output), words, top, values, odds)

    @staticmethod
    def _index(label: int | str, logits: Tensor, context: Context) -> int:
        index = context.index(label) if isinstance(label, str) else label
        return in_range(index, logits.shape[-1], "class")


@dataclass(frozen=True)
class DetectionQuery(Target):
    """The logit of a class at one object query, from logits of shape (batch, queries, classes).

    Attributes:
        query: the object query; None: the query with the most probable object (of class ``label``, where given).
        label: class index or name; None: the query's top class, never "no object" and never a class without a name.
        no_object: index of the "no object" class; None: the model has none (sigmoid heads).
            The default, -1, is the last class, as in DETR.
    """

    query: int | None = None
    label: int | str | None = None
    no_object: int | None = -1

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(output, 3)
        allowed = self._allowed(logits.shape[-1], context).to(logits.device)
        prob = logits.detach().float()
        prob = (prob.sigmoid() if self.no_object is None else prob.softmax(-1)).masked_fill(~allowed, -1)
        batch = torch.arange(len(logits), device=logits.device)
        wanted = None if self.label is None else ClassLogit._index(self.label, logits, context)
        if self.query is None:
            query = (prob.amax(-1) if wanted is None else prob[..., wanted]).argmax(-1)
        else:
            query = torch.full_like(batch, in_range(self.query, logits.shape[1], "query"))
        top = prob[batch, query].argmax(-1)
        label = top if wanted is None else torch.full_like(top, wanted)
        pairs = zip(query.tolist(), label.tolist(), strict=True)
        words = tuple(f"query {q}, {context.name(c)}" for q, c in pairs)
        values = partial(_of_place, query, label)
        odds = ranked(logits[batch, query], label, self._named(logits, context), exclusive=self.no_object is not None)
        return Chosen(values(output), words, top, values, odds)

    def _named(self, logits: Tensor, context: Context) -> Callable[[int], str]:
        none = None if self.no_object is None else self.no_object % logits.shape[-1]
        return lambda index: "no object" if index == none else context.short(index)

    def _allowed(self, classes: int, context: Context) -> Tensor:
        allowed = torch.ones(classes, dtype=torch.bool)
        if self.no_object is not None:
            allowed[in_range(self.no_object, classes, "class")] = False
        named = [i for i in range(classes) if context.labels.get(i, "N/A") not in ("N/A", "")]
        if named:  # COCO's heads have classes that no object ever had; transformers calls them N/A
            keep = torch.zeros_like(allowed)
            keep[named] = True
            allowed &= keep
        return allowed


@dataclass(frozen=True)
class NextToken(Target):
    """The logit of a token at one position of a decoder or a causal model, logits (batch, positions, vocabulary).

    Attributes:
        token: token id; None: the top token there. A sequence gives each sample its own.
        position: the position that predicts it, from 0; negative from the last real token (-1, the default).
        decode: token id → text, to name it.
    """

    token: int | str | tuple[int | None, ...] | list[int | None] | None = None
    position: int = -1
    decode: Callable[[int], str] | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(output, 3)
        position = self._position(logits, context)
        batch = torch.arange(len(logits), device=logits.device)
        row = logits[batch, position]
        top = row.detach().argmax(-1)
        wanted = per_sample(self.token, len(logits), "token")
        picked = torch.stack(
            [
                t if w is None else torch.as_tensor(self._token(w, row), device=t.device)
                for w, t in zip(wanted, top, strict=True)
            ]
        )
        words = tuple(
            f"token {self._name(i)} after position {p}" for i, p in zip(picked.tolist(), position.tolist(), strict=True)
        )
        values = partial(_of_place, position, picked)
        odds = ranked(row, picked, self.decode or "token {}".format)
        names = None if self.decode is None else tuple(map(self.decode, top.tolist()))
        return Chosen(values(output), words, top, values, odds, names)

    def _name(self, index: int) -> str:
        return str(index) if self.decode is None else f"{index} ({self.decode(index)!r})"

    @staticmethod
    def _token(token: int | str, row: Tensor) -> int:
        if isinstance(token, str):
            raise TargetError(f"NextToken takes token ids, not {token!r}; ask the tokenizer for the id of this text")
        return in_range(token, row.shape[-1], "token")

    def _position(self, logits: Tensor, context: Context) -> Tensor:
        batch, length = logits.shape[:2]
        mask = context.inputs.get("decoder_attention_mask")
        if mask is None and context.inputs.get("decoder_input_ids") is None:
            mask = context.inputs.get("attention_mask")
        if self.position >= 0 or not isinstance(mask, Tensor) or mask.shape != (batch, length):
            return torch.full((batch,), in_range(self.position, length, "position"), device=logits.device)
        places = torch.arange(length, device=logits.device)
        real = mask.to(logits.device) != 0
        order = torch.where(real, places, -1).sort(-1).values  # the real places, in order, are the last entries
        position = order[:, in_range(self.position, length, "position")]
        if bool((position < 0).any()):
            raise TargetError(f"position {self.position} lies before the first real token of a sample")
        return position


@dataclass(frozen=True)
class Similarity(Target):
    """How alike two things are: the pairs of a dual encoder, or an encoder's output and a given embedding.

    With no ``reference``, the diagonal of ``logits_per_image`` (image i with text i; batches must be equal); for an
    output that is a tuple of two embeddings (open_clip), their cosine. With one, the cosine of the mean of
    ``last_hidden_state`` over the real tokens (or of ``pooler_output``, with ``pool="pooler"``) and the reference.

    Attributes:
        reference: (features,) or (batch, features).
        pool: ``"mean"`` or ``"pooler"``.
    """

    reference: Tensor | None = None
    pool: str = "mean"

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
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
    """

    pool: str = "pooler"

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = pooled(output, context, self.pool).square().sum(-1) / 2
        return Chosen(values, (f"norm of the {self.pool} embedding",) * len(values))


@dataclass(frozen=True)
class Function(Target):
    """Any callable from the model's output to (batch,) values."""

    function: Callable[[Any], Tensor]

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = self.function(output)
        if not isinstance(values, Tensor):
            raise TargetError(f"the target callable returned {type(values).__name__}; expected a (batch,) tensor")
        return Chosen(values, (getattr(self.function, "__name__", "callable"),) * (len(values) if values.dim() else 1))


@dataclass(frozen=True)
class TopPrediction(Target):
    """Each sample's own top prediction, of whatever kind the output is. ``target=None`` means this.

    Pairs of a dual encoder: their similarity. Boxes: the most probable object. (batch, classes): the top class.
    (batch, positions, vocabulary): the top token at the last real position. (batch,): the value itself.

    Attributes:
        label: a class index, name or token id instead of the top one. ``target=3`` and ``target="cat"`` mean this.
    """

    label: int | str | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        return self._kind(output).choose(output, context)

    def _kind(self, output: Any) -> Target:
        if get(output, "logits_per_image") is not None and self.label is None:
            return Similarity()
        if get(output, "pred_boxes") is not None:
            return DetectionQuery(label=self.label)
        logits = class_logits(output, None)
        if logits.dim() == 2:
            return ClassLogit(self.label)
        if logits.dim() == 3:
            return NextToken(self.label)
        if logits.dim() == 1 and self.label is None:
            return Function(lambda output: class_logits(output, 1))
        raise TargetError(
            f"no class can be chosen from logits of shape {tuple(logits.shape)}; "
            "pass target=callable(output) -> (batch,) tensor"
        )


def as_target(target: Any) -> Target:
    """None, an int, a str, a Target or a callable as a Target."""
    if isinstance(target, Target):
        return target
    if isinstance(target, bool):
        raise TargetError(f"target={target} is neither a class nor a callable")
    if target is None or isinstance(target, (int, str)):
        return TopPrediction(target)
    if callable(target):
        return Function(target)
    raise TargetError(
        f"target is a {type(target).__name__}; expected None, a class index, a label, a heedmap.targets.Target, "
        "a callable(output) -> (batch,) tensor, or a list of these"
    )


# -- reading outputs ----------------------------------------------------------------------------------------------


def get(output: Any, name: str) -> Any:
    """``output.name`` or ``output["name"]``, or None."""
    if isinstance(output, Mapping):
        return output.get(name)
    return getattr(output, name, None)


def class_logits(output: Any, dims: int | None) -> Tensor:
    """The class scores in ``output``, of ``dims`` dimensions; TargetError says what there is instead."""
    logits = output if isinstance(output, Tensor) else None
    for name in LOGITS:
        logits = get(output, name) if logits is None else logits
    if logits is None and isinstance(output, (tuple, list)) and len(output) == 1 and isinstance(output[0], Tensor):
        logits = output[0]
    if logits is None:
        known = ", ".join(output.keys()) if isinstance(output, Mapping) else type(output).__name__
        raise TargetError(
            f"the output has no logits (it has: {known}); pass target=callable(output) -> (batch,) tensor"
        )
    if dims is not None and logits.dim() != dims:
        raise TargetError(
            f"the logits have shape {tuple(logits.shape)}, this target needs {dims} dimensions; "
            "2: ClassLogit, 3 with boxes: DetectionQuery, 3 with a vocabulary: NextToken"
        )
    return logits


def _of_class(picked: Tensor, output: Any) -> Tensor:
    return class_logits(output, 2).gather(1, picked[:, None])[:, 0]


def _of_place(place: Tensor, picked: Tensor, output: Any) -> Tensor:
    logits = class_logits(output, 3)
    return logits[torch.arange(len(logits), device=logits.device), place, picked]


def two_embeddings(output: Any) -> tuple[Tensor, Tensor]:
    """Image and text embeddings, (batch, features) each, of a dual encoder's output."""
    image, text = get(output, "image_embeds"), get(output, "text_embeds")
    if image is None and isinstance(output, Mapping):
        image, text = output.get("image_features"), output.get("text_features")
    if image is None and isinstance(output, (tuple, list)) and len(output) >= 2:
        image, text = output[0], output[1]
    if not (isinstance(image, Tensor) and isinstance(text, Tensor) and image.dim() == 2 and image.shape == text.shape):
        raise TargetError(
            "Similarity needs logits_per_image or two (batch, features) embeddings of equal shape in the output; "
            "give reference=, or pass target=callable(output) -> (batch,) tensor"
        )
    return image, text


def pooled(output: Any, context: Context, pool: str) -> Tensor:
    """An encoder's sentence embedding, (batch, features)."""
    if pool not in ("mean", "pooler"):
        raise TargetError(f"pool={pool!r}; expected 'mean' or 'pooler'")
    states = get(output, "pooler_output" if pool == "pooler" else "last_hidden_state")
    if states is None:
        raise TargetError("Similarity with a reference needs last_hidden_state (or pooler_output) in the output")
    if pool == "pooler":
        return states
    mask = context.inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.shape != states.shape[:2]:
        return states.mean(1)
    weight = mask.to(states)[..., None]
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


def per_sample(value: Any, batch: int, what: str) -> list[Any]:
    """``value`` for each sample; a list or tuple must have one entry a sample."""
    if isinstance(value, (list, tuple)):
        if len(value) != batch:
            raise TargetError(f"{len(value)} {what} targets for a batch of {batch}; give one for each sample, or one")
        return list(value)
    return [value] * batch


def in_range(index: int, size: int, what: str) -> int:
    """``index`` counted from 0; TargetError where it is out of range."""
    if not -size <= index < size:
        raise TargetError(f"{what} {index} is out of range: there are {size}, 0 to {size - 1}")
    return index % size
