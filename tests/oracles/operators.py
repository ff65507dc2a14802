"""Relevance over operators in order of execution, as dense matrices in float64, (batch, rows, columns).

Each operator says what becomes of R: R ← (M R or R) + Ā K R, with M or K where tokens were made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One operator on a stream.

    Attributes:
        cam: Ā, of an update; None: there is none.
        base: M, what the rows are made of; None: they stay the tokens that they are (a residual connection).
        keys: K, what the tokens that are asked are made of; None: they are the stream's own.
        joined: new tokens before the others, without a past.
    """

    cam: Tensor | None = None
    base: Tensor | None = None
    keys: Tensor | None = None
    joined: int = 0


def chained(steps: Sequence[Step], batch: int, tokens: int) -> Tensor:
    """R after all steps; columns: the tokens that joined last come first, then ``tokens``."""
    R = torch.eye(tokens, dtype=torch.float64).expand(batch, -1, -1)
    for step in steps:
        if step.joined:
            R = beside(step.joined, R)
        rows = R if step.base is None else step.base @ R
        if step.cam is not None:
            rows = rows + step.cam @ (R if step.keys is None else step.keys @ R)
        R = rows
    return R


def beside(count: int, matrix: Tensor) -> Tensor:
    """The matrix with an identity of ``count`` tokens before it, in rows and in columns."""
    batch, rows, columns = matrix.shape
    found = torch.zeros(batch, count + rows, count + columns, dtype=matrix.dtype)
    found[:, range(count), range(count)] = 1
    found[:, count:, count:] = matrix
    return found


def read(R: Tensor, row: int | None, own: int | None = None) -> Tensor:
    """The row that is read, without its own entry; None: the mean of all."""
    if row is None:
        return R.mean(1)
    values = R[:, row].clone()
    if own is not None:
        values[:, own] = 0
    return values


def normalised(cam: Tensor, reach: Tensor) -> Tensor:
    """M: each row over its sum; a row of zeros is uniform over what ``reach``, (rows, columns), says goes into it."""
    sums = cam.sum(-1, keepdim=True)
    even = reach.double() / reach.sum(-1, keepdim=True)
    return torch.where(sums == 0, even, cam / torch.where(sums == 0, 1, sums))


def blocks(A: Tensor, gradient: Tensor, queries: Tensor, keys: Tensor, rows: int, columns: int) -> Tensor:
    """Ā of attention in blocks.

    Args:
        A: (batch · blocks, heads, q, k).
        gradient: ∂y/∂A.
        queries: (blocks, q): the token of each row; -1: padding.
        keys: (blocks, k).
        rows: tokens that ask.
        columns: tokens that are asked.
    """
    count = len(queries)
    local = (A * gradient).clamp(min=0).mean(1).detach().double().unflatten(0, (-1, count))
    asks, asked = queries[:, :, None], keys[:, None]
    places = torch.where((asks >= 0) & (asked >= 0), asks * columns + asked, rows * columns).flatten()
    found = torch.zeros(len(local), rows * columns + 1, dtype=torch.float64)
    return found.index_add(1, places, local.flatten(1))[:, :-1].unflatten(1, (rows, columns))


def whole(A: Tensor, gradient: Tensor) -> Tensor:
    """Ā of attention over all tokens at once."""
    queries, keys = torch.arange(A.shape[-2])[None], torch.arange(A.shape[-1])[None]
    return blocks(A, gradient, queries, keys, A.shape[-2], A.shape[-1])


def linear(mix: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor, groups: int = 1) -> Tensor:
    """Ā of what is linear in tokens but for constants: token j alone goes in, the rest is 0.

    Args:
        mix: (batch, channels, \\*places) → (batch, channels, \\*places).
        x: what went in.
        gradient: ∂y of what came out.
        groups: as heads; the channels that come out are split into so many.
    """
    x, gradient = x.detach(), gradient.flatten(2).unflatten(1, (groups, -1))
    with torch.no_grad():
        columns = each_alone(mix, x) - mix(torch.zeros_like(x))
    products = gradient * columns.flatten(3).unflatten(2, (groups, -1))
    return products.sum(3).clamp(min=0).mean(2).movedim(0, -1)


def alone(x: Tensor, token: int) -> Tensor:
    """x at one place, 0 elsewhere."""
    flat = x.flatten(2)
    kept = torch.zeros_like(flat)
    kept[..., token] = flat[..., token]
    return kept.view_as(x)


def each_alone(mix: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``mix`` makes of each token by itself, (tokens, batch, channels, \\*places)."""
    return torch.vmap(mix)(torch.stack([alone(x, j) for j in range(x.flatten(2).shape[-1])]))


def reaching(mix: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(rows, columns): which tokens go into which, for a ``mix`` of positive weights."""
    with torch.no_grad():
        columns = each_alone(mix, torch.ones_like(x[:1]))
    return (columns[:, 0].flatten(2).abs().sum(1) > 0).T


def concatenated(weight: Tensor, x: Tensor, gradient: Tensor, parents: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Ā and reach of a linear map over concatenated tokens.

    Args:
        weight: (features out, parts · features).
        x: (batch, rows, parts · features): what the map reads.
        gradient: (batch, rows, features out): ∂y of what it gives.
        parents: (rows, parts): which token each part is; -1: padding.
        columns: tokens before.
    """
    parts = parents.shape[1]
    weights, pieces = weight.detach().chunk(parts, 1), x.detach().chunk(parts, -1)
    found = torch.zeros(len(x), len(parents), columns, dtype=torch.float64)
    reach = torch.zeros(len(parents), columns, dtype=torch.bool)
    for i in range(len(parents)):
        for k in range(parts):
            if (j := parents[i, k]) >= 0:
                found[:, i, j] = (gradient[:, i] * (pieces[k][:, i] @ weights[k].T)).sum(-1).clamp(min=0)
                reach[i, j] = True
    return found, reach
