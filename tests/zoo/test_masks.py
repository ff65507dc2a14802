"""Random masks while a zoo model learns: what is masked, how much, that it begins with the shipped weights and goes on bit for bit."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.errors import InputError
from heedmap.zoo.recipe import MaskedStage
from heedmap.zoo.recipes import ZOO
from heedmap.zoo.run import RandomMasks, Training


def called(name: str, share: float, inputs: dict[str, Any]) -> dict[str, Any]:
    subject = heedmap.load(f"zoo/{name}")
    torch.manual_seed(0)
    args, found = RandomMasks(subject, share)(subject.model.base_model, (), inputs)
    assert args == ()
    return found


def test_words_become_the_mask_token_and_boxes_empty() -> None:
    subject = heedmap.load("zoo/visualbert-shapes")
    ids = subject.tokenizer(["is there a red star ?"] * 400, return_tensors="pt")
    boxes = torch.ones(400, 10, 202)
    found = called("visualbert-shapes", 0.3, {**ids, "visual_embeds": boxes})
    masked = found["input_ids"] == subject.tokenizer.mask_token_id
    assert not masked[:, [0, -1]].any(), "[CLS] and [SEP] stay"
    assert float(masked[:, 1:-1].float().mean()) == pytest.approx(0.3, abs=0.03)
    assert torch.equal(found["input_ids"][~masked], ids["input_ids"][~masked])
    gone = (found["visual_embeds"] == 0).all(-1)
    assert torch.equal(gone, (found["visual_embeds"] == 0).any(-1))
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(("name", "side"), [("vit-shapes", 8), ("swin-shapes", 4)])
def test_whole_patches_become_the_mean_colour(name: str, side: int) -> None:
    pixels = torch.ones(20, 3, 96, 96)
    found = called(name, 0.3, {"pixel_values": pixels})["pixel_values"]
    patches = found.unfold(2, side, side).unfold(3, side, side).transpose(1, 3).flatten(3)
    assert torch.equal((patches == 0).any(-1), (patches == 0).all(-1))
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.03)


class Sound:
    """As much of a model as says what it takes."""

    name = "sound"
    kind_row = SimpleNamespace(takes=("audio",), about="sound")


def test_a_model_of_sound_is_refused() -> None:
    masks = RandomMasks(Sound(), 0.3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="random masks are for words, boxes and patches"):
        masks(torch.nn.Linear(1, 1), (), {})


def test_a_model_that_answers_a_picture_in_words_is_refused() -> None:
    with pytest.raises(InputError, match="its tower is called apart"):
        Training(ZOO["idefics-shapes"].masked(0.3, steps=1))


def test_it_begins_with_the_shipped_weights_and_goes_on_bit_for_bit() -> None:
    recipe = ZOO["visualbert-shapes"].masked(0.3, steps=3)
    stage = replace(recipe.stages[0], batch=4, checked=8)
    recipe = replace(recipe, stages=(stage,))
    assert isinstance(stage, MaskedStage)
    run = Training(recipe)
    shipped = heedmap.load("zoo/visualbert-shapes").model.state_dict()
    assert all(torch.equal(weight, shipped[name]) for name, weight in run.model.state_dict().items())
    run.advance()
    state = copy.deepcopy(run.state())
    other = Training(recipe, copy.deepcopy(state))
    for each in (run, other):
        torch.set_rng_state(state["random"])
        each.advance()
    assert all(torch.equal(weight, other.model.state_dict()[name]) for name, weight in run.model.state_dict().items())
    assert not all(torch.equal(weight, shipped[name]) for name, weight in run.model.state_dict().items())


def test_of_a_model_that_says_what_it_reads_is_masked_alone() -> None:
    recipe = ZOO["bart-dates"].masked(0.5, steps=2)
    run = Training(replace(recipe, stages=(replace(recipe.stages[0], batch=4, checked=8),)))
    read, said = list[torch.Tensor](), list[torch.Tensor]()
    bart = run.model.base_model
    bart.encoder.embed_tokens.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    bart.decoder.embed_tokens.register_forward_pre_hook(lambda _, given: said.append(given[0]))
    filler = heedmap.load("zoo/bart-dates").tokenizer.unk_token_id
    run.advance()
    run.evaluate()
    assert len(read) >= 2, "in training and in scoring"
    assert all((ids == filler).any() for ids in read)
    assert not any((ids == filler).any() for ids in said)


def test_a_model_that_is_not_shipped_cannot_be_gone_on_from() -> None:
    result = CliRunner().invoke(app, ["zoo", "train", "lxmert-easy-vqa", "--masked", "0.3", "--out", "nowhere"])
    assert result.exit_code == 2
    assert "is not shipped" in result.stderr
