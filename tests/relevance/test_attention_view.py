"""Attention head by head, against what models return under eager attention, autograd, and the rollout of whole maps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PoolFormerConfig, PoolFormerModel

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.engine.heads import AttentionHeads
from heedmap.errors import InputError, OptionError, UnknownNameError

NAMES = ("bert", "vit", "llama")


def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """In float64, one sample."""
    torch.manual_seed(3)
    model, inputs = livened(CASES[name].build()).double(), CASES[name].inputs()
    return model, {k: v[:1].double() if v.is_floating_point() else v[:1] for k, v in inputs.items()}


def eager(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("eager")
    return twin


@pytest.mark.parametrize("name", NAMES)
def test_the_heads_are_those_that_the_model_returns(name: str) -> None:
    model, inputs = built(name)
    found = heedmap.heads(model, inputs)
    with torch.no_grad():
        returned = eager(model)(**inputs, output_attentions=True).attentions
    assert len(found) == len(returned)
    for attention, expected in zip(found.attentions, returned, strict=True):
        torch.testing.assert_close(attention.weights.double(), expected[0], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(attention.mean.double(), expected[0].mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_relevance_is_the_positive_part_of_attention_times_its_gradient(name: str) -> None:
    model, inputs = built(name)
    found = heedmap.heads(model, inputs, weights="relevance", target=lambda output: output.logits.flatten(1)[:, -1])
    output = eager(model)(
        **inputs, output_attentions=True
    )  # ViT and Llama: its softmax is in float32, whatever the model
    gradients = torch.autograd.grad(output.logits.flatten(1)[0, -1], output.attentions)
    for attention, A, gradient in zip(found.attentions, output.attentions, gradients, strict=True):
        torch.testing.assert_close(attention.weights.double(), (A * gradient)[0].clamp(min=0), rtol=1e-4, atol=1e-7)
    assert max(float(attention.weights.max()) for attention in found.attentions) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_rollout_of_all_is_the_methods_whole_map(name: str) -> None:
    model, inputs = built(name)
    whole = heedmap.explain(model, inputs, method="rollout", full=True, drop_self=False).maps
    (stream,) = {attention.info.stream for attention in heedmap.heads(model, inputs).attentions}
    found = heedmap.heads(model, inputs)
    torch.testing.assert_close(found.rollout(), whole[stream, stream][0], rtol=1e-5, atol=1e-7)
    later = heedmap.explain(model, inputs, method="rollout", full=True, drop_self=False, start_layer=1).maps
    torch.testing.assert_close(found.rollout(first=1), later[stream, stream][0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.rollout(), found.rollout(1) @ found.rollout(0, 0), rtol=1e-5, atol=1e-7)


def test_an_encoder_decoder_has_both_streams() -> None:
    subject = heedmap.load("zoo/bart-dates")
    found = subject.heads(text="3 may 1987")
    encoder, decoder = (len(found.tokens[stream]) for stream in ("text", "decoder"))
    assert {(a.info.stream, a.info.source): tuple(a.weights.shape[1:]) for a in found.attentions} == {
        ("text", "text"): (encoder, encoder),
        ("decoder", "decoder"): (decoder, decoder),
        ("decoder", "text"): (decoder, encoder),
    }
    assert found.tokens["decoder"][0] == "<s>"
    for attention in found.attentions:
        torch.testing.assert_close(attention.weights.sum(-1), torch.ones(attention.weights.shape[:2]))
    with pytest.raises(OptionError, match="range of self-attentions of one stream"):
        found.rollout()
    numbers = [a.info.index for a in found.attentions if a.info.source == a.info.stream == "text"]
    assert found.rollout(numbers[0], numbers[-1]).shape == (encoder, encoder)


def test_windows_have_the_mean_of_their_heads() -> None:
    subject, sample = heedmap.load("zoo/swin-shapes"), heedmap.zoo_sample("swin-shapes")
    found = subject.heads(**sample.inputs)
    assert all(attention.averaged and len(attention.weights) == 1 for attention in found.attentions)
    for attention in found.attentions:
        torch.testing.assert_close(attention.mean.sum(-1), torch.ones(attention.info.queries))
    assert max(float((attention.mean == 0).float().mean()) for attention in found.attentions) > 0.5  # one window in all


def test_mixers_have_relevance_alone() -> None:
    """Where no attention is softmax attention."""
    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 16], "depths": [2, 1], "num_encoder_blocks": 2}
    sizes |= {"patch_sizes": [3, 3], "strides": [2, 2], "padding": [1, 1]}
    model, inputs = livened(PoolFormerModel(PoolFormerConfig(**sizes))), {"pixel_values": torch.randn(1, 3, 16, 16)}
    asked = {"target": lambda output: output.last_hidden_state[:, :, 1, 2].sum(1)}
    with pytest.raises(OptionError, match=r"in no softmax attention here, .* weights='relevance' shows"):
        heedmap.heads(model, inputs, **asked)
    found = heedmap.heads(model, inputs, weights="relevance", **asked)
    assert [a.mean.shape[0] for a in found.attentions] == [64, 64, 16]
    assert all(a.averaged and float(a.mean.max()) > 0 for a in found.attentions)


def test_what_is_asked_most_and_how_wide() -> None:
    info = heedmap.load("zoo/gpt-lists").heads(text="dog red ? dog").attentions[0].info
    weights = torch.tensor([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], [[0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]])
    attention = AttentionHeads(info, weights)
    assert attention.favourites == [0, 0]
    torch.testing.assert_close(attention.spread, torch.tensor([1.5, 4.0]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"weights": "mean"}, "expected one of 'attention', 'relevance'"),
        ({"attentions": [0, 7]}, "no attention 7 of this model; it has 0, 1"),
        ({"memory_budget": 100}, "the heads of 2 attentions take .* more than the .* of memory_budget"),
    ],
)
def test_what_cannot_be_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        heedmap.load("zoo/gpt-lists").heads(text="dog red ? dog", **given)


def test_one_sample() -> None:
    with pytest.raises(InputError, match="there are 2 samples; give one"):
        heedmap.load("zoo/gpt-lists").heads(text=["dog red ? dog", "cat red ? cat"])


@pytest.fixture
def found() -> heedmap.Heads:
    return heedmap.load("zoo/gpt-lists").heads(text="dog red ; cat blue ? cat")


def test_a_figure_of_all_has_a_matrix_for_each_head(found: heedmap.Heads) -> None:
    axes = found.plot().axes
    shown = [ax.images[0].get_array() for ax in axes]
    expected = [head for attention in found.attentions for head in attention.weights.numpy()]
    assert len(shown) == len(expected) == 4
    assert all((a == b).all() for a, b in zip(shown, expected, strict=True))


def test_a_figure_of_one_names_its_tokens(found: heedmap.Heads) -> None:
    large, *small = found.plot(1, theme="dark", cmap="viridis").axes
    assert [label.get_text() for label in large.get_xticklabels()] == list(found.tokens["text"])
    assert [label.get_text() for label in large.get_yticklabels()] == list(found.tokens["text"])
    assert (large.images[0].get_array() == found[1].mean.numpy()).all()
    assert len(small) == 2


def test_a_figure_of_a_rollout(found: heedmap.Heads) -> None:
    figure = found.plot(rollout=(0, 1), width=4)
    (axes,) = figure.axes
    assert (axes.images[0].get_array() == found.rollout(0, 1).numpy()).all()
    assert figure.get_figwidth() == 4
    assert "rollout of attentions 0 to 1" in figure.texts[0].get_text()


def test_of_many_tokens_the_largest_are_seen() -> None:
    from heedmap.render.matrices import SEEN_SMALL, HeadRows, plot_heads

    weights = torch.zeros(1, 1000, 700)
    weights[0, 371, 655] = 0.5
    (axes,) = plot_heads(HeadRows([("0", weights.numpy())]), "").axes
    shown = axes.images[0].get_array()
    assert shown.shape == (SEEN_SMALL, SEEN_SMALL)
    assert shown.max() == 0.5
    assert axes.images[0].get_extent() == [-0.5, 699.5, 999.5, -0.5]


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"attention": 5}, OptionError, "no attention 5 here; there are 0, 1"),
        ({"attention": 0, "rollout": (0, 1)}, OptionError, "give one"),
        ({"alpha": 0.5}, OptionError, "a figure of heads has no option 'alpha'"),
        ({"theme": "drak"}, UnknownNameError, "drak"),
        ({"width": 0}, OptionError, "more than 0"),
    ],
)
def test_figures_that_cannot_be(found: heedmap.Heads, asked: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        found.plot(**asked)
