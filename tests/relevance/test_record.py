"""A recorded attention gives back A and ∂y/∂A of torch's own fused attention, in any blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedmap.attention.attention import Attention, Layout
from heedmap.relevance.rules import average_heads
from oracles import attention as oracle
from oracles import rules

MASKS = ("none", "causal", "boolean", "boolean keys", "boolean 2-D", "additive", "additive of each head", "hidden rows")


@dataclass(frozen=True)
class Call:
    """One call of F.scaled_dot_product_attention."""

    query: Tensor
    key: Tensor
    value: Tensor
    options: dict[str, Any]

    @property
    def scale(self) -> float:
        """Factor of q kᵀ."""
        return self.options.get("scale") or self.query.shape[-1] ** -0.5

    @property
    def mask(self) -> Tensor | None:
        """The mask as given."""
        return self.options.get("attn_mask")

    def record(self, out: Tensor, dtype: torch.dtype | None = None) -> Attention:
        """What the recorder keeps of it."""
        query, key, value = (t if dtype is None else t.to(dtype) for t in (self.query, self.key, self.value))
        return Attention(
            index=0,
            form="sdpa",
            out=out,
            layout=Layout(None, len(query)),
            value=value,
            keys=key.shape[2],
            query=query,
            key=key,
            mask=self.mask,
            causal=self.options.get("is_causal", False),
            scale=self.scale,
        )

    def probabilities(self) -> Tensor:
        """A of the oracle, head by head."""
        batch, heads, queries, _ = self.query.shape
        keys, shared = self.key.shape[2], heads // self.key.shape[1]
        mask = None if self.mask is None else self.mask.expand(batch, heads, queries, keys).numpy()
        found = np.zeros((batch, heads, queries, keys))
        for b in range(batch):
            for h in range(heads):
                found[b, h] = oracle.probabilities(
                    self.query[b, h].detach().numpy(),
                    self.key[b, h // shared].numpy(),
                    self.scale,
                    None if mask is None else mask[b, h],
                    self.options.get("is_causal", False),
                )
        return torch.as_tensor(found)


def mask_of(kind: str, shape: tuple[int, int, int, int], random: torch.Generator) -> Tensor | None:
    """A mask of this kind for A of this shape."""
    queries = shape[2]
    may_look = torch.rand(shape, generator=random) > 0.4
    may_look[..., 0] = True
    added = torch.randn(shape, generator=random).double()
    return {
        "boolean": may_look[:, :1],
        "boolean keys": may_look[:, :1, :1],
        "boolean 2-D": may_look[0, 0],
        "additive": added[:, :1].masked_fill(~may_look[:, :1], torch.finfo(torch.float64).min),
        "additive of each head": added.masked_fill(~may_look, -torch.inf),
        "hidden rows": may_look[:, :1] & (torch.arange(queries) % 2 == 1)[:, None],
    }.get(kind)


@st.composite
def calls(draw: st.DrawFn, masks: tuple[str, ...] = MASKS) -> Call:
    """Random sizes, heads that share keys, masks and scales."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    batch, queries, keys = (draw(st.integers(1, n)) for n in (2, 6, 7))
    depth, features = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    heads, shared = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2]))
    kind = draw(st.sampled_from(masks))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    options: dict[str, Any] = {"enable_gqa": True} if shared > 1 else {}
    if draw(st.booleans()):
        options["scale"] = 0.37
    if kind == "causal":
        options["is_causal"] = True
    elif kind != "none":
        options["attn_mask"] = mask_of(kind, (batch, heads * shared, queries, keys), random)
    query = normal(batch, heads * shared, queries, depth).requires_grad_()
    return Call(query, normal(batch, heads, keys, depth), normal(batch, heads, keys, features), options)


def explicit(call: Call) -> tuple[Tensor, Tensor]:
    """(A, o) with A a leaf of autograd's graph: the oracle's."""
    probs = call.probabilities().requires_grad_()
    shared = call.query.shape[1] // call.key.shape[1]
    return probs, probs @ call.value.repeat_interleave(shared, 1)


def target(out: Tensor) -> Tensor:
    """Some scalar of o."""
    return (out.tanh() * torch.arange(1.0, out.numel() + 1, dtype=out.dtype).reshape(out.shape)).sum()


@pytest.mark.parametrize("mask", MASKS)
@settings(max_examples=20)
@given(data=st.data(), step=st.integers(1, 4))
def test_fused_attention_and_its_gradient(mask, data, step):
    """A = the oracle's and o = A v; ∂y/∂A = autograd's through an explicit A; blocks give the same."""
    call = data.draw(calls((mask,)))
    out = F.scaled_dot_product_attention(call.query, call.key, call.value, **call.options)
    probs, expected_out = explicit(call)
    torch.testing.assert_close(out.nan_to_num(0.0), expected_out, rtol=1e-9, atol=1e-12)
    expected = torch.autograd.grad(target(expected_out), probs)[0]
    out_gradient = torch.autograd.grad(target(out), out)[0]
    record = call.record(out)
    found, gradient = record.probabilities(), record.gradient(out_gradient)
    assert not found.requires_grad
    torch.testing.assert_close(found, probs.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    blocks = [slice(i, i + step) for i in range(0, record.queries, step)]
    torch.testing.assert_close(torch.cat([record.probabilities(b) for b in blocks], 2), found)
    torch.testing.assert_close(torch.cat([record.gradient(out_gradient, b) for b in blocks], 2), gradient)


@given(calls())
def test_equation_5(call):
    """Ā of what is recorded is the oracle's: positive part first, then the mean over heads."""
    probs, out = explicit(call)
    gradient = torch.autograd.grad(target(out), probs)[0]
    record = call.record(out)
    found = average_heads(record.probabilities(), record.gradient(torch.autograd.grad(target(out), out)[0]))
    for b, cam in enumerate(found):
        expected = rules.average_heads(probs[b].detach().numpy(), gradient[b].numpy())
        np.testing.assert_allclose(cam.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@given(call=calls(("none", "causal", "boolean")))
def test_small_floats_are_accumulated_in_float32(dtype, tolerance, call):
    record = call.record(call.value, dtype)
    out_gradient = torch.ones(*record.query.shape[:3], record.value.shape[3], dtype=dtype)
    found, gradient = record.probabilities(), record.gradient(out_gradient)
    assert found.dtype == gradient.dtype == torch.float32
    torch.testing.assert_close(found.double(), call.probabilities(), rtol=0, atol=10 * tolerance)


def test_a_query_that_may_look_nowhere_asks_nothing():
    """Its A is zero, not NaN, whether the mask is boolean or −∞."""
    tensors = [torch.randn(1, 2, 3, 4, dtype=torch.float64) for _ in range(3)]
    hidden = torch.ones(3, 3, dtype=torch.bool)
    hidden[1] = False
    for mask in (hidden, torch.zeros(3, 3).double().masked_fill(~hidden, -torch.inf)):
        found = Call(*tensors, {"attn_mask": mask}).record(tensors[0]).probabilities()
        assert float(found[:, :, 1].abs().max()) == 0
        torch.testing.assert_close(found[:, :, [0, 2]].sum(-1), torch.ones(1, 2, 2).double())


def test_columns_that_are_no_tokens_are_left_out():
    """Of bias_k and zero attention A has further columns; they take their share and are dropped."""
    query, key, value = (torch.randn(1, 1, n, 4, dtype=torch.float64) for n in (2, 5, 5))
    whole = Call(query, key, value, {}).record(query)
    fewer = Attention(0, "mha", query, Layout(None, 1), value, keys=3, query=query, key=key, scale=whole.scale)
    torch.testing.assert_close(fewer.probabilities(), whole.probabilities()[..., :3])
    torch.testing.assert_close(fewer.gradient(query), whole.gradient(query)[..., :3])


def test_attention_written_inline_is_taken_as_it_is():
    """A of a softmax in the model is given back by blocks, in float32 at least, without its graph."""
    probs = torch.rand(2, 3, 4, 5, dtype=torch.bfloat16).requires_grad_()
    value = torch.rand(2, 3, 5, 6, dtype=torch.bfloat16)
    record = Attention(0, "softmax", probs @ value, Layout(None, 2), value, keys=4, probs=probs)
    assert (record.batch, record.heads, record.queries) == (2, 3, 4)
    found = record.probabilities(slice(1, 3))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.equal(found, probs.detach()[:, :, 1:3, :4].float())


def test_layout():
    """(queries, batch · heads, features) and the like become (batch, heads, queries, features)."""
    tensor = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(Layout(None, 2).apply(tensor), tensor)
    assert torch.equal(Layout(None, 2).apply(tensor.flatten(0, 1)), tensor)
    assert torch.equal(Layout((0, 2, 1, 3), 2).apply(tensor.transpose(1, 2)), tensor)
