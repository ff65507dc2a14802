"""One batch of inputs on which a model's answer is explained again and again: other methods, other weights, other inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.common.ranks import spearman
from heedmap.engine.explain import explain
from heedmap.errors import GradientError, InputError
from heedmap.evaluate.answer import BatchAnswer, explained, held
from heedmap.evaluate.filling import filled
from heedmap.evaluate.harness.protocol import MethodSpec
from heedmap.evaluate.metrics.faithfulness import Drop, change, complexity, rise
from heedmap.evaluate.perturb.masking import INPUTS, free_tokens, masked, real_tokens, repeated, upsampled, without
from heedmap.evaluate.perturb.randomness import blocks, cascade, noisy
from heedmap.methods.cards import CHANCE

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from heedmap.data.explanation import Segment
    from heedmap.datasets.sample import Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import AnyTarget

    Maps = dict[str, Float[np.ndarray, "batch tokens"]]

AT_ONCE = 32
"""Rows of a forward pass with masked tokens."""


@dataclass(frozen=True, eq=False)
class FixedPrediction:
    """A batch of inputs and what the model says of it, held fixed. Only the segments that a person gave count.

    Attributes:
        subject: the model.
        inputs: what it is called with.
        keys: of the samples.
        answer: what is explained.
        blank: an explanation of it by chance, on whose segments is put what does not ask the model.
        segments: by name, as of any explanation.
        real: for each segment the tokens that are no padding.
        free: for each segment the tokens that may be masked; segments in which none can be are not there.
        seed: of everything that is drawn.
        instead: segment → what stands where its tokens are taken away, see :func:`~heedmap.evaluate.filling.filled`; tokens of
            other segments are masked.
    """

    subject: Model
    inputs: Mapping[str, object]
    keys: Sequence[str]
    answer: BatchAnswer
    blank: Explanation
    segments: Mapping[str, Segment]
    real: Mapping[str, Bool[np.ndarray, "batch tokens"]]
    free: Mapping[str, Bool[np.ndarray, "batch tokens"]]
    seed: int
    instead: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, subject: Model, inputs: Mapping[str, object], keys: Sequence[str], seed: int, target: AnyTarget = None
    ) -> FixedPrediction:
        """The trial of some inputs, as ``subject.inputs`` makes them; ``target`` as for :func:`heedmap.explain`.

        Raises:
            InputError: none of the model's segments is text, a picture, boxes or a sound.
            HeedmapError: the model cannot be explained.
        """
        answer = held(subject, inputs, target)
        explanation = explain(subject, inputs, target=answer.target, method=CHANCE)
        names = [name for name in explanation.segments if name in INPUTS]
        if not names:
            raise InputError(
                f"the model has the segments {', '.join(explanation.segments)}; expected one of {', '.join(INPUTS)}"
            )
        free = {}
        for name in names:
            with suppress(InputError):
                maskable = free_tokens(subject, inputs, explanation, name)
                masked(subject, inputs, explanation.segment(name), torch.ones_like(maskable))
                free[name] = maskable.numpy()
        real = {name: real_tokens(subject, inputs, explanation, name).numpy() for name in names}
        segments = {name: explanation.segment(name) for name in names}
        return cls(subject, inputs, keys, answer, explanation, segments, real, free, seed)

    def replacing(self, donors: Sequence[Sample]) -> FixedPrediction:
        """The same trial, in which nothing is masked: where tokens are taken away stands what :func:`.filling.filled` makes.

        Args:
            donors: other samples; those whose key is one of the trial's give it nothing.

        Raises:
            InputError: there is no other sample, or the segment is of another form than can be replaced.
        """
        instead = {name: filled(self.subject, self.inputs, name, self.keys, donors, self.seed) for name in self.free}
        return replace(self, instead=instead)

    def maps(self, contender: MethodSpec, inputs: Mapping[str, object] | None = None, *, anew: bool = False) -> Maps:
        """The contender's relevance of each segment for the fixed answer; of padding 0.

        For chance and edges, which do not ask the model, it runs only where it is told to, and with other inputs, so that noise
        in its words is seen to come where it should.

        Args:
            contender: the method.
            inputs: of the same shapes, instead of the trial's own.
            anew: the model runs for every method, so that each takes as long as an explanation takes.
        """
        given = self.inputs if inputs is None else inputs
        asked = self.subject, given, self.answer.target, contender, self.seed, self.keys
        return self.relevance(explained(*asked, blank=None if anew or inputs is not None else self.blank))

    def relevance(self, explanation: Explanation) -> Maps:
        """Relevance of each segment; of padding 0."""
        return {name: explanation[name].double().numpy() * real for name, real in self.real.items()}

    def drop(self, *segments: str) -> Drop:
        """The answer's probability with only some tokens of these segments, which lie one behind the other.

        See :data:`~.faithfulness.Drop`.
        """
        return partial(self._left, [self.segments[name] for name in segments])

    def _left(self, segments: Sequence[Segment], kept: Bool[np.ndarray, "variants batch tokens"]) -> np.ndarray:
        variants, batch, tokens = kept.shape
        widths = [self.free[segment.name].shape[1] for segment in segments]
        keep = torch.from_numpy(kept.reshape(-1, tokens))
        owners = torch.arange(batch).repeat(variants)
        probabilities = []
        for rows, samples in zip(keep.split(AT_ONCE), owners.split(AT_ONCE), strict=True):
            inputs = repeated(self.inputs, batch, samples)
            for segment, part in zip(segments, rows.split(widths, 1), strict=True):
                inputs = self._without(inputs, segment, part, samples)
            probabilities.append(self.answer.probability(inputs, samples).cpu())
        return torch.cat(probabilities).double().numpy().reshape(variants, batch)

    def _without(
        self, inputs: Mapping[str, object], segment: Segment, keep: Tensor, samples: Tensor
    ) -> dict[str, object]:
        """The inputs less some tokens of a segment, of these samples."""
        if segment.name not in self.instead:
            return masked(self.subject, inputs, segment, keep)
        instead = self.instead[segment.name]
        if segment.grid is not None:
            keep = upsampled(keep.float(), segment.grid, (instead.shape[-2], instead.shape[-1]), smooth=False) > 0.5
        keep, instead = keep.to(instead.device), instead[samples.to(instead.device)]
        return without(self.subject, inputs, segment, keep, "replace", instead)


def after_randomisation(
    trials: Sequence[FixedPrediction],
    contenders: Sequence[MethodSpec],
    plain: Sequence[Mapping[str, Maps]],
    most: int,
    done: Callable[[], None] = lambda: None,
) -> tuple[list[str], dict[tuple[int, str, str], Float[np.ndarray, "two steps batch"]]]:
    """How much of each map is left when the model's weights become random, from the output down.

    Where relevance on the random model is not finite or no gradient is left, there is no map, and the correlation is 0.

    Args:
        trials: of one model.
        contenders: the methods.
        plain: for each trial, contender's name → its maps on the model as it is.
        most: in how many steps; with one, all weights at once.
        done: called after each trial of each step.

    Returns:
        The blocks' names, and (number of the trial, contender, segment) → the rank correlations of the two maps, and of
        their absolute values, after each step.
    """
    order = blocks(trials[0].subject, trials[0].inputs, most)
    likeness: dict[tuple[int, str, str], list[list[tuple[float, float]]]] = {}
    with cascade(trials[0].subject.model, order, trials[0].seed) as steps:
        for _ in steps:
            for number, trial in enumerate(trials):
                for contender in contenders:
                    before = plain[number][contender.name]
                    after = _or_none(trial, contender)
                    for name, real in trial.real.items():
                        likes = [_likeness(*pair) for pair in zip(before[name], after[name], real, strict=True)]
                        likeness.setdefault((number, contender.name, name), []).append(likes)
                done()
    return [block.name for block in order], {key: np.array(likes).transpose(2, 0, 1) for key, likes in likeness.items()}


def smooth_likeness(
    trial: FixedPrediction,
    contenders: Sequence[MethodSpec],
    plain: Mapping[str, Maps],
    most: int,
    draws: int,
    radius: float,
) -> dict[tuple[str, str], Float[np.ndarray, "steps batch"]]:
    """sMPRT: as :func:`after_randomisation`, from the input up, of maps that are means over a little noise.

    Hedström et al., 2023, arXiv 2401.06465: from the output down what earlier layers know stays in the map for long, and noise in
    the map makes any two unlike. The noise is that of :func:`~heedmap.evaluate.perturb.randomness.noisy`, the last draw is
    without.

    Args:
        trial: the inputs.
        contenders: the methods.
        plain: contender's name → its maps on the model as it is, without noise.
        most: in how many steps.
        draws: maps in a mean; with one, there is no noise.
        radius: of the noise.

    Returns:
        (contender, segment) → the rank correlation with the model's own mean map, after each step.
    """
    before = _mean_maps(trial, contenders, plain, draws, radius)
    likeness: dict[tuple[str, str], list[list[float]]] = {}
    order = blocks(trial.subject, trial.inputs, most)[::-1]
    with cascade(trial.subject.model, order, trial.seed) as steps:
        for _ in steps:
            random = {contender.name: _or_none(trial, contender) for contender in contenders}
            for contender, after in _mean_maps(trial, contenders, random, draws, radius).items():
                for name, real in trial.real.items():
                    pairs = zip(before[contender][name], after[name], real, strict=True)
                    likes = [_likeness(*pair)[0] for pair in pairs]
                    likeness.setdefault((contender, name), []).append(likes)
    return {key: np.array(likes) for key, likes in likeness.items()}


def complexity_rise(
    trial: FixedPrediction, contenders: Sequence[MethodSpec], plain: Mapping[str, Maps]
) -> dict[tuple[str, str], Float[np.ndarray, "two batch"]]:
    """eMPRT: by how much, relative to itself, a map's :func:`~.faithfulness.complexity` rises when all weights are random.

    Hedström et al., 2023, arXiv 2401.06465. Near 0 for a map that does not depend on the model; NaN where the model's own map is
    constant. Beside it the rank correlation of both maps, which is the last of the plain cascade.

    Args:
        trial: the inputs.
        contenders: the methods.
        plain: contender's name → its maps on the model as it is.
    """
    rises = {}
    with cascade(trial.subject.model, blocks(trial.subject, trial.inputs, 1), trial.seed) as steps:
        for _ in steps:
            for contender in contenders:
                after = _or_none(trial, contender)
                for name, real in trial.real.items():
                    maps = zip(plain[contender.name][name], after[name], real, strict=True)
                    rises[contender.name, name] = np.array(
                        [(rise(complexity(a[t]), complexity(b[t])), _likeness(a, b, t)[0]) for a, b, t in maps]
                    ).T
    return rises


def _mean_maps(
    trial: FixedPrediction, contenders: Sequence[MethodSpec], plain: Mapping[str, Maps], draws: int, radius: float
) -> dict[str, Maps]:
    """By contender, the mean of its map without noise and of those with; a model with noise is proved once for all of them."""
    drawn = {contender.name: [plain[contender.name]] for contender in contenders}
    for draw in range(draws - 1):
        with noisy(trial.subject, trial.inputs, radius, trial.keys, trial.seed + draw) as inputs:
            for contender in contenders:
                drawn[contender.name].append(_or_none(trial, contender, inputs))
    return {
        contender: {name: np.mean([maps[name] for maps in own], axis=0) for name in trial.real}
        for contender, own in drawn.items()
    }


def _or_none(trial: FixedPrediction, contender: MethodSpec, inputs: Mapping[str, object] | None = None) -> Maps:
    try:
        return trial.maps(contender, inputs)
    except GradientError:
        return {name: np.zeros(real.shape) for name, real in trial.real.items()}


def _likeness(before: np.ndarray, after: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    a, b = before[real], after[real]
    return spearman(a, b), spearman(np.abs(a), np.abs(b))


def sensitivity(
    trial: FixedPrediction,
    contenders: Sequence[MethodSpec],
    plain: Mapping[str, Maps],
    draws: int,
    radius: float,
) -> dict[tuple[str, str], Float[np.ndarray, "draws batch"]]:
    """How much each map changes with a little noise on the input, relative to its own size.

    Yeh et al., NeurIPS 2019, arXiv 1901.09392, whose max-sensitivity is the greatest over the draws.

    Args:
        trial: the inputs.
        contenders: the methods.
        plain: contender's name → its maps without noise.
        draws: of the noise.
        radius: of the noise, see :func:`~heedmap.evaluate.perturb.randomness.noisy`.

    Returns:
        (contender, segment) → ‖map(x + δ) − map(x)‖ / ‖map(x)‖ for each draw.
    """
    measured: dict[tuple[str, str], list[list[float]]] = {}
    for draw in range(draws):
        with noisy(trial.subject, trial.inputs, radius, trial.keys, trial.seed + draw) as inputs:
            for contender in contenders:
                after = trial.maps(contender, inputs)
                for name, before in plain[contender.name].items():
                    changes = [change(a, b) for a, b in zip(before, after[name], strict=True)]
                    measured.setdefault((contender.name, name), []).append(changes)
    return {key: np.array(changes) for key, changes in measured.items()}
