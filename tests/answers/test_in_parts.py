"""A long answer is said in several passes, each without what comes after its part; the maps are those of one pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import FAMILIES

import heedmap
from heedmap.models import forced
from heedmap.models.forced import part_ends as parts_of

LONG = [[7, 30, 9, 12, 41, 5, 21, 8, 33, 14, 6], [21, 8, 33, 40, 3, 17, 9]]


@pytest.mark.parametrize("name", ["gpt2", "llava", "gemma3"])
@pytest.mark.parametrize(("method", "options"), [("generic", {}), ("rollout", {})])
def test_parts_change_nothing(name: str, method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, inputs = FAMILIES[name].build(), FAMILIES[name].inputs()
    contrast = [[3] * 11, [4] * 7 + [-1] * 4]
    asked: dict[str, Any] = {"answer": LONG, "contrast": contrast, "method": method, **options}
    whole = heedmap.explain_answer(model, inputs, **asked)
    told: list[tuple[int, int]] = []
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True)
    monkeypatch.setattr(forced, "part_ends", lambda prompt, steps: [2, 4, 8, steps])
    found = heedmap.explain_answer(model, inputs, progress=lambda done, of: told.append((done, of)), **asked)
    assert len(set(lengths)) >= 3, "three passes: the fourth part would be one in which a sample says nothing"
    assert told == sorted(told)
    assert told[-1] == (11, 11)
    for key, segment in whole.segments.items():
        most = float(segment.relevance.max())
        assert most > 0
        assert torch.allclose(found[key], segment.relevance, rtol=1e-5, atol=1e-6 * most), key
    assert torch.allclose(found.scores, whole.scores, rtol=1e-6)
    assert torch.allclose(found.answer.probabilities, whole.answer.probabilities, rtol=1e-5)
    assert found.answer.targets == whole.answer.targets
    assert found.answer.top_labels == whole.answer.top_labels


def test_only_long_answers_are_said_in_parts() -> None:
    assert parts_of(256, 64) == [64]
    assert parts_of(2048, 20) == [20]
    ends = parts_of(50, 512)
    assert ends[-1] == 512
    assert 3 <= len(ends) <= 8
    assert ends == sorted(set(ends))
