"""Which method explains: by its name, or as ``auto`` the one that the evidence speaks for and that the model can have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import NamedTuple, TypeVar

from heedmap.common.printable import closest
from heedmap.data.explanation import TOOK
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    MissingRuleError,
    MixingError,
    NoAttentionError,
    OptionError,
    UnfollowedAttentionError,
    UnknownNameError,
)
from heedmap.explanation import Explanation
from heedmap.methods import METHODS, Method
from heedmap.methods.supported import Supported

REFUSALS = (NoAttentionError, UnfollowedAttentionError, MixingError)
"""What says of a model that its attention, if it has any, gives no map."""

NOT_HERE = (AttentionError, MissingRuleError, GradientError)
"""What says that a model cannot have a method; others may do."""

AUTO = "auto"
"""The name for: what the evidence speaks for (:mod:`heedmap.methods.supported`), else the first of :data:`BEST`."""

BEST = ("integrated_gradients", "occlusion")
"""What ``auto`` takes where no attention is followed: the first that can run, by the figures of the documentation.

On pictures integrated gradients are far before occlusion (ViT: average precision of a segmentation 0.68 and 0.40; the same order
when pixels are taken away). On words occlusion is as good or better, but takes a pass for each of them; it needs no gradient.
"""

WITHOUT_ATTENTION = (*BEST, "input_x_gradient", "smoothgrad", "gradient_shap")
"""The methods that a refusal names. Those of rules may lack one, and ``random`` explains nothing."""

LIBRARIES = {"integrated_gradients": "captum"}

Made = TypeVar("Made")


class MethodCall(NamedTuple):
    """How targets are to be explained; ``auto``: by the method that the evidence speaks for, in place of this one."""

    method: Method
    options: Mapping[str, object]
    full: bool = False
    auto: bool = False

    @classmethod
    def of(cls, method: str | Method, options: Mapping[str, object] | None = None, full: bool = False) -> MethodCall:
        """What was asked for, all options resolved; where that is ``auto``, the paper's method stands in its place.

        Raises:
            UnknownNameError: no such method.
            OptionError: it has no such option, or the option no such value; ``auto`` has none at all.
        """
        auto = method == AUTO
        if auto and options:
            raise OptionError(
                f"method {AUTO!r} chooses the method, so it takes no option ({', '.join(options)}); name the method"
            )
        recipe = METHODS["generic"] if auto else find_method(method)
        return cls(recipe, recipe.resolve(options or {}), full, auto)


def find_method(method: str | Method) -> Method:
    """The method of this name; UnknownNameError lists the known ones."""
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise UnknownNameError(
            f"no method {method!r}{closest(str(method), METHODS)}; known methods: {', '.join(METHODS)}"
        )
    return METHODS[method]


def first_that_can(
    ranked: Sequence[Supported], make: Callable[[MethodCall], Made], full: bool = False
) -> tuple[Method, str, Made]:
    """The first method that the model can have, why it is that one, and what is made by it; ``full``: with whole maps.

    Raises:
        HeedmapError: it can have none; what is raised is what the paper's method, which needs the least, was refused for.
    """
    causes: dict[str, HeedmapError] = {}
    for choice in ranked:
        asked = MethodCall.of(choice.name, full=full)
        try:
            return asked.method, _why(choice, list(causes)), make(asked)
        except NOT_HERE as error:
            causes[choice.name] = error
    raise causes["generic"]


def _why(choice: Supported, passed: Sequence[str]) -> str:
    """Why ``auto`` took a method; ``passed``: those that stand before it, and that the model cannot have."""
    if not passed:
        return choice.words
    names = ", ".join(map(repr, passed))
    return f"{choice.words}; {names}, which {'stands' if len(passed) == 1 else 'stand'} before it, cannot be had here"


def noted(explanation: Explanation, method: Method, because: str) -> Explanation:
    """With a note of which method ``auto`` took and why; why attention was refused (``because`` is empty), another note says."""
    note = f"{TOOK}{method.name!r}, because {because or 'it is the best of those that need no attention'}"
    flow = explanation.flow
    return replace(explanation, flow=replace(flow, notes=(note, *flow.notes)))


def best() -> list[Method]:
    """The methods of :data:`BEST` whose libraries are there."""
    return [METHODS[name] for name in BEST if find_spec(LIBRARIES.get(name, "heedmap")) is not None]


def reason(refused: Exception) -> str:
    """The refusal's cause, without what follows from it."""
    return re.split(r"[,;:]? (?:so )?a map would be wrong|; ", str(refused))[0]


def advised(refused: AttentionError) -> AttentionError:
    """The refusal, which names the methods that explain the model nevertheless."""
    names = ", ".join(map(repr, WITHOUT_ATTENTION))
    refused.args = (f"{refused}; methods that need no attention explain this model: method={names}, or 'auto'",)
    return refused
