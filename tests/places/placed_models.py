"""Models whose tokens change places or are merged, each with the oracle's steps for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import transformers
from hand_mixers import HAND_MADE, hand_made
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles import scripts
from oracles.operators import Step
from oracles.seen import Event, seen

Steps = tuple[list[Step], int]
CHANNEL = 3
SCALE = 10
"""Of the targets: what an operator adds is then of the size of the identity."""


@dataclass(frozen=True)
class Case:
    """A model class with a tiny configuration, and how it is read.

    Attributes:
        build: the model, with random weights.
        inputs: of a batch size.
        target: the output → one number a sample.
        paths: ends of the paths of modules whose calls the oracle sees, regular expressions.
        steps: these calls as operators.
        row: that the target reads; None: all.
        own: its column, where its token is one that began.
        columns: of the tokens that are told of, in heedmap's order; None: all, but for those that joined.
        joined: tokens at the beginning that are no part of the input.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    target: Callable[[Any], Tensor]
    paths: tuple[str, ...]
    steps: Callable[[list[Event]], Steps]
    row: int | None = None
    own: int | None = None
    columns: list[int] | None = None
    joined: int = 0

    def model(self) -> nn.Module:
        """In float64, with weights so large that attention is not uniform."""
        torch.manual_seed(0)
        model = self.build().double().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    parameter.mul_(3)
                elif name.endswith("bias"):
                    parameter.add_(torch.randn_like(parameter) / 10)
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.add_(torch.randn_like(buffer) / 10)
        return model

    def given(self, batch: int) -> dict[str, Tensor]:
        """Random inputs, in float64 where they are no ids."""
        torch.manual_seed(1)
        return {k: v.double() if v.is_floating_point() else v for k, v in self.inputs(batch).items()}

    def expected(self, model: nn.Module, inputs: Mapping[str, Tensor], drop_self: bool = False) -> Tensor:
        """(batch, tokens), by the oracle."""
        steps, tokens = self.steps(seen(self.eager(model), inputs, self.target, self.paths))
        R = ops.chained(steps, len(next(iter(inputs.values()))), tokens)
        return ops.read(R, self.row, self.own if drop_self else None)[:, self.joined :][
            :, ... if self.columns is None else self.columns
        ]

    def added(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """As :meth:`expected`, of R less what there is of it without any attention or mixer."""
        steps, tokens = self.steps(seen(self.eager(model), inputs, self.target, self.paths))
        begun = [replace(step, cam=None) for step in steps]
        R, identity = (ops.chained(some, len(next(iter(inputs.values()))), tokens) for some in (steps, begun))
        return ops.read(R - identity, self.row)[:, self.joined :]

    def eager(self, model: nn.Module) -> nn.Module:
        """A copy under eager attention, where softmaxes can be seen."""
        other = deepcopy(model)
        if hasattr(other, "set_attn_implementation"):
            other.set_attn_implementation("eager")
        for module in other.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_hook(affine)
        return other

    def found(self, model: nn.Module, inputs: Mapping[str, Tensor], drop_self: bool = False, **options: Any) -> Tensor:
        """The same by heedmap: of its only segment, or of several pictures in the model's order."""
        found = heedmap.explain(model, dict(inputs), target=self.target, drop_self=drop_self, **options)
        return torch.cat([s.relevance for s in found.segments.values()], 1).double()


def affine(norm: nn.modules.batchnorm._BatchNorm, given: tuple[Tensor], _: Tensor) -> Tensor:
    """What a batch norm is in evaluation: its own backward is wrong on a CPU where one sample, or its gradient, was transposed."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift, axes = norm.bias - norm.running_mean * scale, (-1, *[1] * (given[0].dim() - 2))
    return given[0] * scale.view(axes) + shift.view(axes)


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest relevance."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    return float((found - expected).abs().max() / expected.abs().max())


# -- inputs and targets -------------------------------------------------------------------------------------------------


def picture(size: int, batch: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(batch, 3, size, size)}


def words(length: int, batch: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(1, 30, (batch, length))}


def sound(length: int, batch: int) -> dict[str, Tensor]:
    return {"input_values": torch.randn(batch, length)}


def ids(length: int, batch: int) -> dict[str, Tensor]:
    return {"input_tensor": torch.randint(1, 30, (batch, length))}


def video(frames: int, size: int, batch: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(batch, frames, 3, size, size)}


def last(output: Any) -> Tensor:
    """A number of the last token, (batch, tokens, features)."""
    states = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return SCALE * states[:, -1, CHANNEL]


def corner(output: Any) -> Tensor:
    """A number of the last place of a map, (batch, features, height, width)."""
    return SCALE * output.last_hidden_state[:, CHANNEL, -1, -1]


def label(output: Any) -> Tensor:
    """A class's score."""
    return SCALE * output.logits[:, 1]


def number(output: Tensor) -> Tensor:
    """A number of what is one row a sample."""
    return SCALE * output[:, CHANNEL]


def made(name: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    """A class of transformers with this configuration."""
    return lambda: getattr(transformers, name)(getattr(transformers, config)(**options))


# -- windows ------------------------------------------------------------------------------------------------------------

SWIN = dict(embed_dim=8, depths=[2, 2], num_heads=[2, 2], patch_size=2, window_size=3, drop_path_rate=0.0, num_labels=3)


def windowed(
    name: str, config: str, size: int, target: Callable, row: int | None, own: int | None = None, **options: Any
) -> Case:
    """A Swin of this class, on pictures of this size."""
    build = made(name, config, image_size=size, **{**SWIN, **options})
    return Case(build, partial(picture, size), target, (r"blocks\.\d+", "reduction"), scripts.swin, row, own)


WINDOWS = {
    "swin": windowed("SwinModel", "SwinConfig", 20, last, -1),
    "swin, odd grid": windowed("SwinModel", "SwinConfig", 14, last, -1),
    "swin, one window": windowed("SwinModel", "SwinConfig", 12, last, -1, -1, window_size=6, depths=[2], num_heads=[2]),
    "swin, three stages": windowed("SwinModel", "SwinConfig", 40, last, -1, depths=[2, 2, 2], num_heads=[1, 2, 4]),
    "swin, classes": windowed("SwinForImageClassification", "SwinConfig", 20, label, None),
    "swinv2": windowed("Swinv2Model", "Swinv2Config", 20, last, -1),
    "swinv2, classes": windowed("Swinv2ForImageClassification", "Swinv2Config", 28, label, None),
    "donut": windowed("DonutSwinModel", "DonutSwinConfig", 20, last, -1),
    "donut, classes": windowed("DonutSwinForImageClassification", "DonutSwinConfig", 28, label, None),
}

TIMESFORMER = dict(
    image_size=6,
    patch_size=2,
    num_frames=3,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    num_labels=3,
)


def filmed(name: str, target: Callable, row: int) -> Case:
    """A TimeSformer of this class."""
    build = made(name, "TimesformerConfig", **TIMESFORMER)
    steps = partial(scripts.timesformer, frames=3, patches=9)
    by_frames = [patch * 3 + frame for frame in range(3) for patch in range(9)]
    return Case(build, partial(video, 3, 6), target, (), steps, row, row, by_frames, 1)


WINDOWS |= {
    "timesformer": filmed("TimesformerModel", last, -1),
    "timesformer, classes": filmed("TimesformerForVideoClassification", label, 0),
}

# -- merges -------------------------------------------------------------------------------------------------------------

STAGES = dict(
    num_encoder_blocks=3,
    depths=[2, 1, 2],
    hidden_sizes=[8, 12, 16],
    num_attention_heads=[1, 2, 2],
    drop_path_rate=0.0,
    num_labels=3,
    mlp_ratios=[2, 2, 2],
    strides=[4, 2, 2],
)
OVERLAPPING = dict(STAGES, sr_ratios=[4, 2, 1], patch_sizes=[7, 3, 3], decoder_hidden_size=8)
PVT = dict(STAGES, image_size=32, sequence_reduction_ratios=[4, 2, 1], patch_sizes=[4, 2, 2])
CVT = dict(
    embed_dim=[8, 12, 16],
    num_heads=[1, 2, 2],
    depth=[1, 2, 3],
    patch_sizes=[7, 3, 3],
    patch_stride=[4, 2, 2],
    drop_path_rate=[0.0, 0.0, 0.0],
    mlp_ratio=[2.0, 2.0, 2.0],
    num_labels=3,
)


def in_roles(roles: dict[str, str], begun: bool = False) -> dict[str, Any]:
    """What the oracle sees, and its steps, of a model whose modules have these roles."""
    return {"paths": tuple(roles), "steps": partial(scripts.by_roles, roles=roles, begun=begun)}


def merging(
    name: str, config: dict[str, Any], roles: dict[str, str], target: Callable, begun: bool = False, **options: Any
) -> Case:
    """A class, ``name`` with its configuration's class after a colon, on pictures of 32 pixels."""
    return Case(made(*name.split(":"), **config), partial(picture, 32), target, **in_roles(roles, begun), **options)


SEGFORMER = {
    r"patch_embeddings(\.\d)?\.proj": "merge",
    r"sequence_reduction\.sequence_reduction|sr": "keys",
    r"dwconv\.dwconv": "update",
}
PVT_ROLES = {r"patch_embeddings\.\d\.projection": "merge", "sequence_reduction": "keys"}
PVT_V2 = {r"patch_embedding\.proj": "merge", "spatial_reduction": "keys", r"dwconv\.dwconv": "update"}
PVT_V2_LINEAR = {r"patch_embedding\.proj": "merge", "pool": "keys", r"dwconv\.dwconv": "update"}
CVT_ROLES = {
    r"convolution_embeddings\.projection": "merge",
    r"convolution_projection_value\.convolution_projection\.convolution": "keys",
}
MERGES = {
    "segformer": merging("SegformerModel:SegformerConfig", OVERLAPPING, SEGFORMER, corner, row=-1),
    "segformer, classes": merging("SegformerForImageClassification:SegformerConfig", OVERLAPPING, SEGFORMER, label),
    "glpn": merging("GLPNModel:GLPNConfig", OVERLAPPING, SEGFORMER, corner, row=-1),
    "pvt": merging("PvtModel:PvtConfig", PVT, PVT_ROLES, last, row=-1, joined=1),
    "pvt, classes": merging("PvtForImageClassification:PvtConfig", PVT, PVT_ROLES, label, row=0, joined=1),
    "pvt v2": merging("PvtV2Model:PvtV2Config", {**OVERLAPPING, "image_size": 32}, PVT_V2, corner, row=-1),
    "pvt v2, pooled keys": merging(
        "PvtV2Model:PvtV2Config",
        {**OVERLAPPING, "image_size": 32, "linear_attention": True},
        PVT_V2_LINEAR,
        corner,
        row=-1,
    ),
    "cvt": merging("CvtModel:CvtConfig", CVT, CVT_ROLES, corner, row=-1, joined=1),
    "cvt, classes": merging("CvtForImageClassification:CvtConfig", CVT, CVT_ROLES, label, row=0, joined=1),
}

LEVIT = dict(
    image_size=128,
    hidden_sizes=[16, 24, 32],
    num_attention_heads=[2, 2, 2],
    depths=[2, 1, 2],
    key_dim=[8, 8, 8],
    mlp_ratio=[2, 2, 2],
    num_labels=3,
)
MERGES |= {
    "levit": Case(
        made("LevitModel", "LevitConfig", **LEVIT), partial(picture, 128), last, (), scripts.renewing, row=-1
    ),
    "levit, classes": Case(
        made("LevitForImageClassification", "LevitConfig", **LEVIT), partial(picture, 128), label, (), scripts.renewing
    ),
    "attention without a residual connection": Case(
        partial(hand_made, "alone"),
        partial(words, 8),
        number,
        (r"mixers\.0",),
        partial(scripts.renewing, alone=(2, 4)),
        row=-1,
    ),
}

CONVNEXT = dict(
    num_stages=3,
    hidden_sizes=[8, 12, 16],
    depths=[1, 2, 1],
    patch_size=4,
    layer_scale_init_value=1.0,
    drop_path_rate=0.0,
    num_labels=3,
)
CONVNEXT_ROLES = {r"downsampling_layer\.1": "merge", "dwconv": "update"}
POOLFORMER = dict(
    num_encoder_blocks=3,
    hidden_sizes=[8, 12, 16],
    depths=[1, 2, 1],
    patch_sizes=[7, 3, 3],
    strides=[4, 2, 2],
    padding=[2, 1, 1],
    mlp_ratio=2.0,
    layer_scale_init_value=1.0,
    drop_path_rate=0.0,
    num_labels=3,
)
POOLFORMER_ROLES = {r"patch_embeddings\.[12]\.projection": "merge", r"pooling\.pool": "update"}
STAGES_ALONE = {
    "convnext": merging("ConvNextModel:ConvNextConfig", CONVNEXT, CONVNEXT_ROLES, corner, row=-1, begun=True),
    "convnext, classes": merging(
        "ConvNextForImageClassification:ConvNextConfig", CONVNEXT, CONVNEXT_ROLES, label, begun=True
    ),
    "poolformer, classes": merging(
        "PoolFormerForImageClassification:PoolFormerConfig", POOLFORMER, POOLFORMER_ROLES, label, begun=True
    ),
}
"""Without any attention: stages of mixers, one after the other."""
MERGES |= STAGES_ALONE

# -- mixers -------------------------------------------------------------------------------------------------------------

WORDS = dict(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=20,
    num_labels=3,
)
SOUND = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=[8, 8],
    conv_kernel=[4, 4],
    conv_stride=[4, 4],
    num_feat_extract_layers=2,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
    conv_depthwise_kernel_size=5,
    feat_extract_norm="layer",
)


def fastspeech() -> nn.Module:
    """The encoder of FastSpeech2Conformer."""
    from transformers.models.fastspeech2_conformer.modeling_fastspeech2_conformer import FastSpeech2ConformerEncoder

    config = transformers.FastSpeech2ConformerConfig(
        hidden_size=16, encoder_layers=2, encoder_num_attention_heads=2, encoder_linear_units=12, vocab_size=30
    )
    encoder = FastSpeech2ConformerEncoder(config, config.encoder_config, use_encoder_input_layer=True)
    for name, parameter in encoder.named_parameters():
        if "pos_bias" in name:
            nn.init.normal_(parameter)
    return encoder


MIXERS = {
    "convbert": Case(
        made("ConvBertModel", "ConvBertConfig", embedding_size=16, conv_kernel_size=3, **WORDS),
        partial(words, 8),
        last,
        (),
        partial(scripts.convbert, tokens=8, heads=2),
        -1,
        -1,
    ),
    "wav2vec2 conformer, relative": Case(
        made("Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", position_embeddings_type="relative", **SOUND),
        partial(sound, 160),
        last,
        **in_roles({"depthwise_conv": "update"}),
        row=-1,
        own=-1,
    ),
    "wav2vec2 conformer, rotary": Case(
        made("Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", position_embeddings_type="rotary", **SOUND),
        partial(sound, 160),
        last,
        **in_roles({"depthwise_conv": "update"}),
        row=-1,
        own=-1,
    ),
    "fastspeech2 conformer": Case(
        fastspeech,
        partial(ids, 9),
        last,
        **in_roles({"depthwise_conv": "update", "conv1": "keys", "conv2": "update"}, begun=True),
        row=-1,
        own=-1,
    ),
    "fnet": Case(
        made("FNetModel", "FNetConfig", **{k: v for k, v in WORDS.items() if k != "num_attention_heads"}),
        partial(words, 8),
        last,
        (r"fourier\.self",),
        scripts.fnet,
        -1,
        -1,
    ),
}
MIXERS |= {
    name: Case(
        partial(hand_made, name),
        partial(words, 8),
        number,
        paths=tuple(roles),
        steps=partial(
            scripts.without_channels, tokens=8, roles=roles, begun=name.startswith(("no attention", "also before"))
        ),
        row=-1,
        own=-1,
    )
    for name, roles in HAND_MADE.items()
}

MIXERS["side by side"] = Case(
    partial(hand_made, "side by side"),
    partial(words, 8),
    number,
    (r"layers\.1\.first", r"layers\.1\.second"),
    scripts.side_by_side,
    row=-1,
    own=-1,
)

# -- plain models -------------------------------------------------------------------------------------------------------

PLAIN = {
    "vit": Case(
        made(
            "ViTModel",
            "ViTConfig",
            image_size=12,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=24,
        ),
        partial(picture, 12),
        last,
        **in_roles({}),
        row=-1,
        own=-1,
        joined=1,
    ),
    "bert": Case(made("BertModel", "BertConfig", **WORDS), partial(words, 8), last, **in_roles({}), row=-1, own=-1),
}
