"""Several methods on one input: their maps, and what the model says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.ranks import spearman
from heedmap.errors import HeedmapError, InputError
from heedmap.evaluate.answer import as_given, explained
from heedmap.evaluate.harness.protocol import MethodSpec, contender
from heedmap.evaluate.metrics.faithfulness import NEGATIVE, POSITIVE, area, deletion, saco
from heedmap.evaluate.perturb.masking import FILLS, check_remove
from heedmap.evaluate.trial import FixedPrediction

if TYPE_CHECKING:
    from jaxtyping import Float

    from heedmap.datasets.sample import Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import AnyTarget

STEPS = 10
FIGURES = {
    "agreement": "rank correlation with the first method",
    "deletion": "what is left of the answer, most relevant taken away first (area, lower is better)",
    "insertion": "what is left of the answer, least relevant taken away first (area, higher is better)",
    "saco": "faithfulness (SaCo, higher is better)",
}
ARROWS = {"agreement": "", "deletion": " ↓", "insertion": " ↑", "saco": " ↑"}
"""Which way a figure is better."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one input by several methods, all for one answer.

    Attributes:
        explanations: contender's name → its explanation.
        figures: contender's name → segment → figure of :data:`FIGURES` → value.
        curves: contender's name → segment → probability while tokens are masked, (signs, steps); most relevant first, least
            relevant first. Read backwards, the second is the insertion curve.
        seconds: contender's name → how long its explanation took.
        refused: methods that cannot explain this model → why.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> methods = [heedmap.MethodSpec("paper", "generic"), heedmap.MethodSpec("plain", "generic", {"normalize": False})]
        >>> compared = heedmap.compare(subject, {"text": "dog red ; cat blue ? cat"}, methods)
        >>> compared.explanations["plain"].options["normalize"], compared.curves["paper"]["text"].shape
        (False, (2, 11))
        >>> print(compared.notes()["paper"])
        text: agreement 1.00, deletion ↓ 0.05, insertion ↑ 0.61, saco ↑ 0.99
    """

    explanations: Mapping[str, Explanation]
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    curves: Mapping[str, Mapping[str, Float[np.ndarray, "signs steps"]]]
    seconds: Mapping[str, float]
    refused: Mapping[str, str]

    def notes(self) -> dict[str, str]:
        """For each method its figures in a few words, a line for each segment."""
        return {
            name: "\n".join(f"{segment}: " + _words(figures) for segment, figures in segments.items())
            for name, segments in self.figures.items()
        }

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data: target, and for each method its relevance, figures, curves and seconds."""
        first = next(iter(self.explanations.values()))
        methods = {
            name: {
                "relevance": {key: explanation[key][0].tolist() for key in explanation.segments},
                "figures": self.figures[name],
                "curves": {key: curve.round(6).tolist() for key, curve in self.curves[name].items()},
                "seconds": round(self.seconds[name], 4),
            }
            for name, explanation in self.explanations.items()
        }
        return {
            "target": first.target[0],
            "score": float(first.scores[0]),
            "methods": methods,
            "refused": dict(self.refused),
        }


def compare(
    subject: Model,
    given: Mapping[str, object],
    methods: Sequence[str | MethodSpec],
    *,
    target: AnyTarget = None,
    remove: str = "mask",
    donors: Sequence[Sample] = (),
    seed: int = 0,
) -> Comparison:
    """Explain one answer by several methods, and ask the model about each map.

    The answer is the model's own for the input, or ``target``; it is held fixed. Tokens are masked as
    :func:`~heedmap.evaluate.perturb.masking.masked` does; where they cannot be, there is agreement alone.

    Args:
        subject: the model, a ``heedmap.Model``.
        given: one input, as ``subject.explain`` takes it: ``text``, ``image``, ``boxes``, ``audio``.
        methods: a name, or names, ``METHOD:KEY=VALUE,…`` with options, or contenders; the others are compared with the first.
        target: as for :func:`heedmap.explain`.
        remove: how tokens are taken away: ``"mask"`` hides them, ``"replace"`` puts the picture blurred there, words and boxes of
            the donors.
        donors: other samples.
        seed: of everything that is drawn.

    Raises:
        InputError: more than one input, or no method fits; words are to be replaced, and there are no donors.
        OptionError: no such way to remove.
        HeedmapError: the input or the target does not fit the model.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> compared = heedmap.compare(subject, {"text": "dog red ; cat blue ? cat"}, ["generic", "random"])
        >>> for name, figures in compared.figures.items():
        ...     print(f"{name}: deletion {figures['text']['deletion']:.2f}, insertion {figures['text']['insertion']:.2f}")
        generic: deletion 0.05, insertion 0.61
        random: deletion 0.25, insertion 0.05
    """
    check_remove(remove, FILLS)
    asked = as_given(given)
    inputs = subject.inputs(**asked)
    trial = FixedPrediction.of(subject, inputs, ["input"], seed, target)
    trial = trial.replacing(donors) if remove == "replace" else trial
    explanations: dict[str, Explanation] = {}
    seconds, refused = {}, {}
    methods = [methods] if isinstance(methods, str) else methods
    for spec in (contender(method) if isinstance(method, str) else method for method in methods):
        began = perf_counter()
        try:
            explanation = explained(subject, inputs, target, spec, seed)
        except HeedmapError as error:
            refused[spec.name] = str(error)
            continue
        seconds[spec.name] = perf_counter() - began
        explanations[spec.name] = subject.label(explanation, inputs, asked.get("boxes"), asked.get("audio"))
    if not explanations:
        raise InputError(f"no method fits {subject.name} here: {next(iter(refused.values()), 'none was given')}")
    maps = {name: trial.relevance(explanation) for name, explanation in explanations.items()}
    first = next(iter(maps.values()))
    curves = {name: {key: _curve(trial, key, relevance[key]) for key in trial.free} for name, relevance in maps.items()}
    figures = {name: _figures(trial, relevance, first, curves[name]) for name, relevance in maps.items()}
    return Comparison(explanations, figures, curves, seconds, refused)


def _curve(
    trial: FixedPrediction, segment: str, relevance: Float[np.ndarray, "1 tokens"]
) -> Float[np.ndarray, "signs steps"]:
    return deletion(relevance, trial.free[segment], trial.drop(segment), STEPS, trial.seed)[:, 0]


def _figures(
    trial: FixedPrediction,
    relevance: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    curves: Mapping[str, np.ndarray],
) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for segment, real in trial.real.items():
        figures[segment] = {"agreement": spearman(relevance[segment][real], first[segment][real])}
    for segment, curve in curves.items():
        areas = area(curve)
        figures[segment] |= {"deletion": float(areas[POSITIVE]), "insertion": float(areas[NEGATIVE])}
        figures[segment]["saco"] = float(
            saco(relevance[segment], trial.free[segment], trial.drop(segment), STEPS, trial.seed)[0]
        )
    return {segment: {key: round(value, 6) for key, value in values.items()} for segment, values in figures.items()}


def _words(figures: Mapping[str, float]) -> str:
    """Figures as people read them, with an arrow where one way is better."""
    return ", ".join(f"{key}{ARROWS[key]} {value:.2f}".replace("-", "−") for key, value in figures.items())
