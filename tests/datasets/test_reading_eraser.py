"""ERASER: words, spans and files that are not as they should be."""

import json

import pytest

from heedmap.datasets.eraser import open_eraser
from heedmap.datasets.sample import Rationale
from heedmap.errors import FileFormatError, InputError, SampleError

REVIEW = "a dull film .\n\n  the  plot is\tthin ,\xa0and the end\n is awful .\n"
WORDS = ["a", "dull", "film", ".", "the", "plot", "is\tthin", ",\xa0and", "the", "end", "is", "awful", "."]


def _line(name="r.txt", reasons=((0, 2), (9, 12)), **changed):
    evidence = [[{"docid": name, "start_token": start, "end_token": end, "text": ""}] for start, end in reasons]
    fields = {"annotation_id": name, "classification": "NEG", "evidences": evidence, "query": "good?", "docids": None}
    return json.dumps(fields | changed)


def _write(folder, *lines, split="test", review=REVIEW):
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "r.txt").write_bytes(review.encode())
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def test_words_and_reasons_are_characters_of_the_text(tmp_path):
    (sample,) = open_eraser(_write(tmp_path, _line()))
    text, truth = sample.inputs["text"], sample.truth
    assert isinstance(truth, Rationale)
    assert (sample.key, truth.label) == ("r.txt", "NEG")
    assert text == " ".join(WORDS)
    assert [text[start:end] for start, end in truth.words] == WORDS
    assert [text[start:end] for start, end in truth.spans] == ["a dull", "end is awful"]


def test_a_long_document_is_whole(tmp_path):
    review = "\n".join("one two three ." for _ in range(20_000))
    (sample,) = open_eraser(_write(tmp_path, _line(reasons=[(79_999, 80_000)]), review=review))
    assert len(sample.truth.words) == 80_000
    start, end = sample.truth.spans[0]
    assert sample.inputs["text"][start:end] == "."
    assert end == len(sample.inputs["text"])


def test_reasons_are_sorted_and_once(tmp_path):
    (sample,) = open_eraser(_write(tmp_path, _line(reasons=[(9, 12), (0, 2), (9, 12)])))
    assert [sample.inputs["text"][start:end] for start, end in sample.truth.spans] == ["a dull", "end is awful"]


def test_line_ends_of_windows(tmp_path):
    (sample,) = open_eraser(_write(tmp_path, _line(reasons=[(1, 2)]), review="a\r\nb c\r\n"))
    assert sample.inputs["text"] == "a b c"


def test_what_cannot_be_used_is_listed(tmp_path):
    two = [[{"docid": name, "start_token": 0, "end_token": 1} for name in ("r.txt", "s.txt")]]
    lines = [
        _line(),
        _line(),
        "no JSON",
        "[1]",
        "",
        _line(annotation_id=3),
        _line(annotation_id="none", evidences=[]),
        _line(annotation_id="two", evidences=two),
        _line(annotation_id="backwards", evidences=[[{"docid": "r.txt", "start_token": 2, "end_token": 2}]]),
        _line(annotation_id="negative", evidences=[[{"docid": "r.txt", "start_token": -1, "end_token": 2}]]),
        _line(annotation_id="endless", evidences=[[{"docid": "r.txt", "start_token": 1}]]),
        _line(annotation_id="unlabelled", classification=None),
        _line(annotation_id="odd", evidences=3),
        _line("gone.txt"),
    ]
    reader = open_eraser(_write(tmp_path, *lines))
    assert reader.keys == ["r.txt"]
    assert reader.problems == {
        "r.txt (line 2)": "its annotation_id was there before",
        "line 3": "no JSON object with an annotation_id",
        "line 4": "no JSON object with an annotation_id",
        "line 6": "no JSON object with an annotation_id",
        "none": "line 7 is not as ERASER's: its evidence is in 0 documents; one is needed",
        "two": "line 8 is not as ERASER's: its evidence is in 2 documents; one is needed",
        "backwards": "line 9 is not as ERASER's: a start_token is not before its end_token",
        "negative": "line 10 is not as ERASER's: a start_token is not before its end_token",
        "endless": "line 11 is not as ERASER's: 'end_token'",
        "unlabelled": "line 12 is not as ERASER's: its classification is no text",
        "odd": "line 13 is not as ERASER's: 'int' object is not iterable",
        "gone.txt": "there is no document gone.txt in docs",
    }


def test_samples_that_turn_out_to_be_unusable(tmp_path):
    reader = open_eraser(_write(tmp_path, _line(reasons=[(0, 14)])))
    with pytest.raises(SampleError, match=r"r\.txt: a reason ends at word 14, and r\.txt has 13"):
        reader[0]
    (tmp_path / "docs" / "r.txt").write_bytes(b"caf\xe9")
    with pytest.raises(SampleError, match=r"the document r\.txt cannot be read"):
        reader[0]


def test_which_files_are_read(tmp_path):
    with pytest.raises(InputError, match=r"no file of annotations at .*test\.jsonl"):
        open_eraser(tmp_path)
    with pytest.raises(InputError, match="'dev'; expected one of train, val, test"):
        open_eraser(tmp_path, split="dev")
    _write(tmp_path, _line(), split="val")
    reader = open_eraser(tmp_path, split="val")
    assert reader.description["files"] == [{"name": "val.jsonl", "bytes": (tmp_path / "val.jsonl").stat().st_size}]
    assert reader.description["documents"] == "docs"
    with pytest.raises(InputError, match="no folder of documents at"):
        open_eraser(tmp_path, split="val", documents=tmp_path / "no")
    (tmp_path / "val.jsonl").write_bytes(b"\xff")
    with pytest.raises(FileFormatError, match="no UTF-8 text"):
        open_eraser(tmp_path, split="val")
