"""Every model of the table: attentions, laws, and that the model is left as it was found."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import AMONG_WORDS, BATCH, CASES, FEW, Case, Inputs, livened
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError, MissingRuleError, UnfollowedAttentionError
from heedmap.targets import Similarity

TOLERANCE = 1e-5
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")
NAMES = list(CASES)


@cache
def built(name: str) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(7)
    case = CASES[name]
    return livened(case.build()), case.inputs()


@cache
def exact(name: str) -> tuple[nn.Module, Inputs]:
    """The same model in float64: laws are decided without rounding."""
    model, inputs = built(name)
    if name == "gpt-oss-sinks":  # its grouped matrix product knows no float64
        return model, inputs
    return copy.deepcopy(model).double(), {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def target(case: Case) -> Any:
    return Similarity() if case.target == "pairs" else case.target


@cache
def explained(name: str) -> heedmap.Explanation:
    model, inputs = built(name)
    return heedmap.explain(model, inputs, target=target(CASES[name]), full=False)


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the larger map's maximum; what is below 1e-9 is zero but for rounding.

    Such are the input times its gradient where a layer norm follows at once, as of LXMERT's boxes.
    """
    return float((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()).clamp(min=1e-9))


@pytest.mark.parametrize("name", NAMES)
def test_the_attentions_that_the_architecture_has(name: str) -> None:
    case, found = CASES[name], explained(name)
    assert Counter((a.stream, a.source) for a in found.flow.attentions) == case.attentions
    assert {a.kind for a in found.flow.attentions if a.stream == a.source} <= {"self"}
    assert {a.kind for a in found.flow.attentions if a.stream != a.source} <= {"cross"}
    assert {n: found[n].shape for n in case.segments} == {n: (BATCH, k) for n, k in case.segments.items()}
    if case.grid:
        assert found.segments["image"].grid == case.grid
    assert all(
        torch.isfinite(s.relevance).all() and s.relevance.dtype == torch.float32 for s in found.segments.values()
    )
    assert max(float(s.relevance.abs().max()) for s in found.segments.values()) > 1e-4


@pytest.mark.usefixtures("shapes_checked")
@pytest.mark.parametrize("name", NAMES)
def test_rows_equal_the_rows_of_the_whole_map(name: str) -> None:
    model, inputs = built(name)
    rows = heedmap.explain(model, inputs, target=target(CASES[name]), drop_self=False, memory_budget=4096)
    whole = heedmap.explain(model, inputs, target=target(CASES[name]), drop_self=False, full=True)
    expected = {n: torch.zeros_like(s.relevance) for n, s in whole.segments.items()}
    for stream in whole.flow.streams:
        for sample, read in enumerate(stream.rows or ()):
            for name_, segment in whole.segments.items():
                if (stream.name, segment.stream) in whole.maps and read:
                    row = whole.maps[stream.name, segment.stream][sample, list(read)].mean(0)
                    expected[name_][sample] += row[segment.positions[sample]] * (segment.positions[sample] >= 0)
    for segment in rows.segments.values():
        assert distance(segment.relevance, expected[segment.name]) <= TOLERANCE, segment.name


LIBRA = ("libra_generic", "libra_input_x_gradient", "attcat", "fullgrad_plus")
PROPAGATING = ("partial_lrp", "transformer_attribution", "full_lrp", "attn_lrp", *LIBRA)
UNLAWFUL = {("vilt", "random"), *(("blip-vqa", method) for method in ("occlusion", *PROPAGATING))}
"""ViLT shuffles its patches, so a random number drawn for a row of its stream belongs to another patch each time. What is
explained of BLIP's VQA head is its loss, the mean of the batch: taking away a token of each sample changes all of it, and
relevance propagation has no rule for it."""
OF_STREAMS_APART = {name for name in NAMES if any(s != q for s, q in CASES[name].attentions)} | {"squeezebert", "llava"}
UNDEFINED = {
    "token_tm": OF_STREAMS_APART,
    "value_zeroing": OF_STREAMS_APART,
    "grad_eclip": {"hand-written"},
    "attcat": {"squeezebert", "siglip", "conditional-detr"},
    "fullgrad_plus": {"squeezebert", "siglip", "conditional-detr"},
    **{method: set(NAMES) - {"llava", "paligemma"} for method in AMONG_WORDS},
}
"""Models on which a method is not defined: `token_tm` and `value_zeroing` where a stream asks or takes in another, or has its features before its
tokens; `grad_eclip` where the product of q and k is an einsum; `attcat` and `fullgrad_plus` where an attention has no residual
connection of its own (siglip's pooling), or a place in it is not known (positions that are made of the tokens); `tam` and `dex_ar`
where no picture stands among words."""
LAWS = [(n, m) for n in NAMES for m in heedmap.METHODS if (n, m) not in UNLAWFUL and n not in UNDEFINED.get(m, set())]


@pytest.mark.parametrize(("name", "method"), LAWS)
def test_a_batch_equals_its_samples_alone_and_padding_changes_nothing(name: str, method: str) -> None:
    """Every method with one of the samples; every model with all of them, the methods taking turns."""
    (model, inputs), case, few = exact(name), CASES[name], FEW.get(method, {})
    found = heedmap.explain(model, inputs, target=target(case), method=method, **few)
    sample = list(heedmap.METHODS).index(method) % BATCH
    alone = {k: v[sample : sample + 1] for k, v in inputs.items()}
    single = heedmap.explain(model, alone, target=target(case), method=method, **few)
    for segment in single.segments.values():
        assert distance(found[segment.name][sample], segment.relevance[0]) <= TOLERANCE, segment.name
    if case.pad:
        longer = heedmap.explain(model, padded(case, inputs), target=target(case), method=method, **few)
        for segment in found.segments.values():
            kept = longer[segment.name][:, : segment.relevance.shape[1]]
            assert distance(kept, segment.relevance) <= TOLERANCE, f"{segment.name}, padded"


def padded(case: Case, inputs: Inputs) -> Inputs:
    """With three tokens more, which are padding."""
    longer = dict(inputs)
    for key, value in case.pad.items():
        before = inputs[key]
        longer[key] = torch.cat([before, before.new_full((BATCH, 3, *before.shape[2:]), value)], 1)
    return longer


@pytest.mark.parametrize(("method", "name"), [(m, n) for m, names in UNDEFINED.items() for n in sorted(names)])
def test_where_a_method_is_not_defined_there_is_no_map(method: str, name: str) -> None:
    """Of one sample: of a batch each would be tried alone, too."""
    model, inputs = built(name)
    with pytest.raises(UnfollowedAttentionError, match=f"method '{method}' .*choose 'generic'"):
        heedmap.explain(model, {k: v[:1] for k, v in inputs.items()}, target=target(CASES[name]), method=method)


@pytest.mark.parametrize("method", PROPAGATING)
def test_a_loss_has_no_relevance_rule(method: str) -> None:
    model, inputs = exact("blip-vqa")
    with pytest.raises(MissingRuleError, match="no rule for cross_entropy"):
        heedmap.explain(model, inputs, target=target(CASES["blip-vqa"]), method=method)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_accumulated_in_float32(name: str) -> None:
    (model, inputs), full = built(name), explained(name)
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in inputs.items()}
    model = copy.deepcopy(model).bfloat16()
    found = heedmap.explain(model, half, target=target(CASES[name]), memory_budget=4096)
    for segment in found.segments.values():
        assert segment.relevance.dtype == torch.float32
        assert torch.isfinite(segment.relevance).all()
        if found.target == full.target:
            both = torch.stack([segment.relevance.flatten(), full[segment.name].flatten()])
            assert both.shape[1] < 3 or both.std(1).min() == 0 or torch.corrcoef(both)[0, 1] > 0.5, segment.name


def state(model: nn.Module) -> dict[str, Any]:
    """All of a model's state that explaining must not touch."""
    return {
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad for p in model.parameters()],
        "versions": [t._version for t in (*model.parameters(), *model.buffers())],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "forward": [m.__dict__.get("forward") for m in model.modules()],
        "random": torch.get_rng_state().tolist(),
        "grad_mode": torch.is_grad_enabled(),
        "modes": torch.overrides._get_current_function_mode_stack(),
    }


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_left_as_it_was_found(name: str, frozen: bool) -> None:
    model, inputs = built(name)
    expected = explained(name)  # first: transformers installs hooks of its own at a model's first call
    flags = [p.requires_grad for p in model.parameters()]
    model.train(not frozen).requires_grad_(not frozen)
    try:
        before = state(model)
        with torch.set_grad_enabled(not frozen):
            found = heedmap.explain(model, inputs, target=target(CASES[name]))
        assert state(model) == before
        for segment in expected.segments.values():
            assert distance(found[segment.name], segment.relevance) <= TOLERANCE
    finally:
        model.eval()
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


class Boom(RuntimeError):
    """Raised in the middle of a forward pass."""


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_left_as_it_was_found_when_it_raises(name: str) -> None:
    model, inputs = built(name)
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]

    def raising(*args: Any, **kwargs: Any) -> None:
        raise Boom

    if name == "llava":
        model(**inputs)  # transformers installs hooks of its own at its first call
    model.train()
    handle = last.register_forward_pre_hook(raising) if name != "clip" else model.register_forward_hook(raising)
    try:
        before = state(model)
        with pytest.raises((Boom, HeedmapError)):
            heedmap.explain(model, inputs, target=target(CASES[name]))
        assert state(model) == before
    finally:
        handle.remove()
        model.eval()


EAGER = [n for n in NAMES if n not in ("timm-vit", "open-clip", "torchvision-vit", "hand-written") and "nn." not in n]


@pytest.mark.parametrize("name", EAGER)
def test_eager_attention_gives_the_same_map(name: str) -> None:
    model, inputs = built(name)
    model = copy.deepcopy(model)
    model.set_attn_implementation("eager")
    eager = heedmap.explain(model, inputs, target=target(CASES[name]))
    for segment in explained(name).segments.values():
        assert distance(eager[segment.name], segment.relevance) <= TOLERANCE
