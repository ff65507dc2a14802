"""Which torch functions are what to the recorder, and those that it runs in a way of its own.

Attention that is one call is taken apart, to be seen like any other. Kernels get a gradient where torch has none, or a wrong
one, or takes long over rows of zeros.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from heedmap.attention.places import here
from heedmap.errors import UnfollowedAttentionError


def found(namespaces: tuple[Any, ...], names: str) -> frozenset[Callable[..., Any]]:
    """All functions of these names that the namespaces have."""
    return frozenset(getattr(space, name) for space in namespaces for name in names.split() if hasattr(space, name))


SDPA = F.scaled_dot_product_attention
MULTI_HEAD = F.multi_head_attention_forward

SOFTMAX = found((torch, F, Tensor, torch.special), "softmax")

MATMUL = found((torch, Tensor), "matmul bmm __matmul__")
EINSUM = torch.einsum
PRODUCTS = MATMUL | {EINSUM} | found((torch, Tensor), "baddbmm mm __rmatmul__ tensordot")

CONCATENATES = found((torch,), "cat concat concatenate")

ADDITIONS_IN_PLACE = found((Tensor,), "add_ __iadd__")
ADDITIONS = found((torch, Tensor), "add __add__ __radd__")

NORMS = found((torch, F), "layer_norm rms_norm")

# What may stand between a backbone's pixels (or samples of sound) and the first attention, and mixes neighbours.
SPATIAL = found(
    (torch, F),
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d unfold max_pool1d max_pool2d avg_pool1d avg_pool2d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d interpolate grid_sample pixel_unshuffle pixel_shuffle",
)

# Functions after which a softmax result is still the attention matrix of its queries and keys.
KEEPS_ATTENTION = found(
    (torch, F, Tensor),
    "dropout dropout_ alpha_dropout feature_alpha_dropout to type type_as float half bfloat16 double contiguous clone "
    "masked_fill masked_fill_ nan_to_num nan_to_num_ detach",
)
SCALES_ATTENTION = found(
    (torch, Tensor), "mul mul_ div div_ multiply true_divide __mul__ __rmul__ __truediv__ __imul__"
)
SLICES_ATTENTION = found((torch, Tensor), "__getitem__ narrow split chunk")
RESHAPES_ATTENTION = found(
    (torch, Tensor), "view reshape unsqueeze squeeze flatten unflatten expand expand_as view_as reshape_as"
)
PERMUTES_ATTENTION = found((torch, Tensor), "transpose permute swapaxes swapdims")

# Functions whose result is no longer made of the products q kᵀ among their arguments.
ENDS_PRODUCT = found(
    (torch, F), "linear embedding conv1d conv2d conv3d layer_norm group_norm batch_norm rms_norm bilinear"
)

# Functions that take of what is given after the first tensor its type or its shape alone.
LIKE_ANOTHER = found((Tensor,), "type_as to view_as expand_as reshape_as")

# Functions that take some rows, where the axis is one of rows.
CHOOSES_ROWS = found(
    (torch, Tensor), "__getitem__ select narrow split chunk unbind index_select gather take_along_dim masked_select"
)

WRITES_IN_PLACE = found((Tensor,), "__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ior__ __iand__")
"""Beside these, every method whose name ends in one underscore."""


@lru_cache(4096)
def writes_in_place(func: Any) -> bool:
    """Whether a function writes to its first argument."""
    name = getattr(func, "__name__", "")
    return func in WRITES_IN_PLACE or (name.endswith("_") and not name.endswith("__"))


UNSEEN = frozenset([Tensor.data.__get__])  # type: ignore[attr-defined]
"""Gives a tensor's memory in a way in which torch does not count what is written to it."""

PROPERTIES = "shape ndim dtype device layout requires_grad is_leaf is_cuda is_meta is_nested"
ASKS = found(
    (Tensor, torch),
    "size dim ndimension stride numel nelement element_size storage_offset is_contiguous is_floating_point is_complex is_tensor "
    "get_device data_ptr __len__",
) | {getattr(Tensor, name).__get__ for name in PROPERTIES.split()}
"""Functions that say what a tensor is like: they give and change no tensor."""


# -- attention, taken apart -------------------------------------------------------------------------------------------


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
        return SDPA(self.query, self.key, self.value, self.attn_mask, 0.0, self.is_causal, **keywords)

    @property
    def factor(self) -> float:
        """What q kᵀ is multiplied by: ``scale``, or 1/√features."""
        return self.query.shape[-1] ** -0.5 if self.scale is None else self.scale


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


@dataclass
class MultiHeadCall:
    """One call of ``F.multi_head_attention_forward``: in-projection, scaled dot product, out-projection.

    ``given`` holds its arguments by name. For a function mode it is one call; written out, its attention is seen like any other.
    """

    given: dict[str, Any]

    @classmethod
    def bind(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> MultiHeadCall:
        """The call with its defaults filled in."""
        bound = _MULTI_HEAD.bind(*args, **kwargs)
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


# -- gradients -------------------------------------------------------------------------------------------------------


_LINEAR = frozenset(["bitsandbytes::gemv_4bit"])

PAYS = 2**22
"""How many products a linear map has at least, for its rows of zeros to be looked for."""

_BATCH_NORMS = frozenset([F.batch_norm, torch.batch_norm, torch.native_batch_norm])


def lacks_gradient(func: Any) -> bool:
    """Whether ``func`` is a kernel, linear in its first argument, that autograd takes for a constant.

    bitsandbytes packs 4-bit weights anew when a model first answers without gradients on a CPU, for a kernel that autograd does
    not know. As it is linear, its weights are read from it, as it computes with them.
    """
    return isinstance(func, torch._ops.OpOverload) and func._schema.name in _LINEAR


def keep_layout(func: Any, result: Any) -> None:
    """Sees to it that a batch norm gets the gradient of its result in the layout of the result.

    The backward of torch's batch norm on a CPU reads the gradient of one sample in the layout of the sample: where one of the
    two was transposed (tokens made a map, or a map made tokens) and the other was not, numbers change places.
    """
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
    """Whether this is a large linear map, with weights that are constants, for which :class:`RowByRow` may stand.

    The backward of torch's own multiplies every row of the gradient by the weights, also where it is zero, as most rows are of
    which a proof pulls half, or a target one.
    """
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
