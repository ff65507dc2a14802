"""How an explanation was made: model, versions, options, the method's card, and the attention that was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heedmap.flow import ATTENTION_HEAD, STREAM_HEAD, Line, attention_lines, stream_lines, summary
from heedmap.render.text import html_text, scrolled

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData
    from heedmap.flow import Flow


def made(explanation: ExplanationData, level: int) -> str:
    """A section whose heading is of ``level``."""
    origin = dict(explanation.origin)
    model = [origin.pop(key) for key in ("model", "class") if key in origin]
    rows = {
        "model": " · ".join(model) or "not told",
        "method": explanation.method,
        "options": option_words(explanation.options),
        "versions": ", ".join(f"{name} {version}" for name, version in origin.items()) or "not told",
    }
    return (
        f"<section>\n<h{level}>How this was made</h{level}>\n{_rows(rows)}\n{_card(explanation.method)}"
        f"{_flow(explanation.flow)}\n</section>"
    )


def option_words(options: Mapping[str, Any]) -> str:
    """``normalize=True, cam='gradient'``."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"


def _card(name: str) -> str:
    from heedmap.methods import METHODS
    from heedmap.methods.cards import CARDS

    if name not in CARDS or name not in METHODS:
        return ""
    card, method = CARDS[name], METHODS[name]
    rows = {
        "what": method.summary,
        "computes": card.equation,
        "from": method.source,
        "needs": card.needs,
        "passes": f"{card.forwards} forward, {card.backwards} backward",
        "mind": card.fails,
    }
    return f'<details class="card"><summary>Method card: {html_text(name)}</summary>\n{_rows(rows)}</details>\n'


def _rows(rows: Mapping[str, str]) -> str:
    lines = "\n".join(f'<tr><th scope="row">{html_text(k)}</th><td>{html_text(v)}</td></tr>' for k, v in rows.items())
    return f"<table>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _flow(flow: Flow) -> str:
    tables = _table("attentions", ATTENTION_HEAD, attention_lines(flow))
    tables += "\n" + _table("streams", STREAM_HEAD, stream_lines(flow))
    notes = "".join(f"<p>note: {html_text(note)}</p>" for note in flow.notes)
    return f"<details>\n<summary>Attention found: {html_text(summary(flow))}</summary>\n{tables}\n{notes}</details>"


def _table(name: str, head: Line, lines: list[Line]) -> str:
    names = "".join(f'<th scope="col">{html_text(name)}</th>' for name in head)
    rows = "\n".join("<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    table = f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return scrolled(table, name)
