"""The paper's rules on transformers' Deformable DETR, in float64, with attention over sampled points as dense matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from oracles import rules
from oracles.rules import Matrix


@dataclass(frozen=True)
class Sampled:
    """One call of attention over sampled points.

    Attributes:
        weights: W, (batch, heads, queries, tokens), the levels one after another; W v is the output.
        value: v, (batch, heads, tokens, features).
        out: what the module gave, (batch, queries, heads · features).
    """

    weights: Tensor
    value: Tensor
    out: Tensor

    def per_head(self, rows: Tensor) -> Tensor:
        """(batch, queries, heads · features) as (batch, heads, queries, features)."""
        return rows.unflatten(2, (self.value.shape[1], -1)).transpose(1, 2)

    def cam(self, gradient: Tensor) -> Tensor:
        """Ā, the mean over heads of (W ⊙ ∂y/∂o vᵀ)⁺."""
        return (self.weights * (self.per_head(gradient) @ self.value.mT)).clamp(min=0).mean(1)


class SampledMaps(NamedTuple):
    """R of one sample at the end: of the queries to the image's tokens, and to themselves."""

    R_qi: Matrix
    R_qq: Matrix


@dataclass
class Seen:
    """What a run of the model shows, in order of execution."""

    encoder: list[Sampled] = field(default_factory=list)
    decoder: list[Tensor] = field(default_factory=list)
    cross: list[Sampled] = field(default_factory=list)


def dense(sizes: Sequence[tuple[int, int]], at: Iterable[Tensor], weight: Iterable[Tensor]) -> Tensor:
    """W: each point's weight, over the tokens around it.

    A point is at x · width − ½, so the middle of a token is at its number; a token has a share of max(0, 1 − distance) in
    each axis. What lies outside has no token.

    Args:
        sizes: (height, width) of each level.
        at: where, of each level, (batch, queries, heads, points, 2), from 0 to 1, x first.
        weight: of each level, (batch, queries, heads, points).
    """
    found = []
    for (height, width), places, weights in zip(sizes, at, weight, strict=True):
        x, y = (places[..., axis] * size - 0.5 for axis, size in ((0, width), (1, height)))
        shares = [
            (1 - (place[..., None] - torch.arange(size)).abs()).clamp(min=0)
            for place, size in ((y, height), (x, width))
        ]
        found.append(torch.einsum("bqhp,bqhpr,bqhpc->bhqrc", weights, *shares).flatten(3))
    return torch.cat(found, 3).detach()


def seen(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Seen, Any]:
    """A run of the model, with eager attention."""
    found, hooks = Seen(), []

    def sampling(calls: list[Sampled]) -> Callable:
        def hook(module: nn.Module, given: tuple, out: Tensor) -> None:
            value, _, sizes, _, at, weight = given[:6]
            calls.append(Sampled(dense(sizes, at.unbind(3), weight.unbind(3)), value.detach().transpose(1, 2), out))

        return hook

    for layer in model.model.encoder.layers:
        hooks.append(layer.self_attn.attn.register_forward_hook(sampling(found.encoder)))
    for layer in model.model.decoder.layers:
        hooks.append(layer.self_attn.register_forward_hook(lambda module, given, out: found.decoder.append(out[1])))
        hooks.append(layer.encoder_attn.attn.register_forward_hook(sampling(found.cross)))
    try:
        with torch.enable_grad():
            return found, model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()


def deformable_detr(
    model: nn.Module, inputs: Mapping[str, Tensor], target: Callable[[Any], Tensor]
) -> list[SampledMaps]:
    """R of each sample; ``model`` is a DeformableDetrForObjectDetection in float64 with eager attention."""
    found, output = seen(model, inputs)
    sampled = [*found.encoder, *found.cross]
    gradients = torch.autograd.grad(target(output).sum(), [*(s.out for s in sampled), *found.decoder])
    cams = [s.cam(g).numpy() for s, g in zip(sampled, gradients, strict=False)]
    layers, batch = len(found.encoder), len(output.logits)
    asked = list(zip(found.decoder, gradients[len(sampled) :], strict=True))
    return [
        _rules(
            [cam[n] for cam in cams[:layers]],
            [rules.average_heads(A[n].detach().numpy(), g[n].numpy()) for A, g in asked],
            [cam[n] for cam in cams[layers:]],
        )
        for n in range(batch)
    ]


def _rules(encoder: list[Matrix], decoder: list[Matrix], cross: list[Matrix]) -> SampledMaps:
    R_ii, R_qq, R_qi = np.eye(len(encoder[0])), np.eye(len(decoder[0])), np.zeros_like(cross[0])
    for cam in encoder:
        R_ii = R_ii + cam @ R_ii
    for cam_qq, cam_qi in zip(decoder, cross, strict=True):
        R_qq, R_qi = R_qq + cam_qq @ R_qq, R_qi + cam_qq @ R_qi
        R_qi = R_qi + _rule_10(cam_qi, R_qq, R_ii)
    return SampledMaps(R_qi, R_qq)


def _rule_10(cam: Matrix, R_ss: Matrix, R_qq: Matrix) -> Matrix:
    """Eq. 10 as products of matrices: entry by entry it takes minutes at this many tokens."""
    return rules.normalize(R_ss).T @ cam @ rules.normalize(R_qq)
