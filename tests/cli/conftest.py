"""A command line that is run as people run it, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from heedmap.cli.main import app
from heedmap.zoo import world

LISTS = (
    "dog red ; cat blue ? cat",
    "car red ; cat pink ? cat",
    "dog red ; cat blue ; sun green ? cat",
    "sun red ? sun",
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """run("explain", …, code=0): no traceback, and that exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert "internal error" not in result.output
        return result

    return invoke


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three scenes of other sizes, and a note that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(64, 64), (90, 60), (64, 80)]):
        Image.fromarray(world.make_scene(0, "test", number).image).resize(size).save(folder / f"scene {number}.png")
    (folder / "notes.md").write_text("# notes")
    return folder


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A file with four texts of two lengths, and a line between."""
    path = tmp_path / "lists.txt"
    path.write_text("\n".join((*LISTS[:2], "", *LISTS[2:])), encoding="utf-8")
    return path
