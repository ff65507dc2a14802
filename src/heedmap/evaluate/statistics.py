"""What measurements say of methods: means with bootstrap intervals, and differences to the paper's method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from heedmap.common.extras import library
from heedmap.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from jaxtyping import Float, Int


Row = dict[str, str | float | list[float]]
"""One measurement: column → a number, a str or a list of numbers. Always with ``sample`` (its key) and ``method``, which is
"" where it says what is true; all rows of an evaluation have the same columns."""

Statistic = Callable[["Int[np.ndarray, '*draws drawn']"], "Float[np.ndarray, '*draws']"]
"""What a measure is of the samples with these numbers, some perhaps drawn more than once; of several draws, for each."""
RESAMPLES = 1000
LEVEL = 0.95
DIGITS = 6
"""Decimals of a figure in a summary."""


# -- columns of rows -------------------------------------------------------------------------------------------------


def word_of(row: Row, column: str) -> str:
    """What a column of words has there; FileFormatError where it is none."""
    value = row[column]
    if not isinstance(value, str):
        raise _other(column, value, "a word")
    return value


def number_of(row: Row, column: str) -> float:
    """What a column of numbers has there; FileFormatError where it is none."""
    value = row[column]
    if isinstance(value, str | list):
        raise _other(column, value, "a number")
    return value


def numbers_of(row: Row, column: str) -> list[float]:
    """What a column of lists has there; FileFormatError where it is none."""
    value = row[column]
    if not isinstance(value, list):
        raise _other(column, value, "a list of numbers")
    return value


def _other(column: str, value: object, wanted: str) -> FileFormatError:
    return FileFormatError(
        f"the column {column} has {value!r}; expected {wanted}: remove the run's folder, and run again"
    )


# -- figures ---------------------------------------------------------------------------------------------------------


class MethodFigure(TypedDict):
    """What a measure says of a contender, as a summary has it; of the reference without differences."""

    method: str
    value: float | None
    low: float | None
    high: float | None
    difference: NotRequired[float | None]
    difference_low: NotRequired[float | None]
    difference_high: NotRequired[float | None]
    p: NotRequired[float]


class MeasureFigures(TypedDict):
    """A measure as a summary has it; ``ranks`` only where it does not count in the leaderboard."""

    key: str
    title: str
    better: str
    samples: int
    resamples: int
    ranks: NotRequired[bool]
    rows: list[MethodFigure]


class MeanRank(TypedDict):
    """A contender's line of the leaderboard."""

    method: str
    rank: float
    measures: int


class CurveLine(TypedDict):
    """A contender's line of a curve, and the ends of its interval."""

    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class Measure:
    """One figure of a leaderboard.

    Attributes:
        key: names it in the summary.
        title: names it in tables and plots.
        higher: whether more is better.
        samples: how many samples it is over.
        statistics: contender's name → what it is of drawn samples.
        resamples: of the bootstrap; fewer where a statistic takes long.
        ranks: whether it counts in the leaderboard's mean rank; a figure made of others that count does not.
    """

    key: str
    title: str
    higher: bool
    samples: int
    statistics: Mapping[str, Statistic]
    resamples: int = RESAMPLES
    ranks: bool = True

    @classmethod
    def of_means(
        cls,
        key: str,
        title: str,
        higher: bool,
        values: Mapping[str, Float[np.ndarray, " samples"]],
        *,
        ranks: bool = True,
    ) -> Measure:
        """The mean over samples, of contender's name → one value a sample."""
        samples = len(next(iter(values.values()), ()))
        statistics = {name: of_values(own) for name, own in values.items()}
        return cls(key, title, higher, samples, statistics, ranks=ranks)


@dataclass(frozen=True)
class Curve:
    """A figure by step, as a line for each contender.

    Attributes:
        key: names it in the summary.
        title: names its plot.
        x_label, y_label: of the axes.
        x: the steps.
        values: contender's name → one row a sample, (samples, steps).
    """

    key: str
    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    values: Mapping[str, Float[np.ndarray, "samples steps"]]


def of_values(values: Float[np.ndarray, " samples"]) -> Statistic:
    """The :func:`known_mean` of the drawn samples' values."""
    return lambda drawn: known_mean(values[drawn])


def known_mean(values: Float[np.ndarray, "*any values"]) -> Float[np.ndarray, "*any"]:
    """The mean along the last axis; NaN values do not count, and NaN where there is no other."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)[()]


# -- the bootstrap -----------------------------------------------------------------------------------------------------


def draws(samples: int, seed: int, resamples: int = RESAMPLES) -> Int[np.ndarray, "resamples samples"]:
    """Numbers of samples, as many as there are, drawn with replacement."""
    return np.random.default_rng(seed).integers(samples, size=(resamples, samples))


def ends(drawn: Float[np.ndarray, resamples * figures]) -> Float[np.ndarray, two * figures]:
    """The ends of the interval that :data:`LEVEL` of the drawn figures lie in, by percentiles."""
    return np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def interval(values: Float[np.ndarray, " samples"], seed: int = 0) -> tuple[float, float, float]:
    """The mean of ``values``, one a sample, and the ends of its bootstrap interval.

    Raises:
        InputError: there are no values.
    """
    if not len(values):
        raise InputError("there are no samples to take a mean of; ask for more samples")
    low, high = ends(values[draws(len(values), seed)].mean(1))
    return float(values.mean()), float(low), float(high)


# -- figures of contenders ---------------------------------------------------------------------------------------------


def figures(measure: Measure, reference: str, seed: int) -> list[MethodFigure]:
    """For each contender the measure, its interval, and its difference to the reference, best first.

    The draws are shifted so that their mean is the measure: that changes nothing for a mean, but average precision is
    greater on pictures of which some are drawn twice. All contenders are drawn alike, so that differences are paired.
    ``p`` is two-sided, of the difference over its bootstrap standard error, corrected after Holm for the number of contenders.

    Args:
        measure: what to look at.
        reference: name of the contender that the others are compared with; where it is missing, nothing is.
        seed: of the draws.
    """
    every = np.arange(measure.samples)
    rows = draws(measure.samples, seed, measure.resamples)
    values = {name: float(statistic(every)) for name, statistic in measure.statistics.items()}
    drawn = {name: _centred(statistic(rows), values[name]) for name, statistic in measure.statistics.items()}
    entries: dict[str, MethodFigure] = {}
    for name, value in values.items():
        low, high = _ends(drawn[name])
        entries[name] = {"method": name, "value": _round(value), "low": low, "high": high}
    compared = [name for name in entries if name != reference and reference in entries]
    for name in compared:
        apart, draws_apart = values[name] - values[reference], drawn[name] - drawn[reference]
        low, high = _ends(draws_apart)
        entries[name] |= {"difference": _round(apart), "difference_low": low, "difference_high": high}
        entries[name]["p"] = _p(apart, draws_apart)
    _holm([entries[name] for name in compared])
    sign = -1 if measure.higher else 1
    return sorted(
        entries.values(),
        key=lambda entry: (math.inf if entry["value"] is None else sign * entry["value"], entry["method"]),
    )


def lines(curve: Curve, seed: int, resamples: int = RESAMPLES) -> dict[str, CurveLine]:
    """For each contender the mean at each step, and the ends of its interval."""
    lines: dict[str, CurveLine] = {}
    weights: dict[int, np.ndarray] = {}
    for name, values in curve.values.items():
        count = len(values)
        if count not in weights:
            times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
            weights[count] = times / count
        low, high = ends(weights[count] @ values)
        lines[name] = {"y": _rounded(values.mean(0)), "low": _rounded(low), "high": _rounded(high)}
    return lines


def ranks(measures: Sequence[MeasureFigures]) -> list[MeanRank]:
    """The leaderboard: each contender's mean rank over the measures that rank (1 is best, equals share), best first."""
    places: dict[str, list[float]] = {}
    for measure in measures:
        if not measure.get("ranks", True):
            continue
        for name, place in _places(measure).items():
            places.setdefault(name, []).append(place)
    means: list[MeanRank] = [
        {"method": name, "rank": round(float(np.mean(positions)), 3), "measures": len(positions)}
        for name, positions in places.items()
    ]
    return sorted(means, key=lambda entry: (entry["rank"], entry["method"]))


def _centred(drawn: Float[np.ndarray, " resamples"], value: float) -> Float[np.ndarray, " resamples"]:
    finite = drawn[np.isfinite(drawn)]
    return drawn + (value - finite.mean()) if finite.size and np.isfinite(value) else drawn


def _places(measure: MeasureFigures) -> dict[str, float]:
    rankdata = library("scipy.stats", "eval", "ranks need").rankdata
    rows = [row for row in measure["rows"] if row["value"] is not None]
    values = np.array([row["value"] for row in rows]) * (-1 if measure["better"] == "higher" else 1)
    return {row["method"]: float(place) for row, place in zip(rows, rankdata(values), strict=True)}


def _ends(drawn: Float[np.ndarray, " resamples"]) -> tuple[float | None, float | None]:
    finite = drawn[np.isfinite(drawn)]
    low, high = ends(finite) if finite.size else (np.nan, np.nan)
    return _round(low), _round(high)


def _p(apart: float, drawn: Float[np.ndarray, " resamples"]) -> float:
    """Two-sided, of a normal distribution with the standard deviation of the drawn differences."""
    finite = drawn[np.isfinite(drawn)]
    error = float(finite.std()) if finite.size else math.nan
    if not math.isfinite(apart) or not error > 0:
        return 0.0 if apart and error == 0 else 1.0
    return math.erfc(abs(apart) / error / math.sqrt(2))


def _holm(entries: Sequence[MethodFigure]) -> None:
    """Holm's step-down correction of ``p``, in place."""
    least = 0.0
    for place, entry in enumerate(sorted(entries, key=lambda entry: entry["p"])):
        least = max(least, min(1.0, entry["p"] * (len(entries) - place)))
        entry["p"] = round(least, DIGITS)


def _rounded(values: np.ndarray) -> list[float | None]:
    return [_round(value) for value in values.tolist()]


def _round(value: float) -> float | None:
    return round(float(value), DIGITS) if math.isfinite(value) else None
