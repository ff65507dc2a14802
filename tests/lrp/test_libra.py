"""Libra gradients against autograd on twins that hold constant by hand what the rules hold constant, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.attention.flow import Graph
from heedmap.errors import MissingRuleError, UnfollowedAttentionError
from heedmap.methods import METHODS
from heedmap.methods.method import TargetView
from oracles import rules

TOKENS, WIDTH, CLASSES = 5, 8, 3
Balance = Callable[[Tensor], Tensor]


def as_it_is(x: Tensor) -> Tensor:
    return x


def half(x: Tensor) -> Tensor:
    return x / 2 + x.detach() / 2


class Net(nn.Module):
    """Two blocks of attention and a network of one kind; ``held`` is what the twin holds constant, ``shared`` what it halves.

    Args:
        fed: the feed-forward network.
        norm: ``"layer"``, ``"rms"`` (torch's), or ``"rms by hand"``.
        attention: ``"fused"`` or ``"inline"``.
        bias: whether anything is added that the input does not say.
    """

    def __init__(
        self, fed: str, norm: str = "layer", attention: str = "inline", bias: bool = True, twin: bool = False
    ) -> None:
        super().__init__()
        self.kinds = fed, norm, attention
        self.held: Balance = torch.Tensor.detach if twin else as_it_is
        self.shared: Balance = half if twin else as_it_is
        self.twin, self.maps, self.outs, self.states = twin, list[Tensor](), list[Tensor](), list[Tensor]()
        names = ("q", "k", "v", "o", "gate", "up", "down")
        self.blocks = nn.ModuleList(
            nn.ModuleDict({n: nn.Linear(WIDTH, WIDTH, bias=bias) for n in names}) for _ in range(2)
        )
        self.scales = nn.Parameter(torch.ones(WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        x, fed = features, self.fed
        for block in self.blocks:
            self.states.append(x)
            x = x + self.attended(block, self.normed(x))
            x = x + block["down"](fed(block, self.normed(x)))
        return self.head(x[:, 0])

    def normed(self, x: Tensor) -> Tensor:
        kind = self.kinds[1]
        if kind == "layer" and self.twin:
            centred = x - x.mean(-1, keepdim=True)
            return centred / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach() * self.scales
        if kind == "layer":
            return F.layer_norm(x, (WIDTH,), self.scales)
        if kind == "rms" and not self.twin:
            return F.rms_norm(x, (WIDTH,), self.scales, 1e-5)
        return x * self.held(torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)) * self.scales

    def attended(self, block: Any, x: Tensor) -> Tensor:
        q, k, v = (block[n](x).unflatten(-1, (2, -1)).transpose(1, 2) for n in "qkv")
        if self.kinds[2] == "fused" and not self.twin:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            probs = self.held((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1))
            out = probs @ v
            self.maps.append(probs)
            self.outs.append(out)
        return block["o"](out.transpose(1, 2).flatten(2))

    def fed(self, block: Any, x: Tensor) -> Tensor:
        kind, g, held = self.kinds[0], block["gate"](x), self.held
        if kind == "relu":
            return g.relu()
        if kind == "tanh":
            return g.tanh()
        if kind == "gelu":
            return g * held(0.5 * (1 + torch.erf(g / 2**0.5))) if self.twin else F.gelu(g)
        if kind == "gelu by erf":
            return g * held(0.5 * (1.0 + torch.erf(g / 2**0.5)))
        if kind == "gelu by tanh":
            inner = (2 / torch.pi) ** 0.5 * (g + 0.044715 * torch.pow(g, 3.0))
            return 0.5 * g * held(1.0 + torch.tanh(inner))
        if kind == "quick gelu":
            return g * held(torch.sigmoid(1.702 * g))
        if kind == "mish":
            return g * held(F.softplus(g).tanh()) if self.twin else F.mish(g)
        if kind == "glu":
            both = torch.cat([block["up"](x), g], -1)
            return block["up"](x) * held(g.sigmoid()) if self.twin else F.glu(both, -1)
        if kind == "swiglu":
            made = g * held(g.sigmoid()) if self.twin else F.silu(g)
            return self.shared(made) * self.shared(block["up"](x))
        if kind == "swiglu by hand":
            made = g * held(g.sigmoid())
            return self.shared(made) * self.shared(block["up"](x))
        assert kind == "bilinear"
        return self.shared(g) * self.shared(block["up"](x))


FEDS = (
    "relu", "tanh", "gelu", "gelu by erf", "gelu by tanh", "quick gelu", "mish", "glu", "swiglu", "swiglu by hand", "bilinear",
)  # fmt: skip
KINDS = [
    *((fed, "layer", "inline") for fed in FEDS),
    ("gelu", "layer", "fused"),
    ("swiglu", "rms", "fused"),
    ("swiglu", "rms by hand", "inline"),
]


def pair(kind: tuple[str, str, str], seed: int = 0, bias: bool = True) -> tuple[Net, Net, Tensor]:
    """A model, its twin, and features of two samples."""
    torch.manual_seed(seed)
    model, twin = Net(*kind, bias=bias).double().eval(), Net(*kind, bias=bias, twin=True).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    twin.load_state_dict(model.state_dict())
    return model, twin, torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS, ids=" / ".join)
def test_input_times_gradient_is_that_of_the_twin(kind: tuple[str, str, str], seed: int) -> None:
    model, twin, x = pair(kind, seed)
    given = x.clone().requires_grad_()
    values = twin(given)
    torch.testing.assert_close(values, model(x))
    (gradient,) = torch.autograd.grad(values[:, 1].sum(), given)
    found = heedmap.explain(model, {"features": x}, target=1, method="libra_input_x_gradient")["features"]
    torch.testing.assert_close(found.double(), (x * gradient).sum(-1), rtol=1e-5, atol=1e-6)
    plain = heedmap.explain(model, {"features": x}, target=1, method="input_x_gradient")["features"]
    assert not torch.allclose(found, plain, rtol=1e-2)


@pytest.mark.parametrize("kind", [k for k in KINDS if k[0] != "tanh"], ids=" / ".join)
def test_without_biases_it_sums_to_the_score(kind: tuple[str, str, str]) -> None:
    model, _, x = pair(kind, bias=False)
    found = heedmap.explain(model, {"features": x}, target=2, method="libra_input_x_gradient")
    torch.testing.assert_close(found["features"].double().sum(1), model(x)[:, 2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [("gelu", "layer", "inline"), ("swiglu", "rms", "fused")], ids=" / ".join)
def test_generic_has_the_twins_gradients(kind: tuple[str, str, str]) -> None:
    model, twin, x = pair(kind)
    values = twin(x)[:, 1].sum()
    layers = list(zip(twin.maps, torch.autograd.grad(values, twin.outs), strict=True))
    wanted = np.eye(TOKENS)
    for number, (probs, gradient) in enumerate(layers):
        value = value_of(twin, x, number)
        cam = rules.average_heads(probs[0].detach().numpy(), (gradient[0] @ value[0].mT).detach().numpy())
        wanted = wanted + cam @ wanted
    wanted[0, 0] = 0
    found = heedmap.explain(model, {"features": x}, target=1, method="libra_generic")["features"]
    assert wanted[0].max() > 1e-6
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [("gelu", "layer", "inline"), ("swiglu", "rms", "fused")], ids=" / ".join)
def test_layers_have_the_twins_gradients(kind: tuple[str, str, str]) -> None:
    model, twin, x = pair(kind)
    values = twin(x.requires_grad_())[:, 1].sum()
    gradients = torch.autograd.grad(values, twin.states)
    each = [(s * g).sum(-1).detach() for s, g in zip(twin.states, gradients, strict=True)]
    heard = [probs.mean(1).mean(1).detach() for probs in twin.maps]
    features = {"features": x.detach()}
    found = heedmap.explain(model, features, target=1, method="fullgrad_plus")["features"]
    torch.testing.assert_close(found.double(), each[0] + each[1], rtol=1e-5, atol=1e-6)
    found = heedmap.explain(model, features, target=1, method="attcat")["features"]
    torch.testing.assert_close(found.double(), each[0] * heard[0] + each[1] * heard[1], rtol=1e-5, atol=1e-6)


def value_of(model: Net, x: Tensor, number: int) -> Tensor:
    """v of a block, (batch, heads, tokens, features)."""
    seen: list[Tensor] = []
    handle = model.blocks[number]["v"].register_forward_hook(lambda _, __, result: seen.append(result))
    model(x)
    handle.remove()
    return seen[0].unflatten(-1, (2, -1)).transpose(1, 2)


def test_at_zero_a_gate_is_the_slope() -> None:
    """Rows of zeros (padding) meet every activation at 0."""
    model, twin, x = pair(("gelu", "rms", "inline"), bias=False)
    x[:, 2] = 0
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(twin(given)[:, 0].sum(), given)
    found = heedmap.explain(model, {"features": x}, target=0, method="libra_input_x_gradient")["features"]
    torch.testing.assert_close(found.double(), (x * gradient).sum(-1), rtol=1e-5, atol=1e-6)


def test_a_probability_has_a_gradient() -> None:
    """A softmax that weighs no values is none of an attention."""
    model, _, x = pair(("gelu", "layer", "inline"))
    found = heedmap.explain(
        model, {"features": x}, target=lambda y: y.softmax(-1)[:, 0], method="libra_input_x_gradient"
    )
    assert float(found["features"].abs().max()) > 1e-4


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


class Odd(Net):
    """A model with an operation in its head that has no rule."""

    def __init__(self, what: str) -> None:
        super().__init__("gelu")
        self.what = what

    def forward(self, features: Tensor) -> Tensor:
        y = super().forward(features)
        if self.what == "custom":
            return _Doubled.apply(y)
        return y / y.sum(-1, keepdim=True) if self.what == "quotient" else F.instance_norm(y[:, None])[:, 0]


@pytest.mark.parametrize("method", ["libra_generic", "libra_input_x_gradient"])
@pytest.mark.parametrize(
    ("what", "why"), [("custom", "autograd"), ("quotient", "computed from the input"), ("norm", "no rule")]
)
def test_what_has_no_rule_is_refused(what: str, why: str, method: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(MissingRuleError, match=f"{why}.*'generic'"):
        heedmap.explain(Odd(what), {"features": torch.randn(2, TOKENS, WIDTH)}, target=0, method=method)


def test_where_tokens_are_followed_by_numbers_there_is_no_map() -> None:
    method, run = METHODS["libra_generic"], TargetView(Graph([], [], []), [], {}, {}, {})
    assert method.prepare is not None
    with pytest.raises(UnfollowedAttentionError, match="choose 'generic'"):
        method.prepare(run, method.resolve({}))
