"""What ``target=`` takes: which target is meant where it names none, one score less another, and what stands for several.

What is meant is told by the output, never by a model's name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import (
    INFERRED,
    Context,
    class_logits,
    get,
    is_value,
    labels_tokens,
    of_shape,
    real_places,
    spells_sound,
)
from heedmap.targets.classes import (
    ClassLogit,
    DetectionQuery,
    Forecast,
    Function,
    Similarity,
    Value,
    at_place,
    class_index,
    of_class,
    to_come,
)
from heedmap.targets.pictures import Depth, PromptMask, Region, is_map
from heedmap.targets.target import Chosen, OneOrEach, Target, again_of, at, in_range, per_sample
from heedmap.targets.words import AnswerSpan, NextToken, TokenLabel

AnyTarget: TypeAlias = (
    Target | int | str | tuple[int | str | None, ...] | Tensor | np.ndarray | np.generic | Callable[..., Tensor] | None
)
"""What ``target=`` takes; :func:`as_target` makes a :class:`Target` of it."""
Meant = TypeVar("Meant")


@dataclass(frozen=True)
class TopPrediction(Target):
    """Each sample's own top prediction, of whatever kind the output is. ``target=None`` means this.

    Pairs of a dual encoder: their similarity. Boxes: the most probable object. (batch, classes): the top class; of one
    class, the value itself. (batch, tokens, labels), as many as the model has labels: the surest label of a token that is
    not "O"; (batch, frames, vocabulary) of sound: the surest letter; other (batch, positions, vocabulary): the top token at
    the last real position. Start and end of an answer: the best span. (batch,): the value itself. (batch, classes, h, w),
    and queries with masks: the class that is the top one at most pixels, over these (:class:`Region`); one map (batch, h, w)
    of the picture: where it is above 0. Masks of prompts: the best one of the first prompt. Depth: its mean. Values to come
    of a time series: the first.

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

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        return self.kind(context.read(output), context).choose(output, context)

    def kind(self, output: object, context: Context) -> Target:
        """The target that is meant for ``output``, read by :meth:`Context.read`."""
        pairs = get(output, "image_features") is not None and get(output, "text_features") is not None
        if self.label is None and (pairs or get(output, "logits_per_image") is not None):
            return Similarity()
        if get(output, "pred_boxes") is not None:
            return DetectionQuery(label=self.label)
        if self.label is None and get(output, "start_logits") is not None and get(output, "end_logits") is not None:
            return AnswerSpan()
        numbers = self._numbers(output)
        if numbers is not None:
            return numbers
        if get(output, "masks_queries_logits") is not None:
            return Region(self.label)
        logits = class_logits(output, None)
        if is_map(logits, context):
            return Region(self.label)
        if self.label is None and (logits.dim() == 1 or is_value(logits, context)):
            return Value()
        if logits.dim() == 2:
            return ClassLogit(self.label)
        if logits.dim() == 3:
            labels = labels_tokens(logits, context) or spells_sound(logits, context)
            return TokenLabel(self.label) if labels else NextToken(self.label)
        if logits.dim() == 4:
            return Region(self.label)
        raise TargetError(
            f"no class can be chosen from logits of shape {tuple(logits.shape)}; "
            "pass target=callable(output) -> (batch,) tensor"
        )

    def _numbers(self, output: object) -> Target | None:
        """The target of an output that has no classes: masks of prompts, depth, values to come."""
        masks = get(output, "pred_masks")
        if isinstance(masks, Tensor) and masks.dim() == 5:
            return self._without_label("masks of prompts", PromptMask())
        if get(output, "predicted_depth") is not None:
            return self._without_label("depth", Depth())
        if to_come(output) is not None:
            return self._without_label("values of a time series", Forecast())
        return None

    def _without_label(self, what: str, target: Target) -> Target:
        if self.label is not None:
            raise TargetError(
                f"the target is {self.label!r}, and the model gives {what}, no classes; give target=None or "
                f"heedmap.targets.{type(target).__name__}(…)"
            )
        return target


def as_target(target: object) -> Target:
    """None, an int, a str, a tensor, array or tuple of these (one a sample), a Target or a callable as a Target."""
    target = plain(target)
    if isinstance(target, Target):
        return target
    if isinstance(target, bool):
        raise TargetError(f"target={target} is neither a class nor a callable")
    if target is None or isinstance(target, (int, str)):
        return TopPrediction(target)
    if isinstance(target, tuple) and target and all(entry is None or isinstance(entry, (int, str)) for entry in target):
        return TopPrediction(target)
    if callable(target):
        return Function(target)
    raise TargetError(
        f"target is {'an empty' if target == () else 'a'} {type(target).__name__}; expected None, a class index, a label, "
        "a tensor or array of one index (or one for each sample), a heedmap.targets.Target, a callable(output) -> (batch,) "
        "tensor, or a list of these, which gives one explanation for each of its entries, not a target for each sample"
    )


def plain(target: Meant) -> Meant | int | tuple[int, ...]:
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


@dataclass(frozen=True)
class Contrast(Target):
    """One score less another: why ``first`` and not ``second``. Maps of differences show what speaks for one of them alone.

    Attributes:
        first: what :func:`heedmap.explain` takes as a target; None: the top prediction.
        second: the same; a class, label or token alone is meant where ``first`` is: at its box, or at its place of the text.
            None: the runner-up there, the highest other score.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> target = heedmap.targets.Contrast("pink", "red")
        >>> heedmap.load("zoo/vit-shapes").explain(image=photo, target=target).target
        ('class 14 (pink) rather than class 7 (red)',)
    """

    first: AnyTarget = None
    second: AnyTarget = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`.

        Raises:
            TargetError: there is no runner-up, or a class alone is no answer beside ``first``.
        """
        first = as_target(self.first)
        if isinstance(first, TopPrediction):
            first = first.kind(context.read(output), context)
        chosen = first.choose(output, context)
        second = None if self.second is None else as_target(self.second)
        if second is None or isinstance(second, TopPrediction):
            words, less = _beside(first, None if second is None else second.label, output, context)
        else:
            other = second.choose(output, context)
            words, less = other.words, again_of(second, other, context)
        told = tuple(f"{a} rather than {b}" for a, b in zip(chosen.words, words, strict=True))
        difference = partial(_difference, again_of(first, chosen, context), less)
        return replace(chosen, values=difference(output), words=told, again=difference)


def _difference(first: Callable[[object], Tensor], second: Callable[[object], Tensor], output: object) -> Tensor:
    return first(output) - second(output)


def _beside(
    first: Target, label: OneOrEach, output: object, context: Context
) -> tuple[tuple[str, ...], Callable[[object], Tensor]]:
    """Another class where ``first`` is: its name for each sample, and how to read its logits."""
    logits = class_logits(context.read(output), None)
    if isinstance(first, ClassLogit):
        others = _others(logits, label, first.label, context, class_index)
        return tuple(map(context.name, others.tolist())), partial(of_class, context, others)
    if isinstance(first, DetectionQuery):
        query, own, _ = first.objects(logits, context)
        row = _without(first.without_object(logits, context), at(logits.detach(), query))
        others = _others(row, label, own, context, class_index)
        return tuple(map(context.name, others.tolist())), partial(at_place, context, query, others)
    if isinstance(first, NextToken):
        position = first.position_in(logits, context)
        others = _others(at(logits.detach(), position), label, first.token, context, _token_index)
        names = tuple(f"token {first.token_name(i)}" for i in others.tolist())
        return names, partial(at_place, context, position, others)
    raise TargetError(
        f"a class alone is no second score beside {type(first).__name__}; give Contrast two heedmap.targets"
    )


def _without(index: int | None, row: Tensor) -> Tensor:
    """The scores, of which one is no answer."""
    return row if index is None else row.index_fill(-1, torch.tensor([index], device=row.device), -torch.inf)


def _others(
    row: Float[Tensor, "batch classes"],
    label: OneOrEach,
    own: OneOrEach | Tensor,
    context: Context,
    index: Callable[[int | str, int, Context], int],
) -> Int[Tensor, " batch"]:
    """The classes called ``label``; without one those with the highest score but for ``own`` (None: for the highest)."""

    def indices(labels: OneOrEach) -> list[int | None]:
        return [None if i is None else index(i, row.shape[-1], context) for i in per_sample(labels, len(row), "class")]

    row = row.detach()
    if label is not None:
        wanted = [-1 if i is None else i for i in indices(label)]
        return torch.tensor(wanted, device=row.device)
    if row.shape[-1] < 2:
        raise TargetError("there is no other class, so no runner-up; name what the answer is set against")
    known = own.tolist() if isinstance(own, Tensor) else indices(own)
    picked = [int(top) if i is None else i for i, top in zip(known, row.argmax(-1), strict=True)]
    return row.scatter(1, torch.tensor(picked, device=row.device)[:, None], -torch.inf).argmax(-1)


def _token_index(token: int | str, tokens: int, context: Context) -> int:
    if isinstance(token, str):
        raise TargetError(f"Contrast takes token ids, not {token!r}; ask the tokenizer for the id of this text")
    return in_range(token, tokens, "token")


class Several(Target):
    """A target that stands for several: :func:`heedmap.explain` gives an explanation of each, as for a list of them.

    Examples:
        >>> import heedmap
        >>> isinstance(heedmap.targets.TopClasses(3), heedmap.targets.Several)
        True
    """

    @abstractmethod
    def each(self, output: object, context: Context) -> list[Target]:
        """The targets that are meant, of what the model answers."""

    def choose(self, output: object, context: Context) -> Chosen:
        """TargetError: it is not one target."""
        raise TargetError(
            f"{type(self).__name__} stands for several targets, and one is asked for here; give one of them"
        )


@dataclass(frozen=True)
class EveryQuery(Several):
    """Every object query of a detector, with its top class.

    Attributes:
        no_object: as for :class:`DetectionQuery`.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("detr-shapes").picture
        >>> found = heedmap.load("zoo/detr-shapes").explain(image=photo, target=heedmap.targets.EveryQuery())
        >>> len(found), found[8].target
        (12, ('query 8, class 5 (heart)',))
    """

    no_object: int | str | None = INFERRED

    def each(self, output: object, context: Context) -> list[Target]:
        """See :meth:`Several.each`."""
        logits = class_logits(context.read(output), 3)
        return [DetectionQuery(query, no_object=self.no_object) for query in range(logits.shape[1])]


@dataclass(frozen=True)
class TopClasses(Several):
    """The most probable classes of each sample, the most probable first, of logits (batch, classes).

    Attributes:
        count: how many; of a model with fewer classes all.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> found = heedmap.load("zoo/vit-shapes").explain(image=photo, target=heedmap.targets.TopClasses(2))
        >>> [explanation.target for explanation in found]
        [('class 14 (pink)',), ('class 6 (ring)',)]
    """

    count: int = 5

    def each(self, output: object, context: Context) -> list[Target]:
        """See :meth:`Several.each`."""
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise TargetError(f"TopClasses({self.count!r}): expected how many classes, 1 or more")
        logits = class_logits(context.read(output), 2)
        best = logits.detach().topk(min(self.count, logits.shape[-1]), -1).indices
        return [ClassLogit(tuple(of_rank)) for of_rank in best.T.tolist()]


@dataclass(frozen=True)
class EveryPosition(Several):
    """The top token, or the top label, at every position of a text that is one in every sample: padding is left out.

    Examples:
        >>> import heedmap
        >>> found = heedmap.load("zoo/gpt-lists").explain(text="dog red ? dog", target=heedmap.targets.EveryPosition())
        >>> len(found), found[3].target
        (4, ("token 34 ('red') after position 3",))
    """

    def each(self, output: object, context: Context) -> list[Target]:
        """See :meth:`Several.each`."""
        logits = class_logits(context.read(output), 3)
        if labels_tokens(logits, context) or spells_sound(logits, context):
            real = real_places(context, *logits.shape[:2]).all(0)
            return [TokenLabel(token=place) for place in real.nonzero()[:, 0].tolist()]
        decoder = context.inputs.get("decoder_input_ids") is not None
        name = "decoder_attention_mask" if decoder else "attention_mask"
        mask = of_shape(context.inputs, name, *logits.shape[:2])
        places = range(logits.shape[1]) if mask is None else (mask != 0).all(0).nonzero()[:, 0].tolist()
        return [NextToken(position=place) for place in places]
