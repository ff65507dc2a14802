"""What a model's name means, and whether there can be such a model: asked before torch is imported."""

from __future__ import annotations

from pathlib import Path

from heedmap.errors import ModelLoadError
from heedmap.models.shipped import PREFIX, check_shipped, shipped

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
