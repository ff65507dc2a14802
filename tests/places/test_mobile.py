"""MobileViT: attention over patches, each pixel of a patch with the same pixel of the others; against dense matrices in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.scripts import made_of
from oracles.seen import Event, seen

CLOSE, PATCH = 1e-6, 2
FIRST = {"hidden_sizes": [8, 12, 16], "neck_hidden_sizes": [4, 8, 8, 12, 12, 16, 24], "num_attention_heads": 2}


def model(name: str, **options: Any) -> nn.Module:
    """Random weights, so large that attention is not uniform."""
    torch.manual_seed(0)
    config = getattr(transformers, name.partition("For")[0].removesuffix("Model") + "Config")(num_labels=3, **options)
    found = getattr(transformers, name)(config).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.3 * parameter[0].numel() ** -0.5 / parameter.std())
            else:
                parameter.add_(torch.randn_like(parameter) / 3)
    return found


def label(output: Any) -> Tensor:
    """A class's score."""
    return 100 * output.logits[:, 1]


def pixels(side: int) -> Tensor:
    """(pixels of a patch, patches): the places of each pixel in all patches."""
    grid = torch.arange(side * side).view(side // PATCH, PATCH, side // PATCH, PATCH)
    return grid.permute(1, 3, 0, 2).reshape(PATCH * PATCH, -1)


def beside(event: Event) -> tuple[Tensor, Tensor]:
    """M of a convolution of two maps whose channels are side by side, of the first one's tokens and of the second one's."""
    conv, (x, *_) = event.module, event.given
    assert isinstance(conv, nn.Conv2d)
    halves = zip(conv.weight.detach().chunk(2, 1), x.chunk(2, 1), strict=True)
    cam = torch.cat([ops.linear(lambda part, w=w: nn.functional.conv2d(part, w, padding=1), half, event.gradient) for w, half in halves], -1)  # fmt: skip
    ones = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(ones.weight)
    reach = ops.reaching(ones, torch.ones(1, 1, *x.shape[2:]))
    first, second = ops.normalised(cam, torch.cat([reach, reach], -1))[0].chunk(2, -1)
    return first, second


def first_kind(events: Iterator[Event]) -> Tensor:
    """R of MobileViT's last places."""
    R = places = None
    for event in events:
        if event.name == "conv_kxk.convolution":
            R = torch.eye(event.out[0, 0].numel(), dtype=torch.float64) if R is None else R
            places = made_of(event)[0] @ R
        elif R is None:
            continue  # before the tokens begin
        elif event.module is None:
            tokens = pixels(round(len(places) ** 0.5))
            places = (
                places + ops.blocks(event.out, event.gradient, tokens, tokens, len(places), len(places))[0] @ places
            )
        elif event.name == "fusion.convolution":
            whole, half = beside(event)
            R = whole @ R + half @ places
        elif event.name == "interpolate":
            places = resized(event) @ places
        else:
            R = made_of(event)[0] @ R
    return R


def resized(event: Event) -> Tensor:
    """M of what makes a map larger or smaller."""
    cam = ops.linear(event.module, event.given[0], event.gradient)
    return ops.normalised(cam, ops.reaching(event.module, event.given[0]))[0]


def second_kind(events: Iterator[Event]) -> Tensor:
    """R of MobileViT v2's last places."""
    R = None
    for event in events:
        if R is None:
            begins = event.name == "conv_kxk.convolution"  # the last convolution before the first sum makes the tokens
            R = torch.eye(event.out[0, 0].numel(), dtype=torch.float64) if begins else None
        elif event.name == "sum":
            said = weighed(event)
        elif event.name == "attention.out_proj.convolution":
            R = R + heard(event) @ said @ R
        else:
            R = made_of(event)[0] @ R
    return R


def weighed(event: Event) -> Tensor:
    """M of the sums of all patches' keys by their weights, one for each pixel of a patch, (pixels, places)."""
    shares = (event.given[0] * event.gradient)[0].sum(0).clamp(min=0).detach()
    return ops.normalised(spread(shares)[None], spread(torch.ones_like(shares)) > 0)[0]


def spread(of: Tensor) -> Tensor:
    """(pixels, patches) as (pixels, places)."""
    return torch.zeros(len(of), of.numel(), dtype=of.dtype).scatter(1, pixels(round(of.numel() ** 0.5)), of)


def heard(event: Event) -> Tensor:
    """Ā of what each place takes of its pixel's sum, (places, pixels)."""
    out, back = event.given[0].detach()[0], event.module.weight[:, :, 0, 0].T @ event.gradient[0].flatten(1)
    return spread((out * back.view_as(out)).sum(0).clamp(min=0).detach()).T


def test_mobilevit_v2() -> None:
    """Each place takes of a sum over all patches: separable attention."""
    size = 128
    options = {"base_attn_unit_dims": [16, 16, 16], "width_multiplier": 0.25, "n_attn_blocks": [2, 2, 1]}
    net = model("MobileViTV2ForImageClassification", **options)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    found = heedmap.explain(net, {"pixel_values": x}, target=label, drop_self=False)
    assert [segment.grid for segment in found.segments.values()] == [(size // 8, size // 8)]
    paths = ["conv_3x3.convolution", "conv_kxk.convolution", "attention.out_proj.convolution"]
    for n in range(2):
        events = [e for e in seen(net, {"pixel_values": x[n : n + 1]}, label, paths, ["sum"]) if e.name and e.out.dim()]
        agrees(found["image"][n], second_kind(iter(events)).mean(0))


@pytest.mark.parametrize("size", [128, 96])
def test_mobilevit(size: int) -> None:
    """Of 96 pixels, the last layer's 3 by 3 places are made 4 by 4, of which there are whole patches, and back."""
    net = model("MobileViTForImageClassification", **FIRST)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    found = heedmap.explain(net, {"pixel_values": x}, target=label, drop_self=False)
    assert [segment.grid for segment in found.segments.values()] == [(size // 8, size // 8)]
    paths = ["conv_3x3.convolution", "conv_kxk.convolution", "fusion.convolution"]
    for n in range(2):
        events = seen(net, {"pixel_values": x[n : n + 1]}, label, paths, ["interpolate"])
        wanted = first_kind(iter(events)).mean(0)
        agrees(found["image"][n], wanted)


def agrees(found: Tensor, wanted: Tensor) -> None:
    """Each relevance, relative to the largest."""
    assert float(wanted.std() / wanted.mean()) > 0.1
    assert float((found.double() - wanted).abs().max() / wanted.max()) <= CLOSE
