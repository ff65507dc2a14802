"""The target as a function of the model's own input features, and methods on these: gradients times the input, and occlusion.

Features are word embeddings, pixels, boxes, sound: the first leaves, where a float input is given, or ids become rows of
features. Later leaves (the patches that a convolution makes of pixels) say where the tokens lie on them: a patch takes the
relevance of its share of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.returned import check_same
from heedmap.attention.tags import Source
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan, leaf_rows
from heedmap.common.extras import library
from heedmap.common.memory import ran_out
from heedmap.common.progress import Passes
from heedmap.errors import AttentionError, GradientError
from heedmap.lrp.replay import libra
from heedmap.methods.method import Method, TargetView, amount, count, unlike


@dataclass(frozen=True, eq=False)
class Feature:
    """One first leaf.

    Attributes:
        index: among the sources.
        x: what the model has there: (batch, rows, features), or (batch, channels, *places).
        axes: how many of its last axes are places; 0 where it has rows.
        parts: the segments whose tokens come from it, each with its stream.
    """

    index: int
    x: Tensor
    axes: int
    parts: tuple[tuple[int, InputSpan], ...]


class Leaves:
    """The targets' y as a function of the first leaves, one forward pass for all of them.

    Every pass has the model's own batch, other inputs, and random numbers. A leaf that no y depends on is left out.

    Args:
        runs: one recorded forward pass, as each of the targets sees it.
        gradients: whether they are needed; where not, and no attention is followed, none may pass: then all leaves count.

    Attributes:
        features: by index among the sources.
        before: each target's y where the input is as it was given.
        gradients: for each target ∂y/∂x where the input is as it was given, in x's shape; of the leaves it depends on.

    Raises:
        AttentionError: the second forward pass was not like the first.
        GradientError: no gradient of a target reaches any input.
    """

    def __init__(self, runs: Sequence[TargetView], gradients: bool = True) -> None:
        self.runs, run = runs, runs[0]
        self._replays = [run.replay for run in runs if run.replay is not None]
        wanted: dict[int, list[tuple[int, InputSpan]]] = {}
        for stream, parts in run.parts.items():
            for part in parts:
                wanted.setdefault(first_leaf(run.graph.sources, part.leaf), []).append((stream, part))
        tape, values = self._run()
        before, now = ([(s.kind, s.shape) for s in sources] for sources in (run.graph.sources, tape.sources))
        if now[: len(before)] != before:
            raise unlike("the second forward pass")
        tensors = [tape.sources[index].tensor for index in wanted]
        self.before = [value.detach() for value in values]
        try:
            self.gradients = self._first_gradients(values, list(wanted), tensors)
        except GradientError:
            if gradients or run.attentions:
                raise
            ones = {i: torch.ones_like(t) for i, t in zip(wanted, tensors, strict=True) if t is not None}
            self.gradients = [ones for _ in runs]
        self.features = {
            index: Feature(index, tensor.detach(), _axes(run.graph.sources, index, parts), tuple(parts))
            for (index, parts), tensor in zip(wanted.items(), tensors, strict=True)
            if tensor is not None and any(index in by_leaf for by_leaf in self.gradients)
        }

    def values(self, points: Mapping[int, Tensor]) -> list[Float[Tensor, " batch"]]:
        """Each target's y where each leaf is as given; one forward pass."""
        return self._run(points)[1]

    def gradients_at(self, points: Mapping[int, Tensor]) -> list[dict[int, Tensor]]:
        """∂y/∂x of each y where each leaf is as given; one forward pass, and a backward pass for each."""
        at = {index: point.detach().requires_grad_() for index, point in points.items()}
        values = self.values(at)
        per_target = []
        for number, by_leaf in enumerate(self.gradients):
            depends = values[number].requires_grad
            gradients = self._gradients(values, number, [at[i] for i in by_leaf]) if depends else [None] * len(by_leaf)
            per_target.append(
                {i: torch.zeros_like(at[i]) if g is None else g for i, g in zip(by_leaf, gradients, strict=True)}
            )
        return per_target

    def _first_gradients(
        self, values: Sequence[Tensor], leaves: Sequence[int], tensors: Sequence[Tensor | None]
    ) -> list[dict[int, Tensor]]:
        per_target = [self._gradients(values, number, tensors) for number in range(len(values))]
        kept = [{i: g for i, g in zip(leaves, gradients, strict=True) if g is not None} for gradients in per_target]
        if not all(kept):
            other = "generic', …" if self.runs[0].attentions else "occlusion'"
            raise GradientError(
                "no gradient passes from the target to the model's input (quantised weights, torch.no_grad or detach in the "
                f"model); choose a method that needs none ('{other})"
            )
        return kept

    def _gradients(
        self, values: Sequence[Tensor], number: int, at: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """Of one target's values; the graph goes with the last."""
        keep = number + 1 < len(values)
        try:
            return torch.autograd.grad(values[number].sum(), at, retain_graph=keep, allow_unused=True)  # type: ignore[arg-type]
        except (RuntimeError, AssertionError) as error:
            if self.runs[0].attentions or ran_out(error):
                raise
            raise GradientError(
                f"the model has no backward pass as it is called ({str(error).splitlines()[0]}); choose a method that needs none "
                "('occlusion')"
            ) from error

    def _run(self, given: Mapping[int, Tensor] | None = None) -> tuple[Tape, list[Float[Tensor, " batch"]]]:
        """The recorder of another run, and each target's y."""
        first = self._replays[0]
        tape = first.tape(first.batch, through=True, clone=True, copies=first.copies, given=given)
        output = first.run(tape)
        if not given:
            check_same(first.answered, output)
        return tape, [replay.value(output) for replay in self._replays]

    def baselines(self, kind: str) -> dict[int, Tensor]:
        """What stands for "nothing there", in x's shape: ``"zero"``, or each sample's ``"mean"`` over its tokens or places.

        The mean is over the tokens that the first target can see: see :func:`alike`.
        """
        return {i: torch.zeros_like(f.x) if kind == "zero" else self._mean(f) for i, f in self.features.items()}

    def _mean(self, feature: Feature) -> Tensor:
        x = feature.x
        if feature.axes:
            return x.mean(list(range(x.dim() - feature.axes, x.dim())), keepdim=True).expand_as(x)
        stream, part = feature.parts[0]
        seen = self._seen(feature) if not self.runs[0].attentions else self.runs[0].visible(stream)
        seen = seen.gather(1, part.rows.clamp(min=0)) & (part.rows >= 0)
        weights = seen.to(x.dtype).reshape(*seen.shape, *[1] * (x.dim() - 2))
        return ((x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)).expand_as(x)

    def _seen(self, feature: Feature) -> Bool[Tensor, "batch rows"]:
        """Where no attention tells which rows the first target can see: those that its gradient reaches."""
        gradient = self.gradients[0].get(feature.index, feature.x)
        return (gradient != 0).reshape(*gradient.shape[:2], -1).any(-1)


def alike(runs: Sequence[TargetView], baseline: str) -> list[Sequence[TargetView]]:
    """Targets in groups that have the same baseline. The mean is of the tokens that a target sees: each has its own."""
    return [[run] for run in runs] if baseline == "mean" else [runs]


def _axes(sources: Sequence[Source], index: int, parts: Sequence[tuple[int, InputSpan]]) -> int:
    """How many of a first leaf's last axes are places."""
    source = sources[index]
    if source.spatial:
        return len(source.shape) - 2
    later = [sources[part.leaf] for _, part in parts if part.leaf != index]
    return len(later[0].shape) - 2 if later and later[0].spatial and not _embedded(sources, source) else 0


def _embedded(sources: Sequence[Source], source: Source) -> bool:
    """Whether a first leaf was made from ids."""
    return any(s.kind == "input" and s.name == source.name for s in sources)


def first_leaf(sources: Sequence[Source], leaf: int) -> int:
    """The leaf of the same input that lies before ``leaf``, and has no other before it."""
    name = sources[leaf].name
    firsts = (i for i, s in enumerate(sources) if s.kind == "leaf" and s.first and s.name == name)
    return leaf if sources[leaf].first else next(firsts, leaf)


def part_rows(
    sources: Sequence[Source], part: InputSpan, relevance: Mapping[int, Tensor]
) -> Float[Tensor, "batch rows"] | None:
    """The relevance of each row of a segment's leaf; where only its first leaf has any, of the places that it covers.

    Args:
        sources: of the recorded forward pass.
        part: the segment.
        relevance: by leaf, in its shape; what is the same for all features of a row may have one feature.
    """
    if part.leaf in relevance:
        return leaf_rows(sources[part.leaf], relevance[part.leaf])
    first, places = first_leaf(sources, part.leaf), sources[part.leaf].shape[2:]
    if first not in relevance:
        return None
    of_first = relevance[first]
    if of_first.dim() > 4 and len(places) > 2:
        raise AttentionError(
            f"{part.name!r} has shape {tuple(of_first.shape)}; which of its axes are places is not known, so the relevance of "
            "its pixels cannot be shared out among its tokens; choose a method that works on attention ('generic', …)"
        )
    if _embedded(sources, sources[first]):
        of_first = of_first.flatten(2).sum(-1)
    elif of_first.dim() > len(places) + 1:
        of_first = of_first.sum(list(range(1, of_first.dim() - len(places))))
    return pooled(of_first, places).flatten(1)


def pooled(relevance: Tensor, places: Sequence[int]) -> Tensor:
    """(batch, *sizes) summed into (batch, *places): what lies in two places is shared by area."""
    for parts in places:
        shares = overlap(parts, relevance.shape[1], relevance)
        relevance = torch.tensordot(relevance, shares, dims=([1], [1]))  # the axis that is done goes to the end
    return relevance


def overlap(places: int, size: int, like: Tensor) -> Float[Tensor, "places size"]:
    """How much of each of ``size`` pixels lies in each of ``places`` equal parts of the axis."""
    edge = torch.arange(places + 1, dtype=torch.float64) * size / places
    pixel = torch.arange(size + 1, dtype=torch.float64)
    ends = torch.minimum(edge[1:, None], pixel[None, 1:])
    return (ends - torch.maximum(edge[:-1, None], pixel[None, :-1])).clamp(min=0).to(like)


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
    passes = Passes(steps * len(runs))  # captum takes one target at a time
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


def _libra(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Relevance]:
    return [_libra_times_input(run) for run in runs]


def _libra_times_input(run: TargetView) -> Relevance:
    assert run.replay is not None
    sources = run.graph.sources
    firsts = {first_leaf(sources, part.leaf) for parts in run.parts.values() for part in parts}
    found = {i: x * g for i, (x, g) in libra(run.replay).leaves.items() if i in firsts}
    if any(relevance.shape != sources[i].shape for i, relevance in found.items()):
        raise unlike("the pass for Libra gradients")
    if not found:
        raise GradientError(
            "no Libra gradient passes from the target to the model's input; choose a method that needs none ('generic', …)"
        )
    return found


LIBRA_INPUT_X_GRADIENT = Method(
    name="libra_input_x_gradient",
    summary="the Libra gradient at the input, times the input",
    source="Mehri et al., LibraGrad, CVPR 2025, arXiv 2411.16760",
    options={"pixels": False},
    attribute=_libra,
)


LEAST = 1e-6
"""Pixels: what a patch covers less of is rounding."""


def _occlusion(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[dict[int, Tensor]]:
    baseline = str(options["baseline"])
    return [
        falls
        for some in alike(runs, baseline)
        for falls in _falls(Leaves(some, gradients=baseline == "mean"), baseline)
    ]


def _falls(leaves: Leaves, baseline: str) -> list[dict[int, Tensor]]:
    """How much each target falls without each token's features, by leaf."""
    baselines, sources = leaves.baselines(baseline), leaves.runs[0].graph.sources
    per_target: list[dict[int, Tensor]] = [{} for _ in leaves.runs]
    with torch.no_grad():
        before = torch.stack(leaves.before)
        for index, feature in leaves.features.items():
            for part in {part.leaf: part for _, part in feature.parts}.values():
                source = sources[part.leaf]
                rows = before.new_zeros(len(leaves.runs), *part.rows.shape)
                others = [f for f in leaves.features.values() if f is not feature and f.parts[0][1].rows is part.rows]
                if any(f.index < index for f in others):
                    continue  # another table of the same words: taken away with the first
                passes = Passes(_count(source, feature, part))
                for covered, here in _regions(source, feature, part):
                    points = {index: torch.where(covered, baselines[index], feature.x)}
                    for other in others:
                        hidden = here.reshape(*here.shape, *[1] * (other.x.dim() - 2))
                        points[other.index] = torch.where(hidden, baselines[other.index], other.x)
                    fall = before - torch.stack(leaves.values(points))
                    rows += here * (fall / here.sum(1).clamp(min=1))[..., None]
                    passes.done()
                for by_leaf, depends, falls in zip(per_target, leaves.gradients, rows, strict=True):
                    if index in depends:
                        by_leaf[part.leaf] = falls.reshape(_one_feature(source))
    return per_target


def _one_feature(source: Source) -> tuple[int, ...]:
    """A leaf's shape with one feature."""
    if source.spatial:
        return (source.shape[0], 1, *source.shape[2:])
    return source.shape[:2] if len(source.shape) == 2 else (*source.shape[:2], 1)


def _count(source: Source, feature: Feature, part: InputSpan) -> int:
    """How many regions there are at most: the tokens, or the places over which they lie."""
    return part.positions.shape[1] if part.leaf == feature.index else math.prod(source.shape[2:])


def _regions(
    source: Source, feature: Feature, part: InputSpan
) -> Iterator[tuple[Bool[Tensor, ...], Bool[Tensor, "batch rows"]]]:
    """For each token, what it covers of the first leaf (to broadcast against it), and of its own leaf's rows."""
    x = feature.x
    if part.leaf == feature.index:
        for token in part.positions.unbind(1):
            here = (part.rows == token[:, None]) & (token >= 0)[:, None]
            if bool(here.any()):
                shape = (len(x), 1, *x.shape[2:]) if source.spatial else (*x.shape[:2], *[1] * (x.dim() - 2))
                yield here.reshape(shape), here
        return
    places = source.shape[2:]
    sizes = x.shape[x.dim() - feature.axes :] if feature.axes else x.shape[1:2]
    inside = [overlap(n, size, x) > LEAST for n, size in zip(places, sizes, strict=True)]
    numbers = torch.arange(part.rows.shape[1], device=x.device)
    for number, place in enumerate(torch.cartesian_prod(*[torch.arange(n) for n in places]).reshape(-1, len(places))):
        covered = torch.ones((), dtype=torch.bool, device=x.device)
        for axis, at in zip(inside, place.tolist(), strict=True):
            covered = covered[..., None] & axis[at]
        here = (numbers == number)[None] & (part.rows >= 0)
        if bool(here.any()):
            yield (covered if feature.axes else covered.reshape(-1, *[1] * (x.dim() - 2))), here


OCCLUSION = Method(
    name="occlusion",
    summary="how much the target falls when one token's features (of a patch: its pixels) are replaced by a baseline",
    source="Zeiler and Fergus, ECCV 2014, arXiv 1311.2901; of words: Li et al., 2016, arXiv 1612.08220",
    options={"baseline": "zero"},
    choices={"baseline": ("zero", "mean")},
    attribute=_occlusion,
)
