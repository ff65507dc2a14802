"""Attention over some tokens only (bands, overlapping chunks, gathered blocks, global tokens) against dense matrices in float64.

The oracle takes each attention module as it is: with its queries, keys and weights as they are, the values of one token alone
go in; what comes out before the output projection is A_ij v_j of that token, in whatever chunks and parts it was computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from placed_models import CHANNEL, SCALE, Case, apart, made
from torch import Tensor, nn

from oracles import operators as ops

CLOSE = 1e-6
WORDS, HEADS = 11, 2


@dataclass(frozen=True)
class Sparse(Case):
    """An encoder of such attention.

    Attributes:
        module: how the paths of its attention modules end.
        values, out: names in them of what projects the values, and the output.
        axis: of the tokens in projected values.
        rows: how many rows are projected → their tokens; -1: none.
        more: tokens beside the words.
        merged: name of the norm of rows that are sums of words, which are asked too.
    """

    module: str = "attention"
    values: tuple[str, ...] = ("self.value",)
    out: str = "output.dense"
    axis: int = 1
    rows: Callable[[int], list[int]] = lambda count: list(range(count))
    more: int = 0
    merged: str = ""

    def expected(self, model: nn.Module, inputs: Mapping[str, Tensor], drop_self: bool = False) -> Tensor:
        """(batch, words), by the oracle."""
        calls = watched(self, model, inputs)
        tokens = WORDS + self.more
        begun = WORDS if self.merged else tokens
        R = torch.eye(begun, dtype=torch.float64).expand(len(inputs["input_ids"]), -1, -1)
        for call in calls:
            below = torch.cat([R, merge(*call.sums) @ R], 1) if call.sums else R
            R = R + call.cam(self, tokens)[:, :begun] @ below
        return ops.read(R, self.row, self.own if drop_self else None)[:, :WORDS]


class Call:
    """A call of an attention module: what went into its output projections, with the target's gradient; and sums of words."""

    def __init__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.module, self.args, self.kwargs = module, args, kwargs
        self.outs: list[Tensor] = []
        self.sums: list[Tensor] = []

    def cam(self, case: Sparse, tokens: int) -> Tensor:
        """Ā, (batch, tokens, tokens)."""
        nothing, found = self.of(case, None), torch.zeros(2, tokens + 1, tokens, dtype=torch.float64)
        for j in range(tokens):
            for part, none, out in zip(self.of(case, j), nothing, self.outs, strict=True):
                gradient = torch.zeros_like(out) if out.grad is None else out.grad  # what nothing reads
                terms = ((part - none) * gradient).unflatten(-1, (HEADS, -1)).sum(-1).clamp(min=0).mean(-1)
                found[:, case.rows(out.shape[1]), j] += terms
        return found[:, :-1]

    def of(self, case: Sparse, token: int | None) -> list[Tensor]:
        """What goes into the output projections where the values of one token alone are there; None: of none."""

        def alone(_module: nn.Module, _args: Any, values: Tensor) -> Tensor:
            kept = torch.tensor([t == token for t in case.rows(values.shape[case.axis])])
            return values * kept.reshape([-1 if a == case.axis else 1 for a in range(3)])

        found: list[Tensor] = []
        hooks = [self.module.get_submodule(name).register_forward_hook(alone) for name in case.values]
        hooks.append(
            self.module.get_submodule(case.out).register_forward_pre_hook(lambda _, args: found.append(args[0]))
        )
        with torch.no_grad():
            self.module(*self.args, **self.kwargs)
        for hook in hooks:
            hook.remove()
        return found


def watched(case: Sparse, model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Call]:
    """The calls of its attention modules in one pass."""
    calls: list[Call] = []
    hooks = []

    def begins(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls.append(Call(module, args, kwargs))

    def kept(name: str, _module: nn.Module, args: Any) -> None:
        args[0].retain_grad()
        getattr(calls[-1], name).append(args[0])

    for path, module in list(model.named_modules()):
        if path.endswith(case.module):
            hooks.append(module.register_forward_pre_hook(begins, with_kwargs=True))
            hooks.append(module.get_submodule(case.out).register_forward_pre_hook(partial(kept, "outs")))
            if case.merged:
                hooks.append(module.register_forward_pre_hook(partial(kept, "sums")))
                hooks.append(module.get_submodule(case.merged).register_forward_pre_hook(partial(kept, "sums")))
    case.target(model(**inputs)).sum().backward()
    for hook in hooks:
        hook.remove()
    return calls


def merge(words: Tensor, sums: Tensor) -> Tensor:
    """M of sums of three words each, and of those that are left over in the last: (batch, sums, words)."""
    count = sums.shape[1]
    into = (torch.arange(words.shape[1]) // 3).clamp(max=count - 1) == torch.arange(count)[:, None]
    torch.testing.assert_close(into.double() @ words, sums)
    assert sums.grad is not None
    return ops.normalised(((sums.grad @ words.mT).clamp(min=0) * into).detach(), into)


def words(heard: tuple[int, ...], batch: int) -> dict[str, Tensor]:
    """Words; ``heard``: those that all hear, and that hear all."""
    found = {"input_ids": torch.randint(3, 30, (batch, WORDS)), "attention_mask": torch.ones(batch, WORDS).long()}
    if heard:
        found["global_attention_mask"] = torch.isin(torch.arange(WORDS), torch.tensor(heard)).long().expand(batch, -1)
    return found


def read(number: int, output: Any) -> Tensor:
    """A number of this row."""
    return SCALE * output.last_hidden_state[:, number, CHANNEL]


def case(build: Callable[[], nn.Module], number: int, *heard: int, **options: Any) -> Sparse:
    """Where this row is read."""
    return Sparse(build, partial(words, heard), partial(read, number), (), NO_STEPS, number, number, **options)


def NO_STEPS(_events: Any) -> Any:
    raise NotImplementedError


def encoder(name: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    """Of an encoder–decoder."""
    return lambda: made(name, config, **options)().encoder


def staggered(count: int) -> list[int]:
    """Words in blocks of four, the last one filled up, in every other layer with half a block before and after; and three more."""
    return {3: [12, 13, 14], 12: [*range(12)], 16: [-1, -1, *range(12), -1, -1]}[count]


def with_sums(count: int) -> list[int]:
    """Words, or their sums, which come after them."""
    return [*range(WORDS)] if count == WORDS else [WORDS + n for n in range(count)]


SIZES = dict(vocab_size=30, max_position_embeddings=40)
BERT = dict(SIZES, hidden_size=16, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=24)
BART = dict(
    SIZES, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=HEADS, encoder_ffn_dim=24,
    decoder_attention_heads=HEADS, decoder_ffn_dim=24, max_encoder_position_embeddings=40, attention_window=[4, 4],
)  # fmt: skip
T5 = dict(
    vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=HEADS, local_radius=2, global_block_size=3
)
LONGFORMER = made("LongformerModel", "LongformerConfig", **BERT, attention_window=[4, 4])
LED = encoder("LEDModel", "LEDConfig", **BART)
PEGASUS_X = encoder("PegasusXModel", "PegasusXConfig", **BART, num_global_tokens=3, block_size=4)
BIG_BIRD = made(
    "BigBirdModel", "BigBirdConfig", **BERT, attention_type="block_sparse", block_size=2, num_random_blocks=1
)
BANDS = dict(axis=0, values=("self.value", "self.value_global"), more=1)
IN_LED = dict(
    axis=0,
    values=("longformer_self_attn.value", "longformer_self_attn.value_global"),
    more=1,
    module=".self_attn",
    out="output",
)
CASES = {
    "bands": case(LONGFORMER, 9, **BANDS),
    "bands and a word that all hear": case(LONGFORMER, 9, 2, **BANDS),
    "bands, the row of a word that hears all": case(LONGFORMER, 2, 2, 5, **BANDS),
    "bands of an encoder": case(LED, 9, 0, **IN_LED),
    "blocks": case(BIG_BIRD, 6, more=1),
    "blocks, staggered, and tokens that all hear": case(
        PEGASUS_X, 9, module=".self_attn", values=("v_proj",), out="out_proj", rows=staggered, more=4
    ),
    "bands, and what all weights sum to": case(
        made("GraniteSWAModel", "GraniteSWAConfig", **BERT, num_key_value_heads=1, sliding_window=3, use_cache=False),
        9, module="self_attn", values=("v_proj",), out="o_proj",
    ),
    "blocks beside": case(
        made("LongT5EncoderModel", "LongT5Config", **T5, encoder_attention_type="local"),
        9, module="LocalSelfAttention", values=("v",), out="o",
    ),
    "blocks beside, and sums of words": case(
        made("LongT5EncoderModel", "LongT5Config", **T5, encoder_attention_type="transient-global"),
        9, module="TransientGlobalSelfAttention", values=("v",), out="o", rows=with_sums, more=3, merged="global_input_layer_norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_sparse_attention(name: str) -> None:
    one = CASES[name]
    model, inputs = one.model(), one.given(2)
    for drop_self in (False, True):
        assert apart(one.found(model, inputs, drop_self), one.expected(one.model(), inputs, drop_self)) <= CLOSE
