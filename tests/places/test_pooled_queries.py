"""Queries, keys and values that are pooled by convolutions, with the queries added to what they hear (MViT v2); in float64."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.seen import Event, seen

HEADS = 2


def model() -> nn.Module:
    """Two stages of a block each; in the second one queries are fewer than the tokens before."""
    torch.manual_seed(0)
    config = MultiScaleVitCfg(
        depths=(1, 1),
        embed_dim=(16, 32),
        num_heads=(HEADS, HEADS),
        stride_q=((1, 1), (2, 2)),
        stride_kv_adaptive=(2, 2),
    )
    found = MultiScaleVit(config, img_size=32, num_classes=5).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.2 * parameter[0].numel() ** -0.5 / parameter.std())
    return found


def target(output: Tensor) -> Tensor:
    """A class's score."""
    return 100 * output[:, 1]


def beside(heads: Tensor) -> Tensor:
    """The channels of all heads side by side."""
    return heads.flatten(0, 1)[None]


def pooled(event: Event) -> tuple[Tensor, Tensor]:
    """Ā and reach of a depthwise convolution: all channels of all heads, which lie in the batch, are one."""
    assert event.module is not None
    assert event.gradient is not None
    x, module = event.given[0], event.module
    cam = ops.linear(
        lambda t: module(t.unflatten(1, (HEADS, -1))[0]).flatten(0, 1)[None], *map(beside, (x, event.gradient))
    )
    ones = nn.Conv2d(1, 1, 3, module.stride, module.padding, bias=False)  # type: ignore[arg-type]
    nn.init.ones_(ones.weight)
    return cam[0], ops.reaching(ones, torch.ones(1, 1, *x.shape[2:]))


def largest(event: Event) -> Tensor:
    """Ā of a maximum over places: each channel is of the place that has it."""
    assert isinstance(event.module, nn.MaxPool2d)
    assert event.gradient is not None
    x = event.given[0].detach()
    out, index = nn.functional.max_pool2d(x, 3, 2, 1, return_indices=True)
    found = torch.zeros(out[0, 0].numel(), x[0, 0].numel(), dtype=torch.float64)
    shares = (event.gradient * out)[0].flatten(1)
    for channel, places in zip(shares, index[0].flatten(1), strict=True):
        found[torch.arange(len(found)), places] += channel
    return found.clamp(min=0)


def expected(net: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The mean of all rows of R."""
    paths = [r"attn\.pool_q", r"attn\.pool_v", "shortcut_pool_attn"]
    events = seen(net, inputs, target, paths)
    softmaxes = [e for e in events if not e.name]
    first, second = ([e for e in events if e.name == path] for path in paths[:2])
    (shortcut,) = (e for e in events if e.name == paths[2])
    R = torch.eye(64, dtype=torch.float64)
    for layer, (queries, values, softmax) in enumerate(zip(first, second, softmaxes, strict=True)):
        cam_q, _ = pooled(queries)
        cam_v, reach = pooled(values)
        heard = ops.normalised(cam_v[None], reach)[0] @ R
        cam = ops.whole(softmax.out, softmax.gradient)[0]  # type: ignore[arg-type]
        if layer == 0:
            R = R + cam_q @ R + cam @ heard
        else:
            made = cam_q + largest(shortcut)
            R = ops.normalised(made[None], made > -1)[0] @ R + cam @ heard
    return R.mean(0)


def test_mvit_v2() -> None:
    net, x = model(), torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    found: Any = heedmap.explain(net, {"x": x}, target=target, drop_self=False)["image"][0].double()
    wanted = expected(net, {"x": x})
    assert float(wanted.max()) > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.max()))
