"""Every kind of model, from what a person has to a labelled explanation."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from heedmap.engine.explain import explain
from heedmap.errors import HeedmapError, InputError, TargetError
from heedmap.models import load
from heedmap.targets import NextToken


def noise(rows=40, columns=60, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


def boxes(count=4, seed=0, **more):
    random = np.random.default_rng(seed)
    corners = np.sort(random.uniform(size=(count, 2, 2)), axis=1).reshape(count, 4)
    return {"features": random.normal(size=(count, 6)), "boxes": corners, **more}


def sound(seconds=0.5, rate=16000, seed=0):
    return np.random.default_rng(seed).normal(size=int(seconds * rate)).astype(np.float32) * 0.1, rate


QUESTION = "what is in this ?"
GIVEN = {
    "bert": {"text": "the cat playing"},
    "bert_masked": {"text": "the [MASK] sat"},
    "bart": {"text": "the cat sat"},
    "vit": {"image": noise()},
    "vit_stretched": {"image": noise()},
    "detr": {"image": noise()},
    "wav2vec2": {"audio": sound()},
    "clip": {"text": "a cat", "image": noise()},
    "vilt": {"text": QUESTION, "image": noise()},
    "lxmert": {"text": QUESTION, "boxes": boxes()},
    "visual_bert": {"text": QUESTION, "boxes": boxes()},
    "gpt2": {"text": "The capital of café"},
    "t5": {"text": "translate English to German : The house"},
    "whisper": {"audio": sound()},
    "blip": {"text": QUESTION, "image": noise()},
}
SEGMENTS = {
    "bert": {"text": 6},
    "bert_masked": {"text": 5},
    "vit": {"image": (2, 3)},
    "vit_stretched": {"image": (2, 4)},
    "detr": {"image": (2, 3), "queries": 5},
    "wav2vec2": {"audio": 200},
    "clip": {"text": 4, "image": (3, 3)},
    "vilt": {"text": 7, "image": (4, 6)},
    "lxmert": {"text": 7, "boxes": 4},
    "visual_bert": {"text": 7, "boxes": 4},
    "whisper": {"audio": 50},
    "blip": {"text": 7, "image": (2, 2)},
}


@pytest.mark.parametrize("name", GIVEN)
def test_every_kind_is_explained_with_one_label_a_token(folder, name):
    subject = load(folder(name))
    explanation = subject.explain(**GIVEN[name])
    for segment in explanation.segments.values():
        assert torch.isfinite(segment.relevance).all()
        if segment.kind in ("text", "boxes", "audio"):
            assert [len(row) for row in segment.labels] == [segment.relevance.shape[1]]
            assert all(isinstance(label, str) and label for label in segment.labels[0])
    for part, size in SEGMENTS.get(name, {}).items():
        segment = explanation.segment(part)
        assert (segment.grid or segment.relevance.shape[1]) == size
    assert any(segment.relevance.abs().sum() > 0 for segment in explanation.segments.values())


WRONG = (
    *(7, 1.5, True, float("nan"), object(), b"x", {}, (), [], [None], [[]], [{}], [True], ("a",), [("a", 1)]),
    *(([1, 2],), np.zeros(0), np.full((4, 4, 3), np.nan), {"array": None, "sampling_rate": 5}),
    *({"features": "x"}, {"features": [["a"]]}, {"features": [[1], [1, 2]]}, {"features": None, "boxes": None}),
)
"""What is no text, picture, sound or boxes."""


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_no_input_is_told(folder, name):
    subject = load(folder(name))
    for role in GIVEN[name]:
        for wrong in WRONG:
            with pytest.raises(HeedmapError):
                subject.inputs(**{**GIVEN[name], role: wrong})


def test_what_is_no_input_is_told_where_pictures_stand_among_words():
    subject = load("zoo/idefics-shapes")
    given = {"text": "<image>", "image": noise()}
    assert set(subject.inputs(**given)) >= {"input_ids", "pixel_values"}
    for role in given:
        for wrong in WRONG:
            with pytest.raises(HeedmapError):
                subject.inputs(**{**given, role: wrong})


@pytest.mark.parametrize("name", GIVEN)
def test_the_flow_can_be_inspected(folder, name):
    flow = load(folder(name)).inspect(**GIVEN[name])
    assert flow.attentions
    assert not flow.notes


@pytest.mark.parametrize("name", ["bert", "clip", "vilt", "lxmert", "wav2vec2", "vit"])
def test_a_batch_is_its_samples(folder, name):
    """Twice the same sample: so that no padding comes in, whose effect differs from model to model."""
    subject = load(folder(name))
    target = None if name == "clip" else 0
    single = subject.explain(**GIVEN[name], target=target)
    both = subject.explain(**{k: [v, v] for k, v in GIVEN[name].items()}, target=target)
    for part in single.segments:
        assert torch.allclose(both[part], single[part].expand(2, -1), atol=1e-6)
        labels = single.segments[part].labels
        assert both.segments[part].labels == (None if labels is None else labels * 2)


@pytest.mark.parametrize("name", ["bert", "gpt2", "lxmert", "visual_bert"])
def test_padding_changes_nothing(folder, name):
    subject = load(folder(name))
    more = {"boxes": [boxes(2, seed=3), boxes(5)]} if "boxes" in GIVEN[name] else {}
    texts = ["the cat", "what is in this ?"]
    target = NextToken(3) if name == "gpt2" else 0
    both = subject.explain(text=texts, target=target, **more)
    for i, text in enumerate(texts):
        alone = subject.explain(text=text, target=target, **{k: v[i] for k, v in more.items()})
        assert both.scores[i] == pytest.approx(float(alone.scores[0]), abs=1e-5)
        for part in alone.segments:
            count = alone[part].shape[1]
            assert torch.allclose(both[part][i, :count], alone[part][0], atol=1e-5)
            assert both.segments[part].labels[i][:count] == alone.segments[part].labels[0]
            assert not both[part][i, count:].any()


def test_what_is_given_once_is_used_for_each_sample(folder):
    subject = load(folder("vilt"))
    inputs = subject.inputs(text=[QUESTION, "what is this ?"], image=noise())
    assert inputs["pixel_values"].shape[0] == 2
    assert torch.equal(*inputs["pixel_values"])


def test_pairs_of_texts(folder):
    subject = load(folder("bert"))
    inputs = subject.inputs(text=("the cat", "a dog sat"))
    assert inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert subject.inputs(text=[("the", "cat"), ("a", "dog")])["input_ids"].shape == (2, 5)
    with pytest.raises(InputError, match="some texts are pairs"):
        subject.inputs(text=["the", ("a", "dog")])
    with pytest.raises(InputError, match=r"the text is 7; expected a str"):
        subject.inputs(text=7)


def test_text_that_is_too_long_or_empty(folder):
    with pytest.raises(InputError, match="has 42 tokens and the model takes up to 24"):
        load(folder("bert")).inputs(text="cat " * 40)
    with pytest.raises(InputError, match="no tokens"):
        load(folder("gpt2")).inputs(text="")


def test_names_of_classes_and_boxes(folder):
    assert load(folder("bert")).explain(text="the cat", target="verb").target == ("class 1 (verb)",)
    named = boxes(3, labels=["cat", "dog", "mat"])
    explanation = load(folder("lxmert")).explain(text=QUESTION, boxes=[named, boxes(4)])
    first, second = explanation.segments["boxes"].labels
    assert first == ("cat", "dog", "mat", "box 3")
    assert second == ("box 0", "box 1", "box 2", "box 3")


def test_the_engine_labels_too(folder):
    subject = load(folder("bert"))
    explanation = explain(subject, subject.inputs(text="the cat"), target=1)
    assert explanation.segments["text"].labels == (("[CLS]", "the", "cat", "[SEP]"),)
    assert explanation == subject.explain(text="the cat", target=1)


@pytest.mark.parametrize(
    ("name", "target"), [("gpt2", "Paris"), ("bart", None), ("bert_masked", None), ("whisper", None)]
)
def test_the_engine_knows_what_the_subject_means(folder, name, target):
    subject = load(folder(name))
    named = subject.explain(**GIVEN[name], target=target)
    heard = (
        {"audio": named.segments["audio"].roles} if "audio" in named.segments else {}
    )  # the engine knows no clip's end
    assert explain(subject, subject.inputs(**GIVEN[name]), target=target).with_roles(heard) == named


def test_the_engine_takes_the_labels_of_the_subject(folder):
    subject = dataclasses.replace(load(folder("bert")), labels={0: "yes", 1: "no"})
    inputs = subject.inputs(text="the cat")
    assert explain(subject, inputs, target="no").target == ("class 1 (no)",)
    assert explain(subject, inputs, target="other", labels={1: "other"}).target == ("class 1 (other)",)


def test_a_list_of_targets_gives_a_list(folder):
    subject = load(folder("gpt2"))
    found = subject.explain(text="The capital", target=["Paris", 7, None])
    assert [type(one).__name__ for one in found] == ["Explanation"] * 3
    assert all(one.segments["text"].labels for one in found)
    assert found[0].target[0].endswith("(' Paris') after position 1")


@pytest.mark.parametrize(
    ("boxes_given", "told"),
    [
        ({"boxes": np.zeros((2, 4))}, "keys boxes; expected a mapping with features"),
        ([[1, 2]], "a list; expected a mapping"),
        ({"features": np.zeros((2, 5)), "boxes": np.zeros((2, 4))}, r"features have shape \(2, 5\); expected \(N, 6\)"),
        ({"features": np.zeros((2, 6))}, "where the boxes are"),
        ({"features": np.zeros((2, 6)), "boxes": np.zeros((3, 4))}, "3 boxes and features of 2"),
        ({"features": np.zeros((2, 6)), "boxes": np.full((2, 4), 90)}, "from 90 to 90; expected .* divide x"),
        ({"features": np.zeros((2, 6)), "boxes": np.zeros((2, 4)), "labels": ["a"]}, "1 box labels for 2 boxes"),
    ],
)
def test_unsuited_boxes(folder, boxes_given, told):
    with pytest.raises(InputError, match=told):
        load(folder("lxmert")).inputs(text=QUESTION, boxes=boxes_given)


def test_boxes_without_places_are_enough_where_the_model_takes_none(folder):
    inputs = load(folder("visual_bert")).inputs(text=QUESTION, boxes={"features": np.zeros((2, 6))})
    assert "visual_pos" not in inputs
    assert inputs["visual_attention_mask"].dtype == torch.int64


def test_compare_explains_each_text_by_the_other(folder):
    subject = load(folder("bert_encoder"))
    first, second = subject.compare("the cat sat", "a dog")
    assert first.segments["text"].labels == (("[CLS]", "the", "cat", "sat", "[SEP]"),)
    assert second.segments["text"].labels == (("[CLS]", "a", "dog", "[SEP]"),)
    cosine = torch.cosine_similarity(subject.embedding("the cat sat"), subject.embedding("a dog"))
    assert float(first.scores) == pytest.approx(float(cosine), abs=1e-5)
    assert float(second.scores) == pytest.approx(float(cosine), abs=1e-5)


def test_an_embedding_is_the_mean_of_the_real_tokens(folder):
    subject = load(folder("bert_encoder"))
    subject.model.train()
    both = subject.embedding(["the cat sat on the mat", "a dog"])
    assert subject.model.training
    assert torch.allclose(both[1], subject.embedding("a dog")[0], atol=1e-6)
    assert not both.requires_grad
    pooler = subject.embedding("a dog", pool="pooler")
    subject.model.eval()
    states = subject.model(**subject.inputs(text="a dog"))
    assert torch.allclose(both[1], states.last_hidden_state[0].mean(0), atol=1e-6)
    assert torch.allclose(pooler, states.pooler_output)


def test_comparing_needs_token_states(folder):
    with pytest.raises(TargetError, match="last_hidden_state"):
        load(folder("bert")).compare("the cat", "a dog")


def test_image_tokens_among_the_words(folder):
    subject = load(folder("llava"))
    place = subject.config.image_token_id
    inputs = subject.inputs(text="<image> The cat", image=noise())
    assert int((inputs["input_ids"] == place).sum()) == 4
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    explanation = subject.explain(text="<image> The cat", image=noise())
    assert explanation.segments["image"].grid == explanation.segments["image_encoder"].grid == (2, 2)
    assert explanation.segments["image"].stream == explanation.segments["text"].stream
    assert len(explanation.segments["text"].labels[0]) == inputs["input_ids"].shape[1]
    assert not explanation["text"][inputs["input_ids"] == place].any()
    assert explanation["image"].sum() > 0
    with pytest.raises(InputError, match="write <image> in the text where the image stands"):
        subject.inputs(text="The cat", image=noise())
    assert set(subject.explain(text="The capital of").segments) == {"text"}


def test_a_subject_is_what_it_was_made_with(folder):
    subject = load(folder("vit"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        subject.name = "other"
    assert repr(subject).startswith(f"Model({str(folder('vit'))!r}, ViTForImageClassification, takes image")
