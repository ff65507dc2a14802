"""A command that explains words leaves out what only pictures need; whoever imports heedmap finds all as it was."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from heedmap.cli.main import main
sys.argv = ["heedmap", "explain", *sys.argv[1:]]
try:
    main()
except SystemExit as stopped:
    loaded = sorted({"torchvision", "scipy", "sklearn", "pandas", "matplotlib", "accelerate"} & set(sys.modules))
    print(stopped.code, loaded, file=sys.stderr)
    import scipy, torchvision  # and can be imported
"""
LIBRARY = """
import sys, heedmap
from typer.testing import CliRunner
from heedmap.cli.main import app
assert CliRunner().invoke(app, ["explain", "zoo/gpt-lists", "--text", "dog red ? dog"]).exit_code == 0
from transformers import utils
print(utils.is_torchvision_available(), utils.is_scipy_available())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_words_are_explained_without_what_pictures_need() -> None:
    done = run(PROGRAM, "zoo/gpt-lists", "--text", "dog red ? dog")
    assert (done.stderr, done.returncode) == ("0 []\n", 0)
    assert "dog" in done.stdout


def test_a_model_of_pictures_has_torchvision() -> None:
    pytest.importorskip("torchvision")
    done = run(PROGRAM, "zoo/vit-shapes", "--sample", "0", "--json")
    assert (done.stderr.startswith("0 ["), "'scipy', 'torchvision'" in done.stderr) == (True, True), done.stderr


def test_in_somebodys_own_python_nothing_is_left_out() -> None:
    pytest.importorskip("torchvision")
    assert run(LIBRARY).stdout == "True True\n"
