"""A function as a command: options that make objects, and what its exceptions become."""

import gc
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from heedmap.cli.command import command, importing, working
from heedmap.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Colour:
    hue: Annotated[str | None, typer.Option(help="Which.")] = None
    depth: Annotated[int, typer.Option(min=1)] = 8


@dataclass(frozen=True, kw_only=True)
class Named(Colour):
    hue: Annotated[str, typer.Option(help="Which; it has to be named.")] = field()


@dataclass(frozen=True, kw_only=True)
class Paint:
    name: Annotated[str, typer.Argument()]
    colour: Colour
    wet: Annotated[bool, typer.Option("--wet")] = False


def _program(function: Any) -> typer.Typer:
    program = typer.Typer()
    program.command()(function)
    return program


def _gathering(kind: Any, **defaults: Any) -> tuple[typer.Typer, list[Any]]:
    """A program of one command, and all that it was given."""
    given: list[Any] = []

    def paint(*, first: int = 1, paint, last: str = "z") -> None:
        """Paint it."""
        given.append((first, paint, last))

    paint.__annotations__["paint"] = kind
    return _program(command(**defaults)(paint)), given


def test_fields_become_options_and_options_objects():
    program, given = _gathering(Paint)
    result = CliRunner().invoke(program, ["tar", "--first", "3", "--hue", "red", "--wet"])
    assert result.exit_code == 0, result.output
    assert given == [(3, Paint(name="tar", colour=Colour(hue="red", depth=8), wet=True), "z")]


def test_options_stand_in_the_order_of_the_parameters():
    program, _ = _gathering(Paint)
    names = [parameter.name for parameter in typer.main.get_command(program).params]
    assert names[:6] == ["first", "name", "hue", "depth", "wet", "last"]
    assert typer.main.get_command(program).help == "Paint it."


def test_a_command_may_have_defaults_of_its_own():
    program, given = _gathering(Colour, depth=2)
    assert CliRunner().invoke(program, []).exit_code == 0
    assert given == [(1, Colour(depth=2), "z")]
    assert "default: 2" in CliRunner().invoke(program, ["--help"]).output


def test_a_subclass_may_ask_for_what_others_leave_open():
    program, given = _gathering(Named)
    assert CliRunner().invoke(program, []).exit_code == 2
    assert CliRunner().invoke(program, ["--hue", "red"]).exit_code == 0
    assert given == [(1, Named(hue="red"), "z")]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (InputError("no such word"), 1, "heedmap: no such word\n"),
        (typer.BadParameter("not so"), 2, "not so"),
        (KeyError("x"), 3, "heedmap: internal error: KeyError: 'x'\n"),
        (typer.Exit(7), 7, ""),
    ],
)
def test_an_exception_is_one_message_and_a_code(error, code, told):
    def break_it() -> None:
        raise error

    result = CliRunner().invoke(_program(command()(break_it)), [])
    assert result.exit_code == code
    assert told in result.stderr
    assert "Traceback" not in result.output


def test_a_terminal_is_told_how_often_a_model_ran(monkeypatch, capsys):
    subject = SimpleNamespace(model=torch.nn.Identity())
    with working(subject, "waiting") as progress:  # no terminal: nothing is counted
        progress(1, 2)
        assert not subject.model._forward_pre_hooks
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    with working(subject, "explaining by occlusion") as progress:
        for done in range(3):
            subject.model(torch.ones(1))
            progress(done, 20)
    assert "explaining by occlusion: 2 of 20 · runs of the model: 3" in capsys.readouterr().err
    assert not subject.model._forward_pre_hooks


def test_garbage_is_looked_for_again_after_what_is_imported():
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
