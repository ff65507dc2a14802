"""What many tests read, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_sets import LISTS, png, write_jsonl

import heedmap
from heedmap.models.model import Model
from heedmap.zoo.samples import MATERIALS


@pytest.fixture(scope="session")
def pictures() -> tuple[bytes, ...]:
    """Four scenes as PNG."""
    return tuple(png(MATERIALS["vit-shapes"].make(index).picture) for index in range(4))


@pytest.fixture(scope="session")
def lists_model() -> Model:
    return heedmap.load("zoo/gpt-lists")


@pytest.fixture(scope="session")
def shapes_model() -> Model:
    return heedmap.load("zoo/vit-shapes")


@pytest.fixture(scope="session")
def lists_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 texts of several lengths."""
    return write_jsonl(tmp_path_factory.mktemp("lists") / "lists.jsonl", [{"text": text} for text in LISTS])


@pytest.fixture(scope="session")
def whole(lists_file: Path, lists_model: Model, tmp_path_factory: pytest.TempPathFactory) -> heedmap.Run:
    """A run that nobody disturbed, in seven parts."""
    return heedmap.run(lists_model, lists_file, tmp_path_factory.mktemp("whole"), part=4)
