"""Who takes part: methods with their options, by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heedmap.errors import HeedmapError, OptionError
from heedmap.evaluate.harness.protocol import Contender
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader

PAPER = "generic"
"""The paper's method, which the others are compared with."""
FAST = tuple(name for name in METHODS if not CARDS[name].is_slow)
"""Methods of a pass or two; the others take dozens."""
ABLATIONS = ("generic:aggregate=false", "generic:cam=lrp")
CROSS_ABLATIONS = ("generic:normalize=false", "generic:self_in_rule_10=false")
"""The paper's method without a part of it; these two only matter where there is cross-attention."""

TRIED = 20
"""Samples that are looked at for one that can be read."""


def contenders(names: Sequence[str], crossed: bool) -> list[Contender]:
    """The contenders of these names, each once; the paper's method is always one of them, and the first.

    Args:
        names: of methods, ``METHOD:KEY=VALUE,…`` with options; ``fast`` are those of a pass or two, ``all`` every one,
            ``ablations`` the paper's method without its parts. None given: ``fast`` and ``ablations``.
        crossed: whether the model has cross-attention.

    Raises:
        OptionError: an unknown option, or no ``KEY=VALUE``.
        UnknownNameError: no such method.
    """
    ablations = (*ABLATIONS, *CROSS_ABLATIONS) if crossed else ABLATIONS
    groups = {"fast": FAST, "all": tuple(METHODS), "ablations": ablations}
    wanted = [one for name in (PAPER, *(names or ("fast", "ablations"))) for one in groups.get(name, (name,))]
    return list({one.name: one for one in map(contender, wanted)}.values())


def crossed(subject: Any, reader: Reader) -> bool:
    """Whether streams look at each other in this model: asked of the first sample that can be read; else False."""
    for index in range(min(len(reader), TRIED)):
        try:
            flow = subject.inspect(**reader[index].inputs)
        except HeedmapError:
            continue
        return any(one.kind == "cross" for one in flow.attentions)
    return False


def contender(text: str) -> Contender:
    """``"generic:normalize=false"`` as a contender; errors as in :func:`contenders`."""
    from heedmap.engine import find_method

    name, _, rest = text.partition(":")
    options = dict(_option(pair, text) for pair in rest.split(",") if pair)
    find_method(name).resolve(options)
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    return Contender(f"{name}, {shown}" if shown else name, name, options)


def _option(pair: str, text: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise OptionError(f"{pair!r} of {text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
