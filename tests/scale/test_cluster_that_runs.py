"""A run on a cluster that somebody else began, with and without a token."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from data_sets import NONE_IDLE, rows_of

import heedmap

pytest.importorskip("ray")
RAY = (sys.executable, "-m", "ray.scripts.scripts")
SECONDS = 240
"""In which a head comes up, on a machine that does other things."""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with a token; Ray's sockets need a short path."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = subprocess.run([*RAY, "get-auth-token", "--generate"], env=variables(Path(folder)), capture_output=True)
        assert made.returncode == 0, made.stderr
        assert (Path(folder) / ".ray" / "auth_token").is_file()
        yield Path(folder)


def variables(home: Path, mode: str = "") -> Mapping[str, str]:
    """Of a process whose home this is, and nothing of Ray's but the mode."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", **({"RAY_AUTH_MODE": mode} if mode else {})}


@pytest.fixture(scope="module", params=["token", "disabled"])
def cluster(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[str, str]]:
    """The mode and the address of a head in a session of its own, of two CPUs; it is stopped in the end."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    log = home / f"{request.param}.log"
    command = [
        *RAY, "start", "--head", "--block", "--port", str(port), "--num-cpus", "2", "--include-dashboard", "false",
        "--object-store-memory", str(100 * 2**20), "--temp-dir", str(home / request.param), "--disable-usage-stats",
    ]  # fmt: skip
    with log.open("w") as file:
        head = subprocess.Popen(
            command,
            env={**variables(home, request.param), **NONE_IDLE},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + SECONDS
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield request.param, f"127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            head.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()


Run = Callable[[Path, str, Mapping[str, str]], subprocess.CompletedProcess[str]]


@pytest.fixture
def run(warmed: Path, lists_file: Path) -> Run:
    """`heedmap run --address` in a process of its own: (out, address, variables)."""

    def ended(out: Path, address: str, given: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        command = [
            warmed, "run", "zoo/gpt-lists", "--data", lists_file, "--out", out, "--part", "4", "--address", address,
        ]  # fmt: skip
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=SECONDS)

    return ended


def test_the_rows_are_those_of_a_local_run(
    cluster: tuple[str, str], whole: heedmap.Run, run: Run, home: Path, tmp_path: Path
) -> None:
    """With a token on the machine, which one of the clusters asks for."""
    ended = run(tmp_path, cluster[1], variables(home))
    assert ended.returncode == 0, ended.stderr
    assert rows_of(tmp_path) == rows_of(whole.folder)


def test_the_cluster_says_whether_it_wants_a_token(
    cluster: tuple[str, str], whole: heedmap.Run, run: Run, home: Path, tmp_path: Path
) -> None:
    """Where the person's variable says otherwise: a token too much does no harm, one that lacks is told."""
    mode, address = cluster
    if mode == "disabled":
        ended = run(tmp_path, address, variables(home, "token"))
        assert ended.returncode == 0, ended.stderr
        assert rows_of(tmp_path) == rows_of(whole.folder)
        return
    ended = run(tmp_path, address, variables(home, "disabled"))
    assert ended.returncode == 1
    told = f"heedmap: the Ray cluster at {address} asks for a token, and RAY_AUTH_MODE is disabled: set RAY_AUTH_MODE=token"
    assert ended.stderr.strip().splitlines()[-1].startswith(told)
    ended = run(tmp_path, address, {**variables(home), "RAY_AUTH_TOKEN": "another"})
    assert ended.returncode == 1
    assert "this machine has none or another one" in ended.stderr
    assert "`ray get-auth-token` prints it" in ended.stderr
