"""Parquet: columns of every kind, rows in any order, and files that are not as they should be."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from heedmap.datasets import tables
from heedmap.datasets.sample import Foreground, RightAnswers
from heedmap.datasets.tables import open_table
from heedmap.errors import FileFormatError, InputError, OptionError, SampleError


def _png(value: int, size=(3, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path, columns, metadata=None, **options):
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path, **options)
    return path


def test_texts_and_labels(tmp_path):
    reader = open_table(_write(tmp_path / "a.parquet", {"text": ["x", "y"], "label": ["good", "bad"], "more": [1, 2]}))
    assert reader.keys == ["a:0", "a:1"]
    assert [sample.inputs for sample in reader] == [{"text": "x"}, {"text": "y"}]
    assert [sample.truth for sample in reader] == [RightAnswers({"good": 1.0}), RightAnswers({"bad": 1.0})]
    assert reader.description["columns"] == {"text": "text", "label": "label"}


def test_pairs_and_numbers_under_other_names(tmp_path):
    path = _write(
        tmp_path / "a.parquet", {"premise": ["a", "b"], "hypothesis": ["c", None], "label": [2, 0], "name": [7, 8]}
    )
    columns = {"text": "premise", "text_pair": "hypothesis", "id": "name"}
    reader = open_table(path, columns=columns)
    assert reader.keys == ["7", "8"]
    assert [sample.inputs["text"] for sample in reader] == [("a", "c"), "b"]
    assert [sample.truth for sample in reader] == [RightAnswers({"2": 1.0}, index=2), RightAnswers({"0": 1.0}, index=0)]


def test_names_of_classes_that_datasets_left(tmp_path):
    features = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    path = _write(tmp_path / "a.parquet", {"text": ["x", "y"], "label": [1, 2]}, metadata)
    reader = open_table(path)
    assert reader[0].truth == RightAnswers({"pos": 1.0}, index=1)
    with pytest.raises(SampleError, match="row a:1 has the label 2"):
        reader[1]


def test_images_as_bytes_paths_and_both(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(_png(50))
    both = [{"bytes": _png(60), "path": "no.png"}, {"bytes": None, "path": "pictures/a.png"}]
    for name, images, values in (
        ("bytes", [_png(10), _png(20)], (10, 20)),
        ("paths", ["pictures/a.png", "pictures/a.png"], (50, 50)),
        ("both", both, (60, 50)),
    ):
        reader = open_table(_write(tmp_path / f"{name}.parquet", {"image": images, "label": [0, 1]}))
        assert [sample.inputs["image"].getpixel((1, 1)) for sample in reader] == [(value,) * 3 for value in values]


def test_masks(tmp_path):
    masks = [_png(0), _png(255)]
    columns = {"image": [_png(9)] * 2, "mask": masks, "label": ["cat", None]}
    reader = open_table(_write(tmp_path / "a.parquet", columns))
    empty, full = (sample.truth for sample in reader)
    assert isinstance(empty, Foreground)
    assert (empty.mask.shape, empty.mask.any(), empty.label) == ((2, 3), False, "cat")
    assert (full.mask.all(), full.label) == (True, None)


def test_answers_are_votes_where_ten_or_more_give_them(tmp_path):
    people = [{"answer": "Two", "answer_id": n} for n in range(3)] + [
        {"answer": "no", "answer_id": n} for n in range(7)
    ]
    path = _write(tmp_path / "a.parquet", {"text": ["?"], "answers": [people]})
    assert open_table(path)[0].truth.scores == {"no": 1.0, "2": pytest.approx(0.9)}
    assert open_table(path, scoring="any")[0].truth.scores == {"no": 1.0, "2": 1.0}
    few = _write(tmp_path / "b.parquet", {"text": ["?"], "answers": [["Paris", "the city of Paris"]]})
    assert open_table(few)[0].truth.scores == {"paris": 1.0, "city of paris": 1.0}


@pytest.mark.parametrize("answer", ["Paris", {"answer": "Paris"}], ids=["text", "struct"])
def test_one_answer_needs_no_list(tmp_path, answer):
    path = _write(tmp_path / "a.parquet", {"text": ["?"], "answers": [answer]})
    assert open_table(path)[0].truth.scores == {"paris": 1.0, "Paris": 1.0}


def _many(folder, monkeypatch, at_once):
    monkeypatch.setattr(tables, "AT_ONCE", at_once)
    for number, count in enumerate((7, 0, 5)):
        texts = [f"{number} {row} " + "x" * 50 for row in range(count)]
        columns = {"text": pa.array(texts, pa.string()), "label": pa.array([row for row in range(count)], pa.int64())}
        _write(folder / f"test-{number}.parquet", columns, row_group_size=3)
    return open_table(folder)


@pytest.mark.parametrize("at_once", [1, 150, 1 << 26])
def test_rows_in_any_order_whatever_is_held(tmp_path, monkeypatch, at_once):
    reader = _many(tmp_path, monkeypatch, at_once)
    assert len(reader) == 12
    for index in [*range(12), *np.random.default_rng(0).integers(0, 12, 40), *range(11, -1, -1)]:
        sample = reader[int(index)]
        number, row = sample.key.removeprefix("test-").split(":")
        assert sample.inputs["text"].startswith(f"{number} {row} ")
        assert sample.truth.index == int(row)


def test_reading_in_order_reads_each_row_group_once(tmp_path, monkeypatch):
    reader = _many(tmp_path, monkeypatch, 1 << 26)
    opened = []
    original = pq.ParquetFile
    monkeypatch.setattr(
        pq, "ParquetFile", lambda *given, **options: opened.append(given) or original(*given, **options)
    )
    assert [sample.key for sample in reader] == reader.keys
    assert len(opened) == 3 + 2  # row groups of three rows


def test_ids_are_once(tmp_path):
    _write(tmp_path / "a.parquet", {"text": ["x", "y", "z"], "label": [0, 1, 2], "id": ["p", "p", None]})
    _write(tmp_path / "b.parquet", {"text": ["u", "v"], "label": [3, 4], "id": ["q", "p"]})
    reader = open_table(tmp_path)
    assert reader.keys == ["p", "q"]
    assert [sample.inputs["text"] for sample in reader] == ["x", "u"]
    assert reader.problems == {
        "a:1": "the id p was there before",
        "a:2": "it has no id",
        "b:1": "the id p was there before",
    }


def test_the_split_decides(tmp_path):
    for name in ("train-0", "test-0", "test-1"):
        _write(tmp_path / f"{name}.parquet", {"text": [name], "label": [0]})
    assert [sample.inputs["text"] for sample in open_table(tmp_path, split="test")] == ["test-0", "test-1"]
    assert [file["name"] for file in open_table(tmp_path, split="train").description["files"]] == ["train-0.parquet"]
    with pytest.raises(InputError, match=r"no val\*\.parquet at"):
        open_table(tmp_path, split="val")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": [None], "label": [1]}, "has no text; fill the column text"),
        ({"text": [5], "label": [1]}, "has 5 and None as texts"),
        ({"text": ["x"], "text_pair": [5], "label": [1]}, "has 'x' and 5 as texts"),
        ({"image": pa.array([None], pa.binary()), "label": [1]}, "has no image"),
        ({"text": ["x"], "label": pa.array([None], pa.int64())}, "has no label"),
        ({"text": ["x"], "label": [0.5]}, "has the label 0.5"),
        ({"text": ["x"], "answers": pa.array([[]], pa.list_(pa.string()))}, "has no answer that scores"),
        ({"text": ["x"], "answers": [[None]]}, "has no answer that scores"),
        ({"text": ["x"], "answers": [5]}, "has the answers 5; expected a text, or a list of them"),
        ({"image": [b"no picture"], "label": [1]}, "the image of row a:0 cannot be read as an image"),
        ({"image": ["no.png"], "label": [1]}, "the image of row a:0 cannot be read as an image"),
        ({"image": [3], "label": [1]}, "has a int as a picture"),
        ({"image": [{"bytes": None, "path": None}], "label": [1]}, "has a NoneType as a picture"),
        ({"image": [_png(1)], "mask": [_png(1, (4, 4))]}, r"an image of \(3, 2\), and a mask of \(4, 4\)"),
        ({"image": [_png(1)], "mask": [b""]}, "the mask of row a:0 cannot be read"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, columns, message):
    with pytest.raises(SampleError, match=message):
        open_table(_write(tmp_path / "a.parquet", columns))[0]


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"a": ["x"], "label": [1]}, {}, "the columns are a, label; expected text or image"),
        ({"text": ["x"]}, {}, "one of label, answers or mask"),
        ({"text": ["x"], "label": [1]}, {"text": "question"}, "expected the columns question"),
    ],
)
def test_columns_that_are_missing(tmp_path, columns, given, message):
    with pytest.raises(InputError, match=message):
        open_table(_write(tmp_path / "a.parquet", columns), columns=given)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.parquet at"):
        open_table(tmp_path)
    with pytest.raises(InputError, match=r"no \*\.parquet at"):
        open_table(tmp_path / "no.parquet")
    with pytest.raises(OptionError, match="expected some of text"):
        open_table(tmp_path, columns={"question": "text"})
    with pytest.raises(OptionError, match="official, thirds, any"):
        open_table(tmp_path, scoring="best")
    _write(tmp_path / "a.parquet", {"text": ["x"], "label": [1]})
    _write(tmp_path / "b.parquet", {"text": ["x"], "name": [1]})
    with pytest.raises(FileFormatError, match=r"b\.parquet has the columns text, name; the first file text, label"):
        open_table(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 none")
    with pytest.raises(FileFormatError, match="cannot be read as Parquet"):
        open_table(tmp_path)


def test_a_damaged_row_group(tmp_path):
    texts = [f"{n} " + "x" * 500 for n in range(6)]
    columns = {"text": texts, "label": [0] * 6}
    path = _write(tmp_path / "a.parquet", columns, row_group_size=3, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(bytes(data))
    reader = open_table(path)
    for _ in range(2):
        with pytest.raises(SampleError, match=r"row 1 of row group 0: a\.parquet cannot be read"):
            reader[1]
    assert reader[4].inputs["text"] == texts[4]
