"""What a run found, for people: a leaderboard for the terminal, curves as pictures, and one HTML file that loads nothing."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from io import BytesIO
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD

from heedmap.methods.cards import CHANCE
from heedmap.render.page import document
from heedmap.render.text import html_text, scrolled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

CLEAR = 0.05
"""A difference with a smaller p is called clear."""
COLOURS = {"better": "green", "worse": "red", "": ""}
DOTS = 110
INK, FAINT = "#40346e", "#9a9aa2"
MARKS = ("-", "--", ":", "-.")

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f6f4; color: #1d1d1f; font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; margin: .5rem 0; }
small, .fine { color: #62626a; font-size: .86rem; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid #e3e3e0; border-radius: .7rem; padding: .6rem 1rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .28rem .8rem; border-bottom: 1px solid #eeeeec; white-space: nowrap; }
th { font-weight: 600; color: #62626a; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tr.paper td { background: #f1effa; }
td small { display: block; }
.best { font-weight: 700; }
.better { color: #0a6f54; }
.worse { color: #a3341f; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(30rem, 1fr)); gap: 1rem; }
.curves img { width: 100%; display: block; border-radius: .6rem; border: 1px solid #e3e3e0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; overflow-wrap: anywhere; }
dt { color: #62626a; }
dd { margin: 0; }
@media (max-width: 46rem) { main { padding: 1.2rem .8rem; } .curves { grid-template-columns: 1fr; } }
""".strip()


def report(summary: Mapping[str, Any], pictures: Mapping[str, bytes], seconds: float) -> str:
    """The page.

    Args:
        summary: of the run.
        pictures: key of a curve → PNG file.
        seconds: that the measurements took.
    """
    name = f"{summary['evaluation']} of {summary['model']['name']}"
    body = "\n".join(
        (*_head(summary, name, seconds), _leaderboard(summary), _curves(summary, pictures), _left_out(summary))
    )
    return document(f"<style>{STYLE}</style>\n<main>\n{body}\n</main>\n", f"heedmap: {name}")


def row_of(name: str, measure: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a measure of a summary says of a contender; None: it has no value."""
    return next((row for row in measure["rows"] if row["method"] == name and row["value"] is not None), None)


def verdict(row: Mapping[str, Any], measure: Mapping[str, Any]) -> str:
    """``"better"`` or ``"worse"`` than the paper's method, where the difference is clear (p < 0.05), else ``""``."""
    if row.get("p") is None or row["p"] >= CLEAR or not row["difference"]:
        return ""
    return "better" if (row["difference"] > 0) == (measure["better"] == "higher") else "worse"


def _head(summary: Mapping[str, Any], name: str, seconds: float) -> Iterator[str]:
    skipped = summary["skipped"]["count"]
    facts = {
        "model": f"{summary['model']['name']} (weights {summary['model']['weights']})",
        "data": ", ".join(f"{key}: {value}" for key, value in summary["data"].items()),
        "samples": f"{summary['samples']:,}" + (f", {skipped:,} skipped" if skipped else ""),
        "settings": ", ".join(f"{key}: {json.dumps(value)}" for key, value in summary["settings"].items()),
        "seed": summary["seed"],
        "measured in": f"{seconds / 60:.1f} min",
    }
    listed = "".join(f"<dt>{html_text(key)}</dt><dd>{html_text(str(value))}</dd>" for key, value in facts.items())
    yield f"<h1>{html_text(name)}</h1>\n<dl class=fine>{listed}</dl>"


def _leaderboard(summary: Mapping[str, Any]) -> str:
    measures = summary["measures"]
    head = "".join(
        f"<th>{html_text(one['title'])}<br><small>{'higher' if one['better'] == 'higher' else 'lower'} is better</small></th>"
        for one in measures
    )
    rows = "\n".join(_row(entry, summary) for entry in summary["leaderboard"])
    table = f"<table><tr><th>method</th><th>mean rank</th>{head}</tr>\n{rows}\n</table>"
    return (
        "<h2>Leaderboard</h2>\n<p class=fine>By mean rank over the measures. In brackets the 95 % bootstrap interval. Green and "
        f"red: clearly better or worse than <code>{html_text(summary['reference'])}</code>, the paper’s method (paired "
        "bootstrap, p &lt; 0.05 after Holm’s correction).</p>\n" + scrolled(table, "leaderboard")
    )


def _row(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    name = entry["method"]
    cells = "".join(_cell(name, measure) for measure in summary["measures"])
    kind = " class=paper" if name == summary["reference"] else ""
    return f"<tr{kind}><td>{html_text(name)}</td><td>{entry['rank']:.1f}</td>{cells}</tr>"


def _cell(name: str, measure: Mapping[str, Any]) -> str:
    row = row_of(name, measure)
    if row is None:
        return "<td>–</td>"
    kinds = [verdict(row, measure)] + (["best"] if row["value"] == measure["rows"][0]["value"] else [])
    interval = "" if row["low"] is None else f"<small>({row['low']:.3f} – {row['high']:.3f})</small>"
    return f'<td class="{" ".join(kinds).strip()}">{row["value"]:.3f}{interval}</td>'


def _curves(summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    if not summary["curves"]:
        return ""
    images = "".join(
        f'<img alt="{html_text(one["title"])}: {html_text(one["y_label"])}" '
        f'src="data:image/png;base64,{b64encode(pictures[one["key"]]).decode()}">'
        for one in summary["curves"]
    )
    return f"<h2>Curves</h2>\n<div class=curves>{images}</div>"


def _left_out(summary: Mapping[str, Any]) -> str:
    parts = []
    if summary["refused"]:
        items = "".join(
            f"<dt>{html_text(key)}</dt><dd>{html_text(why)}</dd>" for key, why in summary["refused"].items()
        )
        parts.append(f"<h2>Methods that do not fit this model</h2>\n<dl class=fine>{items}</dl>")
    skipped = summary["skipped"]
    if skipped["count"]:
        items = "".join(f"<dt>{html_text(key)}</dt><dd>{html_text(why)}</dd>" for key, why in skipped["why"].items())
        more = skipped["count"] - len(skipped["why"])
        note = f"<p class=fine>and {more:,} more</p>" if more else ""
        parts.append(f"<h2>Skipped samples ({skipped['count']:,})</h2>\n<dl class=fine>{items}</dl>{note}")
    return "\n".join(parts)


# -- curves ------------------------------------------------------------------------------------------------------------


def curve_png(curve: Mapping[str, Any], reference: str) -> bytes:
    """One curve of a summary as a PNG file.

    Args:
        curve: an entry of the summary's ``curves``.
        reference: the contender whose line is drawn thick, with its interval.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 4.4), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, curve, reference)
    axes.set(title=curve["title"], xlabel=curve["x_label"], ylabel=curve["y_label"])
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7.5, frameon=False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, curve: Mapping[str, Any], reference: str) -> None:
    from matplotlib import colormaps

    colours = colormaps["tab10"]
    others = [name for name in curve["lines"] if name not in (reference, CHANCE)]
    for place, name in enumerate(others):
        (line,) = axes.plot(curve["x"], _gaps(curve["lines"][name]["y"]), linewidth=1.1, alpha=0.85, label=name)
        line.set(color=colours(place % 10), linestyle=MARKS[place // 10 % len(MARKS)])
    if CHANCE in curve["lines"]:
        axes.plot(curve["x"], _gaps(curve["lines"][CHANCE]["y"]), color=FAINT, linewidth=2, label=CHANCE)
    if reference in curve["lines"]:
        line = curve["lines"][reference]
        axes.fill_between(curve["x"], _gaps(line["low"]), _gaps(line["high"]), color=INK, alpha=0.15, linewidth=0)
        axes.plot(curve["x"], _gaps(line["y"]), color=INK, linewidth=2.6, label=reference)


def _gaps(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


# -- the terminal ------------------------------------------------------------------------------------------------------


def leaderboard(summary: Mapping[str, Any]) -> Table:
    """Methods by mean rank, a lettered column a measure; green and red: clearly better or worse than the paper's method."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{summary['evaluation']} of {summary['model']['name']}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("method", min_width=22, overflow="ellipsis", no_wrap=True)
    table.add_column("rank", justify="right", min_width=4, no_wrap=True)
    for letter, _ in _lettered(summary):
        table.add_column(letter, justify="right", min_width=5, no_wrap=True)
    for entry in summary["leaderboard"]:
        cells = [Text(*_shown(entry["method"], measure)) for _, measure in _lettered(summary)]
        bold = "bold" if entry["method"] == summary["reference"] else ""
        table.add_row(Text(entry["method"]), f"{entry['rank']:.1f}", *cells, style=bold)
    return table


def notes(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the columns are, and what was left out."""
    for letter, measure in _lettered(summary):
        yield f"  {letter}: {measure['title']} ({measure['better']} is better)"
    for name, why in summary["refused"].items():
        yield f"left out: {name}: {why}"
    skipped = summary["skipped"]
    if skipped["count"]:
        key, why = next(iter(skipped["why"].items()))
        yield f"{skipped['count']:,} samples were skipped, such as {key}: {why}; summary.json lists them"


def _lettered(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(ascii_uppercase, summary["measures"], strict=False))


def _shown(name: str, measure: Mapping[str, Any]) -> tuple[str, str]:
    row = row_of(name, measure)
    return ("–", "") if row is None else (f"{row['value']:.3f}", COLOURS[verdict(row, measure)])
