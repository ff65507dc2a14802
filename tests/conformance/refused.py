"""Models whose attention cannot be carried from token to token by the paper's rules: each must be refused, none mapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tiny_models import SMALL, THREE, ids
from torch import Tensor, nn

from heedmap.errors import AttentionError, HeedmapError, NoAttentionError


@dataclass(frozen=True)
class Refused:
    """A model, what it is called with, and the error it gets."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Tensor]]
    error: type[HeedmapError] = AttentionError


def timm_model(name: str, size: int = 64, **options: Any) -> Refused:
    def build() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=5, **options)

    return Refused(build, lambda: {"x": torch.randn(1, 3, size, size)})


def hf_model(
    name: str, inputs: Callable[[], dict[str, Tensor]], error: type[HeedmapError] = AttentionError, **options: Any
):
    def build() -> nn.Module:
        import transformers

        cls = getattr(transformers, name)
        return cls(cls.config_class(**options))

    return Refused(build, inputs, error)


def words(length: int = 16) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"input_ids": ids(1, length), "attention_mask": torch.ones(1, length, dtype=torch.long)}


TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 80, "num_labels": 5}


def deformable_detr() -> nn.Module:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection

    config = DeformableDetrConfig(
        use_timm_backbone=False, backbone=None, use_pretrained_backbone=False,
        backbone_config=stages(), d_model=32, encoder_layers=2,
        decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
        num_queries=6, num_labels=5,
    )  # fmt: skip
    return DeformableDetrForObjectDetection(config)


def stages() -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


SPEECH = {**SMALL, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
          "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "num_labels": 5, "vocab_size": 30}  # fmt: skip

CASES: dict[str, Refused] = {
    "xcit": timm_model("xcit_nano_12_p16_224", img_size=64, depth=3),
    "cait": timm_model("cait_xxs24_224", img_size=64, depth=3),
    "convit": timm_model("convit_tiny", img_size=64, embed_dim=12, depth=4, local_up_to_layer=3),
    "convit-all": timm_model("convit_tiny", img_size=64, embed_dim=12, depth=4),
    "levit": timm_model("levit_128s", 224, embed_dim=(32, 48, 64), num_heads=(2, 3, 4), depth=(2, 1, 1)),
    "pvtv2": timm_model("pvt_v2_b0", embed_dims=(16, 32, 40, 64), depths=(2, 1, 1, 1)),
    "mobilevit": timm_model("mobilevit_xxs"),
    "swin": timm_model("swin_tiny_patch4_window7_224", 112, img_size=112, embed_dim=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4)),
    "maxvit": timm_model("maxvit_tiny_tf_224", 128, img_size=128, embed_dim=(32, 32, 32, 32), depths=(1, 1, 1, 1), stem_width=16),
    "hiera": timm_model("hiera_tiny_224", 64, img_size=64, embed_dim=16, stages=(1, 1, 1, 1)),
    "crossvit": timm_model("crossvit_tiny_240", 240, embed_dim=(24, 48), num_heads=(2, 2), depth=((1, 1, 0), (1, 1, 0))),
    "coat": timm_model("coat_lite_tiny", img_size=64, embed_dims=(16, 32, 40, 48), serial_depths=(1, 1, 1, 1)),
    "tnt": timm_model("tnt_s_legacy_patch16_224", img_size=64, embed_dim=24, inner_dim=12, depth=2, num_heads_outer=2,
                      num_heads_inner=2),
    "resnet": Refused(timm_model("resnet18").build, lambda: {"x": torch.randn(1, 3, 64, 64)}, NoAttentionError),
    "mamba": hf_model("MambaForCausalLM", lambda: {"input_ids": ids(1, 8)}, hidden_size=32,
                      num_hidden_layers=2, vocab_size=50, state_size=4),
    "mamba2": hf_model("Mamba2ForCausalLM", lambda: {"input_ids": ids(1, 8)}, hidden_size=32, num_hidden_layers=2,
                       vocab_size=50, state_size=4, num_heads=8, head_dim=8, n_groups=2, chunk_size=4),
    "convbert": hf_model("ConvBertForSequenceClassification", words(), embedding_size=32, **{**TEXT, **THREE}),
    "convbert-two-layers": hf_model("ConvBertForSequenceClassification", words(), embedding_size=32, **TEXT),
    "conformer": hf_model("Wav2Vec2ConformerForSequenceClassification",
                          lambda: {"input_values": torch.randn(1, 800)}, **SPEECH),
    "udop": hf_model("UdopForConditionalGeneration", lambda: {
                         "input_ids": ids(1, 6), "attention_mask": torch.ones(1, 6, dtype=torch.int64),
                         "bbox": torch.rand(1, 6, 4).sort(2).values, "pixel_values": torch.randn(1, 3, 32, 32),
                         "decoder_input_ids": ids(1, 3)},
                     d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, vocab_size=50, image_size=32, patch_size=8),
    "longformer": hf_model("LongformerForSequenceClassification", words(), attention_window=8, **TEXT),
    "bigbird": hf_model("BigBirdForSequenceClassification", words(64), block_size=4, num_random_blocks=2,
                        attention_type="block_sparse", **TEXT),
    "reformer": hf_model("ReformerForSequenceClassification", words(64), attn_layers=["local", "lsh"], axial_pos_embds=False,
                         hidden_size=32, num_attention_heads=4, attention_head_size=8, feed_forward_size=48, vocab_size=50,
                         num_labels=5, max_position_embeddings=80, local_attn_chunk_length=8, lsh_attn_chunk_length=8,
                         num_buckets=4, is_decoder=False),
    "deformable-detr": Refused(deformable_detr, lambda: {"pixel_values": torch.randn(1, 3, 96, 96)}),
}  # fmt: skip

FOLLOWED = {
    name: CASES.pop(name)
    for name in (
        "cait", "convit", "convit-all", "pvtv2", "swin", "hiera", "crossvit", "convbert", "convbert-two-layers", "conformer",
        "deformable-detr", "mamba", "mamba2", "longformer", "bigbird",
        "maxvit", "xcit", "mobilevit", "levit", "udop", "tnt",
    )
}  # fmt: skip
"""Those that the second recorder follows: windows, bands, merged tokens, mixers, recurrences."""
