"""Tables with many figures."""

from __future__ import annotations

from typing import Any

import pytest


def test_figures_that_go_to_no_terminal_are_whole(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many columns there are said to be; the second time, what was measured is told again."""
    words = ("perturbation", "zoo/lxmert-shapes", "--samples", "2", "--method", "generic", "--method", "rollout")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = run("evaluate", *words, "--out", "figures").stdout
    monkeypatch.delenv("COLUMNS")
    for shown in (narrow, run("evaluate", *words, "--out", "figures").stdout):
        (line,) = [line for line in shown.splitlines() if line.startswith("generic")]
        assert "…" not in shown
        assert len(line.split()) == 2 + sum(": " in each and each.startswith("  ") for each in shown.splitlines())
