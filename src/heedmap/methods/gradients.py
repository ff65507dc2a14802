"""Gradients of the target at the input, times the input: at the input itself, or the mean over points around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from heedmap.common.extras import library
from heedmap.common.progress import Passes
from heedmap.methods.leaves import Feature, Leaves, alike
from heedmap.methods.method import Method, amount, count
from heedmap.methods.run import TargetView

BASELINES = ("zero", "mean")
Relevance = dict[int, Tensor]


def _input_x_gradient(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    leaves = Leaves(runs)
    return _times_input(leaves, leaves.gradients)


def _times_input(leaves: Leaves, per_target: Sequence[Relevance]) -> list[Relevance]:
    return [{i: leaves.features[i].x * gradient for i, gradient in gradients.items()} for gradients in per_target]


INPUT_X_GRADIENT = Method(
    name="input_x_gradient",
    summary="the gradient at the input, times the input",
    source="Shrikumar et al., 2016, arXiv 1605.01713",
    options={"pixels": False},
    attribute=_input_x_gradient,
)


def _integrated(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    """Σ over all leaves and features is y(x) − y(baseline), but for the error of the sum that stands for the integral."""
    steps = count(options, "steps")
    passes = Passes(steps * len(runs))
    # captum takes one target at a time
    return [_integrated_one(run, str(options["baseline"]), steps, passes) for run in runs]


def _integrated_one(run: TargetView, baseline: str, steps: int, passes: Passes) -> Relevance:
    captum = library("captum.attr", "attribution", "integrated_gradients needs")
    leaves = Leaves([run])
    order = list(leaves.features)
    baselines = leaves.baselines(baseline)

    def values(*points: Tensor) -> Tensor:
        (value,) = leaves.values(dict(zip(order, points, strict=True)))
        passes.done()
        return value

    attributed = captum.IntegratedGradients(values).attribute(
        tuple(leaves.features[index].x for index in order),
        tuple(baselines[index] for index in order),
        n_steps=steps,
        internal_batch_size=run.batch,  # of one step: the model sees the batch that it was given, never a larger one
    )
    return {index: relevance.detach() for index, relevance in zip(order, attributed, strict=True)}


INTEGRATED_GRADIENTS = Method(
    name="integrated_gradients",
    summary="the gradient's mean on the way from a baseline to the input, times their difference",
    source="Sundararajan et al., ICML 2017, arXiv 1703.01365; captum's sum by Gauss and Legendre",
    options={"steps": 32, "baseline": "zero", "pixels": False},
    choices={"baseline": BASELINES},
    attribute=_integrated,
)


def noisy(feature: Feature, noise: float, seed: int, draw: int) -> Tensor:
    """x + ε, ε normal with ``noise`` times the spread (largest − smallest) of the row, or of the whole picture or sound.

    Every sample has the same draw, and a row's does not depend on those after it: not on other samples, nor on padding.
    """
    x = feature.x
    over = tuple(range(1 if feature.axes or x.dim() == 2 else 2, x.dim()))
    spread = x.amax(over, keepdim=True) - x.amin(over, keepdim=True)
    normal = np.random.default_rng([seed, draw, feature.index]).standard_normal(x.shape[1:])
    return x + noise * spread * torch.as_tensor(normal).to(x)


def _mean(samples: int, of_draw: Callable[[int], list[Relevance]]) -> list[Relevance]:
    """For each target the mean over the draws."""
    passes, total = Passes(samples), of_draw(0)
    passes.done()
    for draw in range(1, samples):
        for sums, more in zip(total, of_draw(draw), strict=True):
            for index, relevance in more.items():
                sums[index] = sums[index] + relevance
        passes.done()
    return [{index: relevance / samples for index, relevance in sums.items()} for sums in total]


def _smoothgrad(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    samples, noise, seed = count(options, "samples"), amount(options, "noise"), count(options, "seed", least=0)
    leaves = Leaves(runs)

    def of_draw(draw: int) -> list[Relevance]:
        return leaves.gradients_at({i: noisy(f, noise, seed, draw) for i, f in leaves.features.items()})

    return _times_input(leaves, _mean(samples, of_draw))


SMOOTHGRAD = Method(
    name="smoothgrad",
    summary="the mean gradient at noisy copies of the input, times the input",
    source="Smilkov et al., 2017, arXiv 1706.03825",
    options={"samples": 16, "noise": 0.1, "seed": 0, "pixels": False},
    attribute=_smoothgrad,
)


def _gradient_shap(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    return [
        relevance for some in alike(runs, str(options["baseline"])) for relevance in _expected_gradients(some, options)
    ]


def _expected_gradients(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    samples, noise, seed = count(options, "samples"), amount(options, "noise"), count(options, "seed", least=0)
    leaves = Leaves(runs)
    baselines = leaves.baselines(str(options["baseline"]))

    def of_draw(draw: int) -> list[Relevance]:
        share = float(np.random.default_rng([seed, draw]).random())
        ways = {i: noisy(f, noise, seed, draw) - baselines[i] for i, f in leaves.features.items()}
        drawn = leaves.gradients_at({i: baselines[i] + share * way for i, way in ways.items()})
        return [{i: ways[i] * gradient for i, gradient in gradients.items()} for gradients in drawn]

    return _mean(samples, of_draw)


GRADIENT_SHAP = Method(
    name="gradient_shap",
    summary="gradients at random points between a baseline and noisy copies of the input, times their difference",
    source="Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874; expected gradients of Erion et al., 2019, arXiv 1906.10670",
    options={"samples": 16, "noise": 0.1, "seed": 0, "baseline": "zero", "pixels": False},
    choices={"baseline": BASELINES},
    attribute=_gradient_shap,
)
