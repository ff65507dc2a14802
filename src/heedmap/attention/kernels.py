"""Gradients for kernels that have none, or a wrong one.

bitsandbytes packs 4-bit weights anew when a model first answers without gradients on a CPU, for a kernel that autograd does
not know. The kernel is linear in its first argument, so its weights are read from it, as it computes with them.

The backward of torch's batch norm on a CPU reads the gradient of one sample in the layout of the sample: where one of the two was
transposed (tokens made a map, or a map made tokens) and the other was not, numbers change places.

The backward of torch's linear map multiplies every row of the gradient by the weights, also where it is zero, as most rows are of
which a proof pulls half, or a target one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LINEAR = frozenset(["bitsandbytes::gemv_4bit"])

PAYS = 2**22
"""How many products a linear map has at least, for its rows of zeros to be looked for."""

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


def takes_rows(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this is a large linear map, with weights that are constants, for which :class:`RowByRow` may stand."""
    if func is not F.linear or kwargs or len(args) < 2:
        return False
    x, *weights = args
    kinds = {type(x), *(type(w) for w in weights if w is not None)} <= {Tensor, torch.nn.Parameter}
    return bool(
        kinds
        and x.dim() > 1
        and weights[0].dim() == 2
        and x.requires_grad
        and x.device.type == "cpu"
        and x.numel() * len(weights[0]) >= PAYS
        and not any(w is not None and (w.requires_grad or w.dtype != x.dtype) for w in weights)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


def by_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, (…, in) → (…, out), whose backward leaves out the rows of the gradient that are zero."""
    rows: Tensor = RowByRow.apply(x.flatten(0, -2), weight, bias)
    return rows.unflatten(0, x.shape[:-1])


def _is_batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for several, of one batched backward pass."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(tensor) or torch._C._functorch.is_batchedtensor(tensor))


class RowByRow(torch.autograd.Function):
    """``RowByRow.apply(x, weight, bias)`` is ``F.linear``, (rows, in) → (rows, out), with the gradient of x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The linear map."""
        ctx.save_for_backward(weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Gradient @ W, of the rows that are not zero."""
        (weight,) = ctx.saved_tensors
        if _is_batched(gradient):  # several gradients, which have other rows of zeros each
            return gradient @ weight, None, None
        asked = gradient.any(-1).nonzero()[:, 0]
        if len(asked) == len(gradient):
            return gradient @ weight, None, None
        zeros = gradient.new_zeros(len(gradient), weight.shape[1])
        return zeros.index_copy_(0, asked, gradient[asked] @ weight), None, None
