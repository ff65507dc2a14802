"""What mixes tokens and is no attention, but a sum of contributions of tokens: o_i = Σ_j c_ij (+ constants).

Eq. 5 (Chefer, Gur, Wolf, ICCV 2021) asks for A ⊙ ∂y/∂A = ⟨∂y/∂o_i, A_ij v_j⟩ only, the inner product of a gradient with what
token j gives to output i. With c_ij in place of A_ij v_j it is defined for every such mixer: Ā_ij = ⟨∂y/∂o_i, c_ij⟩⁺. That is an
extension of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention import moves
from heedmap.attention.attention import Attention
from heedmap.attention.companions import CONVOLUTIONS, CompanionTape, is_pointwise
from heedmap.attention.moves import TorchCall
from heedmap.attention.numbers import NOTHING, Ids, Numbers, all_of, distinct, rows_reached, runs, thinned
from heedmap.errors import UnfollowedAttentionError


class Terms(NamedTuple):
    """⟨∂y/∂o_i, c_ij⟩⁺ of pairs of tokens: the numbers of i and of j, and the term; -1: no token."""

    rows: Ids
    columns: Ids
    values: Tensor


TermsOf = Callable[[Tensor], Iterator[Terms]]
"""A gradient of the output → terms, a part at a time."""


@dataclass(eq=False)
class Mixer(Attention):
    """A recorded mixer; ``value`` is its input, ``out`` its output.

    Attributes:
        ids: companion of the output, in its shape.
        asked: companion of the input, in its shape.
        terms: of a gradient of the output.
        into: where each element of the input goes into one row only, the number of that row, in the input's shape.
        copies: whether its rows are copies of tokens, each of one.
        rows: companion of the output by rows of the stream, sample · tokens + row; known when the streams are.
        sizes: batch size, tokens of the stream that it adds to or makes, and of the one that is read.
    """

    ids: Ids = field(default_factory=lambda: torch.zeros(0))
    asked: Ids = field(default_factory=lambda: torch.zeros(0))
    terms: TermsOf = field(default=lambda gradient: iter(()))
    into: Ids | None = None
    copies: bool = False
    rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    sizes: tuple[int, int, int] = (0, 0, 0)
    mixes = True

    @cached_property
    def tokens_read(self) -> Ids:
        """The numbers of the tokens of its input, each once."""
        return all_of(self.asked)

    @cached_property
    def tokens_made(self) -> Ids:
        """The numbers of its rows, each once."""
        return all_of(self.ids)

    def merged(self, numbers: Numbers) -> tuple[Ids, Ids]:
        """Where each element goes into one row only: tokens, and the rows that they go into, (pairs,) each."""
        assert self.into is not None
        pair = thinned(*(ids.expand(self.value.shape) for ids in (self.asked, self.into)))
        tokens, rows = map(numbers.first, pair)
        real = (tokens >= 0) & (rows >= 0)
        return tokens[real], rows[real]

    @property
    def heads(self) -> int:
        """One."""
        return 1

    @property
    def queries(self) -> int:
        """Number of tokens that it makes."""
        return self.sizes[1]

    @property
    def batch(self) -> int:
        """Batch size."""
        return self.sizes[0]

    @property
    def cells(self) -> int:
        """None: it has no A."""
        return 0

    def touched(self, gradient: Tensor) -> Tensor:
        """See :meth:`Attention.touched`."""
        return rows_reached(self.rows.expand(gradient.shape), gradient != 0, self.batch, self.queries)

    def probabilities(self, rows: slice = slice(None)) -> Tensor:
        """There are none.

        Raises:
            UnfollowedAttentionError: always.
        """
        raise self._undefined()

    def gradient(self, out_gradient: Tensor, rows: slice = slice(None)) -> Tensor:
        """See :meth:`probabilities`."""
        raise self._undefined()

    def _undefined(self) -> UnfollowedAttentionError:
        return UnfollowedAttentionError(
            f"mixer {self.index}, called at {self.place}, is no attention, so it has no probabilities: this method is not "
            "defined for it; choose 'generic', or a method of the input"
        )


class AsItIs:
    """A layout that changes nothing."""

    def apply(self, tensor: Tensor) -> Tensor:
        """``tensor`` itself."""
        return tensor


def positive(rows: Ids, columns: Ids, values: Tensor) -> Terms:
    """Flat, each pair once, the positive part of its sum."""
    rows, columns = (t.expand(values.shape) for t in (rows, columns))
    for axis in range(values.dim()):  # first what stands side by side: that needs no sorting
        starts = runs(axis, rows, columns)
        if len(starts) < values.shape[axis]:
            index = torch.zeros(values.shape[axis], dtype=torch.int64).index_fill_(0, starts[1:], 1).cumsum(0)
            rows, columns = (t.index_select(axis, starts) for t in (rows, columns))
            values = values.new_zeros(rows.shape).index_add_(axis, index.to(values.device), values)
    rows, columns = rows.reshape(-1), columns.reshape(-1)
    real = (rows >= 0) & (columns >= 0)
    pairs, index = distinct(torch.stack([rows[real], columns[real]], 1))
    sums = values.new_zeros(len(pairs)).index_add_(0, index, values.reshape(-1)[real])
    return Terms(pairs[:, 0], pairs[:, 1], sums.clamp_(min=0))


# -- convolution and pooling ------------------------------------------------------------------------------------------


class Windows(NamedTuple):
    """The windows of a convolution or pooling, in all its axes of places."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]

    def of(self, tensor: Tensor, fill: float) -> Tensor:
        """(batch, channels, *places) as (batch, channels, *windows, elements of a window)."""
        pads = [p for pair in zip(reversed(self.before), reversed(self.after), strict=True) for p in pair]
        found = F.pad(tensor, pads, value=fill)
        for axis, (size, stride, dilation) in enumerate(zip(self.size, self.stride, self.dilation, strict=True)):
            found = found.unfold(axis + 2, dilation * (size - 1) + 1, stride)[..., ::dilation]
        return found.flatten(-len(self.size)) if len(self.size) > 1 else found


def _all(value: Any, dims: int) -> tuple[int, ...]:
    """An argument for all axes of places."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values if len(values) == dims else (int(values[0]),) * dims


def conv_windows(x: Tensor, weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Windows:
    """Of torch's convolutions."""
    dims, size = x.dim() - 2, tuple(weight.shape[2:])
    dilation = _all(dilation, dims)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        before, after = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    else:
        before = after = _all(0 if padding == "valid" else padding, dims)
    return Windows(size, _all(stride, dims), before, after, dilation)


def conv_terms(
    x: Tensor, weight: Tensor, groups: int, windows: Windows, ids: Ids, asked: Ids, heads: int = 1
) -> TermsOf:
    """c_ij = K_{i−j} x_j; the heads are the groups of each of the ``heads`` in the batch, one where it is depthwise."""
    x, weight = x.detach(), weight.detach()

    def terms(gradient: Tensor) -> Iterator[Terms]:
        seen, numbers = windows.of(x, 0.0), windows.of(asked[:, :1], -1)
        g = gradient.unflatten(1, (groups, -1))
        kernel = weight.flatten(2).unflatten(0, (groups, -1))
        for k in range(kernel.shape[-1]):
            back = torch.einsum("ngo...,goc->ngc...", g, kernel[..., k].to(g))
            found = (back * seen[..., k].unflatten(1, (groups, -1))).sum(2)
            found = found.sum(1) if groups == x.shape[1] else found.clamp(min=0).mean(1) / heads
            yield positive(ids[:, 0], numbers[:, 0, ..., k], found)

    return terms


POOLING = ("input", "kernel_size", "stride", "padding")
AVERAGE, MAXIMUM = ("ceil_mode", "count_include_pad", "divisor_override"), ("dilation", "ceil_mode")


def pooling(call: TorchCall, x: Tensor) -> tuple[Windows, Tensor | float | None]:
    """The windows of one of torch's poolings, and by what each sum is divided, for each window; None: of a maximum."""
    largest, dims = call.name.startswith("max"), x.dim() - 2
    given = call.bound(*POOLING, *(MAXIMUM if largest else AVERAGE))
    size, pads = (_all(given.get(key, 0), dims) for key in ("kernel_size", "padding"))
    stride, dilation = (_all(given.get(key) or other, dims) for key, other in (("stride", size), ("dilation", 1)))
    ends = [
        (n - 1) * s + d * (k - 1) + 1 - inside - p  # a last window may reach out further than the padding (ceil_mode)
        for n, s, d, k, inside, p in zip(call.result.shape[2:], stride, dilation, size, x.shape[2:], pads, strict=True)
    ]
    windows = Windows(size, stride, pads, tuple(ends), dilation)
    if largest:
        return windows, None
    if given.get("divisor_override"):
        return windows, float(given["divisor_override"])
    ones = torch.ones_like(x[:1, :1])
    if given.get("count_include_pad", True):
        ones = F.pad(ones, [p for p in reversed(pads) for _ in range(2)], value=1.0)
        windows_of_padded = windows._replace(
            before=(0,) * dims, after=tuple(e - p for e, p in zip(ends, pads, strict=True))
        )
        return windows, windows_of_padded.of(ones, 0.0).sum(-1)
    return windows, windows.of(ones, 0.0).sum(-1)


def beside_terms(x: Tensor, weight: Tensor, windows: Windows, ids: Ids, asked: Ids) -> TermsOf:
    """As :func:`conv_terms`, where tokens stand side by side in the channels: each gives what its own channels give."""
    parts = [conv_terms(x[:, own], weight[:, own], 1, windows, ids, asked[:, own]) for own in alike(asked)]

    def terms(gradient: Tensor) -> Iterator[Terms]:
        for part in parts:
            yield from part(gradient)

    return terms


def alike(ids: Ids) -> list[Tensor]:
    """The channels that are of the same tokens, (channels,) each."""
    which = distinct(ids.transpose(0, 1).flatten(1))[1]
    return [(which == n).nonzero()[:, 0] for n in which.unique()]


def pool_terms(x: Tensor, out: Tensor, count: Tensor | float | None, windows: Windows, ids: Ids, asked: Ids) -> TermsOf:
    """Of an average x_j/n; of a maximum (``count`` is None) x_j in the channels in which it is the largest."""
    x, out = x.detach(), out.detach()

    def terms(gradient: Tensor) -> Iterator[Terms]:
        seen, numbers = windows.of(x, float("-inf") if count is None else 0.0), windows.of(asked[:, :1], -1)
        for k in range(seen.shape[-1]):
            here = seen[..., k]
            part = torch.where(here == out, here, 0.0) if count is None else here / count
            yield positive(ids[:, 0], numbers[:, 0, ..., k], (part * gradient).sum(1))

    return terms


# -- sampled points (deformable attention) ----------------------------------------------------------------------------


def sampled_terms(x: Tensor, grid: Tensor, border: bool, align_corners: bool, ids: Ids, asked: Ids) -> TermsOf:
    """Of points between tokens: c_ij the tokens at their corners, by their bilinear weights, over the points of a query.

    The weight of a point comes after the sampling, so it is in ∂y/∂o. The heads are the entries of the first axis with the
    same tokens.

    Args:
        x: what is sampled, (heads · batch, features, height, width).
        grid: where, (heads · batch, queries, points, 2), from -1 to 1.
        border: whether points outside are at the border; else they are nothing.
        align_corners: as of :func:`torch.nn.functional.grid_sample`.
        ids: companion of the output, (heads · batch, features, queries, points).
        asked: companion of x.
    """
    x, grid = x.detach(), grid.detach()
    size = torch.tensor([x.shape[3], x.shape[2]], dtype=grid.dtype, device=grid.device)
    tokens, rows = asked[:, 0].flatten(1), ids[:, 0]
    heads = len(x) // len(tokens[:, :1].unique())

    def of_head(head: int, gradient: Tensor) -> Terms:
        at = (grid[head] + 1) / 2 * (size - 1) if align_corners else ((grid[head] + 1) * size - 1) / 2
        at = at.minimum(size - 1).clamp(min=0) if border else at
        given, made = (t[head].flatten(1).T.contiguous() for t in (x, gradient))
        columns, values = [], []
        for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):
            corner = at.floor() + torch.tensor([right, below]).to(at)
            weight = (1 - (at - corner).abs()).clamp(min=0).prod(-1)
            inside = ((corner >= 0) & (corner < size)).all(-1)
            place = corner.minimum(size - 1).clamp(min=0).long()
            place = place[..., 1] * x.shape[3] + place[..., 0]
            values.append((made * given[place.flatten()]).sum(-1).view_as(weight) * weight / heads)
            columns.append(tokens[head][place.cpu()].masked_fill(~inside.cpu(), NOTHING))
        return positive(rows[head, ..., None], torch.stack(columns, -1), torch.stack(values, -1))

    return lambda gradient: (of_head(head, gradient) for head in range(len(x)))


ENTRIES = 2**22
"""So many entries of a matrix over places are computed at once."""

# -- sums over tokens -------------------------------------------------------------------------------------------------


def merge_terms(run: Callable[[Tensor], Tensor], x: Tensor, rows: Ids, asked: Ids) -> TermsOf:
    """Where each element of x goes into one row: c_ij by the elements of token j, c · ∂y/∂o = x · ∂y/∂x.

    Args:
        run: the function, of x.
        rows: for each element of x, the number of the row that it goes into.
        asked: companion of x.
    """
    x = x.detach()

    def terms(gradient: Tensor) -> Iterator[Terms]:
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            (back,) = torch.autograd.grad(run(at), at, gradient.to(x.dtype))
        yield positive(rows, asked, x * back)

    return terms


def placewise_terms(run: Callable[[Tensor], Tensor], x: Tensor, ids: Ids, asked: Ids) -> TermsOf:
    """Of a linear function of places that is the same in all channels (resizing): c_ij = W_ij x_j, with W by its entries.

    Args:
        run: the function, of maps (maps, channels, *places).
        x: what it is given, (batch, channels, *places).
        ids: companion of the output, the same in all channels; so is ``asked``, that of x.
        asked: see there.
    """
    x = x.detach()

    def terms(gradient: Tensor) -> Iterator[Terms]:
        columns, rows, weights = _matrix(run, x)
        given, made = (t.flatten(2) for t in (x, gradient))
        values = torch.zeros(len(x), len(rows), dtype=made.dtype, device=x.device)
        for channels in range(x.shape[1]):
            values += made[:, channels, rows] * given[:, channels, columns]
        reached = (given != 0).any(1)[:, columns].cpu()
        at, of = (t[:, 0].flatten(1)[:, where.cpu()] for t, where in ((ids, rows), (asked, columns)))
        yield positive(at.masked_fill(~reached, NOTHING), of, values * weights)

    return terms


def _matrix(run: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of a linear function of places: from which place, to which, and how much."""
    places, found, start = x.shape[2:].numel(), [], 0
    step = max(1, ENTRIES // run(x[:1, :1]).numel())
    while start < places:
        count = min(step, places - start)
        units = torch.eye(count, places, dtype=x.dtype, device=x.device).roll(start, 1)
        weights = run(units.reshape(count, 1, *x.shape[2:])).flatten(1)
        columns, rows = weights.nonzero(as_tuple=True)
        found.append((columns + start, rows, weights[columns, rows]))
        start += count
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def linear_terms(run: Callable[[Tensor], Tensor], x: Tensor, ids: Ids, asked: Ids) -> TermsOf:
    """Of any linear function: token by token, c_·j = f(x where it is of token j) − f(0). As many runs as a sample has tokens."""
    x = x.detach()

    def terms(gradient: Tensor) -> Iterator[Terms]:
        numbers = asked.unique()
        numbers = numbers[numbers >= 0]
        nothing = run(torch.zeros_like(x))
        for token in numbers.tolist():
            part = run(torch.where(asked == token, x, 0.0)) - nothing
            found = (gradient.conj() * part).real if gradient.is_complex() else gradient * part
            reached = (
                part != 0
            ).cpu()  # a row that it does not reach has no share of it, also where all shares are zero
            yield positive(ids.masked_fill(~reached, NOTHING), torch.full_like(ids, token), found)

    return terms


# -- the recorder -----------------------------------------------------------------------------------------------------


POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"}
LINEAR = {
    "interpolate", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "conv_transpose1d", "conv_transpose2d", "fft_fft",
    "fft_fft2", "grid_sample", "fft_fftn", "fft_rfft", "fft_rfft2", "upsample", "fold",
}  # fmt: skip
"""Functions that mix tokens and are linear, whose structure is found token by token."""
PLACEWISE = {"interpolate": (3, 4, 5), "upsample": (3, 4, 5), "adaptive_avg_pool1d": (3,), "adaptive_avg_pool2d": (4,)}
"""Of those, the ones that do the same in all channels, and the axes of a batch of maps."""
MIXING = {*CONVOLUTIONS, *POOLS, *LINEAR, *moves.MERGES, "min"}


class MixingTape(CompanionTape):
    """A recorder that knows mixers."""

    def _mixer(
        self,
        out: Tensor,
        x: Tensor,
        asked: Ids,
        ids: Ids,
        terms: TermsOf,
        into: Ids | None = None,
        asks: frozenset[int] = frozenset(),
        copies: bool = False,
    ) -> Tensor:
        mixer = Mixer(
            index=len(self.attentions), form="mixer", out=out, layout=AsItIs(), value=x.detach(), keys=0,  # type: ignore[arg-type]
            query_sources=asks, value_sources=self.tag(x).sources, ids=ids, asked=asked.expand(x.shape), terms=terms,
            into=into, sizes=(self.batch, 0, 0), copies=copies,
        )  # fmt: skip
        self.reads[mixer.index] = [(x, mixer.asked)]
        given = self._record(mixer)
        self.set_known(given, ids)
        return given

    def _mixed(self, call: TorchCall) -> Tensor | None:
        """The result as that of a mixer; None where the function is none."""
        name, result, x = call.name, call.result, call.bound("input").get("input")
        if name not in MIXING or not isinstance(x, Tensor) or not isinstance(known := self.known(x), Tensor):
            return None
        ids = self.numbers.first(known).expand(x.shape)
        if name in ("max", "min") and isinstance(result, tuple):
            return self._largest(call, x, ids)
        if not isinstance(result, Tensor) or not (result.is_floating_point() or result.is_complex()):
            return None
        if name in moves.MERGES:
            return self._merged(call, partial(call.again, x), result, x, ids)
        if name in LINEAR:
            return None if name == "fold" and moves.folds_apart(call) else self._linear_mixer(call, x, ids)
        if name == "min" or (name in CONVOLUTIONS and is_pointwise(call)):
            return None
        goes = self._is_constant(ids, [1]) or self._stands_beside(call, ids)
        return self._convolved(call, x, ids) if goes else None

    def _largest(self, call: TorchCall, x: Tensor, ids: Ids) -> Any:
        """The largest of several tokens, feature by feature."""

        def largest(new: Tensor) -> Tensor:
            return call.again(x, new)[0]

        made = self._merged(call, largest, call.result[0], x, ids)
        return None if made is None else type(call.result)((made, call.result[1]))

    def _linear_mixer(self, call: TorchCall, x: Tensor, ids: Ids) -> Tensor | None:
        """Of a linear function, whose structure is found token by token."""
        if call.name == "grid_sample":
            return self._sampled(call, x, ids)
        if call.name.startswith("fft"):
            fresh, terms_of = self._fresh(ids), linear_terms
        else:
            fresh, _ = self._new_places(call.result, x, ids)
            placewise = x.dim() in PLACEWISE.get(call.name, ()) and self._is_constant(ids, [1])
            terms_of = placewise_terms if placewise else linear_terms
        return self._mixer(call.result, x, ids, fresh, terms_of(partial(call.again, x), x, fresh, ids))

    def _sampled(self, call: TorchCall, x: Tensor, ids: Ids) -> Tensor | None:
        """Deformable attention: each query looks at points of its own; what it finds there is of that query."""
        given = call.bound("input", "grid", "mode", "padding_mode", "align_corners")
        grid, mode, pads = given["grid"], given.get("mode", "bilinear"), given.get("padding_mode", "zeros")
        asks = self.known(grid)
        if not isinstance(asks, Tensor) or x.dim() != 4 or mode != "bilinear" or pads == "reflection":
            return None
        rows = asks.expand(grid.shape)[..., 0].unsqueeze(1).expand(call.result.shape)
        terms = sampled_terms(x, grid, pads == "border", bool(given.get("align_corners")), rows, ids)
        return self._mixer(call.result, x, ids, rows, terms, asks=self.tag(grid).sources)

    def _stands_beside(self, call: TorchCall, ids: Ids) -> bool:
        """Whether all channels of a convolution go together, some of them of other tokens than others."""
        if call.name not in CONVOLUTIONS:
            return False
        weight = call.bound("input", "weight")["weight"]
        parts = [all_of(ids[:, own]).unique() for own in alike(ids)]
        return bool(weight.shape[1] == ids.shape[1]) and len(torch.cat(parts).unique()) == sum(map(len, parts))

    def _convolved(self, call: TorchCall, x: Tensor, ids: Ids) -> Tensor:
        """Of a convolution or a pooling."""
        fresh, heads = self._new_places(call.result, x, ids)
        if call.name in POOLS:
            windows, count = pooling(call, x)
            fresh = self._of_some(fresh, windows, ids)
            return self._mixer(call.result, x, ids, fresh, pool_terms(x, call.result, count, windows, fresh, ids))
        given = call.bound("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        windows = conv_windows(x, **{k: given[k] for k in ("weight", "stride", "padding", "dilation") if k in given})
        fresh = self._of_some(fresh, windows, ids)
        if self._is_constant(ids, [1]):
            terms = conv_terms(x, given["weight"], given.get("groups", 1), windows, fresh, ids, heads)
        else:
            terms = beside_terms(x, given["weight"], windows, fresh, ids)
        return self._mixer(call.result, x, ids, fresh, terms)

    def _new_places(self, result: Tensor, x: Tensor, ids: Ids) -> tuple[Ids, int]:
        """New tokens at a result's places, the same for all heads that are folded into the batch; and how many these are."""
        which, lead = self._of_tokens(ids)
        places = range(2, result.dim())  # an axis of features may stand among those of places
        features = [a for a in places if x.shape[a] == result.shape[a] and self._is_constant(ids, [a])]
        shape = (len(lead), 1, *(1 if a in features else result.shape[a] for a in places))
        fresh = self.numbers.of_samples(lead, shape, "mixer")
        return fresh[which].expand(result.shape), len(which) // len(lead)

    def _of_some(self, fresh: Ids, windows: Windows, ids: Ids) -> Ids:
        """The new tokens, where there are any in their windows; what is made of padding alone is padding."""
        read = ids[:, :1] if self._is_constant(ids, [1]) else ids.amax(1, keepdim=True)
        if bool((read >= 0).all()):
            return fresh
        return fresh.masked_fill((windows.of(read, NOTHING) < 0).all(-1), NOTHING)

    def _merged(
        self, call: TorchCall, run: Callable[[Tensor], Tensor], result: Tensor, x: Tensor, ids: Ids
    ) -> Tensor | None:
        """A mean, sum or maximum over tokens, as ``run`` makes it of x; None: over the features of one token."""
        axes = call.reduced_axes(x)
        if self._is_constant(ids, axes):
            return None
        kept = ids.amax(axes, keepdim=True)
        features = [a for a in range(ids.dim()) if a not in axes and self._is_constant(ids, [a])]
        marks = self.numbers.first(moves.reduced(kept, features, keep=True))
        if len(marks[marks >= 0].unique()) < int((marks >= 0).sum()):
            return None
        fresh = self._fresh(marks).expand(kept.shape)
        out = fresh if result.dim() == x.dim() else moves.reduced(fresh, axes, keep=False)
        into = fresh.expand(x.shape)
        return self._mixer(result, x, ids, out.expand(result.shape), merge_terms(run, x, into, ids), into=into)
