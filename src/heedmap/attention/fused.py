"""A call of torch's fused attention."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from heedmap.attention import operations as ops


class FusedCall(NamedTuple):
    """The arguments of ``torch.nn.functional.scaled_dot_product_attention``, by its names."""

    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    def run(self) -> Tensor:
        """Its result, (…, rows, features), without dropout."""
        keywords: dict[str, Any] = {"scale": self.scale} | ({"enable_gqa": True} if self.enable_gqa else {})
        return ops.SDPA(self.query, self.key, self.value, self.attn_mask, 0.0, self.is_causal, **keywords)

    @property
    def factor(self) -> float:
        """What q kᵀ is multiplied by: ``scale``, or 1/√features."""
        return self.query.shape[-1] ** -0.5 if self.scale is None else self.scale
