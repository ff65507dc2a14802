"""The peak of memory of one explanation, in a process of its own: what is planned and what was taken, a line of JSON for each."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

import heedmap

SIZES: dict[str, Any] = {
    "num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512, "num_labels": 9,
    "vocab_size": 100, "max_position_embeddings": 1280,
}  # fmt: skip
CASES: list[tuple[str, int, int, int, bool]] = [
    ("sdpa", 1024, 1, 1, False), ("sdpa", 768, 1, 1, True), ("sdpa", 1280, 1, 4, False), ("sdpa", 256, 6, 1, False),
    ("sdpa", 768, 1, 4, True), ("eager", 512, 1, 1, False),
]  # fmt: skip
"""Attention, tokens, samples, targets, and whether it has to do with the least."""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def most() -> int:
    """The most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    torch.set_num_threads(1)
    for kernel, tokens, samples, targets, least in CASES:
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(attn_implementation=kernel, **SIZES)).eval()
        given: dict[str, Any] = {"model": model, "inputs": {"input_ids": torch.randint(5, 99, (samples, tokens))}}
        given["target"] = list(range(targets))
        plan = heedmap.plan(**given)
        if least:
            plan = heedmap.plan(**given, memory=plan.least)
            given["memory"] = plan.memory
        taken = []
        for probe in (False, True):
            Path("/proc/self/clear_refs").write_text("5")
            before = resident()
            heedmap.explain(**given, probe=probe)
            taken.append(most() - before)
        line = {"planned": plan.peak, "allowed": plan.memory, "taken": taken[0]}
        line |= {"proof": plan.proof, "first": taken[1], "later": heedmap.plan(**given).proof}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
