"""The shipped models: whole, small, loaded from an installed wheel, and as good as their cards say."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import heedmap
from heedmap.errors import ModelLoadError
from heedmap.models import names as store
from heedmap.targets import NextToken
from heedmap.zoo.dates import date_sample
from heedmap.zoo.lists import list_sample
from heedmap.zoo.recipes import ZOO

SLICE = 200
SLACK = 0.03
"""By how much the score of a slice may lie below the card's, where that is more than two standard errors of a share."""

IN_THE_WHEEL = """
import json, sys, heedmap, transformers
from heedmap.zoo.train import scores_of
from heedmap.zoo.recipes import ZOO
from heedmap.models.names import folder_of, shipped
found = {"from": heedmap.__file__, "models": {}}
for name in shipped():
    model = heedmap.load(f"zoo/{name}").model
    found["models"][name] = {
        "dtype": str(model.dtype),
        "scores": scores_of(ZOO[name], type(model), folder_of(name), int(sys.argv[1])),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def in_the_wheel(installed, tmp_path_factory):
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", IN_THE_WHEEL, str(SLICE)]
    where = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["from"].startswith(str(installed))
    return found["models"]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A copy of the shipped models, to be damaged."""
    shutil.copytree(store.MODELS, tmp_path / "models")
    monkeypatch.setattr(store, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def record(name):
    return json.loads((store.MODELS / name / "training.json").read_text())


def test_the_wheel_holds_every_shipped_model_and_the_scores_of_its_card(in_the_wheel):
    """One test: the wheel is built, installed and measured once."""
    assert set(in_the_wheel) == set(store.shipped())
    assert set(store.shipped()) <= set(ZOO)
    assert {"bart-dates", "gpt-lists"} <= set(store.shipped())
    for name in store.shipped():
        for kind, score in record(name)["scores"].items():
            slack = max(SLACK, 2 * (score * (1 - score) / SLICE) ** 0.5)
            assert in_the_wheel[name]["scores"][kind] >= score - slack, (name, kind)
        assert in_the_wheel[name]["dtype"] == "torch.float32", name


@pytest.mark.parametrize("name", store.shipped())
def test_the_card_tells_the_scores_and_what_was_missed(name):
    card, measured = (store.MODELS / name / "README.md").read_text(), record(name)
    assert all(f"| {kind} | {value:.4f} |" in card for kind, value in measured["scores"].items())
    missed = any(measured["scores"][kind] < least for kind, least in ZOO[name].wanted.items())
    assert ("Below what was aimed at" in card) == missed
    assert measured["seed"] == ZOO[name].seed
    assert measured["curve"]


def test_the_models_are_small():
    sizes = [path.stat().st_size for path in store.MODELS.glob("*/*.safetensors")]
    assert max(sizes) < 3e6
    assert sum(sizes) < 15e6


def test_a_shipped_model_is_loaded_as_float32_or_as_told():
    assert heedmap.load("zoo/gpt-lists").model.dtype == torch.float32
    assert heedmap.load("zoo/gpt-lists", dtype="float64").model.dtype == torch.float64
    assert heedmap.load("zoo/gpt-lists").name == "zoo/gpt-lists"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelLoadError, match=r"no model zoo/cats .*zoo/bart-dates, .*zoo/gpt-lists"):
        heedmap.load("zoo/cats")


def test_damaged_weights_are_refused(shelf):
    path = shelf / "gpt-lists" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is damaged: its checksum"):
        heedmap.load("zoo/gpt-lists")


def test_missing_weights_are_refused(shelf):
    (shelf / "gpt-lists" / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="is missing"):
        heedmap.load("zoo/gpt-lists")


def test_a_damaged_manifest_is_refused(shelf):
    (shelf / "gpt-lists" / "manifest.json").write_text("{")
    with pytest.raises(ModelLoadError, match="cannot be read"):
        heedmap.load("zoo/gpt-lists")


def test_the_list_model_looks_at_the_pair_it_was_asked_for():
    subject, hits = heedmap.load("zoo/gpt-lists"), 0
    for index in range(40):
        sample = list_sample(0, "test", index)
        found = subject.explain(text=sample.text)
        assert found["text"].shape == (1, sample.query + 1)
        hits += int(found["text"][0].argmax()) in (sample.key, sample.value)
    assert hits >= 36


def test_the_date_model_looks_at_the_part_it_writes():
    subject, inside = heedmap.load("zoo/bart-dates"), []
    for index in range(10):
        sample = date_sample(0, "test", index)
        start, end = sample.evidence(3)
        found = subject.explain(text=sample.text, target=NextToken(position=3))["text"][0]
        inside.append(float(found[start:end].sum() / found.sum()) / ((end - start) / len(found)))
    assert sorted(inside)[5] > 1.5
