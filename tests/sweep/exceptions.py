"""What names alone do not tell, by family: sizes in a configuration that depend on each other, and inputs of a model's own."""

from __future__ import annotations

from typing import Any

LLAMA4_VISION = {
    "intermediate_size": 128,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
    "vision_output_dim": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "align": {"vision_config": {"width_coefficient": 0.1, "depth_coefficient": 0.1}},
    "autoformer": {"num_time_features": 1},
    "bailing_hybrid": {"num_key_value_heads": 4},
    "bamba": {"attn_layer_indices": [1]},
    "beit": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
    "bit": {"num_groups": 4},
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "bridgetower": {"hidden_size": 64, "text_config": {"hidden_size": 64}, "vision_config": {"hidden_size": 64}},
    "bros": {"hidden_size": 128},
    "chameleon": {"vocabulary_map": {"<image>": 33}},
    "clvp": {"projection_dim": 32, "text_config": {"head_dim": 8}},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "depth_anything": {"reassemble_hidden_size": 32},
    "dia": {"decoder_config": {"cross_hidden_size": 32, "cross_num_attention_heads": 4, "cross_head_dim": 8}},
    "efficientloftr": {"stage_out_channels": [32, 32, 32, 32], "out_features": [32, 32, 32], "hidden_size": 32},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "emu3": {"vocabulary_map": {"<image>": 33}, "vq_config": {"base_channels": 32}},
    "ernie4_5_moe": {"moe_k": 2},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "fastspeech2_conformer_with_hifigan": {"model_config": {"num_mel_bins": 80}},
    "gemma3n": {"text_config": {"intermediate_size": 48}},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    "glm5_next": {"text_config": {"num_key_value_heads": 4}},
    "glm5_next_text": {"num_key_value_heads": 4},
    "granite_speech5_ctc": {"encoder_config": {"context_size": 32}},
    "granite_speech5_encoder": {"context_size": 32},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "num_hidden_layers": 2},
    "hiera": {"decoder_hidden_size": 32},
    "informer": {"num_time_features": 1},
    "janus": {"vq_config": {"base_channels": 32}},
    "kimi_linear": {"num_key_value_heads": 4},
    "kosmos-2": {"latent_query_num": 4},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6, "input_size": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "lilt": {"hidden_size": 96},
    "llama4": {"vision_config": LLAMA4_VISION},
    "lw_detr": {
        "backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_windows": 4},
        "projector_scale_factors": [1.0],
    },
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "omdet-turbo": {
        "backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4]},
        "encoder_in_channels": [64, 128, 256],
        "vision_features_channels": [32, 32, 32],
        "apply_layernorm_after_vision_backbone": False,
    },
    "sam": {"vision_config": {"num_pos_feats": 16}},
    "sam_hq": {"vision_config": {"num_pos_feats": 16}},
    "time_series_transformer": {"num_time_features": 1},
    "Llama4VisionModel": LLAMA4_VISION,
    "Blip2ForImageTextRetrieval": {"qformer_config": {"use_qformer_text_input": True}},
}
"""Class, or family → values of its configuration, nested as it is."""

INPUTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "blip_2_qformer": {"encoder_hidden_states": ("floats", 2, 9, 32)},
    "clap": {"input_features": ("floats", 2, 1, 64, 16)},
    "dac": {"input_values": ("floats", 2, 1, 3200)},
    "decision_transformer": {
        "states": ("floats", 2, 5, 17),
        "actions": ("floats", 2, 5, 4),
        "rewards": ("floats", 2, 5, 1),
        "returns_to_go": ("floats", 2, 5, 1),
        "timesteps": ("ids", 2, 5),
        "attention_mask": (1, 2, 5),
    },
    "encodec": {"input_values": ("floats", 2, 1, 3200)},
    "idefics": {"image_attention_mask": (1, 2, 7, 2)},
    "instructblip": {"qformer_input_ids": ("ids", 2, 5), "qformer_attention_mask": (1, 2, 5)},
    "instructblipvideo": {"qformer_input_ids": ("ids", 2, 5), "qformer_attention_mask": (1, 2, 5)},
    "kosmos-2": {"image_embeds_position_mask": ("rows", *[[0, 1, 1, 1, 1, 0, 0]] * 2)},
    "LongformerForQuestionAnswering": {"input_ids": ("rows", [5, 2, 7, 8, 2, 9, 2], [6, 2, 9, 11, 2, 7, 2])},
    "LongformerForMultipleChoice": {"input_ids": ("rows", [[5, 2, 7, 8, 2, 9, 2]], [[6, 2, 9, 11, 2, 7, 2]])},
    "oneformer": {"task_inputs": ("ids", 2, 77)},
    "omdet-turbo": {
        "classes_input_ids": ("ids", 4, 7),
        "classes_attention_mask": (1, 4, 7),
        "tasks_input_ids": ("ids", 2, 7),
        "tasks_attention_mask": (1, 2, 7),
        "classes_structure": (2, 2),
    },
}
"""Class, or family → input → what it holds (``floats``, ``ids``, or a number everywhere) and its shape; ``()``: it is left out."""
