"""Tokens times their gradient in every layer: FullGrad+, and AttCAT, which weighs them by attention."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from heedmap.methods.layers import for_all_rows
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.methods.states import activations

LIBRA, PLAIN = "libra", "plain"
OPTIONS = {"gradients": LIBRA, "start_layer": 0}
CHOICES = {"gradients": (LIBRA, PLAIN)}


def _fullgrad_plus(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    kept = run.from_layer(options["start_layer"])
    by_layer = activations(run, "fullgrad_plus", options["gradients"] == LIBRA)
    edges = [e for e in run.graph.edges if e.attention in kept & by_layer.keys()]
    return for_all_rows(run, [(e.stream, e.stream, by_layer[e.attention]) for e in edges])


FULLGRAD_PLUS = Method(
    name="fullgrad_plus",
    summary="tokens times their (Libra) gradient where they enter each layer, summed over the layers",
    source="Mehri et al., LibraGrad, CVPR 2025, arXiv 2411.16760, after FullGrad of Srinivas and Fleuret, NeurIPS 2019",
    options=OPTIONS,
    choices=CHOICES,
    prepare=_fullgrad_plus,
)


def _attcat(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    kept = run.from_layer(options["start_layer"])
    by_layer = activations(run, "attcat", options["gradients"] == LIBRA)
    edges = [e for e in run.graph.edges if e.attention in kept & by_layer.keys() and e.is_self]
    return for_all_rows(
        run, [(e.stream, e.stream, by_layer[e.attention] * _heard(run, e.attention, e.stream)) for e in edges]
    )


def _heard(run: TargetView, index: int, stream: int) -> Tensor:
    """Mean of A over heads and over the rows that are no padding, (batch, keys)."""
    seen = run.visible(stream).to(run.attentions[index].dtype)[:, None]
    return (run.mean_probabilities(index).left(seen) / seen.sum(-1, keepdim=True).clamp(min=1))[:, 0]


ATTCAT = Method(
    name="attcat",
    summary="tokens times their (Libra) gradient where they enter each layer, weighted by the attention that they get there",
    source="Qiang et al., AttCAT, NeurIPS 2022; with Libra gradients: Mehri et al., CVPR 2025, arXiv 2411.16760",
    options=OPTIONS,
    choices=CHOICES,
    prepare=_attcat,
)
