"""A sound is the same sound in every type of sample, and in every form in which people have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from heedmap.errors import InputError
from heedmap.models.media import clip

RATE = 16000
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)

SAMPLES: dict[str, tuple[Any, float]] = {
    "int8": ((TONE * 128).round().astype(np.int8), 1 / 128),
    "uint8": ((TONE * 128 + 128).round().astype(np.uint8), 1 / 128),
    "int16": ((TONE * 32768).round().astype(np.int16), 1 / 32768),
    "int32": ((TONE.astype(np.float64) * 2**31).round().astype(np.int32), 1e-6),
    "float64": (TONE.astype(np.float64), 1e-7),
    "tensor of int16": (torch.tensor((TONE * 32768).round().astype(np.int16)), 1 / 32768),
    "list": (TONE.tolist(), 1e-7),
    "one channel": (TONE[None], 1e-7),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_types_of_samples(name: str) -> None:
    samples, by = SAMPLES[name]
    torch.testing.assert_close(clip((samples, RATE), RATE), torch.tensor(TONE), rtol=0, atol=by)


@pytest.mark.parametrize(
    "given",
    [(RATE, TONE), {"array": TONE, "sampling_rate": RATE}, {"raw": TONE, "sampling_rate": RATE}, (TONE, float(RATE))],
)
def test_forms(given: Any) -> None:
    assert torch.equal(clip(given, RATE), torch.tensor(TONE))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (TONE * 32768, "divide by their full scale"),
        ((TONE * 32768).astype(np.int64), "no known full scale"),
        (np.stack([TONE, TONE]), "one channel"),
        (np.stack([TONE, TONE], 1), "one channel"),
    ],
)
def test_what_is_unclear_is_refused(samples: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        clip((samples, RATE), RATE)
    with pytest.raises(InputError, match="expected a pair"):
        clip(samples, RATE)
