"""A recipe that trains in a second, and heedmap as its wheel installs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_shapes

import heedmap
from heedmap.zoo import samples
from heedmap.zoo.recipe import Recipe, Stage

ROOT = Path(__file__).parents[2]
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "attention_dropout": 0.1,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def stage():
    """A stage of 30 steps, with dropout, so that the state of the generator matters."""
    return Stage(
        task="heedmap.zoo.tasks.lists",
        settings=SMALL,
        steps=30,
        batch=8,
        rate=1e-2,
        watched="accuracy",
        warmup=5,
        checked=16,
        every=10,
    )


@pytest.fixture(scope="session")
def recipe(stage):
    return Recipe("toy", "Words → a word", "No data to speak of.", "a → b", (stage,), {"accuracy": 0.99}, tested=16)


@pytest.fixture(scope="session")
def subjects(tmp_path_factory):
    """The models that see, as small random ones: name → subject."""
    folder = tmp_path_factory.mktemp("tiny")
    return {name: heedmap.load(tiny_shapes.save(name, folder)) for name in tiny_shapes.MODELS}


@pytest.fixture
def lenient(monkeypatch):
    """Random models find nothing: whatever they say counts."""
    for name, value in (("WRONG", 0), ("NEAR", 0.0), ("SURE", 0.2)):
        monkeypatch.setattr(samples, name, value)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The folder into which heedmap's wheel was installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    _python("-c", "from setuptools.build_meta import build_wheel; build_wheel('.')", cwd=source)  # as pip does
    (wheel,) = source.glob("*.whl")
    _python("-m", "pip", "--quiet", "install", "--no-deps", "--no-compile", "--no-index", "--target", target, wheel)
    return target


def _python(*arguments, cwd=None):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
