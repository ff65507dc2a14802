"""The task of easy-VQA's questions, on pictures drawn here: its batches, its model, and a short training."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import heedmap
from heedmap.data.easy_vqa import KINDS, EasyVqa, boxes, drawn, kind_of
from heedmap.errors import ModelLoadError, TrainingError
from heedmap.packaged import lxmert_easy_vqa as task
from heedmap.zoo import train as loop
from heedmap.zoo.recipes import ZOO

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

import drawn_shapes

RECIPE = ZOO["lxmert-easy-vqa"]
TINY = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "l_layers": 1,
    "r_layers": 1,
    "x_layers": 1,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """easy-VQA as if fetched: the last of the pictures validates."""
    made = drawn_shapes.write(tmp_path / "data")
    monkeypatch.setattr(task, "fetch", lambda name: made)
    monkeypatch.setattr(task, "VALIDATION", 2)
    for cached in (task.reader, task.numbers):
        cached.cache_clear()
    yield made
    for cached in (task.reader, task.numbers):
        cached.cache_clear()


@pytest.fixture
def tiny():
    stage = replace(
        RECIPE.stages[0], settings={**RECIPE.stages[0].settings, **TINY}, steps=4, batch=4, every=2, checked=1
    )
    return replace(RECIPE, stages=(stage,), tested=5)


def asked(batch):
    return [task.tokenizer().decode(ids, skip_special_tokens=True) for ids in batch["input_ids"]]


def test_a_batch_is_made_of_its_arguments_alone(folder):
    for split in ("train", "val", "test"):
        first, second = task.batch(1, split, 3, 4), task.batch(1, split, 3, 4)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert first["visual_feats"].shape == (4, 64, 192)
        assert int(first["input_ids"].max()) < len(task.TOKENS)
        assert 1 not in first["input_ids"]  # no word is unknown


def test_training_begins_with_two_kinds_and_goes_on_with_all(folder, monkeypatch):
    monkeypatch.setattr(task, "EARLY", 8)
    monkeypatch.setattr(task, "VALIDATION", 3)
    assert set(task.batch(0, "train", 0, 8)["kinds"].tolist()) == {0, 1}
    assert set(task.batch(0, "train", 8, 12)["kinds"].tolist()) == {0, 1, 2, 3}


def test_pictures_that_validate_are_not_trained_with(folder):
    questions = EasyVqa(folder, "train").questions
    assert [questions[number][2] for number in task.numbers("val")[""]] == [2]
    assert {questions[number][2] for number in task.numbers("train")[""]} == {0, 1}
    assert len(task.numbers("test")[""]) == 5


def test_a_moved_shape_is_whole_and_somewhere_else(folder):
    picture = EasyVqa(folder).picture(4)
    moved = [task._moved(picture, np.random.default_rng(seed)) for seed in range(30)]
    corners = {tuple(np.argwhere(drawn(one)).min(0)) for one in moved}
    assert len(corners) > 20
    for one in moved:
        rows, columns = np.nonzero(drawn(one))
        assert (np.ptp(rows), np.ptp(columns)) == (20, 20)
        assert np.array_equal(np.sort(one, axis=None), np.sort(picture, axis=None))


def test_the_scores_are_by_kind(folder):
    torch.manual_seed(0)
    model = task.model(TINY, None).eval()
    with torch.no_grad():
        found = task.scores(model, 0, "test", 5)
    counts = [kind_of(text, answer) for text, answer, _ in drawn_shapes.QUESTIONS]
    assert found["accuracy"] == pytest.approx(sum(found[f"accuracy/{kind}"] * counts.count(kind) for kind in KINDS) / 5)


def test_it_learns_what_is_on_three_pictures(folder):
    torch.manual_seed(0)
    model = task.model({**TINY, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, None).train()
    batch = task.batch(0, "test", 0, 5)
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    before = float(task.loss(model, batch).detach())
    for _ in range(60):
        optimiser.zero_grad()
        task.loss(model, batch).backward()
        optimiser.step()
    assert float(task.loss(model, batch).detach()) < before / 2


def test_a_trained_folder_is_loaded_explained_and_not_trained_again(folder, tiny, tmp_path, monkeypatch):
    out = loop.trained(tiny, tmp_path / "model")
    subject = heedmap.load(out)
    sample = EasyVqa(folder)[0]
    found = subject.explain(**sample.inputs)
    assert found["boxes"].shape == (1, 64)
    assert found.segments["boxes"].labels[0][:2] == ("row 1 column 1", "row 1 column 2")
    assert found["text"].shape == (1, len(task.tokenizer()(sample.inputs["text"]).input_ids))
    monkeypatch.setattr(loop, "train", None)
    assert loop.trained(tiny, out) == out
    (out / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="damaged"):
        loop.trained(tiny, out)


def test_an_interrupted_training_is_told(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_, **__: False)
    with pytest.raises(TrainingError, match="call again to go on"):
        loop.trained(tiny, tmp_path)


def test_the_subject_and_the_task_give_the_model_the_same(folder, tiny, tmp_path):
    subject = heedmap.load(loop.trained(tiny, tmp_path / "model"))
    made, sample = task.batch(0, "test", 3, 1), EasyVqa(folder)[3]
    inputs = subject.inputs(**sample.inputs)
    assert torch.equal(inputs["visual_feats"], made["visual_feats"])
    assert torch.equal(inputs["visual_pos"], made["visual_pos"])
    assert inputs["input_ids"].tolist() == made["input_ids"].tolist()
    assert set(boxes(EasyVqa(folder).picture(3))) == {"features", "boxes", "labels"}
