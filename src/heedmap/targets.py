"""Targets: the scalar per sample that is explained.

A target is called inside the recorder with the model's output, so that what it reads is known without being told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.explanation_data import Top
from heedmap.outputs import (
    INFERRED,
    background,
    is_value,
    labels_tokens,
    no_object,
    object_probabilities,
    place_name,
    ranked,
    real_places,
    spells_sound,
    two_embeddings,
)
from heedmap.outputs import Context as Context
from heedmap.outputs import class_logits as class_logits
from heedmap.outputs import get as get
from heedmap.outputs import pooled as pooled

OneOrEach = int | str | tuple[int | str | None, ...] | list[int | str | None] | None
"""An index or a name; for each sample its own in a sequence; None: the one that the model holds most probable."""


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
    """Chooses one scalar per sample from a model's output.

    Examples:
        >>> import heedmap
        >>> class Margin(heedmap.targets.Target):
        ...     def choose(self, output, context):
        ...         best, second = output.logits.topk(2).values.unbind(-1)
        ...         return heedmap.targets.Chosen(best - second, ("best over second",) * len(best))
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> heedmap.load("zoo/vit-shapes").explain(image=photo, target=Margin())
        Explanation(generic, batch 1, target 'best over second', image 12×12)
    """

    @abstractmethod
    def choose(self, output: Any, context: Context) -> Chosen:
        """The scalars to explain, (batch,), and what they are."""


AnyTarget: TypeAlias = (
    Target
    | int
    | str
    | tuple[int | str | None, ...]
    | Tensor
    | np.ndarray
    | np.generic
    | Callable[[Any], Tensor]
    | None
)
"""What ``target=`` takes; :func:`as_target` makes a :class:`Target` of it."""


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

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 2)
        top = logits.detach().argmax(-1)
        index = per_sample(self.label, len(logits), "class")
        picked = torch.stack(
            [
                t if i is None else torch.as_tensor(self._index(i, logits, context), device=t.device)
                for i, t in zip(index, top, strict=True)
            ]
        )
        words = tuple(context.name(i) for i in picked.tolist())
        values = partial(_of_class, context, picked)
        odds = ranked(logits, picked, context.short, exclusive=context.exclusive)
        return Chosen(values(output), words, top, values, odds)

    @staticmethod
    def _index(label: int | str, logits: Tensor, context: Context) -> int:
        index = context.index(label) if isinstance(label, str) else label
        return in_range(index, logits.shape[-1], "class")


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

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), None)
        if logits.dim() not in (1, 2) or logits.shape[1:].numel() != 1:
            raise TargetError(f"Value explains one output a sample, the model has logits {tuple(logits.shape)}")
        values = logits.reshape(len(logits))
        return Chosen(values, ("value of the output",) * len(values))


@dataclass(frozen=True)
class DetectionQuery(Target):
    """The logit of a class at one object query, from logits of shape (batch, queries, classes).

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

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        none = self.without_object(logits, context)
        allowed = self._allowed(logits.shape[-1], none, context).to(logits.device)
        prob = object_probabilities(logits, none).masked_fill(~allowed, -1)
        batch = torch.arange(len(logits), device=logits.device)
        given = per_sample(self.label, len(logits), "class")
        wanted = torch.tensor([-1 if c is None else ClassLogit._index(c, logits, context) for c in given]).to(batch)
        if self.query is None:
            of_class = prob.gather(2, wanted.clamp(min=0)[:, None, None].expand(*prob.shape[:2], 1))[..., 0]
            query = torch.where(wanted[:, None] < 0, prob.amax(-1), of_class).argmax(-1)
        else:
            query = torch.full_like(batch, in_range(self.query, logits.shape[1], "query"))
        top = prob[batch, query].argmax(-1)
        label = torch.where(wanted < 0, top, wanted)
        pairs = zip(query.tolist(), label.tolist(), strict=True)
        words = tuple(f"query {q}, {context.name(c)}" for q, c in pairs)
        values = partial(_of_place, context, query, label)
        odds = ranked(logits[batch, query], label, partial(_object_name, context, none), exclusive=none is not None)
        return Chosen(values(output), words, top, values, odds)

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


@dataclass(frozen=True)
class NextToken(Target):
    """The logit of a token at one position of a decoder or a causal model, logits (batch, positions, vocabulary).

    Attributes:
        token: token id; None: the top token there. A sequence gives each sample its own.
        position: the position that predicts it, from 0; negative from the last real token (-1, the default). Of a model that
            labels tokens it is the token, see :class:`TokenLabel`; -1 is the one where the label is most probable.
        decode: token id → text, to name it.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> target = heedmap.targets.NextToken("red")
        >>> subject.explain(text="dog red ; cat blue ? cat", target=target).target
        ("token 34 ('red') after position 6",)
    """

    token: OneOrEach = None
    position: int = -1
    decode: Callable[[int], str] | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        if labels_tokens(logits, context):
            return TokenLabel(self.token, None if self.position == -1 else self.position).choose(output, context)
        position = self.position_in(logits, context)
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
        values = partial(_of_place, context, position, picked)
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

    def position_in(self, logits: Tensor, context: Context) -> Tensor:
        """The position of each sample, (batch,), from 0, in logits (batch, positions, vocabulary)."""
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
class TokenLabel(Target):
    """The logit of a label at one token (or frame of sound), from logits of shape (batch, tokens, labels).

    Of a model that labels tokens (names, parts of speech), or one that spells sound (CTC). Where no token is given, padding
    and special tokens ([CLS], [SEP]) are left out: those of ``attention_mask``, and of the tokenizer, ``special_tokens_mask``
    or the configuration, where these are there; a model called with tensors alone may have no way to tell [SEP].

    Attributes:
        label: label index or name; None: the most probable one at the token. A sequence gives each sample its own.
        token: number of the token, from 0; negative from the last real one; for a ``heedmap.Model`` also a word of the
            text, which is its first token. A sequence gives each sample its own. None: where the label is most probable;
            without a label the surest of those whose label is not "O" (background; for sound, the blank), and where all
            are "O" the most probable other label.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertForTokenClassification
        >>> model = BertForTokenClassification(BertConfig(hidden_size=24, num_hidden_layers=1, num_labels=3))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.TokenLabel(2, token=3)
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('class 2 at token 3',)
    """

    label: OneOrEach = None
    token: OneOrEach = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        batch, tokens, classes = logits.shape
        labels = [
            None if c is None else ClassLogit._index(c, logits, context) for c in per_sample(self.label, batch, "label")
        ]
        places = per_sample(self.token, batch, "token")
        real = real_places(context, batch, tokens)
        scores = logits.detach().float().cpu()
        probabilities = context.probabilities(scores)
        sound = spells_sound(logits, context)
        called = partial(letter, context) if sound else context.short
        told = ~background(context, classes, frames=sound)
        for i, sample in enumerate(probabilities):
            if places[i] is None:
                places[i] = _surest(sample, real[i], told, labels[i])
                labels[i] = int(sample[places[i]].masked_fill(~told, -1).argmax()) if labels[i] is None else labels[i]
            else:
                places[i] = self._place(places[i], real[i])
                labels[i] = int(sample[places[i]].argmax()) if labels[i] is None else labels[i]
        place, label = (torch.tensor(side, device=logits.device) for side in (places, labels))
        row = logits[torch.arange(batch, device=logits.device), place]
        top = row.detach().argmax(-1)
        words = tuple(
            f"{called(c)} at {place_name(context, i, p, p, tokens)}"
            for i, (c, p) in enumerate(zip(label.tolist(), places, strict=True))
        )
        values = partial(_of_place, context, place, label)
        odds = ranked(row, label, called, exclusive=context.exclusive)
        return Chosen(values(output), words, top, values, odds, tuple(map(called, top.tolist())))

    @staticmethod
    def _place(token: int | str, real: Tensor) -> int:
        if isinstance(token, str):
            raise TargetError(f"TokenLabel(token={token!r}): a word needs a heedmap.Model; give the token's number")
        if token >= 0:
            return in_range(token, len(real), "token")
        own = real.nonzero()[:, 0].tolist()
        return int(own[in_range(token, len(own), "token")])


def labelled(logits: Float[Tensor, "batch tokens labels"], context: Context) -> list[list[tuple[int, int, float]]]:
    """For each sample its real tokens whose top label is not "O": number, label, probability."""
    scores = logits.detach().float().cpu()
    best = context.probabilities(scores).max(-1)
    told = ~background(context, logits.shape[-1], frames=spells_sound(logits, context))
    there = real_places(context, *logits.shape[:2]) & told[best.indices]
    return [
        [(p, int(best.indices[i, p]), float(best.values[i, p])) for p in row.nonzero()[:, 0].tolist()]
        for i, row in enumerate(there)
    ]


def _surest(probabilities: Tensor, real: Tensor, told: Tensor, wanted: int | None) -> int:
    """The real place where label ``wanted`` is most probable; without it, the place surest of its own label among those of
    which that is ``told``, and where there are none, the place with the most probable label of these."""
    if wanted is not None:
        score = probabilities[:, wanted]
    else:
        score = probabilities.masked_fill(~told, -1).amax(-1)
        score = score + told[probabilities.argmax(-1)]
    return int(score.masked_fill(~real, -2).argmax())


@dataclass(frozen=True)
class AnswerSpan(Target):
    """The answer of extractive question answering: the start logit of its first token and the end logit of its last, summed.

    From ``start_logits`` and ``end_logits``, (batch, tokens). Without numbers it is the best span of each sample: start not
    after end, neither in padding nor on a special token (see :class:`TokenLabel`), and in the second text where
    ``token_type_ids`` tell the two apart.

    Attributes:
        start: number of the first token, from 0; None: the best.
        end: number of the last token; None: the best.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertForQuestionAnswering
        >>> model = BertForQuestionAnswering(BertConfig(hidden_size=24, num_hidden_layers=1))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.AnswerSpan(start=2, end=3)
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('answer at tokens 2 to 3',)
    """

    start: int | None = None
    end: int | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        starts, ends = _span_logits(context.read(output))
        batch, tokens = starts.shape
        real = self._allowed(context, batch, tokens)
        first, last = real.clone(), real.clone()
        for given, allowed in ((self.start, first), (self.end, last)):
            if given is not None:
                allowed[:] = torch.arange(tokens) == in_range(given, tokens, "token")
        sums = (starts.detach()[:, :, None] + ends.detach()[:, None]).float().cpu()
        valid = (first[:, :, None] & last[:, None]).triu()
        if not bool(valid.flatten(1).any(-1).all()):
            raise TargetError(f"no span from token {self.start} to {self.end}: give a start not after the end")
        best = sums.masked_fill(~valid, -torch.inf).flatten(1).argmax(-1)
        pairs = [(place // tokens, place % tokens) for place in best.tolist()]
        start, end = (torch.tensor(side, device=starts.device) for side in zip(*pairs, strict=True))
        words = tuple(f"answer at {place_name(context, i, *pair, tokens)}" for i, pair in enumerate(pairs))
        values = partial(_of_span, context, start, end)
        return Chosen(values(output), words, again=values)

    @staticmethod
    def _allowed(context: Context, batch: int, tokens: int) -> Tensor:
        real = real_places(context, batch, tokens)
        types = context.inputs.get("token_type_ids")
        if not isinstance(types, Tensor) or types.shape != (batch, tokens):
            return real
        second = real & (types.cpu() == 1)
        return torch.where(second.any(-1, keepdim=True), second, real)


def _span_logits(output: Any) -> tuple[Tensor, Tensor]:
    starts, ends = get(output, "start_logits"), get(output, "end_logits")
    if not (
        isinstance(starts, Tensor) and isinstance(ends, Tensor) and starts.shape == ends.shape and starts.dim() == 2
    ):
        raise TargetError("AnswerSpan needs start_logits and end_logits, (batch, tokens), in the output")
    return starts, ends


def _of_span(context: Context, start: Tensor, end: Tensor, output: Any) -> Tensor:
    starts, ends = _span_logits(context.read(output))
    return (starts.gather(1, start[:, None]) + ends.gather(1, end[:, None]))[:, 0]


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

    def choose(self, output: Any, context: Context) -> Chosen:
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

    def choose(self, output: Any, context: Context) -> Chosen:
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

    Pairs of a dual encoder: their similarity. Boxes: the most probable object. (batch, classes): the top class; of one
    class, the value itself. (batch, tokens, labels), as many as the model has labels: the surest label of a token that is
    not "O"; (batch, frames, vocabulary) of sound: the surest letter; other (batch, positions, vocabulary): the top token at
    the last real position. Start and end of an answer: the best span. (batch,): the value itself.

    Attributes:
        label: a class index, name or token id instead of the top one, for each sample its own where it is a tuple.
            ``target=3``, ``target="cat"`` and ``target=logits.argmax(-1)`` mean this.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("lxmert-shapes")
        >>> target = heedmap.targets.TopPrediction()
        >>> heedmap.load("zoo/lxmert-shapes").explain(**sample.inputs, target=target).target
        ('class 14 (pink)',)
    """

    label: OneOrEach = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        return self.kind(context.read(output), context).choose(output, context)

    def kind(self, output: Any, context: Context) -> Target:
        """The target that is meant for ``output``, read by :meth:`Context.read`."""
        pairs = get(output, "image_features") is not None and get(output, "text_features") is not None
        if self.label is None and (pairs or get(output, "logits_per_image") is not None):
            return Similarity()
        if get(output, "pred_boxes") is not None:
            return DetectionQuery(label=self.label)
        if self.label is None and get(output, "start_logits") is not None and get(output, "end_logits") is not None:
            return AnswerSpan()
        logits = class_logits(output, None)
        if self.label is None and (logits.dim() == 1 or is_value(logits, context)):
            return Value()
        if logits.dim() == 2:
            return ClassLogit(self.label)
        if logits.dim() == 3:
            labels = labels_tokens(logits, context) or spells_sound(logits, context)
            return TokenLabel(self.label) if labels else NextToken(self.label)
        raise TargetError(
            f"no class can be chosen from logits of shape {tuple(logits.shape)}; "
            "pass target=callable(output) -> (batch,) tensor"
        )


def as_target(target: Any) -> Target:
    """None, an int, a str, a tensor, array or tuple of these (one a sample), a Target or a callable as a Target."""
    target = plain(target)
    if isinstance(target, Target):
        return target
    if isinstance(target, bool):
        raise TargetError(f"target={target} is neither a class nor a callable")
    if target is None or isinstance(target, (int, str)):
        return TopPrediction(target)
    if isinstance(target, tuple) and target and all(one is None or isinstance(one, (int, str)) for one in target):
        return TopPrediction(target)
    if callable(target):
        return Function(target)
    raise TargetError(
        f"target is {'an empty' if target == () else 'a'} {type(target).__name__}; expected None, a class index, a label, "
        "a tensor or array of one index (or one for each sample), a heedmap.targets.Target, a callable(output) -> (batch,) "
        "tensor, or a list of these, which gives one explanation for each of its entries, not a target for each sample"
    )


def plain(target: Any) -> Any:
    """``target``; a tensor or numpy number of integers as an int, an array of one dimension as a tuple, one a sample."""
    if not isinstance(target, (Tensor, np.ndarray, np.generic)) or isinstance(target, (np.str_, np.bytes_)):
        return target
    array = target.detach().cpu().numpy() if isinstance(target, Tensor) and target.dtype != torch.bfloat16 else target
    if isinstance(array, Tensor) or array.ndim > 1 or not np.issubdtype(array.dtype, np.integer):
        raise TargetError(
            f"target is a {type(target).__name__} of {target.dtype} and shape {tuple(target.shape)}; expected class "
            "indices: one integer, or one for each sample, such as logits.argmax(-1)"
        )
    return int(array) if array.ndim == 0 else tuple(array.tolist())


def letter(context: Context, index: int) -> str:
    """The text of a token that sound is spelled with, where there is a tokenizer."""
    return context.short(index) if context.text is None else context.text([index])


def _object_name(context: Context, none: int | None, index: int) -> str:
    return "no object" if index == none else context.short(index)


def _of_class(context: Context, picked: Tensor, output: Any) -> Tensor:
    return class_logits(context.read(output), 2).gather(1, picked[:, None])[:, 0]


def _of_place(context: Context, place: Tensor, picked: Tensor, output: Any) -> Tensor:
    logits = class_logits(context.read(output), 3)
    return logits[torch.arange(len(logits), device=logits.device), place, picked]


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
