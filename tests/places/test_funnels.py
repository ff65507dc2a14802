"""Funnel Transformer against dense matrices in float64: tokens that ask are means of tokens, and are handed back to these as copies."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from placed_models import Case, apart, last, made, words
from torch import Tensor, nn
from transformers.models.funnel import modeling_funnel

from oracles import operators as ops
from oracles.seen import Event, Softmaxes

CLOSE = 1e-6
LENGTH = 7
WINDOWS = ((0,), (1, 2), (3, 4), (5,))
"""The tokens of which each pooled one is the mean; the last token is cut off, the first stands there twice."""
COPIES = (0, 1, 1, 2, 2, 3, 3)
"""Of each token the pooled one that is handed back to it."""


class Funnel(Case):
    """Two blocks of one layer; ``paths`` are empty."""

    def expected(self, model: nn.Module, inputs: Mapping[str, Tensor], drop_self: bool = False) -> Tensor:
        """(batch, words), by the oracle."""
        softmaxes, pools, copies = watched(self, self.eager(model), inputs)
        cams = [ops.whole(event.out, event.out.grad) for event in softmaxes]
        R = torch.eye(LENGTH, dtype=torch.float64).expand(len(inputs["input_ids"]), -1, -1)
        R = R + cams[0] @ R
        below = (pooled(*pools[0]) + cams[1]) @ R
        if not copies:
            return ops.read(below, self.row)
        R = R + handed_back(copies[0]) @ below
        return ops.read(R + cams[2] @ R, self.row, self.own if drop_self else None)


def watched(
    case: Case, model: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[list[Event], list[tuple[Tensor, Tensor]], list[Tensor]]:
    """The softmaxes, what was pooled and became of it, and what was handed back, with the target's gradient."""
    events, pools, copies = list[Event](), list[tuple[Tensor, Tensor]](), list[Tensor]()
    structure, pool, upsample = (
        model.encoder.attention_structure,
        model.encoder.attention_structure.pool_tensor,
        modeling_funnel.upsample,
    )

    def pooling(tensor: Tensor, **options: str) -> Tensor:
        found = pool(tensor, **options)
        if found.requires_grad:
            found.retain_grad()
            pools.append((tensor, found))
        return found

    def copying(*args: Tensor, **options: int) -> Tensor:
        copies.append(upsample(*args, **options).clone())
        copies[-1].retain_grad()
        return copies[-1]

    structure.pool_tensor, modeling_funnel.upsample = pooling, copying
    try:
        with Softmaxes(events):
            score = case.target(model(**inputs)).sum()
        for event in events:
            event.out.retain_grad()
        score.backward()
    finally:
        modeling_funnel.upsample = upsample
    return events, pools, copies


def pooled(x: Tensor, means: Tensor) -> Tensor:
    """M, (batch, pooled, tokens)."""
    into = torch.stack([sum(torch.eye(LENGTH)[j] for j in window) / len(window) for window in WINDOWS]).double()
    torch.testing.assert_close(into @ x, means)
    return ops.normalised((means.grad @ x.mT * into).clamp(min=0).detach(), into > 0)


def handed_back(copies: Tensor) -> Tensor:
    """Ā, (batch, tokens, pooled)."""
    terms = (copies * copies.grad).sum(-1).clamp(min=0).detach()
    return terms[..., None] * torch.eye(len(WINDOWS), dtype=torch.float64)[list(COPIES)]


SIZES = dict(
    vocab_size=30,
    block_sizes=[1, 1],
    num_decoder_layers=1,
    d_model=16,
    n_head=2,
    d_head=8,
    d_inner=24,
    max_position_embeddings=20,
)
CASES = {
    "pooled": ("FunnelBaseModel", None),
    "handed back": ("FunnelModel", -1),
}


@pytest.mark.parametrize("attention", ["relative_shift", "factorized"])
@pytest.mark.parametrize("name", CASES)
def test_funnels(name: str, attention: str) -> None:
    kind, own = CASES[name]
    case = Funnel(
        made(kind, "FunnelConfig", **SIZES, attention_type=attention), partial(words, LENGTH), last, (), list, -1, own
    )
    model, inputs = case.model(), case.given(2)
    for drop_self in (False, True) if own else (False,):
        assert apart(case.found(model, inputs, drop_self), case.expected(model, inputs, drop_self)) <= CLOSE
