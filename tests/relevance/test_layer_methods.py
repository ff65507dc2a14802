"""Attention × gradient and LeGrad against whole matrices from the models' own eager attention, in float64."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.errors import OptionError, UnknownNameError

CLOSE = {"rtol": 1e-5, "atol": 1e-7}
Layers = list[tuple[Tensor, Tensor]]
"""A and ∂y/∂A of each layer."""


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor], dict[str, Layers]]:
    """A model, what it is called with, and its own attentions with their gradients, by kind."""
    torch.manual_seed(5)
    model, inputs = livened(CASES[name].build()).double(), CASES[name].inputs()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    found = eager(**inputs, output_attentions=True)
    logits = found.logits[:, -1] if found.logits.dim() == 3 else found.logits
    kinds = ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions")
    own = {kind: found[kind] for kind in kinds if found.get(kind) is not None}
    flat = [a for layers in own.values() for a in layers]
    gradients = iter(torch.autograd.grad(logits.amax(-1).sum(), flat))
    return model, inputs, {k: [(a.detach(), next(gradients)) for a in layers] for k, layers in own.items()}


def one_layer(layer: tuple[Tensor, Tensor], row: int, positive: bool) -> Tensor:
    product = layer[0] * layer[1]
    return (product.clamp(min=0) if positive else product).mean(1)[:, row]


def legrad(layers: Layers) -> Tensor:
    return torch.stack([gradient.clamp(min=0).mean((1, 2)) for _, gradient in layers]).sum(0)


def check(found: Tensor, expected: Tensor, own: int | None = None) -> None:
    """``own``: the token that is read, whose relevance is left out."""
    expected = expected.clone()
    if own is not None:
        expected[:, own] = 0
    assert float(expected.abs().max()) > 1e-6
    torch.testing.assert_close(found.double(), expected, **CLOSE)


def explain(name: str, **options: Any) -> heedmap.Explanation:
    model, inputs, _ = built(name)
    return heedmap.explain(model, inputs, **options)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("layer", [-1, 0, 1])
@pytest.mark.parametrize(("name", "row"), [("bert", 0), ("vit", 0), ("llama", -1), ("bart", -1)])
def test_attention_times_its_gradient(name: str, row: int, layer: int, positive: bool) -> None:
    own = built(name)[2]
    found = explain(name, method="attention_x_gradient", layer=layer, positive=positive)
    if name == "bart":
        check(found["decoder"], one_layer(own["decoder_attentions"][layer], row, positive), own=row)
        check(found["text"], one_layer(own["cross_attentions"][layer], row, positive))
    else:
        expected = one_layer(own["attentions"][layer], row, positive)
        check(found.segments[CASES_OF[name]].relevance, *((expected[:, 1:],) if name == "vit" else (expected, row)))


CASES_OF = {"bert": "text", "llama": "text", "vit": "image"}


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(("name", "row"), [("bert", 0), ("vit", 0), ("llama", -1)])
def test_legrad_of_one_stream(name: str, row: int, start: int) -> None:
    expected = legrad(built(name)[2]["attentions"][start:])
    found = explain(name, method="legrad", start_layer=start)
    check(found[CASES_OF[name]], *((expected[:, 1:],) if name == "vit" else (expected, row)))


def test_legrad_of_an_encoder_and_a_decoder() -> None:
    own = built("bart")[2]
    found = explain("bart", method="legrad")
    check(found["decoder"], legrad(own["decoder_attentions"]), own=-1)
    check(found["text"], legrad(own["cross_attentions"]) + legrad(own["encoder_attentions"]))


def test_legrad_counts_once_what_two_streams_hear() -> None:
    """A trace of the boxes in the target: both streams are read, and relevance stays what it was."""
    from transformers import LxmertConfig, LxmertModel

    torch.manual_seed(5)
    config = CASES["lxmert"].build().config.to_dict()
    model, inputs = livened(LxmertModel(LxmertConfig(**config))).double(), CASES["lxmert"].inputs()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}

    def words(output: Any) -> Tensor:
        return output.language_output[:, 0, 0]

    def both(output: Any) -> Tensor:
        return output.language_output[:, 0, 0] + 1e-9 * output.vision_output[:, 0, 0]

    one, two = heedmap.explain(model, inputs, target=[words, both], method="legrad", drop_self=False)
    assert [stream.rows is None for stream in one.flow.streams] == [False, True]
    assert [stream.rows is None for stream in two.flow.streams] == [False, False]
    for segment in one.segments:
        assert float(one[segment].abs().max()) > 1e-6
        torch.testing.assert_close(two[segment], one[segment], **CLOSE)


@pytest.mark.parametrize("method", ["attention_x_gradient", "legrad"])
@pytest.mark.parametrize("name", ["bert", "bart"])
def test_whole_maps_have_the_rows_that_are_read(name: str, method: str) -> None:
    rows, whole = (explain(name, method=method, full=full, drop_self=False) for full in (False, True))
    stream, row = ("decoder", -1) if name == "bart" else ("text", 0)
    for segment in rows.segments:
        torch.testing.assert_close(whole.maps[stream, segment][:, row], rows[segment], **CLOSE)


def test_layers_that_are_not_there() -> None:
    with pytest.raises(OptionError, match="layer 3 of stream 'text' is out of range: it has 3 layers"):
        explain("bert", method="attention_x_gradient", layer=3)
    with pytest.raises(OptionError, match="layer is 'last'"):
        explain("bert", method="attention_x_gradient", layer="last")
    with pytest.raises(UnknownNameError, match="no stream 'sound' for layer"):
        explain("bart", method="attention_x_gradient", layer={"sound": 1})
    with pytest.raises(OptionError, match="no option 'layer'"):
        explain("bert", method="legrad", layer=1)
