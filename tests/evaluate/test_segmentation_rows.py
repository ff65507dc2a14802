"""Segmentation: on the shipped classifier, with masks as it sees them, and what its rows say."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessor

import heedmap
from heedmap.datasets.sample import Foreground, Found, Objects, RightAnswers, Sample
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import seen_mask
from heedmap.evaluate.evaluation import EvaluationPlan, MethodSpec, run
from heedmap.evaluate.evidence import AREAS, patch_evidence
from heedmap.evaluate.experiments import segmentation
from heedmap.evaluate.experiments.segmentation import Segmentation
from heedmap.models.kinds import Processors
from heedmap.zoo.dataset import shown
from heedmap.zoo.world import SPLITS

GENERIC, RANDOM = MethodSpec("generic", "generic"), MethodSpec("random", "random")
FOUND = Segmentation(target="found")
LEFT = np.zeros((96, 96), dtype=bool)
LEFT[:, :48] = True


@pytest.fixture(scope="module")
def subject():
    return heedmap.load("zoo/vit-shapes")


@pytest.fixture(scope="module")
def samples(subject):
    reader = shown(subject)
    return [reader[index] for index in range(4)]


@pytest.fixture(scope="module")
def rows(subject, samples):
    found, skipped = FOUND.rows(subject, samples, [GENERIC, RANDOM], 7)
    assert not skipped
    return found


def _cropping(subject):
    """It sees the middle square, 96 pixels a side, of a picture."""
    image = CLIPImageProcessor(
        size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return replace(subject, processors=Processors(image=image))


def _sample(truth, size=(96, 96), key="one"):
    return Sample(key, {"image": Image.new("RGB", size, (20, 90, 200))}, truth)


def _measured(subject, truth, size=(96, 96), **settings):
    return Segmentation(**settings).rows(subject, [_sample(truth, size)], [RANDOM], 0)


def _values(findings, name="generic"):
    return {one.key: one.statistics[name](np.arange(one.samples)) for one in findings.measures}


# -- the samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "labels"), [("zoo/vit-shapes", 2), ("zoo/detr-shapes", 1)])
def test_the_zoos_pictures_with_the_objects_of_each_label(name, labels):
    subject = heedmap.load(name)
    reader = shown(subject)
    assert len(reader) == SPLITS["test"] == len(set(reader.keys))
    sample = reader[len(reader) - 1]
    scene = heedmap.zoo.world.make_scene(0, "test", len(reader) - 1)
    assert isinstance(sample.inputs["image"], Image.Image)
    assert np.array_equal(np.asarray(sample.inputs["image"]), scene.image)
    assert len(sample.truth.objects) == labels * len(scene.objects)
    for one in scene.objects:
        fitting = [found for found in sample.truth.objects if np.array_equal(found.mask, one.mask)]
        assert {found.label for found in fitting} == {one.shape, one.colour} & set(subject.config.id2label.values())
        x, y, width, height = fitting[0].box
        assert (x, y, x + width, y + height) == one.box


def test_a_model_without_samples_of_its_own_is_told(subject):
    with pytest.raises(InputError, match=r"zoo/deformable-shapes, zoo/detr-shapes, zoo/swin-shapes, zoo/vit-shapes"):
        shown(replace(subject, name="zoo/gpt-lists"))


# -- the shipped model -----------------------------------------------------------------------------------------------


def test_each_label_that_is_rightly_found_has_a_row(rows, samples, subject):
    own = [row for row in rows if row["method"] == "generic"]
    assert {row["sample"] for row in own} == {"0", "1", "2", "3"}
    assert len({tuple(row) for row in rows}) == 1
    for row in own:
        objects = [o for o in samples[int(row["sample"])].truth.objects if o.label == row["label"]]
        assert row["object_union"] >= sum(o.mask.sum() for o in objects) >= row["object_shared"] > 0
        assert row["pixels"] == 96 * 96
    assert len(own) > 2 * len(samples)


def test_the_papers_method_beats_chance(rows):
    findings = FOUND.findings(rows)
    own, chance = _values(findings), _values(findings, "random")
    assert all(own[key] > chance[key] for key in own)
    true = {(row["sample"], row["label"]): row["object_shared"] for row in rows}
    assert findings.facts == {"samples": 4, "labels": len(true)}


def test_samples_have_random_maps_of_their_own(rows):
    own = [row for row in rows if row["method"] == "random"]
    assert len({row["object_shared"] / row["object_union"] for row in own}) > len(own) / 2


def test_a_batch_is_its_samples_one_by_one(rows, samples, subject):
    alone = [row for sample in samples for row in FOUND.rows(subject, [sample], [GENERIC], 0)[0]]
    together = [row for row in rows if row["method"] == "generic"]
    assert [(row["sample"], row["label"]) for row in alone] == [(row["sample"], row["label"]) for row in together]
    for column in (*AREAS, "ap", "share"):
        assert [row[column] for row in alone] == pytest.approx([row[column] for row in together], rel=1e-3)


def test_a_run(subject, tmp_path):
    summary = run(EvaluationPlan(FOUND, subject, shown(subject), [GENERIC, RANDOM], 3, part=2), tmp_path)
    assert [one["key"] for one in summary["measures"]] == ["miou", "accuracy", "ap", "pointing", "share"]
    assert summary["leaderboard"][0]["method"] == "generic"
    assert summary["settings"] == {"threshold": "mean", "target": "found"}
    assert run(EvaluationPlan(FOUND, subject, shown(subject), [GENERIC, RANDOM], 3, part=2), tmp_path) == summary


# -- which labels are explained --------------------------------------------------------------------------------------


def test_a_region_is_what_the_top_label_is_about_whatever_it_is(subject):
    (row,), skipped = _measured(subject, Foreground(LEFT, "no such label"))
    assert not skipped
    assert row["label"] in subject.config.id2label.values()


def test_a_true_label_is_explained(subject):
    (row,), _ = _measured(subject, Foreground(LEFT, "Heart"), target="label")
    assert row["label"] == "heart"


@pytest.mark.parametrize("label", ["zebra", None])
def test_a_label_that_the_model_does_not_know_is_told(subject, label):
    rows, skipped = _measured(subject, Foreground(LEFT, label), target="label")
    assert not rows
    assert f"its labels are {label or 'none'}".lower() in skipped["one"]
    assert "circle, square" in skipped["one"]


def test_of_objects_those_with_the_label_count(subject):
    objects = [
        Found(label, (0, 0, 48, 96), LEFT if label == "ring" else ~LEFT, False, 1.0) for label in ("ring", "star")
    ]
    truth = Objects((*objects, Found("dodo", (0, 0, 48, 96), LEFT, False, 1.0)))
    rows, _ = _measured(subject, truth, target="label")
    assert [row["label"] for row in rows] == ["star", "ring"]
    _, skipped = _measured(subject, truth, target="found")
    assert "the model finds none of its labels, ring, star, dodo" in skipped["one"]


def test_a_top_label_that_the_picture_does_not_show_is_left_out(subject, samples):
    top = [row["label"] for row in Segmentation().rows(subject, samples, [RANDOM], 0)[0]]
    assert len(top) == 4
    wrong = [replace(one, truth=Objects(tuple(o for o in one.truth.objects if o.label not in top))) for one in samples]
    rows, skipped = Segmentation().rows(subject, wrong, [RANDOM], 0)
    assert not rows
    assert all("the model finds none of its labels" in why for why in skipped.values())


# -- masks as the model sees them ------------------------------------------------------------------------------------


def test_a_mask_is_resized_and_cropped_as_its_picture(subject):
    mask = np.zeros((100, 200), dtype=bool)
    mask[:, :100] = True
    assert np.array_equal(seen_mask(_cropping(subject), mask), LEFT)  # 200 × 100 → 192 × 96 → its middle
    assert np.array_equal(seen_mask(subject, mask), LEFT)  # squeezed
    mask[:, :100] = False
    mask[:50, 75:125] = True
    seen = seen_mask(_cropping(subject), mask)
    expected = np.zeros((96, 96), dtype=bool)
    expected[:48, 24:72] = True
    assert np.array_equal(seen, expected)


def test_a_mask_that_is_cropped_away_leaves_its_sample_out(subject):
    mask = np.zeros((100, 200), dtype=bool)
    mask[:, :40] = True
    rows, skipped = _measured(_cropping(subject), Foreground(mask), size=(200, 100))
    assert not rows
    assert "on the picture as the model sees it" in skipped["one"]
    rows, skipped = _measured(subject, Foreground(mask), size=(200, 100))
    assert rows
    assert not skipped


def test_ignored_pixels_count_neither_way(subject):
    whole = _measured(subject, Foreground(LEFT))[0][0]
    part = _measured(subject, Foreground(LEFT, ignored=~LEFT))[0][0]
    assert (whole["pixels"], part["pixels"]) == (96 * 96, 96 * 48)
    assert part["ap"] == part["share"] == part["pointing"] == 1
    assert part["ground_shared"] == 0
    assert part["object_shared"] == whole["object_shared"]


def test_a_picture_of_one_pixel(subject):
    (row,), skipped = _measured(subject, Foreground(np.ones((1, 1), dtype=bool)), size=(1, 1))
    assert not skipped
    assert row["object_union"] == row["pixels"] == 96 * 96


@pytest.mark.parametrize(
    ("truth", "why"),
    [
        (Foreground(~LEFT & LEFT), "no pixels that count"),
        (Foreground(LEFT[:, :90]), "its mask has 96 × 90 pixels, its picture 96 × 96"),
        (Foreground(LEFT, ignored=LEFT[1:]), "its mask has 95 × 96 pixels"),
        (Foreground(LEFT, ignored=LEFT), "no pixels that count"),
        (Objects((Found("ring", (0, 0, 9, 9), LEFT.T[:5], False, 1.0),)), "its mask has 5 × 96 pixels"),
        (Objects(()), "its labels are none"),
        (RightAnswers({"ring": 1.0}), "expected a Foreground or Objects"),
    ],
)
def test_what_cannot_be_measured_is_left_out_and_the_rest_is_not(subject, truth, why):
    good = _sample(Foreground(LEFT), key="good")
    rows, skipped = Segmentation().rows(subject, [_sample(truth), good], [RANDOM], 0)
    assert [row["sample"] for row in rows] == ["good"]
    assert list(skipped) == ["one"]
    assert why in skipped["one"]


# -- the figures -----------------------------------------------------------------------------------------------------


def _with_maps(monkeypatch, grid):
    def maps_of(subject, inputs, places, contender, seed):
        return [[grid for _ in own] for own in places]

    monkeypatch.setattr(segmentation, "maps_of", maps_of)


@pytest.mark.parametrize("threshold", ["mean", "otsu"])
def test_a_perfect_map_scores_one_and_its_inverse_nothing(subject, monkeypatch, threshold):
    mask = np.zeros((96, 96), dtype=bool)
    mask[24:64, 16:72] = True
    evaluation = Segmentation(threshold)
    _with_maps(monkeypatch, mask.astype(float))
    assert set(
        _values(evaluation.findings(_measured(subject, Foreground(mask), threshold=threshold)[0]), "random").values()
    ) == {1}
    _with_maps(monkeypatch, patch_evidence(mask, (12, 12)).reshape(12, 12))
    near = _values(evaluation.findings(_measured(subject, Foreground(mask), threshold=threshold)[0]), "random")
    assert min(near.values()) > 0.8
    _with_maps(monkeypatch, 1.0 - mask)
    low = _values(evaluation.findings(_measured(subject, Foreground(mask), threshold=threshold)[0]), "random")
    assert low["miou"] == low["accuracy"] == low["pointing"] == low["share"] == 0
    assert low["ap"] == pytest.approx(mask.mean())


def _row(sample, areas, ap, method="generic"):
    return {
        "sample": sample,
        "method": method,
        "label": "a",
        **dict(zip(AREAS, areas, strict=True)),
        "ap": ap,
        "pointing": 1.0,
        "share": 0.5,
    }


def test_figures_by_hand():
    rows = [
        _row("x", (9, 10, 1, 2, 8, 9), 0.25),
        _row("x", (5, 10, 0, 5, 5, 10), 0.75),
        _row("y", (1, 1, 1, 1, 0, 0), 1.0),
    ]
    findings = Segmentation().findings(rows)
    assert _values(findings) == pytest.approx(
        {"accuracy": 15 / 21, "miou": (2 / 8 + 13 / 19) / 2, "ap": 0.75, "pointing": 1, "share": 0.5}
    )
    drawn = {one.key: one.statistics["generic"](np.array([1, 1, 0])) for one in findings.measures}
    assert drawn == pytest.approx(
        {"accuracy": 16 / 22, "miou": (3 / 9 + 13 / 19) / 2, "ap": 2.5 / 3, "pointing": 1, "share": 0.5}
    )
    assert {one.key: one.statistics["generic"](np.array([1])) for one in findings.measures}["miou"] == 1  # no ground
    assert findings.facts == {"samples": 2, "labels": 3}


def test_the_order_of_rows_does_not_matter(rows):
    shuffled = random.Random(3).sample(rows, len(rows))
    first, second = FOUND.findings(rows), FOUND.findings(iter(shuffled))
    for drawn in (np.arange(4), np.array([2, 2, 0, 1])):
        for one, other in zip(first.measures, second.measures, strict=True):
            for name in ("generic", "random"):
                assert one.statistics[name](drawn) == other.statistics[name](drawn)


# -- bad settings and models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"threshold": "median"}, {"target": "bottom"}])
def test_unknown_settings_are_told(settings):
    with pytest.raises(OptionError, match="expected one of"):
        Segmentation(**settings)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("zoo/detr-shapes", "a detector is measured by detection"),
        ("zoo/gpt-lists", "expected a model of pictures alone"),
        ("zoo/clip-shapes", "expected a model of pictures alone"),
    ],
)
def test_models_of_another_kind_are_told(name, why):
    with pytest.raises(InputError, match=why):
        Segmentation().check(heedmap.load(name))


def test_a_classifier_fits(subject):
    Segmentation().check(subject)
    assert Segmentation("otsu", "label").settings == {"threshold": "otsu", "target": "label"}
