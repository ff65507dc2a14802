"""Relevance through whole models: what is conserved, what is refused, and that nothing is left changed."""

from __future__ import annotations

import pytest
import torch
from conservation import MODELS, arrived
from torch import Tensor, nn

import heedmap
from heedmap.errors import GradientError, MissingRuleError, OptionError
from heedmap.lrp.replay import propagate
from heedmap.methods import method

METHODS = ("partial_lrp", "transformer_attribution", "full_lrp", "attn_lrp")
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


@pytest.mark.parametrize("name", MODELS)
def test_all_relevance_arrives(name: str) -> None:
    """With rules that leave biases out, what arrives is what was handed down, but for outputs that nothing feeds."""
    slack = 0.02 if name == "detr" else 1e-4  # a convolution's outputs that have no positive contribution at all
    assert arrived(name, "chefer") == pytest.approx(1, abs=slack)


class Encoder(nn.Module):
    """One self-attention, then ``after``, then class scores of the first token."""

    def __init__(self, after) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.qkv, self.head, self.after = nn.Linear(8, 24), nn.Linear(8, 3), after

    def forward(self, features: Tensor) -> Tensor:
        q, k, v = self.qkv(features).chunk(3, -1)
        mixed = features + torch.nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return self.head(self.after(mixed)[:, 0])


class Doubled(torch.autograd.Function):
    """A model's own autograd function."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def overwritten(x: Tensor) -> Tensor:
    gated = x * torch.sigmoid(x)
    made = x + gated
    gated.zero_()
    return made


REFUSED = {
    "an operation without a rule": (lambda x: x + torch.cumprod(x, -1), "no rule for cumprod"),
    "another": (lambda x: torch.cdist(x, x) @ x, "no rule for cdist"),
    "a quotient of two": (lambda x: x / (1 + x.abs().sum(-1, keepdim=True)), "no rule for"),
    "weights made of the input": (lambda x: torch.nn.functional.linear(x, x[0, :8].T @ x[0, :8]), "whose weights"),
    "an autograd function of the model": (Doubled.apply, "Doubled.*never saw run"),
}


def features() -> Tensor:
    return torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused(what: str, method: str) -> None:
    after, message = REFUSED[what]
    model = Encoder(after)
    heedmap.explain(
        model, {"features": features()}, target=1, probe=False
    )  # where weights are made of tokens, these mix
    with pytest.raises(MissingRuleError, match=message):
        heedmap.explain(model, {"features": features()}, target=1, method=method, probe=False)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_overwritten_while_a_rule_needs_it(method: str) -> None:
    found, wanted = (
        heedmap.explain(Encoder(after), {"features": features()}, target=1, method=method)["features"]
        for after in (overwritten, lambda x: x + x * torch.sigmoid(x))
    )
    assert torch.allclose(found, wanted)


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_the_rules_hold_constant_is_refused(method: str) -> None:
    with pytest.raises(MissingRuleError, match="no relevance passes from the target"):
        heedmap.explain(
            Encoder(nn.Identity()), {"features": features()}, target=lambda out: out.norm(dim=-1), method=method
        )


def test_relevance_that_is_not_finite_is_refused() -> None:
    """Where large parts cancel, each takes thousands of times the whole: more than float16 holds."""
    model, x = Encoder(lambda x: 2000 * x - 1999 * x).half(), features().half()
    with pytest.raises(GradientError, match="relevance is not finite"):
        heedmap.explain(model, {"features": x}, target=lambda out: out[:, 1] + 3e4, method="attn_lrp")


def test_an_operation_off_the_target_does_no_harm() -> None:
    class Aside(Encoder):
        def forward(self, features: Tensor) -> dict[str, Tensor]:
            logits = super().forward(features)
            return {"logits": logits, "aside": torch.cumprod(logits, -1)}

    plain = heedmap.explain(Encoder(nn.Identity()), {"features": features()}, target=1, method="full_lrp")
    aside = heedmap.explain(Aside(nn.Identity()), {"features": features()}, target=1, method="full_lrp")
    torch.testing.assert_close(aside["features"], plain["features"])


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("first", [True, False])
def test_samples_are_told_apart_in_any_layout(batch: int, first: bool) -> None:
    """Also where the number of tokens is the batch size, and no axis tells which is which."""

    class Layout(Encoder):
        def forward(self, features: Tensor) -> Tensor:
            mixed = features + self.after(features) if first else (features.mT.mT + self.after(features))
            moved = mixed if first else mixed.transpose(0, 1).contiguous()
            moved = moved + torch.tanh(moved)
            return super().forward(moved if first else moved.transpose(0, 1))

    model, x = Layout(nn.Linear(8, 8)).double(), features().double()
    x = torch.cat([x, x.flip(1), x[:1] * 2])[:batch]
    together = heedmap.explain(model, {"features": x}, target=1, method="full_lrp")["features"]
    alone = [heedmap.explain(model, {"features": one[None]}, target=1, method="full_lrp")["features"] for one in x]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_found(method: str) -> None:
    model = Encoder(nn.Dropout(0.5)).train()
    before, x = {n: p.clone() for n, p in model.named_parameters()}, features()
    state, given = torch.get_rng_state(), x.clone()
    first = heedmap.explain(model, {"features": x}, target=1, method=method)
    second = heedmap.explain(model, {"features": x}, target=1, method=method)
    torch.testing.assert_close(first["features"], second["features"], rtol=0, atol=0)
    assert all(m.training for m in model.modules())
    assert all(p.grad is None and p.requires_grad and torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, given)
    assert not any(m._forward_hooks for m in model.modules())


def test_several_targets_equal_each_alone() -> None:
    model, x = Encoder(nn.GELU()), features()
    several = heedmap.explain(model, {"features": x}, target=[0, 2], method="transformer_attribution")
    for label, one in zip((0, 2), several, strict=True):
        alone = heedmap.explain(model, {"features": x}, target=label, method="transformer_attribution")
        torch.testing.assert_close(one["features"], alone["features"])


def test_the_input_has_no_whole_maps() -> None:
    with pytest.raises(OptionError, match="has no whole maps"):
        heedmap.explain(Encoder(nn.GELU()), {"features": features()}, target=1, method="full_lrp", full=True)


def test_an_unknown_rule_set_is_refused() -> None:
    with pytest.raises(OptionError, match="expected one of 'chefer', 'chefer_orig'"):
        heedmap.explain(Encoder(nn.GELU()), {"features": features()}, method="generic", cam="lrp", rules="lxt")


def test_relevance_is_propagated_once_for_a_map_and_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(method, "propagate", lambda *args: calls.append(args) or propagate(*args))
    subject = heedmap.load("zoo/gpt-lists")
    text = heedmap.zoo_sample("gpt-lists").inputs["text"]
    subject.explain(text=text, cam="lrp", full=True, drop_identity=True)
    assert len(calls) == 1
    subject.explain(text=text, cam="lrp", target=[1, 2])
    assert len(calls) == 3
