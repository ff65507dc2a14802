"""Every kind of input is written with every ending, from the command line."""

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from heedmap.cli.main import app
from heedmap.explanation import Explanation
from heedmap.render.files import ENDINGS
from heedmap.zoo import world
from heedmap.zoo.samples import MATERIALS

BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".html": b"<!DOCTYPE html>", ".json": b"{"}


def _picture(folder: Path) -> list[str]:
    Image.fromarray(world.make_scene(0, "test", 4).image).resize((80, 60)).save(folder / "photo.png")
    return ["--image", str(folder / "photo.png")]


def _boxes(folder: Path) -> list[str]:
    sample = MATERIALS["lxmert-shapes"].make(0)
    np.savez(folder / "boxes.npz", **{name: sample.inputs["boxes"][name] for name in ("features", "boxes")})
    return ["--text", sample.inputs["text"], "--boxes", str(folder / "boxes.npz")]


def _sound(folder: Path) -> list[str]:
    tone = (np.sin(np.arange(8000) / 9) * 9000).astype("<i2")
    with wave.open(str(folder / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(tone.tobytes())
    return ["--audio", str(folder / "tone.wav")]


INPUTS: dict[str, tuple[str, Callable[[Path], list[str]], set[str]]] = {
    "text": ("zoo/gpt-lists", lambda _: ["--text", "dog red ; cat blue ? cat"], {"text"}),
    "image": ("zoo/vit-shapes", _picture, {"image"}),
    "image and text": (
        "zoo/clip-shapes",
        lambda folder: [*_picture(folder), "--text", "a red circle"],
        {"image", "text"},
    ),
    "boxes": ("zoo/lxmert-shapes", _boxes, {"text", "boxes"}),
    "detection": ("zoo/detr-shapes", lambda folder: [*_picture(folder), "--target", "query:1"], {"image", "queries"}),
    "encoder-decoder": ("zoo/bart-dates", lambda _: ["--text", "the 3rd of March 1987"], {"text", "decoder"}),
    "audio": ("wav2vec2", _sound, {"audio"}),
    "audio to text": ("whisper", _sound, {"audio", "decoder"}),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_ending(folder, tmp_path: Path, kind: str) -> None:
    name, given, segments = INPUTS[kind]
    model = name if name.startswith("zoo/") else str(folder(name))
    command = ["explain", model, *given(tmp_path)]
    for ending in ENDINGS:
        out = tmp_path / f"map{ending}"
        result = CliRunner().invoke(app, [*command, "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert out.read_bytes().startswith(BEGINS.get(ending, b""))
    loaded = Explanation.load(tmp_path / "map.safetensors")
    told = json.loads((tmp_path / "map.json").read_text())
    assert segments <= set(loaded.segments) == set(told["segments"])
    page = (tmp_path / "map.html").read_text()
    assert all(f"{segment}" in page for segment in segments)
    assert "from 0: " in page or "around 0: " in page or "min–max: " in page or "nothing to show" in page
    with Image.open(tmp_path / "map.png") as drawn:
        assert np.asarray(drawn).std() > 3
