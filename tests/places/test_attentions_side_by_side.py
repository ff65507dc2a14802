"""Two attentions side by side, of which one asks for tokens of the other's beside learned ones, are of one stream (ProphetNet)."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.seen import seen

CLOSE, WORDS, SAID, AHEAD = 1e-6, 7, 5, 2


def model() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ProphetNetConfig(
        vocab_size=40, hidden_size=16, encoder_ffn_dim=24, decoder_ffn_dim=24, num_encoder_layers=2, num_decoder_layers=2,
        num_encoder_attention_heads=2, num_decoder_attention_heads=2, max_position_embeddings=32, num_buckets=8,
        relative_max_distance=16, ngram=AHEAD, use_cache=False,
    )  # fmt: skip
    found = transformers.ProphetNetModel(config).double().eval()
    for parameter in found.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.4)
    return found


def ahead(output: Any) -> Tensor:
    """A number of the token after the next one, at the last place, and of the next one."""
    return 10 * (output.last_hidden_state_ngram[:, -1, 3] + output.last_hidden_state[:, -1, 3])


def next_one(output: Any) -> Tensor:
    return 10 * output.last_hidden_state[:, -1, 3]


def rules(net: nn.Module, inputs: dict[str, Tensor], score: Any) -> tuple[Tensor, Tensor]:
    """R of the decoder's rows over the decoder's words and over the encoder's, by rules 6, 10 and 11."""
    events = seen(net, inputs, score, ())
    cams = [ops.whole(e.out, e.gradient) for e in events if e.out.dim() == 4]
    ngrams = [(e.out * e.gradient).clamp(min=0).mean(2)[0] for e in events if e.out.dim() == 5]
    cams = [c[0].detach() for c in cams]
    encoder, decoder, cross = cams[:2], cams[2::2], cams[3::2]
    rows = SAID * (1 + AHEAD)
    R = torch.eye(WORDS, dtype=torch.float64)
    for A in encoder:
        R = R + A @ R
    own, other = torch.eye(rows, dtype=torch.float64), torch.zeros(rows, WORDS, dtype=torch.float64)
    for A, ngram, C in zip(decoder, ngrams, cross, strict=True):
        both = torch.zeros(rows, rows, dtype=torch.float64)
        both[:SAID, :SAID] = A
        for n in range(AHEAD):
            mine = slice(SAID * (n + 1), SAID * (n + 2))
            both[mine, :SAID], both[mine, mine] = ngram[n, :, :SAID].detach(), ngram[n, :, SAID:].detach()
        own, other = own + both @ own, other + both @ other
        other = other + bar(own).mT @ C @ bar(R)
    return own, other


def bar(R: Tensor) -> Tensor:
    rest = R - torch.eye(len(R))
    sums = rest.sum(-1, keepdim=True)
    return rest / torch.where(sums == 0, 1.0, sums) + torch.eye(len(R))


def test_prophetnet() -> None:
    net = model()
    inputs = {"input_ids": torch.randint(3, 30, (1, WORDS)), "decoder_input_ids": torch.randint(3, 30, (1, SAID))}
    found = heedmap.explain(net, inputs, target=next_one, drop_self=False)
    own, other = rules(net, inputs, next_one)
    assert list(found.segments) == ["text", "decoder"]
    for name, row in (("text", other[SAID - 1]), ("decoder", own[SAID - 1, :SAID])):
        assert row.abs().max() > 0
        assert float((found[name][0].double() - row).abs().max() / row.abs().max()) <= CLOSE
