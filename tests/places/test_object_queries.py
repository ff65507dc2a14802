"""OneFormer: object queries that are copies of one task token; its decoder against dense matrices in float64."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

import heedmap
from heedmap.targets import DetectionQuery, Region
from oracles import operators as ops
from oracles.seen import Event, seen
from oracles.streams import Relevance

CLOSE, WIDTH, HEADS, QUERIES = 1e-6, 32, 2, 6
"""The last query is the task's token itself."""
SIDES = {"coarse": 2, "middle": 4, "fine": 8, "pixels": 16}


@cache
def oneformer() -> nn.Module:
    """Random weights, so large that attention is not uniform."""
    torch.manual_seed(0)
    backbone = SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = OneFormerConfig(
        backbone_config=backbone, num_queries=QUERIES, hidden_dim=WIDTH, mask_dim=WIDTH, conv_dim=WIDTH,
        num_attention_heads=HEADS, encoder_layers=1, encoder_feedforward_dim=16, dim_feedforward=16, decoder_layers=4,
        query_dec_layers=1, text_encoder_width=16, text_encoder_num_layers=1, text_encoder_vocab_size=20, task_seq_len=7,
        max_seq_len=7, text_encoder_context_length=7,
    )  # fmt: skip
    found = OneFormerForUniversalSegmentation(config).double().eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if parameter.dim() > 1 and "sampling_offsets" not in name and bool(parameter.any()):
                parameter.mul_(parameter[0].numel() ** -0.5 / parameter.std())
            elif parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return found


class Decoder(nn.Module):
    """OneFormer's decoder, with maps of features as its input."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.task, self.module = net.model.task_encoder, net.model.transformer_module

    def forward(self, coarse: Tensor, middle: Tensor, fine: Tensor, pixels: Tensor, task: Tensor) -> Any:
        return self.module([coarse, middle, fine], pixels, self.task(task))


class Explicit(nn.Module):
    """torch's own module, whose softmax can be seen."""

    def __init__(self, given: nn.MultiheadAttention) -> None:
        super().__init__()
        self.given = given

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Any = None,
        key_padding_mask: Any = None,
        **rest: Any,
    ) -> tuple[Tensor, Tensor]:
        weights, biases = self.given.in_proj_weight.chunk(3), self.given.in_proj_bias.chunk(3)
        q, k, v = (
            nn.functional.linear(x, w, b).unflatten(-1, (HEADS, -1)).permute(1, 2, 0, 3)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        scores = q @ k.mT / (WIDTH / HEADS) ** 0.5
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask.view(scores.shape), -torch.inf)
        A = torch.softmax(scores, -1)
        return self.given.out_proj((A @ v).permute(2, 0, 1, 3).flatten(2)), A


def explicit(model: nn.Module) -> nn.Module:
    """A copy in which every softmax can be seen."""
    found = copy.deepcopy(model)
    for module in list(found.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, Explicit(child))
    return found


def cam(event: Event, sample: int) -> Tensor:
    assert event.out is not None
    assert event.gradient is not None
    A, gradient = (t if t.dim() == 4 else t.unflatten(0, (-1, HEADS)) for t in (event.out, event.gradient))
    return ops.whole(A, gradient)[sample]


def decoded(events: list[Event], sample: int, sides: dict[str, int]) -> Relevance:
    """R of the queries: the copies, then all of them; they hear one level after the other."""
    found = Relevance()
    found.begin("task", 1)
    for level, side in sides.items():
        found.begin(level, side * side)
    found.begin("copies", QUERIES - 1, "task", torch.ones(QUERIES - 1, 1).double())
    found.ask("copies", "copies", cam(events[0], sample))
    found.ask("copies", "pixels", cam(events[1], sample))
    whole = torch.eye(QUERIES).double()
    found.begin("queries", QUERIES, "copies", whole[:, :-1])
    found.take("queries", "task", whole[:, -1:])
    for n, event in enumerate(events[2:]):
        found.ask("queries", "queries" if n % 2 else ("coarse", "middle", "fine")[n // 2 % 3], cam(event, sample))
    return found


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Each relevance, relative to the largest."""
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found.double(), wanted, rtol=CLOSE, atol=CLOSE * float(wanted.max()))


def maps() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    levels = {name: torch.randn(2, WIDTH, side, side, generator=generator).double() for name, side in SIDES.items()}
    return {**levels, "task": torch.randn(2, 7, generator=generator).double()}


@pytest.mark.parametrize("query", [1, QUERIES - 1])
def test_a_query_of_the_decoder(query: int) -> None:
    def target(output: Any) -> Tensor:
        return 10 * output.prediction_class[:, query, 1]

    model = Decoder(oneformer())
    found = heedmap.explain(model, maps(), target=target, drop_self=False)
    events = seen(explicit(model), maps(), target, ())
    grids = {segment.grid: name for name, segment in found.segments.items()}
    for n in range(2):
        R = decoded(events, n, SIDES).R
        for level, side in SIDES.items():
            assert_close(found[grids[side, side]][n], R["queries", level][query])
        assert_close(found["task"][n], R["queries", "task"][query])


def picture(batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(2, 3, 64, 64, generator=generator).double()[:batch],
        "task_inputs": torch.randint(1, 20, (2, 7), generator=generator)[:batch],
    }


def test_the_task_of_the_whole_model() -> None:
    def target(output: Any) -> Tensor:
        return output.class_queries_logits[:, 2, 1]

    found = heedmap.explain(oneformer(), picture(), target=DetectionQuery(2, 1), drop_self=False)
    events = seen(explicit(oneformer()), picture(), target, ())[-8:]
    assert found.segments["image"].grid == (16, 16)
    assert bool((found["image"] > 0).any())
    for n in range(2):
        assert_close(found["text"][n], decoded(events, n, SIDES).R["queries", "task"][2])


def test_a_class_over_a_region_sample_by_sample_and_by_rows() -> None:
    asked = Region(1, where=(0, 0, 32, 32))
    both = heedmap.explain(oneformer(), picture(), target=asked)
    alone = heedmap.explain(oneformer(), picture(1), target=asked)
    full = heedmap.explain(oneformer(), picture(), target=asked, full=True)
    for segment in ("image", "text"):
        assert bool((both[segment] > 0).any())
        torch.testing.assert_close(both[segment][:1], alone[segment])
        torch.testing.assert_close(both[segment], full[segment])
