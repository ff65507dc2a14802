"""A batch of as many samples as tokens: every method gives each sample what it gives it alone, wherever the batch stands."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import AMONG_WORDS, CAUSAL, FEW, TEXT, VISION, hf, livened
from heedmap.attention.residual import ResidualTape

COUNT = 3
METHODS = [name for name, method in heedmap.METHODS.items() if not method.knows_nothing and name not in AMONG_WORDS]


class Words(nn.Module):
    """An encoder of ids (batch, tokens), or (tokens, batch); within it the batch may come second too."""

    def __init__(self, second: bool, within: bool) -> None:
        super().__init__()
        self.second, self.within, self.embedding = second, within, nn.Embedding(30, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=not within)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words)
        x = self.encoder(x.transpose(0, 1) if self.second != self.within else x)
        return self.head(x[0] if self.within else x[:, 0])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": hf("BertForSequenceClassification", **TEXT),
    "llama": hf("LlamaForCausalLM", num_key_value_heads=2, **CAUSAL),
    "vit": hf("ViTForImageClassification", **{**VISION, "image_size": (8, 16)}),
    "second within": lambda: Words(second=False, within=True),
    "second": lambda: Words(second=True, within=True),
    "second outside": lambda: Words(second=True, within=False),
}


@cache
def built(name: str) -> nn.Module:
    torch.manual_seed(4)
    return livened(MODELS[name]()).double()


def given(name: str) -> Tensor:
    """Samples first."""
    torch.manual_seed(8)
    if name == "vit":
        return torch.randn(COUNT, 3, 8, 16, dtype=torch.float64)
    return torch.randint(2, 30, (COUNT, COUNT))


def explained(name: str, x: Tensor, method: str) -> Tensor:
    x = x.transpose(0, 1) if name in ("second", "second outside") else x
    found = heedmap.explain(built(name), x, target=_second, method=method, **FEW.get(method, {}))
    (segment,) = found.segments.values()
    return segment.relevance


def _second(output: Tensor | dict[str, Tensor]) -> Tensor:
    logits = output if isinstance(output, Tensor) else output["logits"]
    return logits[..., -1, 1] if logits.dim() == 3 else logits[:, 1]


@cache
def alone(name: str, method: str) -> Tensor:
    """Sample by sample."""
    return torch.cat([explained(name, given(name)[i : i + 1], method) for i in range(COUNT)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_each_sample_has_its_map(name: str, method: str) -> None:
    """The models of ids whose batch stands elsewhere have the weights of one, and so the maps of its samples."""
    expected = alone("second" if name.startswith("second") else name, method)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(explained(name, given(name), method), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["bert", "vit", "second within"])
@pytest.mark.parametrize("method", ["token_tm", "attcat", "fullgrad_plus"])
def test_they_are_explained_together(name: str, method: str) -> None:
    found = heedmap.explain(built(name), given(name), target=_second, method=method)
    assert not any("one by one" in note for note in found.flow.notes)


@pytest.mark.parametrize("size", [2, COUNT])
def test_the_recorder_knows_the_axis_of_the_batch(size: int) -> None:
    for name, axis in (("bert", 0), ("second within", 1)):
        with ResidualTape(size) as tape:
            words = tape.watch("words", torch.randint(2, 30, (size, COUNT)))
            built(name)(words)
        assert [residual.batch_axis for residual in tape.residuals] == [axis] * len(tape.residuals)
        assert len(tape.residuals) >= 4


class Apart(nn.Module):
    """Attention whose part in the sum is one number for all tokens: which axis is the batch cannot be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.attention = nn.Embedding(30, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embedding(words)
        attended = self.attention(x, x, x)[0]
        x = x + attended * torch.eye(*words.shape)[..., None] * (torch.arange(len(words)) == 0)[:, None, None]
        return self.head(x[:, 0])


def test_what_cannot_be_seen_is_not_guessed() -> None:
    torch.manual_seed(0)
    tape = ResidualTape(COUNT)
    with tape:
        Apart()(tape.watch("words", given("bert")))
    assert [residual.batch_axis for residual in tape.residuals] == [None]
