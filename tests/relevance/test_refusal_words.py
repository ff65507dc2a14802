"""What a refusal says: the place in the model's source, that no method works, and NaN where that is the cause."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from conformance.tiny_models import livened
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    MissingRuleError,
    MixingError,
    UnfollowedAttentionError,
)

IDS = torch.arange(3, 9)[None]


class Layer(nn.Module):
    """Self-attention, written inline, with a fault of one kind."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.qkv, self.fault = nn.Linear(8, 24), fault

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        scores = q @ k.transpose(-1, -2)
        if "mask" in self.fault:
            scores = scores.masked_fill(torch.ones(6, 6).tril() == 0, -torch.inf)
            scores = scores.masked_fill(torch.arange(6) < 2, -torch.inf)
        probs = scores.softmax(-1)
        if self.fault == "no sum":
            probs = probs + probs.flip(-1)
        out = probs @ v
        if self.fault == "no sum":
            out = out.exp().cumsum(-2).log()
        x = x + out.squeeze(1)
        if self.fault == "no rule":
            x = x + x.cumprod(-1)
        if self.fault == "mixing":
            x = x + x.cumprod(1)
        if self.fault == "overflow":
            x = x * torch.tensor(3e38) * 10
        return F.gelu(x) if "gelu" in self.fault else x


class Net(nn.Module):
    def __init__(self, fault: str = "", *more: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.blocks = nn.ModuleList(Layer(f) for f in (fault, *more, ""))
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


def net(*faults: str) -> Net:
    torch.manual_seed(0)
    return livened(Net(*faults))


def line(text: str, of: type = Layer) -> str:
    """The place of a line of a class of this file."""
    lines, start = inspect.getsourcelines(of)
    return f"{__file__}:{start + next(n for n, code in enumerate(lines) if text in code)} in forward"


def refusal(model: nn.Module, error: type[HeedmapError], method: str = "generic") -> str:
    with pytest.raises(error) as caught:
        heedmap.explain(model, IDS, target=1, method=method)
    assert type(caught.value) is error
    return str(caught.value)


@pytest.mark.parametrize("method", ["generic", "raw_attention", "legrad", "partial_lrp"])
def test_an_attention_that_cannot_be_followed(method: str) -> None:
    said = refusal(net("no sum"), UnfollowedAttentionError, method)
    assert line("probs @ v") in said
    assert "module 'blocks.0' (Layer)" in said
    assert "by any method" in said


def test_the_target_reads_what_cannot_be_followed() -> None:
    model = net("")
    model.blocks.append(Layer("no sum"))
    said = refusal(livened(model), UnfollowedAttentionError)
    assert said.startswith("the target reads")
    assert line("probs @ v") in said
    assert "module 'blocks.2'" in said


@pytest.mark.parametrize("method", ["generic", "rollout", "transformer_attribution"])
def test_tokens_that_mix(method: str) -> None:
    said = refusal(net("mixing"), MixingError, method)
    assert line("probs @ v") in said
    assert "attention 1 is called at" in said
    assert "module 'blocks.1' (Layer)" in said
    assert "by any method" in said


def test_a_model_of_torch_modules_alone() -> None:
    layers = (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))
    model = livened(nn.Sequential(nn.Embedding(20, 8), next(layers), nn.Softmax(1), next(layers), nn.Flatten()))
    said = refusal(model, MixingError)
    assert "torch/nn/modules" in said
    assert "module '3.self_attn' (MultiheadAttention)" in said


@pytest.mark.parametrize("fault", ["mask", "mask, then gelu"])
def test_nan_that_a_mask_makes(fault: str) -> None:
    said = refusal(net(fault), GradientError)
    assert "not finite" in said
    assert "the softmax of attention 0" in said
    assert "NaN" in said
    assert "mask" in said
    assert line("probs @ v") in said
    assert "leaks" not in said


def test_nan_before_an_attention() -> None:
    said = refusal(net("", "overflow"), GradientError)
    assert "not finite" in said
    assert "of attention 2" in said
    assert "module 'blocks.2'" in said


def test_nan_in_fused_attention() -> None:
    class Fused(Layer):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
            mask = torch.full((6, 6), torch.finfo(torch.float32).min) * (3 * torch.ones(6, 6))
            return x + F.scaled_dot_product_attention(q, k, v, mask * torch.tensor([0.0, 1, 1, 1, 1, 1])).squeeze(1)

    model = net("")
    model.blocks[0] = livened(Fused(""))
    said = refusal(model, GradientError)
    assert "not finite" in said
    assert "attention 0" in said
    assert line("scaled_dot_product_attention", Fused) in said


def test_nan_in_the_weights() -> None:
    model = net("")
    model.embedding.weight.data[3] = torch.nan
    said = refusal(model, GradientError)
    assert "attention 0" in said
    assert "input, the weights" in said


def test_an_operation_without_a_rule() -> None:
    said = refusal(net("no rule"), MissingRuleError, "full_lrp")
    assert "no rule for cumprod" in said
    assert line("cumprod") in said
    assert "module 'blocks.0'" in said


def test_keys_that_cannot_be_traced() -> None:
    class Static(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            a, n = self.attention, torch.zeros(2, 6, 4)
            given = (8, 2, a.in_proj_weight, a.in_proj_bias, None, None, False, 0.0, a.out_proj.weight, None)
            return F.multi_head_attention_forward(*[x.transpose(0, 1)] * 3, *given, static_k=n)[0].transpose(0, 1)

    model = net("")
    model.blocks[0] = Static()
    assert line("static_k=n", Static) in refusal(model, UnfollowedAttentionError)


def test_a_sound_model_says_nothing() -> None:
    assert heedmap.explain(net(""), IDS, target=1)["text"].isfinite().all()
    with pytest.raises(AttentionError, match="by any method"):
        heedmap.explain(net("mixing"), IDS, target=1)
