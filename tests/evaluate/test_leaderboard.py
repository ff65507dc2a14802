"""What a run says in a terminal and on its page: every column at any width, and which methods agree."""

import sys

import pytest
from rich.console import Console

from heedmap.errors import MissingLibraryError
from heedmap.evaluate.report import _duration, notes, report, tables
from heedmap.evaluate.statistics import ranks


def _summary(measures: int, agreement: bool = False) -> dict:
    names = ["generic", "generic, self_in_rule_10=False", "random"]
    rows = [{"method": name, "value": 0.123 + n, "difference": 0.0, "p": None} for n, name in enumerate(names)]
    listed = [{"key": str(n), "title": f"measure {n}", "better": "higher", "rows": rows} for n in range(measures)]
    facts = {"methods": names, "spearman": [[1.0, 0.25, -0.5], [0.25, 1.0, 0.75], [-0.5, 0.75, 1.0]]}
    return {
        "evaluation": "sanity",
        "model": {"name": "zoo/x", "weights": "0"},
        "data": {"kind": "folder", "folder": "/home/me/pictures"},
        "samples": 1,
        "settings": {},
        "seed": 0,
        "reference": "generic",
        "leaderboard": [{"method": name, "rank": 1.0} for name in names] if measures else [],
        "measures": [{**measure, "rows": [{**r, "low": None} for r in rows]} for measure in listed],
        "curves": [],
        "refused": {},
        "skipped": {"count": 1, "why": {"a": "b"}},
        "facts": {"agreement": {"text": facts}} if agreement else {},
    }


def _printed(summary: dict, width: int) -> list[str]:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        for table in tables(summary, width):
            console.print(table, width=width)
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_column_is_there_at_any_width(width):
    lines = _printed(_summary(30), width)
    assert max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    assert text.count("0.123") == text.count("2.123") == 30
    told = [line.split(":")[0].strip() for line in notes(_summary(30))]
    assert told[:3] == ["A", "B", "C"]
    assert told[25:30] == ["Z", "AA", "AB", "AC", "AD"]
    heads = " ".join(line for line in lines if line.lstrip().startswith("method"))
    assert all(f" {letter}" in heads for letter in told[:30])


def test_which_methods_agree_is_shown_where_nothing_else_is():
    summary = _summary(0, agreement=True)
    text = "\n".join(_printed(summary, 80))
    assert "A generic" in text
    assert all(value in text for value in ("1.00", "0.25", "-0.50", "0.75"))
    assert "rank" not in text.replace("rank the tokens", "").replace("rank correlation", "")
    page = report(summary, {}, 7.5)
    assert "Which methods agree: text" in page
    assert "-0.50" in page
    assert "Leaderboard" not in page


def test_a_page_tells_times_and_numbers_as_people_do():
    page = report(_summary(1), {}, 7.5)
    assert "7.5 s" in page
    assert "/home/me" not in page
    assert "1 sample was skipped" in next(line for line in notes(_summary(1)) if "skipped" in line)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.02, "0.02 s"), (9.4, "9.4 s"), (42, "42 s"), (90, "1.5 min"), (7200, "2.0 h")]
)
def test_how_long_it_took_is_never_nothing(seconds, told):
    assert _duration(seconds) == told


def test_a_leaderboard_without_scipy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingLibraryError, match=r"pip install '\.\[eval\]'"):
        ranks(_summary(1)["measures"])
