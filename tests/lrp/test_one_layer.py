"""AttnLRP on a transformer of one layer: derived by hand from the paper's equations, and by the authors' package lxt."""

from __future__ import annotations

import lxt.explicit.functional as lf
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap

TOKENS, WIDTH, CLASSES = 5, 8, 3


class OneLayer(nn.Module):
    """x + W_o softmax(q kᵀ / √d) v, a layer norm, a gated MLP, and class scores of the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o, self.gate, self.up, self.down = (nn.Linear(WIDTH, WIDTH) for _ in range(7))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        scores = self.q(features) @ self.k(features).transpose(-1, -2) * WIDTH**-0.5
        mixed = features + self.o(torch.softmax(scores, -1) @ self.v(features))
        normed = self.norm(mixed)
        made = mixed + self.down(torch.nn.functional.silu(self.gate(normed)) * self.up(normed))
        return self.head(made[:, 0])


@pytest.fixture(scope="module")
def model() -> OneLayer:
    torch.manual_seed(3)
    made = OneLayer().double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


@pytest.fixture(scope="module")
def features() -> Tensor:
    return torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def found(model: OneLayer, features: Tensor, label: int) -> Tensor:
    explanation = heedmap.explain(model, {"features": features}, target=label, method="attn_lrp")
    return explanation["features"].double()


def by_hand(model: OneLayer, x: np.ndarray, label: int) -> np.ndarray:
    """Relevance of one sample's tokens, (tokens,): every rule of the paper written out, from the logit down."""
    W = {name: p.detach().numpy() for name, p in model.named_parameters()}

    def linear(name: str, t: np.ndarray) -> np.ndarray:
        return t @ W[f"{name}.weight"].T + W[f"{name}.bias"]

    def linear_down(name: str, t: np.ndarray, R: np.ndarray) -> np.ndarray:  # ε-rule, eq. 8
        return t * ((R / linear(name, t)) @ W[f"{name}.weight"])

    q, k, v = (linear(name, x) for name in "qkv")
    scores = q @ k.T / np.sqrt(WIDTH)
    A = np.exp(scores - scores.max(1, keepdims=True))
    A /= A.sum(1, keepdims=True)
    out = A @ v
    mixed = x + linear("o", out)
    mean, var = mixed.mean(1, keepdims=True), mixed.var(1, keepdims=True)
    normed = (mixed - mean) / np.sqrt(var + model.norm.eps) * W["norm.weight"] + W["norm.bias"]
    gate, up = linear("gate", normed), linear("up", normed)
    gated = gate / (1 + np.exp(-gate)) * up
    deep = linear("down", gated)
    made = mixed + deep
    logit = made[0] @ W["head.weight"][label] + W["head.bias"][label]

    R_made = np.zeros_like(made)
    R_made[0] = made[0] * W["head.weight"][label]  # logit · (x w / logit)
    assert np.isclose(R_made.sum() + W["head.bias"][label], logit)
    R_mixed, R_deep = mixed / made * R_made, deep / made * R_made
    R_gated = linear_down("down", gated, R_deep)
    R_normed = linear_down("gate", normed, R_gated / 2) + linear_down(
        "up", normed, R_gated / 2
    )  # uniform rule, identity
    scale = W["norm.weight"] / np.sqrt(var + model.norm.eps)  # Proposition 3.4: a constant; what is left is linear
    passed = scale * R_normed / normed
    R_mixed = R_mixed + mixed * (passed - passed.mean(1, keepdims=True))
    R_x, R_o = x / mixed * R_mixed, (mixed - x) / mixed * R_mixed
    R_out = linear_down("o", out, R_o)
    shares = A[:, :, None] * v[None] / (2 * out[:, None]) * R_out[:, None]  # eq. 15, halved
    R_A, R_v = shares.sum(2), shares.sum(0)
    R_scores = scores * (R_A - A * R_A.sum(1, keepdims=True))  # eq. 13
    raw = q @ k.T
    parts = q[:, None] * k[None] / (2 * raw[:, :, None]) * R_scores[:, :, None]
    R_x = R_x + linear_down("v", x, R_v) + linear_down("q", x, parts.sum(1)) + linear_down("k", x, parts.sum(0))
    return R_x.sum(1)


@pytest.mark.parametrize("label", range(CLASSES))
def test_by_hand(model: OneLayer, features: Tensor, label: int) -> None:
    ours = found(model, features, label)
    for sample in range(len(features)):
        wanted = by_hand(model, features[sample].numpy(), label)
        np.testing.assert_allclose(ours[sample], wanted, rtol=2e-5, atol=2e-6 * np.abs(wanted).max())


def by_lxt(model: OneLayer, features: Tensor, label: int) -> Tensor:
    """The same of the functions of lxt, AttnLRP's own package (its "explicit" half), on one sample."""
    x = features.clone().requires_grad_()

    def linear(layer: nn.Linear, t: Tensor) -> Tensor:
        return lf.linear_epsilon(t, layer.weight, layer.bias, 1e-12)

    def product(a: Tensor, b: Tensor) -> Tensor:
        return lf.matmul(a, b, False, 1e-12)

    class Same(torch.autograd.Function):
        """lxt's identity rule, for SiLU."""

        @staticmethod
        def forward(ctx, t):
            return torch.nn.functional.silu(t)

        @staticmethod
        def backward(ctx, R):
            return R

    A = lf.softmax(product(linear(model.q, x), linear(model.k, x).transpose(-1, -2)) * 1.0, -1, temperature=WIDTH**0.5)
    mixed = lf.add2(x, linear(model.o, product(A, linear(model.v, x))), False, 1e-12)
    normed = lf.layer_norm(mixed, model.norm.weight, model.norm.bias, model.norm.eps)
    made = lf.add2(
        mixed,
        linear(model.down, lf.mul2(Same.apply(linear(model.gate, normed)), linear(model.up, normed))),
        False,
        1e-12,
    )
    logit = linear(model.head, made[:, 0])[:, label]
    (relevance,) = torch.autograd.grad(logit, x, logit.detach())
    return relevance.sum(-1)


@pytest.mark.parametrize("label", range(CLASSES))
def test_the_package_of_the_papers_authors(model: OneLayer, features: Tensor, label: int) -> None:
    ours, theirs = found(model, features, label), torch.cat([by_lxt(model, x[None], label) for x in features])
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
