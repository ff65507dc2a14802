"""Tiny random models that say words, one of each kind, in float64, and what each is asked: two samples, padded where it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tr
from torch import Tensor, nn

Inputs = dict[str, Tensor]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WORDS = {**SMALL, **IDS, "vocab_size": 50, "max_position_embeddings": 48}
VISION = {**SMALL, "image_size": 16, "patch_size": 8}
SEQ2SEQ = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 50, "max_position_embeddings": 48, **IDS,
    "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
IMAGE = 49
ANSWERS = [[7, 30, 9, 12], [21, 8]]
"""Of unequal length, none of its tokens special."""


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        build: makes it.
        inputs: what it is asked: two samples.
        decoder: whether a decoder of its own says the answer.
        more: what a token of the answer has in the inputs that have a value for each token.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    decoder: bool = False
    more: dict[str, int] = field(default_factory=dict)


def made(name: str, config: Any) -> Callable[[], nn.Module]:
    return lambda: livened(getattr(tr, name)(config()).double())


def livened(model: nn.Module) -> nn.Module:
    """Weights large enough that attention is not uniform."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("mm_input_projection_weight"):
            nn.init.normal_(parameter)
    return model.eval()


def left_padded() -> Inputs:
    rows = torch.tensor([[5, 6, 11, 40, 13], [0, 0, 17, 3, 29]])
    return {"input_ids": rows, "attention_mask": (rows != 0).long()}


def right_padded() -> Inputs:
    rows = torch.tensor([[5, 6, 11, 40, 13], [17, 3, 29, 0, 0]])
    return {"input_ids": rows, "attention_mask": (rows != 0).long()}


def picture() -> Inputs:
    return {"pixel_values": torch.randn(2, 3, 16, 16, dtype=torch.float64)}


def captioned() -> Inputs:
    return {**picture(), "input_ids": torch.tensor([[1, 6], [1, 17]])}


def questioned() -> Inputs:
    """A question of each picture; of one length, as ``generate`` of this model reads padding."""
    return {**picture(), "input_ids": torch.tensor([[5, 6, 11], [17, 3, 29]])}


def chatted(count: int, types: Callable[[Tensor], Tensor] | None = None) -> Inputs:
    rows = torch.tensor([[5, *[IMAGE] * count, 11, 40], [0, *[IMAGE] * count, 17, 3]])
    found = {"input_ids": rows, "attention_mask": (rows != 0).long(), **picture()}
    return found if types is None else {**found, "token_type_ids": types(rows)}


def sounds() -> Inputs:
    return {"input_features": torch.randn(2, 8, 40, dtype=torch.float64)}


def causal(name: str, config: str, **options: Any) -> Family:
    return Family(
        made(name, lambda: getattr(tr, config)(**{**WORDS, **options})), left_padded, more={"attention_mask": 1}
    )


def encoder_decoder(name: str, config: str, **options: Any) -> Family:
    return Family(made(name, lambda: getattr(tr, config)(**{**SEQ2SEQ, **options})), right_padded, decoder=True)


def trocr() -> Any:
    vision = tr.ViTConfig(**VISION)
    decoder = tr.TrOCRConfig(
        d_model=16, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24, vocab_size=50, cross_attention_hidden_size=16,
        max_position_embeddings=48, **IDS
    )  # fmt: skip
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 2
    return config


def blip() -> Any:
    text = {**WORDS, "encoder_hidden_size": 16, "sep_token_id": 2}
    return tr.BlipConfig(text_config=text, vision_config=VISION, projection_dim=8, image_text_hidden_size=8)


def blip2() -> Any:
    opt = {**WORDS, "model_type": "opt", "ffn_dim": 24, "word_embed_proj_dim": 16}
    qformer = {**SMALL, "vocab_size": 50, "encoder_hidden_size": 16, "cross_attention_frequency": 1}
    return tr.Blip2Config(text_config=opt, vision_config=VISION, qformer_config=qformer, num_query_tokens=3,
                          image_token_index=IMAGE)  # fmt: skip


def blip2_t5() -> Any:
    t5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 50,
          "decoder_start_token_id": 0, **IDS}  # fmt: skip
    config = blip2().to_dict()
    return tr.Blip2Config(**{**config, "text_config": t5})


def donut() -> Any:
    vision = tr.DonutSwinConfig(
        image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    decoder = tr.MBartConfig(
        d_model=16, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24, vocab_size=50, max_position_embeddings=48,
        is_decoder=True, add_cross_attention=True, **IDS
    )  # fmt: skip
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 2
    return config


def qwen2_vl() -> Any:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    vision = {"embed_dim": 16, "depth": 1, "num_heads": 2, "hidden_size": 16, "patch_size": 4, "spatial_merge_size": 2}
    return tr.Qwen2VLConfig(text_config={**WORDS, "num_key_value_heads": 1, "rope_parameters": rope}, vision_config=vision,
                            image_token_id=IMAGE, vision_start_token_id=48)  # fmt: skip


def packed() -> Inputs:
    """A picture of 4 by 4 patches for each sample, in one row."""
    found = chatted(4, lambda ids: (ids == IMAGE).long())
    found["mm_token_type_ids"] = found.pop("token_type_ids")
    return {
        **found,
        "pixel_values": torch.randn(32, 96, dtype=torch.float64),
        "image_grid_thw": torch.tensor([[1, 4, 4], [1, 4, 4]]),
    }


def asked_with_places() -> Inputs:
    rows = torch.tensor([[*[IMAGE] * 3, 5, 6, 11], [*[IMAGE] * 3, 17, 3, 0]])
    return {"input_ids": rows, "attention_mask": (rows != 0).long(), **picture()}


def language_vision(config: str, language: dict[str, Any], vision: str, **options: Any) -> Callable[[], Any]:
    text = {**WORDS, "num_key_value_heads": 1, **language}
    return lambda: getattr(tr, config)(text_config=text, vision_config={**VISION, "model_type": vision}, **options)


FAMILIES = {
    "gpt2": causal("GPT2LMHeadModel", "GPT2Config", n_embd=16, n_layer=2, n_head=2, n_positions=48),
    "llama": causal("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=1),
    "qwen2": causal("Qwen2ForCausalLM", "Qwen2Config", num_key_value_heads=1),
    "gemma": causal("GemmaForCausalLM", "GemmaConfig", num_key_value_heads=1, head_dim=8),
    "mistral": causal("MistralForCausalLM", "MistralConfig", num_key_value_heads=1, sliding_window=4),
    "mixtral": causal("MixtralForCausalLM", "MixtralConfig", num_key_value_heads=1, num_local_experts=3,
                      experts_implementation="eager"),
    "bart": encoder_decoder("BartForConditionalGeneration", "BartConfig"),
    "marian": encoder_decoder("MarianMTModel", "MarianConfig"),
    "pegasus": encoder_decoder("PegasusForConditionalGeneration", "PegasusConfig"),
    "t5": Family(made("T5ForConditionalGeneration", lambda: tr.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                      vocab_size=50, decoder_start_token_id=0, **IDS)), right_padded, decoder=True),
    "whisper": Family(made("WhisperForConditionalGeneration", lambda: tr.WhisperConfig(**{**SEQ2SEQ, "num_mel_bins": 8,
                           "max_source_positions": 20, "max_target_positions": 48, "suppress_tokens": None,
                           "begin_suppress_tokens": None})), sounds, decoder=True),
    "trocr": Family(made("VisionEncoderDecoderModel", trocr), picture, decoder=True),
    "git": Family(made("GitForCausalLM", lambda: tr.GitConfig(vision_config=VISION, **WORDS)), captioned),
    "blip": Family(made("BlipForConditionalGeneration", blip), picture),
    "blip-vqa": Family(made("BlipForQuestionAnswering", blip), questioned, decoder=True),
    "blip2": Family(made("Blip2ForConditionalGeneration", blip2), lambda: chatted(3), more={"attention_mask": 1}),
    "blip2-t5": Family(made("Blip2ForConditionalGeneration", blip2_t5), asked_with_places, decoder=True),
    "donut": Family(made("VisionEncoderDecoderModel", donut), picture, decoder=True),
    "qwen2vl": Family(made("Qwen2VLForConditionalGeneration", qwen2_vl), packed,
                       more={"attention_mask": 1, "mm_token_type_ids": 0}),
    "jamba": causal("JambaForCausalLM", "JambaConfig", num_key_value_heads=1, num_experts=1, attn_layer_period=2,
                    attn_layer_offset=1, expert_layer_period=4, use_mamba_kernels=False, mamba_d_state=4, mamba_dt_rank=4),
    "jamba, experts": causal("JambaForCausalLM", "JambaConfig", num_key_value_heads=1, num_experts=4, num_experts_per_tok=2,
                             attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
                             use_mamba_kernels=False, mamba_d_state=4, mamba_dt_rank=4, experts_implementation="eager"),
    "mamba": causal("MambaForCausalLM", "MambaConfig", state_size=4),
    "llava": Family(made("LlavaForConditionalGeneration", language_vision(
        "LlavaConfig", {"model_type": "llama"}, "clip_vision_model", image_token_id=IMAGE)), lambda: chatted(4),
        more={"attention_mask": 1}),
    "paligemma": Family(made("PaliGemmaForConditionalGeneration", language_vision(
        "PaliGemmaConfig", {"model_type": "gemma", "head_dim": 8}, "siglip_vision_model", image_token_id=IMAGE,
        projection_dim=16)), lambda: chatted(4, torch.zeros_like), more={"attention_mask": 1, "token_type_ids": 1}),
    "gemma3": Family(made("Gemma3ForConditionalGeneration", language_vision(
        "Gemma3Config", {"model_type": "gemma3_text", "head_dim": 8}, "siglip_vision_model", image_token_id=IMAGE,
        mm_tokens_per_image=4)), lambda: chatted(4, lambda ids: (ids == IMAGE).long()),
        more={"attention_mask": 1, "token_type_ids": 0}),
}  # fmt: skip
