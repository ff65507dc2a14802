"""Tokens times their gradient in every layer: FullGrad+, and AttCAT, which weighs them by attention."""

from __future__ import annotations

from collections.abc import Mapping

from heedmap.methods.layers import for_all_rows, mean_row
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
    layers = []
    for e in edges:
        heard = mean_row(run, run.mean_probabilities(e.attention), run.attentions[e.attention].dtype, e.stream)
        layers.append((e.stream, e.stream, by_layer[e.attention] * heard))
    return for_all_rows(run, layers)


ATTCAT = Method(
    name="attcat",
    summary="tokens times their (Libra) gradient where they enter each layer, weighted by the attention that they get there",
    source="Qiang et al., AttCAT, NeurIPS 2022; with Libra gradients: Mehri et al., CVPR 2025, arXiv 2411.16760",
    options=OPTIONS,
    choices=CHOICES,
    prepare=_attcat,
)
