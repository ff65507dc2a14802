"""The shapes in the annotations of the algebra are those that it is called with, on every architecture.

Checked in a process of its own: checks at every call would take a twentieth of the whole suite's time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heedmap.relevance.rules import average_heads

HERE = Path(__file__).parent

if "HEEDMAP_SHAPES" in os.environ:

    def test_a_wrong_shape_is_told() -> None:
        with pytest.raises(TypeError, match="average_heads"):
            average_heads(torch.ones(2, 3, 4), torch.ones(2, 3, 5))

else:

    def test_shapes_are_as_annotated() -> None:
        rows = HERE / "conformance" / "test_conformance.py"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            __file__,
            rows,
            "-k",
            "wrong_shape or rows_equal",
        ]
        done = subprocess.run(command, env={**os.environ, "HEEDMAP_SHAPES": "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
