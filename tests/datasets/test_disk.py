"""The world on disk: read back by COCO's own reader, and question by question."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heedmap.errors import InputError, UnknownNameError
from heedmap.zoo.world import SHAPES, Shapes, ask, write_coco, write_vqa
from heedmap.zoo.world.files import run_lengths

NAMES = {"train": "train2014", "val": "val2014", "test": "test2015"}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools under NumPy 2
def test_coco_round_trip(tmp_path, capsys):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    steps = []
    path = write_coco(tmp_path, "val", 12, seed=3, side=80, progress=lambda *step: steps.append(step))
    assert steps == [(n, 12) for n in range(1, 13)]
    assert path == tmp_path / "annotations" / "instances_val2014.json"
    coco = COCO(str(path))
    capsys.readouterr()
    assert coco.getImgIds() == list(range(12))
    for scene in Shapes("val", seed=3, side=80, length=12):
        (image,) = coco.loadImgs(scene.index)
        with Image.open(tmp_path / "val2014" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (80, 80)
            assert np.abs(np.asarray(picture).astype(int) - scene.image).mean() < 4
        found = coco.loadAnns(coco.getAnnIds(imgIds=scene.index))
        for annotation, o in zip(found, scene.objects, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), o.mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y, x + width, y + height) == o.box
            assert annotation["area"] == o.mask.sum()
            assert coco.loadCats(annotation["category_id"])[0]["name"] == o.shape
            assert (annotation["colour"], annotation["size"], annotation["iscrowd"]) == (o.colour, o.size, 0)
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(SHAPES)
    assert len(coco.anns) == sum(len(s.objects) for s in Shapes("val", seed=3, side=80, length=12))


def test_its_own_masks_score_perfectly_in_coco_evaluation(tmp_path, capsys):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(write_coco(tmp_path, "test", 6)))
    keys = ("image_id", "category_id", "segmentation", "bbox")
    results = [{**{k: a[k] for k in keys}, "segmentation": coco.annToRLE(a), "score": 1.0} for a in coco.anns.values()]
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_run_lengths_spell_the_mask_out(rows):
    mask = np.array(rows)
    found = run_lengths(mask)
    pixels = [value for n, count in enumerate(found["counts"]) for value in [n % 2 == 1] * count]
    np.testing.assert_array_equal(np.array(pixels).reshape(mask.shape, order="F"), mask)
    assert found["size"] == list(mask.shape)
    assert all(count > 0 for count in found["counts"][1:])


@pytest.mark.parametrize("split", NAMES)
def test_vqa_round_trip(tmp_path, split):
    questions_path, annotations_path = write_vqa(tmp_path, split, 8)
    name = NAMES[split]
    assert questions_path == tmp_path / f"v2_OpenEnded_mscoco_{name}_questions.json"
    assert annotations_path == tmp_path / f"v2_mscoco_{name}_annotations.json"
    questions = json.loads(questions_path.read_text())
    annotations = json.loads(annotations_path.read_text())
    assert questions["data_subtype"] == annotations["data_subtype"] == name
    assert questions["task_type"] == "Open-Ended"
    expected = [(scene, question) for scene in Shapes(split, length=8) for question in ask(scene)]
    rows = zip(questions["questions"], annotations["annotations"], expected, strict=True)
    for question, annotation, (scene, original) in rows:
        assert question["question"] == original.text
        assert question["question_id"] == annotation["question_id"]
        assert question["image_id"] == annotation["image_id"] == scene.index
        assert (tmp_path / name / f"COCO_{name}_{scene.index:012d}.jpg").is_file()
        assert annotation["multiple_choice_answer"] == original.answer
        assert [a["answer"] for a in annotation["answers"]] == [original.answer] * 10
        assert [a["answer_id"] for a in annotation["answers"]] == list(range(1, 11))
        assert annotation["question_type"] == original.kind
        expected_type = "number" if original.kind == "count" else "yes/no" if original.answer in "yes no" else "other"
        assert annotation["answer_type"] == expected_type
        spans = [original.text[start:end] for start, end in annotation["evidence"]["words"]]
        assert spans == [word.text for word in original.words]
    ids = [question["question_id"] for question in questions["questions"]]
    assert len(set(ids)) == len(ids)


def test_evidence_is_the_annotation_of_coco(tmp_path):
    _, annotations_path = write_vqa(tmp_path, "train", 6)
    boxes = {a["id"]: a for a in json.loads(write_coco(tmp_path, "train", 6).read_text())["annotations"]}
    annotations = json.loads(annotations_path.read_text())["annotations"]
    asked = [question for scene in Shapes("train", length=6) for question in ask(scene)]
    for annotation, question in zip(annotations, asked, strict=True):
        found = [boxes[i] for i in annotation["evidence"]["objects"]]
        assert len(found) == len(question.objects)
        assert all(a["image_id"] == annotation["image_id"] for a in found)
        if question.kind == "colour":
            assert found[0]["colour"] == question.answer


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    def snapshot() -> dict[str, bytes]:
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    write_coco(tmp_path, "test", 3)
    write_vqa(tmp_path, "test", 3)
    first = snapshot()
    write_vqa(tmp_path, "test", 3)
    write_coco(tmp_path, "test", 3)
    assert snapshot() == first
    assert len(first) == 3 + 3


@pytest.mark.parametrize("writer", [write_coco, write_vqa])
def test_an_interrupted_run_leaves_no_list_and_no_half_file(tmp_path, writer):
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    writer(tmp_path, "val", 4)
    with pytest.raises(KeyboardInterrupt):
        writer(tmp_path, "val", 4, progress=stop)
    assert sorted(p.suffix for p in tmp_path.rglob("*") if p.is_file()) == [".jpg"] * 4
    writer(tmp_path, "val", 4)
    assert list(tmp_path.rglob("*.json"))


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heedmap.common.files.os.replace", full)
    with pytest.raises(InputError, match=r"cannot write .*\.jpg: No space left on device"):
        write_coco(tmp_path, "val", 2)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("writer", [write_coco, write_vqa])
def test_bad_input(tmp_path, writer):
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match=r"file.*choose a"):
        writer(tmp_path / "file", "val", 2)
    assert (tmp_path / "file").read_text() == "here"
    with pytest.raises(UnknownNameError, match="known splits: train, val, test"):
        writer(tmp_path, "dev", 2)
    for count in (0, 5001):
        with pytest.raises(InputError, match=f"count is {count}; val has 1 to 5000"):
            writer(tmp_path, "val", count)
    with pytest.raises(InputError, match="count is '2'"):
        writer(tmp_path, "val", "2")
    with pytest.raises(InputError, match="side is 20"):
        writer(tmp_path, "val", 2, side=20)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
