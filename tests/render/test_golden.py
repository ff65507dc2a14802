import numpy as np
import pytest
from drawings import DRAWINGS, GOLDEN
from PIL import Image


@pytest.mark.parametrize("name", DRAWINGS)
def test_it_looks_as_it_did_when_somebody_looked(name):
    with Image.open(GOLDEN / f"{name}.png") as kept:
        expected = np.asarray(kept.convert("RGB")).astype(int)
    drawn = np.asarray(DRAWINGS[name]()).astype(int)
    assert abs(drawn.shape[0] - expected.shape[0]) <= 1
    rows = min(len(drawn), len(expected))
    difference = np.abs(drawn[:rows] - expected[:rows])
    assert difference.mean() < 2
    assert (difference.max(-1) > 60).mean() < 0.01


def test_nothing_is_kept_that_nobody_draws():
    assert {path.stem for path in GOLDEN.iterdir()} == set(DRAWINGS)
    assert all(path.stat().st_size < 20_000 for path in GOLDEN.iterdir())
