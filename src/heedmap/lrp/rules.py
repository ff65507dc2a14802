"""Named rule sets: which rule an operation has, for the authors' three versions of LRP and for AttnLRP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heedmap.lrp.functions import (
    ConservingSum,
    DeepTaylorSoftmax,
    Identity,
    Operation,
    Proportional,
    Samples,
    ZBox,
    ZPlus,
    plus_tiny,
    stabilised,
)

PIXEL_CHANNELS = 4
"""A convolution of at most so many channels reads pixels."""


@dataclass(frozen=True)
class RuleSet:
    """One rule for each kind of operation.

    Attributes:
        name: as the option ``rules`` has it.
        source: where the rules are from.
        linear: ``"zplus"``, ``"zplus_apart"``, ``"zplus_conserving"`` or ``"epsilon"``.
        pixels: of a convolution that reads pixels: ``"zbox"``, or as ``linear``.
        sums: ``"conserving"`` or ``"proportional"``.
        softmax: ``"identity"`` or ``"taylor"``.
        norms: of norms that centre or add a bias: ``"identity"``, or ``"epsilon"`` with the deviation held constant.
        starts_with_value: whether the target's value is what is handed down; else 1.
        clones: whether a tensor that several operations read gets x · (R / (x + ε)), R the sum of what they hand down,
            as the authors' layer for copies has it; else R.
    """

    name: str
    source: str
    linear: str
    pixels: str
    sums: str
    softmax: str
    norms: str = "identity"
    starts_with_value: bool = False
    clones: bool = True

    @property
    def divide(self) -> Callable[[Tensor, Tensor], Tensor]:
        """How it keeps quotients finite."""
        return stabilised if self.linear == "epsilon" else plus_tiny


CHEFER = "Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838"

RULES = {
    rules.name: rules
    for rules in (
        RuleSet("chefer", f"{CHEFER}: z⁺, conserving sums", "zplus", "zbox", "conserving", "identity"),
        RuleSet("chefer_orig", f"{CHEFER}, its LRP baselines", "zplus_apart", "zbox", "proportional", "identity"),
        RuleSet("chefer_detr", f"{CHEFER}, as used on DETR", "zplus_conserving", "zbox", "conserving", "identity"),
        RuleSet(
            "attn_lrp",
            "Achtibat et al., ICML 2024, arXiv 2402.05602: ε-rule, uniform products, softmax by Taylor",
            "epsilon",
            "epsilon",
            "proportional",
            "taylor",
            "epsilon",
            starts_with_value=True,
            clones=False,
        ),
    )
}
"""Rule sets by name."""


@dataclass(frozen=True)
class Rules:
    """The rules of a set on tensors; every method gives the operation's own result.

    Attributes:
        set: which rules.
        samples: how the sums of each sample are taken.
        share_constants: whether what is added and carries no relevance (position embeddings) takes a share of it.
        copies: whether rules keep copies of what they need in the backward pass, because the model overwrites it in place.
    """

    set: RuleSet
    samples: Samples
    share_constants: bool = False
    copies: bool = False

    def _saved(self, x: Tensor) -> Tensor:
        return x.clone() if self.copies else x

    def read_again(self, x: Tensor) -> None:
        """Another operation reads ``x``."""
        if not self.set.clones:
            return
        value = self._saved(x.detach())
        version = value._version

        def copied(relevance: Tensor) -> Tensor:
            if value._version != version:
                raise RuntimeError("a tensor that several operations read was modified by an in-place operation")
            return value * plus_tiny(relevance, value)

        x.register_hook(copied)

    def passed(self, x: Tensor, operation: Operation) -> Tensor:
        """An operation on one tensor that is no more than a nonlinearity, a norm, a factor or a mask."""
        return Identity.apply(operation, 1.0, x)

    def activated(self, function: Callable[..., Any], x: Tensor, operation: Operation) -> Tensor:
        """A function of torch on one tensor, an activation or a norm: as :meth:`passed`, whichever it is."""
        return self.passed(x, operation)

    def norm(self, x: Tensor, operation: Operation, frozen: Operation) -> Tensor:
        """A norm over tokens' features; ``frozen`` is the same with its deviation held constant, linear but for its bias."""
        if self.set.norms == "identity":
            return self.passed(x, operation)
        return Proportional.apply(frozen, self.set.divide, 1.0, self._saved(x))

    def linear(
        self, x: Tensor, weight: Tensor, operation: Operation, linear: Operation, pixels: bool = False
    ) -> Tensor:
        """A linear map; ``linear`` (x, weight) is the same without bias."""
        x, kind = self._saved(x), self.set.pixels if pixels else self.set.linear
        if kind == "zbox":
            return ZBox.apply(x, weight, operation, linear)
        if kind == "epsilon":
            return Proportional.apply(operation, self.set.divide, 1.0, x)
        samples = self.samples if kind == "zplus_conserving" else None
        return ZPlus.apply(x, weight, operation, linear, samples, kind == "zplus_apart")

    def product(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product of two tensors that both carry relevance, or of attention and its values."""
        return Proportional.apply(operation, self.set.divide, 0.5, self._saved(a), self._saved(b))

    def reduced(self, x: Tensor, operation: Operation) -> Tensor:
        """A linear operation of one tensor: sums, means, averages, interpolation."""
        return Proportional.apply(operation, self.set.divide, 1.0, self._saved(x))

    def sum(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a ± b, element by element, broadcast."""
        if not (a.requires_grad and b.requires_grad) and not self._shares(a, b):
            return self._with_constant(operation, a, b)
        a, b = self._saved(a), self._saved(b)
        if self.set.sums == "conserving":
            return ConservingSum.apply(operation, self.samples, a, b)
        return Proportional.apply(operation, self.set.divide, 1.0, a, b)

    def _shares(self, *tensors: Tensor) -> bool:
        """Whether a constant among them takes its share: no mask, and in z⁺ sets no bias."""
        least = 1 if self.set.linear == "epsilon" else 2
        return self.share_constants and all(t.dim() >= least and bool(t.isfinite().all()) for t in tensors)

    def factor(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a · b, element by element, broadcast: half to each, or all to the one that carries relevance."""
        if not (a.requires_grad and b.requires_grad):
            return self._with_constant(operation, a, b)
        return Identity.apply(operation, 0.5, a, b)

    def softmax(self, x: Tensor, operation: Operation, axis: int) -> Tensor:
        """A softmax over ``axis``."""
        if self.set.softmax == "taylor":
            return self._saved(DeepTaylorSoftmax.apply(self._saved(x), operation, axis))
        return self.passed(x, operation)

    def _with_constant(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        if a.requires_grad:
            return self.passed(a, lambda t: operation(t, b))
        return self.passed(b, lambda t: operation(a, t))
