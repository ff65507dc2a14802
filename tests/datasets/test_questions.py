"""The questions, against a slow reading of their text and the scene's objects."""

import re
from collections import Counter, defaultdict

import pytest

from heedmap.errors import InputError
from heedmap.zoo.world import ANSWERS, COLOURS, KINDS, SHAPES, VOCABULARY, Object, Question, Scene, ask, words_of

PLURALS = {**{f"{s}s": s for s in SHAPES if s != "cross"}, "crosses": "cross"}


def read(question: Question, scene: Scene) -> tuple[str, list[int]]:
    """The answer and the objects it depends on, from the words of the question alone."""
    words = re.findall("[a-z]+", question.text)
    colours = [w for w in words if w in COLOURS]
    shapes = [PLURALS.get(w, w) for w in words if w in SHAPES or w in PLURALS]
    objects = scene.objects
    if words[0] in ("what", "which") and words[1] in ("colour", "shape"):
        fitting = [i for i, o in enumerate(objects) if [o.shape] == shapes or [o.colour] == colours]
        assert len(fitting) == 1, question.text
        return getattr(objects[fitting[0]], words[1]), fitting
    if words[:2] == ["how", "many"]:
        fitting = [i for i, o in enumerate(objects) if [o.shape] == shapes or [o.colour] == colours]
        return str(len(fitting)), fitting
    fitting = [
        [i for i, o in enumerate(objects) if (o.colour, o.shape) == look] for look in zip(colours, shapes, strict=True)
    ]
    if len(fitting) == 1:
        return ("yes" if fitting[0] else "no"), fitting[0]
    (first,), (second,) = fitting
    return ("yes" if lies(words, objects[first], objects[second], scene.side) else "no"), sorted([first, second])


def lies(words: list[str], first: Object, second: Object, side: int) -> bool:
    (word,) = {"left", "right", "above", "below"}.intersection(words)
    (x, y), (u, v) = first.centre, second.centre
    difference = {"left": u - x, "right": x - u, "above": v - y, "below": y - v}[word]
    assert abs(difference) >= 0.12 * side, "too close to tell"
    return difference > 0


@pytest.fixture(scope="module")
def asked(scenes) -> list[tuple[Scene, Question]]:
    return [(scene, question) for scene in scenes for number in (0, 1) for question in ask(scene, number)]


def test_answers_and_objects_are_right(asked):
    for scene, question in asked:
        answer, objects = read(question, scene)
        assert (question.answer, list(question.objects)) == (answer, objects), question.text


def test_answers_and_words_are_of_the_closed_vocabularies(asked):
    assert len(set(ANSWERS)) == len(ANSWERS) == 22
    assert {question.answer for _, question in asked} == set(ANSWERS)
    assert {question.kind for _, question in asked} == set(KINDS)
    assert {word.text for _, q in asked for word in words_of(q.text)} <= set(VOCABULARY)


def test_telling_words_are_all_that_name_a_look_or_a_relation(asked):
    telling = {*COLOURS, *SHAPES, *PLURALS, "left", "right", "above", "below"}
    for _, question in asked:
        assert [w for w in words_of(question.text) if w.text in telling] == list(question.words)
        for word in question.words:
            assert question.text[word.start : word.end] == word.text
            assert re.findall(r"\w+", question.text)[word.index] == word.text


def test_answers_are_balanced(asked):
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for _, question in asked:
        by_kind[question.kind][question.answer] += 1
    for counts in by_kind.values():
        even = 1 / len(counts)
        assert max(counts.values()) < 1.3 * even * sum(counts.values())
        assert min(counts.values()) > 0.7 * even * sum(counts.values())
    for kind in ("existence", "relation"):
        assert abs(by_kind[kind]["yes"] / by_kind[kind].total() - 0.5) < 0.04


def test_no_word_gives_the_answer_away(asked):
    """Guessing from a question's words, the best guess for each word and kind is right little more often than chance."""
    by_word: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, question in asked:
        for word in words_of(question.text):
            by_word[question.kind, word.text][question.answer] += 1
    for (kind, word), counts in by_word.items():
        chance = {"existence": 0.5, "relation": 0.5, "count": 0.2, "colour": 1 / 8, "shape": 1 / 7}[kind]
        spread = 4 * (chance * (1 - chance) / counts.total()) ** 0.5
        assert max(counts.values()) / counts.total() < chance + spread + 0.02, (kind, word, counts)


def test_what_is_absent_is_half_there_where_that_can_be(asked):
    """A "no" to an existence question needs the colour and the shape together: both occur, in different objects."""
    possible = 0
    for scene, question in asked:
        if (question.kind, question.answer) == ("existence", "no"):
            looks = {(o.colour, o.shape) for o in scene.objects}
            colours, shapes = {c for c, _ in looks}, {s for _, s in looks}
            near = [word.text in {*colours, *shapes} for word in question.words]
            can_be = len(looks) < len(colours) * len(shapes)
            assert sum(near) == (2 if can_be else 1)
            possible += can_be
    assert possible > 100


def test_another_round_asks_otherwise_and_the_same_round_the_same(scenes):
    assert [ask(s) for s in scenes[:20]] == [ask(s) for s in scenes[:20]]
    assert [ask(s, 1) for s in scenes[:20]] != [ask(s) for s in scenes[:20]]
    with pytest.raises(InputError, match="number is -1"):
        ask(scenes[0], -1)
