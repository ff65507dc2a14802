"""The recorder's part for attention, in blocks or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import blocks
from heedmap.attention.attention import versions
from heedmap.attention.blocks import BlockAttention, BlockLayout
from heedmap.attention.companions import Lost
from heedmap.attention.mixing import MixingTape
from heedmap.attention.numbers import NOTHING, Ids, distinct
from heedmap.attention.operations import FusedCall
from heedmap.attention.tags import Source, Tag


@dataclass(eq=False)
class Asked:
    """An attention as the model computed it, its leading axes not yet blocks and heads.

    Attributes:
        form: see :class:`~heedmap.attention.attention.Attention`; so are ``mask``, ``causal`` and ``scale``.
        out: what it gave.
        axes: the permutation of ``out`` to (…, rows, features).
        queries: the tokens that ask, (…, rows).
        keys: the tokens that are asked, (…, columns).
        value: (…, columns, features).
        tags: of what asks first, of the values last.
        sides: what it reads, each with its companion, for the proof.
        query, key: (…, rows, features), (…, columns, features); None where ``probs`` is given, A itself.
        scored: what ``probs`` is a product of.
    """

    form: str
    out: Tensor
    axes: tuple[int, ...]
    queries: Ids
    keys: Ids
    value: Tensor
    tags: list[Tag]
    sides: Sequence[tuple[Tensor, Ids]]
    query: Tensor | None = None
    key: Tensor | None = None
    probs: Tensor | None = None
    scored: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    causal: bool = False
    scale: float = 1.0


class AttendingTape(MixingTape):
    """A recorder that knows attention by the tokens of its rows and keys.

    Attributes:
        renewed: the attentions, by the number of calls before them, whose rows are new tokens: they have no residual connection.
        parted: those from which on copies of tokens are tokens of their own; see :mod:`~heedmap.attention.parting`.
    """

    renewed: frozenset[int] = frozenset()
    parted: frozenset[int] = frozenset()
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
        return self._attend(
            Asked(
                form=self._form,
                out=out,
                axes=tuple(range(out.dim())),
                queries=queries,
                keys=keys,
                value=value_rows,
                tags=tags,
                sides=sides,
                query=query_rows,
                key=key_rows,
                mask=_for_each(call.attn_mask, lead),
                causal=call.is_causal,
                scale=call.factor,
            )
        )

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
        lead = torch.arange(self.batch).reshape(-1, *[1] * (query.dim() - 1))
        shape = (self.batch, *[1] * (query.dim() - 3), query.shape[-2], 1)
        return self.numbers.new(lead.expand(shape), "learned").expand(query.shape)

    def _attend(self, asked: Asked) -> Tensor:
        """Records it in blocks."""
        queries, keys = (self.numbers.first(i.reshape(-1, i.shape[-1])) for i in (asked.queries, asked.keys))
        order = blocks.grouped(queries, keys)
        problem = self._misplaced(queries, keys)
        if blocks.twice(queries):
            self._share(asked.queries)
            if self.cut:
                self._look_for_copies(asked, queries)
        if problem or order is None:
            return self._unfollowed(asked.out, asked.tags, problem or "it has not the same heads for all tokens")
        self.numbers.use(queries)
        self.numbers.use(keys)
        call, self._attended = self._attended, self._attended + 1
        share = blocks.share_of_heads(queries, order, asked.queries.shape[:-1])
        groups = [self._in_blocks(asked, order, group, share) for group in self._groups(queries, keys)]
        if self.cut and bool((keys < 0).any()):
            self.padded[len(self.attentions)] = asked.out
        attention = groups[0]
        given = self._record(attention)
        attention.read += versions([t for t, _ in asked.sides] + [asked.mask, asked.probs])
        rows = asked.queries
        renews = call in self.renewed and len(groups) == 1
        if renews or bool(self.numbers.are_made(queries[queries >= 0], "mixer").any()):
            rows = self._fresh(queries, self.numbers.of_sample(queries)).reshape(rows.shape)
            if renews:
                self.numbers.renew(rows.reshape(queries.shape), queries)
        if call in self.parted:
            rows = self._apart_in(order, queries).reshape(rows.shape)
        inverse = [asked.axes.index(i) for i in range(len(asked.axes))]
        ids = rows.unsqueeze(-1).expand(*rows.shape, asked.out.shape[asked.axes[-1]]).permute(inverse)
        for beside in groups[1:]:
            self._record_beside(attention, beside, given)
        for group in groups:
            self.reads[group.index], group.ids, group.beside = list(asked.sides), ids, len(groups) > 1
            group.call, group.renews, group.parted = call, renews, call in self.parted
            group.row_ids = None if rows is asked.queries else rows.reshape(queries.shape)[order[:, 0]]
        self.set_known(given, ids)
        return given

    def _look_for_copies(self, asked: Asked, queries: Ids) -> None:
        """Note where those of a token that asks in several rows, (entries, rows), were made."""
        if asked.query is not None:
            self.copied.look(asked.query, [], queries)
        elif asked.probs is not None:
            self.copied.look(asked.probs, asked.scored, queries)

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
        if blocks.twice(queries):
            return "a token asks in it twice (tokens that go on as copies of themselves)"
        return ""

    def _is_of_one_sample(self, samples: Tensor) -> bool:
        """Whether the tokens of each entry, (entries, tokens), are of one sample; what is not known is so made."""
        same = (samples == samples.amax(1, keepdim=True)) | (samples < 0)
        return all(self.numbers.unite(entry) for entry in distinct(samples[~same.all(1)])[0])

    def _in_blocks(self, asked: Asked, order: Tensor, keys: Ids, share: float) -> BlockAttention:
        """The attention to these keys, (entries, columns), with (blocks, heads, …) by ``order``."""

        queries = asked.queries.reshape(-1, asked.queries.shape[-1])[order[:, 0]]
        return BlockAttention(
            index=len(self.attentions),
            form=asked.form,
            out=asked.out,
            layout=BlockLayout(asked.axes, order),  # type: ignore[arg-type]
            value=blocks.laid(asked.value, order),
            keys=0,
            query=_laid(asked.query, order),
            key=_laid(asked.key, order),
            mask=None if asked.mask is None else blocks.laid(asked.mask, order),
            causal=asked.causal,
            scale=asked.scale,
            probs=_laid(asked.probs, order),
            scored=asked.scored or None,
            query_sources=asked.tags[0].sources,
            value_sources=asked.tags[-1].sources,
            query_ids=queries,
            key_ids=keys[order[:, 0]],
            share=share,
        )

    def _lost(self, out: Tensor, tags: list[Tag], lost: Lost) -> Tensor:
        return self._unfollowed(out, tags, f"its tokens were mixed before by {lost}")


def _laid(tensor: Tensor | None, order: Tensor) -> Any:
    return None if tensor is None else blocks.laid(tensor, order)


def _repeated(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """With the leading axes of the queries: fewer heads of keys are heads of several queries."""
    if tensor.dim() - 2 == len(lead) and tensor.dim() > 2 and tensor.shape[-3] not in (1, lead[-1]):
        tensor = tensor.repeat_interleave(lead[-1] // tensor.shape[-3], -3)
    return tensor.expand(*lead, *tensor.shape[-2:])


def _for_each(mask: Tensor | None, lead: tuple[int, ...]) -> Tensor | None:
    """A mask with the leading axes of the queries."""
    return mask if mask is None or mask.dim() < 2 else mask.expand(*lead, *mask.shape[-2:])
