"""The page beyond one map: two models, an edited input, a table of one's own samples; without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import heedmap
from heedmap.errors import InputError
from heedmap.web import parts
from heedmap.web.form_inputs import EditForm, FormValues, offered, read_sample, region, sample
from heedmap.web.handlers import Exchange, Handlers
from heedmap.web.method_options import Way
from heedmap.web.results import TYPES, Columns
from heedmap.web.uploads import Limits

TEXT = "dog red ; cat blue ; sun green ? cat"
GENERIC = Way("generic", {})


def asked(handlers: Handlers, model: str) -> Exchange:
    """A model's first sample, or the text."""
    number = next(iter(offered(model)))
    return handlers.predict(model, read_sample(model, number))


def test_a_changed_word_is_that_of_direct_calls(handlers: Handlers) -> None:
    found = handlers.change(handlers.predict("zoo/gpt-lists", FormValues(TEXT)), 0, GENERIC, EditForm("blue", "red"))
    before, after, change = (column.explanation for column in found.columns)
    lists = heedmap.load("zoo/gpt-lists")
    assert before == lists.explain(text=TEXT, target="blue")
    assert after == lists.explain(text=TEXT.replace("blue", "red"), target="blue")
    assert change == before.difference(after)
    html = found.html()
    assert html.count('<div class="heedmap">') == 4
    assert "around 0" in html
    assert "What changes for" in html


def test_a_region_is_painted_over(handlers: Handlers) -> None:
    found = handlers.change(asked(handlers, "zoo/detr-shapes"), 0, GENERIC, EditForm(region="0 20 30 50"))
    before, after = next(iter(found.answers.values()))
    assert before is not None
    assert after is not None
    assert before > 0.9 > 0.1 > after
    pictures = [column.picture for column in found.columns]
    assert pictures[0] is not None
    assert pictures[1] is not None
    assert pictures[0].image.tobytes() != pictures[1].image.tobytes()


@pytest.mark.parametrize(
    ("model", "edit", "words"),
    [
        ("zoo/gpt-lists", EditForm(), "nothing is changed"),
        ("zoo/gpt-lists", EditForm("horse", "cow"), "has no word"),
        ("zoo/gpt-lists", EditForm(region="0 0 50 50"), "no picture"),
        ("zoo/lxmert-shapes", EditForm(region="0 0 50 50"), "no picture"),
        ("zoo/vit-shapes", EditForm("a", "b"), "no text"),
        ("zoo/vit-shapes", EditForm(region="0 0 50 150"), "not within the picture"),
        ("zoo/vit-shapes", EditForm(region="50 0 50 50"), "not within the picture"),
        ("zoo/vit-shapes", EditForm(region="all of it"), "four percentages"),
    ],
)
def test_edits_that_cannot_be_made_are_told(model: str, edit: EditForm, words: str, handlers: Handlers) -> None:
    with pytest.raises(InputError, match=words):
        handlers.change(asked(handlers, model), 0, GENERIC, edit)


def test_an_edit_that_empties_the_text_is_told(handlers: Handlers) -> None:
    found = handlers.predict("zoo/gpt-lists", FormValues("cat"))
    with pytest.raises(InputError, match="leaves no text"):
        handlers.change(found, 0, GENERIC, EditForm("cat", ""))


def test_a_region_is_read_as_people_write_it() -> None:
    assert region("0, 25; 50  100") == (0.0, 0.25, 0.5, 1.0)


def test_two_models_are_each_what_they_are_alone(handlers: Handlers) -> None:
    first = asked(handlers, "zoo/detr-shapes")
    found = handlers.models_beside(first, 0, GENERIC, "zoo/deformable-shapes")
    mine, theirs = (column.explanation for column in found.columns)
    number = next(iter(offered("zoo/detr-shapes")))
    picture = sample("zoo/detr-shapes", number).picture
    detr, deformable = heedmap.load("zoo/detr-shapes"), heedmap.load("zoo/deformable-shapes")
    assert mine == detr.explain(image=picture, target=first.predictions[0].target)
    assert "ring" in theirs.target[0]
    assert theirs["image"].shape == deformable.explain(image=picture)["image"].shape
    assert {"ring", "star", "heart"} <= set(found.answers)
    assert "zoo/deformable-shapes" in found.html()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("zoo/vit-shapes", "zoo/gpt-lists takes text, and zoo/vit-shapes takes image"),
        ("zoo/gpt-lists", "choose another"),
        ("zoo/none", "no model"),
    ],
)
def test_models_that_do_not_compare_are_told(other: str, words: str, handlers: Handlers) -> None:
    from heedmap.errors import HeedmapError

    with pytest.raises(HeedmapError, match=words):
        handlers.models_beside(handlers.predict("zoo/gpt-lists", FormValues(TEXT)), 0, GENERIC, other)


@pytest.mark.parametrize("ending", TYPES)
def test_files_of_columns(ending: str, handlers: Handlers) -> None:
    asked_text = handlers.predict("zoo/gpt-lists", FormValues(TEXT))
    made = (
        handlers.change(asked_text, 0, GENERIC, EditForm("blue", "red")),
        handlers.models_beside(asked(handlers, "zoo/vit-shapes"), 0, GENERIC, "zoo/swin-shapes"),
    )
    for columns in made:
        data = columns.file(ending)
        assert data.startswith({".png": b"\x89PNG", ".html": b"<!DOCTYPE html>", ".json": b"["}[ending])
        if ending == ".json":
            assert len(json.loads(data)) == len(columns.columns)


def test_nothing_is_done_before_a_model_was_asked(handlers: Handlers) -> None:
    with pytest.raises(InputError, match="ask the model first"):
        handlers.change(None, 0, GENERIC, EditForm("a", "b"))
    with pytest.raises(InputError, match="ask the model first"):
        handlers.models_beside(None, 0, GENERIC, "zoo/gpt-lists")


# -- a table ----------------------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_table_of_texts_says_what_the_model_says(handlers: Handlers, tmp_path: Path) -> None:
    files = [
        written(tmp_path, "a.jsonl", '{"text": "dog red ? dog", "more": 1}\n\n{"text": ""}\n'),
        written(tmp_path, "b.csv", 'id,text\n1,"cat blue ; dog red ? cat"\n'),
    ]
    table = handlers.table("zoo/gpt-lists", FormValues(), files)
    assert [row.answer for row in table.rows] == ["red", "", "blue"]
    assert "no text was given" in table.rows[1].error
    direct = heedmap.load("zoo/gpt-lists").predict(text="dog red ? dog")[0]
    assert table.rows[0].probability == direct.probability
    html = parts.table(table.rows)
    assert html.count('data-row="') == 2
    assert 'data-row="2"' in html
    assert table.row(2).given.text == "cat blue ; dog red ? cat"


def test_a_table_of_pictures_goes_with_the_text_of_the_field(handlers: Handlers, tmp_path: Path) -> None:
    picture = sample("zoo/vit-shapes", next(iter(offered("zoo/vit-shapes")))).picture
    assert picture is not None
    picture.save(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"no picture")
    table = handlers.table("zoo/vit-shapes", FormValues(), [str(tmp_path / "one.png"), str(tmp_path / "two.png")])
    assert [row.name for row in table.rows] == ["one.png", "two.png"]
    assert table.rows[0].answer == heedmap.load("zoo/vit-shapes").predict(image=picture)[0].label
    assert "cannot be read" in table.rows[1].error
    assert str(tmp_path) not in table.rows[1].error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "words\nred\n", "a column called text is needed"),
        ("a.csv", "", "a column called text is needed"),
        ("a.csv", 'text\n"red', "cannot be read"),
        ("a.jsonl", '{"words": "red"}', "a text is needed"),
        ("a.jsonl", "[1]", "a text is needed"),
        ("a.jsonl", "{", "is no JSON"),
        ("a.jsonl", '{"text": 3}', "expected a string"),
        ("a.jsonl", '{"text": "a", "second": "b"}', "reads one"),
        ("a.jsonl", '{"text": "a"}\n' * 51, "up to 50"),
        ("a.jsonl", "\n", "no sample"),
        ("a.png", "", "nothing that this model takes; give a .jsonl or .csv file"),
        ("a.exe", "", "nothing that this model takes"),
    ],
)
def test_tables_that_cannot_be_read_are_told(
    name: str, content: str, words: str, handlers: Handlers, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        handlers.table("zoo/gpt-lists", FormValues(), [written(tmp_path, name, content)])


def test_a_table_of_bytes_and_of_no_file_is_told(handlers: Handlers, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text\n\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        handlers.table("zoo/gpt-lists", FormValues(), [str(tmp_path / "a.csv")])
    with pytest.raises(InputError, match="no sample"):
        handlers.table("zoo/gpt-lists", FormValues(), [])
    (tmp_path / "b.csv").write_bytes(b"text\n" + b"a" * 200)
    with pytest.raises(InputError, match="the page takes up to"):
        Handlers(handlers.models, Limits(bytes=100)).table("zoo/gpt-lists", FormValues(), [str(tmp_path / "b.csv")])


def test_a_row_that_is_not_there_is_told(handlers: Handlers, tmp_path: Path) -> None:
    table = handlers.table("zoo/gpt-lists", FormValues(), [written(tmp_path, "a.csv", "text\ndog red ? dog\n")])
    for number in (-1, 1):
        with pytest.raises(InputError, match="not in the table"):
            table.row(number)


def test_what_people_wrote_is_escaped(handlers: Handlers, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> <img src=x onerror=alert(1)>"
    table = handlers.table(
        "zoo/gpt-lists", FormValues(), [written(tmp_path, "<b>.jsonl", json.dumps({"text": evil}) + '\n{"text": ""}')]
    )
    found = handlers.change(handlers.predict("zoo/gpt-lists", FormValues(TEXT)), 0, GENERIC, EditForm("blue", evil))
    odds = Columns(found.columns, evil, (evil, evil), {evil: (None, 0.5)})
    for html in (parts.table(table.rows), found.html(), odds.html(), odds.file(".html").decode()):
        assert "<script" not in html
        assert "<img src=x" not in html
