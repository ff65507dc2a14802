"""Whether maps can be trusted at all: do they depend on the model, do they say what it does, are they stable, do they agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.ranks import spearman
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import inputs_of
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part, by_method, values_of
from heedmap.evaluate.faithfulness import overlap
from heedmap.evaluate.masking import FILLS, check_remove
from heedmap.evaluate.ranking import UNCHANGED
from heedmap.evaluate.statistics import Curve, Measure, Row, number_of, numbers_of, word_of
from heedmap.evaluate.trial import (
    MOST,
    FixedPrediction,
    Mapped,
    after_randomisation,
    complexity_rise,
    sensitivity,
    smooth_likeness,
)

if TYPE_CHECKING:
    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

PARTS = ("smooth_randomisation", "complexity", "saco", "sensitivity", "agreement")
"""What is looked at by default. sMPRT takes ``draws`` times as many maps as the plain cascade."""
MORE = ("randomisation",)
"""What is looked at where it is asked for: the plain cascade, from the output down."""
FIGURES = {
    "saco": ("faithfulness (SaCo)", True),
    "random": ("correlation when all weights are random", False),
    "smprt": ("correlation while weights become random from the input up, means over noise (sMPRT)", False),
    "emprt": ("rise of complexity when all weights are random (eMPRT)", True),
    "sensitivity": ("change by noise, mean", False),
    "sensitivity_max": ("change by noise, greatest", False),
}
"""Columns that are measures: column → title, whether more is better."""


@dataclass(frozen=True)
class Sanity:
    """The evaluation, with its settings. Any samples will do: their truth is not looked at.

    Attributes:
        parts: of :data:`PARTS` and :data:`MORE`.
        steps: in which weights become random.
        groups: of SaCo.
        draws: of the noise; of sMPRT, maps in a mean.
        radius: of the noise, as a multiple of the input's standard deviation.
        share: of the tokens, which two maps may have in common as their most relevant ones.
        remove: how SaCo takes tokens away: ``"mask"`` hides them, ``"replace"`` puts a blurred picture or tokens of other samples
            there.
        donors: the other samples.
    """

    parts: tuple[str, ...] = PARTS
    steps: int = MOST
    groups: int = 10
    draws: int = 3
    radius: float = 0.1
    share: float = 0.1
    remove: str = "mask"
    donors: tuple[Sample, ...] = ()
    name = "sanity"
    together = True

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in (*PARTS, *MORE)]
        if unknown or not self.parts:
            raise OptionError(
                f"parts are {', '.join(self.parts) or 'none'}; expected some of {', '.join((*PARTS, *MORE))}"
            )
        check_remove(self.remove, FILLS)
        for name in ("steps", "draws"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.groups < 2 or not 0 < self.share <= 1 or not self.radius > 0:
            raise OptionError(
                f"groups is {self.groups}, share {self.share}, radius {self.radius}; expected 2 or more groups, a share over 0 "
                "and up to 1, and a radius over 0"
            )

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        names = ("steps", "groups", "draws", "radius", "share")
        replaced = (
            {"remove": self.remove, "donors": [donor.key for donor in self.donors]} if self.remove != "mask" else {}
        )
        return {"parts": list(self.parts)} | {name: getattr(self, name) for name in names} | replaced

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        if not hasattr(subject, "kind_row"):
            raise InputError(
                f"the model is a {type(subject).__name__}; expected a heedmap.Model, which heedmap.load makes"
            )

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row for each sample, contender and segment.

        A part that is switched off, and SaCo in a segment whose tokens cannot be masked, are NaN or empty.
        """
        inputs, keys = inputs_of(subject, samples), [sample.key for sample in samples]
        trial = FixedPrediction.of(subject, inputs, keys, seed)
        if self.remove == "replace" and "saco" in self.parts:
            trial = trial.replacing(self.donors)
        maps = {contender.name: trial.maps(contender) for contender in contenders}
        columns: dict[tuple[str, str], list[Row]] = {
            (contender.name, segment): [
                {"sample": key, "method": contender.name, "segment": segment, **_nothing(int(real.sum()))}
                for key, real in zip(trial.keys, trial.real[segment], strict=True)
            ]
            for contender in contenders
            for segment in trial.segments
        }
        for part in self.parts:
            _FILL[part](self, Tested(trial, contenders, maps, columns))
        return [row for rows in columns.values() for row in rows], {}

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: each figure by segment, and which methods agree."""
        table: dict[str, list[Row]] = {}
        for row in rows:
            table.setdefault(word_of(row, "segment"), []).append(row)
        segments = {name: by_method(table[name]) for name in sorted(table)}
        measures = [
            m for column in FIGURES for name, methods in segments.items() for m in _measure(column, name, methods)
        ]
        curves = [curve for name, methods in segments.items() for curve in _curve(name, methods)]
        blocks = max((word_of(row, "blocks") for segment_rows in table.values() for row in segment_rows), default="[]")
        facts = {
            "blocks": json.loads(blocks),
            "agreement": {name: _agreement(methods) for name, methods in segments.items() if "agreement" in self.parts},
            "unchanged": {name: _unchanged(methods) for name, methods in segments.items()},
        }
        return Findings(measures, curves, facts)


def _nothing(tokens: int) -> Row:
    lists: Row = {"correlation": [], "correlation_abs": [], "agreement": [], "overlap": []}
    return {"tokens": tokens, "blocks": "[]", "others": "[]", **lists, **dict.fromkeys(FIGURES, float("nan"))}


@dataclass(frozen=True, eq=False)
class Tested(Mapped):
    """What the parts test, and the rows that they fill.

    Attributes:
        columns: method and segment → a row for each sample.
    """

    columns: Mapping[tuple[str, str], Sequence[Row]]

    def fill(self, name: str, figures: Mapping[tuple[str, str], np.ndarray]) -> None:
        """A column that has one figure of each sample."""
        for key, values in figures.items():
            for row, value in zip(self.columns[key], values.tolist(), strict=True):
                row[name] = value


def _randomisation(evaluation: Sanity, tested: Tested) -> None:
    names, likeness = after_randomisation([tested], evaluation.steps)
    for (_, method, segment), (plain, absolute) in likeness.items():
        for sample, row in enumerate(tested.columns[method, segment]):
            row["blocks"] = json.dumps(names)
            row["correlation"], row["correlation_abs"] = plain[:, sample].tolist(), absolute[:, sample].tolist()
            row["random"] = float(plain[-1, sample])


def _smooth_randomisation(evaluation: Sanity, tested: Tested) -> None:
    likeness = smooth_likeness(tested, evaluation.steps, evaluation.draws, evaluation.radius)
    tested.fill("smprt", {key: likes.mean(0) for key, likes in likeness.items()})


def _complexity(evaluation: Sanity, tested: Tested) -> None:
    found = complexity_rise(tested)
    tested.fill("emprt", {key: rises for key, (rises, _) in found.items()})
    tested.fill("random", {key: likes for key, (_, likes) in found.items()})


def _saco(evaluation: Sanity, tested: Tested) -> None:
    trial = tested.trial
    for method, maps in tested.maps.items():
        tested.fill("saco", {(method, name): trial.saco(maps, evaluation.groups, name) for name in trial.free})


def _sensitivity(evaluation: Sanity, tested: Tested) -> None:
    changes = sensitivity(tested, evaluation.draws, evaluation.radius)
    tested.fill("sensitivity", {key: np.array([drawn.mean() for drawn in c.T]) for key, c in changes.items()})
    tested.fill("sensitivity_max", {key: c.max(0) for key, c in changes.items()})


def _agreements(evaluation: Sanity, tested: Tested) -> None:
    names, maps = [contender.name for contender in tested.contenders], tested.maps
    for (method, segment), rows in tested.columns.items():
        for sample, row in enumerate(rows):
            real = tested.trial.real[segment][sample]
            relevance = maps[method][segment][sample][real]
            others = [maps[name][segment][sample][real] for name in names]
            row["others"] = json.dumps(names)
            row["agreement"] = [spearman(relevance, other) for other in others]
            row["overlap"] = [overlap(relevance, other, evaluation.share) for other in others]


_FILL = {
    "randomisation": _randomisation,
    "smooth_randomisation": _smooth_randomisation,
    "complexity": _complexity,
    "saco": _saco,
    "sensitivity": _sensitivity,
    "agreement": _agreements,
}

# -- what rows say -----------------------------------------------------------------------------------------------------

ByMethod = Mapping[str, Sequence[Row]]
"""MethodSpec's name → its rows of one segment, by the samples' keys."""


def _measure(column: str, segment: str, methods: ByMethod) -> list[Measure]:
    """The figure of this column; none where nobody has it."""
    title, higher = FIGURES[column]
    values = values_of(methods, column)
    if not values or not all(np.isfinite(figures).any() for figures in values.values()):
        return []
    return [Measure.of_means(f"{segment}/{column}", f"{segment}: {title}", higher, values)]


def _curve(segment: str, methods: ByMethod) -> list[Curve]:
    values = {
        name: np.array([[1.0, *numbers_of(row, "correlation")] for row in rows]) for name, rows in methods.items()
    }
    steps = next(iter(values.values())).shape[1] if values else 1
    if steps == 1:
        return []
    return [
        Curve(
            f"{segment}/randomisation",
            f"{segment}: what is left of a map on random weights",
            "blocks that are random, from the output down",
            "rank correlation",
            list(range(steps)),
            values,
        )
    ]


def _agreement(methods: ByMethod) -> dict[str, object]:
    """Means over the samples of both matrices."""
    names = json.loads(word_of(next(iter(methods.values()))[0], "others"))
    known = [name for name in names if name in methods]
    facts: dict[str, object] = {"methods": known}
    for column, key in (("agreement", "spearman"), ("overlap", "overlap")):
        lines = [np.mean([numbers_of(row, column) for row in methods[name]], axis=0).tolist() for name in known]
        facts[key] = [[round(value, 4) for value in line] for line in lines]
    return facts


def _unchanged(methods: ByMethod) -> list[str]:
    """Methods whose map does not change when all weights are random."""
    return [
        name for name, rows in methods.items() if float(np.mean([number_of(row, "random") for row in rows])) > UNCHANGED
    ]
