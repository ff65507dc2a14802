"""Box features: the same boxes out of every kind of file, and files that are damaged."""

import base64

import h5py
import numpy as np
import pytest

import heedmap
from heedmap.datasets.features import open_features
from heedmap.datasets.files import image_id
from heedmap.errors import FileFormatError, InputError, MissingLibraryError, SampleError
from heedmap.zoo.world import Shapes, regions

SIZES = {"7": (20, 10), "42": (8, 16)}
"""Image id → width and height."""
CORNERS = np.array([[0, 0, 0.5, 1], [0.25, 0.5, 1, 1], [0.5, 0.25, 0.75, 0.5]], "f4")
FEATURES = {name: np.random.default_rng(int(name)).normal(size=(3, 5)).astype("f4") for name in SIZES}
OBJECTS = np.array([2, 0, 9], dtype="<i8")


def _pixels(name: str) -> np.ndarray:
    return CORNERS * np.tile(SIZES[name], 2).astype("f4")


def _base64(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _lxmert_line(name: str, **changed: str) -> str:
    width, height = SIZES[name]
    fields = {
        "img_id": f"COCO_val2014_{int(name):012d}",
        "img_h": str(height),
        "img_w": str(width),
        "objects_id": _base64(OBJECTS),
        "objects_conf": _base64(np.ones(3, "f4")),
        "attrs_id": _base64(OBJECTS),
        "attrs_conf": _base64(np.ones(3, "f4")),
        "num_boxes": "3",
        "boxes": _base64(_pixels(name)),
        "features": _base64(FEATURES[name]),
    }
    return "\t".join((fields | changed).values())


def _tsv(folder):
    (folder / "a.tsv").write_text("".join(_lxmert_line(name) + "\n" for name in SIZES))
    return folder / "a.tsv"


def _butd_tsv(folder):
    def line(name):
        width, height = SIZES[name]
        return f"{name}\t{width}\t{height}\t3\t{_base64(_pixels(name))}\t{_base64(FEATURES[name])}"

    head = "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures"
    (folder / "b.tsv").write_bytes("\r\n".join([head, *map(line, SIZES)]).encode())  # the last line has no end
    return folder / "b.tsv"


def _npz(folder):
    (folder / "npz" / "val2014").mkdir(parents=True)
    names = {"7": "COCO_val2014_000000000007.jpg.npz", "42": "000000000042.npz"}
    for name, (width, height) in SIZES.items():
        filled = np.concatenate([FEATURES[name], np.zeros((2, 5), "f4")])
        boxes = np.concatenate([_pixels(name), np.zeros((2, 4), "f4")])
        arrays = {"x": filled, "bbox": boxes, "num_bbox": 3, "image_w": width, "image_h": height, "objects_id": OBJECTS}
        np.savez(folder / "npz" / "val2014" / names[name], **arrays, other=np.zeros(2))
    return folder / "npz"


def _turned_npz(folder):
    (folder / "turned").mkdir()
    for name, (width, height) in SIZES.items():
        arrays = {"x": FEATURES[name].T, "bbox": _pixels(name), "image_w": width, "image_h": height}
        np.savez(folder / "turned" / f"{name}.npz", **arrays)
    return folder / "turned"


def _flat_h5(folder):
    with h5py.File(folder / "flat.h5", "w") as file:
        file["features"] = np.stack([np.concatenate([FEATURES[name], np.ones((1, 5))]) for name in SIZES])
        file["boxes"] = np.stack([np.concatenate([_pixels(name), np.ones((1, 4))]) for name in SIZES])
        file["num_boxes"] = [3, 3]
        file["image_ids"] = [int(name) for name in SIZES]
        file["widths"], file["heights"] = np.array(list(SIZES.values())).T
        file["objects_id"] = np.stack([[*OBJECTS, 0]] * 2)
    return folder / "flat.h5"


def _grouped_h5(folder):
    with h5py.File(folder / "grouped.hdf5", "w") as file:
        for name, (width, height) in SIZES.items():
            group = file.create_group(f"COCO_val2014_{int(name):012d}")
            group["features"], group["bbox"] = FEATURES[name], _pixels(name)
            group.attrs["image_w"], group.attrs["image_h"] = width, height
    return folder / "grouped.hdf5"


def _scaled_h5(folder):
    with h5py.File(folder / "scaled.h5", "w") as file:
        file["features"], file["boxes"] = np.stack([FEATURES[name] for name in SIZES]), np.stack([CORNERS] * 2)
        file.create_dataset("image_ids", data=[f"COCO_val2014_{int(name):012d}" for name in SIZES])
    return folder / "scaled.h5"


WRITERS = [_tsv, _butd_tsv, _npz, _turned_npz, _flat_h5, _grouped_h5, _scaled_h5]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_boxes_out_of_every_file(tmp_path, write):
    features = open_features(write(tmp_path))
    assert set(features.ids) == set(SIZES)
    assert features.problems == {}
    for name in reversed(SIZES):
        boxes = features.read(name)
        assert set(boxes) == {"features", "boxes"}
        assert boxes["features"].dtype == boxes["boxes"].dtype == np.float32
        np.testing.assert_array_equal(boxes["features"], FEATURES[name])
        np.testing.assert_allclose(boxes["boxes"], CORNERS, atol=1e-6)
    assert features.description["samples"] == 2
    assert str(tmp_path) not in str(features.description)


@pytest.mark.parametrize("write", [_tsv, _npz, _flat_h5])
def test_objects_have_names_where_these_are_given(tmp_path, write):
    (tmp_path / "names.txt").write_text("cat,kitten\ndog\ncow\n")
    boxes = open_features(write(tmp_path), tmp_path / "names.txt").read("7")
    assert boxes["labels"] == ["cow", "cat", "9"]


def test_objects_may_be_left_empty(tmp_path):
    (tmp_path / "names.txt").write_text("cat\n")
    (tmp_path / "a.tsv").write_text(_lxmert_line("7", objects_id="", objects_conf="", attrs_id="", attrs_conf=""))
    assert set(open_features(tmp_path / "a.tsv", tmp_path / "names.txt").read("7")) == {"features", "boxes"}


def test_names_in_the_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["3/features"] = np.ones((2, 5))
        file["3/labels"] = ["cat", "dog"]
    assert open_features(tmp_path / "a.h5").read("3")["labels"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("COCO_val2014_000000000042", "42"),
        ("COCO_test2015_000000000042", "42"),
        ("000000000042", "42"),
        (42, "42"),
        ("0", "0"),
        ("000", "0"),
        ("dev-850-0-img0", "dev-850-0-img0"),
        ("n01440764_42", "n01440764_42"),
    ],
)
def test_ids_are_alike_however_they_are_written(name, number):
    assert image_id(name) == number


def test_a_model_takes_what_is_read(tmp_path):
    scene = Shapes("test")[3]
    found = regions(scene)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group(str(scene.index))
        group["features"], group["boxes"] = found.features, found.boxes
        group["width"] = group["height"] = scene.side
    boxes = open_features(tmp_path / "a.h5").read(str(scene.index))
    subject = heedmap.load("zoo/lxmert-shapes")
    inputs = subject.inputs(text="what colour is the star?", boxes=boxes)
    np.testing.assert_allclose(inputs["visual_feats"][0].numpy(), found.features)
    np.testing.assert_allclose(inputs["visual_pos"][0].numpy(), found.positions, atol=1e-6)


def test_a_long_line_is_not_held_on_opening(tmp_path):
    import tracemalloc

    wide = np.zeros((100, 20_000), "<f4")
    with (tmp_path / "a.tsv").open("w") as file:
        for name in range(4):
            file.write(f"{name}\t9\t9\t100\t{_base64(np.ones((100, 4), '<f4'))}\t{_base64(wide)}\n")
    tracemalloc.start()
    features = open_features(tmp_path / "a.tsv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000 < (tmp_path / "a.tsv").stat().st_size
    assert features.read("3")["features"].shape == (100, 20_000)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": "AAA"}, "is damaged"),
        ({"features": "!!!!"}, "is damaged"),
        ({"features": ""}, "0 bytes are no whole number"),
        ({"features": _base64(np.ones(16, "f4"))}, "64 bytes are no whole number of float32 for each of 3 boxes"),
        ({"boxes": _base64(np.ones((2, 4), "f4"))}, "no whole number"),
        ({"boxes": _base64(np.ones((3, 5), "f4"))}, r"its boxes have shape \(3, 5\)"),
        ({"num_boxes": "three"}, "is damaged"),
        ({"num_boxes": "0"}, "each of 0 boxes"),
        ({"num_boxes": "-3"}, "each of -3 boxes"),
        ({"img_w": "x"}, "is damaged"),
        ({"img_w": "0"}, "width and height are needed"),
        ({"img_w": "3"}, "beyond its 3 × 10"),
        ({"features": _base64(np.full((3, 5), np.nan, "f4"))}, "expected finite numbers"),
        ({"boxes": _base64(np.full((3, 4), np.inf, "f4"))}, "expected finite numbers"),
        ({"boxes": _base64(np.full((3, 4), -5, "f4"))}, "go from -5"),
    ],
)
def test_a_damaged_line_is_a_sample_that_cannot_be_used(tmp_path, changed, message):
    (tmp_path / "a.tsv").write_text(_lxmert_line("7", **changed) + "\n" + _lxmert_line("42") + "\n")
    features = open_features(tmp_path / "a.tsv")
    with pytest.raises(SampleError, match=message):
        features.read("7")
    np.testing.assert_array_equal(features.read("42")["features"], FEATURES["42"])


def test_a_file_that_was_cut_off(tmp_path):
    path = _tsv(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    features = open_features(path)
    assert features.read("7")["features"].shape == (3, 5)
    with pytest.raises(SampleError, match=r"image 42: its line in a\.tsv is damaged"):
        features.read("42")


def test_odd_lines_are_listed(tmp_path):
    lines = [_lxmert_line("7"), "", "9\t1", _lxmert_line("7"), _lxmert_line("42")]
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    features = open_features(tmp_path / "a.tsv")
    assert list(features.ids) == ["7", "42"]
    assert features.problems == {"9": "line 3 has 2 columns; expected 10", "line 4": "image 7 was there before"}


def test_a_box_may_go_a_little_beyond(tmp_path):
    boxes = _pixels("7")
    boxes[1, 2:] += 0.7
    (tmp_path / "a.tsv").write_text(_lxmert_line("7", boxes=_base64(boxes)))
    assert open_features(tmp_path / "a.tsv").read("7")["boxes"].max() == 1


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.tsv", b"", FileFormatError, "is empty"),
        ("a.tsv", b"1\t2\t3\n", FileFormatError, "has 3 columns; expected 10"),
        ("a.h5", b"no HDF5", FileFormatError, "cannot be read as HDF5"),
        ("a.csv", b"1,2", InputError, r"ends in '\.csv'; expected \.tsv, \.h5, \.hdf5 or a folder"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, error, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        open_features(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"no file of box features at .*no\.tsv"):
        open_features(tmp_path / "no.tsv")
    with pytest.raises(FileFormatError, match=r"no \.npz file"):
        open_features(tmp_path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(FileFormatError, match="holds x; expected features with image_ids"):
        open_features(tmp_path / "a.h5")
    with pytest.raises(InputError, match="no file of object names"):
        open_features(tmp_path / "a.h5", tmp_path / "no.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(FileFormatError, match="no UTF-8 text"):
        open_features(tmp_path / "a.h5", tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"bbox": np.ones((3, 4))}, "no array of features"),
        ({"x": np.ones((3, 5)), "bbox": np.full((3, 4), 7.0)}, "its size is None"),
        ({"x": np.ones(3)}, r"shape \(3,\)"),
        ({"x": np.ones((3, 5)), "num_bbox": 0}, r"shape \(0, 5\)"),
        ({"x": np.ones((3, 5)), "bbox": np.ones((2, 4))}, r"shape \(2, 4\)"),
        ({"x": np.ones((3, 5)), "labels": np.array(["a", "b"])}, "2 labels for 3 boxes"),
        ({"x": np.array([["a"]])}, "cannot be read"),
        ({"x": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_damaged_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "1.npz", **arrays)
    with pytest.raises(SampleError, match=message):
        open_features(tmp_path).read("1")


def test_npz_files_that_are_none(tmp_path):
    np.savez(tmp_path / "1.npz", x=np.ones((30, 50)))
    whole = (tmp_path / "1.npz").read_bytes()
    for name, content in {"2": b"", "3": b"PK\x03\x04 none", "4": whole[:400]}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(SampleError, match=rf"{name}\.npz cannot be read"):
            open_features(tmp_path).read(name)
    (tmp_path / "01.npz").write_bytes(whole)
    assert open_features(tmp_path).problems == {"1.npz": "image 1 is 01.npz already"}


def test_h5_that_is_damaged(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["image_ids"] = np.ones((1, 3, 5)), [1, 2, 1]
    features = open_features(tmp_path / "a.h5")
    assert features.problems == {"entry 2": "image 1 was there before"}
    assert features.read("1")["features"].shape == (3, 5)
    with pytest.raises(SampleError, match=r"image 2: a\.h5 cannot be read"):
        features.read("2")


def test_without_h5py(tmp_path, monkeypatch):
    path = _flat_h5(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingLibraryError, match=r"needs h5py; .*pip install '\.\[eval\]'"):
        open_features(path)
