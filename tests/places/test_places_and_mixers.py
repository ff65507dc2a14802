"""heedmap against dense oracles, in float64: windows, merges, and mixers that are no attention."""

import pytest
from placed_models import MERGES, MIXERS, PLAIN, WINDOWS, Case, apart

CLOSE = 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", PLAIN.values(), ids=PLAIN)
def test_plain_models(case: Case, batch: int) -> None:
    agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", WINDOWS.values(), ids=WINDOWS)
def test_windows(case: Case, batch: int) -> None:
    agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", MERGES.values(), ids=MERGES)
def test_merges(case: Case, batch: int) -> None:
    agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", MIXERS.values(), ids=MIXERS)
def test_mixers(case: Case, batch: int) -> None:
    agrees(case, batch)


def agrees(case: Case, batch: int) -> None:
    """Without its own entry only where the row that is read is a token that began."""
    model, inputs = case.model(), case.given(batch)
    for drop_self in (False,) if case.own is None else (False, True):
        found, expected = (one(model, inputs, drop_self=drop_self) for one in (case.found, case.expected))
        assert apart(found, expected) <= CLOSE
