"""Figures in pages that are written by hand are those of the tables that they are of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heedmap.methods.cards import CARDS

ROOT = Path(__file__).parents[2]
Figures = Callable[[], tuple[float, ...]]


def read(name: str) -> Any:
    return json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8"))


def shares(model: str, segment: str, *methods: str) -> Figures:
    """The mean share inside, of docs/zoo.json."""
    return lambda: tuple(
        read("zoo")["models"][model]["segments"][segment]["rows"][method]["share"][0] for method in methods
    )


def measured(run: str, key: str, *methods: str) -> Figures:
    """The values of a measure of docs/results.json."""

    def values() -> tuple[float, ...]:
        (measure,) = (measure for measure in read("results")[run]["measures"] if measure["key"] == key)
        rows = {row["method"]: row["value"] for row in measure["rows"]}
        return tuple(rows[method] for method in methods)

    return values


TOLD: tuple[tuple[str, str, Figures], ...] = (
    (
        "README.md",
        "On the ViT, for example, {:.0%} of the paper's relevance lies on the object asked about, which covers {:.0%} of the picture; "
        "of the other methods `token_tm` and those on Libra gradients come nearest ({:.0%} and {:.0%}), `raw_attention` has {:.0%}.",
        shares("vit-shapes", "image", "generic", "chance", "token_tm", "libra_generic", "raw_attention"),
    ),
    (
        "docs/explanation.md",
        "integrated gradients on pictures ([mAP of a segmentation](results.md#vit-segmentation) {:.2f}, occlusion {:.2f}, gradient × "
        "input {:.2f};",
        measured("segmentation-vit-shapes", "ap", "integrated_gradients", "occlusion", "input_x_gradient"),
    ),
    (
        "docs/evaluate.md",
        "where both go in one order, least relevant first, the areas are {:.2f} and {:.2f},",
        measured("metrics-lxmert-shapes", "joint/negative/accuracy/auc", "heedmap", "generic"),
    ),
    (
        "docs/answers.md",
        "its share on the object is {:.2f}, where chance is {:.2f} and `generic` has {:.2f}.",
        shares("idefics-shapes", "image", "dex_ar", "chance", "generic"),
    ),
    ("docs/answers.md", "too: {:.2f}, which is chance.", shares("idefics-shapes", "image", "tam")),
)
"""Page, what it says with places for figures, and the figures."""


def plain(text: str) -> str:
    """One line, without spaces before signs."""
    return " ".join(text.split()).replace(" %", "%").replace("% and", " and")


@pytest.mark.parametrize(("page", "sentence", "figures"), TOLD, ids=[f"{page}: {told[:30]}" for page, told, _ in TOLD])
def test_a_page_has_the_figures_of_its_table(page: str, sentence: str, figures: Figures) -> None:
    assert plain(sentence.format(*figures())) in plain((ROOT / page).read_text(encoding="utf-8"))


def test_a_card_has_the_figure_of_its_table() -> None:
    inside = read("known-truth")["tables"]["programs, share"]["value_zeroing"]["hops-2"][0]
    assert f"(share {inside:.2f} where two hops are to be found" in CARDS["value_zeroing"].fails


def test_what_no_row_of_is_kept_is_told_with_its_command() -> None:
    assert "ROC-AUC" in CARDS["tam"].fails
    assert "(python bench/spoken.py)" in CARDS["tam"].fails
