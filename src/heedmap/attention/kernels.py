"""Gradients for kernels that have none, or a wrong one.

bitsandbytes packs 4-bit weights anew when a model first answers without gradients on a CPU, for a kernel that autograd does
not know. The kernel is linear in its first argument, so its weights are read from it, as it computes with them.

The backward of torch's batch norm on a CPU reads the gradient of one sample in the layout of the sample: where one of the two was
transposed (tokens made a map, or a map made tokens) and the other was not, numbers change places.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LINEAR = frozenset(["bitsandbytes::gemv_4bit"])

_BATCH_NORMS = frozenset([F.batch_norm, torch.batch_norm, torch.native_batch_norm])


def lacks_gradient(func: Any) -> bool:
    """Whether ``func`` is a kernel, linear in its first argument, that autograd takes for a constant."""
    return isinstance(func, torch._ops.OpOverload) and func._schema.name in _LINEAR


def laid_out(func: Any, result: Any) -> None:
    """Sees to it that a batch norm gets the gradient of its result in the layout of the result."""
    if func in _BATCH_NORMS and isinstance(result, Tensor) and result.requires_grad:
        shape, strides = result.shape, result.stride()
        result.register_hook(lambda gradient: gradient.new_empty_strided(shape, strides).copy_(gradient))


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
