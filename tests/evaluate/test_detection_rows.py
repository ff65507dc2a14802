"""Detection: on the shipped detector, with padding, and what its rows say."""

import random
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import DetrImageProcessor

import heedmap
from heedmap.datasets.sample import Foreground, Found, Objects, Sample
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.coco import encoded
from heedmap.evaluate.evaluation import EvaluationPlan, MethodSpec, run
from heedmap.evaluate.experiments import detection
from heedmap.evaluate.experiments.detection import Detection, _box_overlap, _object_of, _probabilities, _unpadded
from heedmap.models.kinds import KINDS, Processors
from heedmap.models.model import Model
from heedmap.zoo.dataset import shown
from heedmap.zoo.world import make_scene

GENERIC, RANDOM = MethodSpec("generic", "generic"), MethodSpec("random", "random")


@pytest.fixture(scope="module")
def subject():
    return heedmap.load("zoo/detr-shapes")


@pytest.fixture(scope="module")
def samples(subject):
    reader = shown(subject)
    return [reader[index] for index in range(4)]


@pytest.fixture(scope="module")
def rows(subject, samples):
    found, skipped = Detection().rows(subject, samples, [GENERIC, RANDOM], 7)
    assert not skipped
    return found


@pytest.fixture(scope="module")
def padding(subject):
    """The same model; pictures keep their size and are padded to that of the largest."""
    image = DetrImageProcessor(do_resize=False, do_pad=True, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return replace(subject, processors=Processors(image=image))


def _of(rows, method):
    return [row for row in rows if row["method"] == method]


def _scene(index, side, key=None):
    scene = make_scene(0, "test", index, side)
    objects = []
    for one in scene.objects:
        x1, y1, x2, y2 = one.box
        objects.append(Found(one.shape, (x1, y1, x2 - x1, y2 - y1), one.mask, False, float(one.mask.sum())))
    return Sample(key or f"{index} at {side}", {"image": Image.fromarray(scene.image)}, Objects(tuple(objects)))


def _decoded(row):
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # pycocotools' own, about NumPy
        return coco_mask.decode({"size": [row["height"], row["width"]], "counts": row["mask"]}).astype(bool)


def _values(findings, name="generic"):
    return {one.key: one.statistics[name](np.arange(one.samples)) for one in findings.measures}


def _like_truth(rows):
    """Rows of a contender that finds exactly what is there."""
    return [{**row, "method": "perfect", "overlap": 1.0, "pointing": 1.0, "share": 1.0} for row in _of(rows, "")]


# -- the shipped model -----------------------------------------------------------------------------------------------


def test_rows_of_what_is_true(rows, samples):
    own = _of(rows, "")
    assert len({tuple(row) for row in rows}) == 1
    assert [row["label"] for row in own] == [one.label for sample in samples for one in sample.truth.objects]
    masks = [one.mask for sample in samples for one in sample.truth.objects]
    assert all(np.array_equal(_decoded(row), mask) for row, mask in zip(own, masks, strict=True))
    assert [row["area"] for row in own] == [mask.sum() for mask in masks]


def test_rows_of_what_is_found(rows, subject, samples):
    own, chance = _of(rows, "generic"), _of(rows, "random")
    names = ("sample", "label", "number", "score")
    assert [[row[name] for name in names] for row in own] == [[row[name] for name in names] for row in chance]
    assert {row["sample"] for row in own} == {"0", "1", "2", "3"}
    assert all(0.5 < row["score"] <= 1 for row in own)
    output = subject.model(**subject.inputs(image=[sample.inputs["image"] for sample in samples]))
    assert len(own) == int((output.logits.softmax(-1)[..., :-1].max(-1).values > 0.5).sum())
    for row in own:
        objects = [one.mask for one in samples[int(row["sample"])].truth.objects if one.label == row["label"]]
        overlaps = [(_decoded(row) & mask).sum() / (_decoded(row) | mask).sum() for mask in objects]
        assert np.isnan(row["overlap"]) or min(abs(row["overlap"] - one) for one in overlaps) < 1e-9


def test_the_papers_method_beats_chance(rows):
    findings = Detection().findings(rows)
    own, chance = _values(findings), _values(findings, "random")
    assert own["ap/0.2:0.95"] > chance["ap/0.2:0.95"] + 0.1
    assert all(own[key] > chance[key] for key in ("ar/0.2:0.95", "overlap", "pointing", "share"))
    assert findings.facts["samples"] == 4
    assert findings.facts["objects"] == len(_of(rows, ""))
    assert findings.facts["queries"] == len(_of(rows, "generic")) >= findings.facts["queries_of_an_object"] > 0


def test_a_batch_is_its_samples_one_by_one(rows, samples, subject):
    alone = [row for sample in samples for row in Detection().rows(subject, [sample], [GENERIC], 0)[0]]
    together, alone = _of(rows, "generic"), _of(alone, "generic")
    for column in ("score", "overlap", "pointing", "share"):
        assert [row[column] for row in alone] == pytest.approx([row[column] for row in together], abs=1e-3, nan_ok=True)


def test_a_run(subject, tmp_path):
    summary = run(EvaluationPlan(Detection(), subject, shown(subject), [GENERIC, RANDOM], 3, part=2), tmp_path)
    keys = [one["key"] for one in summary["measures"]]
    assert keys[0] == "ap/0.2:0.95"
    assert "ap/0.5:0.95/small" in keys
    assert "ap/0.5:0.95/large" not in keys  # pictures of 96 pixels show none
    assert summary["leaderboard"][0]["method"] == "generic"
    assert run(EvaluationPlan(Detection(), subject, shown(subject), [GENERIC, RANDOM], 3, part=2), tmp_path) == summary


# -- padding ---------------------------------------------------------------------------------------------------------


def test_padding_is_no_part_of_a_map(padding, monkeypatch):
    shapes = []

    def cut(grid, size, at):
        shapes.append((grid.shape, size))
        return np.ones(size, dtype=bool)

    monkeypatch.setattr(detection, "cut", cut)
    rows, _ = Detection(0.2).rows(padding, [_scene(0, 96), _scene(1, 72)], [GENERIC], 0)
    assert set(shapes) == {((12, 12), (96, 96)), ((9, 9), (72, 72))}
    assert {(row["sample"], row["height"]) for row in rows} == {("0 at 96", 96), ("1 at 72", 72)}


def test_a_padded_picture_has_about_the_masks_that_it_has_alone(padding):
    small = _scene(1, 88)
    alone = _of(Detection(0.3).rows(padding, [small], [GENERIC], 0)[0], "generic")
    padded = _of(Detection(0.3).rows(padding, [_scene(0, 96), small], [GENERIC], 0)[0], "generic")
    padded = {row["number"]: row for row in padded if row["sample"] == small.key}
    both = [(row, padded[row["number"]]) for row in alone if row["number"] in padded]
    assert len(both) >= len(alone) / 2 > 0
    overlaps = [(_decoded(a) & _decoded(b)).sum() / (_decoded(a) | _decoded(b)).sum() for a, b in both]
    assert np.mean(overlaps) > 0.6


@pytest.mark.parametrize(
    ("height", "width", "patches"), [(96, 96, (12, 12)), (64, 96, (8, 12)), (65, 8, (9, 1)), (1, 1, (1, 1))]
)
def test_patches_of_padding_by_hand(height, width, patches):
    mask = torch.zeros(2, 96, 96, dtype=torch.int64)
    mask[1, :height, :width] = 1
    grid = np.arange(144.0).reshape(12, 12)
    assert np.array_equal(_unpadded(grid, {"pixel_mask": mask}, 1), grid[: patches[0], : patches[1]])
    assert _unpadded(grid, {}, 0) is grid


def test_a_model_that_is_not_told_of_padding_sees_pictures_of_one_size_together(padding):
    blind = replace(padding, parameters=("pixel_values",))
    pictures = [_scene(0, 96), _scene(1, 88), _scene(2, 96)]
    together = Detection().rows(blind, pictures, [GENERIC], 0)[0]
    alone = [row for one in pictures for row in Detection().rows(blind, [one], [GENERIC], 0)[0]]
    for row in _of(alone, "generic"):
        (same,) = [
            one for one in _of(together, "generic") if (one["sample"], one["number"]) == (row["sample"], row["number"])
        ]
        assert same["score"] == pytest.approx(row["score"], abs=1e-4)
        assert same["share"] == pytest.approx(row["share"], abs=1e-3, nan_ok=True)


# -- which queries, and of which object ------------------------------------------------------------------------------


def _output(logits):
    return SimpleNamespace(logits=torch.tensor(logits), pred_boxes=torch.zeros(1, len(logits[0]), 4))


def _named(count, labels=None):
    module = torch.nn.Identity()
    module.config = SimpleNamespace(id2label={number: f"thing {number}" for number in range(count)})
    return Model("some model", module, KINDS[1], Processors(), ("pixel_values",), labels=labels)


def test_no_object_is_the_last_logit_where_there_is_one_more_than_names():
    found, names = _probabilities(_named(2), _output([[[1.0, 2.0, 3.0]]]))
    assert found.flatten().tolist() == pytest.approx(np.exp([1, 2]) / np.exp([1, 2, 3]).sum())
    assert names == {0: "thing 0", 1: "thing 1"}


def test_each_logit_is_a_yes_or_no_where_there_are_as_many_as_names():
    found, _ = _probabilities(_named(3), _output([[[0.0, 2.0, -2.0]]]))
    assert found.flatten().tolist() == pytest.approx(1 / (1 + np.exp([0, -2, 2])))


def test_other_numbers_of_logits_are_told():
    with pytest.raises(InputError, match=r"some model has 3 logits a query and 7 names of classes"):
        _probabilities(_named(7), _output([[[0.0, 2.0, -2.0]]]))


def test_overlap_of_boxes_by_hand():
    assert _box_overlap((0, 0, 4, 4), (2, 0, 4, 4)) == pytest.approx(8 / 24)
    assert _box_overlap((0, 0, 4, 4), (4, 4, 1, 1)) == _box_overlap((1, 1, 0, 0), (1, 1, 0, 0)) == 0


def test_a_query_is_of_the_object_of_its_label_that_its_box_lies_on():
    empty = np.zeros((10, 20), dtype=bool)
    there = [
        ("ring", (0, 0, 10, 10), False),
        ("ring", (10, 0, 10, 10), False),
        ("star", (11, 0, 9, 10), False),
        ("ring", (11, 0, 9, 10), True),
    ]
    objects = tuple(Found(label, box, empty, crowd, 1.0) for label, box, crowd in there)
    picture = SimpleNamespace(objects=objects, height=10, width=20)

    def found(label, *box):
        return _object_of(SimpleNamespace(label=label, box=box), picture)

    assert found("ring", 0.55, 0, 0.45, 1) is objects[1]  # neither the star nor the crowd
    assert found("star", 0.55, 0, 0.45, 1) is objects[2]
    assert found("ring", 0, 0, 0.2, 1) is None  # overlaps 0.4
    assert found("heart", 0, 0, 0.5, 1) is None


# -- the figures -----------------------------------------------------------------------------------------------------


def test_a_perfect_contender_scores_one_and_a_blind_one_nothing(rows):
    nothing = encoded(np.zeros((96, 96), dtype=bool))
    perfect = _like_truth(rows)
    blind = [
        {**row, "method": "blind", "mask": nothing, "overlap": 0.0, "pointing": 0.0, "share": 0.0} for row in perfect
    ]
    findings = Detection().findings([*_of(rows, ""), *perfect, *blind])
    assert set(np.round(list(_values(findings, "perfect").values()), 12)) == {1}
    assert set(_values(findings, "blind").values()) == {0}


def test_a_perfect_map_is_a_perfect_mask(samples, subject, monkeypatch):
    sample = samples[0]
    one = sample.truth.objects[0]
    monkeypatch.setattr(
        detection,
        "maps_of",
        lambda s, i, places, c, seed: [[one.mask.astype(float) for _ in own] for own in places],
    )
    own = [
        row for row in _of(Detection().rows(subject, [sample], [RANDOM], 0)[0], "random") if row["label"] == one.label
    ]
    assert any(row["overlap"] == row["pointing"] == row["share"] == 1 for row in own)
    assert all(np.array_equal(_decoded(row), one.mask) for row in own)


def test_what_is_found_where_nothing_is_counts_against(rows):
    empty = {**_of(rows, "")[0], "sample": "empty", "label": "", "mask": encoded(np.zeros((96, 96), dtype=bool))}
    wrong = [
        {
            **_like_truth(rows)[0],
            "sample": "empty",
            "score": 1.5,
            "overlap": np.nan,
            "pointing": np.nan,
            "share": np.nan,
        }
    ]
    values = _values(Detection().findings([*_of(rows, ""), empty, *_like_truth(rows), *wrong]), "perfect")
    assert values["ap/0.2:0.95"] < 1
    assert values["ar/0.2:0.95"] == values["overlap"] == 1


def test_a_label_that_is_nowhere_does_not_count(rows):
    wrong = [{**_like_truth(rows)[0], "label": "zebra"}]
    values = _values(Detection().findings([*_of(rows, ""), *_like_truth(rows), *wrong]), "perfect")
    assert values["ap/0.5:0.95"] == pytest.approx(1)


def test_the_order_of_rows_does_not_matter(rows):
    first = Detection().findings(rows)
    second = Detection().findings(iter(random.Random(3).sample(rows, len(rows))))
    for drawn in (np.arange(4), np.array([2, 2, 0, 1])):
        for one, other in zip(first.measures, second.measures, strict=True):
            assert one.statistics["generic"](drawn) == pytest.approx(
                other.statistics["generic"](drawn), nan_ok=True, abs=0
            )
    assert [one.resamples for one in first.measures] == [200] * (len(first.measures) - 3) + [1000] * 3
    assert first.facts == second.facts


# -- what cannot be measured -----------------------------------------------------------------------------------------


def test_a_picture_of_one_pixel(subject):
    sample = Sample(
        "dot",
        {"image": Image.new("RGB", (1, 1))},
        Objects((Found("ring", (0, 0, 1, 1), np.ones((1, 1), dtype=bool), False, 1.0),)),
    )
    rows, skipped = Detection(0.0).rows(subject, [sample], [GENERIC], 0)
    assert not skipped
    assert len(_of(rows, "generic")) == 12
    assert {(row["height"], row["width"]) for row in rows} == {(1, 1)}
    assert 0 <= _values(Detection().findings(rows))["ap/0.2:0.95"] <= 1


def test_a_picture_without_objects_has_a_row(subject):
    rows, skipped = Detection(0.99).rows(
        subject, [Sample("none", {"image": Image.new("RGB", (96, 60))}, Objects(()))], [GENERIC], 0
    )
    assert not skipped
    assert [(row["method"], row["label"], row["area"]) for row in rows] == [("", "", 0)]


def test_an_object_without_pixels_is_missed(subject, samples):
    ghost = Found("ring", (1, 1, 2, 2), np.zeros((96, 96), dtype=bool), False, 4.0)
    sample = replace(samples[0], truth=Objects((*samples[0].truth.objects, ghost)))
    rows, skipped = Detection().rows(subject, [sample], [GENERIC], 0)
    assert not skipped
    values = _values(
        Detection().findings([*_of(rows, ""), *[row for row in _like_truth(rows) if row["area"] != 4]]), "perfect"
    )
    assert 0 < values["ar/0.2:0.95"] < 1


@pytest.mark.parametrize(
    ("truth", "why"),
    [
        (
            Objects((Found("ring", (0, 0, 9, 9), np.ones((9, 96), dtype=bool), False, 1.0),)),
            "its mask has 9 × 96 pixels, its picture 96 × 96",
        ),
        (Foreground(np.ones((96, 96), dtype=bool), "ring"), "expected Objects"),
    ],
)
def test_what_cannot_be_measured_is_left_out_and_the_rest_is_not(subject, samples, truth, why):
    rows, skipped = Detection().rows(subject, [replace(samples[1], truth=truth), samples[0]], [RANDOM], 0)
    assert {row["sample"] for row in rows} == {"0"}
    assert why in skipped["1"]


def test_labels_that_do_not_fit_are_told(subject, samples):
    zebra = replace(samples[0].truth.objects[0], label="Zebra")
    with pytest.raises(
        InputError, match=r"finds circle, square.*the data set has .*zebra, of which it does not know zebra"
    ):
        Detection().rows(subject, [replace(samples[0], truth=Objects((zebra,)))], [RANDOM], 0)


def test_nothing_found_is_told(subject, samples):
    rows, _ = Detection(0.9999999).rows(subject, samples, [RANDOM], 0)
    assert _of(rows, "random") == []
    with pytest.raises(InputError, match="no query of any of 4 pictures was more probable than"):
        Detection(0.9999999).findings(rows)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_is_no_probability_is_told(threshold):
    with pytest.raises(OptionError, match="expected a probability"):
        Detection(threshold)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("zoo/vit-shapes", "gives no boxes; detection needs a detector"),
        ("zoo/gpt-lists", "expected a model of pictures alone"),
        ("zoo/lxmert-shapes", "expected a model of pictures alone"),
    ],
)
def test_models_of_another_kind_are_told(name, why):
    with pytest.raises(InputError, match=why):
        Detection().check(heedmap.load(name))


def test_a_detector_fits(subject):
    Detection().check(subject)
    assert Detection(0.3).settings == {"threshold": 0.3}
