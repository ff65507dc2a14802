"""The cost model of docs/scale.md: fitted on some configurations, checked on others.

    python bench/cost.py [--threads 1] [--pairs 3]

Time is of the processor (all threads together), so that other programs on the machine count less. A configuration is an encoder
of so many tokens, layers, heads and features, samples and targets. Three things are fitted, each on every second configuration,
and checked on the others:

forward:  seconds = products of weights / speed + products of attention / speed + layers · c
explain:  seconds of ``heedmap.explain`` from seconds of the forward pass; the factors are those of ``heedmap.engine.planning``
kept:     bytes that the forward pass keeps, from tokens, width and layers
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch.utils.flop_counter import FlopCounterMode

import heedmap
from heedmap.attention.at_rest import recording_state
from heedmap.engine import planning
from heedmap.engine.engine import Engine


class Configuration(NamedTuple):
    """Of an encoder of BERT's kind."""

    tokens: int
    layers: int
    heads: int
    width: int
    samples: int
    targets: int

    def __str__(self) -> str:
        size = f"{self.tokens:5} tokens {self.layers:2} × {self.width:4} ({self.heads:2} heads)"
        return f"{size} batch {self.samples} targets {self.targets}"


CONFIGURATIONS = [
    Configuration(*sizes)
    for sizes in (
        (64, 4, 4, 256, 1, 1), (64, 6, 8, 512, 1, 4), (128, 4, 4, 256, 4, 1), (128, 8, 8, 512, 1, 1),
        (197, 6, 6, 384, 1, 1), (197, 12, 12, 768, 1, 1), (197, 4, 6, 384, 4, 3), (256, 4, 8, 512, 2, 1),
        (384, 4, 4, 256, 1, 5), (512, 6, 8, 512, 1, 1), (577, 4, 12, 768, 1, 1), (768, 4, 4, 256, 1, 2),
        (1024, 2, 8, 512, 1, 1), (1024, 4, 4, 256, 1, 1), (1536, 2, 4, 256, 1, 1), (2048, 2, 8, 256, 1, 1),
    )
]  # fmt: skip


def pairs(first: Callable[[], Any], second: Callable[[], Any], count: int) -> tuple[float, float]:
    """Median seconds of the processor of two things, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for _ in range(count):
        for function, taken in zip((first, second), times, strict=True):
            began = time.process_time()
            function()
            taken.append(time.process_time() - began)
    return statistics.median(times[0]), statistics.median(times[1])


class Measured(NamedTuple):
    """Of one configuration: seconds, operations and bytes."""

    forward: float
    explain: float
    operations: float
    products: float
    terms: tuple[float, float, float, float]
    kept: int


def measured(sizes: Configuration, count: int) -> Measured:
    """Build it, and measure."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=100, num_labels=8, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads, hidden_size=sizes.width,
        intermediate_size=4 * sizes.width, max_position_embeddings=sizes.tokens,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.randint(5, 99, (sizes.samples, sizes.tokens))}
    targets = list(range(sizes.targets))

    def forward() -> None:
        with torch.no_grad():
            model(**inputs)

    with FlopCounterMode(display=False) as counter:
        forward()
    seconds, whole = pairs(forward, lambda: heedmap.explain(model, inputs, target=targets, probe=False), count)
    engine = Engine(model, inputs, None, False)
    with recording_state(engine.model):
        engine.settled()
        recording, _ = engine.record()
        attentions = recording.tape.attentions
        operations = float(counter.get_total_flops())
        terms = planning.terms(seconds, operations, attentions, sizes.targets)
        kept = planning.Needs.of(recording, model, False).kept
    products = 4.0 * sizes.samples * sizes.layers * sizes.tokens**2 * sizes.width
    return Measured(seconds, whole, operations, products, terms, kept)


def fitted(rows: Sequence[Sequence[float]], values: Sequence[float]) -> np.ndarray:
    """Factors, none negative, by the least sum of squared relative errors."""
    weights = 1 / np.asarray(values)
    return nnls(np.asarray(rows) * weights[:, None], np.asarray(values) * weights)[0]


def told(name: str, rows: list[Sequence[float]], values: list[float]) -> Iterator[str]:
    """Fit on every second configuration, and the errors on the others."""
    factors = fitted(rows[::2], values[::2])
    errors = [abs(float(np.dot(row, factors)) / value - 1) for row, value in zip(rows[1::2], values[1::2], strict=True)]
    yield f"{name}: factors {', '.join(f'{factor:.3g}' for factor in factors)}"
    yield f"  held out: median error {statistics.median(errors):.1%}, largest {max(errors):.1%}, of {len(errors)} configurations"


def main() -> None:
    """Measure, fit, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {given.pairs} pairs", flush=True)
    found = []
    for sizes in CONFIGURATIONS:
        found.append(measured(sizes, given.pairs))
        print(
            f"{sizes}  forward {found[-1].forward:.4f} s  explain {found[-1].explain:.4f} s  kept {found[-1].kept / 1e6:.1f} MB",
            flush=True,
        )
    linear = [
        (m.operations - m.products, m.products, float(s.layers)) for s, m in zip(CONFIGURATIONS, found, strict=True)
    ]
    kept = [(float(s.samples * s.tokens * s.width * s.layers),) for s in CONFIGURATIONS]
    for name, rows, values in (
        ("forward", linear, [m.forward for m in found]),
        ("explain", [m.terms for m in found], [m.explain for m in found]),
        ("kept", kept, [float(m.kept) for m in found]),
    ):
        for line in told(name, rows, values):
            print(line, flush=True)


if __name__ == "__main__":
    main()
