import json
from pathlib import Path

import numpy as np
import pytest
from hand_made import patches, pictures, segment
from PIL import Image

from heedmap.data.picture import Geometry, Picture
from heedmap.errors import InputError, UnknownNameError
from heedmap.explanation import Explanation
from heedmap.render.files import ENDINGS, check_path, write, write_comparison
from heedmap.render.overlay import muted
from heedmap.render.scale import MUTE, THEMES


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_written_and_nothing_else_is_left(tmp_path, make_explanation, ending):
    path = tmp_path / f"out{ending.upper()}"
    explanation = make_explanation(segment([1.0, 2.0]))
    write(path, explanation)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    start = path.read_bytes()[:15]
    expected = {
        ".png": b"\x89PNG",
        ".svg": b"<?xml",
        ".pdf": b"%PDF",
        ".html": b"<!DOCTYPE html>",
        ".json": b"{",
        ".safetensors": b"",
    }[ending]
    assert start.startswith(expected)
    if ending == ".safetensors":
        assert Explanation.load(path) == explanation


def _blue(path: Path) -> int:
    """Pixels of the photograph's colour, muted."""
    wanted = muted(Image.new("RGB", (1, 1), (0, 0, 200)), MUTE, THEMES["light"]).getpixel((0, 0))
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - wanted).max(-1) < 3).sum())


def test_a_figure_has_the_picture_under_the_map(tmp_path, make_explanation, photo):
    explanation = make_explanation(segment([1.0]), patches(2, 3, {(0, 0): 1.0}))
    write(tmp_path / "map.png", explanation, photo)
    write(tmp_path / "plot.png", explanation)
    assert _blue(tmp_path / "map.png") > 10 * _blue(tmp_path / "plot.png") + 10_000


def test_a_page_lays_the_map_on_the_original(tmp_path, make_explanation, photo):
    cropped = Picture(photo, Geometry((2.0, 2.0), (15.0, 0.0), (30, 30), (90, 60)))
    write(tmp_path / "map.html", make_explanation(patches(2, 2, {(0, 0): 1.0})), cropped)
    (light,), (dark,) = (pictures((tmp_path / "map.html").read_text(), theme) for theme in THEMES)
    assert light.size == dark.size == photo.size
    assert min(light.getpixel((2, 2))) > 150
    assert max(dark.getpixel((2, 2))) < 50


def test_a_failed_write_leaves_the_old_file(tmp_path, make_explanation, monkeypatch):
    path = tmp_path / "out.html"
    path.write_text("old")

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heedmap.data.explanation.os.replace", broken)
    with pytest.raises(InputError, match=r"cannot write .*out.html: No space left"):
        write(path, make_explanation(segment([1.0])))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_endings_and_folders(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'.gif'; known endings: .png, .svg, .pdf, .html, .json, .safetensors"):
        check_path(Path("a.gif"), ENDINGS)
    with pytest.raises(UnknownNameError, match="no ending"):
        check_path(Path("a"), ENDINGS)
    (tmp_path / "d.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_path(tmp_path / "d.png", ENDINGS)


def test_comparison_files(tmp_path, make_explanation):
    pair = make_explanation(segment([1.0])), make_explanation(segment([2.0]))
    write_comparison(tmp_path / "both.json", *pair)
    write_comparison(tmp_path / "both.html", *pair)
    both = json.loads((tmp_path / "both.json").read_text())
    assert [e["segments"]["text"]["relevance"] for e in both] == [[[1.0]], [[2.0]]]
    with pytest.raises(UnknownNameError, match=r"known endings: .png, .svg, .pdf, .html, .json$"):
        write_comparison(tmp_path / "both.gif", *pair)
