"""Compiled programs: the transformer runs the program, and its truth is what changes the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="scikit-learn, of the eval extra, has ROC-AUC")

from known.programs import BOS, DIGITS, MARKED, PROGRAMS, Asked, compiled, figures, relevance_of, sequences


def hops(count: int, tokens: Sequence[str], row: int) -> str:
    for _ in range(count):
        row = int(tokens[row])
    return tokens[row]


def look_up(tokens: Sequence[str], row: int) -> str:
    return tokens[list(tokens).index(tokens[row]) + 1]


def added(tokens: Sequence[str], row: int) -> str:
    return str((int(tokens[row - 1]) + int(tokens[row - 2])) % DIGITS)


RUN: dict[str, Callable[[Sequence[str], int], str]] = {
    **{f"hops-{n}": lambda tokens, row, n=n: hops(n, tokens, row) for n in (1, 2, 4, 6)},
    "lookup": look_up,
    "sum": added,
}


def answered(name: str, tokens: Sequence[str], row: int) -> str | float:
    model = compiled(name)
    with torch.no_grad():
        logits = model(model.ids(tokens))[0, row + 1]
    return float(logits[0]) if name == "fraction" else model.answers[int(logits.argmax())]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_transformer_runs_the_program(name: str) -> None:
    for asked in sequences(name, 100):
        found = answered(name, asked.tokens, asked.row)
        if name == "fraction":
            up_to = asked.tokens[: asked.row + 1]
            assert found == pytest.approx(up_to.count(MARKED) / len(up_to), abs=1e-4)
        else:
            assert found == asked.answer == RUN[name](asked.tokens, asked.row)


def changed(name: str, asked: Asked, place: int, random: np.random.Generator) -> tuple[str, ...]:
    """The sequence with another token of its kind at one place."""
    kinds = [*"abcd"] if name == "lookup" and place % 2 == 0 else [*"wxyz"]
    others = kinds if name == "lookup" else [*"yz"] if name == "fraction" else compiled(name).vocabulary
    others = [t for t in others if t not in (asked.tokens[place], BOS, "compiler_pad")]
    if name == "lookup" and place % 2 == 0:
        others = [t for t in others if t != asked.tokens[-1]]
    return (*asked.tokens[:place], str(random.choice(others)), *asked.tokens[place + 1 :])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_truth_is_what_the_answer_rests_on(name: str) -> None:
    """No other token changes it (where it does not become what the program looks for); one of the truth can."""
    random, moved = np.random.default_rng(0), 0
    for asked in sequences(name, 20):
        before = answered(name, asked.tokens, asked.row)
        for place in set(range(len(asked.tokens))) - {asked.row}:
            after = answered(name, changed(name, asked, place, random), asked.row)
            if place in asked.rests_on:
                moved += after != pytest.approx(before)
            else:
                assert after == pytest.approx(before), (asked, place)
    assert moved >= 15


def test_figures_leave_the_token_that_is_asked_out() -> None:
    asked = Asked(("1", "2", "0", "0"), 0, "0", frozenset({1, 2}))
    assert figures(np.array([9.0, 1.0, 0.0, 1.0]), asked) == {"share": 0.5, "auc": 0.25}


def test_the_paper_finds_the_value_of_a_lookup() -> None:
    asked = next(sequences("lookup"))
    relevance = relevance_of("lookup", asked, "generic")
    assert int(relevance.argmax()) in asked.rests_on
