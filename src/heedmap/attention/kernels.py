"""A gradient for the quantised kernels that have none.

bitsandbytes packs 4-bit weights anew when a model first answers without gradients on a CPU, for a kernel that autograd does
not know. The kernel is linear in its first argument, so its weights are read from it, as it computes with them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LINEAR = frozenset(["bitsandbytes::gemv_4bit"])


def lacks_gradient(func: Any) -> bool:
    """Whether ``func`` is a kernel, linear in its first argument, that autograd takes for a constant."""
    return isinstance(func, torch._ops.OpOverload) and func._schema.name in _LINEAR


class Linear(torch.autograd.Function):
    """``Linear.apply(func, x, *rest)`` is ``func(x, *rest)``, (…, in) → (…, out), with the gradient of x."""

    @staticmethod
    def forward(ctx: Any, func: Any, x: Tensor, *rest: Any) -> Tensor:
        """Run the kernel; what it returns may be a view, which a model then writes to."""
        ctx.func, ctx.rest, ctx.like = func, rest, x.new_empty(0)
        ctx.features = x.shape[-1]
        return func(x, *rest).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Gradient @ W, with W read as the kernel's answers on the identity."""
        identity = torch.eye(ctx.features, dtype=ctx.like.dtype, device=ctx.like.device)
        return None, gradient @ ctx.func(identity, *ctx.rest).T, *(None for _ in ctx.rest)
