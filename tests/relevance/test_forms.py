"""One function, its attention written in many forms: each has the map that the rules give, written out in float64."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError

D, HEADS, LAYERS = 16, 2, 3
WORDS = torch.randint(1, 40, (3, 5), generator=torch.Generator().manual_seed(0))

Form = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v of (batch, tokens, heads, features) → o of that shape."""


def plain(q: Tensor, k: Tensor, v: Tensor, maps: list[Tensor]) -> Tensor:
    """The form that the oracle sees: A is (batch, heads, queries, keys)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    maps.append((q @ k.mT).softmax(-1))
    return (maps[-1] @ v).transpose(1, 2)


def exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).exp()
    return (scores / scores.sum(-1, keepdim=True) @ v.transpose(1, 2)).transpose(1, 2)


def shifted_exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return (weights.div(weights.sum(dim=-1, keepdim=True)) @ v.transpose(1, 2)).transpose(1, 2)


def values_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(exp(s) v) / Σ exp(s)."""
    scores = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).exp()
    return (scores @ v.transpose(1, 2) / scores.sum(-1, keepdim=True)).transpose(1, 2)


def logarithms(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
    return (scores.log_softmax(-1).exp() @ v.transpose(1, 2)).transpose(1, 2)


def folded_before_the_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    batch, tokens = q.shape[:2]
    q, k, v = (t.permute(2, 0, 1, 3).reshape(HEADS * batch, tokens, -1) for t in (q, k, v))
    return torch.bmm(torch.bmm(q, k.mT).softmax(-1), v).reshape(HEADS, batch, tokens, -1).permute(1, 2, 0, 3)


def keys_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return ((k @ q.mT).softmax(-2).mT @ v).transpose(1, 2)


def features_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """vᵀ Aᵀ."""
    q, k, v = (t.permute(0, 2, 3, 1) for t in (q, k, v))
    return (v @ (q.mT @ k).softmax(-1).mT).permute(0, 3, 1, 2)


def sequence_first_folded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(tokens, batch · heads, features), as fairseq writes it."""
    batch, tokens = q.shape[:2]
    q, k, v = (t.transpose(0, 1).reshape(tokens, batch * HEADS, -1).transpose(0, 1) for t in (q, k, v))
    out = torch.bmm(F.softmax(torch.bmm(q, k.transpose(1, 2)), dim=-1), v)
    return out.transpose(0, 1).reshape(tokens, batch, HEADS, -1).transpose(0, 1)


def multiplied_and_summed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """No product of matrices: factors side by side, summed."""
    scores = (q[:, :, None] * k[:, None]).sum(-1)
    return (scores.softmax(2)[..., None] * v[:, None]).sum(2)


def heads_behind_features(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, where it is not to be seen which axis of the result is that of the heads."""
    q, k, v = (t.mT for t in (q, k, v))
    scores = (q[:, :, None] * k[:, None]).sum(-2)
    return (scores.softmax(2)[..., None, :] * v[:, None]).sum(2).mT


def exponentials_of_heads_behind_features(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.mT for t in (q, k, v))
    weights = (q[:, :, None] * k[:, None]).sum(-2).exp()
    return ((weights / weights.sum(2, keepdim=True))[..., None, :] * v[:, None]).sum(2).mT


def equation(scores: str, values: str, axis: int, turn: bool = False) -> Form:
    def form(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = ((t.transpose(0, 1) if turn else t) for t in (q, k, v))
        out = torch.einsum(values, torch.einsum(scores, q, k).softmax(axis), v)
        return out.transpose(0, 1) if turn else out

    return form


def ellipsis(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    out = torch.einsum("...qk,...kd->...qd", torch.einsum("...qd,...kd->...qk", q, k).softmax(-1), v)
    return out.transpose(1, 2)


def values_before_weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bkhd,bhqk->bqhd", v, torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1))


def sublists(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    probs = torch.einsum(q, [0, 1, 2, 3], k, [0, 4, 2, 3], [0, 2, 1, 4]).softmax(-1)
    return torch.einsum(probs, [0, 2, 1, 4], v, [0, 4, 2, 3], [0, 1, 2, 3])


FORMS: dict[str, Form] = {
    "plain": lambda q, k, v: plain(q, k, v, []),
    "exp / sum": exponentials,
    "shifted exp / sum": shifted_exponentials,
    "values first, then / sum": values_first,
    "log_softmax, exp": logarithms,
    "heads before the batch": folded_before_the_batch,
    "keys on the first axis": keys_first,
    "features on the first axis": features_first,
    "sequence first, folded": sequence_first_folded,
    "einsum": equation("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", -1),
    "einsum, implicit": equation("bqhd,bkhd->bhqk", "bhqk,bkhd->bqhd", 3),
    "einsum, heads last": equation("bqhd,bkhd->bqkh", "bqkh,bkhd->bqhd", 2),
    "einsum, keys before queries": equation("bqhd,bkhd->bhkq", "bhkq,bkhd->bqhd", 2),
    "einsum, sequence first": equation("qbhd,kbhd->qkbh", "qkbh,kbhd->qbhd", 1, turn=True),
    "einsum, sequence first, then batch": equation("qbhd,kbhd->bhqk", "bhqk,kbhd->qbhd", -1, turn=True),
    "einsum, ellipsis": ellipsis,
    "einsum, values before weights": values_before_weights,
    "einsum, sublists": sublists,
    "multiplied and summed": multiplied_and_summed,
}


REFUSED = dict.fromkeys((heads_behind_features, exponentials_of_heads_behind_features), "* k[:, None]")
"""Forms that are not followed, and the line at which tokens mix."""


class Net(nn.Module):
    """Layers of attention over words, with a head on the first."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.embed, self.head = nn.Embedding(40, D), nn.Linear(D, 3)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(LAYERS))
        self.out = nn.ModuleList(nn.Linear(D, D) for _ in range(LAYERS))
        self.double().eval()

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for qkv, out in zip(self.qkv, self.out, strict=True):
            q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in qkv(x).chunk(3, -1))
            x = x + out(self.form(q / math.sqrt(2), k, v).flatten(2))
        return self.head(x[:, 0])


def oracle(words: Tensor, label: int) -> Tensor:
    """Eqs. 5 and 6, and the row of the first word without itself."""
    maps: list[Tensor] = []
    y = Net(lambda q, k, v: plain(q, k, v, maps))(words)[:, label].sum()
    r = torch.eye(words.shape[1]).double()
    for a, g in zip(maps, torch.autograd.grad(y, maps), strict=True):
        r = r + (a * g).clamp(min=0).mean(1).detach() @ r
    return r[:, 0].index_fill(1, torch.tensor([0]), 0)


@pytest.mark.parametrize("words", [WORDS, WORDS[:1]], ids=["three", "one"])
@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_attention(name: str, words: Tensor) -> None:
    model = Net(FORMS[name])
    torch.testing.assert_close(model(words), Net(FORMS["plain"])(words))
    found = heedmap.explain(model, words, target=1)
    torch.testing.assert_close(found["text"].double(), oracle(words, 1), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("form", REFUSED)
def test_a_form_that_is_not_followed(form: Form) -> None:
    """The refusal says where tokens mix, and which methods explain the model nevertheless."""
    lines, start = inspect.getsourcelines(form)
    line = start + next(n for n, code in enumerate(lines) if REFUSED[form] in code)
    torch.testing.assert_close(Net(form)(WORDS), Net(FORMS["plain"])(WORDS))
    with pytest.raises(AttentionError) as error:
        heedmap.explain(Net(form), WORDS, target=1)
    said = str(error.value)
    assert f"{__file__}:{line} in {form.__name__}" in said
    assert "method='integrated_gradients'" in said


def test_a_sum_of_weights_that_is_more_than_a_divisor_mixes_tokens() -> None:
    def added(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        sums = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).exp().sum(-1)
        return values_first(q, k, v) + sums.transpose(1, 2)[..., None]

    with pytest.raises(AttentionError):
        heedmap.explain(Net(added), WORDS, target=1)
