"""Explanations in a process whose memory has a limit, a line of JSON for each: how often the model was recorded, and what came of it."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

import heedmap
from heedmap.engine.engine import Engine

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_labels": 9,
    "vocab_size": 100,
    "max_position_embeddings": 2048,
}
TOKENS = 1024
CASES: dict[str, tuple[tuple[int, int], int, float]] = {
    "blocks": ((3, 128), 1, 1.2),
    "targets": ((3, 128), 4, 1.1),
    "backward": ((1, 2048), 1, 0.55),
    "forward": ((1, 2048), 1, -0.5),
}
"""Layers of the model and their width, targets, and where the limit lies: -1 is nothing, 0 what the forward pass keeps, 1 the least with which a call
can be made, 2 what it takes by itself."""


def virtual() -> int:
    """Bytes of this process's address space, which is what the limit is of."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def limited(extra: float) -> Iterator[None]:
    """No more than ``extra`` bytes above what the process has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(virtual() + extra), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Counted:
    """How often a model is recorded."""

    def __init__(self) -> None:
        self.recordings, record = 0, Engine.record

        def counting(engine: Engine, whole: bool = True) -> Any:
            self.recordings += 1
            return record(engine, whole)

        Engine.record = counting  # type: ignore[method-assign]


def bytes_at(place: float, plan: heedmap.Plan) -> float:
    """Of a limit at a place of :data:`CASES`."""
    marks = (0, plan.kept, plan.least, plan.peak)
    below = int(place + 1)
    return marks[below] + (place + 1 - below) * (marks[below + 1] - marks[below])


@cache
def proved(layers: int, width: int) -> dict[str, Any]:
    """A model and its inputs, for which there is a proof from here on."""
    torch.manual_seed(0)
    config = BertConfig(num_hidden_layers=layers, intermediate_size=width, **SIZES)
    model = BertForSequenceClassification(config).eval()
    given: dict[str, Any] = {"model": model, "inputs": {"input_ids": torch.randint(5, 99, (4, TOKENS))}}
    heedmap.inspect(**given)
    return given


def main() -> None:
    torch.set_num_threads(1)
    counted = Counted()
    for name, (sizes, targets, place) in CASES.items():
        given = {**proved(*sizes), "target": list(range(targets))}
        plan = heedmap.plan(**given)
        counted.recordings, told, difference = 0, "", 0.0
        with limited(bytes_at(place, plan)):
            try:
                cut = heedmap.explain(**given)
            except heedmap.errors.OutOfMemoryError as error:
                told = str(error)
        line = {"case": name, "recordings": counted.recordings, "told": told}
        if not told:
            whole = heedmap.explain(**given)
            difference = max(float((a["text"] - b["text"]).abs().max()) for a, b in zip(whole, cut, strict=True))
        line |= {"difference": difference, "least": plan.least, "peak": plan.peak, "kept": plan.kept}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
