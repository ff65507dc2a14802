"""Compiles the programs of :mod:`known.programs` into transformers by tracr: ``python bench/known/compile_programs.py OUT``.

To be run where ``tracr-pypi`` (1.0.0, Apache 2.0, DeepMind) and safetensors are installed, with jax 0.4; heedmap needs neither.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tracr.compiler import compiling
from tracr.compiler.lib import make_frac_prevs, shift_by
from tracr.rasp import rasp

SIZE, DIGITS = 10, 8
"""Tokens of a sequence of hops, and of the others; the sizes of their vocabularies."""
KEYS, VALUES, MARKED, PLAIN = "abcd", "wxyz", "x", "yz"
EQUAL = rasp.Comparison.EQ


def hops(count: int) -> rasp.SOp:
    """The token at the place that a token names, and so on: one attention layer for each hop."""
    here = rasp.tokens
    for number in range(count):
        here = rasp.Aggregate(rasp.Select(rasp.indices, here, EQUAL), rasp.tokens).named(f"hop {number}")
    return here


def lookup() -> rasp.SOp:
    """The token after the one that is like the last."""
    before = shift_by(1, rasp.tokens)
    return rasp.Aggregate(rasp.Select(before, rasp.tokens, EQUAL), rasp.tokens).named("found")


def added() -> rasp.SOp:
    """The last digit of the sum of the two tokens before."""
    return rasp.SequenceMap(lambda x, y: (x + y) % DIGITS, shift_by(1, rasp.tokens), shift_by(2, rasp.tokens)).named(
        "sum"
    )


def fraction() -> rasp.SOp:
    """The part of the tokens up to here that are marked."""
    return make_frac_prevs(rasp.tokens == MARKED).named("fraction")


PROGRAMS: dict[str, tuple[rasp.SOp, set[Any], int, bool]] = {
    **{f"hops-{count}": (hops(count), set(range(SIZE)), SIZE, False) for count in (1, 2, 4, 6)},
    "lookup": (lookup(), {*KEYS, *VALUES}, 2 * len(KEYS) + 1, True),
    "sum": (added(), set(range(DIGITS)), DIGITS, True),
    "fraction": (fraction(), {MARKED, *PLAIN}, DIGITS, True),
}
"""Name → program, vocabulary, longest sequence, and whether attention is causal."""


def main() -> None:
    """Write the weights, with what tells how they are read."""
    tensors, told = {}, {}
    for name, (program, vocabulary, length, causal) in PROGRAMS.items():
        model = compiling.compile_rasp_to_model(program, vocabulary, length, causal=causal, compiler_bos="BOS")
        for part, entries in model.params.items():
            for kind, values in entries.items():
                tensors[f"{name}/{part.removeprefix('transformer/')}/{kind}"] = np.asarray(values, dtype=np.float32)
        codes = model.input_encoder.encoding_map
        values = getattr(model.output_encoder, "encoding_map", None)
        outputs = {program.name: program.label} if values is None else {str(v): f"{program.label}:{v}" for v in values}
        told[name] = {
            "vocabulary": [str(token) for token in sorted(codes, key=codes.__getitem__)],
            "outputs": {value: model.residual_labels.index(label) for value, label in outputs.items()},
            "heads": model.model_config.num_heads,
            "layers": model.model_config.num_layers,
            "causal": causal,
        }
    save_file(
        tensors, sys.argv[1], {"programs": json.dumps(told), "source": "compiled by tracr-pypi 1.0.0 (Apache 2.0)"}
    )


if __name__ == "__main__":
    main()
