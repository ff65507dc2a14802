"""The parts of a run, made by workers of Ray: one model an actor, each part made by whichever is free."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from heedmap.common.extras import library
from heedmap.errors import ClusterError, HeedmapError, OptionError, OutputError
from heedmap.scale.folder import MadePart
from heedmap.scale.worker import Job, Worker

if TYPE_CHECKING:
    import numpy as np

SECONDS = 30
"""After which a cluster that says nothing is called unreachable."""
STARTS = 3
"""So often a cluster of this machine's own is begun, until it comes up."""
MODE = "RAY_AUTH_MODE"
"""Ray's variable that says whether a token is given."""
REFUSED = "AuthenticationError"
"""What Ray's health check says of a cluster that asks for a token."""
PLACES = "~/.ray/auth_token, or in the variable RAY_AUTH_TOKEN"
HERE = "127.0.0.1"


class Maker:
    """An actor: see :class:`heedmap.scale.worker.Worker`. What stops the run comes back as data."""

    def __init__(self, job: Job, place: str) -> None:
        with suppress(OSError):  # another machine may not have the folder that paths are relative to
            os.chdir(place)
        self.worker = Worker(job)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, list[object]]:
        """Make the parts of these numbers."""
        made: list[dict[str, object]] = []
        for number in batch["part"].tolist():
            try:
                made.append({**asdict(self.worker.make(number)), "stopped": ""})
            except (HeedmapError, OSError) as error:
                made.append({**asdict(MadePart("", number, 0, 0, 0, 0.0)), "stopped": str(error)})
        return {name: [entry[name] for entry in made] for name in made[0]}


def made_by_workers(job: Job, numbers: Sequence[int], workers: int | None, address: str | None) -> Iterator[MadePart]:
    """Make parts, each as soon as a worker is free; they come in the order in which they are done.

    Args:
        job: what to do.
        numbers: of the parts.
        workers: actors; None: one for each GPU of the cluster where the device is a GPU, else for each CPU but one.
        address: of a cluster, ``auto`` or HOST:PORT; None: a cluster of this machine's own, which ends with the run.

    Raises:
        ClusterError: the cluster cannot be reached, or was lost.
        OutputError: a part cannot be written.
        OptionError: the cluster has not so many workers' places.
    """
    with _cluster(address) as ray, _quiet(ray):
        given = places(ray.cluster_resources(), workers, job)
        actors = ray.data.ActorPoolStrategy(size=given.pop("workers"))
        parts = ray.data.from_items([{"part": number} for number in numbers], override_num_blocks=len(numbers))
        made = parts.map_batches(
            Maker,
            fn_constructor_args=(replace(job, out=job.out.resolve()), os.getcwd()),
            batch_size=1,
            compute=actors,
            **given,
        )
        try:
            for entry in made.iter_rows():
                if entry["stopped"]:
                    raise OutputError(f"part {entry['part']} cannot be made: {entry['stopped']}")
                del entry["stopped"]
                yield MadePart(**entry)
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"Ray stopped ({' '.join(str(error).split())[:300]}); what is written is whole: the same command goes on"
            ) from error


def places(resources: Mapping[str, float], workers: int | None, job: Job) -> dict[str, float]:
    """How many workers there are, and what each gets.

    A CPU is left to Ray's own tasks: an actor pool that takes all starves them, and hangs.

    Args:
        resources: of the cluster, as Ray tells them.
        workers: that are wanted; None: as many as there are places for.
        job: what they do.

    Raises:
        OptionError: the device is a GPU, and there is none.
    """
    cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
    on_gpu = str(job.device or "").startswith("cuda")
    if on_gpu and not gpus:
        raise OptionError(f"the device is {job.device}, and the cluster has no GPU; leave the device out")
    count = workers or int(max(1, gpus if on_gpu else cpus - 1))
    given: dict[str, float] = {"workers": count, "num_cpus": min(1.0, max(cpus - 1, cpus / 2) / count)}
    return {**given, "num_gpus": 1 / math.ceil(count / gpus)} if on_gpu else given


@contextmanager
def _cluster(address: str | None) -> Iterator[ModuleType]:
    """Ray, connected; a cluster that was begun here is ended."""
    ray = library("ray", "scale", "workers need")
    library("ray.data", "scale", "workers need")
    mode = None if address is None else _check(address)
    if ray.is_initialized():
        yield ray
        return
    with _authenticating(mode):
        _begin(ray, address)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _authenticating(mode: str | None) -> Iterator[None]:
    """What Ray's variable says of tokens: the cluster's own way, as a driver that has another one loses its workers."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    before = os.environ.get(MODE)
    if mode is not None:
        os.environ[MODE] = mode
        Config.initialize("")  # Ray reads its variables when it is imported, and here again
    try:
        yield
    finally:  # a cluster that Ray itself began has set it
        os.environ.pop(MODE, None)
        if before is not None:
            os.environ[MODE] = before
        Config.initialize("")


def _begin(ray: ModuleType, address: str | None) -> None:
    """Connect, or begin a cluster here; Ray gives its own processes half a minute, which a busy machine may miss."""
    dashboard = False if address is None else None
    for left in reversed(range(STARTS if address is None else 1)):
        try:
            ray.init(
                address=address or "local",
                include_dashboard=dashboard,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
            return
        except Exception as error:  # whatever there is at the address
            ray.shutdown()
            if left:
                continue
            if address is not None:
                raise ClusterError(_unreachable(address, str(error))) from error
            why = " ".join(str(error).split())[:200]
            raise ClusterError(
                f"Ray cannot be started on this machine ({why}); try again, or with workers=0"
            ) from error


@contextmanager
def _quiet(ray: ModuleType) -> Iterator[None]:
    """What Ray Data tells of its own work is left out: the run has a bar of its own."""
    logger, context = logging.getLogger("ray.data"), ray.data.DataContext.get_current()
    level, bars = logger.level, context.enable_progress_bars
    logger.setLevel(logging.CRITICAL)
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)


def _check(address: str) -> str | None:
    """See in bounded time that a cluster answers.

    Returns:
        Whether it asks for a token, in Ray's words (``disabled`` or ``token``); None: it was not asked.

    Raises:
        ClusterError: none does, or not without a token that is not there.
    """
    if address == "local":
        return None
    if address != "auto":
        _listens(address)
    said = _health(address, "disabled")
    if said is None:
        return "disabled"
    if REFUSED not in said:
        raise ClusterError(_unreachable(address, f"Ray's health check fails there: {said or 'no reason was given'}"))
    wanted = os.environ.get(MODE, "").lower()
    host = (os.environ.get("RAY_ADDRESS") or HERE) if address == "auto" else address
    if wanted != "token" and (wanted or not _is_here(host)):
        raise ClusterError(
            f"the Ray cluster at {address} asks for a token, and {MODE} is {wanted or 'not set'}: set {MODE}=token, and have the "
            f"cluster's token in {PLACES}"
        )
    if _health(address, "token") is not None:
        raise ClusterError(
            f"the Ray cluster at {address} asks for a token, and this machine has none or another one: have the cluster's in "
            f"{PLACES}; on the machine that began the cluster `ray get-auth-token` prints it"
        )
    return "token"


def _listens(address: str) -> None:
    """See that something answers at HOST:PORT.

    Raises:
        ClusterError: nothing does, or it is no such address, or Ray Client's, which Ray Data does not work with.
    """
    if address.startswith("ray://"):
        raise ClusterError(
            f"the address is {address!r}, of Ray Client, which Ray Data does not work with: give the cluster's HOST:PORT, as "
            "`ray start --head` says it, on a machine of the cluster"
        )
    parts = _parts(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise ClusterError(f"the address is {address!r}; expected HOST:PORT or auto")
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        raise ClusterError(_unreachable(address, str(error))) from error


def _health(address: str, mode: str) -> str | None:
    """What Ray's health check finds wrong, with a token or without; None: nothing.

    Raises:
        ClusterError: it does not end.
    """
    at = () if address == "auto" else ("--address", address)
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *at]
    given = {**os.environ, MODE: mode}
    try:
        done = subprocess.run(command, env=given, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(_unreachable(address, f"no answer in {SECONDS} seconds")) from error
    return done.stderr.decode(errors="replace").strip().rpartition("\n")[2] if done.returncode else None


def _is_here(address: str) -> bool:
    """Whether the host is this machine, whose token Ray itself would give."""
    try:
        family, kind, *_, at = socket.getaddrinfo(_parts(address).hostname, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as held:
            held.bind(at)
    except OSError:
        return False
    return True


def _parts(address: str) -> SplitResult:
    return urlsplit(address if "://" in address else f"//{address}")


def _unreachable(address: str, why: str) -> str:
    return (
        f"no Ray cluster can be reached at {address} ({' '.join(why.split())[:200]}); start one with `ray start --head`, "
        "give its HOST:PORT, or leave the address out"
    )
