"""What a model's name means, whether there is such a model, and where the shipped ones are: asked before torch is imported."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TypedDict

from heedmap.common.printable import closest
from heedmap.errors import ModelLoadError

LIBRARIES = ("timm/", "open_clip/")
EXPECTED = (
    "expected a folder with a config.json and weights, a hub id such as google/vit-base-patch16-224, folder/file.gguf, "
    "timm/NAME, open_clip/NAME or zoo/NAME"
)


def is_zoo(name: str) -> bool:
    """Whether the name is of the zoo: a folder called ``zoo/NAME`` goes first where no such model is shipped."""
    return name.startswith(PREFIX) and (name.removeprefix(PREFIX) in shipped() or not Path(name).exists())


def is_of_library(name: str) -> bool:
    """Whether the name is of a model of timm or open_clip."""
    return name.startswith(LIBRARIES) and not Path(name).exists()


def check_name(name: str) -> None:
    """ModelLoadError where there is no such model of the zoo, folder or file; of a hub or a library nothing is asked."""
    if is_zoo(name):
        check_shipped(name)
    elif not is_of_library(name):
        source_of(name)


def source_of(name: str) -> tuple[str, dict[str, str | bool]]:
    """Folder or hub id, and the options by which transformers reads it; folders never ask the hub.

    Raises:
        ModelLoadError: there is no such folder or file, or it holds no model.
    """
    if not name:
        raise ModelLoadError(f"there is no folder ''; {EXPECTED}")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _gguf(name, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            files = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
            raise ModelLoadError(f"{name} is no model folder: it has no config.json (it has: {files}); {EXPECTED}")
        return str(path), {"local_files_only": True}
    if path.exists():
        raise ModelLoadError(f"{name} is a file; {EXPECTED}: give the folder that holds it")
    if path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2:
        raise ModelLoadError(f"there is no folder {name!r}; {EXPECTED}")
    return name, {}


def _gguf(name: str, path: Path) -> tuple[str, dict[str, str | bool]]:
    if path.is_file():
        return str(path.parent), {"gguf_file": path.name, "local_files_only": True}
    if path.parent.is_dir() or path.is_absolute() or len(path.parts) != 3:
        raise ModelLoadError(
            f"there is no file {name}; expected a GGUF file as folder/file.gguf or user/model/file.gguf"
        )
    return str(path.parent), {"gguf_file": path.name}


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
