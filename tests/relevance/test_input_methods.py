"""Methods that attribute the target to the input itself, against autograd and hand-made inputs; in float64, on real models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import BATCH, CASES, livened
from heedmap.errors import MissingLibraryError, OptionError
from heedmap.methods.input_features import Feature, noisy, pooled
from heedmap.targets import ClassLogit, Context, DetectionQuery, NextToken, TopPrediction

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")
METHODS = ("input_x_gradient", "integrated_gradients", "smoothgrad", "gradient_shap", "occlusion")
FEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 3},
    "gradient_shap": {"samples": 3},
}
"""Enough points where it is not the sum that is tested."""
NOISY = ("smoothgrad", "gradient_shap")
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""Maps are float32."""

LEAVES = {
    "bert": {"text": ("input_ids", "inputs_embeds")},
    "vit": {"image": ("pixel_values", None)},
    "lxmert": {"text": ("input_ids", "inputs_embeds"), "boxes": ("visual_feats", None)},
    "detr": {"image": ("pixel_values", None)},
    "clip": {"text": ("input_ids", "hook"), "image": ("pixel_values", None)},
    "bart": {"text": ("input_ids", "inputs_embeds"), "decoder": ("decoder_input_ids", "decoder_inputs_embeds")},
    "whisper": {"audio": ("input_features", None), "decoder": ("decoder_input_ids", "decoder_inputs_embeds")},
    "llama": {"text": ("input_ids", "inputs_embeds")},
}
"""Model → segment → the input it comes from, and how its embeddings are given instead."""
NAMES = list(LEAVES)
Points = dict[str, Tensor]


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(11)
    model, inputs = livened(CASES[name].build()).double(), CASES[name].inputs()
    return model, {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def embedding(model: nn.Module, segment: str) -> nn.Module:
    if segment == "decoder":
        return model.get_decoder().embed_tokens
    return model.text_model.embeddings.token_embedding if hasattr(model, "text_model") else model.get_input_embeddings()


def points(name: str) -> Points:
    """Of each segment the features that its input has."""
    model, inputs = built(name)
    found = {}
    for segment, (given, how) in LEAVES[name].items():
        found[segment] = inputs[given] if how is None else embedding(model, segment)(inputs[given]).detach()
    return found


def output(name: str, at: Points, samples: slice = slice(None)) -> Any:
    """What the model says to these features, through its own arguments; where it has none, through its embedding."""
    model, inputs = built(name)
    inputs = {k: v[samples] for k, v in inputs.items()}
    handles = []
    for segment, (given, how) in LEAVES[name].items():
        if how == "hook":
            module = embedding(model, segment)
            handles.append(module.register_forward_hook(lambda *_, features=at[segment]: features))
        elif how is not None:
            del inputs[given]
            inputs[how] = at[segment]
        else:
            inputs[given] = at[segment]
    try:
        return model(**inputs)
    finally:
        for handle in handles:
            handle.remove()


@cache
def top(name: str) -> Callable[[Any, slice], Tensor]:
    """The top prediction on the given input, as a function of any output."""
    model, inputs = built(name)
    with torch.no_grad():
        found = model(**inputs)
    if name == "clip":
        return lambda out, samples: out.logits_per_image.diagonal()
    if name == "detr":
        prob = found.logits.softmax(-1)[..., :-1]
        query = prob.amax(-1).argmax(-1)
        label = prob[torch.arange(BATCH), query].argmax(-1)
        return lambda out, samples: out.logits[torch.arange(len(out.logits)), query[samples], label[samples]]
    if name in ("bart", "whisper", "llama"):
        token = found.logits[:, -1].argmax(-1)
        return lambda out, samples: out.logits[:, -1].gather(1, token[samples, None])[:, 0]
    key = "question_answering_score" if name == "lxmert" else "logits"
    label = found[key].argmax(-1)
    return lambda out, samples: out[key].gather(1, label[samples, None])[:, 0]


def values(name: str, at: Points, samples: slice = slice(None)) -> Tensor:
    return top(name)(output(name, at, samples), samples)


def by_token(name: str, segment: str, relevance: Tensor) -> Tensor:
    """Relevance of features summed over each token's; a patch's pixels, two frames of Whisper's sound."""
    if segment == "image":
        rows, columns = CASES[name].grid
        blocks = relevance.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
        return blocks.sum((1, 3, 5)).flatten(1)
    return relevance.unflatten(2, (10, 2)).sum((1, 3)) if segment == "audio" else relevance.sum(2)


def explained(name: str, method: str, **options: Any) -> heedmap.Explanation:
    model, inputs = built(name)
    return heedmap.explain(model, inputs, method=method, **options)


kept = cache(explained)
"""For maps that several tests compare with."""


@pytest.mark.parametrize("name", NAMES)
def test_the_input_times_its_gradient(name: str) -> None:
    at = {segment: x.clone().requires_grad_() for segment, x in points(name).items()}
    gradients = torch.autograd.grad(values(name, at).sum(), list(at.values()))
    found = kept(name, "input_x_gradient")
    for (segment, x), gradient in zip(at.items(), gradients, strict=True):
        torch.testing.assert_close(
            found[segment].double(), by_token(name, segment, x * gradient).detach(), **CLOSE, msg=segment
        )


STEPS = {"vit": 120}
"""Of the sum that stands for the integral, within a thousandth of it; 64 for the others."""
SCALE_FREE = ("llama", "lxmert", "detr")
"""A norm follows the features at once, with no bias or position in between (of these weights): y hardly depends on their size."""


def change(name: str, ends: Points) -> Tensor:
    """y(x) − y(baseline), (batch,)."""
    with torch.no_grad():
        return values(name, points(name)) - values(name, ends)


def total(found: heedmap.Explanation) -> Tensor:
    return torch.stack([segment.relevance.double().sum(1) for segment in found.segments.values()]).sum(0)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SCALE_FREE])
def test_integrated_gradients_are_complete(name: str) -> None:
    """Σ relevance = y(x) − y(0)."""
    ends = {segment: torch.zeros_like(x) for segment, x in points(name).items()}
    found = explained(name, "integrated_gradients", steps=STEPS.get(name, 64))
    torch.testing.assert_close(total(found), change(name, ends), rtol=5e-3, atol=1e-5)


def at_points(name: str, way: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Of each segment's features ∂y/∂x where ``way`` leads from x."""
    at = {segment: way(x).clone().requires_grad_() for segment, x in points(name).items()}
    return dict(zip(at, torch.autograd.grad(values(name, at).sum(), list(at.values())), strict=True))


@pytest.mark.parametrize("name", ["bert", "vit", "whisper", "llama"])
def test_integrated_gradients_are_a_sum_over_the_way(name: str) -> None:
    """Each point by hand: x ⊙ Σ w_t ∂y/∂x at t x, t and w_t numpy's of Gauss and Legendre on 0 … 1."""
    places, weights = np.polynomial.legendre.leggauss(5)
    expected = {segment: torch.zeros_like(x) for segment, x in points(name).items()}
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        for segment, gradient in at_points(name, lambda x, t=place: t * x).items():
            expected[segment] += weight * gradient * points(name)[segment]
    found = explained(name, "integrated_gradients", steps=5)
    for segment, relevance in expected.items():
        torch.testing.assert_close(found[segment].double(), by_token(name, segment, relevance), **CLOSE, msg=segment)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "detr"])  # its backbone would need thousands of steps
def test_integrated_gradients_from_the_mean_are_complete(name: str) -> None:
    over = {"image": (2, 3), "audio": (2,)}
    ends = {s: x.mean(over.get(s, (1,)), keepdim=True).expand_as(x) for s, x in points(name).items()}
    found = explained(name, "integrated_gradients", steps=STEPS.get(name, 64), baseline="mean")
    torch.testing.assert_close(total(found), change(name, ends), rtol=5e-3, atol=1e-5)


@pytest.mark.parametrize("name", SCALE_FREE)
def test_a_norm_hides_the_way_from_zero(name: str) -> None:
    """All that changes, changes in the last thousandth before zero, between two steps of the sum: choose the mean."""
    ends = {segment: torch.zeros_like(x) for segment, x in points(name).items()}
    expected = change(name, ends)
    assert bool(((total(explained(name, "integrated_gradients")) - expected).abs() > 0.2 * expected.abs()).any())


@pytest.mark.parametrize("name", NAMES)
def test_occlusion_is_what_is_seen_when_each_token_is_taken_away(name: str) -> None:
    """Sample by sample, token by token, by hand."""
    found = explained(name, "occlusion")
    for segment, x in points(name).items():
        expected = torch.zeros(BATCH, found[segment].shape[1], dtype=torch.float64)
        for sample in range(BATCH):
            own = slice(sample, sample + 1)
            at = {s: p[own] for s, p in points(name).items()}
            with torch.no_grad():
                before = single(name, at, own)
                for token in range(expected.shape[1]):
                    at[segment] = without(name, segment, x[own].clone(), token)
                    expected[sample, token] = before - single(name, at, own)
        torch.testing.assert_close(found[segment].double(), expected, **CLOSE, msg=segment)


def single(name: str, at: Points, own: slice) -> float:
    return float(values(name, at, own)[0])


def without(name: str, segment: str, x: Tensor, token: int) -> Tensor:
    if segment == "image":
        rows, columns = CASES[name].grid
        height, width = x.shape[2] // rows, x.shape[3] // columns
        row, column = divmod(token, columns)
        x[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width] = 0
    elif segment == "audio":
        x[:, :, 2 * token : 2 * token + 2] = 0
    else:
        x[:, token] = 0
    return x


@pytest.mark.parametrize("name", NAMES)
def test_smoothgrad_without_noise_is_the_input_times_its_gradient(name: str) -> None:
    plain, smooth = kept(name, "input_x_gradient"), explained(name, "smoothgrad", noise=0, samples=2)
    for segment in plain.segments:
        torch.testing.assert_close(smooth[segment], plain[segment], **CLOSE)


@pytest.mark.parametrize("name", ["bert", "vit", "bart"])
def test_smoothgrad_is_the_mean_over_noisy_points(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each point by hand: x ⊙ the mean of ∂y/∂x at the points that were drawn."""
    drawn: list[Tensor] = []

    def noted(feature: Feature, noise: float, seed: int, draw: int) -> Tensor:
        drawn.append(noisy(feature, noise, seed, draw))
        return drawn[-1]

    monkeypatch.setattr("heedmap.methods.input_features.noisy", noted)
    found = explained(name, "smoothgrad", noise=0.3, samples=3, seed=2)
    assert len(drawn) == 3 * len(points(name))
    expected = {segment: torch.zeros_like(x) for segment, x in points(name).items()}
    order = list(found.segments)
    for draw in range(3):
        given = dict(zip(order, drawn[draw * len(order) :], strict=False))
        at = {segment: given[segment].clone().requires_grad_() for segment in expected}
        gradients = torch.autograd.grad(values(name, at).sum(), list(at.values()))
        for (segment, x), gradient in zip(points(name).items(), gradients, strict=True):
            expected[segment] += x * gradient / 3
            assert float((given[segment] - x).abs().max()) > 0.01
    for segment, relevance in expected.items():
        torch.testing.assert_close(found[segment].double(), by_token(name, segment, relevance), **CLOSE, msg=segment)


@pytest.mark.parametrize("method", NOISY)
def test_a_seed_draws_the_same_again(method: str) -> None:
    first, again, other = (explained("bert", method, seed=seed, samples=3)["text"] for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert float((first - other).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["bert", "vit", "whisper"])
def test_gradient_shap_is_the_mean_over_random_points_of_the_way(name: str) -> None:
    """Each point by hand: (x − 0) ⊙ ∂y/∂x at α x, α as the seed draws it."""
    expected = {segment: torch.zeros_like(x) for segment, x in points(name).items()}
    for draw in range(5):
        share = float(np.random.default_rng([3, draw]).random())
        at = {segment: (share * x).requires_grad_() for segment, x in points(name).items()}
        gradients = torch.autograd.grad(values(name, at).sum(), list(at.values()))
        for (segment, x), gradient in zip(points(name).items(), gradients, strict=True):
            expected[segment] += x * gradient / 5
    found = explained(name, "gradient_shap", noise=0.0, samples=5, seed=3)
    for segment, relevance in expected.items():
        torch.testing.assert_close(found[segment].double(), by_token(name, segment, relevance), **CLOSE)


def test_noise_is_in_proportion_to_the_spread_and_the_same_for_all_samples() -> None:
    """Of a word its own features' spread, of a picture the whole one's; rows after it, and other samples, change nothing."""
    x = torch.randn(2, 6, 4000, dtype=torch.float64) * torch.tensor([1.0, 2, 3, 4, 5, 0])[:, None]
    rows = noisy(Feature(3, x, 0, ()), 0.1, 7, 2) - x
    spread = x.amax(2) - x.amin(2)
    torch.testing.assert_close(rows.std(2), 0.1 * spread, rtol=0.05, atol=1e-12)
    torch.testing.assert_close(rows[0, :5] / spread[0, :5, None], rows[1, :5] / spread[1, :5, None])
    torch.testing.assert_close(noisy(Feature(3, x[1:, :4], 0, ()), 0.1, 7, 2), (x + rows)[1:, :4])
    picture = noisy(Feature(3, x, 1, ()), 0.1, 7, 2) - x
    torch.testing.assert_close(picture.std(2), 0.1 * spread.amax(1, keepdim=True).expand(-1, 6), rtol=0.25, atol=1e-12)
    assert float((noisy(Feature(3, x, 0, ()), 0.1, 7, 3) - x - rows).abs().max()) > 0.1
    assert float((noisy(Feature(4, x, 0, ()), 0.1, 7, 2) - x - rows).abs().max()) > 0.1


PLAIN = [(m, FEW.get(m, {})) for m in METHODS]
MEANS = [(m, {"baseline": "mean", **FEW.get(m, {})}) for m in ("integrated_gradients", "gradient_shap", "occlusion")]


@pytest.mark.parametrize(("method", "options"), MEANS)
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_samples_one_by_one(name: str, method: str, options: dict[str, Any]) -> None:
    """With the mean of a sample as baseline; without, the law is tested of all models in tests/conformance."""
    model, inputs = built(name)
    together = kept(name, method, **options)
    for sample in range(BATCH):
        alone = heedmap.explain(model, {k: v[sample : sample + 1] for k, v in inputs.items()}, method=method, **options)
        for segment in alone.segments:
            torch.testing.assert_close(together[segment][sample], alone[segment][0], **CLOSE)


SEVERAL: dict[str, list[Any]] = {
    "bert": [0, 1],
    "detr": [DetectionQuery(0, 1), DetectionQuery(1, 0), DetectionQuery(0, 1)],
    "clip": [None, lambda output: output.image_embeds[:, 0], lambda output: output.text_embeds[:, 0]],
    "bart": [NextToken(3, -1), NextToken(5, -2)],
    "llama": [NextToken(3, -1), NextToken(5, -3)],
}
"""Targets of one model that read other rows, or other inputs."""


@pytest.mark.parametrize(("method", "options"), [*PLAIN, *MEANS])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_targets_are_as_each_alone(name: str, method: str, options: dict[str, Any]) -> None:
    model, inputs = built(name)
    together = heedmap.explain(model, inputs, target=SEVERAL[name], method=method, **options)
    each: dict[Any, heedmap.Explanation] = {}  # the detector is asked for one query twice
    for target, found in zip(SEVERAL[name], together, strict=True):
        if target not in each:
            each[target] = heedmap.explain(model, inputs, target=target, method=method, **options)
        alone = each[target]
        assert list(found.segments) == list(alone.segments)
        for segment in alone.segments:
            torch.testing.assert_close(found[segment], alone[segment], **CLOSE)


@pytest.mark.parametrize(("method", "passes"), [("smoothgrad", 5), ("gradient_shap", 5), ("occlusion", 10)])
def test_several_targets_share_the_forward_passes(method: str, passes: int) -> None:
    model, inputs = built("vit")
    options = {} if method == "occlusion" else {"samples": 3}
    calls: list[int] = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    heedmap.explain(model, inputs, method=method, **options)  # with the probe, once for a model as it is, hooks and all
    calls.clear()
    heedmap.explain(model, inputs, target=[0, 1, 2], method=method, **options)
    handle.remove()
    assert len(calls) == passes


@pytest.mark.parametrize(("method", "options"), MEANS)
@pytest.mark.parametrize("name", ["bert", "lxmert", "llama"])
def test_the_mean_baseline_knows_what_is_padding(name: str, method: str, options: dict[str, Any]) -> None:
    model, inputs = built(name)
    longer = dict(inputs)
    for key, value in CASES[name].pad.items():
        longer[key] = torch.cat([inputs[key], inputs[key].new_full((BATCH, 3), value)], 1)
    plain, padded = kept(name, method, **options), heedmap.explain(model, longer, method=method, **options)
    for segment in plain.segments.values():
        found = padded[segment.name][:, : segment.relevance.shape[1]]
        torch.testing.assert_close(found, segment.relevance, **CLOSE)


@pytest.mark.parametrize("name", ["vit", "detr", "clip"])
def test_a_patch_is_the_sum_of_its_pixels(name: str) -> None:
    found = explained(name, "integrated_gradients", steps=4, pixels=True)
    height, width = found.segments["pixels"].grid
    assert (height, width) == built(name)[1]["pixel_values"].shape[2:]
    pixels = found["pixels"].reshape(BATCH, 1, height, width)
    torch.testing.assert_close(by_token(name, "image", pixels), found["image"], **CLOSE)


@pytest.mark.parametrize(("places", "size"), [((3,), (7,)), ((2, 3), (5, 4)), ((4, 2), (4, 6)), ((5,), (3,))])
def test_what_lies_in_two_patches_is_shared_by_area(places: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Each pixel cut into as many equal pieces as there are places: whole pieces lie in each."""
    relevance = torch.randn(2, *size, dtype=torch.float64)
    expected = relevance
    for axis, (n, _) in enumerate(zip(places, size, strict=True), 1):
        expected = (expected / n).repeat_interleave(n, axis).unflatten(axis, (n, -1)).sum(axis + 1)
    torch.testing.assert_close(pooled(relevance, places), expected)


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method: str) -> None:
    model, inputs = built("bert")
    explained("bert", method)  # transformers installs hooks of its own at a model's first call
    before = [(p._version, p.requires_grad, p.grad) for p in model.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    numbers, versions = torch.get_rng_state(), {k: v._version for k, v in inputs.items()}
    with torch.no_grad():
        heedmap.explain(model, inputs, method=method)
        assert not torch.is_grad_enabled()
    assert [(p._version, p.requires_grad, p.grad) for p in model.parameters()] == before
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()] == hooks
    assert torch.equal(torch.get_rng_state(), numbers)
    assert {k: v._version for k, v in inputs.items()} == versions


BAD = [
    ("input_x_gradient", {"steps": 3}, "no option 'steps'"),
    ("integrated_gradients", {"steps": 0}, "whole number, 1 or more"),
    ("random", {"seed": "1"}, "whole number, 0 or more"),
    ("integrated_gradients", {"baseline": "noise"}, "'zero', 'mean'"),
    ("smoothgrad", {"samples": 2.5}, "whole number"),
    ("smoothgrad", {"noise": -1}, "0 or more"),
    ("gradient_shap", {"seed": -1}, "0 or more"),
    ("gradient_shap", {"noise": float("nan")}, "0 or more"),
    ("occlusion", {"window": 3}, "no option 'window'"),
    ("occlusion", {"pixels": True}, "no option 'pixels'"),
    *((method, {"full": True}, "no whole maps") for method in METHODS),
]


@pytest.mark.parametrize(("method", "options", "words"), BAD)
def test_options_that_cannot_be(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        explained("bert", method, **options)


def test_captum_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)  # as where it is not installed
    with pytest.raises(MissingLibraryError, match=r"'\.\[attribution\]'"):
        explained("bert", "integrated_gradients")


@pytest.mark.parametrize(
    ("name", "target"),
    [("bert", ClassLogit()), ("detr", DetectionQuery()), ("llama", NextToken()), ("vit", TopPrediction())],
)
def test_what_was_chosen_is_asked_again(name: str, target: heedmap.targets.Target) -> None:
    """Of an output with other top predictions, the values of those that were chosen."""
    model, inputs = built(name)
    with torch.no_grad():
        one = model(**inputs)
        other = model(**{k: v.flip(0) for k, v in inputs.items()})
    context = Context.of(inputs, getattr(model, "config", None))
    chosen = target.choose(one, context)
    assert chosen.again is not None
    assert torch.equal(chosen.again(one), chosen.values)
    assert not torch.equal(chosen.again(other), chosen.values)
    torch.testing.assert_close(chosen.again(other), top(name)(other, slice(None)))
