"""COCO's figures of pictures that are drawn anew: against pycocotools, which is given the drawn pictures themselves."""

import contextlib
import io
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from heedmap.errors import MissingLibraryError
from heedmap.evaluate.coco import KINDS, LOOSE, SETS, SIZES, Matches, encoded, judged, truth_of

SIDE = 140
THRESHOLDS = {"0.2:0.95": np.linspace(0.2, 0.95, 16), "0.5:0.95": np.linspace(0.5, 0.95, 10)}


def _disc(y, x, radius):
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def _entry(image, category, mask, **more):
    segmentation = {"size": [SIDE, SIDE], "counts": encoded(mask)}
    return {"image_id": image, "category_id": category, "segmentation": segmentation, **more}


def _world(seed, images=12):
    """Objects of all sizes, some of them crowds, and what was found: moved, of a wrong category, or from nowhere."""
    rng = np.random.default_rng(seed)
    true, found = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            y, x, radius, category = *rng.uniform(0, SIDE, 2), rng.choice([6, 25, 60]), int(rng.integers(3))
            mask = _disc(y, x, radius)
            true.append(_entry(image, category, mask, area=float(mask.sum()), iscrowd=int(rng.random() < 0.1)))
            for _ in range(rng.integers(0, 3)):
                moved = _disc(*(np.array([y, x]) + rng.normal(0, radius / 4, 2)), radius * rng.uniform(0.7, 1.3))
                category = category if rng.random() < 0.9 else 3
                found.append(_entry(image, category, moved, score=float(rng.random())))
    return true, found


def _reference(true, found, drawn, thresholds):
    """COCOeval's figures of the drawn pictures, each of them a picture of its own."""
    places = [(new, old) for new, old in enumerate(drawn.tolist())]
    again = [
        [{**one, "image_id": new} for new, old in places for one in own if one["image_id"] == old]
        for own in (true, found)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": new, "height": SIDE, "width": SIDE} for new, _ in places],
        "categories": [{"id": number} for number in range(4)],
        "annotations": [{**one, "id": number} for number, one in enumerate(again[0], 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(again[1]), "segm")
        judge.params.iouThrs = thresholds
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _matches(true, found, images=12):
    sizes = [(SIDE, SIDE)] * images
    return Matches(judged(truth_of(sizes, "abcd", [dict(one) for one in true]), [dict(one) for one in found]))


def _of(judge, kind, size):
    values = judge.eval["precision" if kind == "AP" else "recall"][..., SIZES.index(size), -1]
    return np.nan if (values == -1).all() else values[values > -1].mean()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SETS)
def test_figures_are_those_of_cocoeval_on_the_same_pictures(seed, name):
    true, found = _world(seed)
    matches = _matches(true, found)
    rng = np.random.default_rng(seed)
    for drawn in (np.arange(12), rng.permutation(12), *rng.integers(12, size=(3, 12))):
        judge = _reference(true, found, drawn, THRESHOLDS[name])
        figures = matches.figures(drawn)
        for kind in KINDS:
            for size in SIZES:
                assert figures[kind, name, size] == pytest.approx(_of(judge, kind, size), abs=1e-12, nan_ok=True)


def test_figures_of_the_whole_set_are_those_that_cocoeval_prints():
    true, found = _world(9)
    stats = _reference(true, found, np.arange(12), THRESHOLDS["0.5:0.95"]).stats
    figures = _matches(true, found).figures(np.arange(12))
    own = [figures[kind, "0.5:0.95", size] for kind in KINDS for size in SIZES]
    assert own == pytest.approx([stats[i] for i in (0, 3, 4, 5, 8, 9, 10, 11)], abs=1e-12)
    assert min(own) > 0


def test_half_of_what_is_there():
    masks = [_disc(40, 40, 20), _disc(90, 90, 20)]
    true = [_entry(i, 0, mask, area=float(mask.sum()), iscrowd=0) for i, mask in enumerate(masks)]
    matches = _matches(true, [_entry(0, 0, masks[0], score=0.9)], 2)
    figures = matches.figures(np.arange(2))
    assert [figures["AP", name, "all"] for name in SETS] == pytest.approx([51 / 101] * 2)
    assert figures["AR", "0.5:0.95", "all"] == figures["AR", "0.5:0.95", "medium"] == 0.5
    assert np.isnan(figures["AP", "0.5:0.95", "large"])
    assert matches.figures(np.array([0, 0]))["AP", "0.5:0.95", "all"] == 1
    assert matches.figures(np.array([1, 1]))["AP", "0.5:0.95", "all"] == 0


def test_nothing_that_is_right():
    mask = _disc(40, 40, 20)
    true = [_entry(0, 0, mask, area=float(mask.sum()), iscrowd=0)]
    figures = _matches(true, [_entry(0, 0, ~mask, score=0.9), _entry(1, 2, mask, score=0.8)], 2).figures(np.arange(2))
    assert figures["AP", "0.2:0.95", "all"] == figures["AR", "0.2:0.95", "all"] == 0


def test_a_figure_is_computed_once_for_the_same_pictures(monkeypatch):
    matches = _matches(*_world(1))
    first = matches.figures(np.array([3, 1, 1]))
    monkeypatch.setattr(matches, "_values", None)
    assert matches.figures(np.array([1, 3, 1])) is first


def test_cocos_own_thresholds_are_taken_as_they_are():
    thresholds = judged(truth_of([(SIDE, SIDE)], "a", []), [_entry(0, 0, _disc(40, 40, 9), score=0.5)]).params.iouThrs
    assert thresholds[len(LOOSE) :].tolist() == THRESHOLDS["0.5:0.95"].tolist()
    assert thresholds == pytest.approx(THRESHOLDS["0.2:0.95"])


def test_pycocotools_says_nothing(capfd):
    _matches(*_world(2))
    assert capfd.readouterr().out == ""


def test_missing_pycocotools_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingLibraryError, match=r"pip install '\.\[eval\]'"):
        encoded(_disc(1, 1, 1))
