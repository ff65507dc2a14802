"""The captions, against a slow reading of their text."""

import re
from itertools import pairwise, permutations

import pytest

from heedmap.errors import InputError
from heedmap.zoo.world import COLOURS, SHAPES, SIZES, VOCABULARY, Scene, caption, distractors, judge, words_of

RELATIONS = ("left", "right", "above", "below")


def read(text: str) -> tuple[list[dict[str, str]], str | None]:
    """What the text mentions, and the relation between the first two."""
    mentions, relation, current = [], None, {}
    for word in re.findall("[a-z]+", text):
        if word in SIZES:
            current["size"] = word
        elif word in COLOURS:
            current["colour"] = word
        elif word in SHAPES:
            mentions.append({**current, "shape": word})
            current = {}
        elif word in RELATIONS:
            relation = word
    return mentions, relation


def certainly_false(text: str, scene: Scene) -> bool:
    return not any(possible(text, scene))


def possible(text: str, scene: Scene):
    """For each way to match the mentions with objects: how far the relation holds, in pixels; none is a large number."""
    mentions, relation = read(text)
    for chosen in permutations(scene.objects, len(mentions)):
        if all(getattr(o, k) == v for o, m in zip(chosen, mentions, strict=True) for k, v in m.items()):
            distance = 1e9
            if relation:
                (x, y), (u, v) = chosen[0].centre, chosen[1].centre
                distance = {"left": u - x, "right": x - u, "above": v - y, "below": y - v}[relation]
            if distance > -0.12 * scene.side:
                yield distance


def test_a_caption_is_true_of_its_scene(scenes):
    for scene in scenes:
        for number in range(2):
            text = caption(scene, number).text
            assert max(possible(text, scene)) >= 0.12 * scene.side, text
            assert judge(caption(scene, number), scene) is True


def test_objects_and_words_are_those_described(scenes):
    for scene in scenes:
        found = caption(scene)
        mentions, relation = read(found.text)
        assert (found.relation.name if found.relation else None) == relation
        for mention, described in zip(found.mentions, mentions, strict=True):
            assert [w.text for w in mention.words] == list(described.values())
            assert mention.description == (described.get("size"), described["colour"], described["shape"])
            fits = [i for i, o in enumerate(scene.objects) if all(getattr(o, k) == v for k, v in described.items())]
            assert list(mention.objects) == fits
        assert found.objects == tuple(sorted({i for m in found.mentions for i in m.objects}))
        telling = {*SIZES, *COLOURS, *SHAPES, *RELATIONS}
        assert list(found.words) == [w for w in words_of(found.text) if w.text in telling]
        assert all(found.text[w.start : w.end] == w.text for w in found.words)
        assert {w.text for w in words_of(found.text)} <= set(VOCABULARY)


def test_a_mention_fits_several_objects_only_where_they_look_the_same(scenes):
    for scene in scenes:
        for mention in caption(scene).mentions:
            looks = {(o.size, o.colour, o.shape) for o in (scene.objects[i] for i in mention.objects)}
            assert len(looks) == 1


def test_captions_vary(scenes):
    amounts = [len(caption(scene).mentions) for scene in scenes if len(scene.objects) >= 3]
    assert {1, 2, 3} == set(amounts)
    related = [caption(scene).relation is not None for scene in scenes]
    assert 0.08 < sum(related) / len(related) < 0.5
    assert {w.text for scene in scenes for w in words_of(caption(scene).text)} > {"left", "of", "above", "an", "small"}


@pytest.mark.parametrize("edited", [0, 8])
def test_no_distractor_is_true_of_the_scene(scenes, edited):
    for scene in scenes[:12]:
        wrong = distractors(scene, 31, edited=edited)
        assert len({c.text for c in wrong} | {caption(scene).text}) == 32
        for c in wrong:
            assert certainly_false(c.text, scene), c.text
            assert c.objects == ()
        assert [c.text for c in distractors(scene, 31, edited=edited)] == [c.text for c in wrong]


def test_edited_distractors_share_most_words_with_a_caption_of_the_scene(scenes):
    for scene in scenes[:20]:
        own = [{w.text for w in words_of(caption(scene, number).text)} for number in range(80)]
        for wrong in distractors(scene, 4, edited=4):
            words = {w.text for w in words_of(wrong.text)} - {"a", "an", "of", "there", "is", "picture", "and"}
            assert min(len(words - others) for others in own) <= 1, wrong.text


def test_judging_agrees_with_reading(scenes):
    outcomes = set()
    for scene, other in pairwise(scenes):
        for number in range(3):
            found = caption(other, number)
            distances = list(possible(found.text, scene))
            clear = any(d >= 0.12 * scene.side for d in distances)
            expected = True if clear else None if distances else False
            assert judge(found, scene) is expected
            outcomes.add(expected)
    assert outcomes >= {True, False}


def test_bad_input(scenes):
    with pytest.raises(InputError, match="number is -1"):
        caption(scenes[0], -1)
    with pytest.raises(InputError, match="amount is -1"):
        distractors(scenes[0], -1)
    with pytest.raises(InputError, match=r"edited is 1\.5"):
        distractors(scenes[0], 3, edited=1.5)
    assert distractors(scenes[0], 0) == []
