"""Attention in blocks (windows, chunks, frames, choices), or in one: which tokens its rows are, and how it is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from heedmap.attention.attention import Attention, Block, HeadRows, versions
from heedmap.attention.companions import Lost
from heedmap.attention.mixers import MixingTape
from heedmap.attention.numbers import NOTHING, Ids, distinct, rows_reached
from heedmap.attention.operations import FusedCall
from heedmap.attention.tags import Source, Tag

Rows = Int[Tensor, "blocks rows"]


class BlockLayout(NamedTuple):
    """How a tensor of the model becomes (blocks, heads, rows, features).

    Attributes:
        axes: permutation to (…, rows, features).
        order: (blocks, heads), which of the leading entries is which head of which block; empty of an attention that is not
            laid out in blocks yet.
    """

    axes: tuple[int, ...]
    order: Int[Tensor, "blocks heads"] = torch.zeros(0, 0, dtype=torch.int64)

    def apply(self, tensor: Tensor) -> HeadRows:
        """``tensor`` as (blocks, heads, rows, features)."""
        return laid(tensor.permute(self.axes), self.order)


def laid(tensor: Tensor, order: Int[Tensor, "blocks heads"]) -> HeadRows:
    """(…, rows, features) as (blocks, heads, rows, features); no copy where it is so ordered."""
    blocks, heads = order.shape
    is_ordered = torch.equal(order, torch.arange(order.numel()).reshape(order.shape))
    if is_ordered and tensor.shape[:-2].numel() == order.numel():
        return tensor.reshape(blocks, heads, *tensor.shape[-2:])
    return tensor.reshape(-1, *tensor.shape[-2:])[order.to(tensor.device)]


@dataclass(eq=False)
class BlockAttention(Attention):
    """An attention in blocks: all tensors are (blocks, heads, rows, …).

    Attributes:
        query_ids, key_ids: the tokens' numbers, (blocks, rows); -1: none.
        query_rows, key_rows: sample · tokens + row of the stream, (blocks, rows); -1: none. Known when the streams are.
        sizes: batch size, tokens of the stream that asks, and of the one that is asked.
        ids: companion of ``out``.
        beside: whether other keys of the same call are another attention, with the same output.
        call: how many attentions the model has called before.
        renews: whether its rows are new tokens where they are added to none: there is no residual connection around it.
        parted: whether its rows are tokens of their own in each block: copies that go separate ways.
        row_ids: of the rows of ``out``, (blocks, rows), where these are no queries that began: a mixer made them, or it renews or
            parts them.
        share: of all heads of a query those in a block: less than 1 where some heads hear other tokens than the
            others; (blocks, rows) where these have calls of their own.
    """

    layout: BlockLayout  # type: ignore[assignment]
    query_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    key_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    query_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    key_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    sizes: tuple[int, int, int] = (0, 0, 0)
    ids: Ids = field(default_factory=lambda: torch.zeros(0))
    row_ids: Ids | None = None
    beside: bool = False
    call: int = 0
    renews: bool = False
    parted: bool = False
    share: float | Tensor = 1.0

    @property
    def may_renew(self) -> bool:
        """Whether its rows could be new tokens in the next run."""
        return not self.renews and not self.beside

    @property
    def columns(self) -> slice:
        """Every column; those that are no token have no row."""
        return slice(None)

    @property
    def block_queries(self) -> int:
        """Rows of a block."""
        return self._asks.shape[2]

    @property
    def queries(self) -> int:
        """Number of query tokens."""
        return self.sizes[1]

    @property
    def batch(self) -> int:
        """Batch size."""
        return self.sizes[0]

    @property
    def cells(self) -> int:
        """Numbers of one head of A, over all blocks."""
        return self.query_rows.numel() * self.key_rows.shape[1]

    def probabilities(self, rows: slice = slice(None)) -> Block:
        """See :meth:`Attention.probabilities`; of attention without softmax the products."""
        if self.form != "linear" or self.query is None or self.key is None:
            return super().probabilities(rows)
        query, key = (t.detach().to(self.dtype) for t in (self.query[:, :, rows], self.key))
        return query @ key.transpose(-1, -2)

    def touched(self, gradient: Tensor) -> Tensor:
        """See :meth:`Attention.touched`."""
        reached = (self.layout.apply(gradient) != 0).any(-1).any(1)
        return rows_reached(self.query_rows, reached, self.batch, self.queries)


def grouped(query_ids: Ids, key_ids: Ids) -> Int[Tensor, "blocks heads"] | None:
    """The heads of each block: leading entries with the same queries and the same keys; None where their numbers differ.

    Args:
        query_ids: (entries, queries).
        key_ids: (entries, keys).
    """
    real = ((query_ids >= 0).any(1) & (key_ids >= 0).any(1)).nonzero()[:, 0]
    if not len(real):
        return None
    pairs = torch.cat([query_ids, key_ids], 1)[real]
    block = distinct(pairs)[1]
    counts = block.bincount()
    heads = int(counts[0])
    if bool((counts != heads).any()):
        return None
    order = real[block.argsort(stable=True)].reshape(-1, heads)
    return order[order[:, 0].argsort()]


def share_of_heads(query_ids: Ids, order: Int[Tensor, "blocks heads"], lead: tuple[int, ...]) -> float:
    """Which part of the heads of a query a block has, by which the mean over its heads counts in the mean over all.

    Along the axes on which the heads of one block lie there are no others than heads. Where a block has one head, or heads lie on
    the axis of the samples, those entries are heads of the same query that have the same rows of queries.

    Args:
        query_ids: (entries, queries).
        order: of :func:`grouped`.
        lead: sizes of the leading axes, whose product is the number of entries.
    """
    heads = order.shape[1]
    places = torch.stack(torch.unravel_index(order, lead), -1)
    axes = (places != places[:, :1]).any(1).any(0).nonzero()[:, 0].tolist()
    if axes and 0 not in axes:
        return heads / math.prod(lead[axis] for axis in axes)
    same = (query_ids[order.flatten()] == query_ids[order[0, 0]]).all(1)
    return heads / int(same.sum())


def twice(ids: Ids) -> bool:
    """Whether a row has one number twice; (entries, rows)."""
    ordered = ids.sort(-1).values
    return bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any())


# -- the recorder -----------------------------------------------------------------------------------------------------


class AttendingTape(MixingTape):
    """A recorder that knows attention by the tokens of its rows and keys."""

    _attended = 0

    def _fused(self, call: FusedCall) -> Tensor:
        out, query, given = call.run(), call.query, call[:3]
        tags = [self.tag(t) for t in given]
        lost = next((k for t in given if isinstance(k := self.known(t), Lost)), None)
        if lost is not None:
            return self._lost(out, tags, lost)
        if query.is_nested or query.dim() < 3:
            return self._unfollowed(out, tags, "its tensors have no batch")
        sides = [(t, i.expand(t.shape)) for t, i in zip(given, self._sides(*given), strict=True) if i is not None]
        if len(sides) < len(given):
            return self._unfollowed(out, tags, "its queries, keys or values are of no token")
        if not all(self._is_constant(i, [i.dim() - 1]) for _, i in sides):
            return self._unfollowed(out, tags, "its rows are not of one token each")
        lead = out.shape[:-2]
        queries, _, keys = (_repeated(i[..., :1], lead)[..., 0] for _, i in sides)
        query_rows, key_rows, value_rows = (_repeated(t, lead) for t in given)
        attention = BlockAttention(
            index=len(self.attentions),
            form=self._form,
            out=out,
            layout=BlockLayout(tuple(range(out.dim()))),
            value=value_rows,
            keys=0,
            query=query_rows,
            key=key_rows,
            mask=_for_each(call.attn_mask, lead),
            causal=call.is_causal,
            scale=call.factor,
            query_ids=queries,
            key_ids=keys,
        )
        return self._attend(attention, tags, sides)

    def _sides(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Ids | None, Ids | None, Ids | None]:
        """The companions of all three; of learned queries new numbers, of what is no token that of what stands beside it."""
        asks, asked, values = (self.ids(t) for t in (query, key, value))
        if asked is None and values is None and asks is None and key.shape[-2] == query.shape[-2]:
            asked = asks = self._learned_rows(query)
        asks = self._learned_rows(query) if asks is None else asks
        return asks, values if asked is None else asked, asked if values is None else values

    def _learned_rows(self, query: Tensor) -> Ids | None:
        if query.shape[0] != self.batch:
            return None
        shape = (self.batch, *[1] * (query.dim() - 3), query.shape[-2], 1)
        return self.numbers.of_samples(torch.arange(self.batch), shape, "learned").expand(query.shape)

    def _attend(self, asked: BlockAttention, tags: Sequence[Tag], sides: Sequence[tuple[Tensor, Ids]]) -> Tensor:
        """Records an attention in blocks.

        Args:
            asked: as the model computed it: of all that will be (blocks, heads, …) the leading axes are those of the model.
            tags: of what asks first, of the values last.
            sides: what it reads, each with its companion, for the proof.
        """
        queries, keys = (self.numbers.first(i.reshape(-1, i.shape[-1])) for i in (asked.query_ids, asked.key_ids))
        order = grouped(queries, keys)
        problem = self._misplaced(queries, keys)
        if twice(queries):
            self._share(asked.query_ids)
            if self.cut:
                self._look_for_copies(asked, queries)
        if problem or order is None:
            return self._unfollowed(asked.out, tags, problem or "it has not the same heads for all tokens")
        self.numbers.use(queries)
        self.numbers.use(keys)
        call, self._attended = self._attended, self._attended + 1
        asked.query_sources, asked.value_sources = tags[0].sources, tags[-1].sources
        asked.share = share_of_heads(queries, order, asked.query_ids.shape[:-1])
        groups = [_in_blocks(asked, order, group) for group in self._groups(queries, keys)]
        if self.cut and bool((keys < 0).any()):
            self.padded[len(self.attentions)] = asked.out
        attention = groups[0]
        given = self._record(attention)
        attention.read += versions([t for t, _ in sides] + [asked.mask, asked.probs])
        renews, parts = call in self.begun.renewed and len(groups) == 1, call in self.begun.parted
        made = self._new_rows(order, queries, renews, parts)
        rows = asked.query_ids if made is None else made.reshape(asked.query_ids.shape)
        axes = asked.layout.axes
        inverse = [axes.index(i) for i in range(len(axes))]
        ids = rows.unsqueeze(-1).expand(*rows.shape, asked.out.shape[axes[-1]]).permute(inverse)
        for beside in groups[1:]:
            self._record_beside(attention, beside, given)
        for group in groups:
            self.reads[group.index], group.ids, group.beside = list(sides), ids, len(groups) > 1
            group.call, group.renews, group.parted = call, renews, parts
            group.row_ids = None if made is None else made[order[:, 0]]
        self.set_known(given, ids)
        return given

    def _look_for_copies(self, asked: BlockAttention, queries: Ids) -> None:
        """Note where those of a token that asks in several rows, (entries, rows), were made."""
        if asked.query is not None:
            self.copied.look(asked.query, [], queries)
        elif asked.probs is not None:
            self.copied.look(asked.probs, asked.scored or (), queries)

    def _new_rows(self, order: Tensor, queries: Ids, renews: bool, parts: bool) -> Ids | None:
        """The tokens that an attention's rows are, in the shape of ``queries``, (entries, rows); None: those that ask."""
        made = None
        if renews or bool(self.numbers.are_made(queries[queries >= 0], "mixer").any()):
            made = self._fresh(queries)
            if renews:
                self.numbers.renew(made, queries)
        return self._apart_in(order, queries) if parts else made

    def _apart_in(self, order: Tensor, queries: Ids) -> Ids:
        """A new number for each token, (entries, rows), in each of its blocks."""
        block = torch.zeros(len(queries), 1, dtype=torch.int64)
        block[order.flatten()] = torch.arange(len(order)).repeat_interleave(order.shape[1])[:, None]
        code = block * len(self.numbers.owner) + queries
        return self._fresh(code.masked_fill(queries < 0, NOTHING), self.numbers.of_sample(queries))

    def _groups(self, queries: Ids, keys: Ids) -> list[Ids]:
        """The keys; of tokens that ask themselves and, besides, others of another beginning that ask nothing, each kind alone."""
        kinds = self.numbers.space[queries[queries >= 0]].unique()
        own = torch.isin(self.numbers.space[keys.clamp(min=0)], kinds) & (keys >= 0)
        made = [self.numbers.are_made(keys.clamp(min=0), how) & (keys >= 0) for how in ("leaf", "mixer")]
        others = (made[0] | made[1]) & ~own
        if not bool(others.any()) or not bool((own & (made[0] | made[1])).any()):
            return [keys]
        return [keys.masked_fill(others, NOTHING), keys.masked_fill(~others, NOTHING)]

    def _record_beside(self, first: BlockAttention, attention: BlockAttention, given: Tensor) -> None:
        """One more attention of which the output is the first one's."""
        attention.index, attention.out, attention.place = len(self.attentions), first.out, first.place
        self.sources.append(Source("attention", attention.form, attention=attention.index))
        self.attentions.append(attention)
        self.set_tag(given, Tag(self.tag(given).sources | {len(self.sources) - 1}))

    def _misplaced(self, queries: Ids, keys: Ids) -> str:
        """Why tokens in these rows and columns, (entries, rows), are not followed; empty where they are."""
        samples = torch.cat([self.numbers.of_sample(queries), self.numbers.of_sample(keys)], 1)
        if not self._is_of_one_sample(samples):
            return "tokens of several samples meet in it; explain them one by one"
        if twice(queries):
            return "a token asks in it twice (tokens that go on as copies of themselves)"
        return ""

    def _is_of_one_sample(self, samples: Tensor) -> bool:
        """Whether the tokens of each entry, (entries, tokens), are of one sample; what is not known is so made."""
        same = (samples == samples.amax(1, keepdim=True)) | (samples < 0)
        return all(self.numbers.unite(entry) for entry in distinct(samples[~same.all(1)])[0])

    def _lost(self, out: Tensor, tags: list[Tag], lost: Lost) -> Tensor:
        return self._unfollowed(out, tags, f"its tokens were mixed before by {lost}")


def _in_blocks(asked: BlockAttention, order: Int[Tensor, "blocks heads"], keys: Ids) -> BlockAttention:
    """The attention to these keys, (entries, columns), with (blocks, heads, …) by ``order``."""
    optional = {"query": asked.query, "key": asked.key, "mask": asked.mask, "probs": asked.probs}
    return replace(
        asked,
        layout=BlockLayout(asked.layout.axes, order),
        value=laid(asked.value, order),
        query_ids=asked.query_ids.reshape(-1, asked.query_ids.shape[-1])[order[:, 0]],
        key_ids=keys[order[:, 0]],
        **{name: laid(t, order) for name, t in optional.items() if t is not None},  # type: ignore[arg-type]
    )


def _repeated(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """With the leading axes of the queries: fewer heads of keys are heads of several queries."""
    if tensor.dim() - 2 == len(lead) and tensor.dim() > 2 and tensor.shape[-3] not in (1, lead[-1]):
        tensor = tensor.repeat_interleave(lead[-1] // tensor.shape[-3], -3)
    return tensor.expand(*lead, *tensor.shape[-2:])


def _for_each(mask: Tensor | None, lead: tuple[int, ...]) -> Tensor | None:
    """A mask with the leading axes of the queries."""
    return mask if mask is None or mask.dim() < 2 else mask.expand(*lead, *mask.shape[-2:])
