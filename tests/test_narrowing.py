"""An answer that rests on one of several choices, or one of several texts beside a picture: explained on that part alone."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertForMultipleChoice,
    GPT2Config,
    GPT2DoubleHeadsModel,
    Owlv2Config,
    Owlv2ForObjectDetection,
    OwlViTConfig,
    OwlViTForObjectDetection,
    RobertaConfig,
    RobertaForMultipleChoice,
    SiglipConfig,
    SiglipModel,
)

import heedmap
from heedmap.errors import InputError, MixingError, TargetError
from heedmap.targets import ClassLogit, DetectionQuery, Similarity

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 40}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 50, "max_position_embeddings": 40}
GPT = {
    "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 40, "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
CHOOSERS = {
    "bert": (BertForMultipleChoice, BertConfig(**TEXT)),
    "roberta": (RobertaForMultipleChoice, RobertaConfig(**TEXT)),
    "distilbert": (DistilBertForMultipleChoice, DistilBertConfig(**DISTIL)),
    "gpt2": (GPT2DoubleHeadsModel, GPT2Config(**GPT)),
}
WORDS = {**TEXT, "eos_token_id": 49, "bos_token_id": 48, "pad_token_id": 0}
SEEKERS = {"owlvit": (OwlViTForObjectDetection, OwlViTConfig), "owlv2": (Owlv2ForObjectDetection, Owlv2Config)}


def livened(model: nn.Module) -> Any:
    """Weights so large that attention is not flat and choices differ."""
    torch.manual_seed(7)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    return model.eval()


def chooser(kind: str) -> Any:
    made, config = CHOOSERS[kind]
    return livened(made(copy.deepcopy(config)))


def question(kind: str = "bert", batch: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(batch)
    found = {"input_ids": torch.randint(5, 45, (batch, 4, 7)), "attention_mask": torch.ones(batch, 4, 7).long()}
    found["attention_mask"][0, 1, 5:] = 0  # of padding on the right, in one choice
    if kind == "gpt2":
        found["mc_token_ids"] = found["attention_mask"].sum(-1) - 1
    return found


def dual(kind: str = "clip") -> Any:
    if kind == "clip":
        return livened(CLIPModel(CLIPConfig(text_config=WORDS, vision_config=VISION, projection_dim=16)))
    return livened(SiglipModel(SiglipConfig(text_config=WORDS, vision_config=VISION)))


def pictures(images: int, texts: int) -> dict[str, Tensor]:
    torch.manual_seed(images)
    ids = torch.randint(5, 45, (texts, 7))
    ids[:, -1] = 49
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(images, 3, 32, 32),
    }


def seeker(kind: str = "owlvit") -> Any:
    made, config = SEEKERS[kind]
    text = {**WORDS, "max_position_embeddings": 16}
    return livened(made(config(text_config=text, vision_config=VISION, projection_dim=32)))


def answer(model: nn.Module, inputs: dict[str, Tensor]) -> Any:
    with torch.no_grad():
        return model(**inputs)


def relevance(
    model: Any, ids: Tensor, mask: Tensor, row: int, of: Callable[[Tensor], Tensor] = lambda score: score
) -> Tensor:
    """The paper's rules for BERT written out: R ← R + E[(A ∘ ∂y/∂A)⁺] R, for one choice called by itself; row ``row``."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    out = eager(input_ids=ids[None, None], attention_mask=mask[None, None], output_attentions=True)
    gradients = torch.autograd.grad(of(out.logits[0, 0]), out.attentions)
    r = torch.eye(len(ids), dtype=out.logits.dtype)
    for a, g in zip(out.attentions, gradients, strict=True):
        r = r + (a[0] * g[0]).clamp(min=0).mean(0).detach() @ r
    return r[row].index_fill(0, torch.tensor([row]), 0)


def assert_same(first: heedmap.Explanation, second: heedmap.Explanation, sample: int = 0) -> None:
    """Sample ``sample`` of the first has the relevance that the second, of a batch of one, has."""
    assert list(first.segments) == list(second.segments)
    for name in first.segments:
        torch.testing.assert_close(first[name][sample], second[name][0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", [None, 1, ClassLogit([3, None])])
def test_the_chosen_choice_is_explained_as_the_rules_say(target: Any) -> None:
    model, inputs = chooser("bert"), question()
    logits = answer(model, inputs).logits
    found = heedmap.explain(model, inputs, target=target)
    top = logits.argmax(-1).tolist()
    chosen = top if target is None else [1, 1] if target == 1 else [3, top[1]]
    assert found.target == tuple(f"choice {c} (of 4)" for c in chosen)
    for i, c in enumerate(chosen):
        wanted = relevance(model, inputs["input_ids"][i, c], inputs["attention_mask"][i, c], 0)
        torch.testing.assert_close(found["text"][i], wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.scores, logits[torch.arange(2), torch.tensor(chosen)], rtol=1e-4, atol=1e-5)
    assert found.prediction is not None
    assert found.prediction.tolist() == top
    assert found.prediction_labels == tuple(f"choice {c}" for c in top)


@pytest.mark.parametrize("kind", CHOOSERS)
def test_choices_one_by_one(kind: str) -> None:
    """A batch is its samples one by one, and a choice is what the model given that choice alone has."""
    model, inputs = chooser(kind), question(kind)
    found = heedmap.explain(model, inputs, target=2)
    for i in range(2):
        assert_same(found, heedmap.explain(model, {n: v[i : i + 1] for n, v in inputs.items()}, target=2), i)
        alone = {n: v[i : i + 1, 2:3] for n, v in inputs.items()}
        if kind == "gpt2":
            assert_same(found, heedmap.explain(model, alone, target=lambda out: out.mc_logits.reshape(-1)), i)
        else:
            assert_same(found, heedmap.explain(model, alone), i)


def test_probabilities_are_those_among_all_choices() -> None:
    model, inputs = chooser("bert"), question()
    wanted = answer(model, inputs).logits.softmax(-1)
    found = heedmap.explain(model, inputs, target=3)
    assert found.top is not None
    assert found.top.function == "softmax"
    torch.testing.assert_close(found.top.target, wanted[:, 3])
    torch.testing.assert_close(found.top.probabilities, wanted.sort(-1, descending=True).values)
    named = heedmap.explain(model, inputs, target="yes", labels={0: "no", 1: "yes", 2: "maybe", 3: "never"})
    assert named.target == ("choice 1 (of 4): yes",) * 2


@pytest.mark.parametrize("method", ["rollout", "attn_lrp", "integrated_gradients", "occlusion"])
def test_every_kind_of_method(method: str) -> None:
    model, inputs = chooser("bert"), question()
    alone = {n: v[:1, 2:3] for n, v in inputs.items()}
    assert_same(heedmap.explain(model, inputs, target=2, method=method), heedmap.explain(model, alone, method=method))


def test_a_list_of_choices() -> None:
    model, inputs = chooser("bert"), question()
    found = heedmap.explain(model, inputs, target=[0, None, 3])
    for one, target in zip(found, (0, None, 3), strict=True):
        assert one == heedmap.explain(model, inputs, target=target)


def test_choices_with_labels_and_without_a_dictionary() -> None:
    model, inputs = chooser("bert"), question()
    wanted = heedmap.explain(model, inputs, target=1)
    assert wanted == heedmap.explain(model, {**inputs, "labels": torch.tensor([3, 2])}, target=1)
    model.config.return_dict = False
    torch.testing.assert_close(heedmap.explain(model, inputs, target=1)["text"], wanted["text"])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize(("images", "texts"), [(1, 3), (2, 3), (3, 2), (2, 4), (3, 1)])
def test_a_picture_and_one_of_several_texts(kind: str, images: int, texts: int) -> None:
    model, inputs = dual(kind), pictures(images, texts)
    logits = answer(model, inputs).logits_per_image
    for target in (None, texts - 1):
        found = heedmap.explain(model, inputs, target=target)
        chosen = logits.argmax(-1).tolist() if target is None else [target] * images
        assert found.target == tuple(f"text {c} (of {texts})" for c in chosen)
        torch.testing.assert_close(found.scores, logits[range(images), chosen], rtol=1e-4, atol=1e-4)
        for i, c in enumerate(chosen):
            pair = {n: v[i : i + 1] if n == "pixel_values" else v[c : c + 1] for n, v in inputs.items()}
            assert_same(found, heedmap.explain(model, pair), i)
        assert found.top is not None
        wanted = logits.softmax(-1) if kind == "clip" else logits.sigmoid()
        torch.testing.assert_close(found.top.target, wanted[range(images), chosen], rtol=1e-4, atol=1e-6)


def test_as_many_pictures_as_texts_are_pairs() -> None:
    model, inputs = dual(), pictures(2, 2)
    found = heedmap.explain(model, inputs)
    assert found.target == ("similarity of image 0 and text 0", "similarity of image 1 and text 1")
    assert heedmap.explain(model, pictures(1, 3), target=Similarity()).target[0].startswith("text ")


class Pairs(nn.Module):
    """A dual encoder that gives two embeddings and no logits, as open_clip does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dual()

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.inner(input_ids=text, pixel_values=image)
        return out.image_embeds, out.text_embeds, self.inner.logit_scale.exp()


def test_two_embeddings() -> None:
    model, inputs = Pairs().eval(), pictures(2, 3)
    given = {"image": inputs["pixel_values"], "text": inputs["input_ids"]}
    found = heedmap.explain(model, given, target=2)
    assert found.target == ("text 2 (of 3)",) * 2
    repeated = {"image": given["image"], "text": given["text"][[2, 2]]}
    wanted = heedmap.explain(model, repeated, target=Similarity())
    for name in wanted.segments:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)


class Matching(nn.Module):
    """Questions and documents, each with an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = livened(BertModel(BertConfig(**TEXT)))

    def forward(self, question: Tensor, document: Tensor) -> Any:
        return tuple(self.bert(input_ids=ids).last_hidden_state[:, 0] for ids in (question, document))


class Sum(Matching):
    """One embedding of both."""

    def forward(self, question: Tensor, document: Tensor) -> Any:
        return {"features": sum(super().forward(question, document))}


def texts() -> dict[str, Tensor]:
    torch.manual_seed(4)
    return {"question": torch.randint(5, 45, (1, 6)), "document": torch.randint(5, 45, (3, 8))}


def test_one_of_several_documents() -> None:
    model, inputs = Matching().eval(), texts()
    found = heedmap.explain(model, inputs, target=1)
    wanted = heedmap.explain(model, {**inputs, "document": inputs["document"][1:2]}, target=Similarity())
    assert found.target == ("text 1 (of 3)",)
    assert_same(found, wanted)


@pytest.mark.parametrize("kind", SEEKERS)
@pytest.mark.parametrize("images", [1, 2])
def test_boxes_of_one_of_several_texts(kind: str, images: int) -> None:
    model, inputs = seeker(kind), pictures(images, 3 * images)
    logits = answer(model, inputs).logits
    for target, text in ((None, None), (1, 1), (DetectionQuery(5, 2), 2), (DetectionQuery(5), None)):
        found = heedmap.explain(model, inputs, target=target)
        for i in range(images):
            boxes = [5] if isinstance(target, DetectionQuery) else list(range(16))
            part = logits[i][boxes] if text is None else logits[i][boxes][:, [text]]
            box, query = divmod(int(part.argmax()), part.shape[1])
            box, query = boxes[box], query if text is None else text
            assert found.target[i] == f"query {box}, text {query} (of 3)"
            torch.testing.assert_close(found.scores[i], logits[i, box, query], rtol=1e-4, atol=1e-4)
            rows = slice(3 * i + query, 3 * i + query + 1)
            alone = {n: v[i : i + 1] if n == "pixel_values" else v[rows] for n, v in inputs.items()}
            assert_same(found, heedmap.explain(model, alone, target=lambda out, box=box: out.logits[:, box, 0]), i)
            assert found.top is not None
            torch.testing.assert_close(found.top.target[i], logits[i, box, query].sigmoid(), rtol=1e-4, atol=1e-6)


def test_a_padded_query_is_never_the_answer() -> None:
    model, inputs = seeker(), pictures(1, 3)
    inputs["input_ids"][1] = 0
    assert "text 1" not in heedmap.explain(model, inputs).target[0]


def test_inspect() -> None:
    model, inputs = chooser("bert"), question()
    flow = heedmap.inspect(model, inputs)
    assert flow.streams[0].tokens == 7
    assert flow.streams[0].rows == ((0,), (0,))
    assert {s.name for s in heedmap.inspect(dual(), pictures(1, 3), target=2).streams} == {"image", "text"}


class Comparing(nn.Module):
    """Each choice is scored by how much it differs from the mean of all: they influence one another."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.bert, self.strength = chooser("bert"), strength

    def forward(self, input_ids: Tensor) -> Tensor:
        logits = self.bert(input_ids=input_ids).logits
        return logits - self.strength * logits.mean(-1, keepdim=True)


class ComparingTexts(nn.Module):
    """Probabilities of texts in place of their logits."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dual()

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> dict[str, Tensor]:
        out = self.inner(input_ids=input_ids, pixel_values=pixel_values)
        return {"logits_per_image": out.logits_per_image.log_softmax(-1)}


def test_parts_that_influence_one_another_are_one_input_or_refused() -> None:
    whole = heedmap.explain(
        Comparing(), {"input_ids": question()["input_ids"]}
    )  # followed by token numbers, as one input
    assert whole["text"].shape[1] == question()["input_ids"].shape[1:].numel()
    inputs = {name: pictures(1, 3)[name] for name in ("input_ids", "pixel_values")}
    with pytest.raises(MixingError, match="the texts influence one another"):
        heedmap.explain(ComparingTexts(), inputs)


class Sentences(nn.Module):
    """A score for each sentence, after attention between the sentences: all of them are one sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True)
        self.head = nn.Linear(16, 1)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.layer(self.words(input_ids).mean(2)))[..., 0]


class Meanings(Sentences):
    """The same, called with the sentences' features."""

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.layer(features))[..., 0]


def test_sentences_of_one_sample_are_left_whole() -> None:
    """What looks like choices, but is attended to together, is explained as one sample."""
    model, ids = Sentences().eval(), question()["input_ids"]
    found = heedmap.explain(model, {"input_ids": ids}, target=1)
    wanted = heedmap.explain(Meanings().eval(), {"features": model.words(ids).mean(2).detach()}, target=1)
    assert found.target == ("class 1", "class 1")
    torch.testing.assert_close(found[next(iter(found.segments))], wanted[next(iter(wanted.segments))])


def test_a_target_of_another_kind_of_output() -> None:
    with pytest.raises(TargetError, match="logits"):
        heedmap.explain(chooser("bert"), question(), target=DetectionQuery())


OF_ONE: dict[str, tuple[Callable[[Any], Tensor], list[int], Callable[[Tensor], Tensor]]] = {
    "one for all": (lambda out: out.logits[:, 1], [1, 1], lambda score: score),
    "each its own": (lambda out: out.logits[torch.arange(2), torch.tensor([3, 0])], [3, 0], lambda score: score),
    "a function of it": (lambda out: out["logits"][:, 2].pow(3), [2, 2], lambda score: score.pow(3)),
    "zero times another": (
        lambda out: out.logits @ out.logits.new_tensor([0, 2, 0, 0]),
        [1, 1],
        lambda score: 2 * score,
    ),
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_callable_names_the_choice_that_it_depends_on(name: str) -> None:
    target, chosen, of = OF_ONE[name]
    model, inputs = chooser("bert").double(), question()
    found = heedmap.explain(model, inputs, target=target)
    for i, c in enumerate(chosen):
        wanted = relevance(model, inputs["input_ids"][i, c], inputs["attention_mask"][i, c], 0, of)
        torch.testing.assert_close(found["text"][i].double(), wanted, rtol=1e-5, atol=1e-7)
        assert found.target[i] == f"<lambda>, choice {c} (of 4)"
    torch.testing.assert_close(found.scores, target(answer(model, inputs)).float())


def test_a_callable_of_what_else_the_model_returns() -> None:
    """Its rows are folded, (batch · choices, tokens, features)."""
    model, inputs = chooser("bert"), question()
    model.config.output_hidden_states = True
    found = heedmap.explain(model, inputs, target=lambda out: out.hidden_states[-1].reshape(2, 4, 7, -1)[:, 3, 2, 5])
    alone = {n: v[:, 3:] for n, v in inputs.items()}
    wanted = heedmap.explain(model, alone, target=lambda out: out.hidden_states[-1][:, 2, 5])
    torch.testing.assert_close(found["text"], wanted["text"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["rollout", "attn_lrp", "full_lrp", "integrated_gradients", "occlusion"])
def test_a_callable_by_every_kind_of_method(method: str) -> None:
    model, inputs = chooser("bert"), question()
    named = heedmap.explain(model, inputs, target=2, method=method)
    found = heedmap.explain(model, inputs, target=lambda out: out.logits[:, 2], method=method)
    torch.testing.assert_close(found["text"], named["text"])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_callable_of_several_choices_has_them_all_as_one_input(kind: str) -> None:
    """Attention is within each choice; the rows that are read are those of the choices that the target depends on."""
    model, inputs = chooser(kind).double(), question()
    heedmap.explain(model, inputs, target=1)  # what is known of one choice is not taken for all
    found = heedmap.explain(model, inputs, target=[lambda out: out.logits[:, 3] - out.logits[:, 1]])[0]
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    out = eager(**inputs, output_attentions=True)
    gradients = torch.autograd.grad((out.logits[:, 3] - out.logits[:, 1]).sum(), out.attentions)
    r = torch.eye(7).double().expand(8, -1, -1)
    for a, g in zip(out.attentions, gradients, strict=True):
        r = r + (a * g).clamp(min=0).mean(1).detach() @ r
    wanted = r[:, 0].reshape(2, 4, 7) * r.new_tensor([0, 0.5, 0, 0.5])[:, None]
    torch.testing.assert_close(found["text"].double(), wanted.flatten(1), rtol=1e-5, atol=1e-7)
    assert heedmap.explain(model, inputs, target=1).target == ("choice 1 (of 4)",) * 2


def test_a_callable_of_one_text() -> None:
    model, inputs = dual(), pictures(2, 3)
    wanted = heedmap.explain(model, inputs, target=1)
    for target in (lambda out: out.logits_per_image[:, 1], lambda out: out.logits_per_text[1]):
        found = heedmap.explain(model, inputs, target=target)
        assert found.target == ("<lambda>, text 1 (of 3)",) * 2
        for name in wanted.segments:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)
    for target in (lambda out: out.logits_per_image.softmax(-1)[:, 0], lambda out: out.text_embeds[:2, 0]):
        with pytest.raises(TargetError, match="3 texts, of which one is explained"):
            heedmap.explain(model, inputs, target=target)


def test_a_callable_of_a_box() -> None:
    model, inputs = seeker(), pictures(2, 6)
    found = heedmap.explain(model, inputs, target=lambda out: out.logits[:, 5, 2])
    wanted = heedmap.explain(model, inputs, target=DetectionQuery(5, 2))
    for name in wanted.segments:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6)


def test_a_choice_that_is_not_there() -> None:
    with pytest.raises(TargetError, match="choice 4 is out of range"):
        heedmap.explain(chooser("bert"), question(), target=4)


def test_batches_that_do_not_fit() -> None:
    """The reason is the model's own where it refuses them, else that its output does not tell what belongs together."""
    with pytest.raises(InputError, match="OwlViTForObjectDetection refuses"):
        heedmap.explain(seeker(), pictures(2, 3))
    far = pictures(1, 3)
    far["input_ids"] = far["input_ids"] + 100
    with pytest.raises(InputError, match="index out of range"):
        heedmap.explain(dual(), far)
    with pytest.raises(InputError, match="no output that tells which belong together"):
        heedmap.explain(Sum().eval(), texts(), target=lambda out: out["features"][:, 0])


@pytest.mark.parametrize("kind", ["choices", "texts"])
def test_the_inputs_are_left_as_they_were(kind: str) -> None:
    model, inputs = (chooser("bert"), question()) if kind == "choices" else (dual(), pictures(1, 3))
    given = {name: value.clone() for name, value in inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heedmap.explain(model, inputs)
    assert all(torch.equal(inputs[name], given[name]) for name in inputs)
