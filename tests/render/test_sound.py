"""The curve of a sound: it ends where the sound ends, says what lies after, and its axis tells the time."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hand_made import segment
from rich.text import Text

from heedmap.data.segments import Segment
from heedmap.render import files
from heedmap.render.figure import side_by_side
from heedmap.render.sample import Drawn, sample
from heedmap.render.scale import Scale, token_scale
from heedmap.render.sound import curve, strongest, terminal_curve
from heedmap.render.views import view

RATE = 16_000


def _drawn(values: list[float], step: float = 0.5) -> tuple[Drawn, Scale]:
    labels = (tuple(f"{i * step:.2f} s" for i in range(len(values))),)
    given = segment(values, name="audio", kind="audio", labels=labels)
    drawn = sample(given)
    return drawn, token_scale(given, drawn)


def _points(html: str, name: str) -> list[tuple[float, float]]:
    (points,) = re.findall(rf'<polygon class="{name}" points="([^"]*)"', html)
    return [(float(x), float(y)) for x, y in (point.split(",") for point in points.split())]


def test_it_ends_with_the_sound_and_tells_what_lies_after() -> None:
    drawn, used = _drawn([1.0, 2.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0])
    html = curve(drawn, used, (np.zeros(RATE), RATE))  # a second: two frames of half a second
    assert [y for _, y in _points(html, "curve")] == [100, 50, 50, 0, 0, 100]
    assert max(x for x, _ in _points(html, "curve")) == 100
    assert "40.0 % of the relevance lies after the end" in html  # 2 of 5
    assert re.findall(r"<span[^>]*>([^<]*)</span>", html)[-1] == "0.8 s"


def test_a_sound_that_ends_within_a_frame_keeps_the_frame() -> None:
    drawn, used = _drawn([1.0, 1.0, 1.0, 1.0])
    html = curve(drawn, used, (np.zeros(round(0.75 * RATE)), RATE))
    assert len(_points(html, "curve")) == 2 + 2 * 2
    assert max(x for x, _ in _points(html, "curve")) == pytest.approx(100 / 0.75, abs=1e-3)


@pytest.mark.parametrize("sound", [None, (np.zeros(10 * RATE), RATE)], ids=["unknown", "longer"])
def test_without_an_end_before_the_last_frame_all_frames_are_drawn(sound: tuple[np.ndarray, int] | None) -> None:
    drawn, used = _drawn([1.0, 2.0, 1.0])
    html = curve(drawn, used, sound)
    assert len(_points(html, "curve")) == 2 + 3 * 2
    assert "after the end" not in html


def test_the_wave_lies_in_the_middle_and_fills_the_height() -> None:
    drawn, used = _drawn([1.0, 2.0])
    wave = _points(curve(drawn, used, (np.array([-0.5, 0.25, 0.5, 0.0]), 4)), "wave")
    assert {y for _, y in wave} == {100, 25, 0, 50}


def test_a_step_is_the_strongest_of_its_frames() -> None:
    assert strongest(np.array([0.1, -0.9, 0.2, 0.3]), 2).tolist() == [-0.9, 0.3]
    assert strongest(np.array([0.1, 0.2]), 2).tolist() == [0.1, 0.2]


def test_a_terminal_has_blocks_over_a_time_axis() -> None:
    drawn, used = _drawn([0.0, 1.0, 0.5, 0.25], step=1.0)
    blocks, axis = terminal_curve(drawn, used, colours=False).plain.split("\n")
    assert blocks == " " * 16 + "█" * 16 + "▄" * 16 + "▂" * 16
    assert axis.split() == ["0", "s", "0.5", "s", "1", "s", "1.5", "s", "2", "s", "2.5", "s", "3", "s", "3.5", "s"]
    assert axis.index("1 s") == 16
    long, used = _drawn([float(i % 7) for i in range(1500)], step=0.02)
    blocks, axis = terminal_curve(long, used, colours=False).plain.split("\n")
    assert blocks == "█" * 64
    assert axis.split() == ["0", "s", "5", "s", "10", "s", "15", "s", "20", "s", "25", "s"]


def test_frames_without_a_time_are_counted() -> None:
    given = segment([0.1, 0.2, 0.3], name="audio", kind="audio")
    drawn = sample(given)
    html = curve(drawn, token_scale(given, drawn), (np.zeros(4), 4))
    assert " s</span>" not in html
    assert len(_points(html, "curve")) == 2 + 3 * 2


HEARD = {"roles": ("pp______",), "labels": (tuple(f"{i * 0.5:.2f} s" for i in range(8)),)}
"""A second of sound, of 4 s that the model takes."""


def _heard(values: list[float]) -> Segment:
    return segment(values, name="audio", kind="audio", **HEARD)


def test_every_picture_ends_with_the_sound_where_the_explanation_knows_it(make_explanation) -> None:
    audio = _heard([1.0, 2.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0])
    explanation = make_explanation(audio)
    drawn = sample(audio)
    assert (drawn.labels, drawn.values.tolist()) == (("0.00 s", "0.50 s"), [1.0, 2.0])
    assert drawn.after == 0.75
    assert token_scale(audio, drawn).high == 2.0
    told = "75.0 % of the relevance lies after the end of the sound"
    sound = np.sin(np.arange(RATE)), RATE
    for html in (files.page(explanation), files.page(explanation, 0, None, sound)):
        assert len(_points(html, "curve")) == 2 + 2 * 2
        assert told in html
    assert len(_points(html, "wave")) == 2 * 800
    (axes,) = files.figure(explanation).axes
    assert axes.get_xlim() == (0, 1.0)
    assert " ".join(axes.get_xlabel().split()).startswith(f"seconds {told}")
    axes, behind = files.figure(explanation, 0, None, sound).axes
    (wave,) = behind.collections
    assert wave.get_paths()[0].get_extents().x1 == axes.get_xlim()[1] == 1.0
    (pair, _) = side_by_side({"a": explanation, "b": explanation}).axes[:2]
    assert pair.get_xlim() == (0, 1.0)
    lines = Text("\n").join(view(audio).heat(audio, 0, token_scale(audio, drawn), False)).plain.split("\n")
    assert lines[1].split()[-2:] == ["0.8", "s"]
    assert lines[2].startswith(told)


def test_of_several_sounds_each_ends_by_itself() -> None:
    two = Segment("audio", "audio", "heard", torch.ones(2, 4), torch.arange(4).repeat(2, 1), roles=("p___", "pppp"))
    assert [len(sample(two, i).values) for i in (0, 1)] == [1, 4]
    assert [sample(two, i).after for i in (0, 1)] == [0.75, 0.0]
