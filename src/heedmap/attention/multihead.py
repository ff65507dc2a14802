"""``F.multi_head_attention_forward`` taken apart: in-projection, scaled dot product, out-projection.

For a function mode it is one call; written out, its attention is seen like any other.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.places import here
from heedmap.errors import UnfollowedAttentionError

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


@dataclass
class Call:
    """One call of ``F.multi_head_attention_forward``; ``given`` holds its arguments by name."""

    given: dict[str, Any]

    @classmethod
    def bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The call with its defaults filled in."""
        bound = _SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
        call = cls(bound.arguments)
        if call.given["static_k"] is not None or call.given["static_v"] is not None:
            raise UnfollowedAttentionError(
                f"nn.MultiheadAttention is called with static_k or static_v at {here()}; their tokens cannot be traced; "
                "give keys and values as inputs instead"
            )
        return call

    @property
    def extra_keys(self) -> int:
        """Keys that are no tokens: bias_k and zero attention."""
        return int(self.given["bias_k"] is not None) + int(bool(self.given["add_zero_attn"]))

    @property
    def _batched(self) -> bool:
        return self.given["query"].dim() == 3

    def projected(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """q, k, v as (batch, heads, rows, features), and one additive mask or None."""
        query, key, value = self._in_projection()
        if self.given["bias_k"] is not None:
            key = torch.cat([key, self.given["bias_k"].expand(1, key.shape[1], -1)])
            value = torch.cat([value, self.given["bias_v"].expand(1, value.shape[1], -1)])
        heads = [self._split(t) for t in (query, key, value)]
        if self.given["add_zero_attn"]:
            heads[1:] = [F.pad(t, (0, 0, 0, 1)) for t in heads[1:]]
        return heads[0], heads[1], heads[2], self._mask(heads[0], heads[1])

    def _in_projection(self) -> list[Tensor]:
        given = self.given
        inputs = [given[n] if self._batched else given[n].unsqueeze(1) for n in ("query", "key", "value")]
        if given["use_separate_proj_weight"]:
            weights = [given[n] for n in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
        else:
            weights = list(given["in_proj_weight"].chunk(3))
        bias = given["in_proj_bias"]
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        return [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _split(self, tensor: Tensor) -> Tensor:
        rows, batch, _ = tensor.shape
        return tensor.view(rows, batch, self.given["num_heads"], -1).permute(1, 2, 0, 3)

    def _mask(self, query: Tensor, key: Tensor) -> Tensor | None:
        batch, heads = query.shape[:2]
        mask = _additive(self.given["attn_mask"], query.dtype)
        if mask is not None:
            mask = mask.view(batch, heads, *mask.shape[1:]) if mask.dim() == 3 else mask[None, None]
        padding = _additive(self.given["key_padding_mask"], query.dtype)
        if padding is not None:
            padding = padding.view(batch, 1, 1, -1)
            mask = padding if mask is None else mask + padding
        if mask is not None and self.extra_keys:
            mask = F.pad(mask, (0, self.extra_keys))
        return mask

    def finished(self, out: Tensor) -> Tensor:
        """The out-projection of o, in the layout of the query."""
        merged = out.permute(2, 0, 1, 3).flatten(2)
        result = F.linear(merged, self.given["out_proj_weight"], self.given["out_proj_bias"])
        return result if self._batched else result.squeeze(1)

    def weights(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor | None:
        """The attention weights that the caller asked for, or None."""
        if not self.given["need_weights"]:
            return None
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        if self.given["average_attn_weights"]:
            weights = weights.mean(1)
        return weights if self._batched else weights.squeeze(0)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf"))
