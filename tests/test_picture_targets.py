"""Targets over the pixels of a picture, edges of boxes and values to come, on outputs and whole models of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor, nn
from transformers import (
    BeitConfig,
    BeitForSemanticSegmentation,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    DetrConfig,
    DetrForSegmentation,
    DPTConfig,
    DPTForDepthEstimation,
    DPTForSemanticSegmentation,
    EomtConfig,
    EomtForUniversalSegmentation,
    LukeConfig,
    LukeForEntityPairClassification,
    MaskFormerImageProcessor,
    PatchTSTConfig,
    PatchTSTForPrediction,
    ResNetConfig,
    SamConfig,
    SamModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    TimeSeriesTransformerConfig,
    TimeSeriesTransformerForPrediction,
    YolosConfig,
    YolosForObjectDetection,
)
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput

import heedmap
from heedmap.attention.forward import output_of
from heedmap.cli.inputs import parse_target
from heedmap.errors import TargetError, UnknownNameError
from heedmap.evaluate.answer import held
from heedmap.outputs import Context
from heedmap.targets import BoxSide, Depth, DetectionQuery, Forecast, PromptMask, Region, TopPrediction, present_classes

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {**SIZES, "image_size": 32, "patch_size": 8}
NECK = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
LABELS = ("sky", "road", "tree")
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}


def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    return model.eval()


def pictures(batch: int = 2, side: int = 32) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {"pixel_values": torch.randn(batch, 3, side, side)}


def dpt_segmenter() -> nn.Module:
    return lively(DPTForSemanticSegmentation(DPTConfig(**PATCHES, **NECK, **NAMED)))


def beit() -> nn.Module:
    heads = {"out_indices": [1, 2, 3, 4], "pool_scales": [1, 2], "use_auxiliary_head": False}
    return lively(BeitForSemanticSegmentation(BeitConfig(**PATCHES, **heads, **NAMED)))


def eomt() -> nn.Module:
    queries = {"num_queries": 5, "num_blocks": 2, "num_upscale_blocks": 1}
    return lively(EomtForUniversalSegmentation(EomtConfig(**PATCHES, **queries, **NAMED)))


def segformer() -> nn.Module:
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, **NAMED,
    )  # fmt: skip
    return lively(SegformerForSemanticSegmentation(config))


def detr() -> nn.Module:
    stages = [f"stage{number}" for number in range(1, 5)]
    body = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder")
             for name, value in (("layers", 2), ("attention_heads", 16), ("ffn_dim", 24))}  # fmt: skip
    own = {"use_timm_backbone": False, "backbone": None, "backbone_config": body, "use_pretrained_backbone": False}
    return lively(DetrForSegmentation(DetrConfig(**sizes, **own, d_model=16, num_queries=5, **NAMED)))


def depth_model() -> nn.Module:
    """Deep enough that no pixel is cut off at 0, where nothing would be explained."""
    model = lively(DPTForDepthEstimation(DPTConfig(**PATCHES, **NECK)))
    [*_, last] = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    last.bias.data += 1
    return model


def clipseg() -> tuple[nn.Module, dict[str, Tensor]]:
    text = {**SIZES, "num_hidden_layers": 2, "vocab_size": 50, "max_position_embeddings": 12, "eos_token_id": 2}
    sizes = {"projection_dim": 8, "reduce_dim": 8, "extract_layers": [0, 1, 2], "decoder_num_attention_heads": 2}
    config = CLIPSegConfig(text_config=text, vision_config=PATCHES, **sizes, decoder_intermediate_size=16)
    inputs = {**pictures(), "input_ids": torch.tensor([[1, 7, 8, 2], [1, 9, 5, 2]])}
    return lively(CLIPSegForImageSegmentation(config)), inputs


def sam() -> tuple[nn.Module, dict[str, Tensor]]:
    vision = {
        "hidden_size": 16, "output_channels": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64,
        "patch_size": 16, "num_pos_feats": 4, "mlp_dim": 24, "window_size": 2, "global_attn_indexes": [1],
    }  # fmt: skip
    prompts = {"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_dim": 16,
        "iou_head_hidden_dim": 8,
    }
    decoder |= {"attention_downsample_rate": 1}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    points = torch.tensor([[[[10.0, 20.0]], [[40.0, 50.0]]]])
    return lively(SamModel(config)), {**pictures(1, 64), "input_points": points}


def context(model: nn.Module, inputs: Any) -> Context:
    return Context.of(inputs, model.config, None, model.forward)


def chosen(target: Any, model: nn.Module, inputs: Any) -> Any:
    return target.choose(output_of(model, inputs), context(model, inputs))


def same(found: Any, wanted: Any) -> None:
    assert torch.allclose(found.scores, wanted.scores, atol=1e-5)
    for name in wanted.segments:
        assert torch.allclose(found[name], wanted[name], atol=1e-5)


# -- a class over a region -------------------------------------------------------------------------------------------


def most(top: Tensor, classes: int = 3) -> int:
    return int(torch.bincount(top.flatten(), minlength=classes).argmax())


@pytest.mark.parametrize("make", [dpt_segmenter, beit])
def test_the_default_is_the_most_frequent_class_over_its_own_pixels(make: Callable[[], nn.Module]) -> None:
    model, inputs = make(), pictures()
    top = output_of(model, inputs).logits.argmax(1)
    picked = [most(one) for one in top]
    own = torch.stack([one == c for one, c in zip(top, picked, strict=True)])

    def mean(output: Any) -> Tensor:
        return torch.stack([output.logits[i, c][own[i]].mean() for i, c in enumerate(picked)])

    found = heedmap.explain(model, inputs)
    same(found, heedmap.explain(model, inputs, target=mean))
    assert found.prediction.tolist() == picked
    assert found.prediction_labels == tuple(LABELS[c] for c in picked)
    assert [words.split(" over its pixels, ")[0] for words in found.target] == [
        f"class {c} ({LABELS[c]})" for c in picked
    ]
    assert "over its pixels" in found.to_html()


@pytest.mark.parametrize("make", [dpt_segmenter, depth_model, eomt])
def test_tuples_are_read_by_what_the_model_says_it_returns(make: Callable[[], nn.Module]) -> None:
    model, inputs = make(), pictures()
    found, wanted = heedmap.explain(model, {**inputs, "return_dict": False}), heedmap.explain(model, inputs)
    assert found.target == wanted.target
    same(found, wanted)


def test_a_model_in_bfloat16_has_the_same_target() -> None:
    model, inputs = dpt_segmenter().to(torch.bfloat16), {"pixel_values": pictures()["pixel_values"].bfloat16()}
    found = heedmap.explain(model, inputs)
    top = output_of(model, inputs).logits.argmax(1)
    assert found.prediction.tolist() == [most(one) for one in top]


def test_a_segmenter_of_one_class_has_its_name() -> None:
    logits = torch.tensor([[[[1.0, -1.0], [3.0, -2.0]]]])
    named = Context({"pixel_values": torch.zeros(1, 3, 2, 2)}, {0: "polyp"})
    found = Region("Polyp").choose({"logits": logits}, named)
    assert found.words == ("class 0 (polyp) over its pixels, 50.0 % of the picture",)
    assert found.values.tolist() == [2]
    assert present_classes({"logits": logits}, named) == [(0, "polyp", 0.5)]


@pytest.mark.parametrize("make", [dpt_segmenter, eomt])
@pytest.mark.parametrize("target", [None, Region(where=(0.0, 0.0, 0.5, 0.75)), Region((1, 0), where=(3, 4))])
def test_a_batch_is_as_one_by_one(make: Callable[[], nn.Module], target: Any) -> None:
    model, inputs = make(), pictures()
    both = heedmap.explain(model, inputs, target=target)
    for i in range(2):
        one = {name: value[i : i + 1] for name, value in inputs.items()}
        own = Region(target.label[i], target.where) if target and target.label else target
        alone = heedmap.explain(model, one, target=own)
        assert alone.target[0] == both.target[i]
        assert torch.allclose(alone.scores[0], both.scores[i], atol=1e-5)
        assert torch.allclose(alone["image"][0], both["image"][i], atol=1e-5)


def test_the_first_answer_is_what_the_default_explains() -> None:
    model, inputs = dpt_segmenter(), pictures(1)
    top = output_of(model, inputs).logits[0].argmax(0)
    shares = torch.bincount(top.flatten(), minlength=3) / top.numel()
    answers = heedmap.predict(model, inputs)
    order = [c for c in shares.argsort(descending=True).tolist() if shares[c] > 0]
    assert [answer.target.label for answer in answers] == order
    assert answers[0].label == f"{LABELS[order[0]]}: {100 * float(shares[order[0]]):.1f} % of the picture"
    found, again = heedmap.explain(model, inputs), heedmap.explain(model, inputs, target=answers[0].target)
    assert found.target == again.target
    assert torch.equal(found["image"], again["image"])


def test_a_box_is_of_pixels_of_the_picture_or_of_shares_and_counts_parts_of_pixels() -> None:
    model, inputs = beit(), pictures()  # 32×32 pixels in, 16×16 out
    logits = output_of(model, inputs).logits
    whole = chosen(Region("tree", where=(4, 8, 12, 32)), model, inputs)
    assert torch.allclose(whole.values, logits[:, 2, 4:16, 2:6].mean((1, 2)), atol=1e-5)
    assert whole.words[0] == "class 2 (tree) in the box (4, 8, 12, 32)"
    shares = chosen(Region(2, where=(0.125, 0.25, 0.375, 1.0)), model, inputs)
    assert torch.allclose(shares.values, whole.values, atol=1e-5)
    part = chosen(Region(2, where=(0, 0, 3, 2)), model, inputs)  # one pixel of the output, and half of the next
    assert torch.allclose(part.values, (2 * logits[:, 2, 0, 0] + logits[:, 2, 0, 1]) / 3, atol=1e-5)
    assert torch.allclose(chosen(Region(1, where=(31, 5)), model, inputs).values, logits[:, 1, 2, 15])
    assert torch.allclose(chosen(Region(1, where=(1.0, 1.0)), model, inputs).values, logits[:, 1, 15, 15])


def test_x_is_across_and_y_is_down() -> None:
    depth = torch.arange(32.0).reshape(1, 4, 8)
    wide = Context({"pixel_values": torch.zeros(1, 3, 8, 16)})
    for where, wanted in [
        ((14, 2), depth[0, 1, 7]),
        ((0.9, 0.3), depth[0, 1, 7]),
        ((8, 0, 16, 4), depth[0, :2, 4:].mean()),
    ]:
        assert float(Depth(where).choose({"predicted_depth": depth}, wide).values) == pytest.approx(float(wanted))
    with pytest.raises(TargetError, match=r"16 pixels wide and 8 high; expected pixels 0 to 15 and 0 to 7"):
        Depth((2, 14)).choose({"predicted_depth": depth}, wide)


def test_without_a_class_it_is_the_top_one_of_most_pixels_there() -> None:
    model, inputs = beit(), pictures()
    logits = output_of(model, inputs).logits
    logits[:, 2, :4] += 100
    found = Region(where=(0, 0, 32, 8)).choose({"logits": logits}, context(model, inputs))
    assert found.words == ("class 2 (tree) in the box (0, 0, 32, 8)",) * 2
    assert found.prediction.tolist() == [2, 2]


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_a_mask_has_the_size_of_the_output_or_of_the_picture(kind: Callable[[Any], Any]) -> None:
    model, inputs = beit(), pictures()
    logits = output_of(model, inputs).logits
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[3:5, 7:12] = True
    wanted = logits[:, 1][:, mask].mean(-1)
    assert torch.allclose(chosen(Region(1, where=kind(mask)), model, inputs).values, wanted, atol=1e-5)
    large = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.allclose(chosen(Region(1, where=kind(large)), model, inputs).values, wanted, atol=1e-5)
    each = torch.stack([mask, mask.flip(0)])
    found = chosen(Region(1, where=kind(each)), model, inputs)
    assert torch.allclose(found.values[1], logits[1, 1][mask.flip(0)].mean(), atol=1e-5)
    assert found.words == ("class 1 (road) in the mask",) * 2


def test_padding_is_no_part_of_a_picture() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0], logits[:, 1, :, :3] = 1, 2
    mask = torch.ones(1, 8, 8, dtype=torch.long)
    mask[:, :, :6] = 0
    inputs = {"pixel_values": torch.zeros(1, 3, 8, 8), "pixel_mask": mask}
    assert Region().choose({"logits": logits}, Context(inputs)).words == (
        "class 0 over its pixels, 100.0 % of the picture",
    )
    del inputs["pixel_mask"]
    assert Region().choose({"logits": logits}, Context(inputs)).words == (
        "class 1 over its pixels, 75.0 % of the picture",
    )


BAD: dict[str, tuple[Any, str]] = {
    "no such class": (Region(7), "class 7 is out of range: there are 3"),
    "class not in the picture": (Region("tree"), r"class 2 \(tree\) is the top class at no pixel.*has sky \(100.0 %\)"),
    "mask of another size": (
        Region(0, where=torch.ones(10, 12)),
        r"the mask has shape \(10, 12\).*the map's 16×16, or 32×32 as the picture",
    ),
    "masks of another batch": (Region(0, where=torch.ones(3, 16, 16)), r"shape \(3, 16, 16\); expected .* \(2, h, w\)"),
    "empty mask": (Region(0, where=torch.zeros(16, 16)), "the mask is empty"),
    "negative mask": (Region(0, where=-torch.ones(16, 16)), "negative numbers"),
    "point outside": (
        Region(0, where=(32, 5)),
        r"point \(32, 5\) does not lie .* 32 pixels wide .* pixels 0 to 31 and 0 to 31",
    ),
    "share outside": (Region(0, where=(0.5, 1.5)), r"point \(0.5, 1.5\) does not lie .* shares from 0.0 to 1.0"),
    "box outside": (Region(0, where=(0, 0, 33, 5)), r"box \(0, 0, 33, 5\) does not lie .* pixels 0 to 32 .* x1 < x2"),
    "empty box": (Region(0, where=(4, 4, 4, 8)), "x1 < x2 and y1 < y2"),
    "pixel or all": (Region(0, where=(0, 0, 1, 1)), "may be one pixel or all of the picture; write 1.0"),
    "three numbers": (Region(0, where=(1, 2, 3)), r"where=\(1, 2, 3\) is no place; expected a mask"),
    "lists": (Region(0, where=[[0.0] * 99] * 99), r"where=\[\[0.0, .{,60} is no place"),
    "words": (Region(0, where="left"), "where='left' is no place"),
    "nan": (Region(0, where=(float("nan"), 0.5)), "does not lie"),
    "labels for another batch": (Region((0, 1, 2)), "3 class targets for a batch of 2"),
    "no masks": (PromptMask(), r"PromptMask needs pred_masks \(batch, prompts, masks, h, w\)"),
    "no depth": (Depth(), "Depth needs predicted_depth"),
    "no series": (Forecast(), "Forecast needs prediction_outputs"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    target, message = BAD[name]
    model, inputs = beit(), pictures()
    logits = output_of(model, inputs).logits
    logits[:, 0] += 100
    with pytest.raises(TargetError, match=message):
        target.choose({"logits": logits}, context(model, inputs))


def test_an_unknown_name_of_a_class_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="no class is called 'cat'; known labels: sky, road, tree"):
        heedmap.explain(beit(), pictures(), target="cat")


def test_a_class_by_its_name_is_meant_over_its_pixels() -> None:
    model, inputs = segformer(), pictures()
    output = output_of(model, inputs)
    found = TopPrediction("road").choose(output, context(model, inputs))
    own = output.logits.argmax(1) == 1
    assert torch.allclose(found.values[0], output.logits[0, 1][own[0]].mean(), atol=1e-5)
    assert found.words == chosen(Region("road"), model, inputs).words


# -- one map, queries with masks -------------------------------------------------------------------------------------


def test_one_map_of_a_text_is_explained_where_it_is_above_zero() -> None:
    model, inputs = clipseg()
    logits = output_of(model, inputs).logits
    found = chosen(TopPrediction(), model, inputs)
    for i, one in enumerate(logits):
        assert torch.allclose(found.values[i], one[one > 0].mean(), atol=1e-5)
        assert found.words[i].startswith(f"the map over its pixels, {100 * (one > 0).float().mean():.1f} %")
    low = {"logits": logits - 100}
    lowest = Region().choose(low, context(model, inputs))
    assert torch.allclose(lowest.values, low["logits"].amax((1, 2)))
    assert lowest.words == ("the map at its highest pixel, as it is nowhere above 0",) * 2
    point = chosen(Region(where=(3, 5)), model, inputs)
    assert torch.allclose(point.values, logits[:, 5, 3])
    answers = heedmap.predict(model, {name: value[:1] for name, value in inputs.items()})
    assert [(answer.label.split(":")[0], answer.target) for answer in answers] == [("the map", Region(0))]
    with pytest.raises(TargetError, match="there is one map, and none is called 'cat'"):
        chosen(Region("cat"), model, inputs)


def scores_of(classes: Tensor, masks: Tensor) -> Tensor:
    """(batch, classes, h, w), as transformers' own post-processing has them."""
    output = MaskFormerForInstanceSegmentationOutput(class_queries_logits=classes, masks_queries_logits=masks)
    found = MaskFormerImageProcessor().post_process_semantic_segmentation(output, return_segmentation_scores=True)
    return torch.stack([one["segmentation_scores"] for one in found])


def test_a_class_of_queries_with_masks_is_summed_as_post_processing_does() -> None:
    model, inputs = eomt(), pictures()
    output = output_of(model, inputs)
    scores = scores_of(output.class_queries_logits, output.masks_queries_logits)
    top = scores.argmax(1)
    found = heedmap.explain(model, inputs)
    for i, one in enumerate(top):
        c = most(one)
        assert found.target[i].startswith(f"class {c} ({LABELS[c]}) over its pixels")
        assert torch.allclose(found.scores[i], scores[i, c][one == c].mean(), atol=1e-5)
    box = heedmap.explain(model, inputs, target=Region("tree", where=(0, 0, 16, 32)))
    assert torch.allclose(box.scores, scores[:, 2, :, :4].mean((1, 2)), atol=1e-5)

    def by_hand(output: Any) -> Tensor:
        odds = output.class_queries_logits.exp() / output.class_queries_logits.exp().sum(-1, keepdim=True)
        return (odds[..., 2] * output.masks_queries_logits.sigmoid()[..., :4].mean((2, 3))).sum(1)

    same(box, heedmap.explain(model, inputs, target=by_hand))
    query = heedmap.explain(model, inputs, target=DetectionQuery(3, "road"))
    assert query.target == ("query 3, class 1 (road)",) * 2
    same(query, heedmap.explain(model, inputs, target=lambda output: output.class_queries_logits[:, 3, 1]))


def test_a_detector_with_masks_has_classes_over_regions_too() -> None:
    model, inputs = detr(), {**pictures(1, 64), "pixel_mask": torch.ones(1, 64, 64, dtype=torch.long)}
    output = output_of(model, inputs)
    scores = scores_of(output.logits, output.pred_masks)
    found = chosen(Region(1, where=(0.0, 0.0, 1.0, 1.0)), model, inputs)
    assert torch.allclose(found.values, scores[:, 1].mean((1, 2)), atol=1e-5)
    assert heedmap.explain(model, inputs).target[0].startswith("query ")


def test_an_evaluation_of_what_is_no_one_class_is_refused_in_words() -> None:
    class Subject:
        model = dpt_segmenter()

        def resolve_target(self, target: Any, inputs: Any) -> Any:
            return target

        def context(self, inputs: Any) -> Context:
            return context(self.model, inputs)

    with pytest.raises(TargetError, match="is no one class of the output"):
        held(Subject(), pictures())  # type: ignore[arg-type]


# -- masks of prompts, boxes, depth ----------------------------------------------------------------------------------


def test_the_best_mask_of_a_prompt_is_explained_inside_itself() -> None:
    model, inputs = sam()
    output = output_of(model, inputs)
    for prompt in range(2):
        best = int(output.iou_scores[0, prompt].argmax())
        mask = output.pred_masks[0, prompt, best]
        found = chosen(PromptMask(prompt), model, inputs)
        assert torch.allclose(found.values[0], mask[mask > 0].mean(), atol=1e-5)
        assert found.words[0].startswith(f"mask {best} of prompt {prompt}, ")
    assert chosen(TopPrediction(), model, inputs).words == chosen(PromptMask(0), model, inputs).words
    other = chosen(PromptMask(1, 0), model, inputs)
    assert other.words[0].startswith("mask 0 of prompt 1, ")
    with pytest.raises(TargetError, match="prompt 2 is out of range: there are 2, 0 to 1"):
        chosen(PromptMask(2), model, inputs)
    with pytest.raises(TargetError, match="mask 3 is out of range: there are 3, 0 to 2"):
        chosen(PromptMask(0, 3), model, inputs)
    with pytest.raises(TargetError, match=r"there are no iou_scores \(1, 2, 3\).*give mask="):
        PromptMask().choose({"pred_masks": output.pred_masks}, Context())
    with pytest.raises(TargetError, match=r"the target is 'cat', and the model gives masks of prompts, no classes"):
        chosen(TopPrediction("cat"), model, inputs)


def test_the_masks_of_all_prompts_are_listed_the_best_first() -> None:
    model, inputs = sam()
    quality = output_of(model, inputs).iou_scores[0]
    answers = heedmap.predict(model, inputs)
    wanted = [(prompt, mask) for prompt in range(2) for mask in quality[prompt].argsort(descending=True).tolist()]
    assert [(answer.target.prompt, answer.target.mask) for answer in answers] == wanted
    default = chosen(TopPrediction(), model, inputs)
    assert chosen(answers[0].target, model, inputs).words == default.words


def test_an_empty_mask_is_explained_at_its_highest_pixel() -> None:
    masks = torch.full((1, 1, 1, 4, 4), -3.0)
    masks[..., 2, 1] = -1
    found = PromptMask(0, 0).choose({"pred_masks": masks}, Context())
    assert found.values.tolist() == [-1]
    assert found.words == ("mask 0 of prompt 0, which is empty, at its highest pixel",)


SIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "left": lambda box: box[:, 0] - box[:, 2] / 2,
    "right": lambda box: box[:, 0] + box[:, 2] / 2,
    "top": lambda box: box[:, 1] - box[:, 3] / 2,
    "bottom": lambda box: box[:, 1] + box[:, 3] / 2,
    "width": lambda box: box[:, 2],
    "height": lambda box: box[:, 3],
    "x": lambda box: box[:, 0],
    "y": lambda box: box[:, 1],
}


def yolos() -> nn.Module:
    tokens = {"num_detection_tokens": 4, "use_mid_position_embeddings": False, "image_size": [32, 32]}
    return lively(YolosForObjectDetection(YolosConfig(**{**PATCHES, **tokens}, **NAMED)))


@pytest.mark.parametrize("side", SIDES)
def test_an_edge_of_a_box(side: str) -> None:
    model, inputs = yolos(), pictures()
    found = heedmap.explain(model, inputs, target=BoxSide(side, query=2))
    same(found, heedmap.explain(model, inputs, target=lambda output: SIDES[side](output.pred_boxes[:, 2])))
    assert found.target[0].startswith(f"{side} of the box of query 2, class ")


def test_without_a_query_it_is_the_box_of_the_surest_object() -> None:
    model, inputs = yolos(), pictures()
    surest = chosen(DetectionQuery(), model, inputs)
    assert chosen(BoxSide("left"), model, inputs).words == tuple(f"left of the box of {w}" for w in surest.words)
    tree = chosen(DetectionQuery(label="tree"), model, inputs)
    assert chosen(BoxSide("top", label="tree"), model, inputs).words == tuple(
        f"top of the box of {w}" for w in tree.words
    )
    with pytest.raises(TargetError, match="a box has no 'middle'; expected one of left, right"):
        chosen(BoxSide("middle"), model, inputs)
    with pytest.raises(TargetError, match="query 9 is out of range: there are 4"):
        chosen(BoxSide("left", 9), model, inputs)
    with pytest.raises(TargetError, match="BoxSide needs pred_boxes"):
        BoxSide("left").choose({"logits": torch.zeros(1, 2, 4)}, Context(labels=dict(enumerate(LABELS))))


def test_depth_at_a_point_over_a_box_and_over_all() -> None:
    model, inputs = depth_model(), pictures()  # 32×32 pixels in, 64×64 out
    cases = [
        (None, lambda output: output.predicted_depth.mean((1, 2)), "mean depth"),
        (Depth((8, 12)), lambda output: output.predicted_depth[:, 25, 17], "depth at (8, 12)"),
        (Depth((0.25, 0.4)), lambda output: output.predicted_depth[:, 25, 16], "depth at (0.25, 0.4)"),
        (Depth((0, 8, 16, 24)), lambda output: output.predicted_depth[:, 16:48, :32].mean((1, 2)),
         "depth in the box (0, 8, 16, 24)"),
    ]  # fmt: skip
    for target, read, words in cases:
        found = heedmap.explain(model, inputs, target=target)
        assert found.target == (words,) * 2
        same(found, heedmap.explain(model, inputs, target=read))
    (answer,) = heedmap.predict(model, pictures(1))
    assert answer.label == f"mean depth: {float(output_of(model, pictures(1)).predicted_depth.mean()):.4g}"
    with pytest.raises(TargetError, match="the target is 3, and the model gives depth, no classes"):
        heedmap.explain(model, inputs, target=3)


# -- values to come, pairs of entities -------------------------------------------------------------------------------


def test_values_to_come_of_a_series() -> None:
    sizes = {"d_model": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "ffn_dim": 16, "prediction_length": 4}
    config = PatchTSTConfig(
        **sizes, context_length=32, patch_length=8, patch_stride=8, num_input_channels=2, loss="mse"
    )
    model, inputs = lively(PatchTSTForPrediction(config)), {"past_values": torch.randn(2, 32, 2)}
    outputs = output_of(model, inputs).prediction_outputs
    found = chosen(Forecast(2, 1), model, inputs)
    assert torch.equal(found.values, outputs[:, 2, 1])
    assert found.words == ("value of step 2 of channel 1",) * 2
    assert torch.equal(chosen(TopPrediction(), model, inputs).values, outputs[:, 0, 0])
    with pytest.raises(TargetError, match="step 4 is out of range: there are 4"):
        chosen(Forecast(4), model, inputs)
    with pytest.raises(TargetError, match="channel 2 is out of range: there are 2"):
        chosen(Forecast(0, 2), model, inputs)
    means = Forecast(1).choose({"mean_predictions": outputs[..., 0]}, Context())
    assert torch.equal(means.values, outputs[:, 1, 0])


@pytest.mark.parametrize("kind", ["student_t", "normal", "negative_binomial"])
def test_the_mean_of_a_distribution_of_values_to_come(kind: str) -> None:
    sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    config = TimeSeriesTransformerConfig(
        prediction_length=4, context_length=8, lags_sequence=[1, 2], d_model=16, num_time_features=1, **sizes,
        distribution_output=kind,
    )  # fmt: skip
    torch.manual_seed(0)
    model = lively(TimeSeriesTransformerForPrediction(config))
    past = {"past_values": torch.rand(2, 10), "past_time_features": torch.randn(2, 10, 1)}
    inputs = {
        **past, "past_observed_mask": torch.ones(2, 10), "future_values": torch.randint(0, 5, (2, 4)).float(),
        "future_time_features": torch.randn(2, 4, 1),
    }  # fmt: skip
    if kind == "negative_binomial":
        with pytest.raises(
            TargetError, match=r"a distribution \(negative_binomial\), and Forecast knows the mean of student_t"
        ):
            chosen(Forecast(), model, inputs)
        return
    output = output_of(model, inputs)
    wanted = model.output_distribution(output.params, loc=output.loc, scale=output.scale).mean
    assert torch.allclose(chosen(Forecast(3), model, inputs).values, wanted[:, 3], atol=1e-5)


def test_a_pair_of_entities_is_a_class() -> None:
    config = LukeConfig(**SIZES, vocab_size=50, entity_vocab_size=10, entity_emb_size=8, **NAMED)
    model = lively(LukeForEntityPairClassification(config))
    places = torch.tensor([[[1, 2, -1], [3, 4, -1]]])
    inputs = {
        "input_ids": torch.tensor([[0, 5, 6, 7, 8, 2]]), "attention_mask": torch.ones(1, 6, dtype=torch.long),
        "entity_ids": torch.tensor([[1, 2]]), "entity_attention_mask": torch.ones(1, 2, dtype=torch.long),
        "entity_position_ids": places, "entity_token_type_ids": torch.zeros(1, 2, dtype=torch.long),
    }  # fmt: skip
    top = int(output_of(model, inputs).logits.argmax())
    found = heedmap.explain(model, inputs)
    assert found.target == (f"class {top} ({LABELS[top]})",)
    assert found["text"].shape == (1, 6)
    assert found["entity"].shape == (1, 2)


# -- words of the command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("region:sky", Region("sky")),
        ("region:2", Region(2)),
        ("region:sky@0,0,16,32", Region("sky", (0, 0, 16, 32))),
        ("region:@0.5,0.25", Region(None, (0.5, 0.25))),
        ("region:a@b@1,2", Region("a@b", (1, 2))),
        ("depth:3,4", Depth((3, 4))),
        ("depth:0.,0.,.5,1.0", Depth((0.0, 0.0, 0.5, 1.0))),
        ("mask:1", PromptMask(1)),
        ("mask:1:2", PromptMask(1, 2)),
        ("box:left", BoxSide("left")),
        ("box:width:4", BoxSide("width", query=4)),
        ("box:top:cat", BoxSide("top", label="cat")),
        ("step:0", Forecast()),
        ("step:3:1", Forecast(3, 1)),
        ("depth", "depth"),
        ("region", "region"),
        ("elsewhere:3", "elsewhere:3"),
    ],
)
def test_words_of_the_command_line(text: str, target: Any) -> None:
    found = parse_target(text)
    assert found == target
    assert str(found) == str(target)  # 0.0 is no 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth:3", "expected X,Y or X1,Y1,X2,Y2"),
        ("region:sky@left", "expected X,Y or X1,Y1,X2,Y2"),
        ("region:sky@1,2,3", "expected X,Y or X1,Y1,X2,Y2"),
        ("mask:first", "expected a number after mask:"),
        ("mask:0:", "expected a number after mask:"),
        ("box:middle", "a box has left, right, top"),
        ("step:", "expected a number after step:"),
    ],
)
def test_words_that_are_wrong_are_refused(text: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        parse_target(text)
