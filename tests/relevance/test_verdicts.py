"""A proof does not outlive what it was given for: any sequence of calls gives the maps that a fresh model gives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError, InputError

D = 16


class Net(nn.Module):
    """Words and a picture, whose order and mixing flags, attributes and weights decide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.patches = nn.Embedding(50, D), nn.Conv2d(3, D, 8, 8)
        self.layers = nn.ModuleList(nn.MultiheadAttention(D, 4, batch_first=True) for _ in range(2))
        self.norms, self.head = nn.ModuleList(nn.LayerNorm(D) for _ in range(2)), nn.Linear(D, 5)
        self.neighbours = nn.Conv1d(D, D, 3, padding=1, bias=False)
        self.neighbours.weight.data.zero_()
        self.settings = {"picture": {"first": False}}
        self.mix = False

    def forward(
        self,
        tokens: Tensor,
        image: Tensor | None = None,
        pad: Tensor | None = None,
        image_first: bool = False,
        order: Tensor | None = None,
    ) -> Tensor:
        x = self.embed(tokens)
        if image is not None:
            picture = self.patches(image).flatten(2).transpose(1, 2)
            first = image_first or self.settings["picture"]["first"]
            x = torch.cat([picture, x] if first else [x, picture], 1)
        if order is not None:
            x = x.gather(1, order[..., None].expand_as(x))
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = norm(x + layer(x, x, x, key_padding_mask=pad)[0])
            if number == 0:
                x = x + self.neighbours(x.transpose(1, 2)).transpose(1, 2)
                x = x + x.mean(1, keepdim=True) if self.mix else x
        return self.head(x[:, 0])


def kinds(batch: int = 2) -> dict[str, dict[str, Any]]:
    torch.manual_seed(1)
    tokens, image = torch.randint(1, 50, (batch, 10)), torch.randn(batch, 3, 16, 16)
    hidden = torch.zeros(batch, 10, dtype=torch.bool)
    hidden[:, 7:] = True
    turned = torch.arange(10).flip(0).expand(batch, -1)
    return {
        "words": {"tokens": tokens},
        "fewer words": {"tokens": tokens[:, :4]},
        "mask": {"tokens": tokens, "pad": hidden},
        "float mask": {"tokens": tokens, "pad": hidden.float() * -1e9},
        "float mask of zeros": {"tokens": tokens, "pad": torch.zeros(batch, 10)},
        "mask before the words": {"pad": hidden.float() * -1e9, "tokens": tokens},
        "picture after": {"tokens": tokens, "image": image},
        "picture before": {"tokens": tokens, "image": image, "image_first": True},
        "flag that is false": {"tokens": tokens, "image": image, "image_first": False},
        "order": {"tokens": tokens, "order": turned},
        "order of each": {"tokens": tokens, "order": torch.stack([turned[0], torch.arange(10)])[:batch]},
        "same order": {"tokens": tokens, "order": torch.arange(10).expand(batch, -1)},
    }


def change(model: Net, how: str) -> None:
    if how == "attribute":
        model.settings["picture"]["first"] = not model.settings["picture"]["first"]
    if how == "mixing":
        model.mix = not model.mix
    if how == "weights":
        model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})
    if how == "zero weights that are learned":
        with torch.no_grad():
            model.neighbours.weight.add_(0.1)
    if how == "written by .data":
        model.neighbours.weight.data.fill_(0.3)
    if how == "back to zero":
        model.neighbours.weight.data.zero_()
    if how == "layers exchanged":
        model.layers = nn.ModuleList(reversed(list(model.layers)))
    if how == "double":
        model.double()
    if how == "float":
        model.float()


CHANGES = ("attribute", "mixing", "weights", "zero weights that are learned", "written by .data", "back to zero",
           "layers exchanged", "double", "float")  # fmt: skip


def outcome(model: Net, inputs: dict[str, Any]) -> Any:
    dtype = model.head.weight.dtype
    given = {k: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()}
    try:
        found = heedmap.explain(model, given, target=1)
    except HeedmapError as error:
        return type(error)
    return {name: s.relevance for name, s in found.segments.items()}


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, type) or isinstance(b, type):
        assert a is b
        return
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.one_of(st.sampled_from(CHANGES), st.sampled_from(list(kinds()))), min_size=2, max_size=7))
def test_any_sequence_of_calls(steps: list[str]) -> None:
    model, inputs = Net().eval(), kinds()
    for step in steps:
        if step in inputs:
            assert_same(outcome(model, inputs[step]), outcome(copy.deepcopy(model), inputs[step]))
        else:
            change(model, step)


@pytest.mark.parametrize("how", ["mixing", "zero weights that are learned", "written by .data"])
def test_mixing_that_begins_later_is_refused(how: str) -> None:
    model, words = Net().eval(), kinds()["words"]
    before = outcome(model, words)
    change(model, how)
    mixed = outcome(model, words)  # refused, or followed by token numbers: as a model that was never seen before
    assert_same(mixed, outcome(copy.deepcopy(model), words))
    assert isinstance(mixed, type) or not torch.equal(mixed["text"], before["text"])
    change(model, "back to zero")
    model.mix = False
    assert_same(outcome(model, words), before)


def test_a_float_mask_is_no_content() -> None:
    found = {name: outcome(Net().eval(), inputs) for name, inputs in kinds().items() if "mask" in name}
    for name in ("float mask", "mask before the words"):
        assert_same(found[name], found["mask"])
    assert all(maps.keys() == {"text"} for maps in found.values())


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50, pad_token_id=0)).eval()


def test_a_cache_of_earlier_tokens_is_refused_and_left_as_it_was() -> None:
    model, ids = llama(), torch.arange(5, 12)[None]
    with torch.no_grad():
        cache = model(ids[:, :6], use_cache=True).past_key_values
    with pytest.raises(InputError, match=r"6 earlier tokens.*give all tokens"):
        heedmap.explain(model, {"input_ids": ids[:, 6:], "past_key_values": cache})
    assert cache.get_seq_length() == 6


def test_an_empty_cache_is_like_none_and_stays_empty() -> None:
    from transformers import DynamicCache

    model, ids = llama(), torch.arange(5, 12)[None]
    cache, wanted = DynamicCache(config=model.config), heedmap.explain(model, ids)["text"]
    for _ in range(2):
        found = heedmap.explain(model, {"input_ids": ids, "past_key_values": cache})
        torch.testing.assert_close(found["text"], wanted)
        assert cache.get_seq_length() == 0
