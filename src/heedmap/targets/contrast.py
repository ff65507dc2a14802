"""Why this and not that: the difference of two scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import Context, class_logits
from heedmap.targets.classes import ClassLogit, DetectionQuery, at_place, class_index, of_class
from heedmap.targets.meant import AnyTarget, TopPrediction, as_target
from heedmap.targets.target import Chosen, OneOrEach, Target, again_of, in_range, per_sample
from heedmap.targets.words import NextToken


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
        row = _without(first.without_object(logits, context), _at(logits, query))
        others = _others(row, label, own, context, class_index)
        return tuple(map(context.name, others.tolist())), partial(at_place, context, query, others)
    if isinstance(first, NextToken):
        position = first.position_in(logits, context)
        others = _others(_at(logits, position), label, first.token, context, _token)
        names = tuple(f"token {first.token_name(i)}" for i in others.tolist())
        return names, partial(at_place, context, position, others)
    raise TargetError(
        f"a class alone is no second score beside {type(first).__name__}; give Contrast two heedmap.targets"
    )


def _at(logits: Tensor, place: Tensor) -> Tensor:
    return logits[torch.arange(len(logits), device=logits.device), place].detach()


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


def _token(token: int | str, tokens: int, context: Context) -> int:
    if isinstance(token, str):
        raise TargetError(f"Contrast takes token ids, not {token!r}; ask the tokenizer for the id of this text")
    return in_range(token, tokens, "token")
