"""Where memory runs out a call is made again with less, and gives the same map; where it cannot be, it says what the least is."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import limited
import numpy as np
import pytest
import torch
from test_several_targets import built

import heedmap
from heedmap.common.memory import ran_out
from heedmap.errors import OutOfMemoryError

SMALL = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_ARENA_MAX": "1"}
"""What is freed goes back at once, and no thread keeps addresses for itself."""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's addresses are limited on Linux only")
def test_a_call_that_memory_does_not_suffice_for_is_made_with_less() -> None:
    done = subprocess.run(
        [sys.executable, limited.__file__], capture_output=True, text=True, env={**os.environ, **SMALL}
    )
    assert done.returncode == 0, done.stderr
    lines = {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert lines.keys() == limited.CASES.keys()
    for name in ("blocks", "targets"):
        assert lines[name]["recordings"] > 1, lines[name]
        assert lines[name]["told"] == ""
        assert lines[name]["difference"] < 1e-6
    backward, forward = lines["backward"], lines["forward"]
    assert backward["recordings"] == 3
    assert backward["told"].startswith("memory ran out; at least ")
    assert f"({backward['least']} bytes) are needed beside the model" in backward["told"]
    assert forward["recordings"] == 1
    assert "the model's forward pass, or the proof before the first, does not fit" in forward["told"]
    assert "give fewer samples at once" in forward["told"]


def test_what_says_that_memory_ran_out() -> None:
    raised: list[BaseException] = []
    for allocate in (lambda: torch.empty(2**60), lambda: np.empty(2**59, np.uint8), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as told:
            allocate()
        raised.append(told.value)
    raised.append(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert all(map(ran_out, raised))
    assert not any(map(ran_out, (RuntimeError("shapes do not fit"), ValueError("out of memory"), KeyError("memory"))))


def test_an_allocation_that_the_target_itself_asks_for_is_told_as_what_it_is() -> None:
    """No plan is small enough, and it is an error of heedmap's, also a MemoryError."""
    model, inputs, _ = built("ViT")

    def target(output: object) -> torch.Tensor:
        return torch.empty(2**60)

    with pytest.raises(MemoryError, match="memory ran out") as told:
        heedmap.explain(model, inputs, target=target)
    assert isinstance(told.value, OutOfMemoryError)
    assert "allocate" in str(told.value)
