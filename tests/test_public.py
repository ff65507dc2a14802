"""The public surface: which names there are, light to import, and all that the documents use."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import heedmap

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")])
PUBLIC_MODULES = {"heedmap.errors", "heedmap.targets", "heedmap.types"}


def test_the_public_names() -> None:
    assert sorted(heedmap.__all__, key=str.lower) == [
        "__version__",
        "alignment",
        "Answer",
        "Answers",
        "AttentionHeads",
        "compare",
        "Comparison",
        "comparison_page",
        "detections",
        "errors",
        "explain",
        "explain_answer",
        "Explanation",
        "explanation_fragment",
        "Flow",
        "heads",
        "Heads",
        "HeedmapError",
        "inspect",
        "load",
        "Method",
        "METHODS",
        "MethodSpec",
        "Model",
        "MODELS",
        "open_run",
        "plan",
        "Plan",
        "predict",
        "Prediction",
        "Predictions",
        "recommend",
        "Recommendation",
        "run",
        "Run",
        "Segment",
        "side_by_side",
        "Subject",
        "targets",
        "types",
        "zoo_sample",
    ]
    assert dir(heedmap) == sorted(heedmap.__all__)


def test_the_public_targets() -> None:
    kinds = {
        name
        for name, value in vars(heedmap.targets).items()
        if inspect.isclass(value) and issubclass(value, heedmap.targets.Target)
    }
    assert sorted(kinds) == [
        "AnswerSpan",
        "BoxSide",
        "ClassLogit",
        "Contrast",
        "Depth",
        "DetectionQuery",
        "EveryPosition",
        "EveryQuery",
        "FeatureNorm",
        "Forecast",
        "Function",
        "NextToken",
        "PromptMask",
        "Region",
        "Several",
        "Similarity",
        "Target",
        "TokenLabel",
        "TopClasses",
        "TopPrediction",
        "Value",
    ]
    page = (ROOT / "docs" / "reference" / "targets.md").read_text(encoding="utf-8")
    assert {name for name in kinds if f"::: heedmap.targets.{name}\n" not in page} == set()


def test_type_checkers_see_each_public_name_from_its_home() -> None:
    tree = ast.parse(Path(heedmap.__file__).read_text(encoding="utf-8"))
    block, lazily = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(lazily.test) == "not TYPE_CHECKING"
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: f"{home}.{name}" for name, home in heedmap._HOMES.items()}
    assert seen == homes | {name: f"heedmap.{name}" for name in heedmap._MODULES}


@pytest.mark.parametrize("name", heedmap.__all__)
def test_every_public_name_is_there_and_is_told(name: str) -> None:
    value = getattr(heedmap, name)
    assert value is getattr(heedmap, name)
    assert not callable(value) or inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'heed'"):
        heedmap.heed  # noqa: B018


def test_importing_heedmap_imports_no_torch() -> None:
    code = "import sys, heedmap; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_explain_stays_a_function() -> None:
    for module in ("heedmap.engine.explain", "heedmap.render.figure"):
        importlib.import_module(module)
    assert all(map(inspect.isfunction, (heedmap.explain, heedmap.inspect, heedmap.side_by_side)))
    assert not any(name in sys.modules for name in ("heedmap.explain", "heedmap.inspect", "heedmap.load"))


def code_of(page: Path) -> str:
    """The Python of a page or a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def names_used(code: str) -> Iterator[str]:
    """Full names of what the code imports from heedmap, and of what it reads from ``heedmap``."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "heedmap":
            yield f"heedmap.{node.attr}"


def is_public(name: str) -> bool:
    home, _, plain = name.rpartition(".")
    return (home == "heedmap" and plain in heedmap.__all__) or (home in PUBLIC_MODULES and not plain.startswith("_"))


def test_a_deep_name_is_not_public() -> None:
    code = (
        "import heedmap.models\nfrom heedmap.zoo.samples import MATERIALS\nfrom heedmap import load\nheedmap.engine.x"
    )
    assert [name for name in names_used(code) if not is_public(name)] == [
        "heedmap.models",
        "heedmap.zoo.samples.MATERIALS",
        "heedmap.engine",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documents_use_public_names_only(page: Path) -> None:
    used = {name for name in names_used(code_of(page)) if name.split(".")[0] == "heedmap" and name != "heedmap"}
    told = set(re.findall(r"(?<!-m )\bheedmap(?:\.\w+)+", page.read_text(encoding="utf-8")))
    told = {".".join(name.split(".")[: 3 if name.startswith(tuple(PUBLIC_MODULES)) else 2]) for name in told}
    assert sorted(name for name in used | told if not is_public(name)) == []
