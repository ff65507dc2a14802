"""A run's rows are those of ``heedmap.explain``, one by one; they are read back as explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_sets import LISTS, rows_of, write_jsonl, write_parquet, write_saved, write_tar

import heedmap
from heedmap.common.files import HeldFolder
from heedmap.errors import FileFormatError, InputError, OptionError, OutputError, SampleError, UnknownNameError
from heedmap.explanation import Explanation
from heedmap.models.model import Model
from heedmap.scale.folder import explanation_of, lines_of
from heedmap.zoo.samples import MATERIALS

HALF = 2**-11
"""Of the largest value of a segment: what half precision may lose, and flushes to zero."""


def assert_same(stored: Explanation, made: Explanation) -> None:
    """All is equal but relevance, which is so in half precision, and what rounding in a batch changes."""
    assert stored.segments.keys() == made.segments.keys()
    for name, segment in made.segments.items():
        there, most = stored.segments[name], float(segment.relevance.abs().max())
        torch.testing.assert_close(there.relevance, segment.relevance, rtol=HALF, atol=most * 1e-5)
        assert torch.equal(there.positions, segment.positions)
        for field in ("kind", "stream", "grid", "labels", "boundaries", "roles"):
            assert getattr(there, field) == getattr(segment, field)
    for field in ("target", "prediction_labels", "method", "options", "flow", "origin"):
        assert getattr(stored, field) == getattr(made, field)
    torch.testing.assert_close(stored.scores, made.scores, rtol=1e-5, atol=1e-5)
    assert (stored.prediction is None) == (made.prediction is None)
    assert stored.prediction is None or torch.equal(stored.prediction, made.prediction)
    if made.top is None:
        assert stored.top is None
    else:
        assert (stored.top.labels, stored.top.function) == (made.top.labels, made.top.function)
        torch.testing.assert_close(stored.top.probabilities, made.top.probabilities, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(stored.top.target, made.top.target, rtol=1e-5, atol=1e-6)


def test_rows_are_those_that_are_made_one_by_one(whole: heedmap.Run, lists_model: Model) -> None:
    assert len(whole) == len(LISTS) == 26
    assert whole.errors == {}
    for stored, text in zip(whole, LISTS, strict=True):
        assert_same(stored, lists_model.explain(text=text))


@pytest.mark.parametrize("kind", ["images", "webdataset", "parquet", "huggingface", "folder"])
def test_pictures_of_every_form(shapes_model: Model, pictures: tuple[bytes, ...], tmp_path: Path, kind: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if kind in ("images", "folder"):
        (data / "a").mkdir()
        for number, picture in enumerate(pictures):
            (data / "a" / f"{number}.png").write_bytes(picture)
    elif kind == "webdataset":
        write_tar(data / "shard.tar", [{"png": picture} for picture in pictures])
    elif kind == "parquet":
        write_parquet(data / "rows.parquet", [{"picture": {"bytes": picture, "path": None}} for picture in pictures])
    else:
        write_saved(data / "saved", [{"image": {"bytes": picture, "path": "x.png"}} for picture in pictures])
    files = {"columns": {"image": "picture"}} if kind == "parquet" else {}
    run = heedmap.run(shapes_model, f"{kind}:{data}", tmp_path / "out", files=files, page=False)
    assert run.errors == {}
    for index in range(4):
        made = MATERIALS["vit-shapes"].make(index)
        assert_same(run[index], shapes_model.explain(image=made.picture))


def test_boxes_and_texts_with_targets_of_their_own(tmp_path: Path) -> None:
    subject = heedmap.load("zoo/lxmert-shapes")
    rows = []
    for index in range(3):
        inputs = MATERIALS["lxmert-shapes"].make(index).inputs
        boxes = {name: np.asarray(value).tolist() for name, value in inputs["boxes"].items()}
        rows.append({"text": inputs["text"], "boxes": boxes, "target": ["red", 5, None][index]})
    run = heedmap.run(subject, write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path / "out", target="blue")
    for index, target in enumerate(["red", 5, "blue"]):
        made = subject.explain(**MATERIALS["lxmert-shapes"].make(index).inputs, target=target)
        assert_same(run[index], made)


def test_another_method_and_its_options(lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    run = heedmap.run(lists_model, lists_file, tmp_path, method="rollout", start_layer=1, memory="1MiB", page=False)
    assert_same(run[3], lists_model.explain(text=LISTS[3], method="rollout", start_layer=1))


def test_another_precision(whole: heedmap.Run, lists_file: Path, tmp_path: Path) -> None:
    run = heedmap.run("zoo/gpt-lists", lists_file, tmp_path, dtype="bfloat16", page=False)
    assert not run.errors
    assert len(run) == len(whole)
    for coarse, fine in zip(run, whole, strict=True):
        assert coarse.prediction_labels == fine.prediction_labels
        assert 0 < float((coarse["text"] - fine["text"]).abs().max()) < 0.1 * float(fine["text"].abs().max())
    with pytest.raises(OptionError, match=r"holds another run .*model\.dtype: \"bfloat16\" there, \"float32\" now"):
        heedmap.run("zoo/gpt-lists", lists_file, tmp_path, page=False)


def test_answers_in_words(tmp_path: Path) -> None:
    subject = heedmap.load("zoo/bart-dates")
    texts = ["the 3rd of may 1987", "12 june 2004", "1 1 1999"]
    rows = [{"text": text} for text in texts] + [{"text": texts[0], "answer": "1987-05"}]
    run = heedmap.run(subject, write_jsonl(tmp_path / "dates.jsonl", rows), tmp_path / "out", answer=True)
    assert run.errors == {}
    for index, row in enumerate(rows):
        made = subject.explain_answer(text=row["text"], answer=row.get("answer"))
        stored = run[index]
        assert_same(stored, made)
        for field in ("text", "targets", "top_labels", "source"):
            assert getattr(stored.answer, field) == getattr(made.answer, field)
        for field in ("tokens", "rows", "probabilities", "top_probabilities"):
            torch.testing.assert_close(getattr(stored.answer, field), getattr(made.answer, field))
        assert stored.words() == made.words()
    lines = rows_of(tmp_path / "out")
    assert [(line["row"], line["step"]) for line in lines if line["row"] < 2] == [
        (row, step) for row in range(2) for step in range(10)
    ]
    assert run.predictions["1987-05-03"] == 1
    assert len(run.where(prediction="1987-05-03")) == 1
    assert "1987-05-03" in (tmp_path / "out" / "report.html").read_text()


def test_half_precision_keeps_maps_of_any_size(lists_model: Model) -> None:
    """Numbers that half precision does not have, 1e-30 and 1e30, come back to three digits."""
    made = lists_model.explain(text=LISTS[0])
    for size in (1e-30, 1.0, 1e30):
        segment = made.segments["text"]
        scaled = heedmap.Segment(**{**vars(segment), "relevance": segment.relevance * size})
        large = heedmap.Explanation(**{**vars(made), "segments": {"text": scaled}})
        line = lines_of(0, "a", large)[0]
        stored = explanation_of([{**dict.fromkeys(("step", "error")), **line}])
        most = float(scaled.relevance.max())
        torch.testing.assert_close(stored["text"], scaled.relevance, rtol=HALF, atol=most * 2**-24)
        assert most / 1.001 < float(stored["text"].max()) < most * 1.001


def test_reading_back(whole: heedmap.Run) -> None:
    assert whole[-1] == whole[25]
    assert [e.target for e in whole[3:6]] == [whole[n].target for n in (3, 4, 5)]
    assert list(whole[20:][::2].rows) == [20, 22, 24]
    with pytest.raises(IndexError):
        whole[26]
    name = whole[0].prediction_labels[0]
    chosen = whole.where(prediction=name)
    assert 0 < len(chosen) < 26
    assert all(e.prediction_labels == (name,) for e in chosen)
    assert list(chosen.where(prediction=int(whole[0].prediction)).rows) == list(chosen.rows)
    certain = [float(e.top.probabilities[0, 0]) for e in whole]
    assert list(whole.least_certain(26).rows) == sorted(range(26), key=lambda n: certain[n])
    assert whole.most_certain(1).certainty(0) == max(certain)
    assert len(whole.where(least=0.9)) == sum(value >= 0.9 for value in certain)
    assert sum(whole.predictions.values()) == 26
    assert heedmap.open_run(str(whole.folder))[7] == whole[7]
    manifest = json.loads((whole.folder / "manifest.json").read_text())
    assert (manifest["rows"], manifest["done"], manifest["bad"], manifest["complete"]) == (26, 26, 0, True)
    assert sum(part["rows"] for part in manifest["parts"]) == 26


def test_bad_rows_stop_nothing(lists_model: Model, tmp_path: Path) -> None:
    """1 in 13 rows is bad, each in another way; the others have their maps, and no row is lost."""
    rows: list[Any] = [{"text": text} for text in LISTS]
    rows[4], rows[17] = "{no JSON", {"text": "dog", "target": "unicorn"}
    run = heedmap.run(lists_model, write_jsonl(tmp_path / "lists.jsonl", rows), tmp_path / "out", part=5)
    assert set(run.errors) == {4, 17}
    assert "no JSON" in run.errors[4]
    assert "unicorn" in run.errors[17]
    with pytest.raises(SampleError, match=r"row 17 \(lists:17\) could not be explained: "):
        run[17]
    assert_same(run[18], lists_model.explain(text=LISTS[18]))
    assert len(run.where()) == 24
    assert [line["row"] for line in rows_of(tmp_path / "out")] == list(range(26))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Rows that could not be explained (2)" in page


def test_the_page(shapes_model: Model, pictures: tuple[bytes, ...], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures):
        (tmp_path / "in" / f"<b>{number}.png").write_bytes(picture)
    run = heedmap.run(shapes_model, tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;0.png" in page
    assert "Most certain" in page
    assert page.count("<img") == 2 * len(run)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_a_damaged_page_is_told_when_it_is_read(
    whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path
) -> None:
    heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    path = tmp_path / "parts" / "part-000002.parquet"
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    run = heedmap.open_run(tmp_path)
    assert run[0] == whole[0]
    with pytest.raises(FileFormatError, match=r"part-000002\.parquet is damaged .* remove it and run again"):
        run[9]
    path.unlink()
    with pytest.raises(FileFormatError, match="is not there yet: the run was stopped, and the same command goes on"):
        run[9]


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_the_folder_of_another_run(whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    changes = {
        "part: 4 there, 5 now": {"part": 5},
        'explained.method: "generic" there, "rollout" now': {"method": "rollout"},
    }
    for told, change in changes.items():
        with pytest.raises(OptionError, match=told):
            heedmap.run(lists_model, lists_file, whole.folder, **{"part": 4, **change})
    other = write_jsonl(tmp_path / "lists.jsonl", [{"text": LISTS[0]}])
    with pytest.raises(OptionError, match=r"holds another run .*data\.rows: 26 there, 1 now"):
        heedmap.run(lists_model, other, whole.folder, part=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(FileFormatError, match="is no configuration of a run over a data set"):
        heedmap.run(lists_model, other, tmp_path / "out")


def test_a_folder_that_another_run_is_writing(lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    with HeldFolder(tmp_path).locked(), pytest.raises(OutputError, match="another run is writing"):
        heedmap.run(lists_model, lists_file, tmp_path)


def test_columns_that_the_model_needs(shapes_model: Model, lists_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"takes image, and the data have no image \(columns: text\); say which column"
    ):
        heedmap.run(shapes_model, lists_file, tmp_path)
    assert not (tmp_path / "config.json").exists()


WRONG: dict[str, tuple[type[Exception], dict[str, Any], str]] = {
    "a method": (UnknownNameError, {"method": "magic"}, "no method 'magic'; known methods"),
    "memory": (OptionError, {"memory": "1kB"}, "too small for a block of attention; expected 1MiB or more"),
    "memory of no unit": (OptionError, {"memory": "many"}, "expected bytes, such as 4000000000, 512MB"),
    "a part": (OptionError, {"part": 0}, "part=0"),
    "whole maps": (OptionError, {"full": True}, "full is no option of a run"),
    "a target of an answer": (OptionError, {"answer": True, "target": 1}, "leave target out"),
    "a function": (OptionError, {"target": len}, "target is a builtin_function_or_method, of which no run can be told"),
    "an option that is no data": (OptionError, {"start_layer": object()}, "options of a run are plain data"),
    "no answer": (OptionError, {"generate": {"max_new_tokens": 3}}, "give answer=True too"),
    "an option": (InputError, {"colour": 1}, "none of the first 26 rows can be explained"),
    "a class": (
        InputError,
        {"target": "unicorn"},
        "none of the first 26 rows can be explained, such as lists:0: .*unicorn",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    lists_model: Model, lists_file: Path, tmp_path: Path, name: str
) -> None:
    error, options, told = WRONG[name]
    with pytest.raises(error, match=told):
        heedmap.run(lists_model, lists_file, tmp_path / "out", **options)
    assert not (tmp_path / "out" / "config.json").exists()


def test_what_is_no_data(lists_model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data is a int; expected a path"):
        heedmap.run(lists_model, 5, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="answers in no words"):
        heedmap.run("zoo/vit-shapes", _one_picture(tmp_path), tmp_path / "out", answer=True)


def _one_picture(folder: Path) -> Path:
    (folder / "in").mkdir()
    (folder / "in" / "a.png").write_bytes(b"none")
    return folder / "in"
