"""Streams that begin with tokens of another one: the rules carry their relevance on, by rows and whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from heedmap.attention.flow import AbsorbedStream, Edge, Graph, Stream
from heedmap.relevance.propagate import Ablations, ByRows, Dense
from oracles import rules as oracle
from relevance.programs import matrix

SIZES = (5, 6)
BATCH = 2
NONE: frozenset[int] = frozenset()
FIRST = frozenset([0])


@dataclass(frozen=True)
class Example:
    """Random Ā by attention, and where the tokens of stream 0 are in stream 1, one sample's unlike another's."""

    graph: Graph
    cams: dict[int, np.ndarray]
    places: np.ndarray

    def J(self, sample: int) -> np.ndarray:
        """(tokens of stream 1, tokens of stream 0): 1 where one became the other."""
        found = np.zeros((SIZES[1], SIZES[0]))
        for token, row in enumerate(self.places[sample]):
            if row >= 0:
                found[row, token] = 1
        return found

    def check(self, stream: int, state: frozenset[int], expected: dict[int, list[np.ndarray]]) -> None:
        """Both forms give the expected matrices, one for each sample."""
        cams = {number: matrix(torch.as_tensor(cam), 2, keep=False) for number, cam in self.cams.items()}
        rows = torch.eye(self.graph.streams[stream].tokens).double().expand(BATCH, -1, -1)
        for solver in (Dense(self.graph, cams, Ablations(), BATCH), ByRows(self.graph, cams, Ablations())):
            found = solver.rows(stream, state, rows)
            assert found.keys() == expected.keys()
            for x, maps in expected.items():
                np.testing.assert_allclose(found[x], np.stack(maps), rtol=1e-12, atol=1e-15)


def example(seed: int, edges: list[tuple[int, int, frozenset[int], frozenset[int]]], leaves: set[int], size: int = 4):
    rng = np.random.default_rng(seed)
    places = np.stack([rng.permutation([0, 2, 3, 5, -1]) for _ in range(BATCH)])
    joined = Stream(1, SIZES[1], leaves=leaves, joins={0: AbsorbedStream(FIRST, torch.as_tensor(places))})
    streams = [Stream(0, SIZES[0]), joined, Stream(2, size)]
    sizes = [s.tokens for s in streams]
    cams = {n: rng.random((BATCH, sizes[s], sizes[q])) for n, (s, q, _, _) in enumerate(edges)}
    graph = Graph(streams, [Edge(n, *edge) for n, edge in enumerate(edges)], [])
    for edge in graph.edges:
        graph.streams[edge.stream].attentions.append(edge.attention)
    return Example(graph, cams, places)


@pytest.mark.parametrize("seed", range(10))
def test_a_language_model_that_takes_in_a_picture(seed):
    """Its words' rows of R reach the picture's encoder through the rows that its tokens became; the last layer is unread."""
    edges = [(0, 0, NONE, NONE), (0, 0, FIRST, FIRST), (1, 1, NONE, NONE), (1, 1, frozenset([2]), frozenset([2]))]
    made = example(seed, edges, leaves={7})
    expected: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for i in range(BATCH):
        own = (np.eye(6) + made.cams[3][i]) @ (np.eye(6) + made.cams[2][i])
        expected[1].append(own)
        expected[0].append(own @ made.J(i) @ (np.eye(5) + made.cams[0][i]))
    made.check(1, frozenset([2, 3]), expected)


@pytest.mark.parametrize("seed", range(10))
def test_cross_attention_to_the_tokens_that_were_kept(seed):
    """Rule 10 to the kept tokens, rule 11 to those that they were."""
    edges = [(0, 0, NONE, NONE), (2, 2, NONE, NONE), (2, 1, frozenset([1]), NONE)]
    made = example(seed, edges, leaves=set())
    expected: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    for i in range(BATCH):
        own, cam = np.eye(4) + made.cams[1][i], made.cams[2][i]
        expected[2].append(own)
        expected[1].append(oracle.rule_10(cam, own, np.eye(6)))
        expected[0].append(cam @ made.J(i) @ (np.eye(5) + made.cams[0][i]))
    made.check(2, frozenset([1, 2]), expected)


@pytest.mark.parametrize("seed", range(10))
def test_a_few_rows_that_ask_all_are_rows_of_self_attention(seed):
    made = example(seed, [(0, 0, NONE, NONE), (1, 0, NONE, FIRST)], leaves=set())
    whole = np.random.default_rng(seed + 100).random((BATCH, 5, 5))
    for i in range(BATCH):
        made.cams[1][i] = made.J(i) @ whole[i]
    expected: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for i in range(BATCH):
        both = (np.eye(5) + whole[i]) @ (np.eye(5) + made.cams[0][i])
        expected[0].append(made.J(i) @ both)
        expected[1].append(np.eye(6))
    made.check(1, frozenset([1]), expected)
