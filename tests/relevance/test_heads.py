"""How a model writes its heads does not change a map: any split of heads, or of values, into calls equals the one attention."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import AMONG_WORDS
from heedmap.errors import UnfollowedAttentionError

D, HEADS, TOKENS = 16, 4, 7
CHEAP = {"integrated_gradients": {"steps": 2}, "smoothgrad": {"samples": 2}, "gradient_shap": {"samples": 2}}
ONE = ((0, 1, 2, 3),)
JOINS = ("cat", "buffer", "projections", "einsum", "residual", "residual in place")


def attend(form: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """(batch, heads, tokens, features) each."""
    if form == "sdpa":
        return F.scaled_dot_product_attention(q, k, v, mask)
    if q.shape[1] == 1 and form == "single":  # of three dims, as a module for one head writes it
        q, k, v = q[:, 0], k[:, 0], v[:, 0]
        scores = (q @ k.transpose(1, 2) / D**0.5 * 2).masked_fill(~mask, -torch.inf)
        return (scores.softmax(-1) @ v)[:, None]
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ v


class Net(nn.Module):
    """Two causal layers, whose heads are computed in calls as told."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(30, D)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, 5)
        for p in self.parameters():
            p.data *= 2
        self.calls, self.form, self.join, self.halves = ONE, "sdpa", "cat", 1

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for qkv, out in zip(self.qkv, self.out, strict=True):
            x = self.joined(x, self.norm(x), qkv, out.weight)
        return self.head(self.norm(x)[:, -1])

    def joined(self, x: Tensor, normed: Tensor, qkv: nn.Linear, out: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in qkv(normed).chunk(3, -1))
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        made: dict[int, Tensor] = {}
        for call in self.calls:
            queries, keys, values = q[:, call], k[:, call], v[:, call]
            parts = [attend(self.form, queries, keys, part, mask) for part in values.chunk(self.halves, -1)]
            made |= dict(zip(call, torch.cat(parts, -1).unbind(1), strict=True))
        heads, weights = [made[i] for i in range(HEADS)], out.chunk(HEADS, 1)
        if self.join == "cat":
            return x + F.linear(torch.cat(heads, -1), out)
        if self.join == "buffer":
            buffer = torch.zeros_like(x)
            for i, head in enumerate(heads):
                buffer[..., i * D // HEADS : (i + 1) * D // HEADS] = head
            return x + F.linear(buffer, out)
        if self.join == "einsum":
            return x + torch.einsum("bhqd,ohd->bqo", torch.stack(heads, 1), out.unflatten(1, (HEADS, -1)))
        for head, weight in zip(heads, weights, strict=True):
            if self.join == "residual":
                x = x + F.linear(head, weight)
            if self.join == "residual in place":
                x = x.clone() if head is heads[0] else x
                x += F.linear(head, weight)
        return x + sum(map(F.linear, heads, weights)) if self.join == "projections" else x


@cache
def net() -> Net:
    return Net().double().eval()


def explained(model: nn.Module, method: str = "generic", **options: Any) -> heedmap.Explanation:
    ids = torch.randint(1, 30, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    return heedmap.explain(model, ids, target=1, method=method, **CHEAP.get(method, {}), **options)


def written(calls: tuple[tuple[int, ...], ...], form: str, join: str, halves: int) -> Net:
    model = net()
    model.calls, model.form, model.join, model.halves = calls, form, join, halves
    return model


LRP = ("partial_lrp", "transformer_attribution", "full_lrp")
OF_BLOCKS = ("token_tm", "value_zeroing", "attcat", "fullgrad_plus")
"""They need one residual connection around each attention, whose heads are one call."""
METHODS = [
    *((method, ()) for method in heedmap.METHODS if method not in (*OF_BLOCKS, *AMONG_WORDS)),
    *((method, (("rules", rules),)) for method in LRP for rules in ("chefer_orig", "chefer_detr")),
    ("generic", (("cam", "lrp"),)),
]


@st.composite
def writings(draw: st.DrawFn) -> tuple[tuple[tuple[int, ...], ...], str, str, int]:
    """Calls, form, join and parts of the values; see :func:`written`."""
    order, cuts = draw(st.permutations(range(HEADS))), draw(st.sets(st.integers(1, HEADS - 1)))
    calls = tuple(tuple(order[a:b]) for a, b in pairwise([0, *sorted(cuts), HEADS]))
    form = draw(st.sampled_from(("sdpa", "softmax", "single")))
    return calls, form, draw(st.sampled_from(JOINS)), draw(st.sampled_from((1, 2, 4)))


@cache
def by_one_attention(method: str, options: tuple[tuple[str, str], ...]) -> Tensor:
    return explained(written(ONE, "sdpa", "cat", 1), method, **dict(options))["text"]


@settings(max_examples=12, deadline=None)
@given(writing=writings())
def test_any_split_by_every_method(writing: Any) -> None:
    """All methods by one proof: what a writing is, is proved anew for each."""
    wanted = [by_one_attention(*method) for method in METHODS]
    model = written(*writing)
    for (method, options), one in zip(METHODS, wanted, strict=True):
        found = explained(model, method, **dict(options))["text"]
        torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-6, msg=lambda said, of=method: f"{of}: {said}")


@pytest.mark.parametrize("method", OF_BLOCKS)
def test_heads_of_their_own_calls_are_refused(method: str) -> None:
    with pytest.raises(UnfollowedAttentionError, match=r"computed by calls of their own.*choose 'generic'"):
        explained(written(((0, 1), (2, 3)), "sdpa", "cat", 1), method)


@cache
def whole_by_one_attention() -> heedmap.Explanation:
    return explained(written(ONE, "sdpa", "cat", 1), full=True)


@settings(max_examples=40, deadline=None)
@given(writing=writings())
def test_any_split(writing: Any) -> None:
    wanted = whole_by_one_attention()
    found = explained(written(*writing), full=True)
    torch.testing.assert_close(found["text"], wanted["text"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.maps["text", "text"], wanted.maps["text", "text"], rtol=1e-4, atol=1e-6)
    assert [(a.heads, a.queries) for a in found.flow.attentions] == [(HEADS, TOKENS)] * 2


class Branches(Net):
    """Two attentions that read the same states; the target reads one of them alone."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens)
        a, b = (self.joined(x, self.norm(x), q, o.weight) for q, o in zip(self.qkv, self.out, strict=True))
        return self.head(self.norm(a)[:, -1]), self.head(self.norm(b)[:, -1])


class Alone(Branches):
    """The first branch by itself."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.head(self.norm(self.joined(x, self.norm(x), self.qkv[0], self.out[0].weight))[:, -1])


def test_what_is_read_apart_stays_apart() -> None:
    both = heedmap.explain(Branches().eval(), torch.arange(1, 8)[None], target=lambda output: output[0][:, 1])
    alone = heedmap.explain(Alone().eval(), torch.arange(1, 8)[None], target=1)
    torch.testing.assert_close(both["text"], alone["text"])


def test_values_in_halves_of_a_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """DiffLlama calls attention twice with one q and k: A is one, and its gradient the sum of both calls'."""
    from transformers import DiffLlamaConfig, DiffLlamaForCausalLM
    from transformers.models.diffllama import modeling_diffllama

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = DiffLlamaConfig(**sizes, intermediate_size=48, vocab_size=60, pad_token_id=0)
    model, ids = DiffLlamaForCausalLM(config).eval(), torch.arange(5, 12)[None]
    for p in model.parameters():
        p.data *= 3
    found = [heedmap.explain(model, ids, target=7, drop_self=False)]
    model.set_attn_implementation("eager")
    found.append(heedmap.explain(model, ids, target=7, drop_self=False))

    calls: list[Tensor] = []
    plain = modeling_diffllama.eager_attention_forward

    def kept(*args: Any, **kwargs: Any) -> Any:
        out, probs = plain(*args, **kwargs)
        calls.append(probs)
        return out, probs

    monkeypatch.setattr(modeling_diffllama, "eager_attention_forward", kept)
    gradients = torch.autograd.grad(model(ids).logits[:, -1, 7].sum(), calls)
    R = torch.eye(7)[None]
    for n in (0, 2):
        A, gradient = calls[n], gradients[n] + gradients[n + 1]
        torch.testing.assert_close(A, calls[n + 1])
        R = R + (A * gradient).clamp(min=0).mean(1).detach() @ R
    for one in found:
        assert [a.heads for a in one.flow.attentions] == [4, 4]
        torch.testing.assert_close(one["text"], R[:, -1], rtol=1e-3, atol=1e-6)
