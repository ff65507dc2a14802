"""Rollout, raw attention and Grad-CAM on attention, over whole flows, are the oracles'."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedmap.attention.attention import Attention, Layout
from heedmap.methods import METHODS
from heedmap.methods.method import Readout, TargetView
from oracles import baselines
from oracles import flow as oracle
from oracles.rules import average_heads
from relevance.programs import ACYCLIC, PROGRAMS, build, final, graph_of

HEADS = 2
BUDGETS = (1, 10_000, 2**28)


@dataclass(frozen=True)
class Example:
    """A flow with random A, v and ∂y/∂o; the last tokens of a stream may be padding, which nobody looks at."""

    flow: oracle.Flow
    batch: int
    seed: int
    padding: tuple[int, ...]
    budget: int

    @cached_property
    def attentions(self) -> list[Attention]:
        """A, with padding columns of zeros, and v."""
        rng = np.random.default_rng(self.seed)
        found = []
        for step in self.flow.steps:
            s, q = self.flow.sizes[step.stream], self.flow.sizes[step.source]
            probs = rng.random((self.batch, HEADS, s, q)) + 0.01
            probs *= self.seen(step.source)
            probs = torch.as_tensor(probs / probs.sum(-1, keepdims=True))
            value = torch.as_tensor(rng.normal(size=(self.batch, HEADS, q, 3)))
            layout = Layout(None, self.batch)
            found.append(Attention(step.number, "softmax", probs @ value, layout, value, q, probs=probs))
        return found

    @cached_property
    def gradients(self) -> dict[int, Tensor]:
        """∂y/∂o; none of the first attention."""
        rng = np.random.default_rng([self.seed, 1])
        found = {a.index: torch.as_tensor(rng.normal(size=a.out.shape)) for a in self.attentions}
        return {index: gradient for index, gradient in found.items() if index}

    def seen(self, stream: int) -> np.ndarray:
        """1 for each token that is no padding."""
        size = self.flow.sizes[stream]
        return (np.arange(size) < size - self.padding[stream]).astype(float)

    @property
    def visible(self) -> dict[int, np.ndarray]:
        """:meth:`seen` of each stream; of one that nobody asks, nothing is known to be padding."""
        asked = {step.source for step in self.flow.steps}
        return {s: self.seen(s) if s in asked else np.ones(n) for s, n in enumerate(self.flow.sizes)}

    def run(self, stream: int) -> TargetView:
        """What a method is given when the first row of ``stream`` is read."""
        weights = torch.zeros(self.batch, 1, self.flow.sizes[stream]).double()
        weights[:, :, 0] = 1
        readouts = {stream: Readout(final(self.flow, stream), weights)}
        names = {s: f"stream {s}" for s in range(len(self.flow.sizes))}
        return TargetView(graph_of(self.flow), self.attentions, self.gradients, readouts, names, self.budget)

    def probs(self, sample: int) -> dict[int, np.ndarray]:
        """A of one sample."""
        return {a.index: a.probs[sample].numpy() for a in self.attentions}

    def gradient(self, index: int, sample: int) -> np.ndarray:
        """∂y/∂A of one sample."""
        attention = self.attentions[index]
        if index not in self.gradients:
            return np.zeros(attention.probs.shape[1:])
        return (self.gradients[index][sample] @ attention.value[sample].transpose(-1, -2)).numpy()


@st.composite
def examples(draw: st.DrawFn, programs: dict[str, oracle.Flow] = PROGRAMS) -> Example:
    """Random sizes, padding and numbers for one of ``programs``."""
    program = programs[draw(st.sampled_from(sorted(programs)))]
    streams = 1 + max(max(s, q) for group in program for s, q, _ in group)
    sizes = tuple(draw(st.integers(2, 5)) for _ in range(streams))
    padding = tuple(draw(st.integers(0, size - 1)) for size in sizes)
    seed, batch = draw(st.integers(0, 10_000)), draw(st.integers(1, 2))
    return Example(build(program, sizes), batch, seed, padding, draw(st.sampled_from(BUDGETS)))


def check(example: Example, method: str, options: dict, expected) -> None:
    """rows @ the maps of ``method`` are those of ``expected(sample, stream, state)``, for every stream."""
    for stream, size in enumerate(example.flow.sizes):
        state = final(example.flow, stream)
        if not state:
            continue
        rows = torch.as_tensor(np.random.default_rng(example.seed).normal(size=(example.batch, 2, size)))
        found = METHODS[method].prepare(example.run(stream), METHODS[method].resolve(options))(stream, state, rows)
        for sample in range(example.batch):
            maps = expected(sample, stream, state)
            assert found.keys() == maps.keys()
            for x, matrix in maps.items():
                np.testing.assert_allclose(found[x][sample], rows[sample].numpy() @ matrix, rtol=1e-8, atol=1e-12)


@given(examples(), st.booleans(), st.sampled_from(["include", "exclude"]))
def test_rollout(example, normalize, padding):
    seen = example.visible if padding == "exclude" else None

    def expected(sample, stream, state):
        return baselines.rollout(example.flow, example.probs(sample), stream, state, normalize, seen)

    check(example, "rollout", {"normalize": normalize, "padding": padding}, expected)


@given(examples())
def test_raw_attention(example):
    def expected(sample, stream, state):
        maps = {index: probs.mean(0) for index, probs in example.probs(sample).items()}
        return baselines.last_maps(example.flow, maps, stream, state)

    check(example, "raw_attention", {}, expected)


@given(
    examples(),
    st.sampled_from(["matrix", "row"]),
    st.sampled_from(["none", "matrix", "region"]),
    st.sampled_from(["include", "exclude"]),
)
def test_attention_gradcam(example, region, min_max, padding):
    def expected(sample, stream, state):
        maps = {}
        for step in example.flow.steps:
            rows, columns = (np.ones(example.flow.sizes[s]) for s in (step.stream, step.source))
            if padding == "exclude":
                rows, columns = example.visible[step.stream], example.visible[step.source]
            if region == "row" and step.stream == stream:  # of other streams all rows
                rows = (np.arange(len(rows)) == 0).astype(float)
                columns = columns * (1 - rows) if step.source == stream else columns
            gradient = example.gradient(step.number, sample)
            if step.number not in example.gradients or not np.outer(rows, columns).any():
                maps[step.number] = np.zeros(gradient.shape[1:])
            else:
                maps[step.number] = baselines.gradcam(
                    example.probs(sample)[step.number], gradient, rows, columns, min_max
                )
        return baselines.last_maps(example.flow, maps, stream, state)

    check(example, "attention_gradcam", {"region": region, "min_max": min_max, "padding": padding}, expected)


@pytest.mark.parametrize("start", [0, 1, -1])
@given(example=examples({"one stream": ACYCLIC["one stream"]}))
def test_a_start_layer_leaves_out_what_is_below(start, example):
    """Rollout from layer n is rollout of the layers from n on alone; -1 is the last one alone."""
    kept = {step.number for step in example.flow.steps[start:]}

    def expected(sample, stream, state):
        return baselines.rollout(example.flow, example.probs(sample), stream, state & kept)

    check(example, "rollout", {"start_layer": start}, expected)


@given(examples())
def test_the_generic_method(example):
    """From A and ∂y/∂o to R, through eq. 5, whatever the memory budget."""

    def expected(sample, stream, state):
        probs = example.probs(sample)
        cams = {i: average_heads(probs[i], example.gradient(i, sample)) for i in example.gradients}
        return oracle.States(example.flow, cams, oracle.Ablations()).R(stream, state)

    check(example, "generic", {}, expected)
