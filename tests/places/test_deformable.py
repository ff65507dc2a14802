"""Attention over sampled points (deformable attention) against a dense oracle, in float64."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import ceil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

import heedmap
from oracles import sampled

CLOSE = 1e-6
QUERY = 2
QUERIES = 5
STRIDES = (8, 16, 32, 64)
IMAGES = ("image", "image2", "image3", "image4")
SIZES = [(64, 64), (64, 96)]
VARIANTS: dict[str, dict[str, Any]] = {
    "refined boxes": {"with_box_refine": True},
    "four levels": {"num_feature_levels": 4},
    "other heads and points": {"encoder_attention_heads": 4, "encoder_n_points": 1, "decoder_n_points": 7},
}
Given = dict[str, Tensor]
Target = Callable[[Any], Tensor]


def model(**options: Any) -> nn.Module:
    """With weights so large that points spread, some beyond the picture, and no attention is uniform."""
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    defaults = dict(
        backbone_config=backbone,
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=QUERIES,
        num_feature_levels=3,
        num_labels=4,
    )
    config = DeformableDetrConfig(**{**defaults, **options})
    found = DeformableDetrForObjectDetection(config).double().eval()
    with torch.no_grad():
        for name, parameter in found.model.named_parameters():
            if "sampling_offsets" in name or "attention_weights" in name:
                parameter.add_(torch.randn_like(parameter) / 3)
            elif "_proj" in name and parameter.dim() == 2:
                parameter.mul_(2)
        for classes in found.class_embed:
            classes.weight.mul_(100)
    return found


def pictures(batch: int, height: int, width: int) -> Given:
    """Random pictures."""
    torch.manual_seed(1)
    return {"pixel_values": torch.randn(batch, 3, height, width).double()}


def target(query: int) -> Target:
    """A class's score at a query."""
    return lambda output: output.logits[:, query, 1]


TARGET = target(QUERY)


def eager(found: nn.Module) -> nn.Module:
    """A copy that shows the probabilities of its decoder."""
    other = deepcopy(found)
    other.set_attn_implementation("eager")
    return other


def expected(found: nn.Module, inputs: Given, asked: Target, query: int = QUERY) -> Given:
    """By segment, (batch, tokens)."""
    maps = sampled.deformable_detr(eager(found), inputs, asked)
    height, width = inputs["pixel_values"].shape[2:]
    levels = [ceil(height / stride) * ceil(width / stride) for stride in STRIDES[: found.config.num_feature_levels]]
    image, queries = (torch.stack([torch.from_numpy(R[query]) for R in side]) for side in zip(*maps, strict=True))
    return {**dict(zip(IMAGES, image.split(levels, 1), strict=False)), "queries": queries}


def explained(found: nn.Module, inputs: Given, asked: Target = TARGET, **options: Any) -> Given:
    """By segment, (batch, tokens)."""
    segments = heedmap.explain(found, dict(inputs), target=asked, **options).segments
    return {name: segment.relevance.double() for name, segment in segments.items()}


def assert_agree(found: Given, wanted: Given) -> None:
    """Each relevance, relative to itself."""
    assert found.keys() == wanted.keys()
    for name, relevance in wanted.items():
        assert relevance.abs().max() > 0
        torch.testing.assert_close(found[name], relevance, rtol=CLOSE, atol=CLOSE * 1e-3)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [1, 2])
def test_maps(batch: int, size: tuple[int, int]) -> None:
    deformable, inputs = model(), pictures(batch, *size)
    wanted = expected(deformable, inputs, TARGET)
    assert_agree(explained(deformable, inputs, drop_self=False), wanted)
    wanted["queries"][:, QUERY] = 0
    assert_agree(explained(deformable, inputs), wanted)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_variants(options: dict[str, Any]) -> None:
    deformable, inputs = model(**options), pictures(2, 72, 100)
    assert_agree(explained(deformable, inputs, drop_self=False), expected(deformable, inputs, TARGET))


def test_a_padded_picture() -> None:
    deformable, inputs = model(), pictures(2, 64, 96)
    inputs["pixel_mask"] = torch.ones(2, 64, 96, dtype=torch.long)
    inputs["pixel_mask"][1, :, 64:] = 0
    wanted = expected(deformable, inputs, TARGET)
    assert_agree(explained(deformable, inputs, drop_self=False), wanted)


def test_a_batch_is_its_samples_one_by_one() -> None:
    deformable, inputs = model(), pictures(2, 64, 96)
    together = explained(deformable, inputs)
    for n in range(2):
        alone = explained(deformable, {"pixel_values": inputs["pixel_values"][n : n + 1]})
        assert_agree(alone, {name: relevance[n : n + 1] for name, relevance in together.items()})


def test_queries_that_change_places_take_their_maps_along() -> None:
    order = [0, 4, 1, 3, 2]
    deformable, inputs = model(), pictures(1, 64, 64)
    moved = deepcopy(deformable)
    embeddings = moved.model.query_position_embeddings.weight
    embeddings.data = embeddings.data[order]
    before, after = (
        explained(m, inputs, target(query)) for m, query in ((deformable, QUERY), (moved, order.index(QUERY)))
    )
    assert_agree(after, {**before, "queries": before["queries"][:, order]})


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dense_weights_give_what_the_module_gave(size: tuple[int, int]) -> None:
    seen, _ = sampled.seen(eager(model()), pictures(2, *size))
    calls = [*seen.encoder, *seen.cross]
    assert len(calls) == 4
    for call in calls:
        torch.testing.assert_close(call.weights @ call.value, call.per_head(call.out).detach())
        beyond = call.weights.sum(-1)
        assert (beyond < 0.9).any()
        assert (beyond > 0.5).any()


def test_the_gradient_of_dense_weights() -> None:
    seen, _ = sampled.seen(eager(model()), pictures(1, 64, 64))
    call = seen.cross[0]
    weights, gradient = call.weights.requires_grad_(), torch.randn_like(call.out)
    ((weights @ call.value).transpose(1, 2).flatten(2) * gradient).sum().backward()
    torch.testing.assert_close(call.cam(gradient), (weights * weights.grad).clamp(min=0).mean(1))
