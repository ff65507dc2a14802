"""What a shell offers, asked as a shell asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import heedmap
from heedmap.datasets.opening import READERS
from heedmap.methods.cards import CARDS
from heedmap.models.shipped import shipped
from heedmap.zoo.recipes import ZOO

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(heedmap.__file__).parents[1])}
PROGRAM = """
import sys
from heedmap.cli.main import app
try:
    app(prog_name="heedmap")
finally:
    print(*sorted({"torch", "transformers", "numpy", "matplotlib"} & set(sys.modules)), file=sys.stderr)
"""


def _completed(*words: str, shell: str = "bash", folder: str | None = None) -> list[str]:
    """What is offered for the last of ``words``; nothing heavy is imported for it."""
    env = {**ENVIRONMENT, "_HEEDMAP_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        env |= {"COMP_WORDS": " ".join(("heedmap", *words)), "COMP_CWORD": str(len(words))}
    else:
        env |= {"_TYPER_COMPLETE_ARGS": " ".join(("heedmap", *words)), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == ""
    return done.stdout.split()


def test_models(tmp_path):
    (tmp_path / "zoology").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "zoo.txt").write_text("")
    assert _completed("explain", "zoo", folder=str(tmp_path)) == [*(f"zoo/{name}" for name in shipped()), "zoology/"]
    assert _completed("inspect", "zoo/vit", folder=str(tmp_path)) == ["zoo/vit-shapes"]
    assert "timm/" in _completed("app", "", folder=str(tmp_path))
    assert _completed("compare", f"{tmp_path}/zool") == [f"{tmp_path}/zoology/"]


def test_methods():
    assert _completed("explain", "zoo/vit-shapes", "--method", "") == [*heedmap.METHODS, "auto"] == [*CARDS, "auto"]
    assert _completed("explain", "zoo/vit-shapes", "--method", "attention_") == [
        "attention_gradcam",
        "attention_x_gradient",
    ]
    assert _completed("methods", "attn") == ["attn_lrp"]
    assert _completed("compare", "zoo/vit-shapes", "--method", "a") == [
        "attention_gradcam", "attn_lrp", "attention_x_gradient", "attcat", "ablations", "all",
    ]  # fmt: skip


def test_data_recipes_and_words():
    assert _completed("evaluate", "detection", "zoo/detr-shapes", "--data", "") == [f"{kind}:" for kind in READERS]
    assert _completed("zoo", "train", "") == list(ZOO)
    assert _completed("demo", "--only", "gpt") == ["gpt-lists"]
    assert _completed("evaluate", "perturbation", "zoo/vit-shapes", "--remove", "") == ["drop", "mask", "replace"]
    assert _completed("recommend", "zoo/vit-shapes", "--budget", "q") == ["quick"]


def test_commands_and_options():
    assert _completed("") == [
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
    assert _completed("explain", "zoo/vit-shapes", "--ov") == ["--overwrite"]


def test_another_shell():
    assert _completed("explain", "zoo/gpt", shell="fish") == ["zoo/gpt-lists"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell):
    code = "from heedmap.cli.main import app; app(prog_name='heedmap')"
    env = {**ENVIRONMENT, "_HEEDMAP_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "_HEEDMAP_COMPLETE" in done.stdout
