"""Words and a picture that ask each other in the encoder (Grounding DINO), against the rules on dense matrices, in float64."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.sampled import Sampled, dense
from oracles.seen import Event, seen

pytestmark = pytest.mark.filterwarnings("ignore")

CLOSE = 1e-6
QUERIES, QUERY, TOKEN, LAYERS = 5, 2, 3, 2
ATTENTION = r"(self_attn|encoder_attn)\.attn"
Maps = dict[tuple[str, str], Tensor]
"""R of a stream to another: text, vision. The queries are the patches that the encoder chose."""


def model(name: str) -> nn.Module:
    """With weights so large that no attention is uniform."""
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage3", "stage4"],
    )  # fmt: skip
    words = transformers.BertConfig(
        vocab_size=120, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    config = getattr(transformers, f"{name}Config")(
        backbone_config=backbone, text_config=words, d_model=32, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=QUERIES,
        num_feature_levels=2, embedding_init_target=True, max_text_len=9,
    )  # fmt: skip
    found = getattr(transformers, f"{name}ForObjectDetection")(config).double().eval()
    with torch.no_grad():
        for path, parameter in found.named_parameters():
            if (
                "sampling_offsets" in path
                or "attention_weights" in path
                or path.endswith(("vision_param", "text_param"))
            ):
                parameter.add_(torch.randn_like(parameter) / 3)
            elif parameter.dim() == 2 and not parameter.any():
                parameter.copy_(torch.randn_like(parameter) / 3)
            elif "proj" in path and parameter.dim() == 2:
                parameter.mul_(3)
    found.set_attn_implementation("eager")  # fused, the text's mask of phrases means another thing
    return found


def inputs(batch: int) -> dict[str, Tensor]:
    """Words between the special tokens that set phrases apart, and pictures."""
    torch.manual_seed(1)
    ids = torch.randint(1, 100, (batch, 7))
    ids[:, 0], ids[:, -1] = 101, 102
    pictures = torch.randn(batch, 3, 64, 64).double()
    return {"pixel_values": pictures, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def events(found: nn.Module, given: dict[str, Tensor], target: Callable[[Any], Tensor]) -> list[Tensor]:
    """Ā of each attention, in order, without the softmaxes that weigh sampled points."""
    other = deepcopy(found).requires_grad_(True)
    several = seen(other, given, target, (ATTENTION,))
    own = [e for e, after in zip(several, [*several[1:], None], strict=True) if after is None or not after.module]
    own = [e for e in several if e.module or e in own]
    return [sampled(e) if e.module else whole(e, len(given["input_ids"])) for e in own]


def sampled(event: Event) -> Tensor:
    value, _, sizes, _, at, weight = event.given[:6]
    call = Sampled(dense(sizes, at.unbind(3), weight.unbind(3)), value.detach().transpose(1, 2), event.out)
    return call.cam(event.gradient).detach()


def whole(event: Event, batch: int) -> Tensor:
    A, gradient = (t.reshape(batch, -1, *t.shape[-2:]) for t in (event.out, event.gradient))
    return ops.whole(A, gradient)


def normalised(R: Tensor) -> Tensor:
    """R̄ (eqs. 8, 9)."""
    rest = R - torch.eye(R.shape[-1])
    sums = rest.sum(-1, keepdim=True)
    return rest / torch.where(sums == 0, 1.0, sums) + torch.eye(R.shape[-1])


def asks(R: Maps, cam: Tensor, stream: str, source: str) -> Maps:
    """What a cross-attention adds (eqs. 10, 11)."""
    others = {x for s, x in R if s == source} - {source}
    added = {(stream, x): cam @ R[source, x] for x in others}
    rule_10 = normalised(R[stream, stream]).mT @ cam @ normalised(R[source, source])
    added[stream, source] = added.get((stream, source), 0) + rule_10
    return added


def own(R: Maps, cam: Tensor, stream: str) -> Maps:
    """What a self-attention adds (eqs. 6, 7)."""
    return {(s, x): cam @ relevance for (s, x), relevance in R.items() if s == stream}


def plus(R: Maps, *added: Maps) -> Maps:
    total = dict(R)
    for more in added:
        for key, value in more.items():
            total[key] = total[key] + value if key in total else value
    return total


def expected(cams: list[Tensor], tokens: dict[str, int], chosen: Tensor) -> Maps:
    """R after text layers, fusing layers and a decoder's, whose queries are the chosen patches."""
    batch, rest = len(cams[0]), iter(cams)
    rows = torch.nn.functional.one_hot(chosen, tokens["vision"]).double().mT
    R: Maps = {(s, s): torch.eye(n).double().expand(batch, -1, -1) for s, n in tokens.items()}
    for _ in range(2):
        R = plus(R, own(R, next(rest), "text"))
    for _ in range(LAYERS):
        of_text, of_vision = next(rest), next(rest)  # each reads what was before both
        R = plus(R, asks(R, of_vision, "vision", "text"), asks(R, of_text, "text", "vision"))
        R = plus(R, own(R, next(rest), "text"))
        R = plus(R, own(R, next(rest), "vision"))
    encoded = R
    for layer in range(LAYERS):
        among = rows @ next(rest) @ rows.mT
        R = plus(R, own(R, among, "vision") if layer else {("vision", "vision"): among})  # first, values are learned
        R = plus(R, asks(R, rows @ next(rest), "vision", "text"))
        R = plus(R, own(encoded, rows @ next(rest), "vision"))
    assert next(rest, None) is None
    return R


TARGETS: dict[str, Callable[[Any], Tensor]] = {
    "box": lambda output: output.pred_boxes[:, QUERY, 0] * 10,
    "word": lambda output: output.logits[:, QUERY, TOKEN],
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("read", TARGETS)
@pytest.mark.parametrize("name", ["GroundingDino", "MMGroundingDino"])
def test_streams_that_ask_each_other(name: str, read: str, batch: int) -> None:
    target, found, given = TARGETS[read], model(name), inputs(batch)
    cams = events(found, given, target)
    with torch.no_grad():
        chosen = found(**given).enc_outputs_class.max(-1)[0].topk(QUERIES, 1)[1]
    R = expected(cams, {"text": 7, "vision": 20}, chosen)
    segments = heedmap.explain(found, given, target=target, drop_self=False).segments
    image = torch.cat([s.relevance for n, s in segments.items() if n.startswith("image")], 1)
    for stream, relevance in {"text": segments["text"].relevance, "vision": image}.items():
        wanted = R["vision", stream][torch.arange(batch), chosen[:, QUERY]]
        wanted = wanted + R["text", stream][:, TOKEN] if read == "word" else wanted
        assert float(wanted.abs().max()) > 0
        assert float((relevance - wanted).abs().max() / wanted.abs().max()) <= CLOSE
