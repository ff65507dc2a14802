"""``heedmap answer`` from end to end, with the processor classes of vision-language models, built from small local files."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from answers_folders import MADE, SIZES, pictures, save
from PIL import Image
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = {"tiles": [(4, 4)] * 10, "packed": [(6, 8), (8, 6)]}
"""Rows and columns of patches of each piece: of two pictures four tiles and the whole, or the whole."""
TEXT, STEPS = "what is here ?", 3


@pytest.fixture(scope="module", params=MADE)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[str]]:
    """Which model, where files are written, and the words of the command line."""
    folder = tmp_path_factory.mktemp("models")
    images = [word for path in pictures(folder) for word in ("--image", str(path))]
    made = save(request.param, folder)
    return (
        request.param,
        folder,
        ["answer", str(made), "--text", TEXT, *images, "--generate", f"max_new_tokens={STEPS}"],
    )


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output
    assert "without the image" not in done.output
    return done.stdout


def test_each_picture_and_tile_has_a_map_of_its_own_on_its_own_part(asked: tuple[str, Path, list[str]]) -> None:
    name, folder, words = asked
    run(*words, "--out", folder / "answer.html")
    page = (folder / "answer.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    segments = {segment["name"]: segment for segment in data["segments"]}
    numbers = ["", *map(str, range(2, 1 + len(PARTS[name])))]
    for number, (rows, columns) in zip(numbers, PARTS[name], strict=True):
        assert segments[f"image_encoder{number}"]["grid"] == [rows, columns]
        assert segments[f"image{number}"]["grid"] == [rows // 2, columns // 2]
    shown = re.findall(r'<img alt="the picture that the model saw"([^>]*)>\s*<canvas role="img" style="([^"]*)"', page)
    assert len(shown) == 2 * len(numbers)
    assert [("data-same" in picture) for picture, _ in shown].count(True) == len(numbers)
    assert all(np.allclose([float(side) for side in re.findall(r"[-\d.]+(?=%)", place)], [0, 0, 100, 100], atol=3)
               for _, place in shown)  # fmt: skip


def test_tiles_are_parts_of_the_picture_and_the_whole_is_whole(asked: tuple[str, Path, list[str]]) -> None:
    name, _, words = asked
    picture = heedmap.load(words[1]).picture(tuple(Image.open(path) for path in words[5:8:2]))
    parts = [picture, *picture.others]
    assert len(parts) == len(PARTS[name])
    for number, size in enumerate(SIZES):
        own = parts[number * len(parts) // 2 : (number + 1) * len(parts) // 2]
        assert own[-1].image.size == size
        assert own[-1].geometry.view == pytest.approx((0, 0, *size), abs=1)
        area = sum(tile.image.width * tile.image.height for tile in own[:-1])
        assert area == (0 if name == "packed" else pytest.approx(size[0] * size[1], rel=0.05))
    assert picture.of("image_encoder2") is parts[1]
    assert picture.of(f"image{1 + len(parts)}") is None
    if name == "tiles":
        left, right = (np.asarray(part.image)[..., 0].mean() for part in parts[:2])
        assert left > right + 60  # the first picture is red on the left


def test_what_is_written_is_what_python_gives(asked: tuple[str, Path, list[str]]) -> None:
    _, folder, words = asked
    subject = heedmap.load(words[1])
    images = tuple(Image.open(path) for path in words[5:8:2])
    found = subject.explain_answer(text=TEXT, image=images, generate={"max_new_tokens": STEPS})
    run(*words, "--out", folder / "answer.safetensors")
    loaded = heedmap.Explanation.load(folder / "answer.safetensors")
    assert loaded.answer.text == found.answer.text
    assert loaded.segments["text"].roles == found.segments["text"].roles
    assert set(found.segments["text"].roles[0]) == set("pti")
    for segment in found.segments:
        torch.testing.assert_close(loaded[segment], found[segment])
        assert found[segment].shape[:2] == (1, STEPS)
    (before, after), said = found.segments["text"].roles[0].split("p" * 4), found.segments["text"].labels[0]
    assert said[len(before) : len(before) + 4] == tuple(TEXT.split())
    assert "i" in before
    assert "p" not in after


def test_figures_and_the_table_are_drawn(asked: tuple[str, Path, list[str]]) -> None:
    _, folder, words = asked
    run(*words, "--out", folder / "answer.png")
    with Image.open(BytesIO((folder / "answer.png").read_bytes())) as figure:
        assert len(set(figure.convert("L").tobytes())) > 50
    assert run(*words).count("rests on:") == 4  # the tower's pictures, those among the words, the text, the answer


def test_a_picture_without_a_place_is_told(asked: tuple[str, Path, list[str]]) -> None:
    done = CliRunner().invoke(app, [*asked[2][:4], "--image", asked[2][5], "--answer", "xylophone", "--json"])
    assert done.exit_code == 1
    assert "cannot make the answer" in done.stderr
