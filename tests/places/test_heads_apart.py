"""Heads of one attention that hear different tokens: Ā is the mean over all heads, each on the tokens that it hears."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap

TOKENS, WIDTH, HEADS = 6, 16, 4


def shifted(tokens: int, by: int) -> Tensor:
    """(heard, tokens): place t hears of token t - by."""
    return torch.diag(torch.ones(tokens - by, dtype=torch.float64), -by)


def rows(maps: list[Tensor], gradients: list[Tensor], shifts: list[Tensor]) -> Tensor:
    """R - I of the last token, of attention whose head h hears, at each place, what ``shifts[h]`` says."""
    tokens = maps[0].shape[-1]
    R = torch.eye(tokens, dtype=torch.float64)
    for A, gradient in zip(maps, gradients, strict=True):
        heads = (A * gradient)[0].clamp(min=0) @ torch.stack(shifts)
        R = R + heads.mean(0) @ R
    row = R[-1].detach().clone()
    row[-1] = 0
    return row


def test_values_of_which_half_are_of_the_token_before() -> None:
    """Zaya: a half of the heads of values is delayed by a token."""
    from transformers import ZayaConfig, ZayaForCausalLM

    torch.manual_seed(0)
    config = ZayaConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=32, moe_intermediate_size=32, num_experts=2, num_experts_per_tok=1, max_position_embeddings=32,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, experts_implementation="eager",
    )  # fmt: skip
    model = ZayaForCausalLM(config).double().eval()
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    inputs = {"input_ids": torch.randint(5, 50, (1, 7))}

    def target(output: Any) -> Tensor:
        return output.logits[:, -1, 7]

    output = eager(**inputs, output_attentions=True, use_cache=False)
    gradients = torch.autograd.grad(target(output).sum(), output.attentions)
    now, before = torch.eye(7, dtype=torch.float64), shifted(7, 1)
    wanted = rows(output.attentions, gradients, [now, now, before, before])
    found = heedmap.explain(model, inputs, target=target)["text"][0].double()
    assert float((found - wanted).abs().max() / wanted.max()) < 1e-6


class Apart(nn.Module):
    """Attention in which head h hears, as its keys and values, the tokens ``delays[h]`` before.

    Args:
        delays: of each head.
        folded: whether heads are folded into the batch.
    """

    def __init__(self, delays: tuple[int, ...], folded: bool) -> None:
        super().__init__()
        self.delays, self.folded = delays, folded
        self.embed, self.head = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList(nn.ModuleDict({n: nn.Linear(WIDTH, WIDTH) for n in "qkvo"}) for _ in range(2))
        self.maps: list[Tensor] = []

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        self.maps.clear()
        for layer in self.layers:
            q, k, v = (layer[n](x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for n in "qkv")
            k, v = (
                torch.stack([F.pad(t[:, h, : TOKENS - d], (0, 0, d, 0)) for h, d in enumerate(self.delays)], 1)
                for t in (k, v)
            )
            if self.folded:
                q, k, v = (t.flatten(0, 1) for t in (q, k, v))
            A = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            if A.requires_grad:
                A.retain_grad()
            self.maps.append(A)
            out = (A @ v).unflatten(0, (-1, HEADS)) if self.folded else A @ v
            x = x + layer["o"](out.transpose(1, 2).flatten(2))
        return self.head(x[:, -1])


@pytest.mark.parametrize("folded", [False, True], ids=["four axes", "heads in the batch"])
@pytest.mark.parametrize("delays", [(0, 0, 1, 1), (0, 1, 2, 3), (0, 0, 0, 0)], ids=str)
def test_heads_that_hear_other_tokens_are_as_many_as_there_are(delays: tuple[int, ...], folded: bool) -> None:
    torch.manual_seed(1)
    model = Apart(delays, folded).double().eval()
    ids = torch.randint(0, 20, (2, TOKENS))
    found = heedmap.explain(model, {"input_ids": ids}, target=1)["text"].double()
    for sample in range(2):
        score = model(ids[sample : sample + 1])[0, 1]
        gradients = [g.reshape(1, HEADS, TOKENS, TOKENS) for g in torch.autograd.grad(score, model.maps)]
        maps = [A.reshape(1, HEADS, TOKENS, TOKENS) for A in model.maps]
        wanted = rows(maps, gradients, [shifted(TOKENS, d) if d else torch.eye(TOKENS).double() for d in delays])
        assert float((found[sample] - wanted).abs().max() / wanted.max()) < 1e-6
