"""SAM 2's pictures: windows whose queries are pooled, stages of which a coarser one is added to a finer one; in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Sam2HieraDetConfig, Sam2VisionConfig, Sam2VisionModel

import heedmap
from oracles import hiera
from oracles.seen import seen

CLOSE, SIDE, CHANNEL = 1e-6, 32, 3
WINDOWS = {"whole windows": [8, 4, 4, 2], "padded windows": [8, 4, 6, 2]}


def model(windows: list[int], attention: str = "sdpa") -> nn.Module:
    """Four stages; random weights, so large that attention is not uniform."""
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8, embed_dim_per_stage=[8, 16, 32, 64], blocks_per_stage=[1, 2, 2, 1], num_attention_heads=1,
        num_attention_heads_per_stage=[1, 2, 2, 2], image_size=[128, 128], window_size_per_stage=windows,
        global_attention_blocks=[4], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    config = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )  # fmt: skip
    found = Sam2VisionModel(config).double().eval()
    found.set_attn_implementation(attention)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                parameter.mul_(
                    1.2 * parameter[0].numel() ** -0.5 / parameter.std()
                ) if parameter.any() else parameter.normal_()
    return found


def coarsest(output: Any) -> Tensor:
    """A number of the last token of the last stage."""
    return 100 * output.last_hidden_state[:, -1, -1, CHANNEL]


def summed(output: Any) -> Tensor:
    """A number of a place of the level to which the last stage is added."""
    (level,) = (level for level in output.fpn_hidden_states if level.shape[-1] == SIDE // 4)
    return 100 * level[:, CHANNEL, 2, 5]


def expected(net: nn.Module, inputs: dict[str, Tensor], target: Callable[[Any], Tensor]) -> Tensor:
    """The row that the target reads, over the patches."""
    events = seen(net, inputs, target, (), hiera.FUNCTIONS)
    *_, third, fourth = hiera.stages(net.backbone.blocks, events, SIDE)
    if target is coarsest:
        return fourth[-1]
    *_, larger = (e for e in events if e.name == "interpolate")
    return (third + hiera.larger(larger) @ fourth)[2 * (SIDE // 4) + 5]


@pytest.mark.parametrize("target", [coarsest, summed])
@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
def test_pooled_windows(windows: list[int], target: Callable[[Any], Tensor]) -> None:
    x = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)).double()
    found = heedmap.explain(model(windows), {"pixel_values": x}, target=target, drop_self=False)
    assert {name: segment.grid for name, segment in found.segments.items()} == {"image": (SIDE, SIDE)}
    for n in range(2):
        wanted = expected(model(windows, "eager"), {"pixel_values": x[n : n + 1]}, target)
        assert float(wanted.std() / wanted.mean()) > 0.1
        assert float((found["image"][n].double() - wanted).abs().max() / wanted.max()) <= CLOSE
