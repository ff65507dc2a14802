"""What names alone do not tell, by family: sizes in a configuration that depend on each other, and inputs of a model's own."""

from __future__ import annotations

from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "align": {"vision_config": {"width_coefficient": 0.1, "depth_coefficient": 0.1}},
    "autoformer": {"num_time_features": 1},
    "bamba": {"attn_layer_indices": [1]},
    "beit": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4]},
    "bit": {"num_groups": 4},
    "blt": {"encoder_hash_byte_group_vocab": 50},
    "bridgetower": {"hidden_size": 64, "text_config": {"hidden_size": 64}, "vision_config": {"hidden_size": 64}},
    "bros": {"hidden_size": 128},
    "chameleon": {"vocabulary_map": {"<image>": 33}},
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1},
    "emu3": {"vocabulary_map": {"<image>": 33}},
    "informer": {"num_time_features": 1},
    "lw_detr": {
        "backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_windows": 4},
        "projector_scale_factors": [1.0],
    },
    "omdet-turbo": {
        "backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4]},
        "encoder_in_channels": [64, 128, 256],
        "vision_features_channels": [32, 32, 32],
        "apply_layernorm_after_vision_backbone": False,
    },
    "sam": {"vision_config": {"num_pos_feats": 16}},
    "sam_hq": {"vision_config": {"num_pos_feats": 16}},
    "time_series_transformer": {"num_time_features": 1},
    "Blip2ForImageTextRetrieval": {"qformer_config": {"use_qformer_text_input": True}},
}
"""Class, or family → values of its configuration, nested as it is."""

INPUTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "oneformer": {"task_inputs": ("ids", 2, 77)},
    "omdet-turbo": {
        "classes_input_ids": ("ids", 4, 7),
        "classes_attention_mask": (1, 4, 7),
        "tasks_input_ids": ("ids", 2, 7),
        "tasks_attention_mask": (1, 2, 7),
        "classes_structure": (2, 2),
    },
}
"""Family → input → what it holds (``floats``, ``ids``, or a number) and its shape; ``()``: it is left out."""
