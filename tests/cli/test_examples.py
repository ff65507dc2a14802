"""The examples at the end of each command's help are true: those on the zoo run, the others can at least be parsed."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from heedmap.cli.main import COMMANDS as TABLE
from heedmap.cli.main import PROGRAM, app

WIDTH = 78
SLOW = ("heedmap zoo train", "heedmap app", "heedmap demo --out gallery\n")
"""How commands begin that take long, or do not end."""


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for one, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{name} {one}")


COMMANDS = dict(_commands(typer.main.get_command(app), "heedmap"))
SHOWN = {"heedmap": PROGRAM, **{f"heedmap {words}": entry.examples for words, entry in TABLE.items()}}
EXAMPLES = [(name, line) for name, lines in SHOWN.items() for line in lines]
RUNNING = list(
    dict.fromkeys(line for _, line in EXAMPLES if not f"{line}\n".startswith(SLOW) and "MODEL" not in shlex.split(line))
)


def test_the_table_has_every_command() -> None:
    assert set(SHOWN) == set(COMMANDS)


@pytest.mark.parametrize("name", SHOWN)
def test_every_command_has_a_few(name: str) -> None:
    assert 2 <= len(SHOWN[name]) <= 4
    assert all(line.startswith(name) and len(line) <= WIDTH for line in SHOWN[name])


def test_they_can_be_read_at_80_columns(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    for name, lines in SHOWN.items():
        shown = [line.strip() for line in run(*name.split()[1:], "--help").stdout.splitlines()]
        assert list(filter(None, shown[shown.index("Examples") + 1 :])) == list(lines)
        assert max(len(line.rstrip()) for line in shown) <= 80


def test_the_commands_stand_in_their_order(run) -> None:
    shown = run("--help").stdout
    places = [shown.index(f"│ {name} ") for name in TABLE if " " not in name]
    assert places == sorted(places)
    headings = [shown.index(heading) for heading in ("─ Explain ─", "─ Choose a method ─", "─ Models and pages ─")]
    assert headings == sorted(headings)


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_each_can_be_parsed(name: str, line: str) -> None:
    arguments = shlex.split(line)[len(name.split()) :]
    command = COMMANDS[name]
    while "--help" not in arguments:
        context = command.make_context(name, list(arguments))
        if not getattr(command, "commands", None):
            break
        command, arguments = command.commands[arguments[0]], arguments[1:]
        assert context.info_name == name


@pytest.mark.parametrize("line", RUNNING)
def test_each_on_the_zoo_runs(run, photos: Path, lists: Path, tmp_path: Path, line: str) -> None:
    Image.open(photos / "scene 0.png").save(tmp_path / "photo.png")
    arguments = shlex.split(line)[1:]
    result = run(*arguments)
    assert result.stdout
    if "--out" in arguments:
        assert (tmp_path / arguments[arguments.index("--out") + 1]).exists()
