"""sMPRT and eMPRT against loops by hand in float64, and what a map that does not look at the model has."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.evaluate.answer import inputs_of
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.experiments.sanity import Sanity
from heedmap.evaluate.faithfulness import complexity, rise
from heedmap.evaluate.trial import FixedPrediction, blocks, cascade, noisy
from heedmap.zoo.dataset import plain

GENERIC, CHANCE = (MethodSpec(name, name) for name in ("generic", "random"))


def _entropy_by_hand(values: list[float]) -> float:
    bins = math.ceil(math.log2(len(values)) + 1)
    least, span = min(values), max(values) - min(values)
    counts = [0] * bins
    for value in values:
        counts[min(int((value - least) / span * bins), bins - 1)] += 1
    return -math.fsum(count / len(values) * math.log2(count / len(values)) for count in counts if count)


@pytest.mark.parametrize("tokens", [5, 9, 49, 200])
def test_complexity_is_the_entropy_of_a_histogram(tokens: int) -> None:
    values = np.random.default_rng(tokens).normal(size=tokens)
    assert complexity(values) == pytest.approx(_entropy_by_hand(values.tolist()), abs=1e-12)
    assert complexity(3 * values) == pytest.approx(complexity(values)), "scale is no complexity"
    assert complexity(np.ones(tokens)) == 0
    single = np.zeros(tokens)
    single[0] = 1
    assert complexity(single) < complexity(np.arange(tokens, dtype=float))
    assert rise(2.0, 3.0) == 0.5
    assert math.isnan(rise(0.0, 3.0))


BOTH = ("smooth_randomisation", "complexity")


@pytest.mark.parametrize("name", ["vit-shapes", "lxmert-shapes"])
def test_both_are_loops_by_hand_and_the_weights_come_back(name: str) -> None:
    subject, draws, steps = heedmap.load(f"zoo/{name}"), 2, 2
    samples = [plain(subject)[index] for index in range(2)]
    before = {key: weight.clone() for key, weight in subject.model.state_dict().items()}
    rows, _ = Sanity(parts=BOTH, steps=steps, draws=draws).rows(subject, samples, [GENERIC, CHANCE], 3)
    assert all(torch.equal(weight, before[key]) for key, weight in subject.model.state_dict().items())
    inputs, keys = inputs_of(subject, samples), [sample.key for sample in samples]
    trial = FixedPrediction.of(subject, inputs, keys, 3)

    def mean() -> dict[str, np.ndarray]:
        maps = [trial.maps(GENERIC)]
        with noisy(subject, inputs, 0.1, keys, 3) as changed:
            maps.append(trial.maps(GENERIC, changed))
        return {segment: (maps[0][segment] + maps[1][segment]) / 2 for segment in trial.real}

    own, smooth = trial.maps(GENERIC), mean()
    with cascade(subject.model, blocks(subject, inputs, steps)[::-1], 3) as states:
        later = [(mean(), trial.maps(GENERIC)) for _ in states]
    for row in rows:
        if row["method"] == "random":
            assert row["smprt"] == pytest.approx(1)
            assert row["emprt"] == 0
            continue
        number, segment = keys.index(row["sample"]), row["segment"]
        real = trial.real[segment][number]
        likes = [spearmanr(smooth[segment][number][real], maps[segment][number][real])[0] for maps, _ in later]
        assert row["smprt"] == pytest.approx(np.mean(likes), abs=1e-9)
        first, last = (_entropy_by_hand(m[segment][number][real].tolist()) for m in (own, later[-1][1]))
        assert row["emprt"] == pytest.approx((last - first) / first, abs=1e-9)
        pair = own[segment][number][real], later[-1][1][segment][number][real]
        assert row["random"] == pytest.approx(spearmanr(*pair)[0], abs=1e-9)
    measures = {measure.key for measure in Sanity(parts=BOTH).findings(rows).measures}
    assert measures == {f"{segment}/{column}" for segment in trial.real for column in ("smprt", "emprt", "random")}


def test_a_check_that_is_none_is_told_before_anything_is_loaded() -> None:
    command = ["evaluate", "sanity", "zoo/vit-shapes", "--check", "complexty", "--out", "nowhere"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "complexity" in result.stderr
