"""A model whose answer depends on the calls before is refused: what it is explained by would be another answer's run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from heedmap.errors import AttentionError

INPUTS = {"input_ids": torch.tensor([[3, 7, 9, 11, 7], [1, 2, 3, 4, 5]])}


def counts(model: Keeps, hidden: Tensor) -> Tensor:
    model.calls += 1
    return hidden * (1 + 0.1 * model.calls)


def counts_in_a_buffer(model: Keeps, hidden: Tensor) -> Tensor:
    model.seen += 1
    return hidden * (1 + 0.1 * model.seen)


def remembers(model: Keeps, hidden: Tensor) -> Tensor:
    model.kept.append(hidden.detach().mean())
    return hidden + 0.5 * sum(model.kept[:-1])


def keeps_what_changes_nothing(model: Keeps, hidden: Tensor) -> Tensor:
    model.calls += 1
    model.seen += 1
    model.kept.append(hidden.detach())
    return hidden


class Keeps(nn.Module):
    """Words, a state of its own, and two layers of attention, of an LSTM (which mixes tokens too), or none that mixes any."""

    def __init__(self, state: Callable[[Keeps, Tensor], Tensor], mixing: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.state, self.mixing, self.calls, self.kept = state, mixing, 0, list[Tensor]()
        self.words, self.head, self.reader = nn.Embedding(50, 16), nn.Linear(16, 3), nn.LSTM(16, 16, batch_first=True)
        self.layers = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = self.state(self, self.words(input_ids))
        if self.mixing == "attention":
            for layer in self.layers:
                q, k, v = (part[:, None] for part in layer(hidden).chunk(3, -1))
                hidden = hidden + F.scaled_dot_product_attention(q, k, v)[:, 0]
        elif self.mixing == "windows":
            for layer in self.layers:
                q, k, v = (F.pad(part, (0, 0, 0, 1)).reshape(-1, 2, 16)[:, None] for part in layer(hidden).chunk(3, -1))
                hidden = hidden + F.scaled_dot_product_attention(q, k, v)[:, 0].reshape(len(hidden), -1, 16)[:, :-1]
        else:
            hidden = self.reader(hidden)[0][:, -1:]
        return self.head(hidden.mean(1))  # type: ignore[no-any-return]


METHODS = [("attention", "generic"), ("attention", "occlusion"), ("attention", "attn_lrp"), ("windows", "generic"),
           ("lstm", "integrated_gradients"), ("lstm", "occlusion"), ("lstm", "auto")]  # fmt: skip


@pytest.mark.parametrize("state", [counts, counts_in_a_buffer, remembers])
@pytest.mark.parametrize(("mixing", "method"), METHODS)
def test_an_answer_that_depends_on_the_calls_before_is_refused_each_time(
    state: Callable[[Keeps, Tensor], Tensor], mixing: str, method: str
) -> None:
    model = Keeps(state, mixing).eval()
    for _ in range(2):
        with pytest.raises(AttentionError, match="does not do the same thing twice on equal input"):
            heedmap.explain(model, INPUTS, target=1, method=method)


@pytest.mark.parametrize(("mixing", "method"), METHODS)
def test_what_it_keeps_may_change_where_its_answer_does_not(mixing: str, method: str) -> None:
    found = heedmap.explain(Keeps(keeps_what_changes_nothing, mixing).eval(), INPUTS, target=1, method=method)
    assert found["text"].abs().max() > 0
