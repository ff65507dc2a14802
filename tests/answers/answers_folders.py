"""Folders of tiny random vision-language models, each with its own processor built from small files; and pictures for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tr
from families import SMALL, livened
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<pad>", "<unk>", "<end>"]
WORDS = ["what", "is", "here", "a", "red", "blue", "dog", "cat", "and", "?", ":", "user", "assistant"]
SIZES = ((90, 60), (40, 56))
"""Width and height of the pictures."""
PERSON = (
    "{%% for m in messages %%}%s{{ m['role'] }} : {%% for c in m['content'] %%}"
    "{%% if c['type'] == 'image' %%}%s{%% else %%} {{ c['text'] }}{%% endif %%}{%% endfor %%}%s{%% endfor %%}"
    "{%% if add_generation_prompt %%}assistant :{%% endif %%}"
)


def tokenizer(signs: Sequence[str]) -> tuple[Any, list[str]]:
    """A token a word, and ``signs`` as special ones."""
    words = [*SPECIAL, *signs, *WORDS]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(cleanup=True)
    made.add_special_tokens([*SPECIAL, *signs])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    return tr.PreTrainedTokenizerFast(tokenizer_object=made, **names), words


def language(words: Sequence[str]) -> dict[str, Any]:
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    return {**SMALL, **ids, "vocab_size": len(words), "max_position_embeddings": 256}


def tiles() -> tuple[Any, Any]:
    """Idefics 3: pictures of 64 pixels in tiles of 32, and the whole after them; four tokens each."""
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    signs = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *rows]
    words, names = tokenizer(signs)
    images = tr.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = PERSON % ("", "<image>", "<end_of_utterance>")
    config = tr.Idefics3Config(
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
        text_config={**language(names), "model_type": "llama"},
        image_token_id=names.index("<image>"),
        scale_factor=2,
    )
    processor = tr.Idefics3Processor(images, words, image_seq_len=4, chat_template=template)
    return tr.Idefics3ForConditionalGeneration(config), processor


def packed() -> tuple[Any, Any]:
    """Qwen 2 VL: patches of 4 pixels, all in one row, merged two by two."""
    signs = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words, names = tokenizer(signs)
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    images = tr.Qwen2VLImageProcessor(**sizes, min_pixels=64, max_pixels=1024)
    template = PERSON % ("<|im_start|>", "<|vision_start|><|image_pad|><|vision_end|>", "<|im_end|>")
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    tower = {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    config = tr.Qwen2VLConfig(
        vision_config={**tower, "spatial_merge_size": 2, "temporal_patch_size": 2},
        text_config={**language(names), "num_key_value_heads": 2, "rope_parameters": rope, "rope_scaling": rope},
        image_token_id=names.index("<|image_pad|>"),
        video_token_id=names.index("<|video_pad|>"),
        vision_start_token_id=names.index("<|vision_start|>"),
        vision_end_token_id=names.index("<|vision_end|>"),
    )
    processor = tr.Qwen2VLProcessor(images, words, tr.Qwen2VLVideoProcessor(**sizes), chat_template=template)
    return tr.Qwen2VLForConditionalGeneration(config), processor


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {"tiles": tiles, "packed": packed}


def save(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    model, processor = MADE[name]()
    livened(model).save_pretrained(folder / name)
    processor.save_pretrained(folder / name)
    return folder / name


def pictures(folder: Path) -> list[Path]:
    """Two pictures of unequal size: red on the left, and red above, on noise."""
    paths = []
    for number, (width, height) in enumerate(SIZES):
        light = np.linspace(230, 20, (width, height)[number])
        grey = np.broadcast_to(light if number == 0 else light[:, None], (height, width))
        paths.append(folder / f"picture{number}.png")
        noise = np.random.default_rng(number).integers(0, 256, (height, width))
        Image.fromarray(np.dstack([grey, noise, 255 - grey]).astype(np.uint8)).save(paths[-1])
    return paths
