"""A training run on disk: written in one go, so that there is always a whole one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from heedmap.errors import FileFormatError, OptionError


def write_checkpoint(path: Path, fingerprint: str, state: dict[str, Any]) -> None:
    """Write ``state`` (of a run of the recipe with ``fingerprint``) to ``path``, which never holds half of it."""
    beside = path.with_suffix(".part")
    torch.save({"fingerprint": fingerprint, "state": state}, beside)
    os.replace(beside, path)


def read_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state of the run that stopped at ``path``; None: there is none.

    Raises:
        FileFormatError: the file is damaged.
        OptionError: it is of another recipe, or of the same with other settings.
    """
    if not path.exists():
        return None
    try:
        found = torch.load(path, weights_only=True)
        written, state = found["fingerprint"], found["state"]
    except Exception as error:  # damage of any kind raises errors of any kind
        raise FileFormatError(f"{path} is damaged ({type(error).__name__}); start over with --fresh") from error
    if written != fingerprint:
        raise OptionError(
            f"{path} is of a run with other settings (another model, --steps, or version of its recipe); "
            "give the same, another --out, or start over with --fresh"
        )
    return state
