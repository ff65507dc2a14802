"""Rollout, raw attention and Grad-CAM on attention over a flow, for one sample, as whole matrices."""

from __future__ import annotations

import numpy as np

from oracles.flow import Flow, PerStream, State
from oracles.rules import Matrix

Probs = dict[int, Matrix]
"""A of each attention, (heads, s, q)."""


def rollout(
    flow: Flow, probs: Probs, stream: int, state: State, normalize: bool = True, seen: dict[int, Matrix] | None = None
) -> PerStream:
    """R^{ss} = Π (A + I); R^{sq} = (R^{ss})ᵀ A R^{qq} at the last cross-attention from s to q.

    ``seen`` says of each stream which tokens are no padding: padding asks nothing.
    """
    found: PerStream = {stream: _own(flow, probs, stream, state, normalize)}
    last = {s.source: s for s in flow.steps if s.stream == stream != s.source and s.number in state}
    for source, step in last.items():
        asking = _own(flow, probs, stream, step.query_state, normalize).T
        if seen is not None:
            asking = asking * seen[stream][None]
        here = asking @ probs[step.number].mean(0)
        for x, more in rollout(flow, probs, source, step.value_state, normalize, seen).items():
            if x == source or (x not in last and x != stream):
                found[x] = found.get(x, 0) + here @ more
    return found


def _own(flow: Flow, probs: Probs, stream: int, state: State, normalize: bool) -> Matrix:
    R = np.eye(flow.sizes[stream])
    for step in flow.steps:
        if step.stream == step.source == stream and step.number in state and step.number in probs:
            layer = probs[step.number].mean(0) + np.eye(len(R))
            if normalize:
                layer = np.stack([row / row.sum() for row in layer])
            R = layer @ R
    return R


def last_maps(flow: Flow, maps: dict[int, Matrix], stream: int, state: State) -> PerStream:
    """Of each stream the last attention's map; through another stream, the product of both."""
    last = {step.source: step for step in flow.steps if step.stream == stream and step.number in state}
    found = {source: maps[step.number] for source, step in last.items()}
    for source, step in last.items():
        if source == stream:
            continue
        for x, further in last_maps(flow, maps, source, step.value_state).items():
            if x not in last:
                found.setdefault(x, maps[step.number] @ further)
    return found


def gradcam(
    probs: Matrix, gradient: Matrix, rows: Matrix | None = None, columns: Matrix | None = None, min_max: str = "none"
) -> Matrix:
    """The positive part of the mean over heads of A × its mean gradient over ``rows`` and ``columns`` (0 or 1 each)."""
    heads, s, q = probs.shape
    rows = np.ones(s) if rows is None else rows
    columns = np.ones(q) if columns is None else columns
    region = np.outer(rows, columns) > 0
    cam = np.zeros((s, q))
    for h in range(heads):
        cam += probs[h] * gradient[h][region].mean() / heads
    cam = np.maximum(cam, 0)
    if min_max == "none":
        return cam
    inside = cam[region] if min_max == "region" else cam
    return (cam - inside.min()) / (np.ptp(inside) or 1)
