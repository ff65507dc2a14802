"""What the model returns, row by row: whether tokens mix after the last attention, or beside it.

Behind the last attention no query asks, so a proof on what attention reads says nothing of it. Rows are told apart where the
model returns one for each token, and where it chooses among them (its first or its last token): each must still be of one token.
What a head pools (a mean, a weighting that is learned) tells no rows apart; it is read as a part of the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heedmap.attention.backward import pulled
from heedmap.attention.token_positions import InputSpan, TokenRows
from heedmap.errors import AttentionError, MixingError

FEW = 8
"""Of how many elements, or places along an axis, it is asked one by one on what they depend."""

SAMPLED = 1024
"""How many numbers of a tensor tell it from another one."""

Rows = Bool[Tensor, "batch tokens"]


class Read(NamedTuple):
    """A stream as a tensor is computed from it.

    Attributes:
        last: its rows in the latest states that it reads.
        before: in all earlier ones, from the stream's beginning on.
        orders: rows that may stand one after another along an axis: all, or those of a segment.
        beside: what a convolution or pooling, beside all attention, made of the tokens with which the stream begins.
    """

    last: Sequence[TokenRows]
    before: Sequence[TokenRows]
    orders: Sequence[Int[Tensor, " rows"]]
    beside: Mapping[str, Tensor]


class Axis(NamedTuple):
    """One axis of a tensor, or two beside each other (rows and columns), along which tokens may stand in this order."""

    first: int
    axes: int
    order: Int[Tensor, " rows"]


def orders(tokens: int, parts: Iterable[InputSpan]) -> list[Int[Tensor, " rows"]]:
    """The orders of a stream: of all its tokens, and of each segment that is where it is in all samples."""
    found = [torch.arange(tokens)]
    for part in parts:
        rows = part.positions[0].cpu()
        alike = bool((part.positions == part.positions[0]).all() and (rows >= 0).all())
        found += [rows] if alike and len(rows) != tokens else []
    return found


def tensors_of(output: Any) -> Iterator[Tensor]:
    """All tensors of what a model returns."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_of(value)
    elif isinstance(output, Mapping) or is_dataclass(output):
        for value in output.values() if isinstance(output, Mapping) else vars(output).values():
            yield from tensors_of(value)


class UnsteadyError(AttentionError):
    """The model answers otherwise each time."""


def sampled(output: Any) -> list[Tensor]:
    """Some numbers of each tensor that a model returned, by which its next answer can be told from this one."""
    kept = []
    for tensor in tensors_of(output):
        flat = tensor.detach().reshape(-1)
        kept.append(flat[:: max(1, len(flat) // SAMPLED)].clone())
    return kept


def check_same(first: Sequence[Tensor], output: Any) -> None:
    """UnsteadyError where a model answered otherwise than in a run before, on equal input.

    Args:
        first: :func:`sampled` of the run before.
        output: what it returned now.
    """
    for before, now in zip(first, sampled(output), strict=False):
        if before.shape != now.shape or not before.is_floating_point() or not before.numel():
            continue
        most = before.abs().nan_to_num(0, 0, 0).amax()
        rough = float(most) * torch.finfo(before.dtype).eps ** 0.5
        if not torch.allclose(before, now, rtol=0, atol=rough, equal_nan=True):
            raise UnsteadyError(
                "the model does not do the same thing twice on equal input: what it returned was another one in a second "
                "run (noise, or an answer that depends on earlier calls); make it deterministic"
            )


def check(
    tensors: Iterable[Tensor], reads: Callable[[Tensor], Iterable[Read]], advice: str, batch: int, turned: bool = False
) -> None:
    """Check tensors whose rows are told apart, in a pass in which the outputs of all that is recorded are constants.

    Args:
        tensors: what is returned, and what rows are chosen from.
        reads: the streams of such a tensor.
        advice: the end of a refusal.
        batch: number of samples.
        turned: whether samples may be the second axis.

    Raises:
        MixingError: a row of a tensor depends on several tokens, or one that is not read of the last state on an earlier one.
    """
    for tensor in {id(t): t for t in tensors}.values():
        first = 0 if turned or tensor.shape[:1] != (batch,) else 1
        is_square = batch > 1 and tensor.shape[:2] == (batch, batch)
        streams = [
            _Rows(tensor, read, first, batch).settled(is_square)
            for read in (reads(tensor) if tensor.requires_grad else ())
        ]
        apart = [rows.are_apart() and not rows.mixed_beside() for rows in streams]
        for rows in (rows for rows, fine in zip(streams, apart, strict=True) if not fine):
            fault = rows.mixed_beside() or ("" if any(apart) else rows.mixed()) or rows.beside()
            if fault:
                raise MixingError(
                    f"what the model returns, or chooses from, shape {tuple(tensor.shape)}, {fault}: {advice}"
                )


class _Rows:
    """One tensor and a stream that it is computed from; tokens stand along no axis before ``first``."""

    def __init__(self, tensor: Tensor, read: Read, first: int, batch: int) -> None:
        self.tensor, self.read, self.first, self.batch = tensor, read, first, batch
        self.states = [*read.last, *read.before]

    def settled(self, is_square: bool) -> _Rows:
        """The same; of as many samples as rows, where the first entry of the first axis is no sample, from that axis on."""
        if is_square and self.first:
            entry = Axis(0, 1, torch.arange(len(self.tensor)))
            if bool(self._of_place(entry, 0)[1:].any()):
                self.first = 0
        return self

    def are_apart(self) -> bool:
        """Whether there is an axis along which each place is of one token."""
        return any(map(self._is_apart, self._axes())) or any(map(self._is_apart, self._others()))

    def mixed_beside(self) -> str:
        """What was mixed of the stream's first tokens, and is read beside all attention; empty: nothing."""
        if not self.read.beside:
            return ""
        cotangent = torch.randn_like(self.tensor)
        gradients = torch.autograd.grad(
            self.tensor, list(self.read.beside.values()), cotangent, retain_graph=True, allow_unused=True
        )
        read = [name for name, g in zip(self.read.beside, gradients, strict=True) if g is not None and bool(g.any())]
        return f"also reads {read[0]} by a convolution or pooling beside {self._last()}" if read else ""

    def mixed(self) -> str:
        """Why there is an axis along which tokens stand, mixed with each other; empty where there is none."""
        axes = [axis for axis in self._axes() if self._mixes(axis)]
        if not axes or self._compares(axes) or self._are_single():
            return ""
        return f"has rows of the tokens, each of which depends on other tokens of {self._named(axes[0])} too"

    def beside(self) -> str:
        """Where its rows are not told apart, whether it reads earlier states of other rows than of the last; empty: no."""
        rows = self._pulled({})
        last = torch.stack(rows[: len(self.read.last)]).any(0)
        for state, before in zip(self.read.before, rows[len(self.read.last) :], strict=True):
            if bool(last.any()) and bool((before & ~last).any()):
                row = int((before & ~last)[0].int().argmax())
                return f"depends on row {row} of {state.name}, but not on what became of it in {self._last()}"
        return ""

    def _axes(self) -> Iterator[Axis]:
        shape = self.tensor.shape
        for order in self.read.orders:
            for count in (1, 2):
                for first in range(self.first, len(shape) - count + 1):
                    if torch.Size(shape[first : first + count]).numel() == len(order) > 1 and shape[first] > 1:
                        yield Axis(first, count, order)

    def _others(self) -> Iterator[Axis]:
        """The first axis, as the last tokens of all (``logits_to_keep``), or as those of all samples, one after another."""
        order, shape = self.read.orders[0], self.tensor.shape
        if self.first and len(shape) > 2 and 1 < shape[1] < len(order):
            yield Axis(1, 1, order[-shape[1] :])
        if not self.first and len(shape) > 1 and shape[0] == self.batch * len(order):
            yield Axis(0, 1, order.repeat(self.batch))
            yield Axis(0, 1, order.repeat_interleave(self.batch))

    def _is_apart(self, axis: Axis) -> bool:
        """Whether half of the places depend on no more than their tokens, and the other half on theirs."""
        tokens = axis.order.unique()
        half = torch.isin(axis.order, tokens[torch.randperm(len(tokens))[: len(tokens) // 2]])
        for chosen in (half, ~half):
            rows = self._read_by({axis: chosen})
            allowed = torch.zeros(rows.shape[1], dtype=torch.bool, device=rows.device)
            allowed[axis.order[chosen].to(rows.device)] = True
            if not bool(rows.any()) or bool((rows & ~allowed).any()):
                return False
        return True

    def _mixes(self, axis: Axis) -> bool:
        """Whether places depend on their own tokens, and on others; what all places do alike may be classes of a mean."""
        found = []
        for place, row in self._some(axis):
            rows = self._of_place(axis, place)
            if not bool(rows[:, row].any()):
                return False
            found.append(rows)
        if all(torch.equal(rows, found[0]) for rows in found):
            return self.tensor.dim() > 2 and axis.axes == 1 and not self._tells_elsewhere(axis)
        # many places, where few say nothing: tokens may stand in another order
        more = (self._of_place(axis, place) for place in torch.randperm(len(axis.order))[:FEW].tolist())
        return any(bool((rows.sum(1) > 1).any()) for rows in (*found, *more))

    def _compares(self, axes: Sequence[Axis]) -> bool:
        """Whether a place is of two tokens, along two axes, and depends on no other."""
        for one in axes:
            for other in axes:
                if other.first >= one.first + one.axes:
                    (a, row), (b, column) = self._some(one)[0], self._some(other)[-1]
                    chosen = {one: _only(a, len(one.order)), other: _only(b, len(other.order))}
                    rows = self._read_by(chosen)
                    rows[:, [row, column]] = False
                    if not bool(rows.any()):
                        return True
        return False

    def _of_place(self, axis: Axis, place: int) -> Rows:
        """The rows of any state on which one place along an axis depends."""
        return self._read_by({axis: _only(place, len(axis.order))})

    def _read_by(self, chosen: Mapping[Axis, Tensor]) -> Rows:
        """The rows of any state on which the chosen places of all samples depend."""
        return torch.stack(self._pulled(chosen)).any(0)

    def _pulled(self, chosen: Mapping[Axis, Tensor]) -> list[Rows]:
        """The same of each state."""
        cotangent = torch.randn_like(self.tensor, memory_format=torch.contiguous_format)
        for axis, mask in chosen.items():
            along = mask.to(cotangent).reshape(-1, *[1] * (cotangent.dim() - axis.first - axis.axes))
            cotangent.flatten(axis.first, axis.first + axis.axes - 1).mul_(along)  # a view, as it is contiguous
        tensors, touched = [s.tensor for s in self.states], [s.touched for s in self.states]
        rows = pulled([self.tensor], [lambda: cotangent], tensors, touched)
        return [
            s.touched(torch.zeros_like(s.tensor)) if r is None else r for s, r in zip(self.states, rows, strict=True)
        ]

    def _are_single(self) -> bool:
        """Whether none of some elements depends on several tokens: tokens that several axes together tell apart, in any order."""
        found = []
        for _ in range(FEW):
            chosen = {}
            for axis, size in enumerate(self.tensor.shape[self.first :], self.first):
                chosen[Axis(axis, 1, torch.arange(size))] = _only(int(torch.randint(size, ())), size)
            found.append(self._read_by(chosen))
        return not any(bool((rows.sum(1) > 1).any()) for rows in found)

    def _tells_elsewhere(self, axis: Axis) -> bool:
        """Whether places along another axis depend on other tokens than their neighbours: then these are the rows."""
        for first in (a for a in range(self.first, self.tensor.dim()) if a != axis.first and self.tensor.shape[a] > 1):
            count = self.tensor.shape[first]
            along = Axis(first, 1, torch.arange(count))
            if not torch.equal(self._of_place(along, 0), self._of_place(along, count - 1)):
                return True
        return False

    def _some(self, axis: Axis) -> list[tuple[int, int]]:
        """The first, the middle and the last place, and their rows."""
        count = len(axis.order)
        return [(place, int(axis.order[place])) for place in dict.fromkeys((0, count // 2, count - 1))]

    def _named(self, axis: Axis) -> str:
        """The states on whose other rows the places of an axis depend."""
        names = []
        place, row = self._some(axis)[1 if len(axis.order) > 2 else 0]
        for state, rows in zip(self.states, self._pulled({axis: _only(place, len(axis.order))}), strict=True):
            rows[:, row] = False
            names += [state.name] if bool(rows.any()) else []
        return names[0] if names else self._last()

    def _last(self) -> str:
        return self.read.last[0].name


def _only(place: int, count: int) -> Tensor:
    return torch.arange(count) == place
