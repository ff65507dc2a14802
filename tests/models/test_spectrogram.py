"""Sound that is cut to patches of time and frequency: where they lie, to the clip's end, in every picture."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers as tr
from rich.console import Console

import heedmap
from heedmap.data.segments import Segment
from heedmap.errors import InputError
from heedmap.evaluate.masking import masked
from heedmap.models.audio import Hearing, patches, sound_inputs
from heedmap.render.sample import sample
from heedmap.render.terminal import terminal

RATE, FOLDED_RATE = 16000, 48000
CLIP = 0.45
"""Seconds, of 0.64 that the model takes."""


def _tone(seconds: float, rate: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 400 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectrogram")
    torch.manual_seed(0)
    config = tr.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_length=64, num_mel_bins=40
    )
    tr.ASTForAudioClassification(config).save_pretrained(folder)
    tr.ASTFeatureExtractor(num_mel_bins=40, max_length=64).save_pretrained(folder)
    return heedmap.load(str(folder))


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    torch.manual_seed(0)
    config = tr.ClapAudioConfig(
        patch_embeds_hidden_size=8, depths=[1, 1], num_attention_heads=[1, 1], hidden_size=16, projection_dim=4
    )
    return tr.ClapAudioModelWithProjection(config).eval(), tr.ClapFeatureExtractor(truncation="rand_trunc")


def _moved(embeddings, first, second):
    """(tokens,): which of a model's patches differ."""
    with torch.no_grad():
        return (embeddings(first) - embeddings(second)).abs().sum(-1)[0] > 1e-4


def _segment(moved) -> dict[str, Segment]:
    return {"audio": Segment("audio", "audio", "audio", moved.float()[None], torch.arange(len(moved))[None])}


def test_a_patch_lies_where_the_model_hears_it(subject):
    inputs = subject.inputs(audio=(_tone(CLIP, RATE), RATE))["input_values"]
    changed = inputs.clone()
    changed[:, 30:34, 20:22] += 5  # 0.30 to 0.34 s
    segments = _segment(_moved(subject.model.audio_spectrogram_transformer.embeddings, inputs, changed)[2:])
    laid = Hearing({}, subject.config, subject.processors.audio).laid_out(segments)["audio"]
    bands, times = (np.unique(axis) for axis in laid.relevance.reshape(laid.grid).numpy().nonzero())
    # patches of 16 frames, or bands, begin every 10: the first that holds frame 30 begins at 20
    assert (laid.grid, bands.tolist(), times.tolist()) == ((3, 5), [1, 2], [2, 3])


def test_a_folded_spectrogram_is_unfolded(folded):
    model, extractor = folded
    encoder = model.audio_model.audio_encoder
    inputs = sound_inputs(extractor, [torch.from_numpy(_tone(9.0, FOLDED_RATE))])["input_features"]
    cut = patches(model.config, extractor)

    def seen(changed):
        moved = _moved(lambda x: encoder.patch_embed(encoder.reshape_mel2img(x)), inputs, changed)
        laid = Hearing({}, model.config, extractor).laid_out(_segment(moved))["audio"]
        return [np.unique(axis) for axis in laid.relevance.reshape(laid.grid).numpy().nonzero()]

    later = inputs.clone()
    later[:, :, 300:350] += 5
    bands, times = seen(later)
    assert bands.tolist() == list(range(cut.bands))
    assert times[0] * cut.step == pytest.approx(3.0, abs=2 * cut.step)
    assert (times[-1] + 1) * cut.step == pytest.approx(3.5, abs=2 * cut.step)
    higher = inputs.clone()
    higher[..., 8:12] += 5
    assert seen(higher)[0].tolist() == [2]  # four bands of the spectrogram a patch


def test_every_picture_has_a_time_axis_that_ends_with_the_clip(subject):
    wave = _tone(CLIP, RATE)
    explained = subject.explain(audio=(wave, RATE))
    segment = explained.segments["audio"]
    assert segment.grid == (3, 5)
    assert segment.labels[0] == ("0.00 s", "0.10 s", "0.20 s", "0.30 s", "0.40 s") * 3
    assert segment.roles == ("ppppp" * 3,)
    short = subject.explain(audio=(wave[: RATE // 4], RATE))
    assert short.segments["audio"].roles == ("ppp__" * 3,)
    drawn = sample(short.segments["audio"])
    assert drawn.taken.reshape(3, 5).tolist() == [[True] * 3 + [False] * 2] * 3
    values = short["audio"][0].abs().reshape(3, 5)
    assert drawn.after == pytest.approx(float(values[:, 3:].sum() / values.sum()))

    console = Console(file=io.StringIO(), width=200)
    console.print(terminal(short, colours=False))
    lines = console.file.getvalue().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("audio ·"))
    assert [len(line) for line in lines[at + 1 : at + 4]] == [3 * (64 // 3)] * 3
    assert lines[at + 4].startswith("0 s")
    assert "after the end of the sound" in lines[at + 5]
    assert "s, band " in lines[at + 6]

    figure = short.plot(sound=(wave[: RATE // 4], RATE))
    axes = next(axes for axes in figure.axes if axes.get_title().startswith("audio"))
    assert axes.get_xlim() == pytest.approx((0, 0.3))
    assert axes.get_xticklabels()[-1].get_text().endswith(" s")
    assert axes.images[0].get_array().shape == (3, 3)
    page = short.to_html()
    assert "relevance over time and frequency" in page
    assert "frequencies from low" in page


def test_low_frequencies_are_at_the_bottom(subject):
    explained = subject.explain(audio=(_tone(CLIP, RATE), RATE))
    segment = explained.segments["audio"]
    values = torch.zeros(1, 15)
    values[0, 1] = 1.0  # the lowest band at 0.1 s
    figure = replace(explained, segments={"audio": replace(segment, relevance=values)}).plot()
    (image,) = (image for axes in figure.axes for image in axes.images if image.get_array().shape == (3, 5))
    assert image.get_array()[2, 1] == 1.0  # row 2 is drawn at the bottom


def test_a_method_of_the_features_has_times_too(subject):
    found = subject.explain(audio=(_tone(CLIP, RATE), RATE), method="input_x_gradient").segments["audio"]
    assert found.labels[0][1].endswith(" s")
    assert len(found.roles[0]) == found.tokens
    assert found.grid in (None, (3, 5))


def test_patches_cannot_be_masked_as_if_they_were_times(subject):
    inputs = subject.inputs(audio=(_tone(CLIP, RATE), RATE))
    segment = subject.explain(audio=(_tone(CLIP, RATE), RATE)).segments["audio"]
    with pytest.raises(InputError, match="tokens can only be masked in"):
        masked(subject, inputs, segment, torch.ones(1, 15, dtype=torch.bool))


@pytest.mark.parametrize(
    ("extractor", "rate", "most"),
    [
        (tr.ASTFeatureExtractor(num_mel_bins=40, max_length=64), RATE, 0.64),
        (tr.ClapFeatureExtractor(), FOLDED_RATE, 10),
        (tr.Gemma3nAudioFeatureExtractor(), RATE, 30),
    ],
    ids=["frames", "parts by chance", "samples"],
)
def test_a_clip_that_an_extractor_would_cut_is_refused(extractor, rate, most):
    wave = torch.zeros(math.ceil(most * rate) + 1)
    with pytest.raises(InputError, match=f"the model takes up to {most} s; explain it in parts"):
        sound_inputs(extractor, [wave])
