"""A method: a recipe from recorded attention to relevance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral

from torch import Tensor

from heedmap.common.printable import closest
from heedmap.errors import OptionError
from heedmap.methods.run import RelevanceRows, TargetView


@dataclass(frozen=True)
class Method:
    """A recipe from a recorded forward pass to relevance, defined for every flow.

    It has ``prepare`` where it has a map from each stream to each, else ``attribute``.

    Attributes:
        name: its key in ``heedmap.METHODS``.
        summary: one line: what it computes.
        source: the paper.
        options: option → default.
        choices: option → the words it may be.
        prepare: (run, options) → a function that multiplies rows with the method's map of a stream.
        knows_nothing: whether what it gives does not depend on the model.
        rest: as ``prepare``, less the identity with which the map begins, also where it went through merges; None where the map
            does not keep it apart.
        attribute: (a run for each target, options) → for each target the relevance of each leaf (where an input becomes rows
            of features), by its index among the sources of ``run.graph``, in the leaf's own shape.

    Examples:
        >>> import heedmap
        >>> list(heedmap.METHODS)[:4]
        ['generic', 'raw_attention', 'rollout', 'attention_gradcam']
        >>> method = heedmap.METHODS["rollout"]
        >>> method.summary, method.options["start_layer"]
        ('the product of (attention + identity) over the layers', 0)
        >>> heedmap.load("zoo/gpt-lists").explain(text="dog red ? dog", method=method).method
        'rollout'
    """

    name: str
    summary: str
    source: str
    options: Mapping[str, object]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: Callable[[TargetView, Mapping[str, object]], RelevanceRows] | None = None
    attribute: Callable[[Sequence[TargetView], Mapping[str, object]], Sequence[Mapping[int, Tensor]]] | None = None
    knows_nothing: bool = False
    rest: Callable[[TargetView, Mapping[str, object]], RelevanceRows | None] | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether it explains only a model whose attention is followed."""
        return self.attribute is None and not self.knows_nothing

    def resolve(self, given: Mapping[str, object]) -> dict[str, object]:
        """All options, those given over the defaults.

        Raises:
            OptionError: unknown option, or a value it cannot have; the message lists the known ones.
        """
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(f"{option}={preset!r}" for option, preset in self.options.items())
                raise OptionError(
                    f"method {self.name!r} has no option {name!r}{closest(name, self.options)}; it has {known}"
                )
            default = self.options[name]
            if isinstance(default, bool) and not isinstance(value, bool):
                raise OptionError(f"option {name} of {self.name!r} is {value!r}; expected True or False")
            if name in self.choices and value not in self.choices[name]:
                raise OptionError(
                    f"option {name} of {self.name!r} is {value!r}; expected one of {', '.join(map(repr, self.choices[name]))}"
                )
        return {**self.options, **given}


def count(options: Mapping[str, object], name: str, least: int = 1) -> int:
    """A whole number, ``least`` or more; else OptionError."""
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise OptionError(f"{name} is {value!r}; expected a whole number, {least} or more")
    return int(value)


def amount(options: Mapping[str, object], name: str) -> float:
    """A finite number, 0 or more; else OptionError."""
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise OptionError(f"{name} is {value!r}; expected a number, 0 or more")
    return float(value)
