"""The loop: it learns, and where it stops it goes on as if it had not."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from heedmap.errors import FileFormatError, OptionError, OutputError, TrainingError
from heedmap.models.names import verify
from heedmap.zoo.run import Training, enough, optimiser, rate_factor
from heedmap.zoo.tasks import lists
from heedmap.zoo.train import train

FILES = {"README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json", "training.json"}


def run(recipe, out, **options):
    return train(recipe, out, console=Console(quiet=True), **options)


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory):
    """The folder of a run that nothing stopped, which stays as it is."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert run(recipe, folder)
    return folder


def at_step(step, action):
    """A ``batch`` that does ``action`` when the data of a step are asked for."""
    plain = lists.batch

    def batch(seed, split, start, count):
        if split == "train" and start == step * count:
            action()
        return plain(seed, split, start, count)

    return batch


def curve(folder):
    return json.loads((folder / "training.json").read_text())["curve"]


def test_the_loss_falls_in_thirty_steps(unbroken):
    first, _, last = [point["loss"] for point in curve(unbroken)]
    assert last < first - 0.3


def test_what_a_finished_run_leaves(unbroken):
    assert {path.name for path in unbroken.iterdir()} >= FILES
    assert not [
        path.name for path in unbroken.iterdir() if path.name.startswith(".") or path.suffix in (".pt", ".part")
    ]
    verify(unbroken)
    record = json.loads((unbroken / "training.json").read_text())
    assert record["parameters"] == sum(value.numel() for value in weights(unbroken).values())
    assert record["steps"] == 30
    assert record["bytes"] == (unbroken / "model.safetensors").stat().st_size
    assert {value.dtype for value in weights(unbroken).values()} == {torch.float16}


def test_the_card_is_made_of_what_was_measured(unbroken):
    card = (unbroken / "README.md").read_text()
    record = json.loads((unbroken / "training.json").read_text())
    assert f"| accuracy | {record['scores']['accuracy']:.4f} | ≥ 0.99 |" in card
    assert "**Below what was aimed at: accuracy.**" in card
    assert f"{record['parameters']:,} parameters" in card
    assert "MIT" in card


def test_a_killed_run_loses_the_steps_since_its_checkpoint_and_ends_the_same(recipe, unbroken, tmp_path, monkeypatch):
    def die():
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(lists, "batch", at_step(17, die))
        with pytest.raises(SystemError):
            run(recipe, tmp_path / "killed")
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["state"]["step"] == 10
    assert run(recipe, tmp_path / "killed")
    assert_same(weights(tmp_path / "killed"), weights(unbroken))
    assert curve(tmp_path / "killed") == curve(unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_loses_nothing_and_ends_the_same(recipe, unbroken, tmp_path, monkeypatch, number):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(lists, "batch", at_step(12, lambda: os.kill(os.getpid(), number)))
        assert not run(recipe, tmp_path / "stopped")
    assert signal.getsignal(number) == before
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["state"]["step"] == 13
    torch.rand(3)  # the generator of the process that goes on is in another state
    assert run(recipe, tmp_path / "stopped")
    assert_same(weights(tmp_path / "stopped"), weights(unbroken))
    assert curve(tmp_path / "stopped") == curve(unbroken)


def test_a_second_interruption_stops_at_once(recipe, tmp_path, monkeypatch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(lists, "batch", at_step(12, twice))
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_run_that_was_killed_while_writing_its_folder_need_not_train_again(recipe, unbroken, tmp_path, monkeypatch):
    def die(*_):
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("heedmap.zoo.train.card", die)
        with pytest.raises(SystemError):
            run(recipe, tmp_path / "killed")
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"checkpoint.pt"}
    monkeypatch.setattr(Training, "advance", None)
    assert run(recipe, tmp_path / "killed")
    assert_same(weights(tmp_path / "killed"), weights(unbroken))


def test_two_stages_carry_weights_over_and_resume(stage, recipe, tmp_path, monkeypatch):
    plain, taken = lists.model, []

    def carried(settings, before):
        made = plain(settings, before)
        if before is not None:
            made.load_state_dict(before.state_dict())
            taken.append({name: value.clone() for name, value in before.state_dict().items()})
        return made

    monkeypatch.setattr(lists, "model", carried)
    recipe = replace(recipe, stages=(replace(stage, steps=10), replace(stage, steps=20, batch=4, watched="accuracy")))
    assert run(recipe, tmp_path / "whole")
    assert [(point["stage"], point["step"]) for point in curve(tmp_path / "whole")] == [(0, 10), (1, 10), (1, 20)]
    assert len(taken) == 1
    with monkeypatch.context() as patch:
        patch.setattr(lists, "batch", at_step(13, lambda: os.kill(os.getpid(), signal.SIGINT)))
        assert not run(recipe, tmp_path / "broken")
    state = torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["state"]
    assert (state["stage"], state["step"]) == (1, 14)
    assert run(recipe, tmp_path / "broken")
    assert_same(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


def test_fresh_starts_over(recipe, unbroken, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(lists, "batch", at_step(12, lambda: os.kill(os.getpid(), signal.SIGINT)))
        run(recipe, tmp_path / "again")
    done = []
    monkeypatch.setattr(lists, "batch", at_step(0, lambda: done.append(0)))
    assert run(recipe, tmp_path / "again", fresh=True)
    assert done == [0]
    assert_same(weights(tmp_path / "again"), weights(unbroken))


def test_a_checkpoint_of_other_settings_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "batch", at_step(12, lambda: os.kill(os.getpid(), signal.SIGINT)))
    run(recipe, tmp_path)
    for other in (replace(recipe, seed=1), recipe.shortened(20)):
        with pytest.raises(OptionError, match="other settings"):
            run(other, tmp_path)


def test_a_damaged_checkpoint_is_told(recipe, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK no such thing")
    with pytest.raises(FileFormatError, match=r"checkpoint\.pt is damaged.*--fresh"):
        run(recipe, tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_training(recipe, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Training, "advance", None)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=r"cannot write the folder .*file.*--out"):
            run(recipe, out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(recipe, tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        run(recipe, tmp_path)


def test_a_loss_that_is_not_finite_is_told(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "loss", lambda model, batch: next(model.parameters()).sum() * float("nan"))
    with pytest.raises(TrainingError, match="not finite at step 10"):
        run(recipe, tmp_path)


def test_a_stage_stops_early(stage):
    early = replace(stage, stop_at=0.9)
    assert not enough(early, [0.95])
    assert not enough(early, [0.95, 0.8])
    assert enough(early, [0.1, 0.95, 0.9])
    patient = replace(stage, patience=2)
    assert not enough(patient, [0.5, 0.4])
    assert enough(patient, [0.5, 0.4, 0.3])
    assert not enough(stage, [1.0, 1.0, 0.0, 0.0])


def test_the_rate_rises_and_falls(stage):
    factors = [rate_factor(stage, step) for step in range(stage.steps + 1)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(0)


def test_rates_and_weight_decay_by_parameter(stage):
    model = lists.model(stage.settings, None)
    groups = optimiser(model, replace(stage, slow={"model.embed_tokens": 0.1})).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    slow = [g for g in groups if any(p is model.model.embed_tokens.weight for p in g["params"])]
    assert [g["base"] for g in slow] == [pytest.approx(0.1 * stage.rate)]
    assert all(p.dim() == 1 for g in groups if g["weight_decay"] == 0 for p in g["params"])


def test_threads_and_random_state_are_put_back(recipe, tmp_path):
    before, random = torch.get_num_threads(), torch.get_rng_state()
    run(replace(recipe, threads=before + 1), tmp_path, steps=5)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), random)


def test_the_best_weights_are_kept(recipe, monkeypatch):
    found = iter([0.5, 0.9, 0.1])
    monkeypatch.setattr(lists, "scores", lambda *_: {"accuracy": next(found, 0.0)})
    trained = Training(recipe)
    for step in range(30):
        trained.advance()
        if trained.due:
            trained.evaluate()
        if step == 19:
            best = {name: value.clone() for name, value in trained.model.state_dict().items()}
    assert trained.over
    assert_same(trained.model.state_dict(), best)
