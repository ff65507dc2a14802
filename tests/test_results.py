"""The page of results is made of its figures, and says rightly what holds."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from heedmap.errors import ModelLoadError

ROOT = Path(__file__).parent.parent
BENCH = runpy.run_path(str(ROOT / "bench" / "results.py"))
FIGURES = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))


def test_the_page_is_that_of_the_figures() -> None:
    """Written by ``make results``."""
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == BENCH["page"](FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_whole(name: str) -> None:
    run = FIGURES[name]
    command = BENCH["RUNS"][name].command
    assert run["evaluation"] == command[0]
    assert run["samples"] == int(command[command.index("--samples") + 1])
    for measure in run["measures"]:
        for row in measure["rows"]:
            assert row["low"] <= row["value"] + 1e-6
            assert row["value"] <= row["high"] + 1e-6


def _run(better: str, own: float, other: float, p: float) -> dict:
    rows = [
        {"method": "generic", "value": own},
        {"method": "rollout", "value": other, "difference": other - own, "p": p},
    ]
    return {"measures": [{"key": "k", "title": "t", "better": better, "rows": rows}]}


@pytest.mark.parametrize(
    ("better", "own", "other", "p", "told"),
    [
        ("higher", 0.5, 0.4, 0.01, "**holds**, the paper's method is before all 1"),
        ("lower", 0.5, 0.4, 0.01, "`rollout` (-0.100, clearly)"),
        ("higher", 0.5, 0.6, 0.2, "`rollout` (+0.100, not clearly)"),
        ("lower", 0.5, 0.6, 0.2, "**holds**"),
    ],
)
def test_orderings(better: str, own: float, other: float, p: float, told: str) -> None:
    experiment = BENCH["Experiment"]("t", "a", (), ("k",))
    (line,) = BENCH["orderings"](experiment, _run(better, own, other, p))
    assert told in line


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"percent": 50}, False),
        ({"sign": "negative"}, False),
        ({"sample": "a shape"}, False),
        ({"sample": "no"}, False),
    ],
)
def test_questions_of_a_kind(changed: dict, held: bool) -> None:
    asked = {"yes": ("relation", "yes"), "no": ("relation", "no"), "a shape": ("shape", "yes")}
    row = {"segment": "boxes", "sign": "positive", "percent": 25, "sample": "yes", **changed}
    kind = BENCH["Kind"]("relation", "boxes", "positive", 25, "yes")
    assert kind.holds(row, lambda key: SimpleNamespace(kind=asked[key][0], answer=asked[key][1])) is held


@pytest.mark.parametrize("name", FIGURES)
def test_what_was_looked_into_is_told_with_its_figures(name: str) -> None:
    experiment = BENCH["RUNS"][name]
    assert set(FIGURES[name].get("kinds", ())) == set(experiment.kinds)
    text = BENCH["told"](name, FIGURES)
    assert "{" not in text.replace("start_layer={", "")
    assert all(f"{100 * of['generic']:.0f} %" in text for of in FIGURES[name].get("kinds", {}).values())


def test_a_command_gets_the_folders_of_its_model_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    names = BENCH["filled"].__globals__
    monkeypatch.setitem(names, "fetch", lambda name: Path("cache") / name)
    monkeypatch.setitem(names, "trained", lambda recipe, out: out)
    command = BENCH["filled"](BENCH["RUNS"]["perturbation-lxmert-easy-vqa"], Path("runs"))
    assert command[:4] == ["perturbation", "runs/models/lxmert-easy-vqa", "--data", "easy-vqa:cache/easy-vqa"]
    plain = BENCH["RUNS"]["perturbation-vit-shapes"]
    assert BENCH["filled"](plain, Path("runs")) == list(plain.command)


def test_an_experiment_without_its_data_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(name: str) -> Path:
        raise ModelLoadError(f"{name} cannot be had")

    monkeypatch.setitem(BENCH["filled"].__globals__, "fetch", unreachable)
    (tmp_path / "results.json").write_text(json.dumps(FIGURES))
    given = ["perturbation-lxmert-easy-vqa", "--runs", str(tmp_path / "runs"), "--docs", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["results.py", *given])
    BENCH["main"]()
    assert "perturbation-lxmert-easy-vqa is left out: easy-vqa cannot be had" in capsys.readouterr().err
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == BENCH["page"](FIGURES)
