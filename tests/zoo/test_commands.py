"""``heedmap zoo``: what it prints, and what it says of bad input."""

import json
import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from heedmap.cli import zoo as commands
from heedmap.cli.main import app
from heedmap.models.names import shipped
from heedmap.zoo.recipes import ZOO
from heedmap.zoo.tasks import lists


def invoke(*arguments):
    return CliRunner().invoke(app, ["zoo", *map(str, arguments)])


@pytest.fixture
def toy(recipe, monkeypatch):
    monkeypatch.setattr(commands, "ZOO", {"toy": recipe})
    return recipe


def test_list_names_every_recipe():
    done = invoke("list")
    assert done.exit_code == 0
    assert all(f"zoo/{name}" in done.output and recipe.about in done.output for name, recipe in ZOO.items())


def test_list_as_json_has_the_scores_of_what_is_shipped():
    entries = {entry["name"].removeprefix("zoo/"): entry for entry in json.loads(invoke("list", "--json").output)}
    assert list(entries) == list(ZOO)
    assert {name for name, entry in entries.items() if entry["shipped"]} == set(shipped())
    assert all(set(entries[name]["scores"]) >= set(ZOO[name].wanted) for name in shipped())


def test_a_model_that_is_not_shipped_is_said_so(toy):
    assert "not shipped: heedmap zoo train toy" in invoke("list").output


def test_listing_imports_no_torch():
    code = "import sys, heedmap.cli.zoo; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_train_writes_the_folder_and_says_so(toy, tmp_path):
    done = invoke("train", "zoo/toy", "--out", tmp_path / "made", "--steps", 6)
    assert done.exit_code == 0, done.output
    assert "step 6" in done.stderr
    assert done.stdout.startswith(f"wrote {tmp_path / 'made'}")
    assert json.loads((tmp_path / "made" / "training.json").read_text())["steps"] == 6


def test_an_unknown_name_lists_the_known_ones():
    done = invoke("train", "nothing")
    assert done.exit_code == 1
    assert "no model 'nothing'" in done.stderr
    assert all(name in done.stderr for name in ZOO)


def test_a_folder_that_cannot_be_written(toy, tmp_path):
    (tmp_path / "file").write_text("")
    done = invoke("train", "toy", "--out", tmp_path / "file" / "below")
    assert done.exit_code == 1
    assert "cannot write the folder" in done.stderr
    assert "--out" in done.stderr


def test_no_steps_is_a_wrong_command_line(toy, tmp_path):
    assert invoke("train", "toy", "--out", tmp_path, "--steps", 0).exit_code == 2


def test_an_interrupted_run_says_how_to_go_on(toy, tmp_path, monkeypatch):
    plain = lists.batch

    def batch(seed, split, start, count):
        if split == "train" and start == 3 * count:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(seed, split, start, count)

    with monkeypatch.context() as patch:
        patch.setattr(lists, "batch", batch)
        done = invoke("train", "toy", "--out", tmp_path, "--steps", 6)
    assert done.exit_code == 130
    assert f"heedmap zoo train toy --out {tmp_path} --steps 6" in done.stderr
    again = invoke("train", "toy", "--out", tmp_path, "--steps", 6)
    assert again.exit_code == 0
    assert "going on from step 4" in again.stderr
