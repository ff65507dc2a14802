"""Every public function and class has an example in its docstring, which runs and prints what it says."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import heedmap
from heedmap import targets

TARGETS = {
    f"targets.{name}": value
    for name, value in vars(targets).items()
    if inspect.isclass(value) and issubclass(value, targets.Target)
}
PUBLIC = {name: getattr(heedmap, name) for name in heedmap.__all__ if callable(getattr(heedmap, name))} | TARGETS


def examples(name: str) -> list[doctest.DocTest]:
    """Of the docstring of this name, and of the methods of a class."""
    return [one for one in doctest.DocTestFinder().find(PUBLIC[name], name) if one.examples]


def report(test: doctest.DocTest) -> str:
    """What did not come out as it is told; empty: all did."""
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    return "".join(told)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_which_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = examples(name)
    assert name in [test.name for test in tests], f"heedmap.{name} has no example in its docstring"
    told = "".join(map(report, tests))
    assert not told, told


def test_the_example_of_explaining_a_loaded_model_is_looked_at() -> None:
    assert "Model.explain" in [test.name for test in examples("Model")]


def test_an_example_that_does_not_hold_is_told() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "sum", None, None)
    assert "Expected:\n    3\nGot:\n    2" in report(test)
