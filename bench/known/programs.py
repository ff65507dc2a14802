"""Programs that tracr compiled into transformers: what an answer rests on is known from the program that was written.

The weights are those of ``compile_programs.py`` (tracr-pypi 1.0.0, Apache 2.0; Lindner et al., NeurIPS 2023, arXiv 2301.05062),
in plain torch: softmax attention, residual connections, feed-forward networks of ReLU, no norms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors import safe_open
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from heedmap.errors import UnfollowedAttentionError
from heedmap.evaluate.evidence import share
from known.rows import Row, kept, read, refused

WEIGHTS = Path(__file__).parent / "programs.safetensors"
BOS, CHANCE = "BOS", "chance"
SIZE, DIGITS = 10, 8
KEYS, VALUES, MARKED, PLAIN = "abcd", "wxyz", "x", "yz"
"""As in ``compile_programs.py``."""
SAMPLES = 20
"""Sequences of each program."""


@dataclass(frozen=True)
class Asked:
    """A sequence, and what is asked of it.

    Attributes:
        tokens: without BOS.
        row: the token at which the answer is read.
        answer: what the program gives there.
        rests_on: the tokens that the program goes by, but for the one at which it is read.
    """

    tokens: tuple[str, ...]
    row: int
    answer: str
    rests_on: frozenset[int]


def hop(count: int, random: Generator) -> Asked:
    """From the token that is asked to the place that it names, ``count`` times, never back; the answer is the token there."""
    way = random.permutation(SIZE)[: count + 1].tolist()
    tokens = random.integers(SIZE, size=SIZE).tolist()
    for here, there in pairwise(way):
        tokens[here] = there
    return Asked(tuple(map(str, tokens)), way[0], str(tokens[way[-1]]), frozenset(way[1:]))


def look_up(random: Generator) -> Asked:
    """Keys with values, then a key: the answer is its value. The program goes by the key and the value that stand there."""
    keys, values = random.permutation(list(KEYS)).tolist(), random.permutation(list(VALUES)).tolist()
    asked = int(random.integers(len(KEYS)))
    tokens = [token for pair in zip(keys, values, strict=True) for token in pair]
    return Asked((*tokens, keys[asked]), len(tokens), values[asked], frozenset({2 * asked, 2 * asked + 1}))


def add(random: Generator) -> Asked:
    """The last digit of the sum of the two tokens before, of eight digits."""
    tokens, row = random.integers(DIGITS, size=DIGITS).tolist(), int(random.integers(3, DIGITS))
    answer = (tokens[row - 1] + tokens[row - 2]) % DIGITS
    return Asked(tuple(map(str, tokens)), row, str(answer), frozenset({row - 1, row - 2}))


def part(random: Generator) -> Asked:
    """The part of the tokens up to here that are marked: it goes up by each of these."""
    marked = np.zeros(DIGITS, dtype=bool)
    row = int(random.integers(4, DIGITS))
    marked[random.permutation(row)[: int(random.integers(1, row))]] = True
    tokens = [MARKED if here else str(random.choice(list(PLAIN))) for here in marked]
    return Asked(tuple(tokens), row, "fraction", frozenset(np.flatnonzero(marked).tolist()))


PROGRAMS: Mapping[str, Callable[[Generator], Asked]] = {
    **{f"hops-{count}": lambda random, count=count: hop(count, random) for count in (1, 2, 4, 6)},
    "lookup": look_up,
    "sum": add,
    "fraction": part,
}


class Compiled(nn.Module):
    """A compiled program: ids (batch, tokens) → logits of its answers at each token, (batch, tokens, answers).

    What the program leaves empty, an attention or a network of zeros, is left out.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        with safe_open(WEIGHTS, "pt") as file:
            told = json.loads(file.metadata()["programs"])[name]
            weights = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{name}/")}  # noqa: SIM118
        self.vocabulary: list[str] = told["vocabulary"]
        self.answers: list[str] = list(told["outputs"])
        self.heads, self.causal = told["heads"], told["causal"]
        self.tokens = nn.Embedding.from_pretrained(weights[f"{name}/token_embed/embeddings"])
        self.places = nn.Embedding.from_pretrained(weights[f"{name}/pos_embed/embeddings"])
        self.layers = nn.ModuleList(
            nn.ModuleDict({part: _linear(weights, f"{path}/{PARTS[part]}") for part in parts})
            for path in (f"{name}/layer_{number}" for number in range(told["layers"]))
            for parts in ((*"qkv", "out"), ("inner", "outer"))
            if weights[f"{path}/{PARTS[parts[-1]]}/w"].any()
        )
        self.register_buffer("read", torch.tensor(list(told["outputs"].values())))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.layers:
            if "inner" in layer:
                x = x + layer["outer"](layer["inner"](x).relu())
                continue
            q, k, v = (layer[part](x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in "qkv")
            heard = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            x = x + layer["out"](heard.transpose(1, 2).flatten(2))
        return x[..., self.read]

    def ids(self, tokens: Sequence[str]) -> Tensor:
        """(1, tokens + 1): the tokens after BOS."""
        return torch.tensor([[self.vocabulary.index(token) for token in (BOS, *tokens)]])


PARTS = {
    "q": "attn/query",
    "k": "attn/key",
    "v": "attn/value",
    "out": "attn/linear",
    "inner": "mlp/linear_1",
    "outer": "mlp/linear_2",
}
"""What an attention and a network are made of, with the path in the weights."""


def _linear(weights: Mapping[str, Tensor], path: str) -> nn.Linear:
    weight, bias = weights[f"{path}/w"].T, weights[f"{path}/b"]
    made = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made


@cache
def compiled(name: str) -> Compiled:
    """A program's transformer, in float64."""
    return Compiled(name).double().eval()


def sequences(name: str, count: int = SAMPLES) -> Iterator[Asked]:
    """Sequences of a program, always the same ones."""
    random = np.random.default_rng([list(PROGRAMS).index(name), 7])
    return (PROGRAMS[name](random) for _ in range(count))


def measured(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """The figures of these methods (none: of all, and of chance) on every program; the file is gone on with."""
    for name in PROGRAMS:
        for method in methods or (CHANCE, *heedmap.METHODS):
            kept(path, f"{name}/{method}", lambda: _rows(name, method))  # noqa: B023
    return [row for row in read(path) if not methods or row["method"] in methods]


def _rows(name: str, method: str) -> Iterator[Row]:
    for number, asked in enumerate(sequences(name)):
        try:
            relevance = relevance_of(name, asked, method, number)
        except UnfollowedAttentionError as error:
            yield {"program": name, **refused(method, error)}
            return
        yield {"unit": number, "program": name, "method": method, **figures(relevance, asked)}


def relevance_of(name: str, asked: Asked, method: str, number: int = 0) -> NDArray[np.float64]:
    """The map of the tokens, without BOS."""
    if method == CHANCE:
        return np.ones(len(asked.tokens))
    model = compiled(name)
    column = model.answers.index(asked.answer)

    def value(logits: Tensor) -> Tensor:
        return logits[:, asked.row + 1, column]

    options: dict[str, Any] = {"seed": number} if method == "random" else {}
    found = heedmap.explain(model, {"input_ids": model.ids(asked.tokens)}, target=value, method=method, **options)
    return found["text"][0].double().numpy()[1:]


def figures(relevance: NDArray[np.float64], asked: Asked) -> dict[str, float]:
    """Share inside and ROC-AUC, both without the token at which the answer is read."""
    others = np.arange(len(asked.tokens)) != asked.row
    truth = np.isin(np.arange(len(asked.tokens)), list(asked.rests_on)).astype(float)[others]
    return {"share": share(relevance[others], truth), "auc": float(roc_auc_score(truth, relevance[others]))}
