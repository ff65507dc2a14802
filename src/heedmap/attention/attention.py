"""One softmax attention, o = A v, as the model computed it: enough to rebuild any block of A and of its gradient."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

HeadRows = Float[Tensor, "batch heads rows features"]
Query = Float[Tensor, "batch heads queries depth"]
Key = Float[Tensor, "batch key_heads columns depth"]
Value = Float[Tensor, "batch key_heads columns features"]
Block = Float[Tensor, "batch heads queries keys"]


class RowTensor(NamedTuple):
    """A tensor that holds one row per token: what the mixing probe pulls back to earlier states."""

    tensor: Tensor
    batch_axis: int
    row_axis: int
    heads_first: bool = False

    def rows(self, start: int, count: int) -> RowTensor:
        """Some of the rows."""
        return self._replace(tensor=self.tensor.narrow(self.row_axis, start, count))


class Layout(NamedTuple):
    """How a tensor of the model becomes (batch, heads, rows, features): permute, then reshape.

    Where heads are folded into the batch, the heads of a sample are beside each other, or with ``heads_first`` the samples of a
    head.
    """

    axes: tuple[int, ...] | None
    batch: int
    heads_first: bool = False

    def apply(self, tensor: Tensor) -> HeadRows:
        """``tensor`` as (batch, heads, rows, features)."""
        if self.axes is not None:
            tensor = tensor.permute(self.axes)
        if tensor.dim() == 4:
            return tensor
        if self.heads_first:
            return tensor.reshape(-1, self.batch, *tensor.shape[-2:]).transpose(0, 1)
        return tensor.reshape(self.batch, -1, *tensor.shape[-2:])


@dataclass(frozen=True, eq=False)
class Place:
    """A line of the model's source, and the module that it runs in.

    Attributes:
        file, line, function: the innermost that are neither torch's nor heedmap's; torch's, of a model made of these alone.
        module: the innermost module whose method runs there.
        model: the outermost.
    """

    file: str
    line: int
    function: str
    module: weakref.ref[nn.Module] | None
    model: weakref.ref[nn.Module] | None

    def __str__(self) -> str:
        name = self._module()
        return f"{self.file}:{self.line} in {self.function}" + (f", module {name}" if name else "")

    def _module(self) -> str:
        module, model = (None if r is None else r() for r in (self.module, self.model))
        if module is None or model is None:
            return ""
        name = next((name for name, m in model.named_modules() if m is module), "")
        return f"{name!r} ({type(module).__name__})" if name else type(module).__name__


@dataclass(eq=False)
class Attention:
    """One recorded attention.

    Fused attention keeps q, k, mask and scale; attention written inline keeps A itself (``probs``).

    Attributes:
        index: place in the order of execution.
        form: ``"sdpa"``, ``"mha"`` or ``"softmax"``.
        out: o, the tensor that the model went on with, in the model's own layout.
        layout: how ``out`` and its gradient become (batch, heads, queries, features).
        value: v, (batch, key heads, columns, features); fewer heads than q where queries are grouped.
        query, key: of fused attention, (batch, heads, rows, features).
        mask: broadcastable to (batch, heads, queries, keys): boolean (True: may look) or additive.
        causal: whether query i may look only at keys 0…i.
        scale: factor of q kᵀ.
        probs: A of inline attention, (batch, heads, queries, keys).
        probs_layout: how the model's own A becomes ``probs``.
        scored: of inline attention, what was multiplied to q kᵀ; None: not seen.
        keys: number of real keys; further columns are no tokens: bias_k, zero attention, learned memory or prefixes.
        skip: how many of those come before the keys.
        query_sources, value_sources: what q and v were computed from, indices into the tape's sources.
        sides: the tensors of the probe, by ``"queries"``, ``"keys"``, ``"values"``; empty outside the probe.
        read: what A and its gradient are rebuilt from, each with its version at the call, to notice writes in place.
        version: of ``out`` when the model got it, to notice writes in place.
        place: where the model calls it.
        exact: whether any attention or mixer of the run is in float64.
    """

    index: int
    form: str
    out: Tensor
    layout: Layout
    value: Value
    keys: int
    query: Query | None = None
    key: Key | None = None
    mask: Tensor | None = None
    causal: bool = False
    scale: float = 1.0
    probs: Float[Tensor, "batch heads queries columns"] | None = None
    probs_layout: Layout | None = None
    scored: tuple[Tensor, ...] | None = None
    query_sources: frozenset[int] = frozenset()
    value_sources: frozenset[int] = frozenset()
    sides: dict[str, RowTensor] = field(default_factory=dict)
    given: Tensor | None = None
    version: int = 0
    read: tuple[tuple[Tensor, int], ...] = ()
    place: Place | None = None
    exact: bool = False
    skip: int = 0
    mixes = False
    """Whether it is no attention, but another sum over tokens."""

    @property
    def rebuilt_from(self) -> list[Tensor | None]:
        """What A and its gradient are rebuilt from."""
        return [self.query, self.key, self.value, self.mask, self.probs, *(self.scored or ())]

    @property
    def cells(self) -> int:
        """Numbers of one head of A, over the batch."""
        return self.batch * self.queries * self.keys

    @property
    def row(self) -> int:
        """Numbers of one head that one row takes while it is computed."""
        queries: int = getattr(self, "block_queries", self.queries)
        return self.cells // queries

    def touched(self, gradient: Tensor) -> Tensor:
        """Which tokens of o have a gradient, (batch, tokens); it is given in the layout of the model."""
        return (self.layout.apply(gradient) != 0).any(-1).any(1)

    @property
    def columns(self) -> slice:
        """Where the real keys are among all columns."""
        return slice(self.skip, self.skip + self.keys)

    @property
    def heads(self) -> int:
        """Number of heads of q."""
        return self._asks.shape[1]

    @property
    def queries(self) -> int:
        """Number of query tokens."""
        return self._asks.shape[2]

    @property
    def batch(self) -> int:
        """Batch size."""
        return self._asks.shape[0]

    @property
    def rows_of_heads(self) -> torch.Size:
        """(batch, heads, queries), or of blocks (blocks, heads, rows of a block)."""
        return self._asks.shape[:3]

    @property
    def _asks(self) -> Tensor:
        asks = self.probs if self.probs is not None else self.query
        assert asks is not None
        return asks

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which relevance is accumulated, the same for the whole run: float32, or float64 for a float64 model."""
        return torch.float64 if self.exact or self.value.dtype == torch.float64 else torch.float32

    def probabilities(self, rows: slice = slice(None)) -> Block:
        """A for a block of queries, without gradient, in the dtype of accumulation."""
        if self.probs is not None:
            return self.probs.detach()[:, :, rows, self.columns].to(self.dtype)
        assert self.query is not None
        assert self.key is not None
        query = self.query.detach()[:, :, rows].to(self.dtype) * self.scale
        scores = _grouped(query, self.key.detach().to(self.dtype))
        scores = self._masked(scores, rows)
        probs = torch.softmax(scores, dim=-1)
        if self.mask is not None:
            probs = probs.nan_to_num_(0.0)  # a query that may look nowhere
        return probs[..., self.columns]

    def _masked(self, scores: Block, rows: slice) -> Block:
        if self.causal:
            start = rows.start or 0
            queries = torch.arange(start, start + scores.shape[2], device=scores.device)
            hidden = torch.arange(scores.shape[3], device=scores.device) > queries[:, None]
            scores = scores.masked_fill_(hidden, float("-inf"))
        if self.mask is None:
            return scores
        mask = self.mask.detach()
        mask = mask[..., rows, :] if mask.shape[-2] != 1 else mask
        if mask.dtype == torch.bool:
            return scores.masked_fill_(~mask, float("-inf"))
        return scores.add_(mask.to(self.dtype))

    def gradient(self, out_gradient: HeadRows, rows: slice = slice(None)) -> Block:
        """∂y/∂A = (∂y/∂o) vᵀ for a block of queries; ``out_gradient`` is ∂y/∂o, (batch, heads, queries, features)."""
        value = self.value.detach()[:, :, self.columns].to(self.dtype)
        return _grouped(out_gradient[:, :, rows].to(self.dtype), value)


def versions(tensors: Iterable[Tensor | None]) -> tuple[tuple[Tensor, int], ...]:
    """Tensors, each with the number by which torch counts what is written to it."""
    return tuple((t, t._version) for t in tensors if t is not None and not t.is_inference())


def _grouped(
    left: Float[Tensor, "batch heads queries features"], right: Float[Tensor, "batch key_heads keys features"]
) -> Block:
    """left rightᵀ per head, where ``right`` may have fewer heads (grouped queries)."""
    if left.shape[1] == right.shape[1]:
        return left @ right.transpose(-1, -2)
    groups = left.unflatten(1, (right.shape[1], -1))
    return (groups @ right.unsqueeze(2).transpose(-1, -2)).flatten(1, 2)
