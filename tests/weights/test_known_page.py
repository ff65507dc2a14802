"""The page of known truth is made of its figures."""

import json
from pathlib import Path

import pytest

pytest.importorskip("rdkit", reason="rdkit, of the dev extra, draws the molecules")

from known.findings import told
from known.page import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_that_of_the_figures() -> None:
    """Written by ``python bench/known_truth.py --out docs``."""
    facts = json.loads((DOCS / "known-truth.json").read_text(encoding="utf-8"))
    tables = facts.pop("tables")
    assert (DOCS / "known-truth.md").read_text(encoding="utf-8") == page(tables, facts, told(tables))
