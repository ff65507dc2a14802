"""What an answer to a sound shows: rows over time, the wave below them, and blocks in a terminal."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import heedmap
from heedmap.explanation import Explanation
from heedmap.render import files
from heedmap.render.sound import BLOCKS
from heedmap.render.terminal import terminal_answer, terminal_answers
from models import builders

RATE, SECONDS = 16_000, 0.5
SAID = "the cat sat"
CLIP = (np.sin(np.arange(int(RATE * SECONDS)) / 20).astype(np.float32), RATE)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Explanation:
    """Whisper of one second, of which half a second is heard."""
    folder = tmp_path_factory.mktemp("whisper")
    builders.whisper(folder)
    return heedmap.load(str(folder)).explain_answer(audio=CLIP, generate={"max_new_tokens": 4, "min_new_tokens": 4})


def test_the_wave_lies_below_the_rows_of_the_words(heard: Explanation) -> None:
    rows, wave, *_ = heard.plot(sound=CLIP).axes
    assert [len(image.get_array()[0]) for image in rows.images] == [25], (
        "the frames of the clip, not those of the filling"
    )
    assert rows.get_position().y0 > wave.get_position().y1 - 1e-6
    assert rows.get_xlim() == wave.get_xlim()
    (drawn,) = wave.collections
    edges = drawn.get_paths()[0].get_extents()
    assert (edges.x0, edges.x1) == pytest.approx(wave.get_xlim())
    assert [label.get_text() for label in wave.get_xticklabels()][:2] == ["0 s", "0.1 s"]
    alone = heard.plot().axes
    assert len(alone) == len(heard.plot(sound=CLIP).axes) - 1


@pytest.mark.parametrize("ending", files.PICTURES)
def test_a_file_has_the_wave(heard: Explanation, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"answer{ending}"
    files.write(path, heard, None, CLIP)
    without = tmp_path / f"without{ending}"
    files.write(without, heard)
    assert path.read_bytes() != without.read_bytes()


def test_a_terminal_has_the_words_over_time(heard: Explanation) -> None:
    console = Console(file=StringIO(), width=120, color_system=None)
    console.print(terminal_answer(heard))
    text = console.file.getvalue()
    assert "rests on: audio, 0 to 0.5 s" in text
    assert "decoder" not in text, "it has special tokens alone"
    assert set("▁▂▃▄▅▆▇█") & set(text)
    assert all(letter in BLOCKS for letter in set(text) if "▁" <= letter <= "█")


def test_an_alignment_of_sound_has_its_words_apart_and_ends_with_the_clip(tmp_path: Path) -> None:
    builders.whisper(tmp_path)
    subject = heedmap.load(str(tmp_path))
    words = subject.tokenizer(SAID, add_special_tokens=False, return_tensors="pt").input_ids
    said = heedmap.alignment(subject, audio=CLIP, decoder_input_ids=words)
    assert said.text.strip() == SAID
    page = said.to_html()
    assert f'<dd dir="auto">{SAID}</dd>' in page
    assert page.count("<svg viewBox") == len(said), "a curve for each token"
    assert 'class="bars"' not in page, "no frames one below the other"
    assert re.findall(r"<span style=\"left:[\d.]+%\">([\d.]+) s</span>", page)[-1] == "0.4", (
        "not the second of the filling"
    )
    assert "token 1 of the answer" in page
    assert "token 0" not in page
    console = Console(file=StringIO(), width=120, color_system=None)
    console.print(terminal_answers(said))
    assert "rests on: audio, 0 to 0.5 s" in console.file.getvalue()
    assert "decoder" not in console.file.getvalue(), "it has special tokens alone"
