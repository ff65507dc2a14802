"""What names alone do not tell, by family: sizes in a configuration that depend on each other, and inputs of a model's own."""

from __future__ import annotations

from typing import Any

CONFIGS: dict[str, dict[str, Any]] = {
    "lw_detr": {
        "backbone_config": {"num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "num_windows": 4},
        "projector_scale_factors": [1.0],
    },
    "omdet-turbo": {
        "backbone_config": {"model_type": "swin", "out_indices": [2, 3, 4]},
        "encoder_in_channels": [64, 128, 256],
        "apply_layernorm_after_vision_backbone": False,
        "vision_features_channels": [32, 32, 32],
    },
    "sam": {"vision_config": {"num_pos_feats": 16}},
    "sam_hq": {"vision_config": {"num_pos_feats": 16}},
}
"""Family → values of its configuration, nested as it is."""

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
