"""Samples that cannot be told apart in one batch are explained one by one.

Where the samples of a batch share one row of patches, or have unequal parts of one, what each of their tokens is of is not known.
Then each sample alone is a call of its own. Which rows of each input are its own is tried, by the sizes that the inputs have, and
proved: the model answers on them alone what it answers for the sample in the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heedmap.attention.inputs import ModelInputs
from heedmap.data.flow import Flow
from heedmap.data.segments import Segment, Top
from heedmap.engine.narrow import Placed, answer, differs, gradients, spread, tensors_of
from heedmap.errors import MixingError
from heedmap.explanation import Explanation
from heedmap.outputs import Context
from heedmap.targets import Chosen, Target
from heedmap.targets.target import again_of, values_of

if TYPE_CHECKING:
    from collections.abc import Callable

Part = TypeVar("Part")
Whole = TypeVar("Whole")

Shares = Mapping[str, Sequence[int]]
"""Name of an input → how many of its rows each sample has, one sample after another; it is whole for all where it has no name."""

Way = tuple[dict[str, Sequence[int]], dict[str, Tensor]]
"""Shares of some inputs, and of inputs of pictures the rows of each picture."""


@dataclass(frozen=True, eq=False)
class SeparateSamples:
    """A run on all samples, and which rows of each input are each one's.

    Attributes:
        inputs: of all.
        batch: how many there are.
        output: of the model on these.
        shares: rows of each sample.
        context: of all.
    """

    inputs: ModelInputs
    batch: int
    output: object
    shares: Shares
    context: Context

    def alone(self, index: int) -> ModelInputs:
        """The inputs of one sample."""
        return _alone(self.inputs, self.shares, index)


@dataclass(frozen=True, eq=False)
class Alone(Target):
    """A target of a batch, of a run on one of its samples: what it reads of the others is as it was."""

    samples: SeparateSamples
    index: int
    target: Target

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        chosen = self.target.choose(self._spread(output), self.samples.context)
        values = again_of(self.target, chosen, self.samples.context)
        row = slice(self.index, self.index + 1)
        return replace(chosen.sample(self.index), again=lambda output: values(self._spread(output))[row])

    def _spread(self, output: object) -> object:
        return spread(self.samples.output, output, partial(_rows_of_sample, self.index, self.samples.batch))[0]


def _rows_of_sample(index: int, batch: int, whole: Tensor, part: Tensor) -> Placed | None:
    """Where one sample's rows are in a tensor of all; it may be the second axis that is the batch."""
    if part.dim() > 1 and part.shape[1] == 1 and whole.shape == (len(part), batch, *part.shape[2:]):
        rows = torch.arange(len(part), device=whole.device)[:, None]
        return (rows, torch.tensor([index], device=whole.device)), part
    if not part.dim() or whole.shape[1:] != part.shape[1:] or len(whole) != batch * len(part):
        return None
    return (torch.arange(index * len(part), (index + 1) * len(part), device=whole.device),), part


def samples(
    model: nn.Module, inputs: ModelInputs, batch: int, targets: Sequence[Target], context: Context
) -> SeparateSamples | None:
    """The samples of a batch, one by one; None: no rows of the inputs are seen to be each one's.

    To be called within :func:`heedmap.attention.at_rest.recording_state`.
    """
    output = answer(model, inputs)
    if batch < 2 or isinstance(output, Exception):
        return None
    try:
        read = {n for target in targets for n in gradients(output, partial(values_of, target, context))}
    except Exception:  # a target may be anyone's
        return None
    same = partial(_same, model, inputs, batch, output, read)
    for known, free in _cuts(inputs, batch):
        shares = known if not free and all(same(known, i) for i in range(batch)) else None
        shares = _found(known, free, batch, same) if free else shares
        if shares is not None:
            return SeparateSamples(inputs, batch, output, shares, context)
    return None


def are_samples(model: nn.Module, inputs: ModelInputs, targets: Sequence[Target], context: Context) -> bool:
    """Whether the model gives each sample of a batch alone the values that the targets have in the batch."""
    output, batch = answer(model, inputs), len(next(iter(inputs[name] for name in inputs.turned)))
    cut = {n: [1] * batch for n, v in inputs.items() if _has_rows(v, batch)}
    try:
        for target in targets:
            values = target.choose(output, context).values
            for index in range(batch):
                alone = target.choose(answer(model, _alone(inputs, cut, index)), context).values
                if alone.shape != (1,) or differs(values[index : index + 1], alone):
                    return False
    except Exception:  # the model refuses a sample alone, or the target, which may be anyone's, its output
        return False
    return True


def _cuts(inputs: ModelInputs, batch: int) -> Iterator[tuple[Shares, dict[str, Tensor]]]:
    """Ways to share the inputs out: known shares, and inputs of pictures that may be as many as they like for each sample.

    Of the latter, how many rows each picture has: (pictures,).
    """
    sizes = {name: len(value) for name, value in inputs.items() if isinstance(value, Tensor) and value.dim()}
    own: dict[str, Sequence[int]] = {name: [1] * batch for name, size in sizes.items() if size == batch}
    rest = {name: size for name, size in sizes.items() if size != batch}
    grids = {n: v.prod(1) for n, v in inputs.items() if n in sizes and v.dim() == 2 and v.shape[1] == 3 and _counts(v)}
    counts = [inputs[n] for n in own if inputs[n].dim() == 1 and _counts(inputs[n])]
    ways: list[list[Way]] = []
    for name, size in rest.items():
        found: list[Way] = []
        for grid, rows in grids.items():
            if int(rows.sum()) == size and len(rows) == batch:
                found.append(({name: rows.tolist()}, {}))
            elif int(rows.sum()) == size:
                found.append(({}, {name: rows, grid: torch.ones(len(rows), dtype=torch.int64)}))
        found += [({name: c.tolist()}, {}) for c in counts if int(c.sum()) == size]
        found += [({name: [size // batch] * batch}, {})] if size % batch == 0 else []
        found += [({}, {name: torch.ones(size, dtype=torch.int64)})] if size > batch and not found else []
        ways.append([*found, ({}, {})])  # or it is whole for all
    for way in product(*ways):
        known, free = dict(own), dict[str, Tensor]()
        for of_each, of_pictures in way:
            known, free = known | of_each, free | of_pictures
        if len({len(rows) for rows in free.values()}) <= 1:
            yield {n: v for n, v in known.items() if n not in free}, free


def _counts(value: Tensor) -> bool:
    return not value.is_floating_point() and value.dtype != torch.bool and bool((value >= 0).all())


def _found(known: Shares, free: Mapping[str, Tensor], batch: int, same: Callable[[Shares, int], bool]) -> Shares | None:
    """How many pictures each sample has, tried from one on, sample after sample."""
    pictures, begun = len(next(iter(free.values()))), 0
    shares: dict[str, list[int]] = {name: [] for name in free}
    for index in range(batch):
        for taken in range(pictures - begun + 1) if index < batch - 1 else [pictures - begun]:
            mine = {n: [*shares[n], int(rows[begun : begun + taken].sum())] for n, rows in free.items()}
            if same({**known, **mine}, index):
                shares, begun = mine, begun + taken
                break
        else:
            return None
    return {**known, **shares}


def _same(
    model: nn.Module, inputs: ModelInputs, batch: int, output: object, read: set[int], shares: Shares, index: int
) -> bool:
    """Whether the model answers on one sample alone as it does in the batch, in all that the targets read."""
    alone = answer(model, _alone(inputs, shares, index))
    if isinstance(alone, Exception):
        return False
    before, (_, put) = tensors_of(output), spread(output, alone, partial(_rows_of_sample, index, batch))
    return all(number in put and not differs(before[number], put[number]) for number in read)


def is_batch_first(model: nn.Module, inputs: ModelInputs, batch: int) -> bool:
    """Whether the first of ``batch`` samples has the same answer alone, where every input has its own row for each."""
    output, cut = answer(model, inputs), {n: [1] * batch for n, v in inputs.items() if _has_rows(v, batch)}
    if isinstance(output, Exception):
        return False
    answers = {
        n for n, tensor in enumerate(tensors_of(output)) if _has_rows(tensor, batch) and tensor.is_floating_point()
    }
    return bool(answers) and _same(model, inputs, batch, output, answers, cut, 0)


def _has_rows(value: object, batch: int) -> bool:
    return isinstance(value, Tensor) and value.shape[:1] == (batch,)


def _alone(inputs: ModelInputs, shares: Shares, index: int) -> ModelInputs:
    less = copy.copy(inputs)
    for name, rows in shares.items():
        less[name] = inputs[name][sum(rows[:index]) : sum(rows[: index + 1])]
    return less


# -- together -----------------------------------------------------------------------------------------------------------


def together(parts: Sequence[Explanation], note: str) -> Explanation:
    """Explanations of one sample each as that of a batch; tokens that a sample has fewer of have no relevance and no position.

    Raises:
        MixingError: they have not the same segments.
    """
    first = parts[0]
    if any(p.segments.keys() != first.segments.keys() for p in parts):
        given = "; ".join(", ".join(p.segments) for p in parts)
        raise MixingError(
            f"the samples have other segments each ({given}), so they are no batch; explain them one by one"
        )
    return replace(
        first,
        segments={name: _segment([p.segments[name] for p in parts]) for name in first.segments},
        target=_chained([p.target for p in parts]),
        scores=torch.cat([p.scores for p in parts]),
        prediction=_all([p.prediction for p in parts], torch.cat),
        prediction_labels=_all([p.prediction_labels for p in parts], _chained),
        flow=_flow([p.flow for p in parts], note),
        maps={k: _padded([p.maps[k] for p in parts], 0) for k in first.maps if all(k in p.maps for p in parts)},
        top=_all([p.top for p in parts], Top.joined),
        box=_all([p.box for p in parts], torch.cat),
    )


def _all(parts: Sequence[Part | None], joined: Callable[[list[Part]], Whole]) -> Whole | None:
    """All as one; None where one has none."""
    known = [part for part in parts if part is not None]
    return joined(known) if len(known) == len(parts) else None


def _chained(parts: Sequence[tuple[Part, ...]]) -> tuple[Part, ...]:
    return tuple(chain.from_iterable(parts))


def _segment(parts: Sequence[Segment]) -> Segment:
    grids, width = {p.grid for p in parts}, max(p.relevance.shape[1] for p in parts)
    labels, boundaries = _all([p.labels for p in parts], _chained), _all([p.boundaries for p in parts], _chained)
    return replace(
        parts[0],
        relevance=_padded([p.relevance for p in parts], 0.0),
        positions=_padded([p.positions for p in parts], -1),
        grid=parts[0].grid if len(grids) == 1 else None,
        labels=labels and tuple((*row, *[""] * (width - len(row))) for row in labels),
        boundaries=boundaries and tuple(row.ljust(width, "s") for row in boundaries),
    )


def _padded(tensors: Sequence[Tensor], value: float) -> Tensor:
    """As one batch, with ``value`` where one is smaller than another."""
    sizes = [max(t.shape[axis] for t in tensors) for axis in range(1, tensors[0].dim())]

    def padded(tensor: Tensor) -> Tensor:
        missing = [size - own for size, own in zip(sizes, tensor.shape[1:], strict=True)]
        return F.pad(tensor, [n for size in reversed(missing) for n in (0, size)], value=value)

    return torch.cat([padded(t) for t in tensors])


def _flow(flows: Sequence[Flow], note: str) -> Flow:
    streams = []
    for same in zip(*(flow.streams for flow in flows), strict=False):
        rows = _all([s.rows for s in same], _chained)
        streams.append(replace(same[0], tokens=max(s.tokens for s in same), rows=rows))
    notes = (*dict.fromkeys(n for f in flows for n in f.notes), note)
    return replace(flows[0], streams=tuple(streams), notes=notes)
