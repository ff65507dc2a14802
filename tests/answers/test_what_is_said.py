"""What the model says, is given, and is asked why not: generation, contrasts, and what cannot be explained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES, WORDS, livened, made, tr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

import heedmap
from heedmap.errors import InputError, OptionError, TargetError
from heedmap.models.words import special_ids, token_boundaries, token_labels, unwritten_ids
from heedmap.targets import ClassLogit, Contrast, DetectionQuery, NextToken, Similarity

PROMPT = torch.tensor([[5, 6, 11, 40, 13]])


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    torch.manual_seed(0)
    model = FAMILIES["llama"].build()
    model.generation_config.suppress_tokens = [0, 1, 2]  # special ones, so that no answer ends
    return model


@pytest.fixture(scope="module")
def lists() -> heedmap.Model:
    return heedmap.load("zoo/gpt-lists")


ASKED = "dog red ; cat blue ? cat"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3},
        {"do_sample": True, "temperature": 2.0},
        {"cache_implementation": "static"},
        {"max_length": 9},
    ],
)
def test_however_it_is_generated_it_is_explained_as_it_is(llama: nn.Module, settings: dict[str, Any]) -> None:
    wanted = settings if "max_length" in settings else {"max_new_tokens": 4, **settings}
    found = heedmap.explain_answer(llama, {"input_ids": PROMPT}, generate=wanted)
    assert found.answer.source == "generated"
    assert len(found.answer) == 4
    again = heedmap.explain_answer(llama, {"input_ids": PROMPT}, answer=found.answer.tokens)
    assert torch.equal(again["text"], found["text"])
    assert torch.equal(again["answer"], found["answer"])


def test_what_generate_returned_is_an_answer(llama: nn.Module) -> None:
    said = llama.generate(PROMPT, num_beams=2, do_sample=False, max_new_tokens=3, return_dict_in_generate=True)
    found = heedmap.explain_answer(llama, {"input_ids": PROMPT}, answer=said)
    assert found.answer.tokens.tolist() == said.sequences[:, 5:].tolist()


def test_a_prompt_is_padded_on_either_side(llama: nn.Module) -> None:
    left = torch.tensor([[5, 6, 11, 40, 13], [0, 0, 17, 3, 29]])
    right = torch.tensor([[5, 6, 11, 40, 13], [17, 3, 29, 0, 0]])
    maps = [
        heedmap.explain_answer(
            llama, {"input_ids": ids, "attention_mask": (ids != 0).long()}, generate={"max_new_tokens": 3}
        )
        for ids in (left, right)
    ]
    assert torch.equal(maps[0].answer.tokens, maps[1].answer.tokens)
    assert torch.equal(maps[0]["text"], maps[1]["text"])


def test_a_cut_answer_says_so(llama: nn.Module) -> None:
    found = heedmap.explain_answer(llama, {"input_ids": PROMPT}, generate={"max_new_tokens": 3})
    assert "the answer was cut after 3 tokens" in found.flow.notes[-1]
    assert "max_new_tokens" in found.flow.notes[-1]


def test_an_answer_that_fills_the_model_says_so(lists: heedmap.Model) -> None:
    found = lists.explain_answer(text=ASKED)
    assert len(found.answer) == 48 - 7
    assert found.flow.notes[-1].endswith("after 41 tokens, before it ended: the model has no places for more")


def test_a_captioner_goes_on_its_own_beginning_and_writes_to_no_input() -> None:
    torch.manual_seed(0)
    family = FAMILIES["blip"]
    model, answer = family.build(), [7, 30, 9]
    inputs = {**family.inputs(), "input_ids": torch.tensor([[5, 6, 11, 2], [5, 17, 3, 2]])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    before = {name: value.clone() for name, value in inputs.items()}
    found = heedmap.explain_answer(model, inputs, answer=[answer] * 2)
    assert all(torch.equal(inputs[name], value) for name, value in before.items())
    for step, token in enumerate(answer):  # it puts its first token in place of the first, and leaves out the last
        ids = torch.tensor([[1, 6, 11, *answer[:step]], [1, 17, 3, *answer[:step]]])
        alone = heedmap.explain(
            model, {**inputs, "input_ids": ids, "attention_mask": ids * 0 + 1}, target=NextToken(token)
        )
        assert torch.allclose(found.scores[:, step], alone.scores)
        assert torch.allclose(found["image"][:, step], alone["image"], atol=1e-6)
        assert torch.allclose(found["text"][:, step], alone["text"][:, :3], atol=1e-6)
        assert torch.allclose(found["answer"][:, step, :step], alone["text"][:, 3:], atol=1e-6)


@pytest.fixture(scope="module")
def question_answerer() -> nn.Module:
    """A model whose output leaves out the logits of its decoder, which has 48 places."""
    torch.manual_seed(0)
    return FAMILIES["blip-vqa"].build()


def test_a_decoder_that_has_no_places_for_more_says_so(question_answerer: nn.Module) -> None:
    found = heedmap.explain_answer(question_answerer, FAMILIES["blip-vqa"].inputs())
    assert len(found.answer) == 48
    assert found.flow.notes[-1].endswith("after 48 tokens, before it ended: the model has no places for more")


def test_what_a_decoder_says_and_the_model_leaves_out_is_read_where_it_is_said(question_answerer: nn.Module) -> None:
    inputs = {name: value[:1] for name, value in FAMILIES["blip-vqa"].inputs().items()}
    asked = {**inputs, "decoder_input_ids": torch.tensor([[1, 7, 30]])}
    said: list[Any] = []
    hook = question_answerer.text_decoder.register_forward_hook(lambda module, given, output: said.append(output))
    with torch.no_grad():
        plain = question_answerer(**asked, labels=torch.tensor([[7, 30, 2]]))
    hook.remove()
    assert plain.get("logits") is None
    best = said[0].logits[0, -1].argmax()
    found = heedmap.explain(question_answerer, asked)
    assert float(found.scores[0]) == pytest.approx(float(said[0].logits[0, -1, best]), rel=1e-6)
    assert [answer.target for answer in heedmap.predict(question_answerer, asked)] == [
        NextToken(7, 0),
        NextToken(30, 1),
    ]
    assert not question_answerer.text_decoder._forward_hooks

    def loss(output: Any) -> torch.Tensor:  # what the model does return is there as ever
        return output.loss[None]

    by_loss = heedmap.explain(question_answerer, {**asked, "labels": torch.tensor([[7, 30, 2]])}, target=loss)
    assert float(by_loss.scores[0]) == pytest.approx(float(plain.loss), rel=1e-6)


def test_steps_spans_samples_and_files(lists: heedmap.Model, tmp_path: Any) -> None:
    found = lists.explain_answer(text=[ASKED, "cat red ? cat"], generate={"max_new_tokens": 3})
    assert found["text"].shape == (2, 3, 7)
    assert torch.equal(found.step(1)["text"], found["text"][:, 1])
    assert torch.allclose(found.span(1, 3)["text"], found["text"][:, 1:3].mean(1))
    assert torch.allclose(found.span(0, 2, "sum")["answer"], found["answer"][:, :2].sum(1))
    assert found.step(-1).flow.streams[0].rows == ((8,), (5,))
    assert torch.equal(found.sample(1)["text"], found["text"][1:])
    assert found.sample(1).answer.text == found.answer.text[1:]
    found.save(tmp_path / "answer.safetensors")
    assert heedmap.Explanation.load(tmp_path / "answer.safetensors") == found
    with pytest.raises(InputError, match="no step 3"):
        found.step(3)
    with pytest.raises(InputError, match="no tokens from 2 to 1"):
        found.span(2, 1)
    with pytest.raises(OptionError, match="expected 'mean' or 'sum'"):
        found.span(0, 1, "max")
    with pytest.raises(InputError, match="is of no answer"):
        lists.explain(text=ASKED).step(0)


def test_a_contrast_is_the_difference_of_the_logits(lists: heedmap.Model) -> None:
    found = lists.explain_answer(text=ASKED, answer="blue", contrast="red")
    own = lists.explain(text=ASKED, target=Contrast("blue", "red"))
    assert torch.allclose(found["text"][:, 0], own["text"])
    logits = lists.model(**lists.inputs(text=ASKED)).logits[0, -1].detach()
    blue, red = (int(lists.tokenizer(word)["input_ids"][0]) for word in ("blue", "red"))
    assert float(own.scores[0]) == pytest.approx(float(logits[blue] - logits[red]), rel=1e-5)
    assert found.answer.targets[0][0] == "'blue' rather than 'red', token 0 of the answer"


def test_contrasts_of_whole_answers_of_words_and_of_the_runner_up(llama: nn.Module) -> None:
    inputs, answer = {"input_ids": PROMPT}, [7, 30, 9, 12]
    plain = heedmap.explain_answer(llama, inputs, answer=answer)
    other = heedmap.explain_answer(llama, inputs, answer=answer, contrast=[[7, 31, 9, 12]])
    assert other.answer.others.tolist() == [[7, 31, 9, 12]]
    assert not other["text"][0, [0, 2, 3]].any()
    assert other["text"][0, 1].any()
    named = heedmap.explain_answer(llama, inputs, answer=answer, contrast={1: "runner-up"})
    assert torch.equal(named["text"][0, [0, 2, 3]], plain["text"][0, [0, 2, 3]])
    runner = heedmap.explain_answer(llama, inputs, answer=answer, contrast="runner-up")
    assert torch.equal(runner["text"][0, 1], named["text"][0, 1])
    logits = (
        llama(torch.cat([PROMPT, torch.tensor([answer[:-1]])], 1))
        .logits[0, 4:]
        .scatter(1, torch.tensor(answer)[:, None], -1e9)
    )
    assert runner.answer.others.tolist() == [logits.argmax(-1).tolist()]


def test_a_contrast_of_several_tokens_says_which_is_taken(lists: heedmap.Model) -> None:
    found = lists.explain_answer(text=ASKED, answer="blue", contrast="red ; cat")
    assert "has 3 tokens where 1 is set against it: its first one, 'red', is taken" in found.flow.notes[-1]
    assert "'red'" in found.answer.targets[0][0]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"answer": "xylophone"}, InputError, "cannot make the answer 'xylophone'"),
        ({"answer": ""}, InputError, "the answer of sample 0 is empty"),
        ({"answer": [["1"]]}, InputError, "expected a text"),
        ({"answer": ["blue", "red"]}, InputError, "2 answers for 1 samples"),
        ({"answer": [[999]]}, InputError, "has the id 999, and the vocabulary ends at 59"),
        ({"answer": " ".join(["blue"] * 60)}, InputError, "prompt and answer have 66 tokens and the model takes 48"),
        ({"generate": {"num_return_sequences": 2, "num_beams": 2}}, OptionError, "one answer a sample"),
        ({"generate": {"no_such_setting": 1}}, InputError, "cannot generate an answer with no_such_setting=1"),
        ({"answer": "blue", "contrast": [[1, 2]]}, OptionError, r"contrast has shape \(1, 2\), and the answer \(1, 1\)"),
        ({"answer": "blue", "contrast": {"red": "blue"}}, InputError, "'red', which is not in the answer 'blue'"),
        ({"answer": "blue", "contrast": {"": "red"}}, InputError, "contrast names '', which has no tokens"),
        ({"answer": "blue", "contrast": {3: "blue"}}, OptionError, "names token 3"),
        ({"answer": "blue", "contrast": 1.5}, OptionError, "contrast has shape"),
        ({"answer": "blue", "contrast": "xylophone"}, InputError, "cannot make the contrast 'xylophone'"),
        ({"generate": {"max_new_tokens": 99}}, InputError, "takes 48; shorten the prompt, or explain 42 tokens of the answer"),
        ({"answer": "blue", "no_option": 1}, OptionError, "no_option"),
    ],
)  # fmt: skip
def test_bad_input_is_told(lists: heedmap.Model, given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lists.explain_answer(text=ASKED, **given)


def test_an_answer_too_long_for_a_decoder_is_told_without_the_prompt() -> None:
    dates = heedmap.load("zoo/bart-dates")
    with pytest.raises(
        InputError, match="the answer, with what the decoder begins with, has 100 tokens and the model takes 64"
    ):
        dates.explain_answer(text="the 3rd of may 1987", answer="1987-05-03" * 10)


def test_what_says_nothing_is_told(llama: nn.Module) -> None:
    with pytest.raises(InputError, match="answers in no words"):
        heedmap.load("zoo/vit-shapes").explain_answer(image=heedmap.zoo_sample("vit-shapes").picture)
    only_ends = {"max_new_tokens": 1, "suppress_tokens": [i for i in range(50) if i != 2]}
    with pytest.raises(InputError, match="says nothing to sample 0"):
        heedmap.explain_answer(llama, {"input_ids": PROMPT}, generate=only_ends)
    torch.manual_seed(0)
    classes = made("BertForSequenceClassification", lambda: tr.BertConfig(**WORDS, num_labels=3))()
    with pytest.raises((InputError, TargetError)):
        heedmap.explain_answer(classes, {"input_ids": PROMPT})
    with pytest.raises(InputError, match="cannot be given with an answer"):
        heedmap.explain_answer(llama, {"input_ids": PROMPT, "position_ids": torch.arange(5)[None]}, answer=[7])
    with pytest.raises(InputError, match="all padding"):
        heedmap.explain_answer(llama, {"input_ids": PROMPT, "attention_mask": torch.zeros(1, 5).long()}, answer=[7])


def test_an_unknown_language_of_a_decoder_is_told() -> None:
    torch.manual_seed(0)
    family = FAMILIES["whisper"]
    model = family.build()
    model.generation_config.lang_to_id, model.generation_config.task_to_id = {"<|en|>": 40}, {"transcribe": 41}
    model.generation_config.is_multilingual, model.generation_config.no_timestamps_token_id = True, 42
    with pytest.raises(InputError, match="cannot generate an answer with language='xx'"):
        heedmap.explain_answer(model, family.inputs(), generate={"language": "xx"})


def test_pictures_that_do_not_fit_their_places_are_told() -> None:
    torch.manual_seed(0)
    family = FAMILIES["llava"]
    inputs = family.inputs()
    inputs["input_ids"][:, 1] = 8
    with pytest.raises(InputError):
        heedmap.explain_answer(family.build(), inputs, answer=[[7], [8]])


def test_contrasts_of_classes_boxes_and_embeddings() -> None:
    torch.manual_seed(0)
    vit = livened(
        tr.ViTForImageClassification(
            tr.ViTConfig(**{**WORDS, "image_size": 16, "patch_size": 8}, num_labels=4)
        ).double()
    )
    pixels = {"pixel_values": torch.randn(2, 3, 16, 16, dtype=torch.float64)}
    logits = vit(**pixels).logits.detach()
    found = heedmap.explain(vit, pixels, target=Contrast(2, 1))
    assert torch.allclose(found.scores.double(), logits[:, 2] - logits[:, 1])
    by_hand = heedmap.explain(vit, pixels, target=lambda output: output.logits[:, 2] - output.logits[:, 1])
    assert torch.equal(found["image"], by_hand["image"])
    assert torch.allclose(
        heedmap.explain(vit, pixels, target=Contrast()).scores.double(), -logits.topk(2).values.diff()[:, 0]
    )
    assert torch.equal(
        heedmap.explain(vit, pixels, target=Contrast(2, ClassLogit(1)), method="partial_lrp").scores, found.scores
    )
    with pytest.raises(TargetError, match="no second score beside Function"):
        heedmap.explain(vit, pixels, target=Contrast(lambda output: output.logits[:, 0], 1))


def test_a_contrast_of_what_a_text_is_like() -> None:
    torch.manual_seed(0)
    encoder = livened(tr.BertModel(tr.BertConfig(**WORDS)).double())
    inputs, (one, other) = {"input_ids": PROMPT}, torch.randn(2, 16, dtype=torch.float64)
    found = heedmap.explain(encoder, inputs, target=Contrast(Similarity(one), Similarity(other)))

    def by_hand(output: Any) -> torch.Tensor:
        mean = output.last_hidden_state.mean(1)
        return torch.cosine_similarity(mean, one[None], dim=-1) - torch.cosine_similarity(mean, other[None], dim=-1)

    assert torch.allclose(found["text"], heedmap.explain(encoder, inputs, target=by_hand)["text"])


def test_a_contrast_of_boxes_is_at_one_box() -> None:
    detector, photo = heedmap.load("zoo/detr-shapes"), heedmap.zoo_sample("detr-shapes").picture
    found = detector.explain(image=photo, target=Contrast("heart", "ring"))
    assert found.target == ("query 8, class 5 (heart) rather than class 6 (ring)",)
    logits = detector.model(**detector.inputs(image=photo)).logits[0, 8].detach()
    assert float(found.scores[0]) == pytest.approx(float(logits[5] - logits[6]), rel=1e-4)
    same = detector.explain(image=photo, target=Contrast(DetectionQuery(8, "heart"), DetectionQuery(8, "ring")))
    assert torch.allclose(found["image"], same["image"])
    assert "rather than" in detector.explain(image=photo, target=Contrast(DetectionQuery(8))).target[0]


@pytest.mark.parametrize(("unknown", "word"), [("<|endoftext|>", False), ("<unk>", True)])
def test_an_end_that_is_also_the_sign_for_unknown_words_is_no_word(unknown: str, word: bool) -> None:
    """As in GPT-2's and Whisper's tokenizers."""
    vocabulary = {"<|endoftext|>": 0, "<unk>": 1, "a": 2}
    model = Tokenizer(WordLevel(vocabulary, unk_token=unknown))
    tokenizer = tr.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token=unknown, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    assert unwritten_ids(tokenizer) == {0}
    assert token_boundaries(tokenizer, [2, 0], token_labels(tokenizer, [2, 0])) == "ws"
    assert (1 in special_ids(tokenizer)) == word


def test_a_token_that_is_no_word_is_no_contrast(llama: nn.Module) -> None:
    with pytest.raises(TargetError, match="token ids, not 'cat'"):
        heedmap.explain(llama, {"input_ids": PROMPT}, target=Contrast(NextToken(3), "cat"))
