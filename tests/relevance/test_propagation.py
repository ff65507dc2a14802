"""The rules over whole flows: by rows = rows of whole matrices = the oracles; and the laws that they obey."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedmap.relevance.propagate import Ablations, ByRows, Dense
from oracles import flow as oracle
from relevance.programs import (
    ACYCLIC,
    CO_ATTENTION,
    IN_ORDER,
    PROGRAMS,
    Example,
    build,
    examples,
    final,
    graph_of,
    matrix,
)

CHOICES = list(itertools.product([True, False], repeat=3))
AGGREGATED = [c for c in CHOICES if c[2]]


def distance(found: dict[int, Tensor], expected: dict[int, Tensor]) -> float:
    """The largest difference of two sets of maps, relative to the largest value of a map; one that is not there is zero."""
    worst = 0.0
    for x in found.keys() | expected.keys():
        a, b = found.get(x), expected.get(x)
        a, b = torch.zeros_like(b) if a is None else a, torch.zeros_like(a) if b is None else b
        assert a.shape == b.shape
        worst = max(worst, float((a - b).abs().max()) / max(float(b.abs().max()), 1e-30))
    return worst


def dense(example: Example, ablations: Ablations = Ablations()) -> Dense:  # noqa: B008
    return Dense(graph_of(example.flow), example.matrices(), ablations, example.batch)


def by_rows(example: Example, ablations: Ablations = Ablations(), **blocks) -> ByRows:  # noqa: B008
    return ByRows(graph_of(example.flow), example.matrices(**blocks), ablations)


def oracle_rows(example: Example, stream: int, state: oracle.State, rows: Tensor, choice=(True, True, True)):
    """rows @ R[state]^{sx} of the oracle, sample by sample."""
    found: dict[int, list[np.ndarray]] = {}
    for sample in range(example.batch):
        states = oracle.States(example.flow, example.of(sample), oracle.Ablations(*choice))
        for x, R in states.R(stream, state).items():
            found.setdefault(x, []).append(rows[sample].numpy() @ R)
    return {x: torch.as_tensor(np.stack(maps)) for x, maps in found.items()}


def states_of(example: Example) -> list[tuple[int, oracle.State]]:
    """Every stream, in its final state and in that which each attention read."""
    flow = example.flow
    ends = [(s, final(flow, s)) for s in range(len(flow.sizes))]
    return ends + [(step.source, step.value_state) for step in flow.steps[-2:]]


@given(examples(IN_ORDER | CO_ATTENTION, batch=1), st.sampled_from(CHOICES))
def test_the_sum_over_states_is_the_papers_procedure(example, choice):
    """Both oracles agree: R[S] = I + Σ Δ_a, and updating R in order of execution."""
    ablations = oracle.Ablations(*choice)
    states = oracle.States(example.flow, example.of(0), ablations)
    updated = oracle.in_order(example.flow, example.of(0), ablations)
    for s in range(len(example.flow.sizes)):
        for x, R in states.R(s, final(example.flow, s)).items():
            np.testing.assert_allclose(updated.get((s, x), np.zeros_like(R)), R, rtol=1e-8, atol=1e-30)


@given(examples(PROGRAMS), st.sampled_from(CHOICES))
def test_whole_matrices_are_the_oracles(example, choice):
    solver = dense(example, Ablations(*choice))
    for stream, state in states_of(example):
        rows = example.rows(stream)
        assert distance(solver.rows(stream, state, rows), oracle_rows(example, stream, state, rows, choice)) <= 1e-8


@given(examples(ACYCLIC), st.sampled_from(AGGREGATED), st.integers(1, 6), st.booleans())
def test_rows_alone_are_the_oracles(example, choice, step, keep):
    """Whatever the size of the blocks."""
    solver = by_rows(example, Ablations(*choice), step=step, keep=keep)
    for stream, state in states_of(example):
        rows = example.rows(stream)
        assert distance(solver.rows(stream, state, rows), oracle_rows(example, stream, state, rows, choice)) <= 1e-8


@given(examples(ACYCLIC), st.sampled_from(AGGREGATED))
def test_rows_alone_are_rows_of_whole_matrices(example, choice):
    alone, whole = by_rows(example, Ablations(*choice)), dense(example, Ablations(*choice))
    for stream, state in states_of(example):
        rows = example.rows(stream)
        assert distance(alone.rows(stream, state, rows), whole.rows(stream, state, rows)) <= 1e-8


@pytest.mark.parametrize("form", [dense, by_rows])
@given(example=examples(ACYCLIC, batch=3))
def test_a_batch_is_its_samples_one_by_one(form, example):
    stream = len(example.flow.sizes) - 1
    rows = example.rows(stream)
    together = form(example).rows(stream, final(example.flow, stream), rows)
    for i in range(3):
        cams = {number: cam[i : i + 1] for number, cam in example.cams.items()}
        one = Example(example.name, example.flow, cams, 1, example.seed)
        alone = form(one).rows(stream, final(example.flow, stream), rows[i : i + 1])
        assert distance({x: m[i : i + 1] for x, m in together.items()}, alone) <= 1e-8


@given(examples(PROGRAMS), st.sampled_from(AGGREGATED))
def test_a_permutation_of_tokens_permutes_the_maps(example, choice):
    rng = np.random.default_rng(example.seed)
    order = [rng.permutation(n) for n in example.flow.sizes]
    steps = {s.number: s for s in example.flow.steps}
    cams = {n: c[:, order[steps[n].stream]][:, :, order[steps[n].source]] for n, c in example.cams.items()}
    permuted = Example(example.name, example.flow, cams, example.batch, example.seed)
    for stream, state in states_of(example):
        rows = example.rows(stream)
        before = dense(example, Ablations(*choice)).rows(stream, state, rows)
        after = dense(permuted, Ablations(*choice)).rows(stream, state, rows[:, :, order[stream]])
        assert distance(after, {x: m[:, :, order[x]] for x, m in before.items()}) <= 1e-8


@pytest.mark.parametrize("form", [dense, by_rows])
@given(example=examples(ACYCLIC))
def test_maps_are_linear_in_the_rows(form, example):
    stream = len(example.flow.sizes) - 1
    state, solver = final(example.flow, stream), form(example)
    a, b = example.rows(stream, 2), example.rows(stream, 4)[:, 2:]
    of_a, of_b, of_both = (solver.rows(stream, state, rows) for rows in (a, b, 2 * a - 3 * b))
    for x, both in of_both.items():
        torch.testing.assert_close(both, 2 * of_a[x] - 3 * of_b[x], rtol=1e-9, atol=1e-9)


@given(examples(PROGRAMS))
def test_no_relevance_is_negative_or_lost(example):
    """R of unit rows has no negative entry and no NaN, also where rows of R − I are zero."""
    for stream, state in states_of(example):
        rows = torch.eye(example.flow.sizes[stream]).double().expand(example.batch, -1, -1)
        for found in dense(example).rows(stream, state, rows).values():
            assert bool((found >= 0).all())
            assert bool(torch.isfinite(found).all())


@given(examples(ACYCLIC))
def test_no_attention_leaves_the_identity(example):
    """With every Ā left out, as with a start_layer above all, a token's relevance is its own."""
    empty = Example(example.name, example.flow, {}, example.batch, example.seed)
    for stream, state in states_of(example):
        rows = example.rows(stream)
        for form in (dense, by_rows):
            assert distance(form(empty).rows(stream, state, rows), {stream: rows}) <= 1e-8


@given(examples({"encoder-decoder": IN_ORDER["encoder-decoder"]}, batch=1))
def test_float32_keeps_its_digits(example):
    """Small Ā are not lost beside the identity: float32 is within 1e-5 of the oracle."""
    rows = torch.eye(example.flow.sizes[1]).expand(1, -1, -1)
    state = final(example.flow, 1)
    expected = oracle_rows(example, 1, state, rows.double())
    cams = {n: c.astype(np.float32) for n, c in example.cams.items()}
    single = Example(example.name, example.flow, cams, 1, example.seed)
    for form in (dense, by_rows):
        for x, found in form(single).rows(1, state, rows).items():
            assert found.dtype == torch.float32
            assert float((found - expected[x]).abs().max()) <= 1e-5 * float(expected[x].abs().max())


def test_a_zero_row_keeps_the_layer():
    """One query whose Ā is all zero takes nothing from the others: the authors' code loses the whole update."""
    cam_self = torch.tensor([[[0.5, 0.25], [0.0, 0.0]]]).double()
    cam_cross = torch.tensor([[[0.2, 0.1], [0.4, 0.3]]]).double()
    graph = graph_of(build((((1, 1, 0),), ((1, 0, 0),)), (2, 2)))
    cams = {0: matrix(cam_self, 2, keep=False), 1: matrix(cam_cross, 2, keep=False)}
    R_bar = torch.tensor([[1 + 2 / 3, 1 / 3], [0.0, 1.0]]).double()
    unit = torch.eye(2).double()[None]
    for solver in (Dense(graph, cams, Ablations(), 1), ByRows(graph, cams, Ablations())):
        torch.testing.assert_close(solver.rows(1, frozenset([0, 1]), unit)[0], R_bar.T @ cam_cross)


@given(examples(CO_ATTENTION))
def test_rows_alone_refuse_co_attention(example):
    with pytest.raises(ValueError, match="without co-attention"):
        by_rows(example)


@given(examples(ACYCLIC))
def test_rows_alone_refuse_replacement(example):
    with pytest.raises(ValueError, match="with aggregation"):
        by_rows(example, Ablations(aggregate=False))
