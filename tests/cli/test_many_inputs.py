"""``heedmap explain`` of many inputs."""

import json
import signal
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import heedmap
from heedmap.cli import batch
from heedmap.explanation import Explanation
from heedmap.models.media import read_audio
from heedmap.zoo.samples import MATERIALS
from models import builders


def _entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def _lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- batch = one by one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["generic", "smoothgrad", "attn_lrp", "random"])
def test_texts_together_are_as_texts_alone(run, lists, tmp_path, method):
    run("explain", "zoo/gpt-lists", "--inputs", lists, "--method", method, "--out", "maps", "--as", "safetensors")
    subject = heedmap.load("zoo/gpt-lists")
    for entry in _entries(tmp_path / "maps"):
        alone = subject.explain(text=entry["input"]["text"], method=method)
        together = Explanation.load(tmp_path / "maps" / entry["file"])
        assert (together.target, together.flow, together.top.labels) == (alone.target, alone.flow, alone.top.labels)
        assert together["text"].numpy() == pytest.approx(alone["text"].numpy(), rel=1e-4, abs=1e-6)
        assert entry["score"] == pytest.approx(float(alone.scores[0]), rel=1e-5)
    assert [entry["number"] for entry in _entries(tmp_path / "maps")] == [1, 2, 4, 5]


def test_pictures_together_are_as_pictures_alone(run, photos, tmp_path):
    run("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--as", "safetensors", "--target", "circle")
    subject = heedmap.load("zoo/vit-shapes")
    assert [entry["name"] for entry in _entries(tmp_path / "maps")] == ["scene 0", "scene 1", "scene 2"]
    for entry in _entries(tmp_path / "maps"):
        alone = subject.explain(image=tmp_path / entry["input"]["image"], target="circle")
        together = Explanation.load(tmp_path / "maps" / entry["file"])
        assert together.segments["image"].grid == alone.segments["image"].grid
        assert together["image"].numpy() == pytest.approx(alone["image"].numpy(), rel=1e-3, abs=1e-5)


def test_sounds_together_are_heard_as_alone(run, tmp_path):
    builders.whisper(tmp_path / "whisper")
    (tmp_path / "clips").mkdir()
    for name, seconds in (("a", 0.5), ("b", 0.25)):
        with wave.open(str(tmp_path / "clips" / f"{name}.wav"), "wb") as sound:
            sound.setparams((1, 2, 16_000, 0, "NONE", ""))
            sound.writeframes((8000 * np.sin(np.arange(int(16_000 * seconds)) / 20)).astype("<i2").tobytes())
    run("explain", "whisper", "--audio", "clips", "--out", "maps", "--as", "safetensors")
    subject = heedmap.load(str(tmp_path / "whisper"))
    for entry in _entries(tmp_path / "maps"):
        alone = subject.explain(audio=read_audio(tmp_path / entry["input"]["audio"]))
        together = Explanation.load(tmp_path / "maps" / entry["file"])
        assert together.segments["audio"].roles == alone.segments["audio"].roles is not None


def test_boxes_have_their_names_and_rows_their_own_targets(run, tmp_path):
    rows = []
    for number in range(3):
        given = MATERIALS["lxmert-shapes"].make(number).inputs
        np.savez(tmp_path / f"{number}.npz", **{name: given["boxes"][name] for name in ("features", "boxes")})
        target = [None, "red", 3][number]
        rows.append({"id": f"q{number}", "text": given["text"], "boxes": f"{number}.npz", "target": target})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run("explain", "zoo/lxmert-shapes", "--inputs", "rows.jsonl", "--out", "maps", "--as", "json")
    subject = heedmap.load("zoo/lxmert-shapes")
    for number, row in enumerate(rows):
        found = json.loads((tmp_path / "maps" / f"q{number}.json").read_text())
        boxes = dict(np.load(tmp_path / row["boxes"]))
        alone = subject.explain(text=row["text"], boxes=boxes, target=row["target"])
        assert found["target"] == list(alone.target)
        assert found["segments"]["boxes"]["labels"] == [list(alone.segments["boxes"].labels[0])]
        assert found["segments"]["boxes"]["relevance"][0] == pytest.approx(alone["boxes"][0].tolist(), rel=1e-3)


def test_inputs_of_one_size_go_through_the_model_together(run, lists, monkeypatch):
    from heedmap.engine import explain as engine

    sizes, before = [], engine.explain
    monkeypatch.setattr(
        engine, "explain", lambda s, inputs, **o: sizes.append(len(inputs["input_ids"])) or before(s, inputs, **o)
    )
    run("explain", "zoo/gpt-lists", "--inputs", lists, "--json")
    assert sorted(sizes) == [1, 1, 2]
    sizes.clear()
    run("explain", "zoo/gpt-lists", "--inputs", lists, "--json", "--batch", 1)
    assert sizes == [1] * 4


def test_what_cannot_go_together_goes_alone(run, lists, monkeypatch):
    from heedmap.engine import explain as engine

    before = engine.explain

    def alone(subject, inputs, **options):
        if len(inputs["input_ids"]) > 1:
            raise RuntimeError("no batches here")
        return before(subject, inputs, **options)

    monkeypatch.setattr(engine, "explain", alone)
    assert len(_lines(run("explain", "zoo/gpt-lists", "--inputs", lists, "--json"))) == 4


# -- what is given ------------------------------------------------------------------------------------------------------


def test_options_several_times_and_a_glob(run, photos):
    told = run("explain", "zoo/vit-shapes", "--image", "photos/*0.png", "--image", photos / "scene 2.png", "--json")
    assert [line["input"]["image"] for line in _lines(told)] == ["photos/scene 0.png", str(photos / "scene 2.png")]
    told = run("explain", "zoo/gpt-lists", "--text", "dog red ? dog", "--text", "cat blue ? cat", "--json")
    assert [line["explanation"]["segments"]["text"]["labels"][0][0] for line in _lines(told)] == ["dog", "cat"]


def test_what_is_given_once_goes_with_each_row(run, photos):
    (photos / "questions.csv").write_text("text,image,id\na red circle,scene 0.png,one\na star,scene 1.png,two\n")
    told = run("explain", "zoo/clip-shapes", "--inputs", "photos/questions.csv", "--json")
    assert [(line["name"], line["input"]["text"]) for line in _lines(told)] == [
        ("one", "a red circle"),
        ("two", "a star"),
    ]
    (photos / "words.txt").write_text("a red circle\na star\n")
    told = run("explain", "zoo/clip-shapes", "--inputs", "photos/words.txt", "--image", "photos/scene 1.png", "--json")
    assert [line["input"]["image"] for line in _lines(told)] == ["photos/scene 1.png"] * 2
    assert [line["name"] for line in _lines(told)] == ["0001", "0002"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--image", "photos"], 2, "there are 3 inputs; give a folder"),
        (["--image", "photos", "--out", "maps.png"], 1, "maps.png is the name of a file, and there are 3 inputs"),
        (["--image", "photos", "--out", "maps", "--as", "gif"], 1, "known are png, svg, pdf, html, json, safetensors"),
        (["--image", "photos", "--as", "png", "--json"], 2, "give a folder"),
        (["--image", "empty", "--out", "maps"], 1, "the folder empty has no image file; expected files that end in .bmp"),
        (["--image", "photos/*.gif", "--out", "maps"], 1, "no image file is called photos/*.gif"),
        (["--image", "photos", "--out", "taken"], 1, "cannot write the folder taken"),
        (["--image", "photos", "--text", "a", "--text", "b", "--json"], 2, "2 × --text, 3 × --image"),
        (["--inputs", "no.jsonl", "--json"], 1, "there is no file no.jsonl"),
        (["--inputs", "no.xlsx", "--json"], 1, "expected .jsonl, .csv, .txt"),
        (["--inputs", "blank.txt", "--json"], 1, "blank.txt lists no input"),
        (["--inputs", "latin.txt", "--json"], 1, "latin.txt cannot be read"),
        (["--inputs", "unknown.csv", "--json"], 1, "the columns picture; known are id, text, image"),
        (["--inputs", "twice.csv", "--json"], 1, "two inputs have the id 'a'"),
        (["--inputs", "bad-id.csv", "--json"], 1, "the id '../a' is no name for a file"),
        (["--inputs", "twice.csv", "--image", "photos", "--json"], 2, "--image is given several times, and so is"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_a_model_is_loaded(run, photos, tmp_path, monkeypatch, arguments, code, told):
    monkeypatch.setattr(heedmap, "load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "blank.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes("Grün".encode("latin-1"))
    (tmp_path / "unknown.csv").write_text("picture\na.png\n")
    (tmp_path / "twice.csv").write_text("id,text\na,one\nA,two\n")
    (tmp_path / "bad-id.csv").write_text("id,text\n../a,one\n")
    stderr = " ".join(run("explain", "zoo/vit-shapes", *arguments, code=code).stderr.replace("│", " ").split())
    assert told in stderr


# -- bad inputs ---------------------------------------------------------------------------------------------------------


def test_a_bad_input_is_told_and_does_not_stop_the_rest(run, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    result = run("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", code=1)
    assert "wrote 3 maps to maps" in result.stdout
    assert (
        "1 of 4 inputs could not be explained:\n  photos/broken.jpg cannot be read as an image"
        in result.stderr.replace(f"{tmp_path}/", "")
    )
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "index.html", "results.jsonl", "scene 0.png", "scene 1.png", "scene 2.png",
    ]  # fmt: skip
    (bad,) = [entry for entry in _entries(tmp_path / "maps") if "error" in entry]
    assert bad["name"] == "broken"
    page = (tmp_path / "maps" / "index.html").read_text()
    assert "4 inputs, 1 of them could not be explained" in page
    assert 'href="scene%200.png"' in page
    assert "cannot be read as an image" in page


def test_bad_rows_have_a_line_each(run, tmp_path):
    rows = [
        json.dumps({"text": "dog red ? dog"}), "{", "[]", json.dumps({"text": ""}), json.dumps({"text": " \n"}),
        json.dumps({"words": "dog red ? dog"}), json.dumps({"text": 7}), json.dumps({"id": "x"}),
        json.dumps({"text": "dog red ? dog", "target": "no such colour"}),
        json.dumps({"text": "dog red ? dog", "target": "query:x"}), json.dumps({"text": "dog red ? dog", "image": "x.png"}),
        json.dumps({"text": "red " * 25_000}), json.dumps({"text": "dog red ? dog", "target": "red"}),
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    result = run("explain", "zoo/gpt-lists", "--inputs", "rows.jsonl", "--json", code=1)
    lines = _lines(result)
    assert [line["number"] for line in lines] == list(range(1, 14))
    for line, told in zip(
        lines,
        (None, "no JSON", "it is list", "the text is empty", "the text is empty", "it has words; known are", "its text is 7",
         "at least one of --text", "no such colour", "expected a number", "there is no image file", "takes up to", None),
        strict=True,
    ):  # fmt: skip
        assert ("explanation" in line) == (told is None)
        assert told is None or told in line["error"]
    assert "11 of 13 inputs could not be explained" in result.stderr
    assert "and 1 more" in result.stderr
    assert len(result.stderr) < 5_000


# -- going on -----------------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_made_again(run, photos, tmp_path):
    command = ("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--as", "json")
    run(*command)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").glob("*.json")}
    (tmp_path / "maps" / "scene 1.json").unlink()
    assert "wrote 1 map to maps; index.html lists them; 2 were there already" in run(*command).stdout
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "maps").glob("*.json")}
    assert sum(before[path] == after[path] for path in before) == 2
    assert [entry["number"] for entry in _entries(tmp_path / "maps")] == [1, 2, 3]
    assert "wrote 3 maps" in run(*command, "--overwrite").stdout


def test_maps_of_something_else_are_not_written_over(run, photos, tmp_path):
    command = ("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--as", "json")
    run(*command)
    before = (tmp_path / "maps" / "scene 0.json").read_bytes()
    told = run(*command, "--method", "rollout", code=1).stderr
    assert "maps holds 3 maps of the same names that were made of another input, model, method" in told
    Image.new("RGB", (64, 64), "red").save(photos / "scene 0.png")
    assert "maps holds 1 map of the same names" in run(*command, code=1).stderr
    assert (tmp_path / "maps" / "scene 0.json").read_bytes() == before
    run(*command, "--overwrite")
    assert (tmp_path / "maps" / "scene 0.json").read_bytes() != before


def test_an_interrupted_run_goes_on(run, photos, tmp_path, monkeypatch):
    command = ("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--batch", 1)
    before = batch._Run.keep

    def stop(self, item):
        before(self, item)
        if item.name == "scene 1":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(batch._Run, "keep", stop)
    assert "what is in maps is whole, and the same command goes on" in run(*command, code=130).stderr
    assert len(_entries(tmp_path / "maps")) == 2
    with (tmp_path / "maps" / "results.jsonl").open("a") as lines:
        lines.write('{"number": 3, "na')
    monkeypatch.setattr(batch._Run, "keep", before)
    assert "wrote 1 map to maps; index.html lists them; 2 were there already" in run(*command).stdout
    assert len(_entries(tmp_path / "maps")) == 3


def test_two_runs_share_a_folder_where_names_differ(run, tmp_path):
    for name, text in (("a", "dog red ? dog"), ("b", "cat blue ? cat")):
        (tmp_path / "rows.jsonl").write_text(json.dumps({"id": name, "text": text}))
        run("explain", "zoo/gpt-lists", "--inputs", "rows.jsonl", "--out", "maps", "--as", "json")
    assert [entry["name"] for entry in _entries(tmp_path / "maps")] == ["b", "a"]
    assert (tmp_path / "maps" / "index.html").read_text().count("<a href") == 2


def test_a_disk_that_is_full_stops_the_run(run, photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heedmap.common.files.os.replace", full)
    told = run("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", code=1).stderr
    assert "No space left on device" in told
    assert [path.name for path in (tmp_path / "maps").iterdir()] == []


def test_nothing_is_printed_on_a_pipe_but_what_was_asked_for(run, photos):
    result = run("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--json")
    assert result.stderr == ""
    assert [line["file"] for line in _lines(result)] == ["scene 0.png", "scene 1.png", "scene 2.png"]
