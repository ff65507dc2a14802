"""Advice of messages, as a shell and a page have it."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import heedmap
from heedmap.common.printable import PAGE, SHELL, said_for

SOURCE = Path(heedmap.__file__).parent
PYTHON = re.compile(
    r"(?<![-\w])(?:give|pass|choose|use|by|with|or|which|says?) [a-z_]+=|(?<![-.\w])[a-z_]+=(?:True|False|None|…|[{(]|'\w)"
    r"|heedmap\.(?:load|explain|targets|METHODS)\b|\bcallable\(|(?<![-\w])[a-z_]+=(?=[,;. )]|$)"
    r"|\bNextToken\(|\bload\(…"
)
"""What only Python reads,"""
FROM_HERE = re.compile("[Ii]n Python\\b")
"""but after these words."""
OWN = ("cli", "zoo", "render/figure.py", "render/scale.py", "methods/cards.py", "packaged", "common/printable.py")
"""What makes no messages with advice, or writes them for the shell."""
CALLERS = {
    "use heedmap.load(...).explain(text=...)": "text where tensors belong; both faces make tensors of it",
    "a heedmap.Model: heedmap.load(name) makes one": "the model is no model; both faces load it",
    "expected a heedmap.Model, which heedmap.load makes": "as above",
    "one of heedmap.targets": "a target that is a Python object",
    "give Contrast two heedmap.targets": "as above",
    "a heedmap.targets.Target, a callable(output)": "as above",
    "contour=True needs": "an option of pictures that neither face has",
    "threshold=X and most=X": "arguments that both faces check themselves",
}
"""What messages say that only those see who call heedmap from Python → why."""
FOLDERS = ("datasets", "scale", "engine/stepwise.py", "engine/engine.py", "engine/heads.py")
"""What the web page never calls, or never so: it reads no data sets and asks for no whole map by an option."""


def _messages(tree: ast.AST) -> Iterator[str]:
    """Strings of a module but its docstrings; X for what is filled in."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.value


@cache
def _of_module(path: Path) -> tuple[str, ...]:
    return tuple(_messages(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("ways", "skipped"), [(SHELL, OWN), (PAGE, (*OWN, *FOLDERS))], ids=["shell", "page"])
def test_no_message_gives_a_shell_or_a_page_advice_for_python(ways, skipped: tuple[str, ...]) -> None:
    left = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith(skipped):
            continue
        for message in _of_module(path):
            if " " in message and not any(words in message for words in CALLERS):
                said = said_for(ways, message)
                left += [(name, said)] if PYTHON.search(FROM_HERE.split(said)[0]) else []
    assert not left


@pytest.mark.parametrize(
    ("ways", "message", "said"),
    [
        (SHELL, "no boxes was given; give boxes=…", "no boxes was given; give --boxes"),
        (
            SHELL,
            "this model: method='occlusion', 'random', or 'auto'",
            "this model: --method 'occlusion', 'random', or auto",
        ),
        (SHELL, "which mixers=False turns off: leave it out", "which --option mixers=false turns off: leave it out"),
        (SHELL, "generate={'max_new_tokens': …} gives it more", "--generate max_new_tokens=N gives it more"),
        (SHELL, "the answer='x' stays", "the answer='x' stays"),
        (
            SHELL,
            "say which is which: columns={'text': 'NAME'}, on the command line --file columns.text=NAME",
            "say which is which: --file columns.text=NAME",
        ),
        (PAGE, "no text was given; give text=…", "no text was given; fill in its field (text)"),
        (PAGE, "the paper's rules, which mixers=False turns off", "the paper's rules"),
        (PAGE, "this model: method='occlusion', or 'auto'", "this model: choose 'occlusion' as the method"),
        (
            PAGE,
            "is called at /home/me/lib/python3.11/site-packages/transformers/models/x.py:157 in forward",
            "is called at transformers/models/x.py:157 in forward",
        ),
        (PAGE, "is called at /home/me/own/model.py:3 in forward", "is called at model.py:3 in forward"),
    ],
)
def test_advice_is_what_the_reader_can_do(ways, message: str, said: str) -> None:
    assert said_for(ways, message) == said


def test_a_function_of_the_output_is_for_python_alone() -> None:
    message = "the output has no logits; pass target=callable(output) -> (batch,) tensor"
    assert "--target" in said_for(SHELL, message)
    assert "choose another answer" in said_for(PAGE, message)
    assert "callable(output)" not in said_for(SHELL, message) + said_for(PAGE, message)


def test_notes_of_a_page_call_nothing() -> None:
    sample = heedmap.zoo_sample("convbert-lists", 0)
    explanation = heedmap.load("zoo/convbert-lists").explain(**sample.inputs)
    assert "mixers=False" in repr(explanation)
    page = explanation.to_html()
    assert "an extension of the paper’s rules" in page.replace("&#39;", "’").replace("'", "’")
    assert "mixers=False" not in page


@pytest.mark.parametrize("ways", [SHELL, PAGE], ids=["shell", "page"])
@pytest.mark.parametrize("method", list(heedmap.METHODS))
def test_a_list_of_options_stays_a_list(ways, method: str) -> None:
    """Their names and defaults are the same for all readers."""
    with pytest.raises(heedmap.errors.OptionError) as told:
        heedmap.METHODS[method].resolve({"start_layr": 1})
    assert said_for(ways, str(told.value)) == str(told.value)
