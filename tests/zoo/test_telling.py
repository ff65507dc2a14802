"""The model that tells what a picture shows: its one right text, what it learns from, and its answers, word by word."""

from functools import cache

import numpy as np
import pytest
import torch

import heedmap
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.evidence import share
from heedmap.models.names import folder_of
from heedmap.zoo.evidence import measure, weights
from heedmap.zoo.material import right_ones
from heedmap.zoo.samples import MATERIALS
from heedmap.zoo.tasks import pixel_values, scenes, telling
from heedmap.zoo.tasks.telling import ENDED, LONGEST, PLACE, QUESTION, WORDS, prompt
from heedmap.zoo.world import Shapes, judge, listing

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GUIDED = {**SMALL, "tower": True, "patches": 1.0, "outlines": 1.0}
PLAIN = {**SMALL, "tower": True, "patches": 0.0, "outlines": 0.0}


def test_the_text_names_each_object_from_left_to_right_with_its_own_words():
    for scene in Shapes("val", length=60):
        told = listing(scene)
        objects = [scene.objects[mention.objects[0]] for mention in told.mentions]
        assert sorted(map(id, objects)) == sorted(map(id, scene.objects))
        middles = [(x1 + x2) / 2 for x1, _, x2, _ in (one.box for one in objects)]
        assert middles == sorted(middles)
        for mention, shown in zip(told.mentions, objects, strict=True):
            assert [told.text[word.start : word.end] for word in mention.words] == [shown.colour, shown.shape]
        parts = told.text.replace(" and ", ", ").split(", ")
        assert [part.split()[1:] for part in parts] == [[one.colour, one.shape] for one in objects]
        assert all(part.split()[0] == ("an" if part.split()[1][0] in "aeiou" else "a") for part in parts)
        assert judge(told, scene) or len({(one.colour, one.shape) for one in objects}) < len(objects)


def test_the_tokens_are_words_and_the_processor_gives_what_the_training_had():
    texts = [listing(scene).text for scene in Shapes("val", length=60)]
    ids = telling.tokenizer()(texts)["input_ids"]
    assert telling.tokenizer().batch_decode(ids) == texts
    assert max(map(len, ids)) < LONGEST
    (scene,) = scenes(0, "test", 0, 1)
    made = telling.processor()(text=PLACE + QUESTION, images=scene.image, return_tensors="pt")
    assert tuple(made["input_ids"][0].tolist()) == prompt()
    assert prompt().count(WORDS.index(PLACE)) == 36
    torch.testing.assert_close(made["pixel_values"][0], pixel_values([scene]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", [QUESTION, PLACE + QUESTION])
def test_the_chat_template_puts_the_picture_before_the_question_once(text):
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    assert telling.processor().apply_chat_template(said, add_generation_prompt=True, tokenize=False) == PLACE + QUESTION


def test_batches_are_windows_of_one_stream_and_end_their_answers():
    whole, part = telling.batch(0, "train", 4, 5), telling.batch(0, "train", 6, 2)
    assert torch.equal(part["pixel_values"], whole["pixel_values"][2:4])
    for mine, theirs in zip(part["labels"].tolist(), whole["labels"][2:4].tolist(), strict=True):
        answers = [row[: row.index(WORDS.index(ENDED)) + 1] for row in (mine, theirs)]
        assert answers[0] == answers[1]
        assert not any(row[len(answers[0]) :] != [0] * (len(row) - len(answers[0])) for row in (mine, theirs))


def test_the_tower_begins_as_a_vit_and_what_draws_is_left_out_at_last():
    from transformers import ViTForImageClassification

    torch.manual_seed(0)
    first = telling.model(GUIDED, None)
    vit = ViTForImageClassification.from_pretrained(folder_of("vit-shapes"))
    own, given = first.model.vision_model.encoder.layers[2], vit.vit.layers[2]
    states = torch.randn(1, 5, 96)
    torch.testing.assert_close(own(states, None), given(states))
    made = telling.batch(0, "train", 0, 3)
    telling.loss(first, made).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    second = telling.model(PLAIN, first)
    assert set(first.state_dict()) - set(second.state_dict()) == {
        f"{head}.{kind}" for head in ("patches", "outlines") for kind in ("weight", "bias")
    }
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in second.state_dict().items())
    alone = telling.model({**PLAIN, "tower": False}, first)
    assert not any(p.requires_grad for p in alone.model.vision_model.parameters())
    with torch.no_grad():
        assert set(telling.scores(second.eval(), 0, "val", 2)) == {"exact", "words", "objects"}


def test_scores_by_hand():
    assert telling._same_words(["a", "red", "star"], ["a", "red", "ring"]) == pytest.approx(2 / 3)
    assert telling._same_words(["a", "red", "star"], ["a", "red", "star", "and", "a", "red", "ring"]) == pytest.approx(
        3 / 7
    )
    assert telling._objects("a red star, a blue ring and a red star") == telling._objects(
        "a blue ring, a red star and a red star"
    )
    assert telling._objects("a red star and a red star") != telling._objects("a red star")


# -- answers, word by word -------------------------------------------------------------------------------------------

ANSWERS = ["bart-dates", "gpt-lists", "idefics-shapes"]
METHODS = ("generic", "raw_attention", "attn_lrp")
COUNTS = {"idefics-shapes": 4}
STEPS = {"gpt-lists": {"generate": {"max_new_tokens": 1}}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ANSWERS)
def test_the_figures_are_those_of_explain_answer(name, method):
    """The model says its answer by itself, and each of its words has the map, and so the figures, that evidence tells of."""
    subject, material, count = heedmap.load(f"zoo/{name}"), MATERIALS[name], COUNTS.get(name, 3)
    batch = right_ones(subject, material, [material.make(index) for index in range(count)])
    shares = {}
    for sample, asked in zip(batch.samples, batch.asked, strict=True):
        found = subject.explain_answer(
            **dict(sample.inputs),
            method=method,
            chat=False if "image" in sample.inputs else None,
            **STEPS.get(name, {}),
        )
        assert found.answer.text == (sample.answer,)
        rows = found.answer.rows[0].tolist()
        own = {}
        for one in asked:
            segments = found.step(rows.index(one.place[0])).segments
            assert found.answer.tokens[0, rows.index(one.place[0])] == one.place[1]
            for segment, weight in weights(subject, sample, one.evidence, segments).items():
                own.setdefault(segment, []).append(share(segments[segment].relevance[0].double().numpy(), weight))
        for segment, values in own.items():
            shares.setdefault(segment, []).append(np.mean(values))
    told = measured(name, count)["segments"]
    for segment, values in shares.items():
        assert told[segment]["rows"][method]["share"][0] == pytest.approx(np.mean(values), abs=2e-4)


@cache
def measured(name, count):
    """The figures of these methods, on so many samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heedmap.zoo.evidence.contenders", lambda *_: [MethodSpec(method, method) for method in METHODS])
        return measure(heedmap.load(f"zoo/{name}"), MATERIALS[name], count)


def test_a_colour_rests_on_its_own_object():
    subject, material = heedmap.load("zoo/idefics-shapes"), MATERIALS["idefics-shapes"]
    figures = measured("idefics-shapes", COUNTS["idefics-shapes"])["segments"]
    assert set(figures) == {"image", "image_encoder"}
    assert figures["image"]["rows"]["generic"]["share"][0] > 2 * figures["image"]["rows"]["chance"]["share"][0]
    assert set(figures["image_encoder"]["rows"]) < set(figures["image"]["rows"])
    scene, told = material.make(0).truth
    batch = right_ones(subject, material, [material.make(index) for index in range(12)])
    for sample, asked in zip(batch.samples, batch.asked, strict=True):
        scene, told = sample.truth
        assert [one.title.count("[") for one in asked] == [1] * (2 * len(told.mentions))
        assert all(
            np.array_equal(one.evidence.mask, scene.objects[mention.objects[0]].mask)
            for one, mention in zip(asked, (m for m in told.mentions for _ in m.words), strict=True)
        )
