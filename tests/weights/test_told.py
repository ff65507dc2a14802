"""Texts whose evidence is known, and the speech that sounds the same in every run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn, of the eval extra, has ROC-AUC")

from known.language import ALIKE, CAPITALS, TURNS, asked, figures, likened

DOCS = Path(__file__).parents[2] / "docs"


def test_the_country_that_is_asked_about_is_the_evidence():
    told = asked()
    assert len(told) == len(CAPITALS) == len({each.text for each in told})
    for each in told:
        ((begin, end),) = each.words
        assert each.text[begin:end] == each.unit
        assert each.other == f" {CAPITALS[each.unit]}"
        assert sorted(each.text.replace(".", "").split()) == sorted(each.changed.replace(".", "").split())
        assert each.text.endswith(f"of {each.unit} is")
        assert not each.changed.endswith(f"of {each.unit} is")


def test_one_sentence_of_three_is_alike():
    told = likened()
    assert len(told) == TURNS * len(ALIKE)
    for each in told:
        ((begin, end),) = each.words
        assert each.text[begin:end] == each.unit
        assert (each.unit, each.other) in ALIKE
        assert each.unit not in each.changed
        assert each.text.count(". ") == each.changed.count(". ") == 2
        assert len(set(each.text.rstrip(".").split(". "))) == len(set(each.changed.rstrip(".").split(". "))) == 3
    assert {each.words[0][0] == 0 for each in told} == {True, False}


def test_figures_of_a_map_by_hand():
    found = figures(np.array([6.0, 1.0, 3.0, -2.0]), np.array([0.0, 0.0, 1.0, 0.0]))
    assert found == {"share": 0.3, "rest": 0.75, "pointing": 1.0, "auc": 1.0}


def test_a_word_sounds_the_same_whatever_was_said_before():
    pytest.importorskip("espeakng_loader", reason="espeakng-loader, of the dev extra, says the words")
    from known.speech import spoken

    first = spoken("apples")
    spoken("question")
    spoken.cache_clear()
    assert np.array_equal(spoken("apples"), first)


def test_the_words_sound_as_when_the_page_was_made():
    pytest.importorskip("espeakng_loader", reason="espeakng-loader, of the dev extra, says the words")
    from known.speech import speaker

    written = json.loads((DOCS / "known-truth.json").read_text(encoding="utf-8"))["speech"]["speaker"]
    now = speaker()
    if now["espeakng-loader"] != written["espeakng-loader"]:
        pytest.skip(f"the page was made by espeakng-loader {written['espeakng-loader']}")
    assert now == written
