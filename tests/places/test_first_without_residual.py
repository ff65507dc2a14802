"""Attention without a residual connection makes new tokens, R_new = M R, also where the first recorder would follow the model."""

from __future__ import annotations

import pytest
import torch
from hand_mixers import LENGTH, WIDTH, Alone, Attention
from torch import Tensor, nn

import heedmap


class Words(nn.Module):
    """Attentions of these kinds, and a number of the last token."""

    def __init__(self, *kinds: type[Attention]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(9, WIDTH)
        self.attentions = nn.ModuleList([kind() for kind in kinds])
        self.head = nn.Linear(WIDTH, 2)
        self.double().eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.head(x[:, -1])
        return out


def expected(model: Words, ids: Tensor) -> Tensor:
    """R row by row in float64, dense: R + Ā R, or M R where there is no residual connection."""
    x, probs = model.words(ids), []
    for attention in model.attentions:
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in attention.qkv(attention.norm(x)).chunk(3, -1))
        probs.append(torch.softmax(q @ k.mT / 8**0.5, -1))
        mixed = attention.out((probs[-1] @ v).transpose(1, 2).flatten(2))
        x = mixed if isinstance(attention, Alone) else x + mixed
    gradients = torch.autograd.grad(model.head(x[:, -1])[0, 0], probs)
    R = torch.eye(LENGTH, dtype=torch.float64)
    for attention, A, gradient in zip(model.attentions, probs, gradients, strict=True):
        update = (A * gradient).clamp(min=0).mean(1)[0].detach()
        R = update / update.sum(-1, keepdim=True) @ R if isinstance(attention, Alone) else R + update @ R
    return R[-1]


@pytest.mark.parametrize("kinds", [(Alone, Attention), (Attention, Alone, Attention)])
def test_relevance_is_carried_by_rows_that_sum_to_one(kinds: tuple[type[Attention], ...]) -> None:
    model, ids = Words(*kinds), torch.arange(LENGTH)[None]
    found = heedmap.explain(model, {"input_ids": ids}, target=0, drop_self=False)["text"][0]
    torch.testing.assert_close(found.double(), expected(model, ids), rtol=1e-5, atol=1e-7)


class Again(Words):
    """What the tokens began with is added again to all of them, after an attention that has read them without."""

    def forward(self, input_ids: Tensor) -> Tensor:
        begun = self.words(input_ids)
        alone, reads, again = self.attentions
        x = alone(begun)
        out: Tensor = self.head(again(reads(x) + begun)[:, -1])
        return out


def test_what_is_added_again_to_all_is_refused() -> None:
    with pytest.raises(heedmap.errors.MixingError, match="added again"):
        heedmap.explain(Again(Alone, Attention, Attention), {"input_ids": torch.arange(LENGTH)[None]}, target=0)
