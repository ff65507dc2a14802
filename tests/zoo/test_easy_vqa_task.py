"""The task of easy-VQA's questions, on pictures drawn here: its batches, its model, and a short training."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import heedmap
from heedmap.datasets.easy_vqa import KINDS, EasyVqa, boxes, drawn, kind_of
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
    for cached in (task.reader, task.numbers, task.looks):
        cached.cache_clear()
    yield made
    for cached in (task.reader, task.numbers, task.looks):
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


@pytest.mark.parametrize(
    ("text", "answer", "group"),
    [
        ("what shape is present?", "circle", "what shape"),
        ("is there a red shape?", "yes", "colour or not, there"),
        ("is no circle present?", "yes", "shape or not, not there, denied"),
        ("does the image not contain a teal shape?", "no", "colour or not, there, denied"),
        ("is there a triangle?", "no", "shape or not, not there"),
    ],
)
def test_groups_are_of_what_is_there(text, answer, group):
    assert task._group(text, answer) == group
    assert group in task.GROUPS


def test_training_takes_the_groups_in_turn(folder, monkeypatch):
    monkeypatch.setattr(task, "VALIDATION", 3)
    task.numbers.cache_clear()
    kinds = task.batch(0, "train", 0, 8)["kinds"].tolist()  # the folder has a question of each of four groups
    assert kinds == [0, 1, 2, 3] * 2


def test_what_a_picture_shows_is_told_by_what_its_questions_say_is_there(folder):
    assert task.looks("train") == {0: (2, 6), 1: (1, 7), 2: (3, 8)}
    assert task.looks("train")[0] == (1 + task.SHAPES.index("rectangle"), 1 + task.COLOURS.index("red"))


def test_a_picture_is_unknown_where_its_questions_only_say_what_it_is_not(folder, monkeypatch):
    questions = [
        ("is there a red shape?", "no", 0),
        ("is there not a circle?", "yes", 0),
        ("is no circle present?", "no", 1),
    ]
    monkeypatch.setattr(task.reader("test"), "questions", questions)
    assert task.looks("test") == {0: (task.UNKNOWN, task.UNKNOWN), 1: (1, task.UNKNOWN)}


def test_boxes_have_the_looks_of_the_shape_where_it_touches_them(folder):
    batch = task.batch(0, "test", 0, 5)
    touched = np.stack([EasyVqa(folder).evidence(number) > 0 for number in range(5)])
    assert np.array_equal(batch["looks"][..., 0].numpy() > 0, touched)
    assert batch["looks"][4][torch.from_numpy(touched[4])].unique(dim=0).tolist() == [[3, 8]]
    # the rectangle's pixels are columns 8 to 23 and rows 16 to 31 of 64
    assert batch["middles"][0].tolist() == pytest.approx([16 * 4 / 64 - 2, 24 * 4 / 64 - 2])


def test_words_that_name_something_know_whether_it_is_there(folder, monkeypatch):
    questions = [
        ("what is the red shape?", "rectangle", 0),
        ("is there not a circle?", "yes", 0),
        ("is a teal shape present?", "no", 0),
    ]
    monkeypatch.setattr(task.reader("test"), "questions", questions)
    there = task.batch(0, "test", 0, 3)["there"]
    assert there[there != task.UNKNOWN].tolist() == [1, 0, 0]
    asked_for = [task.TOKENS[token] for token in task.batch(0, "test", 0, 3)["input_ids"][there != task.UNKNOWN]]
    assert asked_for == ["red", "circle", "teal"]


def test_the_losses_that_help_are_least_where_the_heads_read_the_truth(folder):
    batch = task.batch(0, "test", 0, 5)
    truth = torch.full((*batch["looks"].shape[:2], sum(task.LOOKS)), -20.0)
    truth.scatter_(2, batch["looks"] + torch.tensor([0, task.LOOKS[0]]), 20.0)
    states = truth @ torch.linalg.pinv(task.fixed_head(32, sum(task.LOOKS)))
    assert float(task._looks_loss(states, batch["looks"])) < 1e-3
    assert float(task._looks_loss(-states, batch["looks"])) > 10
    places = torch.cat([torch.zeros(5, 2), batch["middles"]], 1)[:, None].repeat(1, batch["there"].shape[1], 1)
    places[..., 1] = torch.where(batch["there"] == 1, 20.0, -20.0)
    states = places @ torch.linalg.pinv(task.fixed_head(32, 4))
    assert float(task._names_loss(states, batch["there"], batch["middles"])) < 1e-3
    assert float(task._names_loss(-states, batch["there"], batch["middles"])) > 10
    nothing = torch.full_like(batch["there"], task.UNKNOWN)
    assert float(task._names_loss(states, nothing, batch["middles"])) == 0


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
    assert set(found) == {"accuracy", *task.BY_KIND}
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
