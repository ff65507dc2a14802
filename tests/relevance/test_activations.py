"""AttCAT and FullGrad+ against the models' own states, gradients and eager attention, in float64; and what they refuse."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.errors import OptionError

LAYERS = {
    "bert": {"text": ["bert.encoder.layer.{}"]},
    "vit": {"image": ["vit.layers.{}"]},
    "llama": {"text": ["model.layers.{}"]},
    "bart": {
        "text": ["model.encoder.layers.{}"],
        "decoder": ["model.decoder.layers.{}", "model.decoder.layers.{}.self_attn_layer_norm"],
    },
}
"""For each segment: what is given to layer {}, then what the norm before its cross-attention makes."""
Layers = list[tuple[Tensor, Tensor, Tensor | None]]
"""x, ∂y/∂x and A (of self-attention; of cross-attention none) of each layer."""


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor], dict[str, Layers]]:
    """A model, what it is called with, and its own layers by segment."""
    torch.manual_seed(5)
    model, inputs = livened(CASES[name].build()).double(), CASES[name].inputs()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    eager, seen = copy.deepcopy(model), dict[str, Tensor]()
    eager.set_attn_implementation("eager")

    def keep(where: str, inside: bool) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: dict[str, Any], result: Any = None) -> None:
            seen[where] = result if inside else args[0] if args else kwargs["hidden_states"]

        return hook

    for paths in LAYERS[name].values():
        count = len(eager.get_submodule(paths[0].removesuffix(".{}")))
        for number in range(count):
            module = eager.get_submodule(paths[0].format(number))
            module.register_forward_pre_hook(keep(f"{paths[0]} {number}", False), with_kwargs=True)
            if paths[1:]:
                norm = eager.get_submodule(paths[1].format(number))
                norm.register_forward_hook(keep(f"{paths[1]} {number}", True), with_kwargs=True)
    found = eager(**inputs, output_attentions=True)
    logits = found.logits[:, -1] if found.logits.dim() == 3 else found.logits
    gradients = dict(zip(seen, torch.autograd.grad(logits.amax(-1).sum(), list(seen.values())), strict=True))
    kinds = {"text": "encoder_attentions" if name == "bart" else "attentions", "decoder": "decoder_attentions"}
    layers: dict[str, Layers] = {}
    for segment, paths in LAYERS[name].items():
        attention = found[kinds.get(segment, "attentions")]
        layers[segment] = [
            (seen[where].detach(), gradients[where], attention[n].detach() if not further else None)
            for further, path in enumerate(paths)
            for n in range(len(attention))
            for where in [f"{path} {n}"]
        ]
    return model, inputs, layers


def by_token(x: Tensor, gradient: Tensor) -> Tensor:
    return torch.stack([(x[:, i] * gradient[:, i]).sum(-1) for i in range(x.shape[1])], 1)


def check(name: str, method: str, segment: str, wanted: Tensor, **options: Any) -> None:
    model, inputs, _ = built(name)
    found = heedmap.explain(model, inputs, method=method, gradients="plain", **options)[segment]
    wanted = wanted[:, 1:] if segment == "image" else wanted
    assert float(wanted.abs().max()) > 1e-6
    error = 2e-5 if name == "llama" else 1e-6  # its norm computes in float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=error * float(wanted.abs().max()))


SEGMENTS = [(name, segment) for name, segments in LAYERS.items() for segment in segments]


@pytest.mark.parametrize(("name", "segment"), SEGMENTS)
def test_fullgrad_plus_sums_tokens_times_their_gradients(name: str, segment: str) -> None:
    check(name, "fullgrad_plus", segment, torch.stack([by_token(x, g) for x, g, _ in built(name)[2][segment]]).sum(0))


@pytest.mark.parametrize(("name", "segment"), SEGMENTS)
def test_attcat_weighs_them_by_the_attention_that_they_get(name: str, segment: str) -> None:
    layers = built(name)[2][segment]
    check(
        name,
        "attcat",
        segment,
        torch.stack([by_token(x, g) * a.mean(1).mean(1) for x, g, a in layers if a is not None]).sum(0),
    )


def test_they_can_begin_above_the_first_layer() -> None:
    layers = built("bert")[2]["text"][1:]
    check("bert", "fullgrad_plus", "text", torch.stack([by_token(x, g) for x, g, _ in layers]).sum(0), start_layer=1)


@pytest.mark.parametrize("method", ["attcat", "fullgrad_plus"])
def test_unknown_gradients_are_refused(method: str) -> None:
    model, inputs, _ = built("bert")
    with pytest.raises(OptionError, match="expected one of 'libra', 'plain'"):
        heedmap.explain(model, inputs, method=method, gradients="lrp")
