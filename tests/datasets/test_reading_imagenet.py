"""ImageNet: a folder a class, and the segmentations in a MATLAB file."""

import io
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from heedmap.datasets.imagenet import open_folder, open_imagenet_segmentation
from heedmap.datasets.sample import Foreground, RightAnswers
from heedmap.errors import FileFormatError, InputError, SampleError


def _pixels(number: int) -> np.ndarray:
    """Height 3 + number, width 5."""
    return np.random.default_rng(number).integers(0, 256, (3 + number, 5, 3), dtype=np.uint8)


def _masks(number: int) -> list[np.ndarray]:
    """The first is what counts."""
    draw = np.random.default_rng(number)
    return [draw.random((3 + number, 5)) < 0.5 for _ in range(number + 1)]


def _cells(file, name, arrays, shape):
    """A cell array as MATLAB 7.3 writes it: references to what is in #refs#, which may be cell arrays again."""
    cells = file.create_dataset(name, (len(arrays),), h5py.ref_dtype)
    for number, array in enumerate(arrays):
        place = f"#refs#/{name.replace('/', '_')}_{number}"
        if isinstance(array, list):
            _cells(file, place, array, (1, len(array)))
        else:
            file[place] = array
        cells[number] = file[place].ref
    references = cells[()].reshape(shape)
    del file[name]
    file.create_dataset(name, shape, h5py.ref_dtype)[...] = references


def _text(text: str) -> np.ndarray:
    return np.array([[ord(letter)] for letter in text], dtype=np.uint16)


def _mat(folder, *, row=True, names=("n01_1", "n02_7"), images=None, masks=None):
    count = 2
    shape = (1, count) if row else (count, 1)
    with h5py.File(folder / "gtsegs_ijcv.mat", "w") as file:
        _cells(file, "value/img", images or [_pixels(n).transpose(2, 1, 0) for n in range(count)], shape)
        _cells(file, "value/gt", masks or [[m.T.astype(np.uint8) for m in _masks(n)] for n in range(count)], shape)
        if names:
            _cells(file, "value/id", [_text(name) for name in names], shape)
            _cells(file, "value/target", [_text("tench"), np.array([[3.0]])], shape)
    return folder


@pytest.mark.parametrize("row", [True, False])
def test_pictures_and_masks_stand_upright(tmp_path, row):
    reader = open_imagenet_segmentation(_mat(tmp_path, row=row))
    assert reader.keys == ["n01_1", "n02_7"]
    for number in (1, 0):
        sample = reader[number]
        np.testing.assert_array_equal(np.asarray(sample.inputs["image"]), _pixels(number))
        assert isinstance(sample.truth, Foreground)
        assert sample.truth.mask.dtype == bool
        np.testing.assert_array_equal(sample.truth.mask, _masks(number)[0])
        assert sample.truth.label == ["tench", "3"][number]
    assert reader[-1].key == "n02_7"
    with pytest.raises(IndexError):
        reader[2]
    assert reader.description["samples"] == len(reader) == 2
    assert reader.description["files"][0]["name"] == "gtsegs_ijcv.mat"


@pytest.mark.parametrize("names", [None, ("same", "same"), ("", "a")])
def test_pictures_without_names_of_their_own_are_numbered(tmp_path, names):
    reader = open_imagenet_segmentation(_mat(tmp_path, names=names))
    assert reader.keys == ["0", "1"]
    assert reader[1].truth.label == (None if names is None else "3")


@pytest.mark.parametrize("names", [np.zeros(2), np.full((1, 2), np.nan), "a group"])
def test_names_of_another_kind_are_passed_over(tmp_path, names):
    with h5py.File(_mat(tmp_path) / "gtsegs_ijcv.mat", "a") as file:
        del file["value/id"]
        if isinstance(names, str):
            file["value/id/inner"] = np.zeros(2)
        else:
            file["value/id"] = names
    assert open_imagenet_segmentation(tmp_path).keys == ["0", "1"]


def test_grey_pictures_and_single_pixels(tmp_path):
    images = [np.array([[9]], dtype=np.uint8), _pixels(1).transpose(2, 1, 0)]
    masks = [[np.array([[1]], dtype=np.uint8)], _masks(1)[0].T.astype(float)]
    reader = open_imagenet_segmentation(_mat(tmp_path, images=images, masks=masks))
    assert reader[0].inputs["image"].getpixel((0, 0)) == (9, 9, 9)
    assert reader[0].truth.mask.tolist() == [[True]]
    np.testing.assert_array_equal(reader[1].truth.mask, _masks(1)[0])


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ([np.zeros((4, 5, 3), np.uint8)] * 2, None, r"shape \(4, 5, 3\), uint8; expected \(3, width, height\)"),
        ([np.zeros((3, 5, 3), float)] * 2, None, "float64; expected"),
        (None, [[np.ones((2, 2), np.uint8)]] * 2, r"and its mask \(2, 2\)"),
        (None, [[np.ones(3, np.uint8)]] * 2, "its mask has shape"),
        (None, [[np.ones((1, 2, 3), np.uint8)]] * 2, "its mask has shape"),
    ],
)
def test_damaged_entries(tmp_path, images, masks, message):
    with pytest.raises(SampleError, match=message):
        open_imagenet_segmentation(_mat(tmp_path, images=images, masks=masks))[0]


def test_references_to_nothing(tmp_path):
    with h5py.File(_mat(tmp_path) / "gtsegs_ijcv.mat", "a") as file:
        file["value/gt"][0, 0] = h5py.Reference()
    reader = open_imagenet_segmentation(tmp_path)
    with pytest.raises(SampleError, match=r"picture n01_1 cannot be read from gtsegs_ijcv\.mat"):
        reader[0]
    assert reader[1].key == "n02_7"


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"no file of ImageNet-Segmentation at .*gtsegs_ijcv\.mat"):
        open_imagenet_segmentation(tmp_path)
    path = tmp_path / "other.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(FileFormatError, match=r"cannot be read as a MATLAB 7\.3"):
        open_imagenet_segmentation(tmp_path, file=path)
    with h5py.File(path, "w") as file:
        file["value/img"] = np.zeros(3)
    with pytest.raises(FileFormatError, match="no cell array value/img"):
        open_imagenet_segmentation(tmp_path, file=path)
    with h5py.File(_mat(tmp_path) / "gtsegs_ijcv.mat", "a") as file:
        del file["value/gt"]
        file.create_dataset("value/gt", (1, 1), h5py.ref_dtype)
    with pytest.raises(FileFormatError, match="2 pictures and 1 masks"):
        open_imagenet_segmentation(tmp_path)


def _folders(root, classes=("n02", "n01", "n10")):
    for number, name in enumerate(classes):
        (root / name / "deep").mkdir(parents=True)
        Image.new("L", (number + 1, 1), 100).save(root / name / f"{name}_1.JPEG")
        Image.new("RGBA", (1, 1)).save(root / name / "deep" / "z.png")
        (root / name / "notes.txt").write_text("no picture")
    return root


def test_a_folder_a_class(tmp_path):
    _folders(tmp_path)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "readme.txt").write_text("")
    reader = open_folder(tmp_path)
    assert reader.keys == [
        f"{name}/{file}" for name in ("n01", "n02", "n10") for file in (f"{name}_1.JPEG", "deep/z.png")
    ]
    sample = reader[2]
    assert (sample.inputs["image"].mode, sample.inputs["image"].size) == ("RGB", (1, 1))
    assert sample.truth == RightAnswers({"n02": 1.0}, index=1)
    assert reader.problems == {}
    assert reader.description == {
        "kind": "folder",
        "files": [],
        "samples": 6,
        "classes": 3,
        "folder": tmp_path.name,
    }


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.txt", "n00 nothing\nn01 tench, Tinca tinca\nn02 crane\n\nn10\n"),
        ("a.json", json.dumps({"n00": "nothing", "n01": "tench, Tinca tinca", "n02": "crane", "n10": "n10"})),
        (
            "a.json",
            json.dumps(
                {"10": ["n10", "n10"], "1": ["n01", "tench, Tinca tinca"], "2": ["n02", "crane"], "0": ["n00", ""]}
            ),
        ),
    ],
)
def test_names_of_classes_keep_their_numbers(tmp_path, file, content):
    _folders(tmp_path / "data")
    (tmp_path / file).write_text(content)
    reader = open_folder(tmp_path / "data", names=tmp_path / file)
    assert [sample.truth for sample in reader][::2] == [
        RightAnswers({"tench, Tinca tinca": 1.0}, index=1),
        RightAnswers({"crane": 1.0}, index=2),
        RightAnswers({"n10": 1.0}, index=3),
    ]


def test_classes_that_give_no_sample_are_listed(tmp_path):
    _folders(tmp_path / "data")
    (tmp_path / "data" / "n03").mkdir()
    (tmp_path / "a.txt").write_text("n01 a\nn02 b\nn03 c\n")
    reader = open_folder(tmp_path / "data", names=tmp_path / "a.txt")
    assert reader.problems == {"n03": "it has no picture", "n10": "it is not among the class names"}
    assert len(reader) == 4


def test_a_damaged_picture(tmp_path):
    _folders(tmp_path, ["n01"])
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG")
    (tmp_path / "n01" / "n01_1.JPEG").write_bytes(buffer.getvalue()[:500])
    with pytest.raises(SampleError, match=r"n01/n01_1\.JPEG cannot be read as an image"):
        open_folder(tmp_path)[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", b"", "names no class"),
        ("a.txt", b"\xff\xfe", "no UTF-8 text"),
        ("a.json", b"[]", "holds a list"),
        ("a.json", b'{"a": ["b"]}', "expected folder → name, or number"),
        ("a.json", b'{"a": ["b", "c"]}', "expected folder → name, or number"),
        ("a.json", b'{"0": 3}', "expected folder → name, or number"),
    ],
)
def test_names_that_are_none(tmp_path, file, content, message):
    _folders(tmp_path / "data")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        open_folder(tmp_path / "data", names=tmp_path / file)


def test_no_classes(tmp_path):
    with pytest.raises(InputError, match="there is no folder in"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="no folder of classes at"):
        open_folder(tmp_path / "no")
    with pytest.raises(InputError, match="no file of class names at"):
        open_folder(tmp_path, names=tmp_path / "no.txt")
