"""The paper's method, eqs. 5–11 of Chefer, Gur and Wolf (ICCV 2021); the same on Libra gradients; and heedmap's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from heedmap.errors import MissingRuleError, UnfollowedAttentionError
from heedmap.lrp.replay import libra
from heedmap.lrp.rules import RULES
from heedmap.methods.method import Method, RelevanceRows, TargetView, unlike
from heedmap.relevance.propagate import Ablations, ByRows, Dense

View = Callable[[TargetView, Mapping[str, object]], TargetView]
"""(run, options) → the view with the gradients to which the rules are applied."""


def _own(run: TargetView, options: Mapping[str, object]) -> TargetView:
    """The model's own gradients."""
    return run


def prepare(run: TargetView, options: Mapping[str, object], view: View = _own, **fixed: bool) -> RelevanceRows:
    """See :class:`Method`; ``fixed``: options that the method does not have."""
    return _relevance(view(run, options), {**GENERIC.options, **options, **fixed}).rows


def rest(run: TargetView, options: Mapping[str, object], view: View = _own, **fixed: bool) -> RelevanceRows | None:
    """As :func:`prepare`, less the identity; None without aggregation."""
    every = {**GENERIC.options, **options, **fixed}
    return _relevance(view(run, options), every).added if every["aggregate"] else None


def _relevance(run: TargetView, options: Mapping[str, object]) -> Dense | ByRows:
    ablations = Ablations(*(bool(options[name]) for name in ("normalize", "self_in_rule_10", "aggregate")))
    kept = run.from_layer(options["start_layer"])
    cam = run.cam
    if options["cam"] == "lrp":
        cam = partial(run.relevance_cam, relevances=run.relevances(options))
    # = for +=, without aggregation: an attention that the target does not depend on replaces R by zero
    cams = {index: cam(index) for index in kept if index in run.gradients or not ablations.aggregate}
    if run.full or not ablations.aggregate or not run.graph.is_acyclic:
        return Dense(run.graph, cams, ablations, run.batch)
    return ByRows(run.graph, cams, ablations)


GENERIC = Method(
    name="generic",
    summary="the paper's rules: gradient-weighted attention, carried through self- and cross-attention",
    source="Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679, eqs. 5–11",
    options={
        "normalize": True,
        "self_in_rule_10": True,
        "aggregate": True,
        "cam": "gradient",
        "rules": "chefer",
        "share_constants": False,
        "start_layer": 0,
        "drop_self": True,
        "drop_identity": False,
    },
    choices={"cam": ("gradient", "lrp"), "rules": tuple(RULES)},
    prepare=prepare,
    rest=rest,
)


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


def _libra(run: TargetView, options: Mapping[str, object]) -> TargetView:
    """Libra's gradients."""
    return balanced(run, "libra_generic")


def _libra_prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return prepare(run, options, _libra)


def _libra_rest(run: TargetView, options: Mapping[str, object]) -> RelevanceRows | None:
    return rest(run, options, _libra)


LIBRA_GENERIC = Method(
    name="libra_generic",
    summary="the paper's rules on Libra gradients: attention, norms' deviations and gates held constant on the way back",
    source="Mehri et al., LibraGrad, CVPR 2025, arXiv 2411.16760; the rules of Chefer, Gur, Wolf, ICCV 2021",
    options={
        "normalize": True,
        "self_in_rule_10": True,
        "aggregate": True,
        "start_layer": 0,
        "drop_self": True,
        "drop_identity": False,
    },
    prepare=_libra_prepare,
    rest=_libra_rest,
)


def _best(run: TargetView, options: Mapping[str, object]) -> TargetView:
    """The gradients that are asked for; ``"best"``: Libra's where they are defined.

    Raises:
        MissingRuleError, UnfollowedAttentionError: ``"libra"``, and they are not defined.
    """
    if options["gradients"] == "plain":
        return run
    try:
        return balanced(run, "heedmap")
    except (MissingRuleError, UnfollowedAttentionError) as refused:
        if options["gradients"] == "libra":
            raise
        cause = str(refused).partition(", so there is no map")[0].partition("; choose")[0]
        run.notes[:] = [
            f"method 'heedmap' took the model's own gradients, as Libra gradients are not defined here: {cause}"
        ]
        return run


def _heedmap_prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return prepare(run, options, _best, self_in_rule_10=False)


def _heedmap_rest(run: TargetView, options: Mapping[str, object]) -> RelevanceRows | None:
    return rest(run, options, _best, self_in_rule_10=False)


HEEDMAP = Method(
    name="heedmap",
    summary="heedmap's own: the paper's rules on Libra gradients, each token that another stream asks standing for itself",
    source="heedmap (docs/which-method.md); Libra gradients: Mehri et al., CVPR 2025, arXiv 2411.16760; the rules: Chefer, Gur, "
    "Wolf, ICCV 2021",
    options={"gradients": "best", "start_layer": 0, "drop_self": True, "drop_identity": False},
    choices={"gradients": ("best", "libra", "plain")},
    prepare=_heedmap_prepare,
    rest=_heedmap_rest,
)
