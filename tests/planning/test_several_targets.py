"""Several targets from one recording are what each is alone, however they are worked on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    DetrConfig,
    DetrForObjectDetection,
    GPT2Config,
    GPT2LMHeadModel,
    LxmertConfig,
    LxmertForQuestionAnswering,
    ResNetConfig,
    SwinConfig,
    SwinForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

import heedmap
from heedmap.engine import gradients
from heedmap.targets import ClassLogit, DetectionQuery, EveryPosition, EveryQuery, NextToken, TokenLabel, TopClasses

SMALL: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60,
}  # fmt: skip
WORDS = torch.tensor([[3, 9, 27, 5, 40, 12, 7, 8, 2], [4, 4, 31, 8, 59, 2, 6, 0, 0]])
MASK = (WORDS > 0).long()
IMAGES = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def detr() -> nn.Module:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"], layer_type="basic"
    )
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 11, "num_labels": 5}
    return DetrForObjectDetection(
        DetrConfig(
            use_timm_backbone=False,
            backbone=None,
            use_pretrained_backbone=False,
            backbone_config=backbone,
            **sizes,
            **heads,
        )
    )


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], list[Any]]] = {
    "DETR": (detr, {"pixel_values": IMAGES}, [DetectionQuery(query) for query in range(11)]),
    "ViT": (
        lambda: ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=12, **SMALL)),
        {"pixel_values": IMAGES},
        [ClassLogit(index) for index in range(12)],
    ),
    "BERT": (
        lambda: BertForMaskedLM(BertConfig(**SMALL)),
        {"input_ids": WORDS, "attention_mask": MASK},
        [NextToken(position=place) for place in range(7)],
    ),
    "BERT's labels": (
        lambda: BertForTokenClassification(BertConfig(num_labels=3, **SMALL)),
        {"input_ids": WORDS, "attention_mask": MASK},
        [TokenLabel(label, place) for place in range(4) for label in range(3)],
    ),
    "GPT-2": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=60)),
        {"input_ids": WORDS},
        [NextToken(position=place) for place in range(9)],
    ),
    "T5": (
        lambda: T5ForConditionalGeneration(T5Config(d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, vocab_size=60)),
        {"input_ids": WORDS, "attention_mask": MASK, "decoder_input_ids": WORDS[:, :4]},
        [NextToken(position=place) for place in range(4)],
    ),
    "LXMERT": (
        lambda: LxmertForQuestionAnswering(
            LxmertConfig(
                **SMALL, l_layers=2, x_layers=2, r_layers=1, num_qa_labels=9, visual_feat_dim=10,
            )
        ),
        {
            "input_ids": WORDS, "attention_mask": MASK, "visual_feats": torch.randn(2, 6, 10, dtype=torch.float64),
            "visual_pos": torch.rand(2, 6, 4, dtype=torch.float64),
        },
        [ClassLogit(index) for index in range(9)],
    ),
    "Swin": (
        lambda: SwinForImageClassification(
            SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5)
        ),
        {"pixel_values": IMAGES},
        [ClassLogit(index) for index in range(5)],
    ),
}  # fmt: skip


def built(name: str) -> tuple[nn.Module, dict[str, Tensor], list[Any]]:
    build, inputs, targets = CASES[name]
    torch.manual_seed(0)
    return build().double().eval(), inputs, targets


def check_equal(found: heedmap.Explanation, alone: heedmap.Explanation) -> None:
    assert found.target == alone.target
    torch.testing.assert_close(found.scores, alone.scores, rtol=1e-6, atol=1e-9)
    assert list(found.segments) == list(alone.segments)
    for name in alone.segments:
        torch.testing.assert_close(found[name], alone[name], rtol=1e-6, atol=1e-9)
    assert [a.gradient for a in found.flow.attentions] == [a.gradient for a in alone.flow.attentions]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batched", [True, False], ids=["one pass", "a pass each"])
def test_several_are_each_alone(name: str, batched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, targets = built(name)
    monkeypatch.setattr(gradients, "SMALL", 2**16 if batched else 0)
    together = heedmap.explain(model, inputs, target=targets)
    assert len(together) == len(targets)
    for found, target in zip(together, targets, strict=True):
        check_equal(found, heedmap.explain(model, inputs, target=target))
    assert any(bool(found[next(iter(found.segments))].any()) for found in together)


def test_options_and_whole_maps_too() -> None:
    model, inputs, targets = built("DETR")
    for options in (
        {"drop_self": False}, {"normalize": False}, {"self_in_rule_10": False}, {"aggregate": False}, {"start_layer": 1},
        {"drop_identity": True}, {"full": True}, {"memory_budget": 1}, {"memory": "100MB"}, {"method": "rollout"},
        {"cam": "lrp"}, {"method": "attention_gradcam"},
    ):  # fmt: skip
        together = heedmap.explain(model, inputs, target=targets[:3], **options)
        for found, target in zip(together, targets, strict=False):
            check_equal(found, heedmap.explain(model, inputs, target=target, **options))


def test_targets_of_several_kinds_keep_their_order() -> None:
    model, inputs, _ = built("DETR")
    targets = [DetectionQuery(1), lambda output: output.pred_boxes[:, 2, 0], DetectionQuery(3), DetectionQuery(0, 1)]
    together = heedmap.explain(model, inputs, target=targets)
    for found, target in zip(together, targets, strict=True):
        check_equal(found, heedmap.explain(model, inputs, target=target))


class Unbatched(torch.autograd.Function):
    """x → 2 x, whose backward pass looks at values, which no batched one can."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        assert float(gradients[0].sum()) == float(gradients[0].sum())
        return 2 * gradients[0]


def test_what_cannot_be_batched_is_pulled_one_by_one() -> None:
    model, inputs, targets = built("ViT")
    model.vit.layernorm.register_forward_hook(lambda module, args, output: Unbatched.apply(output))
    together = heedmap.explain(model, inputs, target=targets)
    for found, target in zip(together, targets, strict=True):
        check_equal(found, heedmap.explain(model, inputs, target=target))


def test_every_query_of_a_detector() -> None:
    model, inputs, targets = built("DETR")
    found = heedmap.explain(model, inputs, target=EveryQuery())
    alone = heedmap.explain(model, inputs, target=targets)
    assert [one.target for one in found] == [one.target for one in alone]
    assert len(heedmap.explain(model, inputs, target=[EveryQuery(), DetectionQuery(2)])) == 12


def test_the_top_classes_of_each_sample() -> None:
    model, inputs, _ = built("ViT")
    found = heedmap.explain(model, inputs, target=TopClasses(4))
    order = model(**inputs).logits.argsort(-1, descending=True)[:, :4]
    assert [one.target for one in found] == [
        tuple(f"class {index}" for index in of_rank) for of_rank in order.T.tolist()
    ]
    assert len(heedmap.explain(model, inputs, target=TopClasses(99))) == 12
    check_equal(found[2], heedmap.explain(model, inputs, target=tuple(order[:, 2].tolist())))


def test_every_position_that_is_no_padding() -> None:
    for name, count in (("BERT", 7), ("GPT-2", 9), ("T5", 4), ("BERT's labels", 7)):
        model, inputs, _ = built(name)
        assert len(heedmap.explain(model, inputs, target=EveryPosition())) == count, name


REFUSED: dict[str, tuple[str, Any, str]] = {
    "no detector": ("ViT", EveryQuery(), "logits"),
    "no classes": ("DETR", TopClasses(), "logits"),
    "none": ("ViT", TopClasses(0), "1 or more"),
    "no number": ("ViT", TopClasses("all"), "1 or more"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_such_targets(name: str) -> None:
    case, target, told = REFUSED[name]
    model, inputs, _ = built(case)
    with pytest.raises(heedmap.errors.TargetError, match=told):
        heedmap.explain(model, inputs, target=target)


def test_one_target_is_not_several() -> None:
    model, inputs, _ = built("ViT")
    with pytest.raises(heedmap.errors.TargetError, match="TopClasses stands for several"):
        heedmap.inspect(model, inputs, target=TopClasses())


def test_a_run_takes_one_target_a_row(tmp_path: Any) -> None:
    with pytest.raises(heedmap.errors.OptionError, match="EveryQuery stands for several"):
        heedmap.run("zoo/detr-shapes", tmp_path, tmp_path / "out", target=EveryQuery())
