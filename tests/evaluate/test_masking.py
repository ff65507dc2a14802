"""Tokens masked in the inputs of the shipped models, and how much of their answer is left."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import heedmap
from heedmap.errors import InputError
from heedmap.evaluate.answer import held, inputs_of, repeated
from heedmap.evaluate.masking import filling, free_tokens, masked, real_tokens, spread
from heedmap.zoo.samples import MATERIALS

MODELS = sorted(MATERIALS)


@pytest.fixture(scope="module")
def explained():
    """Name → subject, inputs of two samples, and an explanation of them."""
    found = {}

    def of(name):
        if name not in found:
            subject = heedmap.load(f"zoo/{name}")
            inputs = inputs_of(subject, [MATERIALS[name].make(index) for index in range(2)])
            found[name] = subject, inputs, heedmap.explain(subject, inputs, method="random")
        return found[name]

    return of


def segments(explanation, name=""):
    """Those that can be masked, without the question that is always the same, on which no answer rests."""
    ways = ("image",) if name == "idefics-shapes" else ("text", "image", "boxes")
    return [segment for segment in explanation.segments if segment in ways]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_stays_and_what_is_not_changes_the_answer(name, explained):
    subject, inputs, one = explained(name)
    answer = held(subject, inputs)
    owners = torch.arange(2)
    whole = answer.probability(inputs, owners)
    for segment in segments(one, name):
        free = free_tokens(subject, inputs, one, segment)
        same = masked(subject, inputs, one.segment(segment), torch.ones_like(free))
        assert all(torch.equal(same[k], v) for k, v in inputs.items() if isinstance(v, torch.Tensor))
        gone = masked(subject, inputs, one.segment(segment), ~free)
        assert {k: v.shape for k, v in gone.items() if k in inputs} == {k: v.shape for k, v in inputs.items()}
        left = answer.probability(gone, owners)
        assert left.shape == (2,)
        assert (left < whole).all()


@pytest.mark.parametrize("name", MODELS)
def test_repeated_rows_have_the_answers_of_their_owners(name, explained):
    subject, inputs, _ = explained(name)
    answer = held(subject, inputs)
    owners = torch.tensor([1, 0, 1])
    whole = answer.probability(inputs, torch.arange(2))
    assert torch.allclose(answer.probability(repeated(inputs, 2, owners), owners), whole[owners], atol=1e-5)
    assert ((whole > 0.2) & (whole <= 1 + 1e-6)).all()


def test_a_probability_is_that_of_the_class(explained):
    subject, inputs, one = explained("lxmert-shapes")
    with torch.no_grad():
        logits = subject.model(**inputs).question_answering_score
    found = held(subject, inputs).probability(inputs, torch.arange(2))
    assert torch.allclose(found, logits.softmax(-1).amax(-1))
    assert torch.equal(logits.argmax(-1), one.prediction)


def test_a_model_of_many_labels_says_yes_to_each(explained):
    subject, inputs, _ = explained("vit-shapes")
    with torch.no_grad():
        logits = subject.model(**inputs).logits
    assert torch.allclose(held(subject, inputs).probability(inputs, torch.arange(2)), logits.sigmoid().amax(-1))
    other = held(subject, inputs, 3).probability(inputs, torch.arange(2))
    assert torch.allclose(other, logits.sigmoid()[:, 3])


def test_pairs_are_measured_by_what_their_score_was(explained):
    subject, inputs, one = explained("clip-shapes")
    answer = held(subject, inputs)
    assert answer.places is None
    assert torch.allclose(answer.scores, one.scores)
    assert torch.allclose(answer.probability(inputs, torch.arange(2)), torch.ones(2))


def test_a_patch_is_masked_in_its_own_pixels(explained):
    subject, inputs, one = explained("vit-shapes")
    keep = torch.ones(2, 144, dtype=torch.bool)
    keep[0, 12 + 2] = False  # row 1, column 2 of 12, 8 pixels wide
    found = masked(subject, inputs, one.segment("image"), keep)["pixel_values"]
    changed = found != inputs["pixel_values"]
    assert not changed[1].any()
    assert changed[0].any(0).nonzero().min(0).values.tolist() == [8, 16]
    assert changed[0].any(0).nonzero().max(0).values.tolist() == [15, 23]
    assert (found[0, :, 8:16, 16:24] == 0).all()


def test_a_box_loses_its_features(explained):
    subject, inputs, one = explained("lxmert-shapes")
    keep = torch.ones(2, 10, dtype=torch.bool)
    keep[1, 4] = False
    found = masked(subject, inputs, one.segment("boxes"), keep)["visual_feats"]
    assert (found[1, 4] == 0).all()
    assert torch.equal(found[0], inputs["visual_feats"][0])
    assert (found != inputs["visual_feats"]).any(-1).sum() == 1


def test_words_become_the_mask_or_the_unknown_token(explained):
    for name, filler in (("lxmert-shapes", "mask_token_id"), ("gpt-lists", "unk_token_id")):
        subject, inputs, one = explained(name)
        keep = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
        keep[0, 2] = False
        found = masked(subject, inputs, one.segment("text"), keep)["input_ids"]
        assert found[0, 2] == getattr(subject.tokenizer, filler)
        assert (found != inputs["input_ids"]).sum() == 1


def test_a_tokenizer_without_such_a_token_hides_words_from_attention(explained):
    subject, inputs, one = explained("gpt-lists")
    plain = SimpleNamespace(unk_token_id=2, eos_token_id=2, pad_token_id=None)
    assert filling(plain) is None
    assert filling(SimpleNamespace(unk_token_id=2, eos_token_id=2, pad_token_id=7)) == 7
    bare = replace(subject, processors=replace(subject.processors, tokenizer=plain))
    keep = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    keep[0, 2] = False
    found = masked(bare, inputs, one.segment("text"), keep)
    assert torch.equal(found["input_ids"], inputs["input_ids"])
    assert (found["attention_mask"] != inputs["attention_mask"]).nonzero().tolist() == [[0, 2]]
    deaf = replace(bare, parameters=("input_ids",))
    with pytest.raises(InputError, match="no mask, unknown or padding token"):
        masked(deaf, inputs, one.segment("text"), keep)


def test_what_may_be_masked(explained):
    subject, inputs, one = explained("lxmert-shapes")
    ids, free = inputs["input_ids"], free_tokens(subject, inputs, one, "text")
    words = ~torch.isin(
        ids, torch.tensor([subject.tokenizer.convert_tokens_to_ids(t) for t in ("[CLS]", "[SEP]", "[PAD]")])
    )
    assert torch.equal(free, words)
    assert torch.equal(real_tokens(subject, inputs, one, "text"), inputs["attention_mask"] == 1)
    subject, inputs, one = explained("gpt-lists")
    free = free_tokens(subject, inputs, one, "text")
    assert free[:, :-1].sum() == (inputs["attention_mask"][:, :-1] == 1).sum()
    assert not free[:, -1].any()  # its answer is read there


def test_tokens_that_are_not_in_the_inputs_are_told(explained):
    subject, inputs, one = explained("detr-shapes")
    with pytest.raises(InputError, match="none of the inputs"):
        masked(subject, inputs, one.segment("queries"), torch.ones(2, 12, dtype=torch.bool))
    bare = replace(one.segment("image"), grid=None)
    with pytest.raises(InputError, match="no grid"):
        masked(subject, inputs, bare, torch.ones(2, 144, dtype=torch.bool))
    subject, inputs, one = explained("gpt-lists")
    with pytest.raises(InputError, match="10 tokens and its input the shape"):
        masked(subject, inputs, one.segment("text"), torch.ones(2, 10, dtype=torch.bool))


@pytest.mark.parametrize("name", ["input_values", "input_features"])
def test_sounds_fall_silent(name):
    subject = SimpleNamespace(renamed={})
    wave = torch.rand(1, 40) + 1 if name == "input_values" else torch.rand(1, 3, 40) + 1
    segment = SimpleNamespace(name="audio", grid=None)
    keep = torch.tensor([[True, False, True, True]])
    found = masked(subject, {name: wave}, segment, keep)[name]
    assert torch.equal(found[..., :10], wave[..., :10])
    assert torch.equal(found[..., 20:], wave[..., 20:])
    assert (found[..., 10:20] == (0 if name == "input_values" else wave.min())).all()
    with pytest.raises(InputError, match="sound"):
        masked(subject, {name: wave[None, None]}, segment, keep)


def test_spread_leaves_padding_out():
    value = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    found = spread(value, mask).numpy()
    assert found == pytest.approx([value[0].numpy().std(), value[1, :3].numpy().std()], rel=1e-5)
    assert spread(value, None).numpy() == pytest.approx(value.numpy().reshape(2, -1).std(1), rel=1e-5)
    assert np.isfinite(found).all()
