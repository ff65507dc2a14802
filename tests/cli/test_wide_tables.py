"""Tables with many figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("columns", ["80", None])
def test_figures_that_go_to_no_terminal_are_whole(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    words = ("perturbation", "zoo/lxmert-shapes", "--samples", "2", "--method", "generic", "--method", "rollout")
    shown = run("evaluate", *words, "--out", tmp_path / "figures").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("generic")]
    assert "…" not in shown
    assert len(line.split()) == 2 + sum(": " in each and each.startswith("  ") for each in shown.splitlines())
