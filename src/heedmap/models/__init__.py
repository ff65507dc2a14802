"""Models with their processors: words, pictures, boxes and sounds in, labelled explanations out.

What there is, is imported when first asked for: where the shipped models are is asked without numpy or torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heedmap.models.kinds import MODELS
    from heedmap.models.loader import load
    from heedmap.models.model import Model
    from heedmap.models.model import Model as Subject

__all__ = ["MODELS", "Model", "Subject", "load"]

_HOMES = {"MODELS": "kinds", "Model": "model", "Subject": "model", "load": "loader"}


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'heedmap.models' has no attribute {name!r}")
        return getattr(import_module(f"heedmap.models.{_HOMES[name]}"), "Model" if name == "Subject" else name)
