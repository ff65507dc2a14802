"""What is known of transformers' configs and forward passes by name alone: attributes, inputs, the words of errors."""

from __future__ import annotations

BATCH, WORDS, ANSWER = 2, 7, 5
VOCABULARY, FIRST_WORD, LAST_WORD, FIRST_SPECIAL = 64, 5, 30, 31
LARGEST = 40_000_000
"""Models with more parameters are not built."""

SIZES = {
    32: "hidden_size d_model n_embd dim embed_dim hidden_dim emb_dim embedding_size projection_dim encoder_hidden_size "
    "decoder_hidden_size text_hidden_size out_hidden_size output_hidden_size hidden_channels encoder_hidden_dim "
    "text_embed_dim vision_embed_dim fusion_hidden_size conv_dim hidden_sizes embed_dims width d_embed proj_codevector_dim "
    "codevector_dim classifier_proj_size output_dim visual_embedding_dim mask_feature_size feature_size_decoder "
    "encoder_embed_dim decoder_embed_dim xvector_output_dim tdnn_dim attention_dim all_dim speaker_embedding_dim "
    "conv_channels subsampling_conv_channels projector_hidden_size linear_hidden_size lm_hidden_size q_lora_rank "
    "entity_emb_size emb_size bottleneck_size intra_bottleneck_size true_hidden_size vision_hidden_size lru_width "
    "cross_attention_hidden_size audio_hidden_size condition_dim neck_hidden_sizes decoder_channels pixel_hidden_size encoder_in_channels decoder_in_channels "
    "stem_channels stage_in_channels stage_mid_channels stage_out_channels vision_features_channels encoder_hidden_dim "
    "text_projection_in_dim text_projection_out_dim task_encoder_hidden_dim class_embed_dim decoder_hidden_dim "
    "iou_head_hidden_dim output_channels fpn_hidden_size mask_dim upsample_groups",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers depth depths "
    "num_encoder_layers encoder_num_hidden_layers decoder_num_hidden_layers l_layers r_layers x_layers num_blocks "
    "encoder_num_layers decoder_num_layers resampler_depth num_key_value_heads "
    "num_experts_per_tok top_k moe_topk block_sizes "
    "num_hidden_groups num_shared_experts n_shared_experts moe_num_shared_experts num_entity_layers num_kv_heads "
    "resampler_n_latents num_global_layers encoder_n_points stage_numb_of_layers stage_num_blocks",
    1: "first_k_dense_replace n_group topk_group num_codebooks_per_group adapter_layers",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads attention_heads "
    "encoder_num_attention_heads decoder_num_attention_heads num_key_value_groups num_conv_pos_embedding_groups n_latents "
    "linear_num_heads linear_num_key_heads linear_num_value_heads resampler_n_heads mamba_n_heads index_n_heads num_v_heads num_queries "
    "num_query_tokens window_size num_experts num_local_experts n_routed_experts moe_num_experts "
    "audio_num_attention_heads decoder_num_heads decoder_self_attention_heads decoder_cross_attention_heads",
    8: "head_dim d_kv v_head_dim qk_rope_head_dim qk_nope_head_dim patch_size kv_lora_rank kv_channels dim_head d_head "
    "linear_head_dim linear_key_head_dim linear_value_head_dim rotary_dim attention_head_dim attention_head_size resampler_head_dim "
    "index_head_dim local_window_size sliding_window attention_window num_conv_pos_embeddings "
    "global_head_dim index_topk qk_head_dim swa_head_dim lora_rank",
    16: "mamba_d_head mamba_d_state state_size num_mel_bins max_text_len num_frames_default chunk_size conv_kernel_large",
    48: "intermediate_size encoder_ffn_dim decoder_ffn_dim ffn_dim d_ff d_inner moe_intermediate_size mlp_dim n_inner "
    "dim_feedforward encoder_feedforward_dim encoder_dim_feedforward decoder_dim_feedforward "
    "inner_dim ffn_hidden_size encoder_intermediate_size decoder_intermediate_size ff_dim hidden_mlp_size "
    "shared_expert_intermediate_size intermediate_dim feed_forward_hidden_dim intermediate_size_mlp dense_intermediate_size",
    64: "vocab_size max_position_embeddings n_positions n_ctx max_source_positions max_target_positions n_embd_positions "
    "text_vocab_size text_max_position_embeddings codebook_size num_embeddings max_speech_positions max_text_positions "
    "num_position_embeddings audio_vocab_size entity_vocab_size max_2d_position_embeddings vocab_size_per_layer_input max_length "
    "image_vocab_size position_embedding_size decoder_vocab_size embedding_vocab_size",
}
SMALL: dict[str, int] = {name: size for size, names in SIZES.items() for name in names.split()}
PICTURE = {"image_size": 32, "img_size": 32, "pretrain_image_size": 32, "max_image_size": 32, "tile_size": 32}
EXACT = ("layer_type",)
"""Attributes that are set as the table has them, whatever they were."""
INSTEAD = {"timm_backbone": ("resnet", {"layer_type": "basic"})}
"""Nested configs of another library, and what takes their place."""
MISSING = {"pad_token_id": 3, "prediction_length": 4, "vocab_size": 64, "image_token_index": 33, "image_token_id": 33}
"""What stands for None."""
ROPE = {"mrope_section": [2, 1, 1]}

MORE = {"head_dim": 8, "num_key_value_heads": 4, "moe_intermediate_size": 48, "num_hidden_layers": 2}
RECIPES: list[dict[str, object]] = [
    {"kinds": True},
    {},
    {
        **{"num_key_value_heads": 4, "depths": 1, "hidden_sizes": "doubling", "embed_dims": "doubling"},
        **{"missing": MORE, "rope": {"mrope_section": [1, 1, 0]}},
    },
    {"patch_size": None, "image_size": 128, "head_dim": None, "codebook_size": None},
    {"num_hidden_layers": 4, "num_layers": 4, "n_layer": 4, "depths": 1, "num_heads": None, "conv_dim": None},
    {**{name: None for name in SIZES[2].split() if "layer" in name or "depth" in name}, "missing": MORE},
]
"""What is tried in turn, over SMALL and PICTURE; None leaves the config's own value."""

COUNTS = (16, 4, 1, 64, 8, 2, 17, 32)
"""How many placeholder tokens an image (a sound) is given among the words, tried in turn."""
SOUND_FRAMES = (64, 128, 3000)
LAYOUTS = (0, 1, 2)
"""Of pictures: one picture, several pictures, patches in one row each. Of sound: channels first, frames first, wave."""

WORD_INPUTS = (
    "input_ids",
    "attention_mask",
    "bbox",
    "decoder_input_ids",
    "entity_ids",
    "entity_position_ids",
    "query_embeds",
)
PICTURE_INPUTS = (
    "pixel_values",
    "image_grid_thw",
    "grid_thw",
    "mm_token_type_ids",
    "image_sizes",
    "visual_feats",
    "visual_pos",
)
VIDEO_INPUTS = ("pixel_values_videos",)
SOUND_INPUTS = ("input_values", "input_features", "audio_values", "feature_attention_mask", "input_features_mask")
SERIES_INPUTS = ("past_values", "past_time_features", "past_observed_mask", "future_values", "future_time_features")

PICTURE_TOKENS = ("image_token_id", "image_token_index", "img_token_id", "media_token_id", "image_token")
SOUND_TOKENS = ("audio_token_id", "audio_token_index", "speech_token_id")
_OUTPUTS = (
    "logits logits_per_image prediction_logits seq_relationship_logits start_logits pred_logits last_hidden_state "
    "audio_values sequences language_output pooler_output predicted_depth prediction_outputs"
)
OUTPUTS = tuple(_OUTPUTS.split())
PAIRS = ("logits_per_image", "logits_per_text", "logits_per_audio", "logits_per_video", "logits_per_speech")

CAUSES = (
    ("no softmax attention", "no softmax attention"),
    ("folded into the batch", "folded"),
    ("inputs of unequal batch", "unequal (or empty) batches"),
    ("no gradient to the tokens", "no gradient passes"),
    ("read beside by a convolution or pooling", "by a convolution or pooling"),
    ("chosen tokens without a residual", "chosen from"),
    ("tokens are merged", "merge several"),
    ("tokens mix or change places", "change places"),
    ("mixing that is no recorded attention", "outside of recorded attention"),
    ("the read attention has zero gradient", "zero for a sample"),
    ("the target depends on no attention", "depends on no attention"),
    ("softmax changed or summed", "the softmax is"),
    ("einsum form", "einsum"),
)
"""Cause of a refusal, and what its message contains; the first that fits."""
