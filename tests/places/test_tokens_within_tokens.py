"""TNT: the pixels of each patch ask each other, and are merged into the patch again in each layer; against dense matrices in float64."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.seen import Event, seen
from oracles.streams import Relevance

CLOSE, PATCHES, PIXELS, CLASS = 1e-6, 16, 16, 3


def model(name: str) -> Any:
    torch.manual_seed(0)
    found = timm.create_model(
        name, embed_dim=24, inner_dim=12, depth=2, num_heads_outer=2, num_heads_inner=2, img_size=64, num_classes=5
    )
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return found.double().eval()


def picture() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


def target(output: Tensor) -> Tensor:
    return 10 * output[:, CLASS]


def pixels_of(name: str) -> Tensor:
    """(patches, pixels): which token of the picture, row by row, or patch by patch where each patch is a picture of its own."""
    if "legacy" not in name:
        return torch.arange(PATCHES * PIXELS).view(PATCHES, PIXELS)
    return torch.arange(256).view(4, 4, 4, 4).permute(0, 2, 1, 3).reshape(PATCHES, PIXELS)


def merged(event: Event, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Ā of a linear map of a patch's pixels side by side, with a row of zeros for the class's token, and what reaches what."""
    assert isinstance(event.module, nn.Linear)
    assert event.gradient is not None
    cam, reach = ops.concatenated(event.module.weight, event.given[0], event.gradient, pixels, PATCHES * PIXELS)
    return torch.cat([torch.zeros_like(cam[:, :1]), cam], 1), reach


def expected(net: Any, pixels: Tensor) -> list[Tensor]:
    """Relevance of the pixels for the class's token, of each sample."""
    merging = {net.proj, *(block.proj for block in net.blocks)}
    events = [e for e in seen(net, {"x": picture()}, target, ["proj"]) if not e.name or e.module in merging]
    first, *layers = events
    found, count = list[Tensor](), PATCHES * PIXELS
    for n in range(2):
        known = Relevance()
        known.begin("pixels", count)
        cam, reach = merged(first, pixels)
        M = torch.cat([torch.zeros(1, count).double(), ops.normalised(cam[n, 1:], reach)])
        known.begin("patches", 1 + PATCHES, "pixels", M)
        for within, merge, across in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
            assert within.out is not None
            assert within.gradient is not None
            assert across.out is not None
            assert across.gradient is not None
            windows = (t.unflatten(0, (2, -1))[n] for t in (within.out, within.gradient))
            known.ask("pixels", "pixels", ops.blocks(*windows, pixels, pixels, count, count)[0])
            known.take("patches", "pixels", merged(merge, pixels)[0][n])
            known.ask("patches", "patches", ops.whole(across.out, across.gradient)[n])
        found.append(known.R["patches", "pixels"][0])
    return found


@pytest.mark.parametrize("name", ["tnt_s_legacy_patch16_224", "tnt_s_patch16_224"])
def test_pixels_that_are_merged_into_patches_in_each_layer(name: str) -> None:
    found = heedmap.explain(model(name), {"x": picture()}, target=target, drop_self=False)
    wanted = expected(model(name), pixels_of(name))
    for n in range(2):
        given = torch.cat([found[segment][n] for segment in found.segments]).double()
        assert float(wanted[n].abs().max()) > 1e-3
        torch.testing.assert_close(given, wanted[n], rtol=CLOSE, atol=CLOSE * float(wanted[n].max()))
