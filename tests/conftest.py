"""Options of the whole suite; and runtime checks of the shapes in annotations, for the tests that ask for them."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models, and other processes beside us: threads only wait

if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # as a shell's background job: tests interrupt, and so do their children
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import typer.testing
from hypothesis import settings
from jaxtyping import config, install_import_hook

from browsing import launched
from warmed import warming

settings.register_profile("heedmap", derandomize=True, deadline=None, database=None, max_examples=60)
settings.register_profile("thorough", deadline=None, database=None, max_examples=2000)  # --hypothesis-profile=thorough
settings.load_profile("heedmap")
typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]  # once for a process, as people have it
gc.disable()  # until all is imported, see pytest_collection_finish
install_import_hook(["heedmap.relevance", "heedmap.attention.attention"], "beartype.beartype")  # see shapes_checked
config.update("jaxtyping_disable", True)

HERE = Path(__file__).parent
SLOW = (
    "answers/test_answer_command.py",
    "answers/test_answer_page.py",
    "answers/test_each_token_alone.py",
    "cli/test_bad_input.py",
    "cli/test_completion.py",
    "cli/test_examples.py",
    "cli/test_many_inputs.py",
    "conformance",
    "datasets/test_captions.py",
    "datasets/test_questions.py",
    "datasets/test_regions.py",
    "documents",
    "evaluate/test_choosing.py",
    "evaluate/test_detection_rows.py",
    "evaluate/test_evaluate_command.py",
    "evaluate/test_masking.py",
    "evaluate/test_perturbation.py",
    "evaluate/test_recommend.py",
    "evaluate/test_runs.py",
    "evaluate/test_sanity.py",
    "evaluate/test_segmentation_rows.py",
    "models/test_edits.py",
    "models/test_written_maps.py",
    "parity/test_parity.py",
    "places",
    "planning",
    "relevance/test_baselines.py",
    "relevance/test_checkpointing.py",
    "relevance/test_heads.py",
    "relevance/test_in_place.py",
    "relevance/test_input_methods.py",
    "relevance/test_verdicts.py",
    "scale/test_cluster.py",
    "scale/test_cluster_that_runs.py",
    "scale/test_run_page_browser.py",
    "sweep/test_sweep.py",
    "test_docs.py",
    "test_docstrings.py",
    "test_left_as_found.py",
    "test_packaged.py",
    "test_warmed.py",
    "web/test_page_beyond.py",
    "web/test_page_beyond_browser.py",
    "web/test_page_browser.py",
    "web/test_page_crowd.py",
    "web/test_page_server.py",
    "web/test_page_work.py",
    "weights",
    "zoo/test_demo.py",
    "zoo/test_easy_vqa_task.py",
    "zoo/test_evidence.py",
    "zoo/test_lists_by_mixers.py",
    "zoo/test_store.py",
    "zoo/test_telling.py",
    "zoo/test_training.py",
)
"""Files and folders whose tests ``make check`` leaves to ``make test``."""
LONGEST = (
    "scale/test_cluster_that_runs.py",
    "scale/test_cluster.py",
    "test_docs.py",
    "documents/test_notebooks.py",
    "zoo/test_store.py",
    "weights/test_known_evidence.py",
)
"""Files with single tests that take long: they begin first, so that at the end no worker waits for one of them."""
assert [name for name in (*SLOW, *LONGEST) if not (HERE / name).exists()] == [], (
    "a file is named that is not there any more"
)


WARMED = "HEEDMAP_WARMED"
"""The variable that tells the workers of a run which ``heedmap`` is ``warmed`` for all of them."""


def pytest_configure(config: pytest.Config) -> None:
    """Before there are workers, whoever leads them has ``heedmap`` warmed; the tests that ask for it are none of the fast part."""
    leads = "PYTEST_XDIST_WORKER" not in os.environ and config.getoption("numprocesses", None)
    if leads and not config.getoption("fast"):
        left = ExitStack()
        folder = left.enter_context(TemporaryDirectory())
        os.environ[WARMED] = str(left.enter_context(warming(Path(folder))))
        config.add_cleanup(left.close)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--fast`` not even import what is in :data:`SLOW`."""
    return True if config.getoption("fast") and collection_path in {HERE / name for name in SLOW} else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with :data:`LONGEST`; the others stay in their order."""
    first = {HERE / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it for garbage, again and again, takes longer than many tests."""
    gc.freeze()
    gc.set_threshold(5_000)
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=HERE / "parity" / "golden",
        metavar="DIR",
        help="folder of golden cases that tests/parity compares with (default: tests/parity/golden)",
    )
    parser.addoption("--fast", action="store_true", help="leave out what tests/conftest.py names as slow")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """For pages; see ``browsing.py``."""
    with launched() as found:
        yield found


@pytest.fixture
def shapes_checked() -> Iterator[None]:
    """Each call of the algebra is held against its annotations; of all tests that would take a twentieth of their time."""
    config.update("jaxtyping_disable", False)
    yield
    config.update("jaxtyping_disable", True)


@pytest.fixture(scope="session")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``heedmap`` that starts at once, see ``warmed.py``; for tests that are about what it does, not how it starts."""
    if WARMED in os.environ:
        yield Path(os.environ[WARMED])
        return
    with warming(tmp_path_factory.mktemp("warmed")) as command:
        yield command
