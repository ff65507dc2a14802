"""What ``target=`` takes, and which target is meant where it names none: told by the output, never by a model's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import Context, class_logits, get, is_value, labels_tokens, spells_sound
from heedmap.targets.classes import ClassLogit, DetectionQuery, Function, Similarity, Value
from heedmap.targets.maps import is_map
from heedmap.targets.pictures import Depth, PromptMask, Region
from heedmap.targets.series import Forecast, to_come
from heedmap.targets.target import Chosen, OneOrEach, Target
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
