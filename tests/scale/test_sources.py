"""Every form of data set gives its rows, the same also to another process, and says what is wrong with it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_sets import write_jsonl, write_parquet, write_saved, write_tar

from heedmap.datasets.opening import SOURCES, kinds, open_source
from heedmap.errors import FileFormatError, InputError, OptionError, UnknownNameError

TEXTS = [{"text": f"word {number}", "id": f"n{number}", "noise": number} for number in range(7)]


def shown(source, number: int):
    row = source[number]
    return row.key, dict(row.given), row.target, row.answer, row.problem


def opened_twice(*arguments, **options):
    """The source; what another process would have reads the same, also after this one was read."""
    source = open_source(*arguments, **options)
    first = [shown(source, number) for number in range(len(source))]
    other = pickle.loads(pickle.dumps(source))
    assert [shown(other, number) for number in reversed(range(len(other)))] == first[::-1]
    return source


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "parquet").mkdir()
    write_parquet(tmp_path / "parquet" / "a.parquet", TEXTS[:4])
    write_parquet(tmp_path / "parquet" / "b.parquet", TEXTS[4:])
    return {
        "parquet": tmp_path / "parquet",
        "jsonl": write_jsonl(tmp_path / "texts.jsonl", ["", *TEXTS, ""]),
        "huggingface": write_saved(tmp_path / "saved", TEXTS),
    }


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "huggingface"])
def test_tables(tables: dict[str, Path], kind: str) -> None:
    for name in (str(tables[kind]), f"{kind}:{tables[kind]}"):
        source = opened_twice(name)
        assert len(source) == 7
        assert [shown(source, n)[:2] for n in (0, 6)] == [("n0", {"text": "word 0"}), ("n6", {"text": "word 6"})]
        assert source.description["kind"] == kind
    assert set(source.roles) == {"text", "id"}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "huggingface"])
def test_columns_of_other_names(tables: dict[str, Path], kind: str) -> None:
    source = open_source(tables[kind], columns={"answer": "text", "text": "id"})
    assert (source[2].given, source[2].answer) == ({"text": "n2"}, "word 2")
    with pytest.raises(InputError, match="columns text, id, noise, and no quest; say which is which"):
        open_source(tables[kind], columns={"text": "quest"})
    with pytest.raises(OptionError, match="a column is given for words; expected some of text, text_pair"):
        open_source(tables[kind], columns={"words": "text"})
    with pytest.raises(OptionError, match=f"{kind} has no option colour; it has columns, split"):
        open_source(tables[kind], colour=1)


def test_a_change_of_the_files_is_seen(tables: dict[str, Path]) -> None:
    path = tables["jsonl"]
    before = open_source(path).description
    stat = path.stat()
    path.write_text(path.read_text().replace("word 3", "ward 3"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = open_source(path).description
    assert {name for name in before if before[name] != after[name]} == {"names_sizes_dates"}


def test_pictures(tmp_path: Path, pictures: tuple[bytes, ...]) -> None:
    (tmp_path / "in" / "cats").mkdir(parents=True)
    (tmp_path / "in" / "b.png").write_bytes(pictures[0])
    (tmp_path / "in" / "cats" / "a.PNG").write_bytes(pictures[1])
    (tmp_path / "in" / "notes.md").write_text("no picture")
    source = opened_twice(tmp_path / "in")
    assert [source[n].key for n in range(len(source))] == ["b.png", "cats/a.PNG"]
    assert source[1].given["image"].read_bytes() == pictures[1]
    (tmp_path / "in" / "b.png").unlink()
    (tmp_path / "in" / "cats" / "a.PNG").unlink()
    with pytest.raises(InputError, match=r"has no picture; expected files that end in \.bmp"):
        open_source(f"images:{tmp_path / 'in'}")


def test_webdataset(tmp_path: Path, pictures: tuple[bytes, ...]) -> None:
    first = [{"png": pictures[n], "txt": f"picture {n}".encode(), "cls": b"3", "seg.png": b"?"} for n in range(3)]
    write_tar(tmp_path / "a.tar", first)
    write_tar(tmp_path / "b.tar", [{"json": b'{"text": "told", "answer": "yes"}', "png": pictures[3]}])
    source = opened_twice(tmp_path)
    assert len(source) == 4
    assert shown(source, 1) == ("0001", {"text": "picture 1", "image": pictures[1]}, 3, None, "")
    assert shown(source, 3) == ("0000", {"text": "told", "image": pictures[3]}, None, "yes", "")


def test_a_tar_that_is_cut_off_has_its_whole_samples(tmp_path: Path, pictures: tuple[bytes, ...]) -> None:
    path = write_tar(tmp_path / "a.tar", [{"png": data} for data in pictures])
    path.write_bytes(path.read_bytes()[: -len(pictures[-1]) - 10240])
    source = open_source(path)
    whole = [n for n in range(len(source)) if not source[n].problem]
    assert whole == list(range(len(source) - 1)) or whole == list(range(len(source)))
    assert len(whole) >= 2
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(FileFormatError, match="is no tar file"):
        open_source(path)


def test_a_reader_of_the_evaluations(tmp_path: Path, pictures: tuple[bytes, ...]) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.png").write_bytes(pictures[0])
    (tmp_path / "cats" / "b.png").write_bytes(pictures[0][:100])
    source = opened_twice(f"folder:{tmp_path}")
    assert source[0].given["image"].size == (96, 96)
    assert "cats/b.png cannot be read as an image" in source[1].problem


def test_parts_of_saved_data_sets(tmp_path: Path) -> None:
    write_saved(tmp_path / "both" / "train", TEXTS)
    write_saved(tmp_path / "both" / "test", TEXTS[:2])
    assert len(open_source(tmp_path / "both", split="test")) == 2
    with pytest.raises(InputError, match="has the splits test, train; choose one by split="):
        open_source(tmp_path / "both")


BAD = {
    "no JSON": ('{"text": ', "it is no JSON"),
    "no object": ("[1]", "it is a list; expected a JSON object"),
    "a number": ({"text": 5}, "its text is 5; expected a string, or two"),
    "a pair in a pair": ({"text": ["a", ["b", "c"]]}, "its text is ['b', 'c']; expected a string, or two"),
    "nothing": ({"text": "  "}, "its text is empty"),
    "a wrong picture": ({"image": 5}, "its image is 5; expected bytes, or the path of a file"),
    "a wrong target": ({"text": "a", "target": 0.5}, "its target is 0.5; expected the index or the name of a class"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_says_why(tmp_path: Path, name: str) -> None:
    row, why = BAD[name]
    source = open_source(write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "image": "b", "target": 1}, row]))
    assert why in source[1].problem
    assert not source[0].problem


def test_damaged_pages_of_a_parquet_file_are_bad_rows(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", TEXTS)
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    data[start : start + 20] = b"x" * 20
    path.write_bytes(data)
    source = open_source(path)
    assert [bool(source[n].problem) for n in range(7)] == [False] * 3 + [True] * 3 + [False]


def test_files_that_go_away_are_no_fault_of_a_row(tables: dict[str, Path]) -> None:
    source = open_source(tables["parquet"])
    for path in tables["parquet"].iterdir():
        path.unlink()
    with pytest.raises(InputError, match="there is no file of rows"):
        source[0]


def test_what_cannot_be_opened(tmp_path: Path, tables: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"there is nothing at nowhere\.parquet; give a path, or KIND:PATH"):
        open_source("nowhere.parquet")
    with pytest.raises(InputError, match="there is nothing at nowhere; give the path of Parquet files"):
        open_source("parquet:nowhere")
    with pytest.raises(UnknownNameError, match="there is no kind of data 'excel'; known are parquet, jsonl"):
        open_source("excel:nowhere")
    (tables["parquet"] / "more.jsonl").write_text("{}")
    with pytest.raises(UnknownNameError, match="of several kinds"):
        open_source(tables["parquet"])
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError):
        open_source(tmp_path / "empty.jsonl")
    assert set(SOURCES) < set(kinds())
