"""TAM and DEX-AR of a token that a model says of a picture among its words, against slow oracles in float64; what they refuse."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.errors import OptionError, UnfollowedAttentionError
from heedmap.methods.spoken import filtered
from heedmap.targets import NextToken
from oracles.dex_ar import dex_ar, slopes
from oracles.tam import smoothed, tam

PICTURE, GRID = 49, (4, 4)
NAMES = ["llava", "paligemma"]


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(11)
    inputs = CASES[name].inputs()
    model = livened(CASES[name].build()).double()
    return model, {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def places(ids: list[int], row: int) -> tuple[list[int], list[int]]:
    """The picture's places, and those of words up to ``row``."""
    shown = [n for n, token in enumerate(ids) if token == PICTURE]
    return shown, [n for n, token in enumerate(ids) if token != PICTURE and n <= row]


def spread(found: heedmap.Explanation, sample: int, tokens: int) -> np.ndarray:
    """Relevance of the picture's tokens and of words, at their places."""
    whole = np.zeros(tokens)
    for name in ("text", "image"):
        segment = found.segments[name]
        for place, value in zip(segment.positions[sample].tolist(), segment.relevance[sample].tolist(), strict=True):
            if place >= 0:
                whole[place] += value
    return whole


@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize(
    ("row", "token"), [(19, 23), (20, 23), (20, 10), (20, 14)]
)  # the last two: said before, in one sample
@pytest.mark.parametrize("name", NAMES)
def test_tam_is_that_of_states_times_the_head(name: str, row: int, token: int, sample: int) -> None:
    model, inputs = built(name)
    found = heedmap.explain(model, inputs, target=NextToken(token, row), method="tam", memory_budget=4096)
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[-1][sample].numpy()
    head = model.get_output_embeddings().weight.detach().numpy()
    ids = inputs["input_ids"][sample].tolist()
    shown, words = places(ids, row)
    after = [place for place in words if place > shown[-1]]
    ids = [*ids[: row + 1], token]
    picture, of_words = tam(states, head, ids, shown, after, row, GRID)
    wanted = np.zeros(len(inputs["input_ids"][sample]))
    wanted[shown] = picture.ravel()
    wanted[list(of_words)] = list(of_words.values())
    assert wanted[shown].max() > 1e-3
    np.testing.assert_allclose(spread(found, sample, len(wanted)), wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("layers", [1, 10])
@pytest.mark.parametrize("name", NAMES)
def test_dex_ar_is_that_of_each_layers_own_guess(name: str, layers: int, sample: int) -> None:
    model, inputs = built(name)
    row, token = 20, 9
    found = heedmap.explain(
        model, inputs, target=NextToken(token, row), method="dex_ar", layers=layers, memory_budget=4096
    )
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    language = eager.model.language_model
    alone = {key: value[sample : sample + 1] for key, value in inputs.items()}
    ids = inputs["input_ids"][sample].tolist()
    heads = language.config.num_attention_heads
    of_each = slopes(eager, alone, language.layers, lambda x: eager.lm_head(language.norm(x)), token, row, heads)
    wanted = dex_ar([*of_each][-layers:], len(ids), *places(ids, row))
    shown, _ = places(ids, row)
    assert wanted[shown].max() > 1e-6
    np.testing.assert_allclose(spread(found, sample, len(ids)), wanted, rtol=1e-4, atol=1e-7 * wanted.max())


def test_the_filter_of_a_grid_is_that_of_its_windows() -> None:
    picture = torch.rand(5, 7, dtype=torch.float64)
    picture[2:, :4] = 0.5  # windows of one value
    picture[:3, 4:] = 0
    np.testing.assert_allclose(filtered(picture), smoothed(picture.numpy()), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("method", ["tam", "dex_ar"])
def test_an_answer_has_the_map_of_each_of_its_tokens(method: str) -> None:
    model, inputs = built("llava")
    alone = {key: value[:1] for key, value in inputs.items()}
    answer = [23, 9, 31]
    found = heedmap.explain_answer(model, alone, answer=answer, method=method)
    for step, token in enumerate(answer):
        given = torch.cat([alone["input_ids"], torch.tensor([answer[:step]], dtype=torch.int64)], 1)
        until = {**alone, "input_ids": given, "attention_mask": torch.ones_like(given)}
        single = heedmap.explain(model, until, target=NextToken(token), method=method)
        torch.testing.assert_close(found["image"][:, step], single["image"], rtol=1e-4, atol=1e-6)
        words = torch.cat([found["text"][:, step], found["answer"][:, step, :step]], 1)
        torch.testing.assert_close(words, single["text"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["tam", "dex_ar"])
def test_a_contrast_is_of_the_difference_of_two_logits(method: str) -> None:
    model, inputs = built("llava")
    with_head = copy.deepcopy(model)
    with torch.no_grad():  # a token whose logit is that difference
        with_head.lm_head.weight[40] = model.lm_head.weight[23] - model.lm_head.weight[9]
    options = {"interference": False} if method == "tam" else {}
    target = heedmap.targets.Contrast(NextToken(23), NextToken(9))
    found = heedmap.explain(model, inputs, target=target, method=method, **options)
    wanted = heedmap.explain(with_head, inputs, target=NextToken(40), method=method, **options)
    assert float(found["image"].max()) > 0
    torch.testing.assert_close(found["image"], wanted["image"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["tam", "dex_ar"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("llama", "stands no picture"),
        ("bart", "stands no picture"),
        ("vit", "is not made of the logits|have shape"),
        ("clip", "reads 2 streams"),
    ],
)
def test_models_without_a_picture_among_their_words_are_refused(method: str, name: str, why: str) -> None:
    with pytest.raises(UnfollowedAttentionError, match=f"'{method}' is not defined here: .*({why}).*choose 'generic'"):
        heedmap.explain(
            *built(name), target=CASES[name].target if CASES[name].target != "pairs" else None, method=method
        )


@pytest.mark.parametrize("method", ["tam", "dex_ar"])
def test_a_target_that_is_no_logit_is_refused(method: str) -> None:
    model, inputs = built("llava")
    with pytest.raises(UnfollowedAttentionError, match="not the logit of one token"):
        heedmap.explain(model, inputs, target=lambda output: output.logits[:, -1].softmax(-1)[:, 9], method=method)
    with pytest.raises(UnfollowedAttentionError, match="not the logit of one token"):
        heedmap.explain(model, inputs, target=lambda output: output.logits[:, -2:, 9].sum(1), method=method)


def test_dex_ar_needs_a_head_that_makes_the_logits_alone() -> None:
    model, inputs = copy.deepcopy(built("llava")[0]), built("llava")[1]
    whole = model.forward

    def halved(*args: Any, **options: Any) -> Any:
        output = whole(*args, **options)
        output.logits = output.logits / 2
        return output

    model.forward = halved  # type: ignore[method-assign]
    with pytest.raises(UnfollowedAttentionError, match="no head of the model makes its logits"):
        heedmap.explain(model, inputs, target=NextToken(9), method="dex_ar")
    assert float(heedmap.explain(model, inputs, target=NextToken(9), method="tam")["image"].max()) > 0


def test_a_grid_that_does_not_fit_is_refused() -> None:
    model, inputs = built("llava")
    for grid in ((3, 5), 16):
        with pytest.raises(OptionError, match=rf"grid is {re.escape(repr(grid))}.*16 tokens"):
            heedmap.explain(model, inputs, target=NextToken(9), method="tam", grid=grid)
    wide = heedmap.explain(model, inputs, target=NextToken(9), method="tam", grid=(2, 8))
    assert not torch.allclose(wide["image"], heedmap.explain(model, inputs, target=NextToken(9), method="tam")["image"])
