"""The command that tests call instead of the installed one does the same."""

import subprocess
import sys
from pathlib import Path

import pytest

EXPLAIN = ("explain", "zoo/gpt-lists", "--text", "dog red ? dog")


def run(command: Path, arguments: tuple[str, ...], folder: Path) -> tuple[int, str, str]:
    folder.mkdir()
    done = subprocess.run([command, *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("arguments", "code"), [((*EXPLAIN, "--out", "map.json"), 0), (("explain", "--wrong"), 2)])
def test_it_is_the_installed_command(warmed: Path, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    installed = run(Path(sys.executable).with_name("heedmap"), arguments, tmp_path / "installed")
    assert run(warmed, arguments, tmp_path / "warmed") == installed
    assert installed[0] == code
    written = [
        [(path.name, path.read_bytes()) for path in (tmp_path / name).iterdir()] for name in ("installed", "warmed")
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import sys; print(__name__, sys.argv); sys.exit(3)", "a"),
        ("-m", "heedmap", "explian"),
        ("-m", "heedmap.packaged", "nothing"),
        ("-V",),
    ],
)
def test_python_is_python(warmed: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    real = run(Path(sys.executable), arguments, tmp_path / "real")
    assert run(warmed.with_name("python"), arguments, tmp_path / "warmed") == real
