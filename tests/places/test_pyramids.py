"""RT-DETR: attention, a pyramid of merged levels, chosen tokens that ask sampled points; against dense matrices in float64."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

import heedmap
from heedmap.attention.flow import AbsorbedStream
from oracles import operators as ops
from oracles.sampled import Sampled, dense

CLOSE = 1e-6
QUERY = 2
GRIDS = {"image": (2, 2), "image2": (4, 4), "image3": (8, 8)}


def model() -> nn.Module:
    """Random weights, so large that attention is not uniform."""
    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], d_model=16,
        decoder_in_channels=[16, 16, 16], encoder_layers=1, encoder_ffn_dim=24, decoder_ffn_dim=24, decoder_layers=2,
        num_queries=5, encoder_attention_heads=2, decoder_attention_heads=2, decoder_n_points=2, num_labels=4, num_denoising=0,
        anchor_image_size=None, encode_proj_layers=[2], num_attention_heads=2,
    )  # fmt: skip
    found = RTDetrForObjectDetection(config).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                spread = float(parameter.std())
                parameter.mul_(1.3 * parameter[0].numel() ** -0.5 / spread) if spread > 0 else parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) / 10)
    return found


def target(output: Any) -> Tensor:
    """A class's score at a query."""
    return 10 * output.logits[:, QUERY, 1]


class Run:
    """What a run shows: of each module its first input and its output, and the target's gradient to the output."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.net, self.calls, hooks = net, {}, []
        for name, module in net.named_modules():
            hooks.append(module.register_forward_hook(self._note(name), with_kwargs=True))
        with torch.enable_grad():
            self.score = target(net(x)).sum()
        for hook in hooks:
            hook.remove()

    def _note(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, named: Any, out: Any) -> None:
            self.calls[name] = given, out
            if isinstance(module, nn.BatchNorm2d):  # torch's backward errs on one sample's transposed gradient
                out.register_hook(Tensor.contiguous)

        return hook

    def gradient(self, tensor: Tensor) -> Tensor:
        return torch.autograd.grad(self.score, tensor, retain_graph=True)[0]

    def conv(self, name: str) -> Tensor:
        """Ā of a convolution, (rows, tokens)."""
        (x, *_), out = self.calls[name]
        module = self.net.get_submodule(name)
        return ops.linear(module, x, self.gradient(out))[0]

    def attention(self, name: str) -> Tensor:
        """Ā of the attention of this name."""
        probs = self.calls[name][1][1]
        return ops.whole(probs, self.gradient(probs))[0]

    def halves(self, name: str) -> Tensor:
        """Ā of a convolution of single places whose channels are those of two tokens, (rows, 2)."""
        (x, *_), out = self.calls[name]
        weight, g = self.net.get_submodule(name).weight.detach()[:, :, 0, 0], self.gradient(out)[0].flatten(1)
        parts = zip(weight.chunk(2, 1), x.detach()[0].flatten(1).chunk(2), strict=True)
        return torch.stack([(g * (w @ part)).sum(0).clamp(min=0) for w, part in parts], 1)

    def fused(self, name: str, first: Tensor, second: Tensor) -> Tensor:
        """R of what a block makes of two levels side by side."""
        shares = self.halves(f"{name}.conv1.conv") + self.halves(f"{name}.conv2.conv")
        M = ops.normalised(shares, torch.ones_like(shares).bool())
        R = M[:, :1] * first + M[:, 1:] * second
        for i in range(3):
            R = R + self.conv(f"{name}.bottlenecks.{i}.conv1.conv") @ R
        return R

    def down(self, name: str, R: Tensor) -> Tensor:
        """R of what a strided convolution makes."""
        cam = self.conv(name)
        side, out = (round(n**0.5) for n in (cam.shape[1], cam.shape[0]))
        ones = nn.Conv2d(1, 1, 3, 2, 1, bias=False)
        nn.init.ones_(ones.weight)
        reach = ops.reaching(ones, torch.ones(1, 1, side, side))
        assert reach.shape == (out * out, side * side)
        return ops.normalised(cam[None], reach)[0] @ R

    def sampled(self, layer: int, sizes: list[tuple[int, int]]) -> Tensor:
        """Ā of sampled points over all levels."""
        (value, _, _, _, at, weight, *_), out = self.calls[f"model.decoder.layers.{layer}.encoder_attn.attn"]
        call = Sampled(dense(sizes, at, weight), value.detach().transpose(1, 2), out)
        return call.cam(self.gradient(out))[0]


def upsampled(R: Tensor, side: int) -> Tensor:
    """Each token becomes four."""
    grid = torch.arange(side * side).view(1, 1, side, side).double()
    index = nn.functional.interpolate(grid, scale_factor=2, mode="nearest").long().flatten()
    return R[index]


def expected(net: nn.Module, x: Tensor) -> Tensor:
    """The query's row over the tokens of the three levels, the coarsest first, (tokens,)."""
    other = deepcopy(net)
    other.set_attn_implementation("eager")
    run = Run(other, x)
    sides = [x.shape[2] // stride for stride in (32, 16, 8)]
    counts = [side * side for side in sides]
    low, middle, high = torch.eye(sum(counts)).double().split(counts)
    low = low + run.attention("model.encoder.aifi.0.layers.0.self_attn") @ low
    middle = run.fused("model.encoder.fpn_blocks.0", upsampled(low, sides[0]), middle)
    high = run.fused("model.encoder.fpn_blocks.1", upsampled(middle, sides[1]), high)
    middle = run.fused("model.encoder.pan_blocks.0", run.down("model.encoder.downsample_convs.0.conv", high), middle)
    low = run.fused("model.encoder.pan_blocks.1", run.down("model.encoder.downsample_convs.1.conv", middle), low)
    memory = torch.cat([high, middle, low])
    scores = run.calls["model.enc_score_head"][1]
    R = memory[torch.topk(scores.max(-1).values, 5, dim=1)[1][0]]
    for layer in range(2):
        R = R + run.attention(f"model.decoder.layers.{layer}.self_attn") @ R
        R = R + run.sampled(layer, [(side, side) for side in reversed(sides)]) @ memory
    return R[QUERY]


@pytest.mark.parametrize("head", [0, 1, 4], ids=["middle level", "two levels", "finest level"])
def test_rt_detr(head: int) -> None:
    """The decoder's queries are tokens of one level or of several, as the head that chooses them has it."""
    net = model()
    torch.manual_seed(head)
    nn.init.normal_(net.model.enc_score_head.weight, std=0.5)
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64).double()
    found = heedmap.explain(net, {"pixel_values": x}, target=target, drop_self=False)
    assert {name: segment.grid for name, segment in found.segments.items()} == GRIDS
    whole = heedmap.explain(net, {"pixel_values": x}, target=target, drop_self=False, full=True)  # by dense matrices
    for name, segment in found.segments.items():
        torch.testing.assert_close(segment.relevance, whole.segments[name].relevance, rtol=1e-5, atol=1e-7)
    for n in range(2):
        wanted = expected(net, x[n : n + 1])
        row = torch.cat([segment.relevance[n].double() for segment in found.segments.values()])
        assert float(wanted.abs().max()) > 0
        assert float((row - wanted).abs().max() / wanted.abs().max()) <= CLOSE


def test_what_is_taken_in_goes_up_as_it_goes_down() -> None:
    torch.manual_seed(0)
    join = AbsorbedStream(frozenset(), torch.tensor([[3, -1, 0, 1], [-1, 2, 4, 0]]))
    rows, columns = torch.randn(2, 2, 5).double(), torch.randn(2, 4, 3).double()
    torch.testing.assert_close(rows @ join.columns(columns, 5), join.weights(rows) @ columns)
