"""A sum of linear maps has the relevance of one linear map, however it is written; all other sums stay what they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.lrp.functions import Samples
from heedmap.lrp.mode import RelevanceMode
from heedmap.lrp.replay import pulled
from heedmap.lrp.rules import RULES, Rules

BATCH, D = 2, 6


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, V, U = (drawn(D, D, seed=s) for s in range(3))
W[0], V[0], U[0], b = 1.0, 1.0, 1.0, drawn(D, seed=3)


def written(
    name: str, layer: Callable[..., Tensor], share: bool = False, join: bool = True, tokens: int = 3
) -> list[Tensor]:
    """The relevance of x, h, g and f, of a target for each sample."""
    leaves = [drawn(BATCH, tokens, D, seed=s).requires_grad_() for s in range(5, 9)]
    for leaf in leaves[1:]:
        leaf.data[:, 0] = -leaf.data[:, 0].abs()  # nothing contributes positively to the first output
    samples = Samples(BATCH)
    with RelevanceMode(Rules(RULES[name], samples, share)):
        values = layer(*(leaf * 1 for leaf in leaves)).tanh().sum((1, 2))
    if join:
        return [r for r in pulled(values, leaves, torch.ones_like(values), samples) if r is not None]
    return list(torch.autograd.grad(values, leaves, torch.ones_like(values), allow_unused=True))


def in_place(x: Tensor, h: Tensor, g: Tensor, f: Tensor) -> Tensor:
    x = x.clone()
    x += F.linear(h, W, b)
    x += F.linear(g, V)
    x += F.linear(f, U)
    return x


def by_addmm(x: Tensor, h: Tensor, g: Tensor, f: Tensor) -> Tensor:
    x, h, g, f = (t.flatten(0, 1) for t in (x, h, g, f))
    made = torch.addmm(torch.addmm(x + F.linear(h, W, b), g, V.T), f, U.T)
    return made.unflatten(0, (BATCH, -1))


ONE = {
    "one by one": lambda x, h, g, f: x + F.linear(h, W, b) + F.linear(g, V) + F.linear(f, U),
    "the maps first": lambda x, h, g, f: x + (F.linear(h, W) + F.linear(g, V, b) + F.linear(f, U)),
    "Python's sum": lambda x, h, g, f: x + sum([F.linear(h, W), F.linear(g, V), F.linear(f, U, b)]),
    "two and one": lambda x, h, g, f: F.linear(g, V) + ((F.linear(f, U) + F.linear(h, W, b)) + x),
    "x in the middle": lambda x, h, g, f: F.linear(h, W) + x + F.linear(g, V, b) + F.linear(f, U),
    "matmul and add": lambda x, h, g, f: torch.add(h @ W.T, x).add(F.linear(g, V, b)).add(f @ U.T),
    "dropout that is off": lambda x, h, g, f: (
        x + F.dropout(F.linear(h, W, b), 0.5, False) + F.dropout(g @ V.T, 0.5, False) + f @ U.T
    ),
    "in place": in_place,
    "addmm of all samples' rows": by_addmm,
}


def together(x: Tensor, h: Tensor, g: Tensor, f: Tensor) -> Tensor:
    return x + F.linear(torch.cat([h, g, f], -1), torch.cat([W, V, U], 1), b)


@pytest.mark.parametrize("how", ONE)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("tokens", [3, BATCH])
def test_however_it_is_written(how: str, name: str, tokens: int) -> None:
    """Also where no axis tells the samples apart, so that they are handed down one by one."""
    for share in (False, True):
        found, wanted = (torch.stack(written(name, layer, share, tokens=tokens)) for layer in (ONE[how], together))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def residuals(x: Tensor, h: Tensor, g: Tensor, f: Tensor) -> Tensor:
    x = x + F.linear(F.layer_norm(h, (D,)), W)
    x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (D,)), V)) + g, V)
    return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (D,)), U)) + f, U)


def read_aside(x: Tensor, h: Tensor, g: Tensor, f: Tensor) -> Tensor:
    made = x + F.linear(h, W)
    return (made + F.linear(g, V)) * torch.sigmoid(made[:, :1]) + f


APART = {
    "a residual that the next layer reads": residuals,
    "a sum that is read by what only moves it": read_aside,
    "a difference": lambda x, h, g, f: x - F.linear(h, W) - F.linear(g, V) + f,
    "a broadcast": lambda x, h, g, f: x + F.linear(h, W)[:, :1] + F.linear(g[:, :1], V) + f,
    "no maps": lambda x, h, g, f: x + h + g + f,
    "a map that is read twice": lambda x, h, g, f: (x + (m := F.linear(h, W)) + F.linear(g, V)) * m + f,
    "activations of maps": lambda x, h, g, f: x + F.gelu(F.linear(h, W)) + F.gelu(F.linear(g, V)) + f,
    "two residuals": lambda x, h, g, f: (x + F.linear(h, W)) + (g + F.linear(f, V)),
}


@pytest.mark.parametrize("what", APART)
@pytest.mark.parametrize("name", RULES)
def test_what_stays_apart(what: str, name: str) -> None:
    """To the last digit what the rules of its operations give, one by one."""
    for found, wanted in zip(written(name, APART[what]), written(name, APART[what], join=False), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


BETWEEN = {
    "stacked": lambda x, h, g, f: x + torch.stack([F.linear(h, W, b), F.linear(g, V), F.linear(f, U)]).sum(0),
    "a factor": lambda x, h, g, f: x + 0.5 * F.linear(h, 2 * W, b * 2) + F.linear(g, V) + F.linear(f, U),
}


@pytest.mark.parametrize("how", BETWEEN)
def test_what_stands_between_keeps_parts_apart(how: str) -> None:
    """As docs/explanation.md says of the authors' rules; to those of AttnLRP it is all the same."""
    found, wanted = (torch.stack(written("chefer", layer)) for layer in (BETWEEN[how], together))
    assert not torch.allclose(found, wanted, rtol=1e-3)
    found, wanted = (torch.stack(written("attn_lrp", layer)) for layer in (BETWEEN[how], together))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
