import numpy as np
import pytest
from scipy.stats import bootstrap

from heedmap.evaluate.statistics import Curve, Measure, figures, lines, of_values, ranks


def _measure(values: dict[str, np.ndarray], higher: bool = True) -> Measure:
    count = len(next(iter(values.values())))
    return Measure("m", "m", higher, count, {name: of_values(own) for name, own in values.items()})


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    base = rng.normal(size=200)
    return {
        "generic": base,
        "same": base + rng.normal(scale=0.3, size=200),
        "better": base + 0.3 + rng.normal(scale=0.3, size=200),
    }


def test_intervals_agree_with_scipy(drawn: dict[str, np.ndarray]) -> None:
    row = next(one for one in figures(_measure(drawn), "generic", 0) if one["method"] == "generic")
    ours = (row["low"], row["high"])
    theirs = bootstrap(
        (drawn["generic"],), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert row["value"] == pytest.approx(drawn["generic"].mean(), abs=1e-6)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_only_a_real_difference_is_clear(drawn: dict[str, np.ndarray]) -> None:
    rows = {row["method"]: row for row in figures(_measure(drawn), "generic", 0)}
    assert rows["better"]["p"] < 0.01
    assert rows["better"]["difference_low"] > 0.2
    assert rows["same"]["p"] > 0.05
    assert "p" not in rows["generic"]


def test_more_contenders_make_a_difference_less_clear(drawn: dict[str, np.ndarray]) -> None:
    alone = figures(_measure({k: drawn[k] for k in ("generic", "same")}), "generic", 0)[0]
    many = {**drawn, **{f"copy {n}": drawn["same"] for n in range(20)}}
    among = next(row for row in figures(_measure(many), "generic", 0) if row["method"] == "same")
    assert among["p"] >= alone.get("p", 0)
    assert among["p"] <= 1


def test_the_best_is_first_and_less_may_be_better(drawn: dict[str, np.ndarray]) -> None:
    assert figures(_measure(drawn), "generic", 0)[0]["method"] == "better"
    assert figures(_measure(drawn, higher=False), "generic", 0)[-1]["method"] == "better"


def test_what_is_not_defined_does_not_count() -> None:
    row = figures(_measure({"generic": np.array([1.0, np.nan, 3.0])}), "generic", 0)[0]
    assert row["value"] == 2.0


def test_lines_have_the_mean_and_its_interval() -> None:
    values = np.random.default_rng(0).uniform(size=(300, 3)) + np.arange(3)
    line = lines(Curve("c", "c", "x", "y", (0, 1, 2), {"a": values}), 0, 500)["a"]
    assert line["y"] == pytest.approx(values.mean(0).tolist(), abs=1e-6)
    for low, mean, high in zip(line["low"], line["y"], line["high"], strict=True):
        assert mean - 0.06 < low < mean < high < mean + 0.06


def test_the_leaderboard_is_the_mean_rank() -> None:
    rows = [{"better": "higher", "rows": [{"method": "a", "value": 2.0}, {"method": "b", "value": 1.0}]}]
    rows += [{"better": "lower", "rows": [{"method": "a", "value": 1.0}, {"method": "b", "value": 1.0}]}]
    assert ranks(rows) == [{"method": "a", "rank": 1.25, "measures": 2}, {"method": "b", "rank": 1.75, "measures": 2}]
