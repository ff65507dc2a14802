"""Operations in every form in which models call them: under the rules each gives the value, and the layout, that it has without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.lrp.mode import RelevanceMode
from heedmap.lrp.rules import RULES, Libra, Rules, Samples

Form = Callable[[Tensor], Tensor]
SETS: dict[str, Callable[[], Any]] = {
    "libra": Libra,
    "attn_lrp": lambda: Rules(RULES["attn_lrp"], Samples(2)),
    "chefer": lambda: Rules(RULES["chefer"], Samples(2)),
}
generator = torch.Generator().manual_seed(0)


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


SQUARE, BIAS, BATCHED, ONES = weights(6, 6), weights(6), weights(2, 6, 3), torch.ones(6)
PICTURE, KEYS = weights(4, 6, 2, 2), weights(2, 2, 5, 6)

FORMS: dict[str, Form] = {
    "addmm": lambda x: torch.addmm(BIAS, x[0], SQUARE),
    "addmm by names": lambda x: torch.addmm(input=BIAS, mat1=x[0], mat2=SQUARE, beta=0.5),
    "addmm of a tensor": lambda x: x[0].addmm(mat1=x[1][:, :4], mat2=x[1]),
    "baddbmm of a constant by names": lambda x: weights(1, 1, 1).baddbmm(batch1=x, batch2=x.mT, beta=0.3, alpha=0.1),
    "baddbmm by places": lambda x: torch.baddbmm(torch.zeros(2, 4, 3), x, BATCHED),
    "power": lambda x: x**2,
    "power by a name": lambda x: torch.pow(input=x, exponent=2),
    "pow of a tensor": lambda x: x.pow(3),
    "sums by names": lambda x: torch.add(input=x, other=x, alpha=2) + torch.sub(x, other=BIAS),
    "from one": lambda x: 1 - x,
    "product by names": lambda x: torch.mul(input=x, other=x),
    "quotient by names": lambda x: torch.div(input=x, other=3),
    "matmul by names": lambda x: torch.matmul(input=x, other=SQUARE),
    "einsum": lambda x: torch.einsum("bnf,fg->bng", x, SQUARE),
    "mean by names": lambda x: torch.mean(input=x, dim=1),
    "activation by names": lambda x: F.gelu(input=x) + F.silu(input=x) + F.leaky_relu(input=x, negative_slope=0.2),
    "softmax by names": lambda x: torch.softmax(input=x, dim=-1),
    "linear by names": lambda x: F.linear(input=x, weight=SQUARE, bias=BIAS),
    "gated by names": lambda x: F.glu(input=x, dim=-1),
    "likeness by names": lambda x: F.cosine_similarity(x1=x, x2=x + 1, dim=-1),
    "layer norm of a transposed tensor": lambda x: F.layer_norm(x.mT.contiguous().mT, (6,), ONES, BIAS),
    "layer norm by names": lambda x: F.layer_norm(input=x, normalized_shape=(6,), weight=ONES),
    "group norm of the last channels": lambda x: F.group_norm(
        (x[:, :, None] * PICTURE[:2, :4, 0, 0, None, None]).permute(0, 3, 1, 2), 3
    ),
    "rms norm of a transposed tensor": lambda x: F.rms_norm(x.mT.contiguous().mT, (6,), ONES),
    "convolution by names": lambda x: F.conv1d(input=x.mT, weight=weights(3, 6, 2), bias=None),
    "grouped queries, keys and values with groups of their own": lambda x: F.scaled_dot_product_attention(
        torch.stack([x, x + 1, x + 2, x + 3], 1), KEYS, KEYS[:, :1] * x.mean(), enable_gqa=True
    ),
}


@pytest.mark.parametrize("rules", SETS)
@pytest.mark.parametrize("form", FORMS)
def test_under_the_rules_an_operation_is_what_it_is(form: str, rules: str) -> None:
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    generator.manual_seed(2)
    plain = FORMS[form](x * 1)
    generator.manual_seed(2)
    with RelevanceMode(SETS[rules]()):
        ruled = FORMS[form](x * 1)
    torch.testing.assert_close(ruled, plain, rtol=1e-5, atol=1e-6)
    if plain.is_contiguous():  # a view of it by another shape is then one of what the rules give, too
        assert ruled.is_contiguous()
    ruled.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert bool(x.grad.any())
