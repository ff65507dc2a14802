"""Which method to use: several on one input beside each other, or all that fit put to the same tests on a few, and ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from time import perf_counter
from typing import TYPE_CHECKING, cast

import numpy as np

from heedmap.attention.forward import output_of
from heedmap.common.printable import without_folders
from heedmap.common.ranks import spearman
from heedmap.datasets.sample import RightAnswers, Sample, SampleInputs
from heedmap.errors import HeedmapError, InputError, OptionError
from heedmap.evaluate.answer import as_given, explained
from heedmap.evaluate.evaluation import MethodSpec, check_options, contender
from heedmap.evaluate.faithfulness import NEGATIVE, POSITIVE, area, symmetric_gain
from heedmap.evaluate.masking import FILLS, check_remove
from heedmap.evaluate.ranking import Recommendation, recommendation
from heedmap.evaluate.trial import FixedPrediction, Mapped, after_randomisation, sensitivity
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS, CHANCE

if TYPE_CHECKING:
    from jaxtyping import Float

    from heedmap.evaluate.trial import Maps
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

Progress = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""

Figures = dict[str, list[float]]
"""Test → a figure for each sample."""


# -- on one input ------------------------------------------------------------------------------------------------------


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
            name: "\n".join(f"{segment}: " + _in_words(figures) for segment, figures in segments.items())
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
    :func:`~heedmap.evaluate.masking.masked` does; where they cannot be, there is agreement alone.

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
    curves = {
        name: {key: trial.deletion(relevance, STEPS, key)[:, 0] for key in trial.free}
        for name, relevance in maps.items()
    }
    figures = {name: _figures_of(trial, relevance, first, curves[name]) for name, relevance in maps.items()}
    return Comparison(explanations, figures, curves, seconds, refused)


def _figures_of(
    trial: FixedPrediction, relevance: Maps, first: Maps, curves: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for segment, real in trial.real.items():
        figures[segment] = {"agreement": spearman(relevance[segment][real], first[segment][real])}
    for segment, curve in curves.items():
        areas = area(curve)
        figures[segment] |= {"deletion": float(areas[POSITIVE]), "insertion": float(areas[NEGATIVE])}
        figures[segment]["saco"] = float(trial.saco(relevance, STEPS, segment)[0])
    return {segment: {key: round(value, 6) for key, value in values.items()} for segment, values in figures.items()}


def _in_words(figures: Mapping[str, float]) -> str:
    """Figures as people read them, with an arrow where one way is better."""
    return ", ".join(f"{key}{ARROWS[key]} {value:.2f}".replace("-", "−") for key, value in figures.items())


# -- on a few inputs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """How much is tried.

    Attributes:
        inputs: at most so many; the first ones.
        steps: of the deletion curves, and groups of SaCo.
        draws: of the noise.
        slow: whether methods take part that need many passes.
    """

    inputs: int
    steps: int
    draws: int
    slow: bool


BUDGETS = {"quick": Budget(8, 10, 2, False), "thorough": Budget(32, 20, 5, True)}
RADIUS = 0.1
"""Of the noise, as a multiple of the input's standard deviation."""


def recommend(
    subject: Model,
    inputs_list: Sequence[Mapping[str, object]] | Mapping[str, object],
    *,
    methods: Sequence[str | MethodSpec] | None = None,
    budget: str = "quick",
    target: AnyTarget = None,
    remove: str = "mask",
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Recommendation:
    """Try methods on some inputs of a model and say which one to use.

    The tests: the symmetric relevance gain, which is the area under the answer's probability while tokens are masked, the
    least relevant first, less that with the most relevant first; where there are several segments the same once more with
    their tokens in one ranking, masked together; SaCo; the change of the map with a little noise on the input. They rank the
    methods; one whose map stays the same when the model's weights are random is out. A figure of an input is the mean over
    its segments. The sentence warns where the best map is much the same on random weights, and where methods between which the
    tests do not choose disagree.

    Args:
        subject: the model, a ``heedmap.Model``. It is left as it was, but must not be used by others meanwhile.
        inputs_list: one or more inputs as ``subject.explain`` takes them: ``text``, ``image``, ``boxes``, ``audio``; each is one
            sample.
        methods: a name, or names or contenders; None: all that the budget has room for. ``random`` always takes part, as chance.
        budget: key of :data:`BUDGETS`.
        target: what is explained of each input, as for ``subject.explain``; None: what the model says itself.
        remove: how tokens are taken away: ``"mask"`` hides them, ``"replace"`` puts the picture blurred there, words and boxes of
            the other inputs.
        seed: of everything that is drawn.
        progress: see :data:`Progress`.

    Returns:
        The ranked methods; those that refuse the model with their reason.

    Raises:
        InputError: no inputs, or they do not fit the model, or no method does; words are to be replaced, and there is one input.
        OptionError: no such budget or way to remove, or two contenders of one name.
        TargetError: the target does not fit, or the model says nothing by itself.
        UnknownNameError: no such method.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> inputs = [{"text": "dog red ; cat blue ? cat"}, {"text": "sun green ; cat red ? sun"}]
        >>> advice = heedmap.recommend(subject, inputs, methods=["generic"])
        >>> advice.best, [row.method for row in advice.rows]
        ('generic', ['generic', 'random'])
    """
    if budget not in BUDGETS:
        raise OptionError(f"no budget {budget!r}; there are {', '.join(BUDGETS)}")
    check_remove(remove, FILLS)
    inputs_list = [inputs_list] if isinstance(inputs_list, Mapping) else inputs_list
    if not inputs_list:
        raise InputError(
            "there are no inputs to try methods on; give one or more, each a dict as subject.explain takes it"
        )
    limit, contenders = BUDGETS[budget], _contenders(methods, BUDGETS[budget])
    trials = [_trial(subject, given, number, target, seed) for number, given in enumerate(inputs_list[: limit.inputs])]
    if remove == "replace":
        donors = [sample for number, given in enumerate(inputs_list) for sample in _samples(given, number)]
        trials = [trial.replacing(donors) for trial in trials]
    steps, total = count(1), len(trials) * (len(contenders) + 1)

    def done() -> None:
        progress(min(next(steps) / total, 1.0))

    plain, costs, figures, refused = _measured(trials, contenders, limit, done)
    fit = [contender for contender in contenders if contender.name not in refused]
    if not [contender for contender in fit if contender.name != CHANCE]:
        raise InputError(
            f"no method fits {subject.name} here: {next(iter(refused.values()), 'only chance was asked for')}"
        )
    mapped = [Mapped(trial, fit, maps) for trial, maps in zip(trials, plain, strict=True)]
    for name, likeness in _on_random_weights(mapped, done).items():
        figures[name]["randomisation"] = likeness
    progress(1.0)
    arrays = {spec.name: {test: np.array(values) for test, values in figures[spec.name].items()} for spec in fit}
    found = recommendation(without_folders(subject.name), arrays, costs, seed, _agreements(mapped))
    return replace(found, refused=refused)


def _contenders(methods: Sequence[str | MethodSpec] | None, budget: Budget) -> list[MethodSpec]:
    """Those asked for and chance, each of its own name."""
    if methods is None:
        methods = [name for name in METHODS if budget.slow or not CARDS[name].is_slow]
    methods = [methods] if isinstance(methods, str) else methods
    contenders = [method if isinstance(method, MethodSpec) else MethodSpec(method, method) for method in methods]
    if not any(contender.name == CHANCE for contender in contenders):
        contenders.append(MethodSpec(CHANCE, CHANCE))
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise OptionError(f"two methods have one name: {', '.join(names)}; give each MethodSpec a name of its own")
    for spec in contenders:
        check_options(spec.method, spec.options)
    return contenders


def _samples(given: Mapping[str, object], number: int) -> list[Sample]:
    """An input as the samples that it is, with the keys of its trial."""
    roles = {role: value for role, value in given.items() if value is not None}
    lists = [value for value in roles.values() if isinstance(value, list)]
    return [
        Sample(
            f"{number}.{row}",
            cast(SampleInputs, {role: v[row] if isinstance(v, list) else v for role, v in roles.items()}),
            RightAnswers({}),
        )
        for row in range(len(lists[0]) if lists else 1)
    ]


def _trial(subject: Model, given: Mapping[str, object], number: int, target: AnyTarget, seed: int) -> FixedPrediction:
    inputs = subject.inputs(**as_given(given))
    samples = max(len(value) if isinstance(value, list) else 1 for value in given.values())
    return FixedPrediction.of(subject, inputs, [f"{number}.{row}" for row in range(samples)], seed, target)


def _measured(
    trials: Sequence[FixedPrediction], contenders: Sequence[MethodSpec], budget: Budget, done: Callable[[], None]
) -> tuple[list[dict[str, Maps]], dict[str, float], dict[str, Figures], dict[str, str]]:
    """Maps of each trial, costs, and figures of the model as it is; and why a method refuses."""
    plain: list[dict[str, Maps]] = [{} for _ in trials]
    times: dict[str, list[float]] = {}
    figures: dict[str, Figures] = {}
    refused: dict[str, str] = {}
    forward = [_seconds_forward(trial) for trial in trials]
    for spec in contenders:
        try:
            for number, trial in enumerate(trials):
                began = perf_counter()
                plain[number][spec.name] = maps = trial.maps(spec, anew=True)
                times.setdefault(spec.name, []).append((perf_counter() - began) / forward[number])
                for test, values in _tested(trial, maps, budget).items():
                    figures.setdefault(spec.name, {}).setdefault(test, []).extend(values)
                done()
        except HeedmapError as error:
            refused[spec.name] = str(error)
    for number, trial in enumerate(trials):
        for name, changes in _changed(Mapped(trial, contenders, plain[number]), budget.draws, refused).items():
            figures.setdefault(name, {}).setdefault("sensitivity", []).extend(changes)
    costs = {name: float(np.median(ratios)) for name, ratios in times.items()}
    return plain, costs, figures, refused


def _seconds_forward(trial: FixedPrediction) -> float:
    began = perf_counter()
    output_of(trial.subject.model, trial.inputs)
    return perf_counter() - began


def _tested(trial: FixedPrediction, maps: Maps, budget: Budget) -> Figures:
    """The tests by masking that the model's inputs allow, a figure for each sample."""
    figures: dict[str, list[np.ndarray]] = {}
    for segment in trial.free:
        curves = trial.deletion(maps, budget.steps, segment)
        figures.setdefault("srg", []).append(symmetric_gain(curves))
        figures.setdefault("saco", []).append(trial.saco(maps, budget.steps, segment))
    if len(trial.free) > 1:
        figures["joint"] = [symmetric_gain(trial.deletion(maps, budget.steps, *trial.free))]
    return {test: np.mean(values, axis=0).tolist() for test, values in figures.items()}


def _agreements(mapped: Sequence[Mapped]) -> dict[frozenset[str], float]:
    """Any two contenders → the rank correlation of their maps, mean over samples and segments."""
    return {
        frozenset((first.name, second.name)): float(
            np.mean(
                [
                    spearman(one.maps[first.name][name][row, real], one.maps[second.name][name][row, real])
                    for one in mapped
                    for name, tokens in one.trial.real.items()
                    for row, real in enumerate(tokens)
                ]
            )
        )
        for first, second in combinations(mapped[0].contenders, 2)
    }


def _changed(mapped: Mapped, draws: int, refused: dict[str, str]) -> dict[str, list[float]]:
    """How much the maps of all that are not refused change with noise: a model with noise is proved once for all of them.

    Where one of them fails they are tried one by one, and it is refused. Words that no embedding looks up have no noise:
    the other tests stand.
    """
    fit = [contender for contender in mapped.contenders if contender.name not in refused]
    try:
        changes = sensitivity(replace(mapped, contenders=fit), draws, RADIUS)
    except HeedmapError as error:
        if len(fit) > 1:
            alone = [_changed(replace(mapped, contenders=[contender]), draws, refused) for contender in fit]
            return {name: change for changed in alone for name, change in changed.items()}
        if not isinstance(error, InputError):
            refused[fit[0].name] = str(error)
        return {}
    most: dict[str, list[np.ndarray]] = {}
    for (name, _), change in changes.items():
        most.setdefault(name, []).append(change.max(0))
    return {name: np.mean(values, axis=0).tolist() for name, values in most.items()}


def _on_random_weights(mapped: Sequence[Mapped], done: Callable[[], None]) -> dict[str, list[float]]:
    """For each contender how like its map of each sample is to that on random weights, all of them at once."""
    _, likeness = after_randomisation(mapped, 1, done)
    return {
        contender.name: [
            float(np.mean([likeness[number, contender.name, segment][0, -1, row] for segment in one.trial.real]))
            for number, one in enumerate(mapped)
            for row in range(len(one.trial.keys))
        ]
        for contender in mapped[0].contenders
    }
