"""Methods on Libra gradients: the paper's rules, and the input times its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from heedmap.errors import GradientError, UnfollowedAttentionError
from heedmap.lrp.replay import libra
from heedmap.methods import generic
from heedmap.methods.leaves import first_leaf
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView, unlike

SOURCE = "Mehri et al., LibraGrad, CVPR 2025, arXiv 2411.16760"
OPTIONS = {
    name: value for name, value in generic.METHOD.options.items() if name not in ("cam", "rules", "share_constants")
}


def balanced(run: TargetView, method: str) -> TargetView:
    """The view with Libra's ∂y/∂o in place of the gradient; ``method``: who asks.

    Raises:
        UnfollowedAttentionError: tokens are followed by their numbers only.
        MissingRuleError: see :func:`heedmap.lrp.replay.libra`.
        AttentionError: the second forward pass was not like the recorded one.
    """
    if run.replay is None:
        raise UnfollowedAttentionError(
            f"method {method!r} takes its gradients in a pass of its own, which is not defined through windows, merged "
            "tokens and other mixers, so there is no map; choose 'generic'"
        )
    gradients = libra(run.replay, inputs=False).attentions
    libra_gradients = gradients if run.heads is None else run.heads.gradients(gradients)
    for index, gradient in libra_gradients.items():
        a = run.attentions[index] if index < len(run.attentions) else None
        if a is None or gradient.shape[:3] != (a.batch, a.heads, a.queries):
            raise unlike(f"attention {index} of the pass for Libra gradients")
    return replace(run, gradients=libra_gradients)


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return generic.prepare(*_as_generic(run, options))


def _rest(run: TargetView, options: Mapping[str, object]) -> RelevanceRows | None:
    return generic.rest(*_as_generic(run, options))


def _as_generic(run: TargetView, options: Mapping[str, object]) -> tuple[TargetView, dict[str, object]]:
    """The view and the options with which the paper's rules are run."""
    return balanced(run, "libra_generic"), {**generic.METHOD.options, **options}


GENERIC = Method(
    name="libra_generic",
    summary="the paper's rules on Libra gradients: attention, norms' deviations and gates held constant on the way back",
    source=f"{SOURCE}; the rules of Chefer, Gur, Wolf, ICCV 2021",
    options=OPTIONS,
    prepare=_prepare,
    rest=_rest,
)


def _input_x_gradient(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Mapping[int, Tensor]]:
    return [_first_leaves(run) for run in runs]


def _first_leaves(run: TargetView) -> Mapping[int, Tensor]:
    assert run.replay is not None
    sources, parts = run.graph.sources, [part for parts in run.parts.values() for part in parts]
    firsts = {first_leaf(sources, part.leaf) for part in parts}
    found = {i: x * g for i, (x, g) in libra(run.replay).leaves.items() if i in firsts}
    if any(relevance.shape != sources[i].shape for i, relevance in found.items()):
        raise unlike("the pass for Libra gradients")
    if not found:
        raise GradientError(
            "no Libra gradient passes from the target to the model's input; choose a method that needs none ('generic', …)"
        )
    return found


INPUT_X_GRADIENT = Method(
    name="libra_input_x_gradient",
    summary="the Libra gradient at the input, times the input",
    source=SOURCE,
    options={"pixels": False},
    attribute=_input_x_gradient,
)
