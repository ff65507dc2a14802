"""The paper's method: eqs. 5–11 of Chefer, Gur and Wolf (ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from heedmap.lrp.rules import RULES
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.relevance.propagate import Ablations, ByRows, Dense


def prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    """See :class:`Method`."""
    return _relevance(run, options).rows


def rest(run: TargetView, options: Mapping[str, object]) -> RelevanceRows | None:
    """See :class:`Method`."""
    return _relevance(run, options).added if options["aggregate"] else None


def _relevance(run: TargetView, options: Mapping[str, object]) -> Dense | ByRows:
    ablations = Ablations(*(bool(options[name]) for name in ("normalize", "self_in_rule_10", "aggregate")))
    kept = run.from_layer(options["start_layer"])
    cam = run.cam
    if options["cam"] == "lrp":
        cam = partial(run.relevance_cam, relevances=run.relevances(options))
    cams = {index: cam(index) for index in kept if index in run.gradients}
    if not ablations.aggregate:  # = for +=: an attention that the target does not depend on replaces R by zero
        cams |= {index: run.zeros(index) for index in kept if index not in run.gradients}
    if run.full or not ablations.aggregate or not run.graph.is_acyclic:
        return Dense(run.graph, cams, ablations, run.batch)
    return ByRows(run.graph, cams, ablations)


METHOD = Method(
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
