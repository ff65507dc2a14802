import math

import pytest
import torch
from hand_made import segment

from heedmap.render.words import top_words, words, words_scale


def _words(labels, boundaries, values=None):
    given = values or [1.0] * len(labels)
    return words(segment(given, labels=(tuple(labels),), boundaries=(boundaries,)))


@pytest.mark.parametrize(
    ("labels", "boundaries", "texts"),
    [
        (("[CLS]", "un", "believ", "able", "cat", "[SEP]"), "sw++ws", ["[CLS]", "unbelievable", "cat", "[SEP]"]),
        (("the", "capital", "."), "ww+", ["the", "capital", "."]),
        (("don", "'t", "stop"), "w+w", ["don't", "stop"]),
        (("␣", "T", "he", "␣", "?"), "w++w+", ["The", "?"]),
        (("é", "…", "t", "😀", "…", "…"), "wc+wcc", ["ét", "😀"]),
        (("…", "so"), "w+", ["…", "so"]),
        (("我", "喜欢", "吃"), "w++", ["我", "喜欢", "吃"]),
        (("الس", "لام", "عليكم"), "w+w", ["السلام", "عليكم"]),
        (("a", "⏎", "b"), "w+w", ["a", "⏎", "b"]),
        (("3", "rd", "-", "05"), "w+++", ["3rd", "-", "05"]),
    ],
)
def test_tokens_are_joined_to_words(labels, boundaries, texts):
    assert [word.text for word in _words(labels, boundaries)] == texts


def test_every_token_is_in_one_word():
    found = _words(("<s>", "␣", "Th", "é", "…", "x", "!", "</s>"), "sw++c++s")
    assert [i for word in found for i in word.tokens] == list(range(8))


def test_a_word_is_the_sum_of_its_tokens():
    (word, other) = _words(("un", "do", "it"), "w+w", [0.5, -0.25, 2.0])
    assert (word.value, word.values, other.value) == (0.25, (0.5, -0.25), 2.0)


def test_a_script_without_spaces_is_written_without():
    assert [word.spaced for word in _words(("我", "爱", "cat", "你"), "wwww")] == [False, False, True, True]


def test_without_joints_each_token_is_a_word_and_special_ones_are_guessed():
    found = words(segment([1.0, 2.0, 3.0], labels=(("[CLS]", "a", "b"),)))
    assert [(word.text, word.special, word.spaced) for word in found] == [
        ("[CLS]", True, False),
        ("a", False, True),
        ("b", False, True),
    ]


def test_tokens_not_taken_in_part_words():
    given = segment(
        [1.0, 2.0, 3.0], labels=(("a", "b", "c"),), boundaries=("w++",), positions=torch.tensor([[0, -1, 1]])
    )
    assert [word.text for word in words(given)] == ["a", "c"]


def test_special_tokens_set_no_scale_unless_they_are_alone():
    found = _words(("[CLS]", "a"), "sw", [9.0, 2.0])
    assert words_scale(found).high == 2.0
    assert words_scale(found[:1]).high == 9.0


def test_top_words_are_finite_and_the_earlier_of_equals():
    found = _words(("a", "b", "c", "d"), "wwww", [1.0, math.nan, 2.0, 2.0])
    assert [word.text for word in top_words(found, 9)] == ["c", "d", "a"]
