"""Equations 5–11 of Chefer, Gur and Wolf (ICCV 2021, arXiv 2103.15679) as pure functions.

Superscripts are streams, as in the paper: s asks, q is asked. All functions work on batches, in the dtype they are given.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Cam = Float[Tensor, "batch s q"]
Square = Float[Tensor, "batch s s"]


def average_heads(probs: Float[Tensor, "batch heads s q"], gradient: Float[Tensor, "batch heads s q"]) -> Cam:
    """Eq. 5: Ā = E_h[(A ⊙ ∂y/∂A)⁺]; the positive part is taken before the mean over heads."""
    return (probs * gradient).clamp_(min=0).mean(1)


def self_attention(cam: Square, R_sx: Float[Tensor, "batch s x"]) -> Float[Tensor, "batch s x"]:
    """Eqs. 6 and 7: what self-attention adds to R^{sx}, for every x: Ā R^{sx}."""
    return cam @ R_sx


def normalize(R_ss: Square) -> Square:
    """Eqs. 8 and 9: R̄ = D⁻¹ (R − I) + I, D the row sums of R − I.

    Departure from the authors' code: a row of R − I that is all zero stays zero, where theirs divides 0 by 0.
    """
    identity = torch.eye(R_ss.shape[-1], dtype=R_ss.dtype, device=R_ss.device)
    rest = R_ss - identity
    return rest / guarded(rest.sum(-1, keepdim=True)) + identity


def guarded(sums: Tensor) -> Tensor:
    """Row sums to divide by: 1 where the sum is 0, so that a zero row stays zero."""
    return torch.where(sums == 0, torch.ones_like(sums), sums)


def cross_attention(
    cam: Cam,
    R_ss: Square,
    R_qq: Float[Tensor, "batch q q"],
    *,
    normalized: bool = True,
    self_in_rule_10: bool = True,
) -> Cam:
    """Eq. 10: what cross-attention adds to R^{sq}: (R̄^{ss})ᵀ Ā R̄^{qq}.

    Ablations of the paper: ``normalized=False`` uses R for R̄; ``self_in_rule_10=False`` adds Ā alone.
    """
    if not self_in_rule_10:
        return cam
    if normalized:
        R_ss, R_qq = normalize(R_ss), normalize(R_qq)
    return R_ss.transpose(-1, -2) @ cam @ R_qq


def cross_attention_back(cam: Cam, R_qx: Float[Tensor, "batch q x"]) -> Float[Tensor, "batch s x"]:
    """Eq. 11: what cross-attention adds to R^{sx}, for every x ≠ q: Ā R^{qx} (x = s is the paper's rule 11)."""
    return cam @ R_qx
