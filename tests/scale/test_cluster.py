"""Ray's workers make the same rows; what cannot be reached is told in bounded time."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from data_sets import NONE_IDLE, rows_of

import heedmap
from heedmap.errors import ClusterError, OptionError
from heedmap.models.model import Model
from heedmap.scale.cluster import MODE, _authenticating, _is_here, places
from heedmap.scale.worker import Job, Wanted


def test_two_workers_make_the_same_rows(warmed: Path, whole: heedmap.Run, lists_file: Path, tmp_path: Path) -> None:
    """In a process of its own, which Ray's own processes end with."""
    code = (
        "import heedmap, sys\n"
        "heedmap.run('zoo/gpt-lists', sys.argv[1], sys.argv[2], part=4, workers=2, page=False,"
        " progress=lambda now, of: print(now, of))"
    )
    command = [warmed.with_name("python"), "-c", code, str(lists_file), str(tmp_path)]
    ended = subprocess.run(command, env={**os.environ, **NONE_IDLE}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout.splitlines()
    assert told[0] == "0 26"
    assert told[-1] == "26 26"
    assert len(told) == 8
    assert rows_of(tmp_path) == rows_of(whole.folder)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:x"])
def test_an_address_that_is_none(lists_model: Model, lists_file: Path, tmp_path: Path, address: str) -> None:
    with pytest.raises(ClusterError, match="expected HOST:PORT or auto"):
        heedmap.run(lists_model, lists_file, tmp_path, address=address)


def test_an_address_of_ray_client(lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError, match="of Ray Client, which Ray Data does not work with: give the cluster's HOST:PORT"
    ):
        heedmap.run(lists_model, lists_file, tmp_path, address="ray://127.0.0.1:10001")


def test_a_cluster_that_cannot_be_reached(lists_model: Model, lists_file: Path, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        began = time.perf_counter()
        with pytest.raises(ClusterError, match=f"no Ray cluster can be reached at {address}"):
            heedmap.run(lists_model, lists_file, tmp_path, address=address)
        assert time.perf_counter() - began < 20


@pytest.mark.parametrize("before", [None, "disabled"])
def test_rays_variable_is_put_back(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODE, raising=False)
    if before is not None:
        monkeypatch.setenv(MODE, before)
    with _authenticating("token"):
        assert os.environ[MODE] == "token"
    assert os.environ.get(MODE) == before


def test_a_token_is_this_machines_own() -> None:
    assert _is_here("127.0.0.1:6379")
    assert _is_here("localhost:6379")
    assert not _is_here("203.0.113.7:6379")  # an address kept for documents
    assert not _is_here("no such host:6379")


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
@pytest.mark.parametrize("workers", [None, 1, 2, 3, 100])
def test_some_cpu_is_left_to_those_who_read(cpus: int, workers: int | None) -> None:
    job = Job("zoo/gpt-lists", None, None, [], Path(), Wanted())  # type: ignore[arg-type]
    given = places({"CPU": float(cpus)}, workers, job)
    assert given["workers"] == (workers or max(1, cpus - 1))
    assert 0 < given["workers"] * given["num_cpus"] <= max(cpus - 1, cpus / 2) + 1e-9


def test_gpus_are_shared() -> None:
    job = Job("zoo/gpt-lists", "cuda", None, [], Path(), Wanted())  # type: ignore[arg-type]
    assert places({"CPU": 16.0, "GPU": 2.0}, None, job) == {"workers": 2, "num_cpus": 1.0, "num_gpus": 1.0}
    for workers, share in {1: 1.0, 2: 1.0, 3: 0.5, 4: 0.5, 5: 1 / 3}.items():
        assert places({"CPU": 16.0, "GPU": 2.0}, workers, job)["num_gpus"] == share
    with pytest.raises(OptionError, match="the device is cuda, and the cluster has no GPU"):
        places({"CPU": 16.0}, None, job)
