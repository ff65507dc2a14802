"""The recorder's part for attention, in blocks or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heedmap.attention import blocks
from heedmap.attention import operations as ops
from heedmap.attention.blocks import BlockAttention, BlockLayout
from heedmap.attention.companions import Lost
from heedmap.attention.mixing import MixingTape
from heedmap.attention.numbers import Ids
from heedmap.attention.tags import Tag


class AttendingTape(MixingTape):
    """A recorder that knows attention by the tokens of its rows and keys."""

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        keywords: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa} if enable_gqa else {"scale": scale}
        out = ops.SDPA(query, key, value, attn_mask, 0.0, is_causal, **keywords)
        tags = [self.tag(t) for t in (query, key, value)]
        lost = next((k for t in (query, key, value) if isinstance(k := self.known(t), Lost)), None)
        if lost is not None:
            return self._lost(out, tags, lost)
        found = [self.ids(t) for t in (query, key, value)]
        if query.is_nested or query.dim() < 3:
            return self._unfollowed(out, tags, "its tensors have no batch")
        if all(i is None for i in found):
            learned = self._learned_rows(query)
            found = [
                learned,
                learned if key.shape[-2] == query.shape[-2] else None,
                learned if key.shape[-2] == query.shape[-2] else None,
            ]
        elif found[0] is None:
            found[0] = self._learned_rows(query)
        found[1] = found[2] if found[1] is None else found[1]
        found[2] = found[1] if found[2] is None else found[2]
        if any(i is None for i in found):
            return self._unfollowed(out, tags, "its queries, keys or values are of no token")
        sides = [(t, i) for t, i in zip((query, key, value), found, strict=True)]
        lead = out.shape[:-2]
        rows = []
        for t, i in sides:
            i = i.expand(t.shape)  # type: ignore[union-attr]
            if not self._is_constant(i, [i.dim() - 1]):
                return self._unfollowed(out, tags, "its rows are not of one token each")
            rows.append(_repeated(i[..., :1], lead)[..., 0])
        q_ids, _, v_ids = rows
        q, k, v = (_repeated(t, lead) for t in (query, key, value))
        mask = (
            None
            if attn_mask is None
            else attn_mask.expand(*lead, *attn_mask.shape[-2:])
            if attn_mask.dim() > 1
            else attn_mask
        )
        axes = tuple(range(out.dim()))
        return self._attend(
            self._form, out, axes, q_ids, v_ids, v, tags, sides, True, query=q, key=k, mask=mask, causal=is_causal,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
        )  # fmt: skip

    def _learned_rows(self, query: Tensor) -> Ids | None:
        if query.shape[0] != self.batch:
            return None
        lead = torch.arange(self.batch).reshape(-1, *[1] * (query.dim() - 1))
        shape = (self.batch, *[1] * (query.dim() - 3), query.shape[-2], 1)
        return self.numbers.new(lead.expand(shape), "learned").expand(query.shape)

    def _attend(
        self,
        form: str,
        out: Tensor,
        axes: tuple[int, ...],
        q_ids: Ids,
        k_ids: Ids,
        value: Tensor,
        tags: list[Tag],
        sides: Any,
        plain: bool,
        probs: Tensor | None = None,
        query: Tensor | None = None,
        key: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        scale: float = 1.0,
    ) -> Tensor:
        if not plain:
            return self._unfollowed(out, tags, "it has one query, or one feature, without an axis")
        q_flat, k_flat = q_ids.reshape(-1, q_ids.shape[-1]), k_ids.reshape(-1, k_ids.shape[-1])
        samples = torch.cat([self.numbers.of_sample(q_flat), self.numbers.of_sample(k_flat)], 1)
        if not self._is_of_one_sample(samples):
            return self._unfollowed(out, tags, "tokens of several samples meet in it; explain them one by one")
        q_first, k_first = self.numbers.first(q_flat), self.numbers.first(k_flat)
        self.numbers.use(q_first)
        self.numbers.use(k_first)
        if blocks.twice(q_first):
            return self._unfollowed(out, tags, "a token asks in it twice (tokens that go on as copies of themselves)")
        order = blocks.grouped(q_first, k_first)
        if order is None:
            return self._unfollowed(out, tags, "it has not the same heads for all tokens")

        def laid(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.reshape(-1, *t.shape[-2:])[order.to(t.device)]

        attention = BlockAttention(
            index=len(self.attentions),
            form=form,
            out=out,
            layout=BlockLayout(axes, order),  # type: ignore[arg-type]
            value=laid(value),  # type: ignore[arg-type]
            keys=0,
            query=laid(query),
            key=laid(key),
            mask=laid(mask),
            causal=causal,
            scale=scale,
            probs=laid(probs),
            query_sources=frozenset().union(*(t.sources for t in tags[:1])),
            value_sources=tags[-1].sources,
            query_ids=q_flat[order[:, 0]],
            key_ids=k_flat[order[:, 0]],
        )
        self.reads[attention.index] = list(sides)
        given = self._record(attention)
        inverse = [axes.index(i) for i in range(len(axes))]
        if any(self.numbers.made[int(s)] == "mixer" for s in self.numbers.space[q_first[q_first >= 0]].unique()):
            q_ids = self._fresh(q_first, self.numbers.of_sample(q_first)).reshape(q_ids.shape)
            attention.row_ids = q_ids.reshape(q_flat.shape)[order[:, 0]]
        attention.ids = q_ids.unsqueeze(-1).expand(*q_ids.shape, out.shape[axes[-1]]).permute(inverse)
        self.set_known(given, attention.ids)
        return given

    def _is_of_one_sample(self, samples: Tensor) -> bool:
        """Whether the tokens of each block, (blocks, tokens), are of one sample; what is not known is so made."""
        same = (samples == samples.amax(1, keepdim=True)) | (samples < 0)
        return all(self.numbers.unite(block) for block in samples[~same.all(1)].unique(dim=0))

    def _lost(self, out: Tensor, tags: list[Tag], lost: Lost) -> Tensor:
        return self._unfollowed(out, tags, f"its tokens were mixed before by {lost.function}, at {lost.place}")


def _repeated(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """With the leading axes of the queries: fewer heads of keys are heads of several queries."""
    if tensor.dim() - 2 == len(lead) and tensor.dim() > 2 and tensor.shape[-3] not in (1, lead[-1]):
        tensor = tensor.repeat_interleave(lead[-1] // tensor.shape[-3], -3)
    return tensor.expand(*lead, *tensor.shape[-2:])
