"""The target as a function of the model's own input features: word embeddings, pixels, boxes, sound.

These are the first leaves: where a float input is given, or ids become rows of features. Later leaves (the patches that a
convolution makes of pixels) say where the tokens lie on them: a patch takes the relevance of its share of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.forward import call
from heedmap.attention.layout import Part, leaf_rows
from heedmap.attention.tags import Source
from heedmap.attention.tape import Tape
from heedmap.errors import AttentionError, GradientError
from heedmap.methods.run import Run


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
    parts: tuple[tuple[int, Part], ...]


class Leaves:
    """y as a function of the first leaves, one forward pass for each value.

    Every pass has the model's own batch, other inputs, and random numbers. A leaf that y does not depend on is left out.

    Args:
        run: the recorded forward pass.

    Attributes:
        features: by index among the sources.
        gradients: ∂y/∂x where the input is as it was given, in x's shape.

    Raises:
        AttentionError: the second forward pass was not like the first.
        GradientError: no gradient reaches any input.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        wanted: dict[int, list[tuple[int, Part]]] = {}
        for stream, parts in run.parts.items():
            for part in parts:
                wanted.setdefault(first_leaf(run.graph.sources, part.leaf), []).append((stream, part))
        tape = Tape(run.batch, through=True, clone=True)
        values = self._values(tape)
        before, now = ([(s.kind, s.shape) for s in sources] for sources in (run.graph.sources, tape.sources))
        if now[: len(before)] != before:
            raise AttentionError(
                "the second forward pass is not like the recorded one: the model does not do the same thing twice on equal "
                "input; make it deterministic"
            )
        tensors = [tape.sources[index].tensor for index in wanted]
        found = torch.autograd.grad(values.sum(), tensors, allow_unused=True)  # type: ignore[arg-type]
        self.gradients = {i: g for i, g in zip(wanted, found, strict=True) if g is not None}
        if not self.gradients:
            raise GradientError(
                "no gradient passes from the target to the model's input (quantised weights, torch.no_grad or detach in the "
                "model); choose a method that needs none ('generic', …)"
            )
        self.features = {
            index: Feature(index, tensor.detach(), _axes(run.graph.sources, index, parts), tuple(parts))
            for (index, parts), tensor in zip(wanted.items(), tensors, strict=True)
            if index in self.gradients and tensor is not None
        }

    def values(self, points: Mapping[int, Tensor]) -> Float[Tensor, " batch"]:
        """y where each leaf is as given; one forward pass."""
        return self._values(Tape(self.run.batch, through=True, clone=True, given=points))

    def gradients_at(self, points: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """∂y/∂x of each leaf where each is as given; one forward and one backward pass."""
        at = {index: point.detach().requires_grad_() for index, point in points.items()}
        found = torch.autograd.grad(self.values(at).sum(), list(at.values()), allow_unused=True)
        return {i: torch.zeros_like(at[i]) if g is None else g for i, g in zip(at, found, strict=True)}

    def _values(self, tape: Tape) -> Float[Tensor, " batch"]:
        replay = self.run.replay
        assert replay is not None
        torch.manual_seed(0)
        return replay.value(call(replay.model, replay.inputs, tape))

    def baselines(self, kind: str) -> dict[int, Tensor]:
        """What stands for "nothing there", in x's shape: ``"zero"``, or each sample's ``"mean"`` over its tokens or places."""
        return {i: torch.zeros_like(f.x) if kind == "zero" else self._mean(f) for i, f in self.features.items()}

    def _mean(self, feature: Feature) -> Tensor:
        x = feature.x
        if feature.axes:
            return x.mean(list(range(x.dim() - feature.axes, x.dim())), keepdim=True).expand_as(x)
        stream, part = feature.parts[0]
        seen = self.run.visible(stream).gather(1, part.rows.clamp(min=0)) & (part.rows >= 0)
        weights = seen.to(x.dtype).reshape(*seen.shape, *[1] * (x.dim() - 2))
        return ((x * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp(min=1)).expand_as(x)


def _axes(sources: Sequence[Source], index: int, parts: Sequence[tuple[int, Part]]) -> int:
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
    sources: Sequence[Source], part: Part, relevance: Mapping[int, Tensor]
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
    found = relevance[first]
    if found.dim() > 4 and len(places) > 2:
        raise AttentionError(
            f"{part.name!r} has shape {tuple(found.shape)}; which of its axes are places is not known, so the relevance of its "
            "pixels cannot be shared out among its tokens; choose a method that works on attention ('generic', …)"
        )
    if _embedded(sources, sources[first]):
        found = found.flatten(2).sum(-1)
    elif found.dim() > len(places) + 1:
        found = found.sum(list(range(1, found.dim() - len(places))))
    return pooled(found, places).flatten(1)


def pooled(relevance: Tensor, places: Sequence[int]) -> Tensor:
    """(batch, *sizes) summed into (batch, *places): what lies in two places is shared by area."""
    for count in places:
        shares = overlap(count, relevance.shape[1], relevance)
        relevance = torch.tensordot(relevance, shares, dims=([1], [1]))  # the axis that is done goes to the end
    return relevance


def overlap(places: int, size: int, like: Tensor) -> Float[Tensor, "places size"]:
    """How much of each of ``size`` pixels lies in each of ``places`` equal parts of the axis."""
    edge = torch.arange(places + 1, dtype=torch.float64) * size / places
    pixel = torch.arange(size + 1, dtype=torch.float64)
    ends = torch.minimum(edge[1:, None], pixel[None, 1:])
    return (ends - torch.maximum(edge[:-1, None], pixel[None, :-1])).clamp(min=0).to(like)
