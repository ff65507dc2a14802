"""What lets tokens mix is not always in the model: a proof holds for the code that ran, and for no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace

import pytest
import torch
from hand_mixers import LENGTH, WIDTH, Attention, Switched
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import heedmap

OUTSIDE = SimpleNamespace(mixes=False, share=0.0)
"""Stands for a constant of a Python file, which no module holds."""


class Words(Switched):
    """Of which not only an attribute says whether its convolution takes part."""

    mixes = False

    def __init__(self, windows: int = 1) -> None:
        super().__init__(False, windows)
        del self.mixes  # the class has it

    def has_mixing(self, input_ids: Tensor) -> bool:
        return OUTSIDE.mixes or self.mixes or bool((input_ids == 8).any())


class Scaled(Words):
    """Tokens get a share of those before them, which may be nothing."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.before(self.words(input_ids))
        x = x + OUTSIDE.share * x.cumsum(1)
        out: Tensor = self.head(self.after(x)[:, -1])
        return out


WORDS = {"input_ids": torch.arange(LENGTH)[None] % 8}
OTHERS = {"input_ids": torch.arange(LENGTH)[None] % 9}


@contextmanager
def outside(**changed: float) -> Iterator[None]:
    before = dict(vars(OUTSIDE))
    vars(OUTSIDE).update(changed)
    try:
        yield
    finally:
        vars(OUTSIDE).update(before)


@contextmanager
def of_class(**changed: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setattr(Words, name, value)
        yield


def mixing(self: Words, input_ids: Tensor) -> Tensor:
    with outside(mixes=True):
        return plain(self, input_ids)


plain = Words.forward


@contextmanager
def hooked() -> Iterator[None]:
    def mixed(module: nn.Module, _: object, out: Tensor) -> Tensor | None:
        return out + out.cumsum(1) if isinstance(module, Attention) else None

    handle = nn.modules.module.register_module_forward_hook(mixed)
    try:
        yield
    finally:
        handle.remove()


CHANGES = {
    "a constant of a file": lambda: outside(mixes=True),
    "a flag of the class": lambda: of_class(mixes=True),
    "another forward of the class": lambda: of_class(forward=mixing),
    "a hook of all modules": hooked,
}


def relevance(model: nn.Module, inputs: dict[str, Tensor] = WORDS) -> Tensor:
    return heedmap.explain(model, inputs, target=0)["text"]


@pytest.mark.parametrize("windows", [1, 2], ids=["first recorder", "second recorder"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_proved_does_not_outlive(change: Callable[[], AbstractContextManager[None]], windows: int) -> None:
    model = Words(windows)
    before = relevance(model)
    with change():
        changed = relevance(model)
        assert torch.equal(changed, relevance(Words(windows)))
    assert not torch.allclose(changed, before)
    assert torch.equal(relevance(model), before)


def test_a_number_that_was_zero() -> None:
    model = Scaled()
    before = relevance(model)
    with outside(share=0.5):
        assert torch.equal(changed := relevance(model), relevance(Scaled()))
    assert not torch.allclose(changed, before)


@pytest.mark.parametrize("windows", [1, 2], ids=["first recorder", "second recorder"])
def test_words_by_which_the_model_goes_another_way_are_proved_too(windows: int) -> None:
    model = Words(windows)
    for inputs in (WORDS, OTHERS, WORDS, OTHERS):
        assert torch.equal(relevance(model, inputs), relevance(Words(windows), inputs))


def test_an_attention_function_that_is_replaced_where_all_models_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=9, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=WIDTH
    )
    model = BertForSequenceClassification(config).double().eval()
    before = relevance(model)
    usual = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def rolled(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: object, **options: object
    ) -> object:
        return usual(module, query, key, value.roll(1, 2), *args, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", rolled)
    changed = relevance(model)
    torch.manual_seed(0)
    fresh = BertForSequenceClassification(config).double().eval()
    assert torch.equal(changed, relevance(fresh))
    assert not torch.allclose(changed, before, atol=0)
