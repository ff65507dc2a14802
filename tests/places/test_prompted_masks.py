"""A mask for a prompt (SAM): which tokens of the picture and of the prompt it rests on; against dense matrices in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

import heedmap
from oracles import operators as ops
from oracles.seen import Event, seen
from oracles.streams import Relevance

CLOSE = 1e-6
SIDE = 8
TOKENS = 1 + 4
"""The token of the masks' quality, and one for each mask."""
MASK = 1
POINTS = torch.tensor([[[[20.0, 30.0], [50.0, 10.0]]]]).double()
LABELS = torch.tensor([[[1, 0]]])
BOX = torch.tensor([[[10.0, 12.0, 40.0, 50.0]]]).double()
PROMPTS: dict[str, tuple[dict[str, Tensor], dict[str, list[int]]]] = {
    "points": ({"input_points": POINTS, "input_labels": LABELS}, {"input_points": [5, 6]}),
    "one point": ({"input_points": POINTS[:, :, :1], "input_labels": LABELS[:, :, :1]}, {"input_points": [5]}),
    "box": ({"input_boxes": BOX}, {"input_boxes": [5, 6]}),
    "points and a box": (
        {"input_points": POINTS, "input_labels": LABELS, "input_boxes": BOX},
        {"input_points": [5, 6], "input_boxes": [7, 8]},
    ),
}
"""The prompt, and where its tokens stand among those of the decoder."""


def model(attention: str = "sdpa") -> nn.Module:
    """Random weights, so large that attention is not uniform; a window of 3 does not divide the picture's 8 rows."""
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "mlp_dim": 64,
        "output_channels": 16, "window_size": 3, "global_attn_indexes": [1], "num_pos_feats": 8,
    }  # fmt: skip
    prompt = {
        "hidden_size": 16,
        "image_size": 64,
        "patch_size": 8,
        "image_embedding_size": SIDE,
        "mask_input_channels": 4,
    }
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    config.vision_config._attn_implementation = attention
    config._attn_implementation = attention
    return sharpened(SamModel(config))


def sharpened(found: nn.Module) -> nn.Module:
    """In float64, with weights of one size each."""
    found = found.double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.dim() > 1:
                parameter.mul_(
                    0.6 * parameter[0].numel() ** -0.5 / parameter.std()
                ) if parameter.any() else parameter.normal_()
    return found


def target(output: Any) -> Tensor:
    """A mask's sum over a part of the picture."""
    return 1000 * output.pred_masks[:, 0, MASK, 6:14, 8:20].sum((1, 2))


def windows() -> Tensor:
    """(windows, tokens): which patch each row of a window is; -1: padding."""
    grid = torch.full((9, 9), -1)
    grid[:SIDE, :SIDE] = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    return grid.view(3, 3, 3, 3).permute(0, 2, 1, 3).reshape(9, 9)


def cam(event: Event, prompt: int = 0) -> Tensor:
    """Ā of a softmax over all tokens, of one entry of the batch."""
    assert event.out is not None
    assert event.gradient is not None
    return ops.whole(event.out, event.gradient)[prompt]


def encoded(first: Event, second: Event, conv: Event) -> Relevance:
    """The picture's tokens: patches, windows of which ask themselves, then all; a convolution makes the decoder's of them."""
    assert first.out is not None
    assert first.gradient is not None
    assert second.out is not None
    assert second.gradient is not None
    assert conv.module is not None
    assert conv.gradient is not None
    found = Relevance()
    found.begin("patches", SIDE * SIDE)
    window = first.out.unflatten(0, (-1, 2)), first.gradient.unflatten(0, (-1, 2))
    found.ask("patches", "patches", ops.blocks(*window, windows(), windows(), SIDE**2, SIDE**2)[0])
    found.ask("patches", "patches", ops.whole(second.out[None], second.gradient[None])[0])
    ones = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(ones.weight)
    reach = ops.reaching(ones, torch.ones(1, 1, SIDE, SIDE))
    merged = ops.normalised(ops.linear(conv.module, conv.given[0], conv.gradient), reach)[0]
    found.begin("picture", SIDE * SIDE, "patches", merged)
    return found


def expected(net: nn.Module, inputs: dict[str, Tensor], asked: Callable[[Any], Tensor] = target) -> dict[str, Tensor]:
    """Relevance of the picture's tokens, (tokens,), and of the decoder's first ones, (prompts, tokens)."""
    events = seen(net, inputs, asked, ["vision_encoder.neck.conv2"])
    (conv,) = (e for e in events if e.name)
    first, second, alone, *layers = (e for e in events if not e.name)
    assert alone.out is not None
    prompts, _, count, _ = alone.out.shape
    rows = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    rows[1:4, 2:5] = 1  # a patch becomes four by four places of a mask
    pixels, patches, tokens = rows.flatten() / rows.sum(), torch.zeros(SIDE * SIDE).double(), []
    read = [n for n in range(prompts) if layers[-1].gradient is not None and bool(layers[-1].gradient[n].any())]
    for n in range(prompts):
        found = encoded(first, second, conv)  # each prompt has tokens of the picture of its own
        found.begin("prompt", count)  # of which the first layer makes new tokens: there is no residual connection
        found.begin("tokens", count, "prompt", ops.normalised(cam(alone, n)[None], torch.ones(count, count))[0])
        pairs = [("tokens", "picture"), ("picture", "tokens"), ("tokens", "tokens")]
        for (s, q), event in zip([*pairs, *pairs[:2], pairs[0]], layers, strict=True):
            found.ask(s, q, cam(event, n))
        R, share = found.R, (n in read) / len(read)
        patches += share * (R["tokens", "patches"][1 + 1 + MASK] + pixels @ R["picture", "patches"])
        tokens.append(share * (R["tokens", "prompt"][1 + 1 + MASK] + pixels @ R["picture", "prompt"]))
    return {"patches": patches, "prompt": torch.stack(tokens)}


def picture() -> Tensor:
    """Random pixels."""
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", PROMPTS)
def test_a_mask_rests_on_the_picture_and_on_the_prompt(name: str) -> None:
    prompt, places = PROMPTS[name]
    inputs = {"pixel_values": picture(), **prompt}
    found = heedmap.explain(model(), dict(inputs), target=target, drop_self=False)
    wanted = expected(model("eager"), inputs)
    assert set(found.segments) == {"image", *places}
    assert found.segments["image"].grid == (SIDE, SIDE)
    for segment, relevance in [("image", wanted["patches"])] + [(n, wanted["prompt"][0, p]) for n, p in places.items()]:
        agrees(found[segment], relevance)


def agrees(found: Tensor, wanted: Tensor) -> None:
    """Each relevance, relative to the largest."""
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found[0].double(), wanted, rtol=CLOSE, atol=CLOSE * float(wanted.max()))


def both(output: Any) -> Tensor:
    """Of the masks of all prompts."""
    return 1000 * output.pred_masks[:, :, MASK, 6:14, 8:20].sum((1, 2, 3))


@pytest.mark.parametrize("asked", [target, both])
def test_several_prompts_have_the_picture_each_for_itself(asked: Callable[[Any], Tensor]) -> None:
    points = torch.tensor([[[[20.0, 30.0]], [[50.0, 10.0]]]]).double()
    inputs = {"pixel_values": picture(), "input_points": points, "input_labels": torch.ones(1, 2, 1).long()}
    found = heedmap.explain(model(), dict(inputs), target=asked, drop_self=False)
    wanted = expected(model("eager"), inputs, asked)
    agrees(found["image"], wanted["patches"])
    agrees(found["input_points"], wanted["prompt"][:, 5])
    if asked is target:
        alone = {"input_points": points[:, :1], "input_labels": inputs["input_labels"][:, :1]}
        before = heedmap.explain(model(), inputs | alone, target=asked, drop_self=False)
        torch.testing.assert_close(found["image"], before["image"])


def second(attention: str = "sdpa") -> nn.Module:
    """SAM 2: windows whose queries are pooled, a pyramid; the decoder's picture is made larger and added to its finer levels."""
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "embed_dim_per_stage": [8, 16, 32, 64],
        "blocks_per_stage": [1, 1, 2, 1], "num_attention_heads": 1, "num_attention_heads_per_stage": [1, 2, 2, 2],
        "image_size": [128, 128], "window_size_per_stage": [8, 4, 4, 2], "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [SIDE, SIDE]],
    }  # fmt: skip
    prompt = {"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    }
    found = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    found.set_attn_implementation(attention)
    return sharpened(found)


def of_prompt(net: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """SAM 2's relevance of the decoder's first tokens, of which none goes into the picture's encoder."""
    ups = ["mask_decoder.upscale_conv1", "mask_decoder.upscale_conv2"]
    events = seen(net, inputs, target, ups)
    larger = [ops.linear(e.module, e.given[0], e.gradient)[0] for e in events if e.name]  # type: ignore[arg-type]
    alone, *layers = [e for e in events if not e.name][-7:]
    count = alone.out.shape[-1]  # type: ignore[union-attr]
    found = Relevance()
    found.begin("picture", SIDE**2)
    found.begin("prompt", count)
    found.begin("tokens", count, "prompt", ops.normalised(cam(alone)[None], torch.ones(count, count))[0])
    pairs = [("tokens", "picture"), ("picture", "tokens"), ("tokens", "tokens")]
    for (s, q), event in zip([*pairs, *pairs[:2], pairs[0]], layers, strict=True):
        found.ask(s, q, cam(event))
    R = found.R
    pixels = torch.zeros(4 * SIDE, 4 * SIDE, dtype=torch.float64)
    pixels[6:14, 8:20] = 1 / (8 * 12)
    return R["tokens", "prompt"][2 + 1 + MASK] + pixels.flatten() @ larger[1] @ larger[0] @ R["picture", "prompt"]


@pytest.mark.parametrize("name", ["points", "box"])
def test_the_prompt_of_sam_2(name: str) -> None:
    prompt, places = PROMPTS[name]
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)).double()
    found = heedmap.explain(second(), {"pixel_values": pixels, **prompt}, target=target, drop_self=False)
    wanted = of_prompt(second("eager"), {"pixel_values": pixels, **prompt})
    assert set(found.segments) == {"image", *places}
    for segment, rows in places.items():
        agrees(
            found[segment], wanted[[row + 1 for row in rows]]
        )  # there is one more token, of whether there is an object
