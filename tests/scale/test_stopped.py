"""A run that is stopped at any moment goes on, and ends with the rows of one that was not, each once."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_sets import LISTS, rows_of

import heedmap
from heedmap.common import files
from heedmap.errors import OutputError
from heedmap.models.model import Model


def killed_in(action: Callable[[], Any]) -> bool:
    """Run in a process of its own; whether it was killed."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def same_rows(folder: Path, whole: heedmap.Run) -> bool:
    return rows_of(folder) == rows_of(whole.folder)


def test_killed_at_random_moments(whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    """Each time a little later, until one comes to its end."""
    chance, kills = random.Random(0), 0
    for attempt in range(60):
        child = os.fork()
        if not child:
            heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
            os._exit(0)
        time.sleep(chance.uniform(0, 0.03) + 0.01 * attempt)
        os.kill(child, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
        kills += 1
    heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    assert kills >= 3
    assert same_rows(tmp_path, whole)
    assert not list((tmp_path / "parts").glob(".*"))


@pytest.mark.parametrize("moment", [0, 1, 4, 8])
def test_killed_while_a_file_is_written(
    whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path, moment: int
) -> None:
    """The file is there under its temporary name, and never gets its own."""
    replace, count = os.replace, iter(range(99))

    def killing(source: str, target: str) -> None:
        if next(count) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def stopped() -> None:
        files.os.replace = killing  # type: ignore[assignment]
        heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)

    assert killed_in(stopped)
    heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    assert same_rows(tmp_path, whole)
    assert not list((tmp_path / "parts").glob(".*"))


def test_a_full_disk_is_told_and_the_run_goes_on(
    whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, count = os.replace, iter(range(99))

    def full(source: str, target: str) -> None:
        if next(count) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        with pytest.raises(OutputError, match="No space left on device; what is there is whole: make room"):
            heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    assert len(list((tmp_path / "parts").iterdir())) == 2
    heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    assert same_rows(tmp_path, whole)


def test_only_what_lacks_is_made_and_what_is_cut_off_is_made_again(
    whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path
) -> None:
    heedmap.run(lists_model, lists_file, tmp_path, part=4, page=False)
    parts = sorted((tmp_path / "parts").iterdir())
    dates = {path: path.stat().st_mtime_ns for path in parts}
    parts[1].unlink()
    parts[3].write_bytes(parts[3].read_bytes()[:-100])
    parts[5].write_bytes(parts[2].read_bytes())
    parts[6].write_bytes(b"")
    told: list[str] = []
    done: list[tuple[int, int]] = []
    again = heedmap.run(
        lists_model, lists_file, tmp_path, part=4, page=False,
        tell=told.append, progress=lambda *now: done.append(now),
    )  # fmt: skip
    assert same_rows(tmp_path, whole)
    assert {path for path in parts if path.stat().st_mtime_ns != dates[path]} == {parts[n] for n in (1, 3, 5, 6)}
    assert [words.split(" is ")[0] for words in told] == [str(parts[n]) for n in (3, 5, 6)]
    assert "is cut off or damaged" in told[0]
    assert "is no part 5 of this run" in told[1]
    assert all(words.endswith("it is made again") for words in told)
    assert done == [(12, 26), (16, 26), (20, 26), (24, 26), (26, 26)]
    assert again[5] == whole[5]


def test_batches_of_other_sizes_go_on_with_the_same_run(
    whole: heedmap.Run, lists_model: Model, lists_file: Path, tmp_path: Path
) -> None:
    heedmap.run(lists_model, lists_file, tmp_path, part=4, batch=1, page=False)
    (tmp_path / "parts" / "part-000000.parquet").unlink()
    run = heedmap.run(lists_model, lists_file, tmp_path, part=4, batch=99, memory="64MB", page=False)
    assert [e.target for e in run] == [e.target for e in whole]
    assert len(run) == len(LISTS)
