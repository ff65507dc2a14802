"""A plan: what it says is what is taken, and what does not suffice is refused with what would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peaks
import pytest
import torch
from test_several_targets import built, check_equal
from torch import nn

import heedmap
from heedmap.common.memory import free_bytes, memory_bytes, told_bytes
from heedmap.engine import engine
from heedmap.engine.planning import Plan
from heedmap.errors import OptionError, UnfollowedAttentionError

FACTOR = 2.0
"""What is planned is at most so many times what is taken."""
OVER = 1.1
"""What is taken is at most so many times what is planned."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="a process's peak can be reset on Linux only")
def test_the_peak_is_what_was_planned() -> None:
    small = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}  # what is freed goes back at once
    done = subprocess.run([sys.executable, peaks.__file__], capture_output=True, text=True, env={**os.environ, **small})
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(peaks.CASES)
    for case, line in zip(peaks.CASES, lines, strict=True):
        assert line["taken"] <= OVER * line["planned"], (case, line)
        assert line["planned"] <= FACTOR * line["taken"], (case, line)
        assert line["allowed"] is None or line["planned"] <= line["allowed"], (case, line)
        assert line["first"] <= (line["allowed"] or OVER * line["planned"]), (case, line)
        assert line["proof"] <= FACTOR * line["first"], (case, line)
        assert line["later"] == 0


def test_less_memory_is_fewer_at_once_and_smaller_blocks() -> None:
    model, inputs, targets = built("ViT")
    free = heedmap.plan(model, inputs, target=targets)
    assert (free.memory, free.targets, free.at_once, free.dense) == (None, 12, 8, True)
    assert free.least < free.peak
    tight = heedmap.plan(model, inputs, target=targets, memory=max(free.least, 2**20))
    assert tight.peak <= max(free.least, 2**20)
    longer = {"pixel_values": torch.randn(8, 3, 32, 32, dtype=torch.float64).repeat(6, 1, 1, 1)}
    heedmap.explain(model, longer)  # from here on there is a proof
    free = heedmap.plan(model, longer, target=targets)
    tight = heedmap.plan(model, longer, target=targets, memory=free.least)
    assert (free.at_once, tight.at_once) == (8, 1)
    assert tight.blocks < free.blocks
    assert tight.budget < free.budget
    whole, cut = (heedmap.explain(model, longer, target=targets, memory=size) for size in (None, free.least))
    for of_whole, of_cut in zip(whole, cut, strict=True):
        check_equal(of_cut, of_whole)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_a_first_call_that_its_proof_does_not_fit_says_so_before_it(name: str) -> None:
    model, inputs, _ = built(name)
    (key,) = inputs
    many = {key: inputs[key].repeat(30, 1, 1, 1)}
    first = heedmap.plan(model, many)
    assert first.least >= first.proof > 2**20
    assert f"proof    at most {told_bytes(first.proof)} of it, in a first call" in str(first)
    for explain in (heedmap.plan, heedmap.explain):
        with pytest.raises(OptionError, match=r"by the proof, before a first call|with the smallest blocks"):
            explain(model, many, memory=first.least - 1)
    with pytest.raises(
        OptionError, match=rf"at least .* \({first.proof} bytes\) are needed beside the model, by the proof"
    ):
        heedmap.explain(model, many, memory=first.proof - 1)
    heedmap.explain(model, many, memory=first.least)
    later = heedmap.plan(model, many, memory=first.least)
    assert later.proof == 0
    assert "proof  " not in str(later)
    heedmap.explain(model, many, memory=later.least)


def test_what_does_not_suffice_says_what_does() -> None:
    model, inputs, targets = built("ViT")
    longer = {"pixel_values": inputs["pixel_values"].repeat(30, 1, 1, 1)}
    heedmap.explain(model, longer)  # from here on there is a proof
    least = heedmap.plan(model, longer, target=targets).least
    assert least > 2**20
    with pytest.raises(OptionError, match=rf"at least .* \({least} bytes\) are needed") as told:
        heedmap.explain(model, longer, target=targets, memory=least - 1)
    assert "fewer samples at once" in str(told.value)
    heedmap.explain(model, longer, target=targets, memory=least)


@pytest.mark.parametrize("memory", ["lots", "-1GB", "4 potatoes", "", True, 1.5e300 * 1e300, "1e9"])
def test_no_size(memory: Any) -> None:
    model, inputs, _ = built("ViT")
    with pytest.raises(OptionError, match="expected bytes, such as 4000000000, 512MB or 2GiB, or 'free'"):
        heedmap.explain(model, inputs, memory=memory)


def test_sizes() -> None:
    sizes = {
        "4GB": 4 * 10**9,
        "4 gib": 2**32,
        "1.5MB": 1_500_000,
        "2097152": 2**21,
        2**21: 2**21,
        "free": "free",
        None: None,
    }
    assert {given: memory_bytes(given) for given in sizes} == sizes
    with pytest.raises(OptionError, match="too small for a block"):
        memory_bytes("1kB")


def test_memory_and_its_budget_are_one_too_many() -> None:
    model, inputs, _ = built("ViT")
    with pytest.raises(OptionError, match="leave one out"):
        heedmap.explain(model, inputs, memory="1GB", memory_budget=4096)


def test_what_is_free() -> None:
    model, inputs, _ = built("ViT")
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**50
    plan = heedmap.plan(model, inputs, memory="free")
    assert plan.memory is not None
    assert plan.memory > plan.peak
    with pytest.raises(OptionError, match="on meta cannot be told"):
        free_bytes(torch.device("meta"))


def test_it_is_the_plan_of_the_explanation_and_no_target_is_pulled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs, targets = built("DETR")

    def no_gradient(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a backward pass")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "pulled", no_gradient)
        plan = heedmap.plan(model, inputs, target=targets[:5])
    assert isinstance(plan, Plan)
    assert plan.tokens == (16, 11)
    assert plan.targets == plan.at_once == 5
    assert plan.seconds is not None
    assert plan.seconds > plan.forward_seconds > 0
    assert str(plan).startswith("tokens   16 and 11\ntargets  5, 5 at once\nmemory   at most ")


def test_methods_that_run_the_model_again_and_other_mixers_have_no_time() -> None:
    model, inputs, _ = built("ViT")
    for method in ("attn_lrp", "transformer_attribution", "integrated_gradients"):
        plan = heedmap.plan(model, inputs, method=method)
        assert plan.seconds is None
        assert "beside one forward pass" in " ".join(plan.notes)
    model, inputs, _ = built("ViT")
    chosen = heedmap.explain(model, inputs, method="auto").method
    assert heedmap.plan(model, inputs, method="auto").notes == heedmap.plan(model, inputs, method=chosen).notes
    model, inputs, _ = built("Swin")
    plan = heedmap.plan(model, inputs)
    assert plan.seconds is None
    assert "followed by their numbers" in " ".join(plan.notes)


def test_without_attention_there_is_no_plan() -> None:
    with pytest.raises((UnfollowedAttentionError, heedmap.errors.NoAttentionError)):
        heedmap.plan(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(1, 3, 2, 2))


def test_answers_have_it_too() -> None:
    model, inputs, _ = built("GPT-2")
    given = {"answer": torch.tensor([[3, 4, 5, 6], [7, 8, 9, 1]])}
    whole = heedmap.explain_answer(model, inputs, **given)
    cut = heedmap.explain_answer(model, inputs, **given, memory="50MB")
    torch.testing.assert_close(whole["text"], cut["text"], rtol=1e-6, atol=1e-9)
    with pytest.raises(OptionError, match="leave one out"):
        heedmap.explain_answer(model, inputs, **given, memory="50MB", memory_budget=1)
