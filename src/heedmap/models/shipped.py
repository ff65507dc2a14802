"""Where the shipped models are, and whether they are whole. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypedDict

from heedmap.errors import ModelLoadError
from heedmap.printable import closest

PREFIX = "zoo/"
MODELS = Path(__file__).parents[1] / "zoo" / "models"
MANIFEST = "manifest.json"
"""File of a model's folder, written last: name → size and SHA-256 of its weights."""


def shipped() -> tuple[str, ...]:
    """Names of the models that come with this heedmap, without ``zoo/``."""
    return tuple(sorted(path.parent.name for path in MODELS.glob(f"*/{MANIFEST}")))


def folder_of(name: str) -> Path:
    """The folder of a shipped model, whose weights are found whole.

    Args:
        name: with or without ``zoo/``.

    Raises:
        ModelLoadError: there is no such model, or its weights are not those that were shipped.
    """
    folder = MODELS / check_shipped(name)
    verify(folder)
    return folder


def check_shipped(name: str) -> str:
    """The name of a shipped model without ``zoo/``; ModelLoadError where there is none of it."""
    plain = name.removeprefix(PREFIX)
    if plain not in shipped():
        known = ", ".join(PREFIX + model for model in shipped()) or "none"
        raise ModelLoadError(
            f"there is no model {PREFIX + plain} in heedmap's zoo{closest(PREFIX + plain, [PREFIX + n for n in shipped()])}; it "
            f"has: {known}; `heedmap zoo list` also names those that `heedmap zoo train` makes"
        )
    return plain


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Weights(TypedDict):
    """A file of weights, as a manifest tells of it."""

    bytes: int
    sha256: str


def manifest(folder: Path) -> dict[str, Weights]:
    """Name → size and checksum of the weights in ``folder``, as :data:`MANIFEST` holds them."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": checksum(path)}
        for path in sorted(folder.glob("*.safetensors"))
    }


def verify(folder: Path) -> None:
    """Compare a folder's weights with its manifest.

    Raises:
        ModelLoadError: a file is missing or is not the one that the manifest tells of.
    """
    try:
        expected, actual = json.loads((folder / MANIFEST).read_text(encoding="utf-8")), manifest(folder)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder} cannot be read ({error}); install heedmap again") from error
    for name, entry in expected.items():
        if actual.get(name) != entry:
            what = "is damaged: its checksum is not that of its manifest" if name in actual else "is missing"
            raise ModelLoadError(
                f"{folder / name} {what}; install heedmap again, or train the model: heedmap zoo train"
            )
