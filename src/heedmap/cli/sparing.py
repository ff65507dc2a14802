"""A command that reads words alone does without what transformers imports for pictures and for losses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heedmap.models.names import MODELS, PREFIX, is_of_library, is_zoo

LIBRARIES = ("torchvision", "scipy")
"""The first is for image processors, the second for the losses of detectors."""
OF_OTHERS = ("accelerate",)
"""For models that are quantised or spread over devices, as those of the zoo are not."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""A folder without these has nothing that makes tensors of pictures or sound."""
OWN: list[str] = []
"""The command that this process is for, and ends with: only then is anything left out. Empty in anybody else's Python."""


@contextmanager
def sparing(model: str) -> Iterator[None]:
    """While a model without a processor is loaded, :data:`LIBRARIES` are as if not installed, and of one of the zoo
    :data:`OF_OTHERS`; in a command's process alone.

    transformers asks once whether they are there and keeps the answer as long as the process lives; heedmap itself may import
    them afterwards.

    Args:
        model: its name, as :func:`heedmap.load` takes it.
    """
    wanted = (*LIBRARIES, *(OF_OTHERS if is_zoo(model) else ())) if OWN and _is_plain(model) else ()
    hidden = [name for name in wanted if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None is Python's word for what cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _is_plain(model: str) -> bool:
    """Whether it is a folder without a processor: of the zoo or a person's own."""
    folder = MODELS / model.removeprefix(PREFIX) if is_zoo(model) else Path(model).expanduser()
    return (
        not is_of_library(model)
        and (folder / "config.json").is_file()
        and not any((folder / name).exists() for name in PROCESSORS)
    )
