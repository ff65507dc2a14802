"""What an evaluation is: who takes part, what is measured of each sample, and what the measurements say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from heedmap.errors import HeedmapError, OptionError, SampleError
from heedmap.evaluate.metrics.statistics import Curve, Measure, Row, word_of
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS, EDGES, PAPER

if TYPE_CHECKING:
    from heedmap.datasets.sample import Reader, Sample
    from heedmap.models.model import Model

FAST = tuple(name for name in METHODS if not CARDS[name].is_slow)
"""Methods of a pass or two; the others take dozens."""
ABLATIONS = ("generic:aggregate=false", "generic:cam=lrp")
CROSS_ABLATIONS = ("generic:normalize=false", "generic:self_in_rule_10=false")
"""The paper's method without a part of it; these two only matter where there is cross-attention."""
TRIED = 20
"""Samples that are looked at for one that can be read."""

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class MethodSpec:
    """A method with its options, under the name that tables give it.

    Attributes:
        name: shown, and in the rows as ``method``.
        method: a key of ``heedmap.METHODS``, or ``"edges"``: the picture's edges, by no model.
        options: of the method.

    Examples:
        >>> import heedmap
        >>> heedmap.MethodSpec("without normalising", "generic", {"normalize": False}).options
        {'normalize': False}
    """

    name: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What the rows of a run say.

    Attributes:
        measures: in the order of tables; the first is what the leaderboard is sorted by.
        curves: to be plotted.
        facts: plain JSON data beside (counts, notes).
    """

    measures: Sequence[Measure]
    curves: Sequence[Curve] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


class Evaluation(Protocol):
    """One kind of evaluation, with its settings."""

    @property
    def name(self) -> str:
        """Of its command."""

    @property
    def together(self) -> bool:
        """Whether contenders share what is measured, or are compared: then all are measured at once, not one by one."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Plain JSON data: all on which the rows depend, beside model, samples, contenders and seed."""

    def check(self, subject: Model) -> None:
        """Raise InputError where the model does not fit; called before anything is read."""

    def rows(
        self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int
    ) -> tuple[list[Row], dict[str, str]]:
        """Measure some samples, which become one batch or more.

        Args:
            subject: the model.
            samples: of one part of the run, all readable.
            contenders: the methods.
            seed: for this part, always the same.

        Returns:
            The rows, and for samples that could not be measured: key → why.
        """

    def findings(self, rows: Iterable[Row]) -> Findings:
        """What all rows of the run say. They come one by one from the run's files, and there may be millions."""


def usable(samples: Iterable[Sample], prepare: Callable[[Sample], Prepared]) -> tuple[list[Prepared], dict[str, str]]:
    """What ``prepare`` makes of each sample; and of those at which it raises SampleError, key → why."""
    prepared, skipped = [], {}
    for sample in samples:
        try:
            prepared.append(prepare(sample))
        except SampleError as error:
            skipped[sample.key] = str(error)
    return prepared, skipped


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """MethodSpec's name → its rows, one a sample, in the order of the samples' keys."""
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(word_of(row, "method"), {})[word_of(row, "sample")] = row
    return {name: [by_sample[key] for key in sorted(by_sample)] for name, by_sample in table.items()}


# -- contenders by their names -----------------------------------------------------------------------------------------


def contenders(names: Sequence[str], crossed: bool, pictures: bool = False) -> list[MethodSpec]:
    """The contenders of these names, each once; the paper's method is always one of them, and the first.

    Args:
        names: of methods, ``METHOD:KEY=VALUE,…`` with options; ``fast`` are those of a pass or two, ``all`` every one,
            ``ablations`` the paper's method without its parts. None given: ``fast`` and ``ablations``.
        crossed: whether the model has cross-attention.
        pictures: whether ``fast`` and ``all`` have the picture's edges beside them.

    Raises:
        OptionError: an unknown option, or no ``KEY=VALUE``.
        UnknownNameError: no such method.
    """
    ablations = (*ABLATIONS, *CROSS_ABLATIONS) if crossed else ABLATIONS
    beside = (EDGES,) if pictures else ()
    groups = {"fast": (*FAST, *beside), "all": (*METHODS, *beside), "ablations": ablations}
    wanted = [member for name in (PAPER, *(names or ("fast", "ablations"))) for member in groups.get(name, (name,))]
    return list({spec.name: spec for spec in map(contender, wanted)}.values())


def crossed(subject: Model, reader: Reader) -> bool:
    """Whether streams look at each other in this model: asked of the first sample that can be read; else False."""
    for index in range(min(len(reader), TRIED)):
        try:
            flow = subject.inspect(**reader[index].inputs)
        except HeedmapError:
            continue
        return any(attention.kind == "cross" for attention in flow.attentions)
    return False


def contender(text: str) -> MethodSpec:
    """``"generic:normalize=false"`` as a contender; errors as in :func:`contenders`."""
    name, _, rest = text.partition(":")
    options = dict(_option(pair, text) for pair in rest.split(",") if pair)
    check_options(name, options)
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    return MethodSpec(f"{name}, {shown}" if shown else name, name, options)


def check_options(name: str, options: Mapping[str, object]) -> None:
    """See that a method, or what is set beside methods, takes these options; errors as in :func:`contenders`."""
    from heedmap.engine.explain import find_method

    if name != EDGES:
        find_method(name).resolve(dict(options))
    elif options:
        raise OptionError(f"{EDGES} has no options; given {', '.join(options)}")


def _option(pair: str, text: str) -> tuple[str, object]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise OptionError(f"{pair!r} of {text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
