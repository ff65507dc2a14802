"""Each packaged model predicts what it was trained to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heedmap import Subject
from heedmap.models.media import read_audio
from known.reactions import REACTIONS, unmarked

pytestmark = pytest.mark.weights
Load = Callable[[str], Subject]

USUAL = re.compile(  # how rxnfp itself splits a reaction
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9])"
)
ONNX = [
    [1.0567550659, -0.2619026899, 1.0568436384, -4.0878801346],
    [1.4647785425, -0.5864257216, -0.2196397185, -4.2850480080],
    [1.3909351826, 1.7076307535, 0.2091646194, -4.2774324417],
    [1.4932401180, 0.6402913332, -0.2020257115, -4.3896627426],
]
"""What onnx.reference makes of the packaged graph: first features of [CLS] and of patches 0, 99 and 255, of a sine."""


def run(subject: Subject, **inputs: Any) -> Any:
    with torch.no_grad():
        return subject.model(**inputs)


def test_the_command_prints_the_folder_alone_also_the_first_time(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "heedmap.packaged", "rxnfp"],
        env={**os.environ, "HEEDMAP_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    if "cannot be had" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'packaged-1' / 'rxnfp'}\n"


def test_rxnfp_names_twenty_classes_of_reactions(subject: Load) -> None:
    rxnfp = subject("rxnfp")
    inputs = rxnfp.inputs(text=[*map(unmarked, REACTIONS.values())])
    probabilities, indices = run(rxnfp, **inputs).logits.softmax(-1).max(-1)
    assert [rxnfp.model.config.id2label[index] for index in indices.tolist()] == [*REACTIONS]
    assert (probabilities > 0.99).all()


def test_rxnfp_splits_reactions_as_it_was_trained_to(subject: Load) -> None:
    tokenizer = subject("rxnfp").tokenizer
    odd = "C[C@@H](Br)%12.[13CH3]~c:1*$?@|b\\C/F->>Cl%(123)"
    for text in [odd, *map(unmarked, REACTIONS.values())]:
        spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        assert [text[start:end] for start, end in spans] == USUAL.findall(text)
    assert tokenizer.decode(tokenizer("BrC").input_ids) == "[CLS] Br C [SEP]"


def test_minilm_tells_a_paraphrase_from_another_matter(subject: Load) -> None:
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "Prices rose sharply in May."]
    first, alike, other = torch.nn.functional.normalize(subject("minilm").embedding(texts), dim=-1)
    assert first @ alike > 0.6
    assert abs(first @ other) < 0.1


def test_dinov2_equals_the_graph_that_it_was_read_from(subject: Load) -> None:
    dinov2 = subject("dinov2-small")
    pixels = torch.sin(torch.arange(3 * 224 * 224, dtype=torch.float64) * 0.01).float().reshape(1, 3, 224, 224)
    states = run(dinov2, pixel_values=pixels).last_hidden_state[0]
    np.testing.assert_allclose(states[[0, 1, 100, 256], :4], ONNX, atol=1e-4)


def test_smollm2_knows_a_capital(subject: Load) -> None:
    smollm2 = subject("smollm2")
    probability, token = (
        run(smollm2, **smollm2.inputs(text="The capital of France is")).logits[0, -1].softmax(-1).max(-1)
    )
    assert smollm2.tokenizer.decode([int(token)]) == " Paris"
    assert 0.7 < probability < 0.85


def test_whisper_writes_down_what_is_said(subject: Load, say: Callable[..., Any], tmp_path: Path) -> None:
    whisper = subject("whisper-base")
    sound = say("Yesterday I bought seven red apples and a bottle of milk", tmp_path / "apples.wav")
    said = whisper.inputs(audio=read_audio(sound.path))["decoder_input_ids"][0]
    text = whisper.tokenizer.decode(said)
    assert text == (
        "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
        " Yesterday I bought seven red apples and a bottle of milk."
    )
