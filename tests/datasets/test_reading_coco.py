"""COCO: round trips with our own writer, masks as pycocotools decodes them, and files that are not as they should be."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from heedmap.datasets.coco import decoded, open_coco
from heedmap.datasets.sample import Objects
from heedmap.errors import FileFormatError, InputError, MissingLibraryError, SampleError
from heedmap.zoo.world import Shapes, write_coco

NUMPY_2 = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def test_round_trip(tmp_path):
    write_coco(tmp_path, "val", 8, side=80)
    reader = open_coco(tmp_path)
    assert reader.keys == [str(n) for n in range(8)]
    assert reader.problems == {}
    for sample, scene in zip(reader, Shapes("val", side=80, length=8), strict=True):
        assert sample.key == str(scene.index)
        assert sample.inputs["image"].size == (80, 80)
        assert isinstance(sample.truth, Objects)
        for found, o in zip(sample.truth.objects, scene.objects, strict=True):
            np.testing.assert_array_equal(found.mask, o.mask)
            x, y, width, height = found.box
            assert (x, y, x + width, y + height) == o.box
            assert (found.label, found.crowd, found.area) == (o.shape, False, o.mask.sum())


def _as_coco(data, capsys):
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = data
    coco.createIndex()
    capsys.readouterr()
    return coco


@NUMPY_2
def test_an_evaluator_finds_all_that_was_read(tmp_path, capsys):
    from pycocotools.cocoeval import COCOeval

    path = write_coco(tmp_path, "test", 6)
    next((tmp_path / "test2015").glob("*000002.jpg")).unlink()
    reader = open_coco(tmp_path)
    assert reader.problems == {"2": "COCO_test2015_000000000002.jpg is not in test2015"}
    assert list(reader.keys) == ["0", "1", "3", "4", "5"]
    truth = json.loads(path.read_text())
    truth["images"] = [image for image in truth["images"] if image["id"] != 2]
    truth["annotations"] = [annotation for annotation in truth["annotations"] if annotation["image_id"] != 2]
    coco = _as_coco(truth, capsys)
    numbers = {category["name"]: category["id"] for category in truth["categories"]}
    results = [
        {
            "image_id": int(sample.key),
            "category_id": numbers[found.label],
            "segmentation": coco_masks.encode(np.asfortranarray(found.mask.astype(np.uint8))),
            "score": 1.0,
        }
        for sample in reader
        for found in sample.truth.objects
    ]
    evaluation = COCOeval(coco, coco.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert len(results) == len(truth["annotations"])
    capsys.readouterr()
    assert evaluation.stats[0] == pytest.approx(1)


def _random_mask(seed: int, height: int = 13, width: int = 9) -> np.ndarray:
    draw = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(int(draw.integers(0, 4))):
        y, x = int(draw.integers(0, height)), int(draw.integers(0, width))
        mask[y : y + int(draw.integers(1, 9)), x : x + int(draw.integers(1, 9))] = True
    return mask ^ (draw.random(mask.shape) < 0.1)


@NUMPY_2
@pytest.mark.parametrize("seed", range(25))
def test_run_lengths_as_pycocotools_has_them(seed):
    mask = _random_mask(seed, *np.random.default_rng(seed).integers(1, 300, 2))
    height, width = mask.shape
    coded = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": [height, width], "counts": coded["counts"].decode()}
    np.testing.assert_array_equal(decoded(text, height, width), mask)
    pixels = mask.ravel(order="F")
    edges = [0, *(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1), pixels.size]
    counts = ([0] if pixels[0] else []) + [int(end - start) for start, end in pairwise(edges)]
    np.testing.assert_array_equal(decoded({"size": [height, width], "counts": counts}, height, width), mask)


@NUMPY_2
@pytest.mark.parametrize("seed", range(10))
def test_polygons_as_pycocotools_draws_them(seed):
    from pycocotools.coco import COCO

    draw = np.random.default_rng(seed)
    polygons = [draw.uniform(-2, 42, 2 * int(draw.integers(3, 9))).tolist() for _ in range(int(draw.integers(1, 4)))]
    coco = COCO()
    coco.imgs = {1: {"id": 1, "height": 30, "width": 40}}
    expected = coco.annToMask({"image_id": 1, "segmentation": polygons})
    np.testing.assert_array_equal(decoded(polygons, 30, 40), expected.astype(bool))


def test_a_square_is_where_it_is():
    mask = decoded([[1, 2, 5, 2, 5, 4, 1, 4]], 6, 8)
    expected = np.zeros((6, 8), dtype=bool)
    expected[2:4, 1:5] = True
    np.testing.assert_array_equal(mask, expected)


def test_empty_masks():
    assert not decoded([], 3, 4).any()
    assert not decoded({"size": [3, 4], "counts": [12]}, 3, 4).any()
    assert decoded({"size": [3, 4], "counts": [0, 12]}, 3, 4).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [3, 4], "counts": [11]}, "of 11 pixels"),
        ({"size": [3, 4], "counts": [13]}, "of 13 pixels"),
        ({"size": [3, 4], "counts": [-1, 13]}, "no list of whole numbers"),
        ({"size": [3, 4], "counts": [1.5, 10.5]}, "no list of whole numbers"),
        ({"size": [4, 3], "counts": [12]}, r"size \[4, 3\]; the image has 3 × 4"),
        ({"size": [3, 4], "counts": "11"}, "of 2 pixels"),
        ({"size": [3, 4], "counts": ""}, "of 0 pixels"),
        ({"size": [3, 4], "counts": "zzz"}, "run lengths are"),
        ({"counts": [12]}, "size None"),
        ({}, "no list of whole numbers"),
        ([[1, 2, 3, 4]], "three points or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three points or more"),
        ([[]], "three points or more"),
        ([1, 2, 3, 4, 5, 6], "three points or more"),
        ([["a"] * 6], "three points or more"),
        ([[0, 0, 1e12, 0, 1e12, 1e12]], "far beyond the image"),
        ([[0, 0, float("nan"), 0, 1, 1]], "far beyond the image"),
        (None, "is a NoneType"),
        ("abc", "is a str"),
    ],
)
def test_segmentations_that_are_none(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decoded(segmentation, 3, 4)


def _data(folder, annotations=(), images=None, categories=({"id": 1, "name": "cat"},)):
    images = [{"id": 5, "file_name": "a.png", "width": 4, "height": 3}] if images is None else images
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("L", (4, 3), 200).save(folder / "pictures" / "a.png")
    data = {"images": images, "annotations": list(annotations), "categories": list(categories), "info": {"id": 3}}
    (folder / "i.json").write_text(json.dumps(data))
    return {"instances": folder / "i.json", "images": folder / "pictures"}


def _annotation(**changed):
    fields = {"id": 9, "image_id": 5, "category_id": 1, "bbox": [0, 0, 2, 2], "segmentation": []}
    return {name: value for name, value in (fields | changed).items() if value is not None}


def test_what_an_annotation_may_leave_out(tmp_path):
    reader = open_coco(tmp_path, **_data(tmp_path, [_annotation(segmentation=None), _annotation(id=10, iscrowd=1)]))
    sample = reader[0]
    assert sample.inputs["image"].mode == "RGB"
    plain, crowd = sample.truth.objects
    assert (plain.area, plain.crowd, plain.mask.any(), plain.mask.shape) == (4, False, False, (3, 4))
    assert crowd.crowd


def test_a_picture_without_objects_is_a_sample(tmp_path):
    assert open_coco(tmp_path, **_data(tmp_path))[0].truth.objects == ()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category_id": 2}, "no category of the file"),
        ({"category_id": [1]}, "no category of the file"),
        ({"category_id": None}, "no category of the file"),
        ({"bbox": None}, "no bbox of four numbers"),
        ({"bbox": [1, 2, 3]}, "no bbox of four numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "no bbox of four numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "no bbox of four numbers"),
        ({"area": "big"}, "no number as area"),
    ],
)
def test_an_image_with_a_damaged_annotation_is_left_out(tmp_path, changed, message):
    paths = _data(tmp_path, [_annotation(id=8), _annotation(**changed), _annotation(id=10, **changed)])
    reader = open_coco(tmp_path, **paths)
    assert len(reader) == 0
    assert list(reader.problems) == ["5"]
    assert reader.problems["5"].startswith("annotation 9 ")
    assert message in reader.problems["5"]


def test_annotations_of_nothing_and_odd_rows_are_listed(tmp_path):
    images = [
        {"id": 5, "file_name": "a.png", "width": 4, "height": 3},
        {"id": 5, "file_name": "a.png", "width": 4, "height": 3},
        {"id": 6, "file_name": "b.png", "width": 4, "height": 3},
        {"id": 7, "file_name": "a.png", "width": 0, "height": 3},
        {"id": 8, "width": 4, "height": 3},
        {"file_name": "a.png"},
        "odd",
    ]
    annotations = [_annotation(image_id=99), _annotation(image_id=[5]), _annotation(id=11, image_id=6), "odd"]
    reader = open_coco(tmp_path, **_data(tmp_path, annotations, images))
    assert reader.keys == ["5"]
    assert reader.problems == {
        "image 5 (row 1)": "its id was there before",
        "6": "b.png is not in pictures",
        "7": "it has no file_name, or no width and height in pixels",
        "8": "it has no file_name, or no width and height in pixels",
        "image in row 5": "it has no id",
        "image in row 6": "it has no id",
        "annotation 9": "there is no image None",
        "annotation in row 3": "there is no image None",
    }


def test_samples_that_turn_out_to_be_unusable(tmp_path):
    paths = _data(tmp_path, [_annotation(segmentation={"size": [3, 4], "counts": [3]})])
    with pytest.raises(SampleError, match="annotation 9 of image 5 is damaged: its run lengths are of 3 pixels"):
        open_coco(tmp_path, **paths)[0]
    paths = _data(tmp_path, images=[{"id": 5, "file_name": "a.png", "width": 3, "height": 4}])
    with pytest.raises(SampleError, match=r"a\.png has 4 × 3 pixels, and its annotation says 3 × 4"):
        open_coco(tmp_path, **paths)[0]
    paths = _data(tmp_path)
    (paths["images"] / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(SampleError, match=r"a\.png cannot be read as an image"):
        open_coco(tmp_path, **paths)[0]


def test_categories_that_are_none(tmp_path):
    with pytest.raises(FileFormatError, match="categories without an id or a name"):
        open_coco(tmp_path, **_data(tmp_path, categories=[{"id": 1}]))
    (tmp_path / "i.json").write_text('{"images": []}')
    with pytest.raises(FileFormatError, match="no list 'categories' but images"):
        open_coco(tmp_path, instances=tmp_path / "i.json", images=tmp_path / "pictures")


def test_which_files_are_read(tmp_path):
    with pytest.raises(InputError, match=r"no annotations/instances_\*\.json"):
        open_coco(tmp_path)
    write_coco(tmp_path, "val", 1)
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(
        (tmp_path / "annotations" / "instances_val2014.json").read_bytes()
    )
    with pytest.raises(InputError, match="val2014, val2017; choose one by split="):
        open_coco(tmp_path, split="val")
    assert len(open_coco(tmp_path, split="val2014")) == 1
    with pytest.raises(InputError, match=r"no folder of pictures at .*val2017"):
        open_coco(tmp_path, split="val2017")
    (tmp_path / "images").mkdir()
    (tmp_path / "val2014").rename(tmp_path / "images" / "val2017")
    reader = open_coco(tmp_path, split="val2017")
    assert len(reader) == 1
    named = open_coco(tmp_path, instances=tmp_path / "annotations" / "instances_val2017.json")
    assert named.description == reader.description
    assert reader.description == {
        "kind": "coco",
        "files": [
            {
                "name": "instances_val2017.json",
                "bytes": (tmp_path / "annotations" / "instances_val2017.json").stat().st_size,
            }
        ],
        "samples": 1,
        "images": "val2017",
    }


def test_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingLibraryError, match=r"needs pycocotools; .*pip install '\.\[eval\]'"):
        decoded([[1, 2, 5, 2, 5, 4]], 6, 8)
