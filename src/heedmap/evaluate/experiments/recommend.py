"""Which method to use on a model: every method that fits it put to the same tests on a few inputs, ranked, and said plainly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from time import perf_counter
from typing import TYPE_CHECKING, cast

import numpy as np

from heedmap.attention.forward import output_of
from heedmap.common.printable import without_folders
from heedmap.common.ranks import spearman
from heedmap.datasets.sample import RightAnswers, Sample, SampleInputs
from heedmap.errors import HeedmapError, InputError, OptionError
from heedmap.evaluate.answer import as_given
from heedmap.evaluate.harness.protocol import MethodSpec, check_options
from heedmap.evaluate.metrics.faithfulness import deletion, saco, symmetric_gain
from heedmap.evaluate.metrics.ranking import Recommendation, recommendation
from heedmap.evaluate.perturb.masking import FILLS, check_remove
from heedmap.evaluate.trial import FixedPrediction, after_randomisation, sensitivity
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS, CHANCE

if TYPE_CHECKING:
    from heedmap.evaluate.trial import Maps
    from heedmap.models.model import Model
    from heedmap.targets import AnyTarget

Progress = Callable[[float], None]
"""Called with the share of the work that is done, 0 to 1."""

Figures = dict[str, list[float]]
"""Test → a figure for each sample."""


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
    count = _Count(progress, len(trials) * (len(contenders) + 1))
    plain, costs, figures, refused = _measured(trials, contenders, limit, count)
    fit = [contender for contender in contenders if contender.name not in refused]
    if not [contender for contender in fit if contender.name != CHANCE]:
        raise InputError(
            f"no method fits {subject.name} here: {next(iter(refused.values()), 'only chance was asked for')}"
        )
    for name, likeness in _on_random_weights(trials, fit, plain, count).items():
        figures[name]["randomisation"] = likeness
    progress(1.0)
    arrays = {spec.name: {test: np.array(values) for test, values in figures[spec.name].items()} for spec in fit}
    found = recommendation(without_folders(subject.name), arrays, costs, seed, _agreements(trials, fit, plain))
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
    for contender in contenders:
        check_options(contender.method, contender.options)
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


@dataclass
class _Count:
    """Tells how much is done."""

    progress: Progress
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        self.progress(min(self.done / self.total, 1.0))


def _measured(
    trials: Sequence[FixedPrediction], contenders: Sequence[MethodSpec], budget: Budget, count: _Count
) -> tuple[list[dict[str, Maps]], dict[str, float], dict[str, Figures], dict[str, str]]:
    """Maps of each trial, costs, and figures of the model as it is; and why a method refuses."""
    plain: list[dict[str, Maps]] = [{} for _ in trials]
    times: dict[str, list[float]] = {}
    figures: dict[str, Figures] = {}
    refused: dict[str, str] = {}
    forward = [_seconds_forward(trial) for trial in trials]
    for contender in contenders:
        try:
            for number, trial in enumerate(trials):
                began = perf_counter()
                plain[number][contender.name] = maps = trial.maps(contender, anew=True)
                times.setdefault(contender.name, []).append((perf_counter() - began) / forward[number])
                for test, values in _tested(trial, maps, budget).items():
                    figures.setdefault(contender.name, {}).setdefault(test, []).extend(values)
                count()
        except HeedmapError as error:
            refused[contender.name] = str(error)
    for number, trial in enumerate(trials):
        for name, changes in _changed(trial, contenders, plain[number], budget.draws, refused).items():
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
    for segment, free in trial.free.items():
        drop, relevance = trial.drop(segment), maps[segment]
        curves = deletion(relevance, free, drop, budget.steps, trial.seed)
        figures.setdefault("srg", []).append(symmetric_gain(curves))
        figures.setdefault("saco", []).append(saco(relevance, free, drop, budget.steps, trial.seed))
    if len(trial.free) > 1:
        relevance, free = (np.concatenate([of[name] for name in trial.free], 1) for of in (maps, trial.free))
        figures["joint"] = [
            symmetric_gain(deletion(relevance, free, trial.drop(*trial.free), budget.steps, trial.seed))
        ]
    return {test: np.mean(values, axis=0).tolist() for test, values in figures.items()}


def _agreements(
    trials: Sequence[FixedPrediction], contenders: Sequence[MethodSpec], plain: Sequence[Mapping[str, Maps]]
) -> dict[frozenset[str], float]:
    """Any two contenders → the rank correlation of their maps, mean over samples and segments."""
    return {
        frozenset((first.name, second.name)): float(
            np.mean(
                [
                    spearman(maps[first.name][name][row, real], maps[second.name][name][row, real])
                    for trial, maps in zip(trials, plain, strict=True)
                    for name, tokens in trial.real.items()
                    for row, real in enumerate(tokens)
                ]
            )
        )
        for first, second in combinations(contenders, 2)
    }


def _changed(
    trial: FixedPrediction,
    contenders: Sequence[MethodSpec],
    plain: Mapping[str, Maps],
    draws: int,
    refused: dict[str, str],
) -> dict[str, list[float]]:
    """How much the maps of all that are not refused change with noise: a model with noise is proved once for all of them.

    Where one of them fails they are tried one by one, and it is refused. Words that no embedding looks up have no noise:
    the other tests stand.
    """
    fit = [contender for contender in contenders if contender.name not in refused]
    try:
        changes = sensitivity(trial, fit, plain, draws, RADIUS)
    except HeedmapError as error:
        if len(fit) > 1:
            alone = [_changed(trial, [contender], plain, draws, refused) for contender in fit]
            return {name: change for changed in alone for name, change in changed.items()}
        if not isinstance(error, InputError):
            refused[fit[0].name] = str(error)
        return {}
    most: dict[str, list[np.ndarray]] = {}
    for (name, _), change in changes.items():
        most.setdefault(name, []).append(change.max(0))
    return {name: np.mean(values, axis=0).tolist() for name, values in most.items()}


def _on_random_weights(
    trials: Sequence[FixedPrediction],
    contenders: Sequence[MethodSpec],
    plain: Sequence[Mapping[str, Maps]],
    count: _Count,
) -> dict[str, list[float]]:
    """For each contender how like its map of each sample is to that on random weights, all of them at once."""
    _, likeness = after_randomisation(trials, contenders, plain, 1, count)
    return {
        contender.name: [
            float(np.mean([likeness[number, contender.name, segment][0, -1, row] for segment in trial.real]))
            for number, trial in enumerate(trials)
            for row in range(len(trial.keys))
        ]
        for contender in contenders
    }
