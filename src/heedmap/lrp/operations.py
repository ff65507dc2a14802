"""Which torch functions are what to relevance propagation. Data, in one place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.operations import ADDITIONS, found

EVERYWHERE = (torch, F, Tensor, torch.special)

LINEAR = found(
    (torch, F),
    "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
)
"""(x, weight, bias=None, …)."""

CONVOLUTIONS = found((torch, F), "conv1d conv2d conv3d")

ADDMM = found((torch, Tensor), "addmm baddbmm")
"""(bias, a, b): a product and a sum."""

PRODUCTS = found(
    (torch, Tensor), "matmul bmm mm mv dot __matmul__ __rmatmul__ einsum tensordot outer _grouped_mm grouped_mm"
)

SUMS = ADDITIONS | found((torch, Tensor), "sub subtract __sub__ __rsub__ rsub")

FACTORS = found((torch, Tensor), "mul multiply __mul__ __rmul__")

QUOTIENTS = found((torch, Tensor), "div divide true_divide __truediv__")

REDUCTIONS = found(
    (torch, F, Tensor),
    "sum mean nanmean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d interpolate "
    "grid_sample adaptive_avg_pool3d fold",
)
"""Linear in their first argument."""

SOFTMAX = found(EVERYWHERE, "softmax")

STATISTICS = found(EVERYWHERE, "rsqrt sqrt reciprocal var std norm vector_norm logsumexp var_mean std_mean") | found(
    (torch.linalg,), "norm vector_norm"
)
"""Sizes by which tokens are normalised: as in the identity rule for norms, no relevance falls on them."""

PASSES = found(
    EVERYWHERE,
    "relu relu6 elu selu celu leaky_relu prelu rrelu gelu silu mish softplus softsign tanh sigmoid hardtanh hardswish "
    "hardsigmoid hardshrink logsigmoid log_sigmoid expit threshold erf exp log log_softmax square abs neg negative __neg__ "
    "clamp clamp_min clamp_max clip rms_norm instance_norm normalize "
    "local_response_norm nan_to_num",
)
"""Of one tensor that carries relevance: it passes to the tensor as it is."""

GATED = found(EVERYWHERE, "gelu silu mish hardswish rms_norm normalize local_response_norm")
"""Of these, y = x · g(x): activations by a gate, norms that do not centre."""

LAID_OUT = found(EVERYWHERE, "rms_norm")
"""Of these, those whose result is contiguous whatever they were given; a view of another shape may be taken of it."""

CENTRED = found(EVERYWHERE, "instance_norm")
"""Of these, the norms whose mean and deviation are not seen."""

LAYER_NORM = found((torch, F), "layer_norm")

GROUP_NORM = found((torch, F), "group_norm")

BATCH_NORM = found((torch, F), "batch_norm")

POWERS = found((torch, Tensor), "pow __pow__")

IN_PLACE = {
    getattr(Tensor, name): getattr(Tensor, plain)
    for name, plain in {
        "add_": "add", "__iadd__": "add", "sub_": "sub", "__isub__": "sub", "mul_": "mul", "__imul__": "mul",
        "div_": "div", "__itruediv__": "div", "relu_": "relu", "tanh_": "tanh", "sigmoid_": "sigmoid",
        "clamp_": "clamp", "clamp_min_": "clamp_min", "clamp_max_": "clamp_max", "exp_": "exp", "neg_": "neg",
        "pow_": "pow", "square_": "square", "abs_": "abs", "sqrt_": "sqrt", "rsqrt_": "rsqrt",
        "nan_to_num_": "nan_to_num",
    }.items()
} | {F.relu_: F.relu, torch.relu_: torch.relu}  # fmt: skip
"""Operations that write to their first argument → the same without."""

MOVES = {
    "Embedding", "View", "UnsafeView",
    "ReshapeAlias", "Transpose", "Permute", "T", "Expand", "Unsqueeze", "Squeeze", "Slice", "Select",
    "Index", "IndexSelect", "IndexPut", "IndexAdd", "IndexCopy", "IndexFill", "Cat", "Stack", "Split", "SplitWithSizes",
    "Unbind", "Clone", "ToCopy", "Alias", "ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "Repeat",
    "RepeatInterleave", "Gather", "Scatter", "ScatterAdd", "MaskedFill", "MaskedScatter", "MaskedSelect", "Where",
    "CopyBackwards", "CopySlices", "Unfold", "Im2Col", "Roll", "Flip", "AsStrided", "Diagonal",
    "Tril", "Triu", "Max", "Amax", "Min", "Amin", "Sort", "Topk", "MaxPool2DWithIndices", "MaxPool3DWithIndices",
    "AdaptiveMaxPool2D", "AccumulateGrad", "PixelShuffle", "PixelUnshuffle",
    "UnsafeSplit", "Fill", "Zero", "SliceScatter", "SelectScatter",
}  # fmt: skip
"""Autograd's nodes that move, drop, copy or choose entries: to them relevance is what a gradient is."""
