"""Options of the whole suite; and, before heedmap is imported, runtime checks of the shapes in its annotations."""

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models, and other processes beside us: threads only wait

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as a shell's background job: tests interrupt, and so do their children
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

settings.register_profile("heedmap", derandomize=True, deadline=None, database=None, max_examples=60)
settings.register_profile("thorough", deadline=None, database=None, max_examples=2000)  # --hypothesis-profile=thorough
settings.load_profile("heedmap")
install_import_hook(["heedmap.relevance", "heedmap.attention.attention"], "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "parity" / "golden",
        metavar="DIR",
        help="folder of golden cases that tests/parity compares with (default: tests/parity/golden)",
    )
