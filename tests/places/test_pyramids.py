"""RT-DETR, its second version, D-FINE and DEIMv2: attention, a pyramid of merged levels, chosen tokens that ask sampled points.

Against dense matrices in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import RTDetrResNetConfig

import heedmap
from heedmap.attention.flow import AbsorbedStream
from oracles import operators as ops
from oracles.sampled import Sampled, dense

CLOSE = 1e-6
QUERY = 2
SAMPLING = "multi_scale_deformable_attention_v2"
GRIDS = {"image": (2, 2), "image2": (4, 4), "image3": (8, 8)}
FINE = {"decoder_n_points": [2, 3, 1], "depth_mult": 0.34, "hidden_size": 16, "lqe_hidden_dim": 8}
"""Each level has a number of points of its own."""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "RT-DETR": ("RTDetr", {}),
    "RT-DETR v2": ("RTDetrV2", {}),
    "D-FINE": ("DFine", FINE),
    "DEIMv2": ("Deimv2", FINE),
    "DEIMv2, without convolutions between": (
        "Deimv2",
        {**FINE, "encoder_has_trailing_conv": False, "use_gateway": False},
    ),
}


def model(kind: str = "RT-DETR") -> nn.Module:
    """Random weights, so large that attention is not uniform."""
    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    family, options = KINDS[kind]
    sizes = dict(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], d_model=16,
        decoder_in_channels=[16, 16, 16], encoder_layers=1, encoder_ffn_dim=24, decoder_ffn_dim=24, decoder_layers=2,
        num_queries=5, encoder_attention_heads=2, decoder_attention_heads=2, decoder_n_points=2, num_labels=4, num_denoising=0,
        anchor_image_size=None, encode_proj_layers=[2], num_attention_heads=2,
    )  # fmt: skip
    config = getattr(transformers, f"{family}Config")(**{**sizes, **options})
    found = getattr(transformers, f"{family}ForObjectDetection")(config).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                spread = float(parameter.std())
                parameter.mul_(1.3 * parameter[0].numel() ** -0.5 / spread) if spread > 0 else parameter.normal_(0, 0.3)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 10)
    return found


def target(output: Any) -> Tensor:
    """A class's score at a query."""
    return 10 * output.logits[:, QUERY, 1]


class Run:
    """What a run shows: of each module its first input and its output, sampled points, and the target's gradient to the output."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.net, self.calls, self.points, hooks = net, {}, list[Sampled](), []
        for name, module in net.named_modules():
            hooks.append(module.register_forward_hook(self._note(name), with_kwargs=True))
        with torch.enable_grad(), pytest.MonkeyPatch.context() as patch:
            for module in net.modules():
                if hasattr(module, "ms_deformable_attn_core"):
                    sampled = partial(self._sampled, module.ms_deformable_attn_core)
                    patch.setattr(module, "ms_deformable_attn_core", sampled)
            written = sys.modules[type(net).__module__]
            if hasattr(written, SAMPLING):
                patch.setattr(written, SAMPLING, partial(self._sampled, getattr(written, SAMPLING)))
            self.score = target(net(x)).sum()
        for hook in hooks:
            hook.remove()

    def _note(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, named: Any, out: Any) -> None:
            self.calls[name] = given, out
            if isinstance(module, nn.BatchNorm2d):  # torch's backward errs on one sample's transposed gradient
                out.register_hook(Tensor.contiguous)
            if name.endswith("encoder_attn.attn"):
                value, _, sizes, _, at, weight, *_ = given
                self._point(value, sizes, at.unbind(3), weight.unbind(3), out)

        return hook

    def _sampled(
        self, sampling: Callable, value: Tensor, sizes: Any, at: Tensor, weight: Tensor, points: Any, method: str
    ) -> Tensor:
        """Points of all levels in one row, as many of each level as ``points`` says."""
        out = sampling(value, sizes, at, weight, points, method)
        self._point(value, sizes, at.split(points, -2), weight.split(points, -1), out)
        return out

    def _point(self, value: Tensor, sizes: Any, at: Any, weight: Any, out: Tensor) -> None:
        self.points.append(Sampled(dense(sizes, at, weight), value.detach().transpose(1, 2), out))

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

    def shares(self, name: str, parts: Sequence[int]) -> Tensor:
        """Ā of a convolution of single places whose channels are those of several tokens, (rows, tokens)."""
        (x, *_), out = self.calls[name]
        weight, g = self.net.get_submodule(name).weight.detach()[:, :, 0, 0], self.gradient(out)[0].flatten(1)
        pairs = zip(weight.split(parts, 1), x.detach()[0].flatten(1).split(parts), strict=True)
        return torch.stack([(g * (w @ part)).sum(0).clamp(min=0) for w, part in pairs], 1)

    def joined(self, shares: Tensor, *states: Tensor) -> Tensor:
        """R of tokens that are each made of one token of several states."""
        M = ops.normalised(shares, torch.ones_like(shares).bool())
        return torch.stack([M[:, n : n + 1] * R for n, R in enumerate(states)]).sum(0)

    def up(self, number: int, low: Tensor, high: Tensor) -> Tensor:
        """R of what a level and a coarser one, four times each token, become."""
        block = f"model.encoder.fpn_blocks.{number}"
        if isinstance(self.net, transformers.Deimv2ForObjectDetection):  # the one is added to the other
            (added, *_), _ = self.calls[f"{block}.conv1.conv"]
            x = self.calls[f"model.encoder.lateral_convs.{number}"][1]
            return self.fused(block, high + ops.linear(larger, x, self.gradient(added))[0] @ low)
        index = larger(torch.arange(len(low)).view(1, 1, *[round(len(low) ** 0.5)] * 2).double()).long().flatten()
        return self.fused(block, low[index], high)

    def down(self, number: int, high: Tensor, low: Tensor) -> Tensor:
        """R of what a level and a finer one, strided, become."""
        block, strided = (f"model.encoder.{part}.{number}" for part in ("pan_blocks", "downsample_convs"))
        strided += ".conv2.conv" if f"{strided}.conv2" in self.calls else ".conv"
        if isinstance(self.net, transformers.Deimv2ForObjectDetection):
            return self.fused(block, low + self.conv(strided) @ high)
        return self.fused(block, self.convolved(strided, high), low)

    def fused(self, name: str, *levels: Tensor) -> Tensor:
        """R of what a block makes of a state, or of two side by side."""
        if isinstance(self.net, transformers.RTDetrForObjectDetection | transformers.RTDetrV2ForObjectDetection):
            shares = self.shares(f"{name}.conv1.conv", (16, 16)) + self.shares(f"{name}.conv2.conv", (16, 16))
            return self.bent(name, self.joined(shares, *levels))
        R = levels[0] if len(levels) == 1 else self.joined(self.shares(f"{name}.conv1.conv", (16, 16)), *levels)
        near = self.bent(f"{name}.csp_rep1", R)
        convs = [f"{name}.conv2.conv", f"{name}.conv3.conv", f"{name}.conv4.conv"]
        if len(levels) == 1:
            convs = [f"{name}.csp_rep1.conv2.conv", f"{name}.csp_rep2.conv2.conv", f"{name}.conv2.conv"]
            if convs[0] not in self.calls:
                return self.bent(f"{name}.csp_rep2", near)  # all four parts are of the same tokens
        near = self.convolved(convs[0], near)
        far = self.convolved(convs[1], self.bent(f"{name}.csp_rep2", near))
        return self.joined(self.shares(convs[2], (32, 8, 8)), R, near, far)

    def bent(self, name: str, R: Tensor) -> Tensor:
        """R after the bottlenecks of a block, each of which adds what a convolution of neighbours gives to what one of single places does."""
        for i in range(len(self.net.get_submodule(f"{name}.bottlenecks"))):
            R = R + self.conv(f"{name}.bottlenecks.{i}.conv1.conv") @ R
        return R

    def convolved(self, name: str, R: Tensor) -> Tensor:
        """R of what a convolution of neighbours makes."""
        module, side = self.net.get_submodule(name), round(len(R) ** 0.5)
        ones = nn.Conv2d(1, 1, 3, module.stride, 1, bias=False)
        nn.init.ones_(ones.weight)
        return ops.normalised(self.conv(name)[None], ops.reaching(ones, torch.ones(1, 1, side, side)))[0] @ R

    def sampled(self, layer: int) -> Tensor:
        """Ā of sampled points over all levels."""
        call = self.points[layer]
        torch.testing.assert_close(call.weights @ call.value, call.per_head(call.out).detach())
        return call.cam(self.gradient(call.out))[0]


larger = partial(nn.functional.interpolate, scale_factor=2.0, mode="nearest")


def expected(net: nn.Module, x: Tensor) -> Tensor:
    """The query's row over the tokens of the three levels, the coarsest first, (tokens,)."""
    run = Run(net, x)
    sides = [x.shape[2] // stride for stride in (32, 16, 8)]
    counts = [side * side for side in sides]
    low, middle, high = torch.eye(sum(counts)).double().split(counts)
    low = low + run.attention("model.encoder.aifi.0.layers.0.self_attn") @ low
    middle = run.up(0, low, middle)
    high = run.up(1, middle, high)
    middle = run.down(0, high, middle)
    low = run.down(1, middle, low)
    memory = torch.cat([high, middle, low])
    scores = run.calls["model.enc_score_head"][1]
    R = memory[torch.topk(scores.max(-1).values, 5, dim=1)[1][0]]
    for layer in range(2):
        R = R + run.attention(f"model.decoder.layers.{layer}.self_attn") @ R
        R = R + run.sampled(layer) @ memory
    return R[QUERY]


@pytest.mark.parametrize("head", [0, 1, 4], ids=["middle level", "two levels", "finest level"])
@pytest.mark.parametrize("kind", KINDS)
def test_pyramids(kind: str, head: int) -> None:
    """The decoder's queries are tokens of one level or of several, as the head that chooses them has it."""
    net = model(kind)
    torch.manual_seed(head)
    nn.init.normal_(net.model.enc_score_head.weight, std=0.5)
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64).double()
    found = heedmap.explain(net, {"pixel_values": x}, target=target, drop_self=False)
    assert {name: segment.grid for name, segment in found.segments.items()} == GRIDS
    whole = heedmap.explain(net, {"pixel_values": x}, target=target, drop_self=False, full=True)  # by dense matrices
    for name, segment in found.segments.items():
        torch.testing.assert_close(segment.relevance, whole.segments[name].relevance, rtol=1e-5, atol=1e-7)
    eager = deepcopy(net)
    eager.set_attn_implementation("eager")
    for n in range(2):
        wanted = expected(eager, x[n : n + 1])
        row = torch.cat([segment.relevance[n].double() for segment in found.segments.values()])
        assert float(wanted.abs().max()) > 0
        assert float((row - wanted).abs().max() / wanted.abs().max()) <= CLOSE


def test_what_is_taken_in_goes_up_as_it_goes_down() -> None:
    torch.manual_seed(0)
    join = AbsorbedStream(frozenset(), torch.tensor([[3, -1, 0, 1], [-1, 2, 4, 0]]))
    rows, columns = torch.randn(2, 2, 5).double(), torch.randn(2, 4, 3).double()
    torch.testing.assert_close(rows @ join.columns(columns, 5), join.weights(rows) @ columns)
