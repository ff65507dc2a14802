"""The picture's edges as a map: against Sobel's filters by hand in float64, and beside methods in evaluations."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import heedmap
from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.evaluate.answer import explained, inputs_of, maps_of, sobel
from heedmap.evaluate.evaluation import contender, contenders
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.experiments.segmentation import Segmentation
from heedmap.evaluate.trial import FixedPrediction, blocks, cascade
from heedmap.zoo.dataset import answered, shown
from heedmap.zoo.samples import MATERIALS

EDGES = contender("edges")


@pytest.fixture(scope="module")
def vit() -> Any:
    return heedmap.load("zoo/vit-shapes")


def _by_hand(picture: np.ndarray) -> np.ndarray:
    """Each pixel by two sums over its nine neighbours."""
    channels, rows, columns = picture.shape
    lengths = np.zeros((rows, columns))
    for channel in range(channels):
        for row in range(rows):
            for column in range(columns):
                down = right = 0.0
                for y, across in ((-1, 1.0), (0, 2.0), (1, 1.0)):
                    for x, along in ((-1, 1.0), (0, 2.0), (1, 1.0)):
                        there = picture[channel, min(max(row + y, 0), rows - 1), min(max(column + x, 0), columns - 1)]
                        down += y * along * float(there)
                        right += x * across * float(there)
                lengths[row, column] += math.hypot(down, right) / channels
    return lengths


@pytest.mark.parametrize(("shape", "seed"), [((1, 5, 7), 0), ((3, 8, 6), 1)])
def test_edges_are_those_of_sums_by_hand(shape: tuple[int, int, int], seed: int) -> None:
    picture = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_allclose(sobel(picture), _by_hand(picture), atol=1e-12)
    np.testing.assert_allclose(sobel(picture + 3.0), sobel(picture), atol=1e-12)
    assert not sobel(np.full(shape, 0.5)).any()


def test_a_patch_has_the_mean_of_its_pixels(vit: Any) -> None:
    samples = [answered(vit)[index] for index in (0, 5)]
    inputs = vit.inputs(image=[sample.inputs["image"] for sample in samples])
    maps = explained(vit, inputs, None, EDGES, 0)
    rows, columns = maps.segment("image").grid
    assert (maps.method, dict(maps.options)) == ("edges", {})
    for number, picture in enumerate(inputs["pixel_values"].double().numpy()):
        edges = _by_hand(picture)
        height, width = edges.shape[0] // rows, edges.shape[1] // columns
        for patch in range(rows * columns):
            top, left = patch // columns * height, patch % columns * width
            mean = edges[top : top + height, left : left + width].mean()
            assert float(maps["image"][number, patch]) == pytest.approx(mean, rel=1e-5)
    alone = explained(vit, vit.inputs(image=samples[1].inputs["image"]), None, EDGES, 1)
    torch.testing.assert_close(alone["image"][0], maps["image"][1])


def test_they_look_at_no_model(vit: Any) -> None:
    inputs = vit.inputs(image=answered(vit)[0].inputs["image"])
    before = explained(vit, inputs, None, EDGES, 0)["image"]
    other = heedmap.load("zoo/vit-shapes")
    with torch.no_grad():
        for weight in other.model.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(0))
    assert torch.equal(explained(other, inputs, None, EDGES, 0)["image"], before)
    first, second = maps_of(vit, inputs, [[(0,), (1,)]], EDGES, 0)[0]
    assert np.array_equal(first, second), "of every answer the same"


@pytest.mark.parametrize(("name", "specs"), [("vit-shapes", ("edges", "random")), ("clip-shapes", ("random:seed=3",))])
def test_on_other_weights_they_and_chance_are_put_on_segments_that_are_known(name: str, specs: tuple[str, ...]) -> None:
    subject, calls = heedmap.load(f"zoo/{name}"), []
    samples = [MATERIALS[name].make(index) for index in range(3)]
    trial = FixedPrediction.of(subject, inputs_of(subject, samples), ["0", "1", "2"], 5)
    for spec in map(contender, specs):
        with cascade(subject.model, blocks(subject, trial.inputs, 1), 3) as steps:
            next(steps)
            anew = trial.maps(spec, anew=True)
            hook = subject.model.register_forward_pre_hook(lambda *given: calls.append(given))
            maps = trial.maps(spec)
            hook.remove()
        assert calls == []
        assert maps.keys() == anew.keys()
        assert all(np.array_equal(maps[segment], anew[segment]) for segment in maps)
        assert all(relevance.any() for relevance in maps.values())


def test_padding_has_no_edges() -> None:
    detr = heedmap.load("zoo/detr-shapes")
    sample = shown(detr)[0]
    inputs = dict(detr.inputs(image=sample.inputs["image"]))
    mask = torch.ones(inputs["pixel_values"].shape[0], *inputs["pixel_values"].shape[-2:], dtype=torch.int64)
    mask[:, :, mask.shape[-1] // 2 :] = 0
    maps = explained(detr, {**inputs, "pixel_mask": mask}, None, EDGES, 0)
    rows, columns = maps.segment("image").grid
    grid = maps["image"][0].reshape(rows, columns)
    assert not grid[:, columns // 2 + 1 :].any()
    np.testing.assert_allclose(
        sobel(inputs["pixel_values"][0, :, :, : mask.shape[-1] // 2].double().numpy()).mean(),
        float(grid[:, : columns // 2].double().mean()),
        rtol=0.1 if columns % 2 else 1e-5,
    )


def test_they_stand_beside_chance(vit: Any) -> None:
    names = [spec.name for spec in contenders((), crossed=False, pictures=True)]
    assert {"edges", "random", "generic"} <= set(names)
    assert "edges" not in [spec.name for spec in contenders(("all",), crossed=False)]
    rows, skipped = Perturbation.of(vit).rows(vit, [answered(vit)[2]], [contender("generic"), EDGES], 0)
    assert not skipped
    assert {row["method"] for row in rows} == {"generic", "edges"}
    rows, skipped = Segmentation("mean", "found").rows(vit, [shown(vit)[index] for index in range(2)], [EDGES], 0)
    assert {row["method"] for row in rows if row["method"]} == {"edges"}
    given = {"image": answered(vit)[0].inputs["image"]}
    assert heedmap.compare(vit, given, ["generic", "edges"]).explanations["edges"].method == "edges"
    advice = heedmap.recommend(vit, [given], methods=["generic", "edges"])
    assert {row.method: row.verdict for row in advice.rows}["edges"] == "unchanged"


def test_what_has_no_picture_is_told(vit: Any) -> None:
    gpt = heedmap.load("zoo/gpt-lists")
    with pytest.raises(InputError, match="edges are of a picture"):
        explained(gpt, gpt.inputs(text="dog red ; cat blue ? cat"), None, EDGES, 0)
    with pytest.raises(OptionError, match="edges has no options; given radius"):
        contender("edges:radius=3")
    with pytest.raises(UnknownNameError):
        heedmap.explain(vit, vit.inputs(image=answered(vit)[0].inputs["image"]), method="edges")
