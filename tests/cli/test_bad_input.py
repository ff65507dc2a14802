"""Whatever is given to the command line is explained, or refused in one clear message."""

import io
import json
import os
import struct
import zlib
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import heedmap
from heedmap.cli.options import OF_EVERY_METHOD

SIZE = (40, 24)


def _scene() -> Image.Image:
    return Image.effect_noise(SIZE, 80).convert("RGB")


def _animated(path: Path) -> None:
    _scene().save(path, save_all=True, append_images=[_scene().rotate(180), _scene()], duration=40, loop=0)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _scene().save(path, exif=exif)


def _sixteen(path: Path) -> None:
    Image.fromarray((np.arange(960, dtype=np.uint16) * 68).reshape(24, 40)).save(path)


GOOD = {
    "cmyk.jpg": lambda path: _scene().convert("CMYK").save(path),
    "sixteen.png": _sixteen,
    "animated.gif": _animated,
    "animated.webp": _animated,
    "alpha.png": lambda path: _scene().convert("RGBA").save(path),
    "palette.png": lambda path: _scene().convert("P").save(path),
    "turned.jpg": _turned,
    "grey.png": lambda path: _scene().convert("L").save(path),
    "two-levels.tiff": lambda path: _scene().convert("1").save(path),
    "one-pixel.png": lambda path: _scene().resize((1, 1)).save(path),
    "UPPER.PNG": lambda path: _scene().save(path),
}


@pytest.mark.parametrize("name", GOOD)
def test_pictures_of_every_form_are_explained(run, tmp_path, name):
    GOOD[name](tmp_path / name)
    result = run("explain", "zoo/vit-shapes", "--image", name, "--json")
    values = json.loads(result.stdout)["segments"]["image"]["relevance"][0]
    assert len(values) > 10
    assert np.isfinite(values).all()


def test_a_photo_taken_sideways_is_explained_and_drawn_upright(run, tmp_path):
    upright = Image.new("RGB", (24, 40), "black")
    upright.paste("white", (0, 0, 24, 12))  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right to see it
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    maps = [
        json.loads(run("explain", "zoo/vit-shapes", "--image", name, "--json").stdout)["segments"]["image"]
        for name in ("turned.png", "upright.png")
    ]
    assert maps[0]["relevance"] == maps[1]["relevance"]
    for name in ("turned", "upright"):
        run("explain", "zoo/vit-shapes", "--image", f"{name}.png", "--out", f"{name}-map.png")
    drawn = [
        np.asarray(Image.open(tmp_path / f"{name}-map.png").convert("RGB")).astype(int)
        for name in ("turned", "upright")
    ]
    assert np.abs(drawn[0] - drawn[1]).max() == 0


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rest = _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + rest


def _cut() -> bytes:
    whole = io.BytesIO()
    _scene().save(whole, "PNG")
    return whole.getvalue()[:300]


BAD = {
    "empty.png": (b"", "cannot be read as an image"),
    "cut.png": (_cut(), "cannot be read as an image"),
    "text.jpg": (b"not a picture", "cannot be read as an image"),
    "zero-size.png": (_png(0, 0), "cannot be read as an image"),
    "bomb.png": (_png(30_000, 30_000), "too large an image"),
    "page.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as an image"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["explain", "inspect", "compare", "recommend"])
def test_pictures_that_are_none_are_refused_before_a_model_is_loaded(run, tmp_path, monkeypatch, command, name):
    if command != "recommend":
        monkeypatch.setattr(heedmap, "load", lambda *_, **__: pytest.fail("loaded"))
    data, told = BAD[name]
    (tmp_path / name).write_bytes(data)
    stderr = run(command, "zoo/vit-shapes", "--image", name, code=1).stderr
    assert stderr.startswith(f"heedmap: {name} ")
    assert told in stderr
    assert len(stderr) < 400


@pytest.mark.parametrize("command", ["inspect", "compare"])
def test_a_folder_is_no_picture_for_commands_of_one_input(run, photos, command):
    assert "is a folder; give a file of it" in run(command, "zoo/vit-shapes", "--image", photos, code=1).stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(run, photos):
    (photos / "scene 0.png").chmod(0)
    assert "Permission denied" in run("inspect", "zoo/vit-shapes", "--image", photos / "scene 0.png", code=1).stderr


def test_a_file_whose_reading_fails(run, photos, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    told = run("explain", "zoo/vit-shapes", "--image", photos / "scene 0.png", code=1).stderr
    assert "cannot be read" in told
    assert "Permission denied" in told


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
@pytest.mark.parametrize("command", ["explain", "inspect", "compare", "recommend"])
def test_an_empty_text(run, command, text):
    assert "the text is empty; give at least one word" in run(command, "zoo/gpt-lists", "--text", text, code=1).stderr


@pytest.mark.parametrize("command", ["explain", "inspect", "compare"])
@pytest.mark.parametrize("model", ["zoo/gpt-lists", "zoo/bart-dates", "zoo/clip-shapes", "zoo/lxmert-shapes"])
def test_a_text_of_100_000_letters(run, photos, tmp_path, command, model):
    np.savez(tmp_path / "boxes.npz", features=np.zeros((2, 40), np.float32), boxes=np.tile([0, 0, 1, 1], (2, 1)))
    more = {"zoo/clip-shapes": ["--image", photos / "scene 0.png"], "zoo/lxmert-shapes": ["--boxes", "boxes.npz"]}
    result = run(command, model, "--text", "red " * 25_000, *more.get(model, []), code=1)
    assert "tokens and the model takes up to" in result.stderr
    assert len(result.stderr) < 400


def test_texts_that_no_tokenizer_saw(run):
    for text in ("\x1b[31mred\x00", "\u202edog red ? dog", "🙂" * 9):
        assert "\x1b" not in run("explain", "zoo/gpt-lists", "--text", text).stdout
    told = run("explain", "zoo/gpt-lists", "--text", "dog \udce4 ? dog", code=1).stderr
    assert "the text has half a character ('\\udce4', character 5)" in told


# -- where it goes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["explain", "zoo/gpt-lists", "--text", "dog red ? dog", "--out", "file/map.png"],
        ["explain", "zoo/gpt-lists", "--inputs", "lists.txt", "--out", "file/maps"],
        ["compare", "zoo/gpt-lists", "--text", "dog red ? dog", "--method", "rollout", "--out", "file/map.html"],
        ["recommend", "zoo/gpt-lists", "--text", "dog red ? dog", "--method", "random", "--out", "file/which.md"],
        ["methods", "--markdown", "file/methods.md"],
        ["evaluate", "sanity", "zoo/gpt-lists", "--samples", "2", "--check", "agreement", "--out", "file/run"],
        ["demo", "--out", "file/gallery"],
        ["zoo", "train", "gpt-lists", "--out", "file/model", "--steps", "1"],
        ["zoo", "evidence", "gpt-lists", "--samples", "2", "--out", "file/evidence.json"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_folder_that_cannot_be_written(run, lists, tmp_path, command):
    (tmp_path / "file").write_text("here is no folder")
    told = run(*command, code=1).stderr
    assert "cannot" in told
    assert "file" in told


def test_a_folder_that_is_not_there_is_made(run, tmp_path):
    run("explain", "zoo/gpt-lists", "--text", "dog red ? dog", "--out", "new/folder/map.json")
    assert (tmp_path / "new" / "folder" / "map.json").is_file()


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (["explain", "zoo/gpt-lists", "--text", "a"], ".png, .svg, .pdf, .html, .json, .safetensors"),
        (["explain", "zoo/gpt-lists", "--text", "a", "--compare", "b"], ".png, .svg, .pdf, .html, .json"),
        (["compare", "zoo/gpt-lists", "--text", "a"], ".png, .svg, .pdf, .html, .json"),
        (["recommend", "zoo/gpt-lists", "--text", "a"], ".md, .json"),
    ],
    ids=["explain", "two texts", "compare", "recommend"],
)
@pytest.mark.parametrize("out", ["map.gif", "map", "folder.html"])
def test_an_ending_that_is_not_known(run, tmp_path, monkeypatch, command, known, out):
    monkeypatch.setattr(heedmap, "load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "folder.html").mkdir()
    told = run(*command, "--out", out, code=1).stderr
    if "recommend" in command and out == "folder.html":
        assert "known endings: .md, .json" in told
    else:
        assert ("is a folder" if out == "folder.html" else f"known endings: {known}") in told


def test_what_was_written_is_opened(run, photos, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", lambda url: opened.append(Path(url).name) or 0)
    run("explain", "zoo/gpt-lists", "--text", "dog red ? dog", "--out", "map.html", "--open")
    run("compare", "zoo/gpt-lists", "--text", "dog red ? dog", "--method", "rollout", "--out", "both.html", "--open")
    run("explain", "zoo/vit-shapes", "--image", photos, "--out", "maps", "--open")
    assert opened == ["map.html", "both.html", "index.html"]
    for command in ("explain", "compare"):
        assert "give --out too" in run(command, "zoo/gpt-lists", "--text", "dog", "--open", code=2).stderr
    monkeypatch.setattr("typer.launch", lambda _: 1)
    told = run("explain", "zoo/gpt-lists", "--text", "dog red ? dog", "--out", "map.html", "--open").stderr
    assert "no program was found that opens map.html" in told


@pytest.mark.parametrize(
    ("command", "sample", "option"),
    [
        ("explain", ("zoo/bart-dates", "--text", "May 5 1999"), "decoder_input_ids=[[1]]"),
        ("explain", ("zoo/gpt-lists", "--text", "dog", "--compare", "cat"), "pool=last"),
        ("answer", ("zoo/gpt-lists", "--text", "dog red ? dog"), "chat=false"),
        ("objects", ("zoo/detr-shapes", "--sample", "41"), "threshold=0.9"),
        ("edit", ("zoo/gpt-lists", "--text", "dog red ? dog", "--replace", "dog=cat"), "answer=1"),
        ("run", ("zoo/gpt-lists", "--data", "pictures", "--out", "maps"), "page=false"),
    ],
)
@pytest.mark.parametrize("method", ["rollout", "auto"])
def test_what_a_call_takes_is_no_option_of_its_method(run, monkeypatch, command, sample, option, method):
    monkeypatch.setattr(heedmap, "load", None)  # told before a model is loaded
    told = run(command, *sample, "--method", method, "--option", option, code=1).stderr
    name = option.partition("=")[0]
    assert (
        f"takes no option ({name})" in told if method == "auto" else f"method 'rollout' has no option '{name}'" in told
    )


def test_options_of_every_method_are_what_a_call_takes():
    assert set(signature(heedmap.explain).parameters) >= OF_EVERY_METHOD


def test_an_option_that_the_command_sets_itself(run):
    both = ("--memory", "2GB", "--option", "memory=1GB")
    told = run("explain", "zoo/gpt-lists", "--text", "dog red ? dog", *both, code=2).stderr
    assert "'memory' is set by the command itself" in told
