"""How an explanation was made: model, versions, options, the method's card, and the attention that was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from heedmap.flow import ATTENTION_HEAD, STREAM_HEAD, attention_lines, stream_lines, summary
from heedmap.render.html import render

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData


def provenance(explanation: ExplanationData, level: int) -> Markup:
    """A section whose heading is of ``level``."""
    flow = explanation.flow
    return render(
        "provenance.html",
        level=level,
        entries=_origin(explanation),
        method=explanation.method,
        card=_card(explanation.method),
        summary=summary(flow),
        tables=[
            ("attentions", ATTENTION_HEAD, attention_lines(flow)),
            ("streams", STREAM_HEAD, stream_lines(flow)),
        ],
        flow_notes=flow.notes,
    )


def option_words(options: Mapping[str, Any]) -> str:
    """``normalize=True, cam='gradient'``."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"


def _origin(explanation: ExplanationData) -> dict[str, str]:
    origin = dict(explanation.origin)
    model = [origin.pop(key) for key in ("model", "class") if key in origin]
    return {
        "model": " · ".join(model) or "not told",
        "method": explanation.method,
        "options": option_words(explanation.options),
        "versions": ", ".join(f"{name} {version}" for name, version in origin.items()) or "not told",
    }


def _card(name: str) -> dict[str, str]:
    """What the method's card says; nothing of a method that has none."""
    from heedmap.methods import METHODS
    from heedmap.methods.cards import CARDS

    if name not in CARDS or name not in METHODS:
        return {}
    card, method = CARDS[name], METHODS[name]
    return {
        "what": method.summary,
        "computes": card.equation,
        "from": method.source,
        "needs": card.needs,
        "passes": f"{card.forwards} forward, {card.backwards} backward",
        "mind": card.fails,
    }
