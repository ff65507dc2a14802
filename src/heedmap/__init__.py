"""heedmap: which parts of its input a transformer's answer rests on, on the unmodified model.

The public names are imported when first used, so that ``import heedmap`` itself is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heedmap.version import __version__

_HOMES = {
    "explain": "heedmap.engine",
    "inspect": "heedmap.engine",
    "load": "heedmap.models",
    "Subject": "heedmap.models",
    "MODELS": "heedmap.models",
    "METHODS": "heedmap.methods",
    "Method": "heedmap.methods",
    "Explanation": "heedmap.explanation",
    "Segment": "heedmap.explanation_data",
    "Flow": "heedmap.flow",
    "HeedmapError": "heedmap.errors",
}

__all__ = [
    "METHODS",
    "MODELS",
    "Explanation",
    "Flow",
    "HeedmapError",
    "Method",
    "Segment",
    "Subject",
    "__version__",
    "errors",
    "explain",
    "inspect",
    "load",
    "targets",
]

if TYPE_CHECKING:
    from heedmap import errors, targets
    from heedmap.engine import explain, inspect
    from heedmap.errors import HeedmapError
    from heedmap.explanation import Explanation
    from heedmap.explanation_data import Segment
    from heedmap.flow import Flow
    from heedmap.methods import METHODS, Method
    from heedmap.models import MODELS, Subject, load


def __getattr__(name: str) -> Any:
    if name in ("errors", "targets"):
        return import_module(f"heedmap.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'heedmap' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
