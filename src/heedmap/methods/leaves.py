"""The target as a function of the model's own input features: word embeddings, pixels, boxes, sound.

These are the first leaves: where a float input is given, or ids become rows of features. Later leaves (the patches that a
convolution makes of pixels) say where the tokens lie on them: a patch takes the relevance of its share of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.at_rest import seed
from heedmap.attention.forward import call
from heedmap.attention.returned import check_same
from heedmap.attention.tags import Source
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan, leaf_rows
from heedmap.common.memory import ran_out
from heedmap.errors import AttentionError, GradientError
from heedmap.methods.run import TargetView, unlike


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
        wanted: dict[int, list[tuple[int, InputSpan]]] = {}
        for stream, parts in run.parts.items():
            for part in parts:
                wanted.setdefault(first_leaf(run.graph.sources, part.leaf), []).append((stream, part))
        tape = self._tape()
        values = self._values(tape)
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
        return self._values(self._tape(points))

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

    def _tape(self, given: Mapping[int, Tensor] | None = None) -> Tape:
        """The recorder of another run."""
        run = self.runs[0]
        made, copies = (Tape, False) if run.replay is None else (run.replay.tape, run.replay.copies)
        return made(run.batch, through=True, clone=True, copies=copies, given=given)

    def _values(self, tape: Tape) -> list[Float[Tensor, " batch"]]:
        replays = [run.replay for run in self.runs if run.replay is not None]
        seed()
        output = call(replays[0].model, replays[0].inputs, tape)
        if not tape.given:
            check_same(replays[0].answered, output)
        return [replay.value(output) for replay in replays]

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
