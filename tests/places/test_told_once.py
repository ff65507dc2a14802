"""Tokens that are read as they are, and as parts of others that were made of them, have one map: the sum over both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hand_mixers import HEADS, WIDTH, Attention
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError
from oracles import operators as ops

CLOSE = 1e-6
SIDE, WINDOW, HALF = 4, 2, WIDTH // 2
timm = pytest.importorskip("timm")


def apart(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    assert wanted.abs().max() > 0
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def cam(A: Tensor, gradient: Tensor) -> Tensor:
    return (A * gradient).clamp(min=0).mean(1).detach()


# -- a half of the features convolved beside the other (EdgeNeXt) ------------------------------------------------------


class Kept(Attention):
    """Keeps its A."""

    A: Tensor

    def mixed(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        self.A = torch.softmax(q @ k.mT / 8**0.5, -1)
        return self.out((self.A @ v).transpose(1, 2).flatten(2))


class Halves(nn.Module):
    """Patches, of which a part of the features is convolved, in windows of attention, then in attention over all."""

    def __init__(self, convolves: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.mixed = nn.Conv2d(HALF, HALF, 3, padding=1)
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.attention, self.again = Kept(), Kept()
        self.head = nn.Linear(WIDTH, 3)
        self.convolves = convolves

    def forward(self, x: Tensor) -> Tensor:
        half, self.other = self.patches(x).chunk(2, 1)
        self.half, self.made = half, self.mixed(half) if self.convolves else half
        rows = in_windows(torch.cat([self.made, self.other], 1))
        self.begun = self.joined(rows)
        return self.head(self.again(self.attention(self.begun).reshape(len(x), -1, WIDTH)).mean(1))


def in_windows(x: Tensor) -> Tensor:
    """(batch, features, height, width) as (batch · windows, places, features)."""
    parts = x.unflatten(2, (WINDOW, -1)).unflatten(4, (WINDOW, -1))
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def expected(model: Halves, x: Tensor) -> Tensor:
    """(patches,), of one picture."""
    score = 10 * model(x)[0, 0]
    to = [model.made, model.begun, model.attention.A, model.again.A]
    made, begun, *of_A = torch.autograd.grad(score, to)
    ones = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(ones.weight)
    reach = ops.reaching(ones, torch.ones(1, 1, SIDE, SIDE))
    M = ops.normalised(ops.linear(model.mixed, model.half.detach(), made), reach)[0]
    order = in_windows(torch.arange(SIDE * SIDE).view(1, 1, SIDE, SIDE).double()).flatten().long()
    weight, g = model.joined.weight.detach(), begun.flatten(0, 1)
    halves = (in_windows(t.detach()).flatten(0, 1) for t in (model.made, model.other))
    parts = zip(weight.split(HALF, 1), halves, strict=True)
    shares = torch.stack([(g * (part @ w.T)).sum(-1).clamp(min=0) for w, part in parts], 1)
    shares = ops.normalised(shares, torch.ones_like(shares).bool())
    R = shares[:, :1] * M[order] + shares[:, 1:] * torch.eye(SIDE * SIDE)[order]
    R = R + torch.block_diag(*cam(model.attention.A, of_A[0])) @ R
    R = R + cam(model.again.A, of_A[1])[0] @ R
    return R.mean(0)


def large(model: nn.Module) -> nn.Module:
    """In float64, attention not uniform."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(2)
        elif parameter.std() < 1e-3:
            parameter.data.add_(torch.randn_like(parameter) / 3)
    return model.double().eval()


def test_halves_of_the_features() -> None:
    torch.manual_seed(0)
    model = large(Halves())
    x = torch.randn(2, 3, 4 * SIDE, 4 * SIDE).double()
    found = heedmap.explain(model, {"x": x}, target=lambda output: 10 * output[:, 0], drop_self=False)
    (segment,) = found.segments.values()
    assert segment.grid == (SIDE, SIDE)
    for n in range(2):
        assert apart(segment.relevance[n], expected(model, x[n : n + 1])) <= CLOSE


def test_halves_that_are_not_convolved_are_one_token() -> None:
    torch.manual_seed(0)
    found = heedmap.explain(large(Halves(False)), {"x": torch.randn(1, 3, 16, 16).double()}, target=0)
    assert [segment.grid for segment in found.segments.values()] == [(SIDE, SIDE)]


def edgenext(parts: int) -> nn.Module:
    """The last stage convolves its features in so many parts, all but the last, each with what became of the one before."""
    torch.manual_seed(0)
    return large(
        timm.models.edgenext.EdgeNeXt(
            dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), global_block_counts=(0, 0, 1, 1), d2_scales=(2, 2, 2, parts), heads=(2,) * 4,
            kernel_sizes=(3,) * 4, num_classes=5,
        )
    )  # fmt: skip


def test_edgenext_has_one_map() -> None:
    """Of all its stages, the last one too."""
    found = heedmap.explain(edgenext(2), {"x": torch.randn(1, 3, 96, 96).double()}, target=1)
    assert list(found.segments) == ["image"]
    assert found.segments["image"].grid == (6, 6)
    assert [stream.rows for stream in found.flow.streams if stream.rows] == [(tuple(range(9)),)]


def test_parts_of_features_that_hear_each_other_and_are_left_behind_are_refused() -> None:
    with pytest.raises(AttentionError, match="without what they were before"):
        heedmap.explain(edgenext(3), {"x": torch.randn(1, 3, 96, 96).double()}, target=1)


def test_mobilevit_has_one_map() -> None:
    """Its layers set what a transformer made of convolved places beside these places."""
    torch.manual_seed(0)
    config = transformers.MobileViTConfig(
        image_size=64, hidden_sizes=[8, 12, 16], neck_hidden_sizes=[4, 8, 8, 12, 12, 16, 24], num_attention_heads=2
    )
    model = large(transformers.MobileViTModel(config))
    found = heedmap.explain(
        model, {"pixel_values": torch.randn(1, 3, 64, 64).double()}, target=lambda output: output.pooler_output[:, 1]
    )
    assert [segment.grid for segment in found.segments.values()] == [(8, 8)]


# -- patches that lie under words, added to these (UDOP) ---------------------------------------------------------------

PATCHES = 4
WORDS = [[0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.6, 0.6], [0.3, 0.3, 0.4, 0.4], [0.9, 0.9, 0.95, 0.95]]


def udop() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.UdopConfig(
        d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, vocab_size=50, image_size=32, patch_size=8
    )
    model = transformers.UdopModel(config).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.5)
    return model


def given() -> dict[str, Tensor]:
    return {
        "input_ids": torch.randint(2, 40, (1, len(WORDS))),
        "attention_mask": torch.ones(1, len(WORDS), dtype=torch.int64),
        "bbox": torch.tensor([WORDS]),
        "pixel_values": torch.randn(1, 3, 32, 32).double(),
        "decoder_input_ids": torch.randint(2, 40, (1, 3)),
    }


def of_last(output: Any) -> Tensor:
    return 10 * output.last_hidden_state[:, -1, 3]


def rules(model: nn.Module, inputs: dict[str, Tensor], score: Callable[[Any], Tensor]) -> dict[str, Tensor]:
    """Rules 6, 10 and 11 on the maps that the model returns; a word begins as itself and the patch under it."""
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    kinds = (output.encoder_attentions, output.decoder_attentions, output.cross_attentions)
    maps = [A for kind in kinds for A in kind]
    cams = [cam(A, g)[0] for A, g in zip(maps, torch.autograd.grad(score(output).sum(), maps), strict=True)]
    encoder, decoder, cross = cams[:2], cams[2:4], cams[4:]
    under = [
        int((top + bottom) / 2 * PATCHES) * PATCHES + int((left + right) / 2 * PATCHES)
        for left, top, right, bottom in WORDS
    ]
    rest = [patch for patch in range(PATCHES**2) if patch not in under]
    rows = len(encoder[0])
    begun = torch.zeros(rows, len(WORDS) + PATCHES**2, dtype=torch.float64)
    begun[range(len(WORDS)), range(len(WORDS))] = 1
    begun[range(len(WORDS) + len(rest)), [len(WORDS) + patch for patch in under + rest]] = 1
    R = torch.eye(rows, dtype=torch.float64)
    for A in encoder:
        R = R + A @ R
    own, words = torch.eye(3, dtype=torch.float64), torch.zeros(3, rows, dtype=torch.float64)
    patches = torch.zeros(3, begun.shape[1], dtype=torch.float64)
    for A, C in zip(decoder, cross, strict=True):
        own, words, patches = own + A @ own, words + A @ words, patches + A @ patches
        words = words + bar(own).mT @ C @ bar(R)
        patches = patches + C @ R @ begun
    return {"text": words[-1, : len(WORDS)], "image_encoder": patches[-1, len(WORDS) :], "decoder": own[-1]}


def bar(R: Tensor) -> Tensor:
    """R̄ of eqs. 8 and 9."""
    rest = R - torch.eye(len(R))
    sums = rest.sum(-1, keepdim=True)
    return rest / torch.where(sums == 0, 1.0, sums) + torch.eye(len(R))


def test_patches_under_words() -> None:
    model, inputs = udop(), given()
    found = heedmap.explain(model, inputs, target=of_last, drop_self=False)
    wanted = rules(model, inputs, of_last)
    assert found.segments.keys() == wanted.keys()
    for name, row in wanted.items():
        assert apart(found[name][0], row) <= CLOSE


def test_patches_that_fill_up_the_row_and_hear_others_are_refused() -> None:
    inputs = given()
    del inputs["attention_mask"]
    with pytest.raises(AttentionError):
        heedmap.explain(udop(), inputs, target=of_last)
