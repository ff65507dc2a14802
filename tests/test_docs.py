"""The Python and the commands of the documents run as they stand, in an empty folder."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import heedmap
from heedmap.methods.cards import CARDS, page

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, code) of every block of this language."""
    pattern = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(page.name, code) for page in PAGES for code in pattern.findall(page.read_text())]


COMMANDS = [(name, code) for name, code in blocks("sh") if not code.startswith("make")]
"""The make targets are what runs all this."""

Step = tuple[str, str]
"""A block of Python, and what the page says that it prints; empty: the page says nothing."""


def lessons() -> list[tuple[str, list[Step]]]:
    """(page, steps): a block that imports heedmap begins anew, the others of its page go on from there."""
    pattern = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
    found: list[tuple[str, list[Step]]] = []
    for path in PAGES:
        for code, printed in pattern.findall(path.read_text()):
            if re.search("^import heedmap", code, re.MULTILINE):
                found.append((path.name, []))
            found[-1][1].append((code, printed))
    return found


WRITTEN = [
    *PAGES,
    *(ROOT / "docs").rglob("*.ipynb"),
    *(path for folder in ("src", "tests", "bench") for path in (ROOT / folder).rglob("*.py")),
]


def test_no_line_installs_the_package_by_its_name() -> None:
    promised = re.compile(r"""(?:pip|uv|pipx) [^\n]*?install [^\n#`]*?(?<![\w/.])heedmap(?![\w/'’])""")
    assert promised.search("pip install 'heedmap[eval]'")
    assert promised.search("pip install -U heedmap\n")
    assert not promised.search("pip install '../heedmap[eval]'")
    told = [f"{path}: {match[0]}" for path in WRITTEN for match in promised.finditer(path.read_text(encoding="utf-8"))]
    assert [line for line in told if not line.startswith(str(Path(__file__)))] == []


def test_extras_that_messages_name_are_extras_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    calls = re.compile(r"""how_to_install\(["'](\w+)|library\("[\w.]+", "(\w+)"|pip install '\.\[([\w,]+)\]'""")
    named = {
        extra
        for path in WRITTEN
        for found in calls.findall(path.read_text(encoding="utf-8"))
        for extra in "".join(found).split(",")
    }
    assert {"app", "eval", "gguf", "attribution", "train", "scale", "timm", "open_clip"} <= named <= set(extras)


@pytest.mark.parametrize(("name", "steps"), lessons())
def test_python_blocks_run_and_print_what_the_page_says(
    name: str, steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for code, printed in steps:
        exec(compile(code, name, "exec"), scope)
        assert capsys.readouterr().out == printed or not printed
    assert "heedmap" in scope


NOT_RUN = {
    ("app.md", "pip install '.[app]'"): "installs",
    ("app.md", "heedmap app"): "serves until it is stopped; tests/web starts it",
    ("evaluate.md", "heedmap evaluate perturbation LXMERT"): "needs VQA v2",
    (
        "evaluate.md",
        "heedmap zoo train visualbert-shapes --masked",
    ): "trains for minutes; tests/zoo/test_masks.py does it small",
    ("evaluate.md", "heedmap evaluate fidelity zoo/visualbert-shapes"): "needs what the line above it trains",
    ("evaluate.md", "heedmap evaluate detection facebook/detr-resnet-50"): "needs COCO",
    ("tutorial.md", "python3 -m venv .venv"): "installs",
    ("tutorial.md", ". .venv/bin/activate"): "installs",
    ("tutorial.md", "pip install '../heedmap[eval]'"): "installs",
    ("tutorial.md", "heedmap zoo list"): "run by tests/cli",
}
"""(page, how a command begins) → why it is none of :data:`COMMANDS`."""


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    written = re.compile(r"^(?:    |\$ )((?:heedmap|pip|python3?|git|uv|make|\.) .*)$", re.MULTILINE)
    fenced = re.compile(r"```(?!console\n)\w*\n.*?```", re.DOTALL)
    found = {(path.name, line) for path in PAGES for line in written.findall(fenced.sub("", path.read_text()))}
    assert {
        (name, start) for name, start in NOT_RUN for page, line in found if page == name and line.startswith(start)
    } == (NOT_RUN.keys())
    left = [line for line in found if not any(line[0] == name and line[1].startswith(start) for name, start in NOT_RUN)]
    assert left == []


@pytest.mark.weights
@pytest.mark.parametrize(("name", "code"), COMMANDS)
def test_commands_run(name: str, code: str, tmp_path: Path, warmed: Path) -> None:
    path = os.pathsep.join((str(warmed.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_links_lead_somewhere() -> None:
    for path in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_words_of_refusals_are_those_of_the_source() -> None:
    rows = re.findall(r"^\| (?!the message says|---)(.*?) \|", (ROOT / "docs" / "refused.md").read_text(), re.MULTILINE)
    source = {
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert rows
    for words in rows:
        assert any(words in text for text in source), words


def test_the_method_cards_are_those_of_the_registry() -> None:
    """Written by ``heedmap methods --markdown docs/reference/methods.md``."""
    assert set(CARDS) == set(heedmap.METHODS)
    assert (ROOT / "docs" / "reference" / "methods.md").read_text() == page(heedmap.METHODS.values())
