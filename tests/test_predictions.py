"""What a model answers is told at one place: predict()'s first answer is what an explanation without a target explains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPModel,
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    DetrConfig,
    DetrForObjectDetection,
    GPT2Config,
    GPT2LMHeadModel,
    LxmertConfig,
    LxmertForPreTraining,
    ResNetConfig,
    ViTConfig,
    ViTForImageClassification,
    YolosConfig,
    YolosForObjectDetection,
)

import heedmap
from heedmap.errors import InputError, TargetError
from heedmap.models.predictions import predict

TEXT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "patch_size": 8,
}


def lively(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    return model.eval()


def names(*labels: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def text(batch: int = 1) -> dict[str, Tensor]:
    return {"input_ids": torch.arange(7 * batch).reshape(batch, 7) % 40 + 5}


def picture(side: int = 32) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {"pixel_values": torch.randn(1, 3, side, side)}


def detector(kind: Any, config: Any, *labels: str, **more: Any) -> nn.Module:
    shapes = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))
    }
    own = {"use_timm_backbone": False, "backbone": None, "backbone_config": shapes, "use_pretrained_backbone": False}
    return lively(kind(config(**sizes, **own, **more, d_model=16, num_queries=5, **names(*labels))))


def classifier(**settings: Any) -> nn.Module:
    return lively(BertForSequenceClassification(BertConfig(**TEXT, **settings)))


def yolos() -> nn.Module:
    sizes = {"image_size": [32, 32], "num_detection_tokens": 4, "use_mid_position_embeddings": False}
    return lively(YolosForObjectDetection(YolosConfig(**PATCHES, **sizes, **names("cat", "dog"))))


class Deformable(nn.Module):
    """A detector of the form of Deformable DETR: a sigmoid for each class, queries beside a picture's patches."""

    def __init__(self) -> None:
        super().__init__()
        config = ViTConfig(**PATCHES, image_size=32, num_labels=3)
        self.config = config
        self.body, self.ask = ViTForImageClassification(config).vit, nn.MultiheadAttention(16, 2, batch_first=True)
        self.queries, self.classes, self.boxes = nn.Embedding(4, 16), nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        seen = self.body(pixel_values).last_hidden_state
        asked = self.queries.weight[None].expand(len(seen), -1, -1)
        states = asked + self.ask(asked, seen, seen)[0]
        return {"logits": self.classes(states), "pred_boxes": self.boxes(states).sigmoid()}


def best_class(output: Any) -> str:
    return f"class {int(output.logits[0].argmax())}"


def surest(probabilities: Tensor) -> str:
    query, label = divmod(int(probabilities.flatten().argmax()), probabilities.shape[-1])
    return f"query {query}, class {label}"


def softmax_object(output: Any) -> str:
    return surest(output.logits[0].softmax(-1)[:, :-1])


def sigmoid_object(output: Any) -> str:
    logits = output["logits"] if isinstance(output, dict) else output.logits
    return surest(logits[0].sigmoid())


MANY = {"problem_type": "multi_label_classification", **names("red", "round", "large")}
CASES: dict[str, Any] = {  # name → model, inputs, what the default explains as its output says it, in words
    "softmax": (lambda: classifier(**names("no", "yes", "maybe")), text, best_class),
    "several labels": (lambda: classifier(**MANY), text, best_class),
    "no names": (lambda: classifier(id2label={}, num_labels=2), text, best_class),
    "names by number": (lambda: classifier(num_labels=4), text, best_class),
    "DETR": (lambda: detector(DetrForObjectDetection, DetrConfig, "cat", "dog"), lambda: picture(64), softmax_object),
    "ConditionalDETR": (
        lambda: detector(ConditionalDetrForObjectDetection, ConditionalDetrConfig, "cat", "dog", "fox"),
        lambda: picture(64),
        sigmoid_object,
    ),
    "Deformable": (lambda: lively(Deformable()), picture, sigmoid_object),
    "YOLOS": (yolos, picture, softmax_object),
    "teacher": (
        lambda: lively(
            DeiTForImageClassificationWithTeacher(DeiTConfig(**PATCHES, image_size=32, **names("cat", "dog", "fox")))
        ),
        picture,
        best_class,
    ),
    "next token": (
        lambda: lively(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2))),
        text,
        lambda output: f"token {int(output.logits[0, -1].argmax())} after position 6",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_answer_is_what_the_default_explains(name: str) -> None:
    make, given, told = CASES[name]
    model, inputs = make(), given()
    with torch.no_grad():
        words = told(model(**inputs))
    answers, found = predict(model, inputs), heedmap.explain(model, inputs)
    assert found.target[0].split(" (")[0] == words
    again = heedmap.explain(model, inputs, target=answers[0].target)
    assert again.target == found.target
    assert all(torch.equal(again[segment], found[segment]) for segment in found.segments)
    probabilities = [answer.probability for answer in answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert found.top is None or probabilities[0] == pytest.approx(float(found.top.target[0]), abs=1e-6)


def test_classes_exclude_each_other_or_not() -> None:
    one, many = (predict(CASES[name][0](), text()) for name in ("softmax", "several labels"))
    assert sum(answer.probability for answer in one) == pytest.approx(1)
    model = CASES["several labels"][0]()
    with torch.no_grad():
        wanted = model(**text()).logits[0].sigmoid().sort(descending=True).values
    assert [answer.probability for answer in many] == pytest.approx(wanted.tolist())
    assert "each by itself" in many.about


def test_names_are_told_where_there_are_any() -> None:
    partial = classifier(num_labels=3)
    partial.config.id2label = {1: "yes"}
    assert {answer.label for answer in predict(partial, text())} == {"class 0", "yes", "class 2"}
    for name in ("no names", "names by number"):
        assert all(answer.label.startswith("class ") for answer in predict(CASES[name][0](), text()))


def test_objects_have_boxes_and_no_class_for_nothing() -> None:
    model = CASES["DETR"][0]()
    answers = predict(model, picture(64))
    assert all(answer.target.label in (0, 1) for answer in answers)
    assert all(0 <= edge <= 1 for answer in answers for edge in answer.box)
    with torch.no_grad():
        x, y, width, height = model(**picture(64)).pred_boxes[0, answers[0].target.query].tolist()
    assert answers[0].box[0] == pytest.approx(max(0, x - width / 2), abs=1e-6)
    assert answers[0].box[3] == pytest.approx(min(1, y + height / 2), abs=1e-6)


def test_a_regression_is_explained_by_its_value() -> None:
    model = classifier(num_labels=1)
    with torch.no_grad():
        value = float(model(**text()).logits)
    (answer,) = predict(model, text())
    assert answer.label == f"value of the output: {value:.4g}"
    assert heedmap.explain(model, text()).target == ("value of the output",)
    assert heedmap.explain(model, text(), target=answer.target).scores[0] == pytest.approx(value)


def test_of_several_heads_the_answer_is_that_of_the_question() -> None:
    config = LxmertConfig(
        vocab_size=50, hidden_size=16, num_attention_heads=2, intermediate_size=24, l_layers=1, x_layers=1, r_layers=1,
        num_qa_labels=6, visual_feat_dim=8, task_obj_predict=False,
    )  # fmt: skip
    model = lively(LxmertForPreTraining(config))
    torch.manual_seed(0)
    inputs = {**text(), "visual_feats": torch.randn(1, 4, 8), "visual_pos": torch.rand(1, 4, 4)}
    with torch.no_grad():
        top = int(model(**inputs).question_answering_score.argmax())
    assert predict(model, inputs)[0].target.label == top
    assert heedmap.explain(model, inputs).target[0].startswith(f"class {top}")


def test_heads_between_which_nobody_can_choose_are_refused_in_words() -> None:
    model = lively(BertForPreTraining(BertConfig(**TEXT)))
    for ask in (predict, heedmap.explain):
        with pytest.raises(TargetError, match="prediction_logits, seq_relationship_logits"):
            ask(model, text())


def test_the_texts_of_a_picture() -> None:
    tower = {**TEXT, "max_position_embeddings": 12, "eos_token_id": 2}
    seen = {**PATCHES, "image_size": 32}
    model = lively(CLIPModel(CLIPConfig(text_config=tower, vision_config=seen, projection_dim=8)))
    inputs = {**text(3), **picture()}
    with torch.no_grad():
        shares = model(**inputs).logits_per_image[0].softmax(-1)
    answers, found = predict(model, inputs), heedmap.explain(model, inputs)
    assert answers[0].target == int(shares.argmax())
    assert [answer.probability for answer in answers] == pytest.approx(shares.sort(descending=True).values.tolist())
    again = heedmap.explain(model, inputs, target=answers[0].target)
    assert torch.equal(again["text"], found["text"])


def test_several_samples_are_refused() -> None:
    with pytest.raises(InputError, match="there are 2 samples"):
        predict(classifier(num_labels=2), text(2))


@pytest.mark.parametrize("name", ["gpt-lists", "bart-dates", "vit-shapes"])
def test_none_means_the_top_prediction(name: str) -> None:
    subject = heedmap.load(f"zoo/{name}")
    inputs = dict(heedmap.zoo_sample(name).inputs)
    assert subject.explain(**inputs) == subject.explain(**inputs, target=heedmap.targets.TopPrediction())


@pytest.mark.parametrize(("name", "label"), [("vit-shapes", "star"), ("gpt-lists", "red")])
def test_a_label_for_each_sample_may_be_a_list(name: str, label: str) -> None:
    subject = heedmap.load(f"zoo/{name}")
    inputs = dict(heedmap.zoo_sample(name).inputs)
    listed, one = (subject.explain(**inputs, target=heedmap.targets.TopPrediction(each)) for each in ([label], label))
    assert listed == one


def test_a_given_beginning_is_a_tensor_also_where_it_was_a_list() -> None:
    subject = heedmap.load("zoo/bart-dates")
    inputs = subject.inputs(text="May 5 1999", decoder_input_ids=[[2, 0, 5]])
    assert inputs["decoder_input_ids"].tolist() == [[2, 0, 5]]
    found = subject.label(heedmap.explain(subject.model, inputs), inputs)
    assert found.segments["decoder"].labels == (("</s>", "<pad>", "1"),)


def test_it_goes_on_as_far_as_its_text_model_has_places(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = heedmap.load("zoo/idefics-shapes")
    inputs = subject.inputs(**heedmap.zoo_sample("idefics-shapes").inputs)
    told = [answer for answer in predict(subject, inputs) if answer.label.startswith("then")]
    monkeypatch.setattr(subject.model.config.text_config, "max_position_embeddings", inputs["input_ids"].shape[1] + 2)
    assert len(told) > 2
    assert [answer.label for answer in predict(subject, inputs) if answer.label.startswith("then")] == [told[0].label]
