"""heedmap's own method: the paper's rules on Libra gradients, in which a token that is asked stands for itself."""

from __future__ import annotations

from collections.abc import Mapping

from heedmap.errors import MissingRuleError, UnfollowedAttentionError
from heedmap.methods import generic
from heedmap.methods.libra import balanced
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView

NAME = "heedmap"


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return generic.prepare(*_as_generic(run, options))


def _rest(run: TargetView, options: Mapping[str, object]) -> RelevanceRows | None:
    return generic.rest(*_as_generic(run, options))


def _as_generic(run: TargetView, options: Mapping[str, object]) -> tuple[TargetView, dict[str, object]]:
    """The view and the options with which the paper's rules are run."""
    rules = {name: value for name, value in options.items() if name != "gradients"}
    return _pulled(run, str(options["gradients"])), {**generic.METHOD.options, **rules, "self_in_rule_10": False}


def _pulled(run: TargetView, gradients: str) -> TargetView:
    """The view with the gradients that are asked for; ``"best"``: Libra's where they are defined.

    Raises:
        MissingRuleError, UnfollowedAttentionError: ``"libra"``, and they are not defined.
    """
    if gradients == "plain":
        return run
    try:
        return balanced(run, NAME)
    except (MissingRuleError, UnfollowedAttentionError) as refused:
        if gradients == "libra":
            raise
        cause = str(refused).partition(", so there is no map")[0].partition("; choose")[0]
        run.notes[:] = [
            f"method {NAME!r} took the model's own gradients, as Libra gradients are not defined here: {cause}"
        ]
        return run


METHOD = Method(
    name=NAME,
    summary="heedmap's own: the paper's rules on Libra gradients, each token that another stream asks standing for itself",
    source="heedmap (docs/which-method.md); Libra gradients: Mehri et al., CVPR 2025, arXiv 2411.16760; the rules: Chefer, Gur, "
    "Wolf, ICCV 2021",
    options={"gradients": "best", "start_layer": 0, "drop_self": True, "drop_identity": False},
    choices={"gradients": ("best", "libra", "plain")},
    prepare=_prepare,
    rest=_rest,
)
