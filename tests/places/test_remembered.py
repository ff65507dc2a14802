"""What one call found of a model spares the next one a run, and no call keeps what has changed since."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hand_mixers import LENGTH, Switched
from torch import Tensor, nn

import heedmap
from heedmap.attention import placing
from heedmap.attention.at_rest import recording_state


class Counted(nn.Module):
    """A model, and how often it has run."""

    def __init__(self, model: nn.Module, runs: list[int]) -> None:
        super().__init__()
        self.model = model
        self.count = runs.append

    def forward(self, input_ids: Tensor) -> Tensor:
        self.count(1)
        out: Tensor = self.model(input_ids)
        return out


def words(seed: int = 0, batch: int = 1) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(9, (batch, LENGTH), generator=torch.Generator().manual_seed(seed))}


def relevance(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    return heedmap.explain(model, inputs, target=0)["text"]


CASES = {"a mixer": {"mixes": True}, "windows": {"mixes": False, "windows": 2}, "both": {"mixes": True, "windows": 2}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_model_that_the_first_recorder_refuses_runs_once_in_a_later_call(case: dict[str, int]) -> None:
    runs: list[int] = []
    model = Counted(Switched(**case), runs)
    relevance(model, words())
    assert len(runs) > 2
    runs.clear()
    found = relevance(model, words(1))
    assert len(runs) == 1
    assert torch.equal(found, relevance(Switched(**case), words(1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("mixes", False), ("windows", 1), ("windows", 4)],
    ids=["no mixer", "no windows", "more windows"],
)
def test_what_was_found_does_not_outlive_a_changed_attribute(name: str, value: int) -> None:
    model = Switched(mixes=name == "mixes", windows=2 if name == "windows" else 1)
    before = relevance(model, words())
    setattr(model, name, value)
    changed = relevance(model, words())
    fresh = Switched(mixes=model.mixes, windows=model.windows)
    assert torch.equal(changed, relevance(fresh, words()))
    assert not torch.allclose(changed, before)


def test_what_was_found_does_not_outlive_a_dtype_a_weight_or_another_batch() -> None:
    model = Switched()
    relevance(model, words())
    single = relevance(model.float(), words())
    assert torch.equal(single, relevance(Switched().float(), words()))
    model.double()
    with torch.no_grad():
        model.mixing.out.weight.zero_()
        model.mixing.out.bias.zero_()
    silent = relevance(model, words())
    fresh = Switched(mixes=False)
    torch.testing.assert_close(silent, relevance(fresh, words()), rtol=1e-4, atol=1e-6)
    several = relevance(model, words(batch=3))
    rows = [relevance(model, {"input_ids": row[None]})[0] for row in words(batch=3)["input_ids"]]
    torch.testing.assert_close(several, torch.stack(rows))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_recording_holds_its_output_in_one_place(case: dict[str, int]) -> None:
    """So that what lies above the attentions is freed with it, where each word of an answer is pulled back by itself."""
    model = Switched(**case)
    with recording_state(model):
        for _ in range(2):  # one that is proved, and one that is remembered
            recording = placing.record(model, words(), 1)
            output = weakref.ref(recording.output)
            assert isinstance(output(), Tensor)
            recording.output = None
            gc.collect()
            assert output() is None
            assert recording.tape.attentions
