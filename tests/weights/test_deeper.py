"""Deep models of the zoo's tasks: what they begin as, and what a layer left out is."""

from __future__ import annotations

import copy

import pytest
import torch

import depth
import heedmap
from heedmap.zoo.recipe import task_of
from heedmap.zoo.recipes import ZOO
from known import grown


@pytest.fixture(scope="module")
def shallow():
    return heedmap.load("zoo/vit-shapes").model


@pytest.fixture(scope="module")
def deep():
    stage = depth.DEEP["vit-shapes-12"].stages[0]
    return grown.model(stage.settings, None).eval()


def pixels(count: int = 2) -> torch.Tensor:
    return grown.batch(0, "val", 0, count)["pixel_values"]


def test_with_each_first_step_whole_and_the_others_nothing_it_is_the_zoos_model(shallow, deep):
    whole, place = copy.deepcopy(deep), 0
    with torch.no_grad():
        for parts in grown.PARTS:
            for step in range(parts):
                layer = whole.vit.layers[place]
                for written in (layer.attention.o_proj, layer.mlp.fc2):
                    written.weight *= parts if step == 0 else 0
                    written.bias *= parts if step == 0 else 0
                place += 1
        assert place == len(whole.vit.layers) == 12
        torch.testing.assert_close(whole(pixels()).logits, shallow(pixels()).logits, rtol=1e-4, atol=1e-4)


def test_cut_into_steps_it_says_much_the_same_at_once(deep):
    score = task_of("known.grown").scores
    with torch.no_grad():
        assert score(deep, 0, "val", 20)["accuracy"] > score(deep, 0, "val", 20)["always-no"]


def test_a_layer_left_out_is_a_model_that_has_it_not(shallow, monkeypatch):
    monkeypatch.setattr(depth, "TRIED", 10)
    found = depth.without("vit-shapes-12", shallow)
    assert list(found) == ["all", *(f"vit.layers.{n}" for n in range(5))]
    shorter = copy.deepcopy(shallow)
    del shorter.vit.layers[3]
    with torch.no_grad():
        scores = [grown.scores(model, 0, "test", 10)["accuracy"] for model in (shallow, shorter)]
    assert [found["all"], found["vit.layers.3"]] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("name", depth.DEEP)
def test_a_deep_model_is_scored_as_the_zoos(name):
    deep, zoo = depth.DEEP[name].stages[-1], ZOO[depth.SHALLOW[name]].stages[-1]
    assert deep.watched == zoo.watched
    assert task_of(deep.task).scores is task_of(zoo.task).scores
    assert task_of(deep.task).batch is task_of(zoo.task).batch
