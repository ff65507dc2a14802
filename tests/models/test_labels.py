import pytest

from heedmap.models.audio import second_labels
from heedmap.models.words import CONTINUED, box_labels, decoded, token_boundaries, token_labels

from . import builders


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    from transformers import PreTrainedTokenizerFast

    return {
        "wordpiece": builders.wordpiece(tmp_path_factory.mktemp("words")),
        "bytes": PreTrainedTokenizerFast(tokenizer_object=builders.byte_level(), eos_token="<|endoftext|>"),
        "unigram": PreTrainedTokenizerFast(tokenizer_object=builders.unigram(), unk_token="<unk>"),
    }


def labels_of(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    labels = token_labels(tokenizer, ids)
    assert len(labels) == len(ids)
    assert all(labels)
    return labels


def test_wordpiece(tokenizers):
    labels = labels_of(tokenizers["wordpiece"], "the cat playing ?")
    assert labels == ("[CLS]", "the", "cat", "play", "ing", "?", "[SEP]")


def test_byte_level_text_joins_to_the_text(tokenizers):
    labels = labels_of(tokenizers["bytes"], "The capital of France")
    assert "".join(labels) == "ThecapitalofFrance"


@pytest.mark.parametrize(("text", "pieces"), [("é", 2), ("😀", 4), ("漢", 3)])
def test_a_character_over_several_tokens_stands_with_the_first(tokenizers, text, pieces):
    assert labels_of(tokenizers["bytes"], text) == (text, *[CONTINUED] * (pieces - 1))
    assert labels_of(tokenizers["bytes"], f"cat{text}?")[-pieces - 1 :] == (text, *[CONTINUED] * (pieces - 1), "?")


def test_two_spread_characters_in_a_row(tokenizers):
    assert labels_of(tokenizers["bytes"], "éé") == ("é", CONTINUED, "é", CONTINUED)


def test_half_a_character_stays_half(tokenizers):
    ids = tokenizers["bytes"]("é")["input_ids"]
    assert token_labels(tokenizers["bytes"], ids[:1]) == ("\ufffd",)


def test_white_space_can_be_seen(tokenizers):
    assert labels_of(tokenizers["bytes"], "\n\t ") == ("⏎", "⇥", "␣")


def test_hashes_of_a_byte_level_text_are_no_marks(tokenizers):
    assert "".join(labels_of(tokenizers["bytes"], "##")) == "##"


def test_sentencepiece_spaces(tokenizers):
    labels = labels_of(tokenizers["unigram"], "translate English")
    assert "▁" not in "".join(labels)
    assert "".join(labels).replace("␣", "") == "translateEnglish</s>"


class Bare:
    def convert_ids_to_tokens(self, ids):
        return [["▁the", "Ġcat", "##s", "dog</w>", "▁"][i] for i in ids]


def test_marks_of_a_tokenizer_that_cannot_decode():
    assert token_labels(Bare(), range(5)) == ("the", "cat", "s", "dog", "␣")


class Own(Bare):
    def token_labels(self, ids):
        return [f"<{i}>" for i in ids]


def test_a_tokenizer_may_make_its_own_labels():
    assert token_labels(Own(), [3, 1]) == ("<3>", "<1>")


def test_decoded_keeps_spaces(tokenizers):
    ids = tokenizers["bytes"](" is")["input_ids"]
    assert [decoded(tokenizers["bytes"], i) for i in ids] == [" is"]


def test_times_and_boxes():
    assert second_labels(4, 2.0) == ("0.00 s", "0.50 s", "1.00 s", "1.50 s")
    assert second_labels(4, 0.02) == ("0.000 s", "0.005 s", "0.010 s", "0.015 s")
    assert box_labels(3, ["cat", "dog"]) == ("cat", "dog", "box 2")
    assert box_labels(2) == ("box 0", "box 1")
    assert box_labels(3, ["sky", "cat", "sky"]) == ("sky 1", "cat", "sky 2")


def joints_of(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    labels = token_labels(tokenizer, ids)
    boundaries = token_boundaries(tokenizer, ids, labels)
    assert len(boundaries) == len(labels)
    return list(zip(labels, boundaries, strict=True))


def test_joints_of_wordpiece(tokenizers):
    assert joints_of(tokenizers["wordpiece"], "the cat playing ?") == [
        *(("[CLS]", "s"), ("the", "w"), ("cat", "w"), ("play", "w"), ("ing", "+"), ("?", "+"), ("[SEP]", "s"))
    ]


def test_an_unknown_word_is_a_part_of_the_text(tokenizers):
    assert joints_of(tokenizers["wordpiece"], "the zebra")[2] == ("[UNK]", "w")


@pytest.mark.parametrize("family", ["bytes", "unigram"])
@pytest.mark.parametrize("text", ["The capital of France .", "the house is wonderful", "is the cat on it"])
def test_joints_give_the_text_back(tokenizers, family, text):
    pairs = [pair for pair in joints_of(tokenizers[family], text) if pair[0] != "</s>"]
    written = "".join((" " if joint == "w" else "") + label.strip("␣") for label, joint in pairs)
    assert " ".join(written.split()) == text


def test_joints_of_a_character_over_several_tokens(tokenizers):
    found = joints_of(tokenizers["bytes"], "caté 😀s")
    assert [joint for _, joint in found if joint == "c"] == ["c"] * 4
    assert found[-1] == ("s", "+")
    assert found[-6] == ("␣", "w")


def test_joints_of_special_tokens(tokenizers):
    ids = [0, *tokenizers["bytes"]("the cat")["input_ids"]]
    assert token_boundaries(tokenizers["bytes"], ids, token_labels(tokenizers["bytes"], ids)) == "sww"


def test_joints_of_tokenizers_that_decode_nothing_or_label_by_themselves():
    assert token_boundaries(Bare(), range(4), ("the", "cat", "s", "dog")) == "ww++"
    assert token_boundaries(Own(), [3, 1], ("<3>", "<1>")) is None
