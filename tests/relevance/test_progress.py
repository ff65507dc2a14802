"""A method that takes many passes tells how far it is, and what it gives does not depend on who listens."""

from __future__ import annotations

import pytest

import heedmap
from heedmap.methods.cards import CARDS

SLOW = {name for name, card in CARDS.items() if card.is_slow}
OPTIONS = {
    "integrated_gradients": {"steps": 5},
    "smoothgrad": {"samples": 3},
    "gradient_shap": {"samples": 4},
    "occlusion": {},
    "value_zeroing": {},
}
TEXT = "dog red ; cat blue ? cat"
STEPS = {"integrated_gradients": 5, "smoothgrad": 3, "gradient_shap": 4, "occlusion": 7, "value_zeroing": 7}


def test_every_slow_method_is_here() -> None:
    assert set(OPTIONS) == SLOW


@pytest.mark.parametrize("method", OPTIONS)
def test_each_pass_is_told(method: str) -> None:
    subject, told = heedmap.load("zoo/gpt-lists"), []
    found = subject.explain(text=TEXT, method=method, progress=lambda *step: told.append(step), **OPTIONS[method])
    assert told == [(number, STEPS[method]) for number in range(1, STEPS[method] + 1)]
    assert found == subject.explain(text=TEXT, method=method, **OPTIONS[method])


@pytest.mark.parametrize("method", OPTIONS)
def test_of_several_targets_in_rounds(method: str) -> None:
    subject, told = heedmap.load("zoo/gpt-lists"), []
    targets = ["red", "blue"]
    subject.explain(
        text=[TEXT, TEXT], target=targets, method=method, progress=lambda *step: told.append(step), **OPTIONS[method]
    )
    (of,) = {of for _, of in told}
    rounds = [told[start : start + of] for start in range(0, len(told), of)]
    assert len(rounds) in (1, len(targets))
    assert all(each == [(number, of) for number in range(1, of + 1)] for each in rounds)


def test_patches_are_counted() -> None:
    subject, told = heedmap.load("zoo/vit-shapes"), []
    photo = heedmap.zoo_sample("vit-shapes").picture
    subject.explain(image=photo, method="occlusion", progress=lambda *step: told.append(step))
    assert told[0] == (1, 144)
    assert told[-1] == (144, 144)
    assert len(told) == 144


def test_a_method_of_one_pass_tells_nothing_nor_does_what_runs_after() -> None:
    subject, told = heedmap.load("zoo/gpt-lists"), []
    subject.explain(text=TEXT, progress=lambda *step: told.append(step))
    subject.explain(text=TEXT, method="occlusion", progress=lambda *step: None)
    subject.explain(text=TEXT, method="occlusion")
    assert told == []


def test_who_listens_may_stop_it() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    wanted = subject.explain(text=TEXT, method="occlusion")

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    subject.model.train()
    with pytest.raises(KeyboardInterrupt):
        subject.explain(text=TEXT, method="occlusion", progress=stop)
    assert subject.model.training
    assert all(not module._forward_hooks for module in subject.model.modules())
    subject.model.eval()
    assert subject.explain(text=TEXT, method="occlusion") == wanted
