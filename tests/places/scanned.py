"""Oracle of state-space layers and gated recurrences: closed forms of c_ij in float64, in place of the model's own scans.

Each function here stands in for one of transformers' and computes o_i = Σ_j c_ij by its definition, all pairs at once; the model
around it is left as it is. What was computed is kept, so that Ā_ij = E_h[⟨∂y/∂o_i, c_ij⟩⁺] can be taken afterwards.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(eq=False)
class Seen:
    """One mixer or attention of a pass.

    Attributes:
        kind: ``"conv"``, ``"scan"``, ``"shift"`` or ``"attention"``.
        out: o, whose gradient is kept.
        terms: c, (batch, heads, i, j, features); of an attention None, and ``out`` is A.
    """

    kind: str
    out: Tensor
    terms: Tensor | None = None

    def cam(self) -> Tensor:
        """Ā, (batch, i, j)."""
        gradient = self.out.grad
        assert gradient is not None
        if self.terms is None:
            return (self.out * gradient).clamp(min=0).mean(1).detach()
        return (gradient[:, :, :, None] * self.terms).sum(-1).clamp(min=0).mean(1).detach()


EVENTS: list[Seen] = []


def kept(kind: str, terms: Tensor) -> Tensor:
    """o, (batch, heads, i, features), of these terms."""
    out = terms.sum(3)
    out.retain_grad()
    EVENTS.append(Seen(kind, out, terms.detach()))
    return out


def decays(logs: Tensor) -> Tensor:
    """Π_{j<t≤i} exp(logs_t), (…, i, j) of (…, t); 0 where j > i."""
    tokens = logs.shape[-1]
    found = torch.zeros(*logs.shape, tokens, dtype=logs.dtype)
    for i in range(tokens):
        for j in range(i + 1):
            found[..., i, j] = logs[..., j + 1 : i + 1].sum(-1).exp()
    return found


def selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    **_: Any,
) -> Tensor:
    """Mamba: one head over all channels; D x_i is a contribution of the token to itself."""
    x, A, B, C = (t.double() for t in (hidden_states, A, B, C))
    dt = F.softplus(dt.double() + delta_bias.double()[..., None])
    paths = decays(A[None, :, :, None] * dt[:, :, None])  # batch, d, n, i, j
    weights = torch.einsum("bni,bdnij,bnj,bdj->bdij", C, paths, B, dt)
    terms = (weights + D.double()[:, None, None] * torch.eye(x.shape[-1])) * x[:, :, None]
    out = kept("scan", terms.permute(0, 2, 3, 1)[:, None])
    return out[:, 0].mT * F.silu(z)


def chunk_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    dt_limit: tuple[float, float],
    **_: Any,
) -> Tensor:
    """Mamba 2: heads."""
    heads, groups = hidden_states.shape[2], B.shape[2]
    x, B, C = (t.double().transpose(1, 2) for t in (hidden_states, B, C))
    B, C = (t.repeat_interleave(heads // groups, 1) for t in (B, C))
    dt = F.softplus(dt.double() + dt_bias.double()).clamp(*dt_limit).mT  # batch, heads, tokens
    weights = (C @ B.mT) * decays(A.double()[None, :, None] * dt) * dt[:, :, None]
    weights = weights + D.double()[:, None, None] * torch.eye(x.shape[2])
    return kept("scan", weights[..., None] * x[:, :, None]).transpose(1, 2).contiguous()


def delta_rule(query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, **_: Any) -> tuple[Tensor, None]:
    """Gated delta rule: S ← e^g S; S ← S + k β (v − kᵀS)ᵀ; o = qᵀS."""
    q, k, v, g, beta = (t.double().transpose(1, 2) for t in (query, key, value, g, beta))
    q, k = (t.repeat_interleave(v.shape[1] // t.shape[1], 1) for t in (q, k))
    q, k = (t * torch.rsqrt(t.square().sum(-1, keepdim=True) + 1e-6) for t in (q, k))
    tokens = v.shape[2]
    weights = torch.zeros(*v.shape[:2], tokens, tokens, dtype=torch.float64)
    for j in range(tokens):
        state = beta[:, :, j, None] * k[:, :, j]
        for i in range(j, tokens):
            if i > j:
                state = state * g[:, :, i, None].exp()
                state = state - beta[:, :, i, None] * k[:, :, i] * (k[:, :, i] * state).sum(-1, keepdim=True)
            weights[:, :, i, j] = (q[:, :, i] * state).sum(-1) * q.shape[-1] ** -0.5
    return kept("scan", weights[..., None] * v[:, :, None]).transpose(1, 2), None


def rnn_scan(
    self: nn.Module, hidden_states: Tensor, recurrent_gate: Tensor, reset: Tensor, **_: Any
) -> tuple[Tensor, None]:
    """RG-LRU."""
    gate = (recurrent_gate.double() * ~reset).mT
    tokens = gate.shape[-1]
    terms = torch.zeros(*gate.shape, tokens, dtype=torch.float64)
    for i in range(tokens):
        for j in range(i + 1):
            terms[..., i, j] = gate[..., j + 1 : i + 1].prod(-1)
    terms = terms * hidden_states.double().mT[:, :, None]
    return kept("scan", terms.permute(0, 2, 3, 1)[:, None])[:, 0], None


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None, **_: Any) -> Tensor:
    """A causal depthwise convolution."""
    size, tokens = weight.shape[-1], x.shape[-1]
    terms = torch.zeros(*x.shape, tokens, dtype=torch.float64)
    for i in range(tokens):
        for j in range(max(0, i - size + 1), i + 1):
            terms[..., i, j] = weight[:, size - 1 - (i - j)] * x[..., j]
    out = kept("conv", terms.permute(0, 2, 3, 1)[:, None])[:, 0].mT
    out = out if bias is None else out + bias[:, None]
    return F.silu(out) if activation is not None else out


def conv_module(self: nn.Conv1d, x: Tensor) -> Tensor:
    """The same, as a module."""
    return convolved(x, self.weight[:, 0], self.bias)


def shifted(hidden: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
    """What a token and the one before it give to a row, each (batch, tokens, features)."""
    return hidden * mix, F.pad(hidden, (0, 0, 1, -1)) * (1 - mix)


def shift_terms(hidden: Tensor, mix: Tensor) -> Tensor:
    """(batch, 1, i, j, features)."""
    own, before = shifted(hidden, mix)
    terms = torch.zeros(*hidden.shape[:2], *hidden.shape[1:], dtype=torch.float64)
    for i in range(hidden.shape[1]):
        terms[:, i, i] = own[:, i]
        if i:
            terms[:, i, i - 1] = before[:, i]
    return terms[:, None]


def rwkv_attention(self: nn.Module, hidden: Tensor, **_: Any) -> tuple[Tensor, None]:
    """RWKV: w_ij = e^{k_j − (i−1−j) e^{decay}}, w_ii = e^{k_i + first}, over their sum; values with their shift."""
    key = self.key(sum(shifted(hidden, self.time_mix_key))).mT
    tokens = key.shape[-1]
    weights = torch.zeros(*key.shape, tokens, dtype=torch.float64)
    for i in range(tokens):
        weights[..., i, i] = (key[..., i] + self.time_first).exp()
        for j in range(i):
            weights[..., i, j] = (key[..., j] - (i - 1 - j) * self.time_decay.exp()).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    made = F.linear(shift_terms(hidden, self.time_mix_value)[:, 0], self.value.weight)  # batch, row, token, features
    out = kept("scan", torch.einsum("bdit,btjd->bijd", weights, made)[:, None])[:, 0]
    gate = kept("shift", shift_terms(hidden, self.time_mix_receptance))[:, 0]
    return self.output(torch.sigmoid(self.receptance(gate)) * out), None


def rwkv_feed_forward(self: nn.Module, hidden: Tensor, **_: Any) -> tuple[Tensor, None]:
    """RWKV's channel mixing, of two shifts."""
    key = kept("shift", shift_terms(hidden, self.time_mix_key))[:, 0]
    gate = kept("shift", shift_terms(hidden, self.time_mix_receptance))[:, 0]
    value = self.value(torch.relu(self.key(key)).square())
    return torch.sigmoid(self.receptance(gate)) * value, None


class Softmaxes(TorchFunctionMode):
    """Keeps each attention's A, (batch, heads, i, j), in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") != "softmax" or args[0].dim() != 4:
            return func(*args, **kwargs)
        result = func(*args, **{**kwargs, "dtype": torch.float64})
        result.retain_grad()
        EVENTS.append(Seen("attention", result))
        return result


STANDS_FOR: dict[str, Callable[..., Any]] = {
    "mamba_selective_scan": selective_scan,
    "mamba2_chunk_scan": chunk_scan,
    "torch_chunk_gated_delta_rule": delta_rule,
    "causal_conv1d_fn": convolved,
    "RecurrentGemmaRglru._rnn_scan": rnn_scan,
    "RwkvSelfAttention.forward": rwkv_attention,
    "RwkvFeedForward.forward": rwkv_feed_forward,
}


@contextmanager
def by_definition(model: nn.Module) -> Iterator[None]:
    """The model's scans are those of this module."""
    source = importlib.import_module(type(model).__module__)
    patches = []
    for path, function in STANDS_FOR.items():
        *owner, name = path.split(".")
        where = getattr(source, owner[0], None) if owner else source
        if where is not None and hasattr(where, name):
            patches.append(patch.object(where, name, function))
    if "recurrent_gemma" in source.__name__:
        patches.append(patch.object(nn.Conv1d, "forward", conv_module))
    for one in patches:
        one.start()
    try:
        with Softmaxes():
            yield
    finally:
        for one in patches:
            one.stop()


def seen(model: nn.Module, inputs: dict[str, Tensor], target: Callable[[Any], Tensor]) -> tuple[list[Seen], Tensor]:
    """What a pass of a model whose weights have gradients was made of, and the target's value."""
    EVENTS.clear()
    with by_definition(model), torch.enable_grad():
        score = target(model(**inputs, use_cache=False))
    score.sum().backward()
    return list(EVENTS), score.detach()


Layer = Sequence[str]


def relevance(events: Sequence[Seen], layers: Sequence[Layer], keys: bool) -> Tensor:
    """R, (batch, tokens, tokens), after layers of events that each read the state before.

    Args:
        events: of a pass.
        layers: the kinds of each layer's events, in order.
        keys: whether a convolution makes new tokens for the scan after it (its rows then sum to 1); else it updates them.
    """
    rest = iter(events)
    batch, tokens = events[0].cam().shape[:2]
    R = torch.eye(tokens, dtype=torch.float64).expand(batch, -1, -1)
    for layer in layers:
        read, made = R, R
        for kind in layer:
            event = next(rest)
            assert event.kind == kind
            cam = event.cam()
            if kind == "conv":
                read = normalised(cam) @ R if keys else R + cam @ R
            elif kind == "scan":
                made = made + cam @ read
            else:
                made = made + cam @ R
        R = made
    assert next(rest, None) is None
    return R


def normalised(cam: Tensor, size: int = 4) -> Tensor:
    """Each row over its sum; one of zeros is shared out among all that the convolution reads."""
    sums = cam.sum(-1, keepdim=True)
    reach = torch.ones(cam.shape[1:], dtype=torch.float64).tril().triu(1 - size)
    return torch.where(sums > 0, cam / torch.where(sums > 0, sums, 1), reach / reach.sum(-1, keepdim=True))
