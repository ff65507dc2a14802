"""The page of the models is of the form that the sweep writes, and its counts are those of its tables."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from . import page

WRITTEN = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
ROWS: list[dict[str, Any]] = [
    {
        **{"library": "transformers", "family": "bert", "class": "BertModel", "verdict": "agrees", "softmax": True},
        **{"part": "whole", "cause": "oracle", "auto": "generic", "eager": 1e-7, "batch": 0.0, "padding": 0.0},
    },
    {
        **{"library": "transformers", "family": "bert", "class": "BertForMaskedLM", "verdict": "fused = eager"},
        **{"part": "whole", "cause": "", "softmax": True, "eager": 1e-7, "batch": "inputs that are not one a sample"},
    },
    {
        **{
            "library": "transformers",
            "family": "resnet",
            "class": "ResNetModel",
            "verdict": "refused",
            "softmax": False,
        },
        **{"cause": "no softmax attention", "auto": "integrated_gradients"},
    },
    {
        "library": "transformers",
        "family": "dinat",
        "class": "DinatModel",
        "verdict": "not built",
        "cause": "ImportError",
    },
]


def cells(text: str) -> list[list[str]]:
    """The lines of the tables of families."""
    lines = [line for section in text.split("\n## ")[1:] for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| family")]


def names(line: list[str]) -> list[str]:
    return re.findall(r"`([^`]+)`", line[1])


def number(text: str, words: str) -> int:
    found = re.search(rf"^\| {re.escape(words)} \| (\d+)", text, re.MULTILINE)
    assert found, words
    return int(found[1])


def test_lines_and_shares_of_rows() -> None:
    text = page.written(ROWS)
    assert "| bert | `BertForMaskedLM` `BertModel` | whole | oracle 1, eager, batch 1, padding 1 |" in text
    assert "| resnet | `ResNetModel` | without attention | no softmax attention; `integrated_gradients` |" in text
    assert "| dinat | `DinatModel` | — | ImportError |" in text
    assert "| – explained by `generic` | 2 of 1 families, 100.0 % |" in text
    assert "| without softmax attention, explained by some method | 1 of 1 families, 100.0 % |" in text


def test_a_wrong_map_is_called_wrong() -> None:
    text = page.written([{**ROWS[0], "verdict": "WRONG", "cause": "a batch differs from its samples"}])
    assert "| bert | `BertModel` | wrong | a batch differs from its samples; `generic` |" in text
    assert "| – explained by `generic` | 0, 0.0 % |" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "called at /home/a/.venv/lib/python3.11/site-packages/timm/layers/mlp.py:12",
            "called at timm/layers/mlp.py:12",
        ),
        ("called at /usr/lib/python3/dist-packages/timm/layers", "called at timm/layers"),
        ("called at /home/a/.venv/lib/python3.11/site-pack", "called at …"),
        ("no file '/home/a/models/x.json', of 3 / 4 heads", "no file '…', of 3 / 4 heads"),
    ],
)
@pytest.mark.parametrize("said", ["cause", "auto_error"])
def test_no_path_of_a_machine_stands_on_the_page(said: str, words: str, told: str) -> None:
    row = {**ROWS[2], "cause": "no softmax attention", "auto": None, said: words}
    text = page.written([row])
    assert told in text
    assert "/home/" not in text
    assert "-packages" not in text


def test_the_page_has_no_path_of_a_machine() -> None:
    assert page.placeless(WRITTEN) == WRITTEN


def test_the_page_is_of_this_form() -> None:
    assert WRITTEN.startswith(page.INTRODUCTION.split("{libraries}")[0])
    lines = cells(WRITTEN)
    assert {line[2] for line in lines} <= {*page.WORKS, "—"}
    assert all(len(line) == 4 and names(line) for line in lines)
    assert {"transformers", "timm", "torchvision", "open_clip"} == set(re.findall(r"^## (\w+)", WRITTEN, re.MULTILINE))


def test_the_counts_are_those_of_the_tables() -> None:
    of = Counter[str]()
    for line in cells(WRITTEN):
        of[line[2]] += len(names(line))
    assert number(WRITTEN, "swept") == of.total()
    assert number(WRITTEN, "built and ran") == of.total() - of["—"]
    assert number(WRITTEN, "wrong") == of["wrong"]
    whole_or_part = of["whole"] + of["language part"]
    assert number(WRITTEN, "– explained by `generic`") <= whole_or_part <= number(WRITTEN, "built and ran")


def test_the_readme_says_what_the_page_counts() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for words in ("mix tokens by softmax attention", "held against the oracle, all agree"):
        assert f"{number(WRITTEN, words):,} " in readme
    for words in ("– explained by `generic`", "– explained by some method"):
        (share,) = re.findall(rf"^\| {words} \| .* families, (\S+) %", WRITTEN, re.MULTILINE)
        assert f"{share} %" in readme
