"""Flows to test with, the same for the oracles and for heedmap: programs of attentions, and random Ā, A and ∂y/∂o."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from heedmap.attention.flow import Edge, Graph, Stream
from heedmap.relevance.chain import Matrix
from oracles import flow as oracle

Program = tuple[tuple[tuple[int, int, int], ...], ...]
"""Groups of attentions side by side: (stream that asks, stream that is asked, how many updates ago it is read)."""


def _now(*groups: tuple[tuple[int, int], ...]) -> Program:
    return tuple(tuple((s, q, 0) for s, q in group) for group in groups)


def _one(*pairs: tuple[int, int]) -> Program:
    return _now(*((pair,) for pair in pairs))


IN_ORDER: dict[str, Program] = {
    "one stream": _one((0, 0), (0, 0), (0, 0), (0, 0)),
    "encoder-decoder": _one((0, 0), (0, 0), (1, 1), (1, 0), (1, 1), (1, 0)),
    "decoder that begins with cross-attention": _one((0, 0), (1, 0), (1, 1), (1, 0), (1, 1)),
    "cross-attention alone": _one((1, 0), (1, 0)),
    "chain of three streams": _one((0, 0), (1, 1), (1, 0), (1, 1), (2, 2), (2, 1), (2, 2), (2, 1), (2, 2)),
    "two streams asked": _one((0, 0), (1, 1), (2, 2), (2, 0), (2, 1), (2, 2), (2, 0)),
    "three streams, one asked by two": _one((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)),
    "two ways to one stream": _one((0, 0), (1, 0), (2, 0), (1, 1), (2, 2), (3, 3), (3, 1), (3, 2), (3, 3)),
    "parallel attentions": _now(((0, 0), (0, 0)), ((0, 0),), ((1, 1), (1, 0)), ((1, 1), (1, 0))),
}
"""Flows in which every attention reads its streams as they then are: the paper's procedure says what R is."""

CO_ATTENTION: dict[str, Program] = {
    "co-attention": _now(((0, 0),), ((1, 1),), ((0, 1), (1, 0)), ((0, 0),), ((1, 1),), ((0, 1), (1, 0)), ((0, 0),)),
    "co-attention one after the other": _one((0, 0), (0, 1), (1, 0), (1, 1), (0, 1), (1, 0)),
    "three streams that hear each other": _one((0, 0), (0, 1), (1, 2), (2, 0), (0, 1), (2, 2), (1, 0)),
}
"""Flows in which a stream hears itself through another one: whole matrices only."""

EARLIER: dict[str, Program] = {
    "self-attention that reads an earlier state": (((0, 0, 0),), ((0, 0, 0),), ((0, 0, 1),), ((0, 0, 2),)),
    "cross-attention to an earlier state": (((0, 0, 0),), ((0, 0, 0),), ((1, 0, 2),), ((1, 1, 0),), ((1, 0, 1),)),
    "every decoder layer reads its own encoder layer": (
        ((0, 0, 0),),
        ((0, 0, 0),),
        ((1, 1, 0),),
        ((1, 0, 1),),
        ((1, 1, 1),),
        ((1, 0, 0),),
    ),
}
"""Flows in which an attention reads a state that its stream has left behind."""

ACYCLIC = IN_ORDER | EARLIER
PROGRAMS = ACYCLIC | CO_ATTENTION


def build(program: Program, sizes: tuple[int, ...]) -> oracle.Flow:
    """The flow of a program: each attention adds itself to its stream's state."""
    history = {s: [frozenset[int]()] for s in range(len(sizes))}
    groups, number = [], 0
    for group in program:
        steps = []
        for s, q, ago in group:
            value_state = history[q][max(0, len(history[q]) - 1 - ago)]
            steps.append(oracle.Step(number, s, q, history[s][-1], value_state))
            number += 1
        for s in {step.stream for step in steps}:
            history[s].append(history[s][-1].union(step.number for step in steps if step.stream == s))
        groups.append(tuple(steps))
    return oracle.Flow(sizes, tuple(groups))


def graph_of(flow: oracle.Flow) -> Graph:
    """The same flow as heedmap has it."""
    edges = [Edge(s.number, s.stream, s.source, s.query_state, s.value_state) for s in flow.steps]
    streams = [
        Stream(i, size, attentions=[s.number for s in flow.steps if s.stream == i]) for i, size in enumerate(flow.sizes)
    ]
    return Graph(streams, edges, [])


def final(flow: oracle.Flow, stream: int) -> oracle.State:
    """The state of a stream after all its attentions."""
    return frozenset(s.number for s in flow.steps if s.stream == stream)


@dataclass(frozen=True)
class Example:
    """A flow with Ā of each attention, (batch, s, q); some are left out, some rows and entries are zero.

    Attributes:
        name: of the program.
        flow: the attentions.
        cams: Ā by attention.
        batch: number of samples.
        seed: of further random numbers.
    """

    name: str
    flow: oracle.Flow
    cams: dict[int, np.ndarray]
    batch: int
    seed: int

    def matrices(self, step: int = 2, keep: bool = False, samples: slice = slice(None)) -> dict[int, Matrix]:
        """Ā as heedmap has it, in blocks of ``step`` rows."""
        return {number: matrix(torch.as_tensor(cam[samples]), step, keep) for number, cam in self.cams.items()}

    def of(self, sample: int) -> dict[int, np.ndarray]:
        """Ā of one sample."""
        return {number: cam[sample] for number, cam in self.cams.items()}

    def rows(self, stream: int, count: int = 3) -> Tensor:
        """Random rows to multiply R^{sx} with, (batch, count, tokens)."""
        rng = np.random.default_rng([self.seed, stream])
        return torch.as_tensor(rng.normal(size=(self.batch, count, self.flow.sizes[stream])))


def matrix(values: Tensor, step: int, keep: bool) -> Matrix:
    """A matrix in blocks of ``step`` rows."""
    return Matrix(lambda rows: values[:, rows], values.shape[1], step, keep)


@st.composite
def examples(draw: st.DrawFn, programs: dict[str, Program], batch: int | None = None) -> Example:
    """Random sizes and Ā for one of ``programs``."""
    name = draw(st.sampled_from(sorted(programs)))
    streams = 1 + max(max(s, q) for group in programs[name] for s, q, _ in group)
    sizes = tuple(draw(st.integers(1, 5)) for _ in range(streams))
    flow = build(programs[name], sizes)
    count = batch or draw(st.integers(1, 3))
    seed = draw(st.integers(0, 10_000))
    left_out = draw(st.sets(st.sampled_from([s.number for s in flow.steps]), max_size=2))
    zero = draw(st.sampled_from([0.0, 0.3, 0.9]))
    rng = np.random.default_rng(seed)
    cams = {}
    for step in flow.steps:
        shape = (count, sizes[step.stream], sizes[step.source])
        cam = rng.random(shape) * (rng.random(shape) >= zero) * (rng.random((*shape[:2], 1)) >= zero / 2)
        if step.number not in left_out:
            cams[step.number] = cam * 10.0 ** rng.integers(-3, 1)
    return Example(name, flow, cams, count, seed)
