"""Files that are whole or not there, and a folder that one process writes at a time, with the configuration of what it holds."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from heedmap.errors import FileFormatError, OptionError, OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` through a temporary file beside it, so that no reader ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_output(path: Path, data: bytes) -> None:
    """Write a file that somebody asked for, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; give another path") from error


def check_folder(out: Path) -> None:
    """Make the folder, and try whether it can be written, before anything is computed.

    Raises:
        OutputError: it cannot.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """OutputError, with the folder's name and the reason, for what cannot be written in it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write the folder {out}: {reason}; give another with --out") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


CONFIG, LOCK = "config.json", ".lock"

Config = TypeVar("Config", bound=Mapping[str, object])
"""What a run of one kind keeps in its configuration."""


class HeldFolder(Generic[Config]):
    """The folder of one run, which only one process writes at a time.

    Args:
        path: made where it is missing.
    """

    format = ""
    """Written into the configuration."""
    version = 1
    """The newest that is read."""
    holds = ""
    """What the folder is of, for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; another process that wants it gets OutputError. A killed process holds nothing."""
        from filelock import FileLock, Timeout

        check_folder(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(f"another run is writing {self.path}; wait for it, or give another folder") from error
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: Mapping[str, object]) -> None:
        """Write the configuration, or find that the folder has the same.

        Raises:
            OptionError: it has another one; the message tells the differences.
            FileFormatError: what is there is no configuration.
        """
        wanted = json.loads(json.dumps({"format": self.format, "version": self.version, **config}))
        existing = self.config()
        if existing is None:
            self.write_json(CONFIG, wanted)
        elif existing != wanted:
            before, after = _flat(existing), _flat(wanted)
            names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
            told = "; ".join(
                f"{name}: {_short(before.get(name))} there, {_short(after.get(name))} now" for name in names
            )
            raise OptionError(f"{self.path} holds another run ({told}); give the same settings, or another folder")

    def config(self) -> Config | None:
        """The configuration in the folder; None: there is none yet."""
        path = self.path / CONFIG
        if not path.exists():
            return None
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            if config["format"] == self.format and config["version"] <= self.version:
                return config
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise FileFormatError(f"{path} is no configuration of {self.holds} by this heedmap; give another folder")

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        with writing(self.path):
            write_atomically(self.path / name, data)

    def write_json(self, name: str, data: Mapping[str, object]) -> None:
        """Write plain data; the same data are the same bytes."""
        self.write_file(name, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def _flat(config: Mapping[str, object], before: str = "") -> dict[str, object]:
    """The values of objects within objects, by their names joined with dots."""
    values: dict[str, object] = {}
    for name, value in config.items():
        values |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return values


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
