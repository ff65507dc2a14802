"""``--memory`` and ``--dry-run``, as people type them."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from heedmap.cli.main import app

LIST = ("zoo/gpt-lists", "--text", "dog red ; cat blue ? cat")


def invoke(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "internal error" not in result.output
    return result


def test_a_dry_run_prints_the_plan() -> None:
    told = invoke("explain", *LIST, "--dry-run").stdout
    assert told.startswith("tokens   7\ntargets  1\nmemory   at most ")
    assert "time     about " in told
    plan = json.loads(invoke("explain", *LIST, "--dry-run", "--memory", "64MB", "--json").stdout)
    assert plan["memory"] == 64_000_000
    assert 0 < plan["least"] <= plan["peak"] < plan["memory"]


def test_it_is_of_one_input() -> None:
    refused = invoke("explain", *LIST, "--text", "dog red ? dog", "--dry-run", "--json", code=2).output
    assert "heedmap run --dry-run" in " ".join(refused.replace("│", " ").split())


def test_memory_bounds_one_input_many_and_answers() -> None:
    several = ("--text", "dog red ? dog", "--json")
    said = ("answer", "zoo/bart-dates", "--text", "3 May 1987", "--json")
    for command in (("explain", *LIST, "--json"), ("explain", *LIST, *several), said):
        assert invoke(*command, "--memory", "1GB").stdout == invoke(*command).stdout
        assert "expected bytes, such as" in invoke(*command, "--memory", "lots", code=1).output
