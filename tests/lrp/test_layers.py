"""Single layers: the authors' numbers, and slow oracles of the same rules, number by number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from heedmap.lrp.functions import Samples, plus_tiny
from heedmap.lrp.mode import RelevanceMode
from heedmap.lrp.rules import RULES, Rules

TINY = 1e-9
NAMES = {"ours": "chefer", "vit": "chefer", "orig": "chefer_orig", "detr": "chefer_detr"}
"""The authors' copies of the layers → rule set."""

LAYERS: dict[str, Callable[..., Tensor]] = {
    "linear": lambda given, x: F.linear(x, given["weight"], given["bias"]),
    "add": lambda given, a, b: a + b,
    "add_tiny": lambda given, a, b: a + b,
    "index_select": lambda given, x: torch.index_select(x, 1, torch.tensor(1)).reshape(given["R0"].shape),
    "einsum_attn_value": lambda given, a, v: torch.einsum("bij,bjd->bid", a, v),
    "matmul": lambda given, a, v: a @ v,
    "conv2d_first": lambda given, x: F.conv2d(x, given["weight"], given["bias"], stride=2),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "layer" in metafunc.fixturenames:
        file = _file(metafunc.config)
        metafunc.parametrize(
            "layer", [(file, name) for name in json.loads(file.read_text())["cases"]], ids=lambda p: p[1]
        )


def _file(config: pytest.Config) -> Path:
    own = Path(__file__).parents[1] / "parity" / "golden" / "rules" / "lrp_layers.json"
    return next(iter(sorted(config.getoption("golden").glob("*/lrp_layers.json"))), own)


def handed_down(
    name: str,
    layer: Callable[..., Tensor],
    inputs: list[Tensor],
    relevance: Tensor,
    batch: int = 1,
    share: bool = False,
) -> list[Tensor]:
    """What heedmap's rules give the inputs of a layer."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    with RelevanceMode(Rules(RULES[name], Samples(batch), share)):
        out = layer(*(x.clone() for x in leaves))
    return list(torch.autograd.grad(out, leaves, relevance))


def test_the_authors_layers(layer) -> None:
    file, name = layer
    tensors = load_file(file.with_suffix(".safetensors"))
    given = {k.rpartition("/")[2]: t for k, t in tensors.items() if k.startswith(f"{name}/in/")}
    wanted = [tensors[k] for k in sorted(tensors) if k.startswith(f"{name}/out/")]
    if name == "safe_divide":
        torch.testing.assert_close(plus_tiny(given["a"], given["b"]), wanted[0], rtol=1e-12, atol=0)
        return
    kind, _, whose = name.rpartition("_")
    if kind == "clone3":
        x = given["x0"].clone().requires_grad_()
        shared = x * 1
        Rules(RULES[NAMES[whose]], Samples(1)).read_again(shared)
        handed = [given[f"R{i}"] for i in range(3)]
        (found,) = torch.autograd.grad([shared * 1 for _ in handed], [x], handed)
        torch.testing.assert_close(found, wanted[0], rtol=1e-9, atol=1e-12)
        return
    if name == "matmul_detr":
        pytest.skip("the authors' DETR does not use it: its attention is an einsum")
    inputs = [given[k] for k in ("x0", "x1") if k in given]
    found = handed_down(NAMES[whose], lambda *x: LAYERS[kind](given, *x), inputs, given["R0"])
    factor = 2 if kind == "einsum_attn_value" else 1  # theirs halves after the layer
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours * factor, theirs, rtol=1e-6, atol=1e-9)


# -- oracles: loops over numbers ------------------------------------------------------------------------------------


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def run(name: str, layer: Callable[..., Tensor], inputs: list[np.ndarray], relevance: np.ndarray, batch: int = 1):
    found = handed_down(name, layer, [torch.as_tensor(x) for x in inputs], torch.as_tensor(relevance), batch)
    return [t.numpy() for t in found]


def divided(relevance: float, z: float) -> float:
    return 0.0 if z == 0 else relevance / (z + TINY)


def zplus(x: np.ndarray, W: np.ndarray, R: np.ndarray, apart: bool) -> np.ndarray:
    """x (rows, in), W (out, in), R (rows, out)."""
    found = np.zeros_like(x)
    for row, j in np.ndindex(R.shape):
        parts = [[x[row, i] * W[j, i] if (x[row, i] > 0) == want and (W[j, i] > 0) == want else 0.0
                  for i in range(x.shape[1])] for want in (True, False)]  # fmt: skip
        for part in parts:
            z = sum(part) if apart else sum(map(sum, parts))
            for i, amount in enumerate(part):
                found[row, i] += amount * divided(R[row, j], z)
    return found


@pytest.mark.parametrize("name", ["chefer", "chefer_orig", "chefer_detr"])
def test_positive_contributions(name: str) -> None:
    x, W, b, R = drawn(3, 5), drawn(4, 5), drawn(4), drawn(3, 4)
    (found,) = run(name, lambda t: F.linear(t, torch.as_tensor(W), torch.as_tensor(b)), [x], R)
    wanted = zplus(x, W, R, apart=name == "chefer_orig")
    if name == "chefer_detr":
        wanted *= R.sum() / wanted.sum()
    np.testing.assert_allclose(found, wanted, rtol=1e-7)
    handed = ((x[:, None] * W > 0).any(-1) * R).sum()  # where nothing contributes positively, it is lost
    if name == "chefer":
        assert found.sum() == pytest.approx(handed, rel=1e-7)


@pytest.mark.parametrize("write", [lambda x, W: x @ W.T, lambda x, W: torch.einsum("ij,oj->io", x, W),
                                   lambda x, W: torch.addmm(torch.ones(4, dtype=x.dtype), x, W.T)])  # fmt: skip
def test_a_linear_map_however_it_is_written(write) -> None:
    x, W, R = drawn(3, 5), torch.as_tensor(drawn(4, 5)), drawn(3, 4)
    (found,) = run("chefer", lambda t: write(t, W), [x], R)
    np.testing.assert_allclose(found, zplus(x, W.numpy(), R, apart=False), rtol=1e-7)


def test_epsilon_gives_the_bias_its_share() -> None:
    x, W, b, R = drawn(3, 5), drawn(4, 5), drawn(4), drawn(3, 4)
    (found,) = run("attn_lrp", lambda t: F.linear(t, torch.as_tensor(W), torch.as_tensor(b)), [x], R)
    wanted = np.zeros_like(x)
    for row, j, i in np.ndindex(3, 4, 5):
        wanted[row, i] += x[row, i] * W[j, i] / (W[j] @ x[row] + b[j]) * R[row, j]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    absorbed = (b / (x @ W.T + b) * R).sum()
    assert found.sum() + absorbed == pytest.approx(R.sum(), rel=1e-3)


@pytest.mark.parametrize("name", RULES)
def test_a_product_of_two_gives_half_to_each(name: str) -> None:
    a, v, R = drawn(2, 3, 4), drawn(2, 4, 5), drawn(2, 3, 5)
    found = run(name, torch.matmul, [a, v], R)
    wanted = [np.zeros_like(a), np.zeros_like(v)]
    for n, i, j, d in np.ndindex(2, 3, 4, 5):
        amount = a[n, i, j] * v[n, j, d] / (a[n, i] @ v[n, :, d]) * R[n, i, d] / 2
        wanted[0][n, i, j] += amount
        wanted[1][n, j, d] += amount
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert sum(f.sum() for f in found) == pytest.approx(R.sum(), rel=1e-5)


def conserving(a: np.ndarray, b: np.ndarray, R: np.ndarray) -> list[np.ndarray]:
    parts = [x * np.vectorize(divided)(R, a + b) for x in (a, b)]
    whole = abs(parts[0].sum()) + abs(parts[1].sum())
    return [p * abs(p.sum()) / whole * R.sum() / p.sum() for p in parts]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sum_conserves_each_sample_by_itself(axis: int) -> None:
    """Batch first and sequence first: each sample's relevance is what it would be alone."""
    a, b, R = (np.moveaxis(drawn(2, 5, 4, seed=s), 0, axis) for s in range(3))
    found = run("chefer", torch.add, [a, b], R, batch=2)
    for sample in range(2):
        alone = conserving(*(np.take(x, sample, axis) for x in (a, b, R)))
        for ours, theirs in zip(found, alone, strict=True):
            np.testing.assert_allclose(np.take(ours, sample, axis), theirs, rtol=1e-6)
    assert sum(f.sum() for f in found) == pytest.approx(R.sum(), rel=1e-6)


@pytest.mark.parametrize("name", ["chefer_orig", "attn_lrp"])
def test_a_sum_in_proportion(name: str) -> None:
    a, b, R = drawn(3, 4), drawn(4, seed=1), drawn(3, 4, seed=2)
    found = run(name, torch.add, [a, b], R)
    np.testing.assert_allclose(found[0], a / (a + b) * R, rtol=1e-5)
    np.testing.assert_allclose(found[1], (b / (a + b) * R).sum(0), rtol=1e-5)


def test_a_difference_counts_what_is_taken_away_as_negative() -> None:
    a, b, R = drawn(3, 4), drawn(3, 4, seed=1), drawn(3, 4, seed=2)
    found = run("attn_lrp", torch.sub, [a, b], R)
    np.testing.assert_allclose(found[0], a / (a - b) * R, rtol=1e-5)
    np.testing.assert_allclose(found[1], -b / (a - b) * R, rtol=1e-5)


def test_pixels_are_bounded_by_the_least_and_the_greatest() -> None:
    x, W, R = drawn(2, 3, 4, 4), drawn(5, 3, 2, 2), drawn(2, 5, 2, 2)
    (found,) = run("chefer", lambda t: F.conv2d(t, torch.as_tensor(W), stride=2), [x], R, batch=2)
    wanted = np.zeros_like(x)
    for n, o, r, c in np.ndindex(R.shape):
        patch = (slice(None), slice(2 * r, 2 * r + 2), slice(2 * c, 2 * c + 2))
        low, high = x[n].min(), x[n].max()
        parts = x[n][patch] * W[o] - low * np.clip(W[o], 0, None) - high * np.clip(W[o], None, 0)
        wanted[n][patch] += parts / (parts.sum() + TINY) * R[n, o, r, c]
    np.testing.assert_allclose(found, wanted, rtol=1e-7)
    assert found.sum() == pytest.approx(R.sum(), rel=1e-6)


def test_softmax_by_its_taylor_expansion() -> None:
    """Eq. 13 of AttnLRP; a masked entry takes nothing."""
    x, R = drawn(3, 5), drawn(3, 5, seed=1)
    x[0, 2] = -np.inf
    R[0, 2] = 0
    (found,) = run("attn_lrp", lambda t: torch.softmax(t, -1), [x], R)
    for row in range(3):
        p = np.exp(x[row] - x[row].max())
        p /= p.sum()
        wanted = [0.0 if p[i] == 0 else x[row, i] * (R[row, i] - p[i] * R[row].sum()) for i in range(5)]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-7, atol=1e-12)


PASSING = {
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "rms_norm by hand": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "normalised": lambda x: x / x.norm(dim=-1, keepdim=True),
    "a factor": lambda x: 3 * x / 7,
    "a constant": lambda x: 1 + x - torch.ones(4, dtype=x.dtype),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "in place": lambda x: x.mul_(2).add_(1),
    "relu in place": lambda x: F.relu(x, inplace=True),
    "clamped": lambda x: x.clamp(-1, 1),
}


@pytest.mark.parametrize("how", PASSING)
@pytest.mark.parametrize("name", ["chefer_orig", "attn_lrp"])
def test_what_lets_relevance_pass(how: str, name: str) -> None:
    x, R = drawn(3, 4), drawn(3, 4, seed=1)
    (found,) = run(name, PASSING[how], [x], R)
    np.testing.assert_allclose(found, R, rtol=1e-6)


NORMS = {
    "layer norm": lambda x, w, b: F.layer_norm(x, (4,), w, b),
    "group norm": lambda x, w, b: F.group_norm(x, 1, w, b),
    "batch norm": lambda x, w, b: F.batch_norm(x, torch.zeros_like(w) + 0.3, torch.ones_like(w) * 2, w, b),
}


@pytest.mark.parametrize("how", NORMS)
def test_norms(how: str) -> None:
    """The authors let all relevance pass; in AttnLRP the bias and the mean take their share, the deviation none."""
    x, R, w, b = drawn(3, 4), drawn(3, 4, seed=1), drawn(4, seed=2), drawn(4, seed=3)
    args = (torch.as_tensor(w), torch.as_tensor(b))
    np.testing.assert_allclose(run("chefer_orig", lambda t: NORMS[how](t, *args), [x], R)[0], R, rtol=1e-7)
    (found,) = run("attn_lrp", lambda t: NORMS[how](t, *args), [x], R)
    mean = 0.3 if how == "batch norm" else x.mean(1, keepdims=True)
    std = np.sqrt(2 + 1e-5) if how == "batch norm" else np.sqrt(x.var(1, keepdims=True) + 1e-5)
    shares = R / ((x - mean) / std * w + b) * w / std
    centred = 0 if how == "batch norm" else shares.mean(1, keepdims=True)
    np.testing.assert_allclose(found, x * (shares - centred), rtol=1e-5)


def test_a_mean_in_proportion() -> None:
    x, R = drawn(2, 3, 4), drawn(2, 4)
    (found,) = run("chefer", lambda t: t.mean(1), [x], R)
    np.testing.assert_allclose(found, x * (R / x.sum(1))[:, None], rtol=1e-5)


def test_a_gate_gives_half_to_each() -> None:
    a, b, R = drawn(3, 4), drawn(3, 4, seed=1), drawn(3, 4, seed=2)
    found = run("chefer", lambda a, b: F.silu(a) * b, [a, b], R)
    for ours in found:
        np.testing.assert_allclose(ours, R / 2, rtol=1e-7)


def test_what_is_added_to_a_product_has_its_relevance() -> None:
    """``baddbmm`` of three activations: a sum of two, of which one is a product."""
    added, a, b, R = drawn(2, 3, 5, seed=4), drawn(2, 3, 4), drawn(2, 4, 5), drawn(2, 3, 5)
    found = run("attn_lrp", lambda t, x, y: torch.baddbmm(t, x, y, beta=0.5, alpha=2), [added, a, b], R)
    np.testing.assert_allclose(found[0], 0.5 * added / (0.5 * added + 2 * a @ b) * R, rtol=1e-5)
    assert sum(f.sum() for f in found) == pytest.approx(R.sum(), rel=1e-4)


def test_position_embeddings_take_a_share_only_where_asked() -> None:
    x, place, R = (torch.as_tensor(drawn(1, 3, 4, seed=s)) for s in range(3))
    whole, shared = (handed_down("chefer", lambda t: t + place, [x], R, share=s)[0] for s in (False, True))
    torch.testing.assert_close(whole, R, rtol=0, atol=0)
    np.testing.assert_allclose(shared, conserving(x.numpy(), place.numpy(), R.numpy())[0], rtol=1e-6)
