"""Dates and lists: the same from the same seed, and true in what they say of themselves."""

import re
from collections import Counter
from datetime import date

import pytest

from heedmap.zoo.dates import FORMS, date_sample, ordinal
from heedmap.zoo.dates import split_of as split_of_date
from heedmap.zoo.lists import list_sample
from heedmap.zoo.lists import split_of as split_of_list
from heedmap.zoo.tasks import dates, lists

SPLITS = ("train", "val", "test")
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
MISSPELT = {"set": "sep", "agu": "aug"}
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WORDS = {
    **{
        w: n
        for n, w in enumerate(
            ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"], 1
        )
    },
    **{w: n for n, w in enumerate(["eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth"], 11)},
    **{"seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30},
}
TENS = {"twenty": 20, "thirty": 30}


def read_day(text):
    """A day as somebody wrote it, read another way than it was written."""
    tens, hyphen, unit = text.lower().partition("-")
    if hyphen:
        return TENS[tens] + WORDS[unit]
    return WORDS[tens] if tens in WORDS else int(re.fullmatch(r"(\d+)(?:st|nd|rd|th)?", tens).group(1))


def read_month(text):
    start = text.lower()[:3]
    return int(text) if text.isdecimal() else 1 + MONTHS.index(MISSPELT.get(start, start))


def read_year(text):
    assert len(text) in (2, 4)
    return int(text) + ((1900 if int(text) >= 30 else 2000) if len(text) == 2 else 0)


@pytest.mark.parametrize("split", SPLITS)
def test_the_marked_characters_say_the_date(split):
    for index in range(1500):
        sample = date_sample(3, split, index)
        part = {name: sample.text[start:end] for name, (start, end) in sample.spans.items()}
        found = date(read_year(part["year"]), read_month(part["month"]), read_day(part["day"]))
        assert found.isoformat() == sample.iso, sample
        if "weekday" in part:
            assert WEEKDAYS.index(part["weekday"].lower()[:3]) == found.weekday()
        rest = "".join(c for i, c in enumerate(sample.text) if not any(a <= i < b for a, b in sample.spans.values()))
        assert not re.search(r"\d", rest)


def test_the_evidence_of_a_character_of_the_iso_form():
    sample = date_sample(0, "train", 0)
    assert [sample.evidence(place) for place in range(10)] == [
        *[sample.spans["year"]] * 4,
        None,
        *[sample.spans["month"]] * 2,
        None,
        *[sample.spans["day"]] * 2,
    ]


def test_numbers_alone_follow_the_convention():
    numeric = [s for s in (date_sample(0, "train", i) for i in range(3000)) if re.fullmatch(r"[\d/.\- ]+", s.text)]
    assert len(numeric) > 300
    for sample in numeric:
        first, second, third = map(int, re.findall(r"\d+", sample.text))
        year, month, day = map(int, sample.iso.split("-"))
        assert ((first, second) if first > 31 else (third % 100, second)) == (
            (year if first > 31 else year % 100),
            month,
        )
        assert (third if first > 31 else first) == day


def test_every_form_and_every_month_occurs():
    samples = [date_sample(0, "train", index) for index in range(4000)]
    assert {s.iso[5:7] for s in samples} == {f"{month:02}" for month in range(1, 13)}
    assert {s.iso[8:] for s in samples} == {f"{day:02}" for day in range(1, 32)}
    orders = Counter(tuple(sorted(s.spans, key=s.spans.get)) for s in samples)
    assert len(orders) == 5
    assert len(FORMS) == len(set(FORMS))


@pytest.mark.parametrize("make", [date_sample, list_sample])
def test_a_sample_follows_from_seed_split_and_index(make):
    assert [make(5, "test", i) for i in range(20)] == [make(5, "test", i) for i in range(20)]
    assert make(5, "test", 1) != make(6, "test", 1)
    assert make(5, "test", 1) != make(5, "test", 2)


def test_a_generator_that_changes_is_noticed():
    """The scores in the cards are of these samples."""
    assert date_sample(0, "test", 0).text == "due twenty-third mar. 1954"
    assert (
        list_sample(0, "test", 0).text
        == "lamp teal ; tree orange ; knife khaki ; glove olive ; shoe gold ; dog navy ; chair maroon ? chair"
    )


@pytest.mark.parametrize("split", SPLITS)
def test_splits_share_nothing(split):
    assert {split_of_date(date.fromisoformat(date_sample(0, split, i).iso)) for i in range(200)} == {split}
    assert {split_of_list(list_sample(0, split, i).text) for i in range(200)} == {split}


def test_the_answer_stands_after_its_key_and_nowhere_else():
    sizes = Counter()
    for index in range(1000):
        sample = list_sample(1, "val", index)
        words = sample.text.split()
        assert words[sample.value] == sample.answer
        assert words[sample.key] == words[sample.query]
        assert words[sample.query - 1] == "?"
        assert sample.value == sample.key + 1
        assert words.count(sample.answer) == 1
        assert words.count(words[sample.key]) == 2
        sizes[words.count(";") + 1] += 1
    assert set(sizes) == set(range(3, 9))


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"]
    )


def test_a_token_is_a_character_of_a_date_and_a_word_of_a_list():
    for index in range(200):
        text = date_sample(0, "train", index).text
        ids = dates.tokenizer()(text)["input_ids"]
        assert dates.tokenizer().convert_ids_to_tokens(ids) == [*text, "</s>"]
        assert dates.tokenizer().decode(ids, skip_special_tokens=True) == text
        words = list_sample(0, "train", index).text
        assert lists.tokenizer().convert_ids_to_tokens(lists.tokenizer()(words)["input_ids"]) == words.split()
    assert dates.tokenizer()("é")["input_ids"] == [3, 2]


@pytest.mark.parametrize("task", [dates, lists])
def test_batches_are_windows_of_one_stream(task):
    whole, part = task.batch(0, "train", 4, 6), task.batch(0, "train", 7, 3)
    for row in range(3):
        real = int(part["attention_mask"][row].sum())
        assert part["input_ids"][row, :real].tolist() == whole["input_ids"][row + 3, :real].tolist()
