"""What is known of timm, torchvision and open_clip: which models are convolutions alone, and what makes the rest small."""

from __future__ import annotations

from typing import Any, NamedTuple

_CONVOLUTIONS = (
    "byobnet convnext cspnet cspnext csatv2 densenet dla dpn efficientnet fasternet ghostnet hardcorenas hgnet hrnet "
    "inception_resnet_v2 inception_v3 inception_v4 lcnetv2 mobilenetv3 nasnet nfnet pnasnet rdnet regnet repghost repvit res2net "
    "resnest resnet resnetv2 rexnet selecsls senet sknet starnet tresnet vgg vovnet xception xception_aligned"
)
CONVOLUTIONS = frozenset(_CONVOLUTIONS.split())
"""Modules of timm that are left out: they have neither attention nor another mixer of tokens."""

_SMALLEST = (
    "test atto femto pico zepto nano xxtiny xxt xxs xtiny xt xs 9m 11m t0 s0 b0 m0 a0 s12 tiny t mini xxsmall xsmall s1 "
    "m1 b1 a1 small s m base b"
)
SMALLEST = _SMALLEST.split()
"""Words for sizes in timm's names, smallest first."""
VARIANTS = 3
"""How many variants of a group are tried, smallest first."""

_NARROW = {"depth": 2, "embed_dim": 48, "num_heads": 4}
_SHALLOW: tuple[dict[str, Any], ...] = (
    {**_NARROW, "num_classes": 10},
    {"depth": 2},
    {"depths": (1, 1, 1, 1)},
    {"depths": (1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
    {},
)
OPTIONS = tuple({**picture, **some} for some in _SHALLOW for picture in ({"img_size": 64}, {"img_size": 128}, {}))
"""Options of timm's constructors, tried in turn."""


class Made(NamedTuple):
    """``module:class``, its options, and its inputs' shapes without the batch; ``("ids", …)``: ids of words."""

    name: str
    options: dict[str, Any]
    inputs: dict[str, tuple[Any, ...]]


_SWIN = "torchvision.models.swin_transformer"
_STAGES: dict[str, Any] = {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "num_classes": 10}
_PICTURE = {"x": (3, 32, 32)}
TORCHVISION = {
    "vision_transformer": Made(
        "torchvision.models.vision_transformer:VisionTransformer",
        {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64},
        _PICTURE,
    ),
    "swin": Made(f"{_SWIN}:SwinTransformer", {"patch_size": [4, 4], "window_size": [4, 4], **_STAGES}, _PICTURE),
    "swin_v2": Made(
        f"{_SWIN}:SwinTransformer",
        {
            **{"patch_size": [4, 4], "window_size": [4, 4], **_STAGES},
            **{"block": f"{_SWIN}:SwinTransformerBlockV2", "downsample_layer": f"{_SWIN}:PatchMergingV2"},
        },
        _PICTURE,
    ),
    "maxvit": Made(
        "torchvision.models.maxvit:MaxVit",
        {
            **{"input_size": (32, 32), "stem_channels": 16, "partition_size": 4, "block_channels": [16, 32]},
            **{"block_layers": [1, 1], "head_dim": 8, "stochastic_depth_prob": 0.0, "num_classes": 10},
        },
        _PICTURE,
    ),
    "swin3d": Made(
        "torchvision.models.video.swin_transformer:SwinTransformer3d",
        {"patch_size": [2, 4, 4], "window_size": [2, 4, 4], **_STAGES},
        {"x": (3, 4, 32, 32)},
    ),
}

_TEXT = {"context_length": 12, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
_VISION = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
_PAIR = {"image": (3, 32, 32), "text": ("ids", 12)}
OPEN_CLIP = {
    "ViT": Made("open_clip.model:CLIP", {"embed_dim": 16, "vision_cfg": _VISION, "text_cfg": _TEXT}, _PAIR),
    "ViT, custom text": Made(
        "open_clip.model:CustomTextCLIP", {"embed_dim": 16, "vision_cfg": _VISION, "text_cfg": _TEXT}, _PAIR
    ),
    "ViT, pooled by attention": Made(
        "open_clip.model:CLIP",
        {
            "embed_dim": 16,
            "vision_cfg": {**_VISION, "attentional_pool": True, "attn_pooler_heads": 2},
            "text_cfg": _TEXT,
        },
        _PAIR,
    ),
    "ResNet": Made(
        "open_clip.model:CLIP",
        {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
            "text_cfg": _TEXT,
        },
        {"image": (3, 64, 64), "text": ("ids", 12)},
    ),
    "timm": Made(
        "open_clip.model:CustomTextCLIP",
        {
            "embed_dim": 16,
            "vision_cfg": {
                "timm_model_name": "test_vit",
                "timm_pool": "token",
                "timm_proj": "linear",
                "image_size": 160,
            },
            "text_cfg": _TEXT,
        },
        {"image": (3, 160, 160), "text": ("ids", 12)},
    ),
    "CoCa": Made(
        "open_clip.coca_model:CoCa",
        {
            "embed_dim": 32,
            "vision_cfg": {**_VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
            "text_cfg": {**_TEXT, "embed_cls": True, "output_tokens": True},
            "multimodal_cfg": {**_TEXT, "mlp_ratio": 4},
        },
        _PAIR,
    ),
}
