"""``heedmap run``, as people type it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_sets import LISTS, write_jsonl
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.datasets.opening import open_source
from heedmap.scale.run import plan_run


def invoke(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "internal error" not in result.output
    return result


def test_it_writes_a_folder_and_says_what_is_bad(tmp_path: Path) -> None:
    rows = [{"words": text} for text in LISTS[:6]] + ["{"]
    data = write_jsonl(tmp_path / "lists.jsonl", rows)
    command = ("zoo/gpt-lists", "--data", data, "--file", "columns.text=words", "--out", tmp_path / "out", "--part", 4)
    result = invoke(*command, code=1)
    assert f"wrote 6 explanations to {tmp_path / 'out'}; report.html shows some of them" in result.stdout
    assert "1 of 7 rows could not be explained:\n  row 6: it is no JSON" in result.stderr
    assert len(heedmap.open_run(tmp_path / "out")) == 7
    (tmp_path / "out" / "parts" / "part-000000.parquet").write_bytes(b"PAR1")
    again = invoke(*command, "--json", code=1)
    assert json.loads(again.stdout)["complete"]
    assert "part-000000.parquet is cut off or damaged" in again.stderr
    assert "it is made again" in again.stderr


def test_answers(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "dates.jsonl", [{"text": "the 3rd of may 1987"}])
    generate = ("--answer", "--generate", "max_new_tokens=4")
    invoke("zoo/bart-dates", "--data", data, "--out", tmp_path / "out", *generate)
    assert heedmap.open_run(tmp_path / "out")[0].answer.text == ("1987",)


BAD = {
    "no data": (("--data", "nowhere.parquet"), 1, "there is nothing at nowhere.parquet"),
    "no such kind": (("--data", "excel:x"), 1, "there is no kind of data 'excel'"),
    "no name": (("--data", "images:.", "--file", "columns"), 2, "is not NAME=VALUE"),
    "whole and parts": (
        ("--data", "x", "--file", "columns=a", "--file", "columns.text=b"),
        2,
        "columns is given whole",
    ),
    "method": (("--data", "nowhere", "--method", "magic"), 1, "no method 'magic'"),
    "workers": (("--data", "nowhere", "--workers", "-1"), 2, "--workers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_command_lines(name: str, tmp_path: Path) -> None:
    arguments, code, told = BAD[name]
    result = invoke("zoo/gpt-lists", "--out", tmp_path / "out", *arguments, code=code)
    assert told in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_what_it_would_take_and_writes_nothing(tmp_path: Path) -> None:
    rows = [{"text": text} for text in [*LISTS[:6], LISTS[0]]] + ["{"]
    data = write_jsonl(tmp_path / "lists.jsonl", rows)
    command = ("zoo/gpt-lists", "--data", data, "--out", tmp_path / "out", "--part", 4, "--dry-run")
    told = invoke(*command).stdout
    assert told.startswith("run      8 rows in 2 files, ")
    assert "a batch of the first rows:\ntokens " in told
    assert "beside the model" in told
    assert "\nproof    at most " in told
    plan = json.loads(invoke(*command, "--memory", "1GB", "--workers", 2, "--json").stdout)
    assert (plan["rows"], plan["parts"], plan["workers"], plan["plan"]["memory"]) == (8, 2, 2, 10**9)
    assert 0 < plan["plan"]["peak"] < 10**9
    assert plan["seconds"] > plan["plan"]["forward_seconds"] > 0
    assert not (tmp_path / "out").exists()
    invoke(*command, "--answer", code=1)
    assert "expected bytes, such as" in invoke(*command, "--memory", "lots", code=1).stderr
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"image": "nowhere.png"}])
    refused = invoke("zoo/vit-shapes", "--data", bad, "--out", "x", "--dry-run", code=1).stderr
    assert "none of the first 1 rows can be read: " in refused
    assert "nowhere.png" in refused


def test_a_batch_that_would_take_more_is_halved(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "lists.jsonl", [{"text": LISTS[0]}] * 64)
    model, source = heedmap.load("zoo/gpt-lists"), open_source(str(data))
    whole, cut = (plan_run(model, source, memory=memory, batch=64) for memory in (None, "1.2MB"))
    assert whole.batch == 64
    assert whole.plan.least > 1_200_000
    assert cut.batch < 64
    assert cut.plan.peak <= 1_200_000
    run = heedmap.run(model, data, tmp_path / "out", batch=64, memory="1.2MB", page=False)
    assert not run.errors


def test_data_are_looked_at_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, heedmap\n"
        f"try: heedmap.run('zoo/gpt-lists', 'nowhere.parquet', {str(tmp_path)!r})\n"
        "except heedmap.HeedmapError as error: print(error, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "there is nothing at nowhere.parquet" in said
    assert said.strip().endswith("False")
