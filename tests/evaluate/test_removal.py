from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import heedmap
from heedmap import Explanation
from heedmap.errors import InputError
from heedmap.evaluate.answer import repeated
from heedmap.evaluate.masking import free_tokens, upsampled, without
from heedmap.targets import class_logits
from heedmap.zoo.samples import MATERIALS

NAMES = ("lxmert-shapes", "visualbert-shapes")


@pytest.fixture(scope="module", params=NAMES)
def asked(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    subject = heedmap.load(f"zoo/{request.param}")
    material = MATERIALS[request.param]
    samples = [material.make(index) for index in range(4)]
    return subject, material.inputs(subject, samples)


def _logits(subject: Any, inputs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return class_logits(subject.model(**inputs), 2)


def maps_of(subject: Any, inputs: dict[str, Any]) -> Explanation:
    return heedmap.explain(subject, inputs, method="random")


def _one(inputs: dict[str, Any], row: int) -> dict[str, Any]:
    return {name: value[row : row + 1] for name, value in inputs.items()}


@pytest.mark.parametrize("segment", ["text", "boxes"])
def test_dropped_tokens_are_as_if_they_had_never_been(asked: tuple[Any, dict[str, Any]], segment: str) -> None:
    """A batch that loses unequal numbers of tokens, against each sample alone, sliced by hand."""
    subject, inputs = asked
    width = inputs["input_ids"].shape[1] if segment == "text" else 10
    mask = inputs["attention_mask"] if segment == "text" else torch.ones(4, width, dtype=torch.long)
    keep = mask.bool() & (torch.rand(4, width, generator=torch.Generator().manual_seed(3)) < 0.6)
    keep[:, 0] = True
    dropped = _logits(subject, without(subject, inputs, maps_of(subject, inputs).segment(segment), keep, "drop"))
    for row in range(4):
        alone = _one(inputs, row)
        names = (
            ("input_ids", "attention_mask", "token_type_ids")
            if segment == "text"
            else tuple(n for n in alone if n.startswith("visual"))
        )
        cut = {name: value[:, keep[row]] if name in names else value for name, value in alone.items()}
        torch.testing.assert_close(dropped[row], _logits(subject, cut)[0], atol=2e-4, rtol=1e-4)


def test_without_any_box_the_picture_tells_nothing(asked: tuple[Any, dict[str, Any]]) -> None:
    subject, inputs = asked
    twice = repeated(inputs, 4, torch.tensor([0, 0]))
    other = {
        name: value[1:2].expand_as(twice[name]) if name.startswith("visual") else value
        for name, value in ((n, inputs[n]) for n in twice)
    }
    mixed = {
        name: torch.cat([twice[name][:1], other[name][1:2] if name.startswith("visual") else twice[name][1:2]])
        for name in twice
    }
    keep, boxes = torch.zeros(2, 10, dtype=torch.bool), maps_of(subject, inputs).segment("boxes")
    logits = _logits(subject, without(subject, mixed, boxes, keep, "drop"))
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=0)
    keep[0] = True  # a batch in which only one sample has lost all of them
    assert torch.allclose(_logits(subject, without(subject, mixed, boxes, keep, "drop"))[1], logits[1], atol=1e-4)


def test_masked_words_become_the_mask_token(asked: tuple[Any, dict[str, Any]]) -> None:
    subject, inputs = asked
    keep = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    keep[:, 2] = False
    made = without(subject, inputs, maps_of(subject, inputs).segment("text"), keep, "mask")
    assert (made["input_ids"][:, 2] == subject.tokenizer.mask_token_id).all()
    assert torch.equal(made["input_ids"][:, 3:], inputs["input_ids"][:, 3:])


def test_masked_boxes_have_no_features(asked: tuple[Any, dict[str, Any]]) -> None:
    subject, inputs = asked
    keep = torch.ones(4, 10, dtype=torch.bool)
    keep[1, 7] = False
    made = without(subject, inputs, maps_of(subject, inputs).segment("boxes"), keep, "mask")
    name = "visual_feats" if "visual_feats" in inputs else "visual_embeds"
    assert not made[name][1, 7].any()
    assert torch.equal(made[name][0], inputs[name][0])


def test_ends_and_the_read_token_stay(asked: tuple[Any, dict[str, Any]]) -> None:
    subject, inputs = asked
    maps = heedmap.explain(subject, inputs)
    free = free_tokens(subject, inputs, maps, "text")
    for row in range(4):
        words = subject.tokenizer.convert_ids_to_tokens(inputs["input_ids"][row].tolist())
        gone = {word for word, is_free in zip(words, free[row].tolist(), strict=True) if is_free}
        assert not gone & {"[CLS]", "[SEP]", "[PAD]"}
        read = int(inputs["attention_mask"][row].sum()) - 2
        assert bool(free[row, read]) == (subject.config.model_type == "lxmert")
    assert bool(free_tokens(subject, inputs, maps, "boxes").all())


def test_tokens_that_are_not_there_one_by_one_are_told(asked: tuple[Any, dict[str, Any]]) -> None:
    subject, inputs = asked
    maps = maps_of(subject, inputs)
    with pytest.raises(InputError, match="one entry of the inputs"):
        without(subject, inputs, maps.segment("text"), torch.ones(4, 99, dtype=torch.bool), "drop")
    with pytest.raises(InputError, match="pixel_values"):
        without(subject, inputs, replace(maps.segment("boxes"), name="image"), torch.ones(4, 2, 2), "drop")


def test_a_map_is_scaled_up_bilinearly_or_patch_by_patch() -> None:
    flat = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    blocks = upsampled(flat, (2, 2), (4, 4), smooth=False)
    assert blocks[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    smooth = upsampled(flat, (2, 2), (4, 4), smooth=True)
    assert smooth[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])
