"""The paper's rules on the attention maps that a model itself returns: nothing of heedmap is used.

Eager attention, ``output_attentions=True``, autograd to the returned maps, dense matrices in float64, R − I carried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PARTS = ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions")


class NoOracle(Exception):
    """What the model returns does not say what its relevance is; the reason."""


@dataclass
class Expected:
    """Of one stream that the target reads: relevance of its tokens, and of those it asks (an encoder's), (batch, tokens).

    Attributes:
        heads: of the returned maps of self-attention, where there are no others.
    """

    own: Tensor
    asked: Tensor | None
    maps: int
    heads: frozenset[int] = frozenset()


def eager(model: nn.Module) -> nn.Module:
    """A copy under eager attention."""
    other = copy.deepcopy(model)
    if hasattr(other, "set_attn_implementation"):
        other.set_attn_implementation("eager")
    for module in other.modules():
        if hasattr(module, "fused_attn"):  # timm's
            module.fused_attn = False
    return other.requires_grad_(True)


def fused(model: nn.Module) -> bool:
    """Whether attention is not eager as it is."""
    chosen = getattr(getattr(model, "config", None), "_attn_implementation", "eager")
    return chosen not in ("eager", None) or any(getattr(m, "fused_attn", False) for m in model.modules())


def expected(
    model: nn.Module, inputs: Mapping[str, Any], target: Callable[[Any], Tensor], *, stops: bool = False
) -> list[Expected]:
    """What each stream should get that returns its maps; ``stops``: an encoder's tokens are taken as they are."""
    other = eager(model)
    torch.manual_seed(3)
    with torch.enable_grad():
        seen = Softmaxes()
        try:
            with seen:
                output = other(**inputs, output_attentions=True)
        except TypeError as error:
            raise NoOracle("the model does not return its attention") from error
        if not torch.allclose(target(output), target(other(**inputs)), rtol=1e-3, atol=1e-5):
            raise NoOracle("with its attention returned the model is another function")
        found = list(groups(output))
        for group in found if stops else ():
            group.pop("encoder_attentions", None)
        if not found:
            raise NoOracle("the model does not return its attention")
        score = target(output).sum()
        flat = [a for group in found for maps in group.values() for a in maps]
        if any(seen.times(a) > sum(torch.equal(a, b) for b in flat if a.shape == b.shape) for a in flat):
            raise NoOracle("a map is computed twice, and returned once: its gradient is a part")
        grads = iter(torch.autograd.grad(score, flat, allow_unused=True))
    paired = [{k: [(a, next(grads)) for a in maps] for k, maps in group.items()} for group in found]
    return [of_group(group) for group in paired if any(g is not None for pairs in group.values() for _, g in pairs)]


class Softmaxes(TorchFunctionMode):
    """Keeps what each softmax of four axes gave: a model may compute one map twice, for parts of the values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax" and result.dim() == 4:
            self.found.append(result.detach())
        return result

    def times(self, attention: Tensor) -> int:
        """How often this map was computed."""
        return sum(a.shape == attention.shape and torch.equal(a.to(attention.dtype), attention) for a in self.found)


def groups(output: Any) -> Iterator[dict[str, tuple[Tensor, ...]]]:
    """The attention maps in an output and in the outputs within it."""
    own = {k: output[k] for k in PARTS if hasattr(output, "keys") and k in output and maps_of(output[k])}
    if own:
        yield own
    elif hasattr(output, "values"):
        for value in output.values():
            if hasattr(value, "keys"):
                yield from groups(value)


def maps_of(value: Any) -> bool:
    """Whether this is a list of attention maps (batch, heads, queries, keys) with a gradient."""
    if not isinstance(value, (tuple, list)) or not value:
        return False
    return all(isinstance(a, Tensor) and a.dim() == 4 and a.requires_grad for a in value)


def of_group(group: Mapping[str, list[tuple[Tensor, Tensor | None]]]) -> Expected:
    """The rules on one group of maps with their gradients."""
    for attention, gradient in (pair for pairs in group.values() for pair in pairs):
        if gradient is None:
            raise NoOracle("a returned map is not on the way to the target")
        if attention.min() < 0 or attention.sum(-1).max() > 1 + 1e-3:  # less than 1: a sink took the rest
            raise NoOracle("what the model returns are no probabilities")
    cams = {k: [average(a, g) for a, g in pairs] for k, pairs in group.items()}
    last = {k: pairs[-1][1] for k, pairs in group.items()}
    if set(group) == {"attentions"}:
        square(cams["attentions"])
        own = read(chained(cams["attentions"]), rows(last["attentions"]), True)
        heads = frozenset(attention.shape[1] for attention, _ in group["attentions"])
        return Expected(own, None, len(cams["attentions"]), heads)
    if set(group) - {"encoder_attentions"} == {"decoder_attentions", "cross_attentions"}:
        return of_two(cams, rows(last["cross_attentions"]))
    raise NoOracle(f"only {', '.join(group)} are returned")


def square(cams: list[Tensor]) -> None:
    """NoOracle where the maps are not all of one square size."""
    if len({tuple(c.shape) for c in cams}) > 1 or cams[0].shape[1] != cams[0].shape[2]:
        raise NoOracle("the returned maps are not square, or of several sizes")


def average(attention: Tensor, gradient: Tensor | None) -> Tensor:
    """Rule 5, (batch, queries, keys): the mean over heads of the positive part of A ∘ ∂y/∂A."""
    assert gradient is not None
    return (attention.detach().double() * gradient.double()).clamp(min=0).mean(1)


def chained(cams: list[Tensor]) -> Tensor:
    """R − I of self-attention: R += Ā R."""
    rest = torch.zeros_like(cams[0])
    for cam in cams:
        rest = rest + cam + cam @ rest
    return rest


def of_two(cams: Mapping[str, list[Tensor]], weights: Tensor) -> Expected:
    """A decoder, and an encoder where that is followed: rules 6 to 11."""
    encoder, decoder, cross = (cams.get(f"{k}_attentions", []) for k in ("encoder", "decoder", "cross"))
    square(decoder)
    if len(decoder) != len(cross):
        raise NoOracle("not every layer of the decoder asks the encoder")
    encoded = torch.eye(cross[0].shape[2], dtype=cross[0].dtype)
    if encoder:
        square(encoder)
        encoded = mean_of_rows(chained(encoder))
    own = torch.zeros_like(decoder[0])
    asked = torch.zeros_like(cross[0])
    for self_cam, cross_cam in zip(decoder, cross, strict=True):
        asked = asked + self_cam @ asked
        own = own + self_cam + self_cam @ own
        asked = asked + mean_of_rows(own).mT @ cross_cam @ encoded
    return Expected(read(own, weights, True), read(asked, weights, False), len(encoder) + 2 * len(decoder))


def mean_of_rows(rest: Tensor) -> Tensor:
    """R̄ of R − I, rules 8 and 9; a row of zeros stays zero."""
    sums = rest.sum(-1, keepdim=True)
    return rest / torch.where(sums == 0, 1, sums) + torch.eye(rest.shape[-1], dtype=rest.dtype)


def rows(gradient: Tensor | None) -> Tensor:
    """Which rows the target reads: those with a gradient in the last map, each with the same weight."""
    assert gradient is not None
    found = (gradient != 0).any(-1).any(1).double()
    if not bool(found.any(1).all()):
        raise NoOracle("the last map has no gradient")
    return found / found.sum(1, keepdim=True)


def read(rest: Tensor, weights: Tensor, drop_self: bool) -> Tensor:
    """The rows that are read; where it is a single one, its own entry is 0."""
    if drop_self:
        single = (weights > 0).sum(1) == 1
        identity = torch.eye(rest.shape[-1], dtype=rest.dtype)
        whole = rest + identity
        values = (weights[:, None] @ whole)[:, 0]
        return torch.where(single[:, None] & (weights > 0), 0, values)
    return (weights[:, None] @ rest)[:, 0]
