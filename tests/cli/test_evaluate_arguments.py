"""Slips of ``heedmap evaluate`` are told before torch is imported."""

import subprocess
import sys

import pytest

RUN = """
import sys
from heedmap.cli.main import app
try:
    app()
finally:
    print("torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "coco"), "is not KIND:FOLDER"),
        (("--data", "cocoa:here"), "no kind of data set"),
        (("--data", "coco:not-there"), "there is no folder"),
        (("--data", "coco:.", "--file", "split"), "is not NAME=VALUE"),
        (("--method", "rolout"), "no method"),
    ],
)
def test_a_slip_is_told_without_torch(arguments: tuple[str, ...], words: str, tmp_path) -> None:
    command = [sys.executable, "-c", RUN, "evaluate", "detection", "zoo/detr-shapes", "--out", "run", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout.strip() == "False"
