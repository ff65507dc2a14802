"""What is put where tokens are removed, and the figures of both orders together, against loops by hand in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.errors import InputError, OptionError, SampleError
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.perturbation import PRESETS, Perturbation
from heedmap.evaluate.faithfulness import between_curves, over_curve, symmetric_gain
from heedmap.evaluate.masking import blurred, donors_of, filled
from heedmap.evaluate.statistics import ranks
from heedmap.targets import class_logits
from heedmap.zoo.dataset import answered

PAIR = [contender("generic"), contender("random")]


@pytest.fixture(scope="module")
def lxmert() -> Any:
    return heedmap.load("zoo/lxmert-shapes")


@pytest.fixture(scope="module")
def donors(lxmert: Any) -> tuple:
    return donors_of(answered(lxmert), 0, 6)


# -- figures -----------------------------------------------------------------------------------------------------------


def _area_by_hand(values: list[float], shares: list[float]) -> float:
    return math.fsum((shares[k + 1] - shares[k]) * (values[k] + values[k + 1]) / 2 for k in range(len(values) - 1))


@pytest.mark.parametrize("shares", [[0, 0.25, 0.5, 0.75, 1.0], [0, 0.5, 0.9, 0.95, 1.0]])
def test_figures_of_both_orders_are_those_of_a_loop(shares: list[float]) -> None:
    curves = np.random.default_rng(3).random((2, 7, 5))
    gain, over, between = symmetric_gain(curves, shares), over_curve(curves[0]), between_curves(curves)
    for sample in range(7):
        first, last = curves[0, sample].tolist(), curves[1, sample].tolist()
        assert gain[sample] == pytest.approx(_area_by_hand(last, shares) - _area_by_hand(first, shares), abs=1e-12)
        assert over[sample] == pytest.approx(math.fsum(first[0] - value for value in first) / 5, abs=1e-12)
        assert between[sample] == pytest.approx(math.fsum(b - a for a, b in zip(first, last, strict=True)) / 5)


def test_a_reversed_map_has_the_opposite_gain_and_equal_orders_none() -> None:
    curves = np.random.default_rng(0).random((2, 4, 6))
    assert symmetric_gain(curves[::-1]) == pytest.approx(-symmetric_gain(curves))
    assert between_curves(curves[::-1]) == pytest.approx(-between_curves(curves))
    assert not symmetric_gain(np.stack([curves[0], curves[0]])).any()
    shifted = curves + np.linspace(0, -1, 6)  # what a fill-in does whatever is removed
    assert symmetric_gain(shifted) == pytest.approx(symmetric_gain(curves))


def test_they_are_in_the_summary_and_do_not_rank_again(lxmert: Any) -> None:
    evaluation = Perturbation.of(lxmert, segments=("text",))
    rows, _ = evaluation.rows(lxmert, [answered(lxmert)[index] for index in range(3)], PAIR, 0)
    measures = {measure.key: measure for measure in evaluation.findings(rows).measures}
    assert [key for key, measure in measures.items() if not measure.ranks] == [
        "text/srg/accuracy",
        "text/srg/probability",
        "text/aopc",
        "text/abpc",
    ]
    every, shares = np.arange(3), [percent / 100 for percent in PRESETS["lxmert"].steps["text"]]
    by_hand = []
    for sample in sorted({row["sample"] for row in rows}):
        own = [row for row in rows if row["method"] == "generic" and row["sample"] == sample]
        first, last = ([row["probability"] for row in own if row["sign"] == sign] for sign in ("positive", "negative"))
        by_hand.append(_area_by_hand(last, shares) - _area_by_hand(first, shares))
    assert measures["text/srg/probability"].statistics["generic"](every) == pytest.approx(np.mean(by_hand))
    listed = [
        {"better": "lower", "rows": [{"method": "a", "value": 1.0}, {"method": "b", "value": 2.0}]},
        {"better": "lower", "ranks": False, "rows": [{"method": "b", "value": 1.0}, {"method": "a", "value": 2.0}]},
    ]
    assert [(entry["method"], entry["rank"], entry["measures"]) for entry in ranks(listed)] == [
        ("a", 1, 1),
        ("b", 2, 1),
    ]


# -- fill-ins ----------------------------------------------------------------------------------------------------------


def test_a_blur_is_the_gaussian_mean_of_the_pixels_around() -> None:
    pixels = torch.rand(1, 2, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = 9 / 8
    reach = int(4 * sigma + 0.5)
    weights = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(-reach, reach + 1)]
    made = blurred(pixels)
    for channel, row, column in ((0, 0, 0), (1, 4, 6), (0, 8, 12), (1, 2, 11)):
        total = 0.0
        for down, weight_down in enumerate(weights, -reach):
            for right, weight_right in enumerate(weights, -reach):
                y, x = min(max(row + down, 0), 8), min(max(column + right, 0), 12)
                total += weight_down * weight_right * float(pixels[0, channel, y, x])
        assert float(made[0, channel, row, column]) == pytest.approx(total / sum(weights) ** 2, abs=1e-12)
    assert blurred(torch.full((1, 3, 8, 8), 0.25)).numpy() == pytest.approx(0.25)


def test_words_and_boxes_are_those_of_other_samples(lxmert: Any, donors: tuple) -> None:
    inputs = lxmert.inputs(**{role: [d.inputs[role] for d in donors] for role in donors[0].inputs})
    keys = [donor.key for donor in donors]
    words, boxes = (filled(lxmert, inputs, segment, keys, donors, 5) for segment in ("text", "boxes"))
    assert (words.shape, words.dtype) == (inputs["input_ids"].shape, torch.int64)
    special = set(lxmert.tokenizer.all_special_ids)
    texts = [set(row.tolist()) - special for row in inputs["input_ids"]]
    for number, row in enumerate(words):
        assert set(row.tolist()) <= set().union(*(texts[:number] + texts[number + 1 :]))
    for number, row in enumerate(boxes):
        others = torch.cat([inputs["visual_feats"][:number], inputs["visual_feats"][number + 1 :]]).flatten(0, 1)
        assert all((feature == others).all(-1).any() for feature in row)
    alone = lxmert.inputs(**donors[2].inputs)
    one = filled(lxmert, alone, "text", keys[2:3], donors, 5)
    assert torch.equal(one[0], words[2, : one.shape[1]]), "a batch is its samples one by one"
    assert not torch.equal(words, filled(lxmert, inputs, "text", keys, donors, 6))


def test_replaced_words_are_those_of_a_loop_by_hand(lxmert: Any, donors: tuple) -> None:
    sample = answered(lxmert)[5]
    inputs = lxmert.inputs(**sample.inputs)
    relevance = heedmap.explain(lxmert, inputs)["text"][0].tolist()
    words = range(1, len(relevance) - 1)
    ranked = sorted(words, key=lambda place: -relevance[place])
    evaluation = Perturbation.of(lxmert, segments=("text",), remove="replace", donors=donors)
    rows, _ = evaluation.rows(lxmert, [sample], PAIR[:1], 0)
    other = filled(lxmert, inputs, "text", [sample.key], donors, 0)
    label = int(class_logits(lxmert.model(**inputs), 2).argmax())
    for row in (row for row in rows if row["sign"] == "positive"):
        ids = inputs["input_ids"].clone()
        for place in ranked[: row["percent"] * len(words) // 100]:
            ids[0, place] = other[0, place]
        with torch.no_grad():
            logits = class_logits(lxmert.model(**{**inputs, "input_ids": ids}), 2)[0]
        assert row["probability"] == pytest.approx(float(logits.softmax(-1)[label]), abs=1e-4)


def test_replaced_pixels_are_blurred() -> None:
    subject = heedmap.load("zoo/vit-shapes")
    sample = answered(subject)[1]
    evaluation = Perturbation.of(subject, "tenths", remove="replace")
    rows, _ = evaluation.rows(subject, [sample], PAIR[:1], 0)
    inputs = subject.inputs(**sample.inputs)
    with torch.no_grad():
        whole, soft = (
            subject.model(pixel_values=pixels).logits[0]
            for pixels in (inputs["pixel_values"], blurred(inputs["pixel_values"]))
        )
    label = int(np.argmax([name in sample.truth.scores for name in subject.config.id2label.values()]))
    first, last = (next(row for row in rows if row["percent"] == percent) for percent in (0, 100))
    chances = subject.context({}).probabilities(torch.stack([whole, soft]))[:, label].tolist()
    assert [first["probability"], last["probability"]] == pytest.approx(chances, abs=1e-4)


def test_what_does_not_fit_is_told(lxmert: Any, donors: tuple, tmp_path: Any) -> None:
    with pytest.raises(OptionError, match="no donors whose text, boxes"):
        Perturbation.of(lxmert, remove="replace")
    alone = lxmert.inputs(**donors[0].inputs)
    with pytest.raises(InputError, match="no text of another sample"):
        filled(lxmert, alone, "text", [donors[0].key], donors[:1], 0)
    with pytest.raises(InputError, match="none of the inputs"):
        filled(lxmert, alone, "image", ["a"], donors, 0)
    command = ["evaluate", "perturbation", "zoo/lxmert-shapes", "--remove", "erase", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "--remove is 'erase'; expected drop, mask or replace" in result.stderr
    assert not (tmp_path / "run").exists()


def test_samples_that_cannot_be_read_give_nothing() -> None:
    class Broken:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            if index % 2:
                raise SampleError("damaged")
            return index

    assert sorted(donors_of(Broken(), 0)) == [0, 2]  # type: ignore[arg-type, type-var]
