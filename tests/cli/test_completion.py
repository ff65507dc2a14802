"""What a shell offers, asked as a shell asks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

import heedmap
from heedmap.datasets.opening import READERS
from heedmap.methods.cards import CARDS
from heedmap.models.names import shipped
from heedmap.zoo.recipes import ZOO

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(heedmap.__file__).parents[1])}
PROGRAM = """
import io, json, os, sys
from contextlib import redirect_stdout, suppress
from heedmap.cli.main import app
for line in sys.stdin:
    folder, environment = json.loads(line)
    os.chdir(folder)
    os.environ.update(environment)
    with redirect_stdout(io.StringIO()) as said, suppress(SystemExit):
        app(prog_name="heedmap")
    for name in environment:
        del os.environ[name]
    heavy = sorted({"torch", "transformers", "numpy", "matplotlib"} & set(sys.modules))
    print(json.dumps([said.getvalue(), heavy]), flush=True)
"""
"""Answers one shell after the other: (folder, variables) → what is said, and what heavy was imported by then."""

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """(folder, variables…) → what the program says; nothing heavy is imported for it."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=PIPE, stdout=PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def asked(folder: Path | str = ".", **variables: str) -> str:
            print(json.dumps([str(Path(folder).resolve()), variables]), file=program.stdin, flush=True)
            said, heavy = json.loads(program.stdout.readline())
            assert heavy == []
            return said

        yield asked
        program.communicate()


@pytest.fixture
def completed(ask: Ask) -> Callable[..., list[str]]:
    """What is offered for the last of some words."""

    def offered(*words: str, shell: str = "bash", folder: Path | str = ".") -> list[str]:
        env = {"_HEEDMAP_COMPLETE": f"complete_{shell}"}
        if shell == "bash":
            env |= {"COMP_WORDS": " ".join(("heedmap", *words)), "COMP_CWORD": str(len(words))}
        else:
            env |= {"_TYPER_COMPLETE_ARGS": " ".join(("heedmap", *words)), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        return ask(folder, **env).split()

    return offered


def test_models(completed, tmp_path):
    (tmp_path / "zoology").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "zoo.txt").write_text("")
    assert completed("explain", "zoo", folder=tmp_path) == [*(f"zoo/{name}" for name in shipped()), "zoology/"]
    assert completed("inspect", "zoo/vit", folder=tmp_path) == ["zoo/vit-shapes"]
    assert "timm/" in completed("app", "", folder=tmp_path)
    assert completed("compare", f"{tmp_path}/zool") == [f"{tmp_path}/zoology/"]


def test_methods(completed):
    assert completed("explain", "zoo/vit-shapes", "--method", "") == [*heedmap.METHODS, "auto"] == [*CARDS, "auto"]
    assert completed("explain", "zoo/vit-shapes", "--method", "attention_") == [
        "attention_gradcam",
        "attention_x_gradient",
    ]
    assert completed("methods", "attn") == ["attn_lrp"]
    assert completed("compare", "zoo/vit-shapes", "--method", "a") == [
        "attention_gradcam", "attn_lrp", "attention_x_gradient", "attcat", "ablations", "all",
    ]  # fmt: skip


def test_data_recipes_and_words(completed):
    assert completed("evaluate", "detection", "zoo/detr-shapes", "--data", "") == [f"{kind}:" for kind in READERS]
    assert completed("zoo", "train", "") == list(ZOO)
    assert completed("demo", "--only", "gpt") == ["gpt-lists"]
    assert completed("evaluate", "perturbation", "zoo/vit-shapes", "--remove", "") == ["drop", "mask", "replace"]
    assert completed("recommend", "zoo/vit-shapes", "--budget", "q") == ["quick"]


def test_commands_and_options(completed):
    assert completed("") == [
        "explain",
        "answer",
        "run",
        "alignment",
        "objects",
        "compare",
        "edit",
        "inspect",
        "heads",
        "methods",
        "recommend",
        "evaluate",
        "zoo",
        "demo",
        "app",
    ]
    assert completed("explain", "zoo/vit-shapes", "--ov") == ["--overwrite"]


def test_another_shell(completed):
    assert completed("explain", "zoo/gpt", shell="fish") == ["zoo/gpt-lists"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(ask, shell):
    assert "_HEEDMAP_COMPLETE" in ask(_HEEDMAP_COMPLETE=f"source_{shell}")
