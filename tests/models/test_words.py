"""Targets given as words, and what encoder-decoders say."""

import string

import numpy as np
import pytest
import torch

from heedmap.errors import TargetError
from heedmap.models import load
from heedmap.models.words import first_word, position_of, token_ids
from heedmap.targets import ClassLogit, NextToken

PROMPT = "The capital of France is"


def ids_of(subject, text):
    return subject.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_word_is_the_token_with_a_space_before_it(folder):
    subject = load(folder("gpt2"))
    (spaced,) = ids_of(subject, " Paris")
    for target in ("Paris", " Paris", NextToken(token="Paris"), NextToken(token=spaced)):
        assert subject.explain(text=PROMPT, target=target).target == (f"token {spaced} (' Paris') after position 4",)


def test_after_a_space_the_word_is_taken_as_given(folder):
    subject = load(folder("gpt2"))
    both = [letter for letter in string.ascii_letters if len(ids_of(subject, f" {letter}")) == 1]
    (plain,), (spaced,) = ids_of(subject, both[0]), ids_of(subject, f" {both[0]}")
    assert token_ids(subject.tokenizer, both[0]) == [plain, spaced]
    assert subject.explain(text=PROMPT, target=both[0]).target[0].startswith(f"token {spaced} ")
    assert subject.explain(text=PROMPT + " ", target=both[0]).target[0].startswith(f"token {plain} ")


def test_the_default_is_the_top_token_with_its_text(folder):
    subject = load(folder("gpt2"))
    inputs = subject.inputs(text=PROMPT)
    top = int(subject.model(**inputs).logits[0, -1].argmax())
    explanation = subject.explain(text=PROMPT)
    assert explanation.prediction.tolist() == [top]
    assert explanation.target[0].startswith(f"token {top} (")


def test_each_sample_its_own_word(folder):
    subject = load(folder("gpt2"))
    explanation = subject.explain(text=[PROMPT, "The capital of Italy"], target=NextToken(token=("Paris", "is")))
    (paris,), (is_,) = ids_of(subject, " Paris"), ids_of(subject, " is")
    assert explanation.target[0] == f"token {paris} (' Paris') after position 4"
    assert explanation.target[1] == f"token {is_} (' is') after position 3"


def test_a_position_of_ones_own_is_kept(folder):
    explanation = load(folder("gpt2")).explain(text=PROMPT, target=NextToken(token="Paris", position=2))
    assert explanation.target[0].endswith("after position 2")
    assert not explanation["text"][0, 3:].any()


def test_a_word_of_several_tokens_lists_them(folder):
    with pytest.raises(TargetError, match=r"'zebra' is 5 tokens: 'z', 'e', 'b', 'r', 'a'"):
        load(folder("gpt2")).explain(text=PROMPT, target="zebra")


def test_a_word_that_is_not_in_the_vocabulary(folder):
    with pytest.raises(TargetError, match=r"'zebra' is not in the vocabulary"):
        load(folder("bert_masked")).explain(text="the [MASK]", target="zebra")


def test_a_masked_word_is_explained_where_the_mask_is(folder):
    subject = load(folder("bert_masked"))
    (cat,) = ids_of(subject, "cat")
    assert subject.explain(text="the [MASK] sat", target="cat").target == (f"token {cat} ('cat') after position 2",)
    assert subject.explain(text="the cat [MASK]").target[0].endswith("after position 3")
    both = subject.explain(text=["the [MASK] sat", "a [MASK]"])
    assert all(words.endswith("after position 2") for words in both.target)
    with pytest.raises(TargetError, match="masked at unequal positions"):
        subject.explain(text=["the [MASK] sat", "[MASK]"])


def test_other_targets_pass_as_they_are(folder):
    assert load(folder("bert")).explain(text="the cat", target=ClassLogit(2)).target == ("class 2 (other)",)
    explanation = load(folder("gpt2")).explain(text=PROMPT, target=lambda output: output.logits[:, -1, 3])
    assert explanation.scores.shape == (1,)


def test_a_text_model_says_what_it_generates(folder):
    subject = load(folder("t5"))
    inputs = subject.inputs(text="translate English : The house")
    said = inputs.pop("decoder_input_ids")
    assert said[0, 0] == subject.model.config.decoder_start_token_id
    logits = subject.model(**inputs, decoder_input_ids=said).logits
    assert torch.equal(logits[0, :-1].argmax(-1), said[0, 1:])


def test_the_first_word_is_explained_unless_told_otherwise(folder):
    subject = load(folder("t5"))
    given = torch.tensor([[0, 1, *ids_of(subject, "Haus")]])  # a special token, then words
    settings = {"text": "The house", "decoder_input_ids": given}
    assert subject.explain(**settings).target[0].endswith("after position 1")
    assert subject.explain(**settings, target=NextToken(position=3)).target[0].endswith("after position 3")
    third = int(given[0, 4])
    assert subject.explain(**settings, target=third).target[0].startswith(f"token {third} (")
    assert subject.explain(**settings, target=third).target[0].endswith(f"after position {position_of(given, third)}")
    decoder = subject.explain(**settings).segments["decoder"]
    assert decoder.labels[0][:2] == ("<pad>", "</s>")
    assert len(decoder.labels[0]) == given.shape[1]


def test_unequal_texts_are_masked(folder):
    subject = load(folder("blip"))
    words = iter([[[2, 6, 7, 3, 0], [2, 6, 7, 8, 3]]])

    def generate(**settings):
        from types import SimpleNamespace

        return SimpleNamespace(sequences=torch.tensor(next(words)), scores=(None,) * 4)

    subject.model.generate = generate
    image = np.zeros((16, 16, 3), np.uint8)
    inputs = subject.inputs(text=["what is this ?", "what is this ?"], image=[image, image])
    assert inputs["decoder_input_ids"].tolist() == [[2, 6, 7, 3], [2, 6, 7, 8]]
    assert inputs["decoder_attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_speech_begins_behind_its_start_tokens(folder):
    subject = load(folder("whisper"))
    special = frozenset(subject.tokenizer.all_special_ids)
    audio = (np.random.default_rng(0).normal(size=8000).astype(np.float32), 16000)
    explanation = subject.explain(audio=audio)
    said = subject.inputs(audio=audio)["decoder_input_ids"]
    assert int(said[0, 0]) == subject.model.config.decoder_start_token_id
    assert explanation.target[0].endswith(f"after position {first_word(said, special)}")
    assert explanation.segments["audio"].labels[0][:3] == ("0.00 s", "0.02 s", "0.04 s")
    assert explanation.segments["decoder"].labels[0][0] == "<|startoftranscript|>"


def test_finding_words_among_special_tokens():
    special = frozenset({0, 1})
    assert first_word(torch.tensor([[0, 1, 7, 8]]), special) == 1
    assert first_word(torch.tensor([[0, 1, 1], [0, 5, 1]]), special) == 0
    assert first_word(torch.tensor([[0, 1]]), special) == 1
    assert position_of(torch.tensor([[7, 8, 7]]), 7) == 1
    assert position_of(torch.tensor([[7, 8, 8]]), 7) is None
