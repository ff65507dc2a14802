"""Which torch functions are what to the recorder. Data, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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

UNSEEN = frozenset([Tensor.data.__get__])  # type: ignore[attr-defined]
"""Gives a tensor's memory in a way in which torch does not count what is written to it."""

ASKS = found(
    (Tensor, torch),
    "size dim ndimension stride numel nelement element_size storage_offset is_contiguous is_floating_point is_complex is_tensor "
    "get_device data_ptr __len__",
) | {
    getattr(Tensor, name).__get__
    for name in (
        "shape",
        "ndim",
        "dtype",
        "device",
        "layout",
        "requires_grad",
        "is_leaf",
        "is_cuda",
        "is_meta",
        "is_nested",
    )
}
"""Functions that say what a tensor is like: they give and change no tensor."""
