"""Occlusion: how much the target falls when one word, patch or box is taken away."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from heedmap.attention.tags import Source
from heedmap.attention.token_positions import InputSpan
from heedmap.common.progress import Passes
from heedmap.methods.leaves import Feature, Leaves, alike, overlap
from heedmap.methods.method import Method
from heedmap.methods.run import TargetView

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


METHOD = Method(
    name="occlusion",
    summary="how much the target falls when one token's features (of a patch: its pixels) are replaced by a baseline",
    source="Zeiler and Fergus, ECCV 2014, arXiv 1311.2901; of words: Li et al., 2016, arXiv 1612.08220",
    options={"baseline": "zero"},
    choices={"baseline": ("zero", "mean")},
    attribute=_occlusion,
)
