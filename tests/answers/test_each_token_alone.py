"""The law of explained answers: the map of each token is that of the prompt with the tokens before it, explained alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import ANSWERS, FAMILIES, Family, Inputs
from torch import Tensor

import heedmap

WORDS = ("input_ids", "decoder_input_ids")


def built(name: str) -> tuple[Family, Any, Inputs]:
    torch.manual_seed(0)
    family = FAMILIES[name]
    return family, family.build(), family.inputs()


def alone(family: Family, inputs: Inputs, sample: int, begun: Tensor, before: list[int]) -> Inputs:
    """One sample without padding, called with the tokens before the one that is explained."""
    said = torch.tensor([before], dtype=torch.long)
    one = {name: value.unflatten(0, (2, -1))[sample] for name, value in inputs.items()}
    if family.decoder:
        if "attention_mask" in one:
            real = one["attention_mask"][0] != 0
            one |= {name: one[name][:, real] for name in ("input_ids", "attention_mask")}
        return {**one, "decoder_input_ids": torch.cat([begun, said], 1)}
    one.setdefault("input_ids", torch.tensor([[1]]))
    real = one.get("attention_mask", torch.ones_like(one["input_ids"]))[0] != 0
    for name, value in one.items():
        if name == "input_ids" or name in family.more:
            more = said if name == "input_ids" else value.new_full((1, len(before)), family.more[name])
            one[name] = torch.cat([value[:, real], more], 1)
    return one


def assert_same(found: Tensor, alone: Tensor, most: float) -> None:
    assert found.shape == alone.shape
    assert (found - alone).abs().max() <= 1e-5 * most if alone.numel() else True


@pytest.mark.parametrize("name", FAMILIES)
def test_the_map_of_a_token_is_that_of_what_comes_before_it_alone(name: str) -> None:
    family, model, inputs = built(name)
    found = heedmap.explain_answer(model, inputs, answer=ANSWERS)
    assert found.answer.tokens.tolist() == [ANSWERS[0], [*ANSWERS[1], -1, -1]]
    words = "decoder" if family.decoder else "text"
    begun = len(found.segments[words].positions[0])
    for sample, answer in enumerate(ANSWERS):
        for step, token in enumerate(answer):
            start = torch.tensor([[FIRST.get(name, 2)] * begun])
            given = alone(family, inputs, sample, start, answer[:step])
            own = heedmap.explain(model, given, target=heedmap.targets.NextToken(token))
            most = float(max(segment.relevance.max() for segment in own.segments.values()))
            assert most > 0
            assert found.scores[sample, step] == pytest.approx(float(own.scores[0]), rel=1e-6)
            assert float(found.answer.probabilities[sample, step]) == pytest.approx(float(own.top.target[0]), rel=1e-5)
            for key, segment in own.segments.items():
                here, map_ = found[key][sample, step], segment.relevance[0]
                if key == words:
                    prompt = map_.shape[0] - step
                    assert_same(
                        here[found.segments[key].positions[sample] >= 0],
                        map_[:prompt][segment.positions[0, :prompt] >= 0],
                        most,
                    )
                    assert_same(found["answer"][sample, step, :step], map_[prompt:], most)
                    assert not found["answer"][sample, step, step:].any()
                else:
                    taken = found.segments[key].positions[sample] >= 0
                    map_ = map_[segment.positions[0] >= 0]
                    assert_same(here[taken][: len(map_)], map_, most)


FIRST = {"t5": 0, "blip2-t5": 0, "blip-vqa": 1}
"""The token with which a decoder begins, where it is not 2."""
