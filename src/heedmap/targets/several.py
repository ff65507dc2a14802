"""Targets that stand for several: every query of a detector, the top classes, every position of a text."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import INFERRED, Context, class_logits, labels_tokens, real_places, spells_sound
from heedmap.targets.classes import ClassLogit, DetectionQuery
from heedmap.targets.target import Chosen, Target
from heedmap.targets.words import NextToken, TokenLabel


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
        return [NextToken(position=place) for place in self._real(logits, context)]

    @staticmethod
    def _real(logits: Tensor, context: Context) -> list[int]:
        decoder = context.inputs.get("decoder_input_ids") is not None
        mask = context.inputs.get("decoder_attention_mask" if decoder else "attention_mask")
        if not isinstance(mask, Tensor) or mask.shape != logits.shape[:2]:
            return list(range(logits.shape[1]))
        return (mask != 0).all(0).nonzero()[:, 0].tolist()
