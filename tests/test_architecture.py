"""One of each is added in just the way that docs/architecture.md says, and every part of the house that lists them knows it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from markupsafe import Markup
from rich.text import Text
from torch import Tensor
from typer.testing import CliRunner

import heedmap
from heedmap.cli import main
from heedmap.cli.command import command
from heedmap.cli.options import ModelOptions
from heedmap.datasets.opening import READERS, open_data
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import InputError
from heedmap.evaluate.evaluation import EvaluationPlan, contenders, run
from heedmap.evaluate.experiments.sanity import Sanity
from heedmap.methods import METHODS, Method
from heedmap.methods.cards import CARDS, Card
from heedmap.methods.method import RelevanceRows, TargetView
from heedmap.models import kinds
from heedmap.models.inputs import samples
from heedmap.render.views import VIEWS, View

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
TEXT = "dog red ; cat blue ? cat"


def gate(view: TargetView, options: Mapping[str, Any]) -> RelevanceRows:
    """The attention of the last layer from each row to its own stream, to a power."""

    def rows_of(stream: int, state: Any, rows: Tensor) -> dict[int, Tensor]:
        return {stream: view.mean_probabilities(max(state)).left(rows) ** options["power"]}

    return rows_of


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> str:
    made = Method("power", "attention to a power", "none", {"power": 2.0}, {}, prepare=gate)
    monkeypatch.setitem(METHODS, made.name, made)
    monkeypatch.setitem(CARDS, made.name, Card("r E_h[A]ᵖ", "attention", 1, 1, "sees the last layer alone"))
    return made.name


def test_a_method(method: str) -> None:
    subject = heedmap.load("zoo/gpt-lists")
    raw = subject.explain(text=TEXT, method="raw_attention", drop_self=False)
    found = subject.explain(text=TEXT, method=method)
    torch.testing.assert_close(found["text"], raw["text"] ** 2)
    assert method in CliRunner().invoke(main.app, ["methods"]).output
    assert method in {one.name for one in contenders([method], crossed=False)}
    assert "Method card: power" in found.to_html()
    with pytest.raises(heedmap.HeedmapError, match=r"it has power=2\.0"):
        subject.explain(text=TEXT, method=method, wrong=1)


def test_a_kind_of_model(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = kinds.Kind("image-audio", ("image", "audio"), (), "", "image and audio → similarity")
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, kind))
    assert kinds.kind_of(("pixel_values", "input_features"), generates=False) is kind
    given = {"text": None, "image": ["a", "b"], "boxes": None, "audio": "c"}
    assert samples(kind, "both", given) == {"image": ["a", "b"], "audio": ["c", "c"]}
    with pytest.raises(InputError, match="both takes image and audio"):
        samples(kind, "both", {**given, "audio": None})


class Waves(View):
    """A segment as one word."""

    def body(self, segment: Any, index: int, used: Any, beside: Any) -> Markup:
        return Markup("<p>waves</p>")

    def heat(self, segment: Any, index: int, used: Any, colours: Any) -> Sequence[Text]:
        return [Text("~~~")]


def test_a_kind_of_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIEWS, "waves", Waves())
    found = heedmap.load("zoo/gpt-lists").explain(text=TEXT)
    sea = replace(found, segments={"sea": replace(found.segments["text"], name="sea", kind="waves")})
    assert "<p>waves</p>" in sea.to_html()
    assert "<p>waves</p>" not in found.to_html()
    assert sea.plot().axes


class Lists:
    """A data set of lists, a line a sample."""

    def __init__(self, folder: Path) -> None:
        self._lines = (Path(folder) / "lists.txt").read_text().splitlines()
        self.keys = [str(number) for number in range(len(self._lines))]
        self.problems: Mapping[str, str] = {}
        self.description: Mapping[str, Any] = {"kind": "lists"}

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Sample:
        text, _, answer = self._lines[index].partition(" → ")
        return Sample(self.keys[index], {"text": text}, RightAnswers((answer,)))


def test_a_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("heedmap.datasets.lists")
    module.open_lists = Lists  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(READERS, "lists", ("lists, a line a sample", "lists", "open_lists"))
    (tmp_path / "lists.txt").write_text("dog red ; cat blue ? cat → blue\nsun green ; dog red ? dog → red\n")
    reader = open_data("lists", tmp_path)
    assert [reader[i].inputs["text"] for i in range(len(reader))] == [TEXT, "sun green ; dog red ? dog"]
    subject = heedmap.load("zoo/gpt-lists")
    chosen = contenders(["generic", "random"], crossed=False)
    summary = run(EvaluationPlan(Sanity(("agreement",)), subject, reader, chosen, 2), tmp_path / "run")
    assert summary["samples"] == 2
    assert summary["evaluation"] == "sanity"


@dataclass(frozen=True, kw_only=True)
class Loud:
    """Options of the new command alone."""

    loud: bool = False


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    @command()
    def kind(*, model: ModelOptions, how: Loud) -> None:
        """Say of which kind a model is."""
        told = model.load().kind
        print(told.upper() if how.loud else told)

    entry = main.CommandEntry(kind, ("heedmap kind zoo/gpt-lists",), main.EXPLAIN)
    monkeypatch.setattr(main, "COMMANDS", {**main.COMMANDS, "kind": entry})
    program = main._program()
    assert "Say of which kind a model is." in CliRunner().invoke(program, ["--help"]).output
    assert CliRunner().invoke(program, ["kind", "zoo/gpt-lists", "--loud"]).output == "CAUSAL\n"
    assert CliRunner().invoke(program, ["kind", "zoo/none"]).exit_code != 0


def test_the_page_names_files_that_are_there() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", PAGE))
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / "src/heedmap" / name).exists() and not (ROOT / name).exists()]
    assert missing == []


def test_the_page_draws_the_rings_of_the_contract() -> None:
    (contract,) = [
        one
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if one["type"] == "layers"
    ]
    assert contract["exhaustive"]
    assert "ignore_imports" not in contract
    drawn = PAGE.split("```text\n")[1].split("```")[0]
    rings = [line.split("  ")[0].strip() for line in drawn.splitlines()]
    told = [name for line in rings for name in line.split()]
    listed = [name for layer in contract["layers"] for name in layer.replace("|", " ").split()]
    assert sorted(told) == sorted(listed)
    order = {
        name: number for number, layer in enumerate(contract["layers"]) for name in layer.replace("|", " ").split()
    }
    assert [order[name] for name in told] == sorted(order[name] for name in told)


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert len(places) > 300
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_signatures_say_what_is_given() -> None:
    """``Any`` is left to what any function of torch takes and, in place of ``...``, to the options of a foreign call."""
    found = set()
    for path in sorted((ROOT / "src/heedmap").rglob("*.py")):
        name = path.relative_to(ROOT / "src/heedmap").as_posix()
        if name.startswith(("attention/", "lrp/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = (
                    *node.args.posonlyargs,
                    *node.args.args,
                    *node.args.kwonlyargs,
                    node.args.vararg,
                    node.args.kwarg,
                )
                said = [node.returns, *(argument.annotation for argument in given if argument)]
                if any(re.search(r"\bAny\b", ast.unparse(annotation)) for annotation in said if annotation):
                    found.add(f"{name}: {node.name}")
    assert found == {"types.py: __call__", "engine/explain.py: explain"}
