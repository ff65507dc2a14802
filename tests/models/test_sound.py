import math
import shutil
import types

import numpy as np
import pytest
import torch
import transformers as tr

from heedmap.errors import InputError, ModelLoadError
from heedmap.models import load
from heedmap.models.audio import seconds, sound_inputs
from heedmap.models.media import clip, resample


def tone(hertz, rate, length):
    return torch.sin(torch.arange(int(length * rate), dtype=torch.float64) / rate * hertz * 2 * math.pi).float()


RATES = [(44100, 16000), (8000, 16000), (48000, 16000), (22050, 16000), (16000, 8000)]


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_a_tone_is_the_same_tone_at_another_rate(rate, wanted):
    got, expected = resample(tone(440, rate, 0.5), rate, wanted), tone(440, wanted, 0.5)
    assert len(got) == len(expected)
    middle = slice(200, -200)
    assert (got[middle] - expected[middle]).abs().max() < 5e-3


def test_what_the_lower_rate_cannot_hold_is_taken_out():
    got = resample(tone(7000, 16000, 0.5), 16000, 8000)
    assert got[200:-200].abs().max() < 1e-2


def test_a_constant_stays():
    got = resample(torch.ones(1000), 44100, 16000)
    assert torch.allclose(got[50:-50], torch.ones(1), atol=5e-3)


def test_rates_without_common_measure():
    with pytest.raises(InputError, match=r"44101 .* takes 16000.*resample it to 16000"):
        resample(torch.ones(10), 44101, 16000)


@pytest.mark.parametrize(
    ("audio", "told"),
    [
        (np.zeros(10), "expected a pair"),
        ((np.zeros(10), "16000"), "expected a pair"),
        ((np.zeros(10), 0), "sampling rate is 0"),
        ((np.zeros(10), float("nan")), "sampling rate is nan"),
        ((np.zeros((2, 10)), 8000), r"shape \(2, 10\); expected one channel"),
        ((np.zeros(0), 8000), "it is empty"),
        ((np.array([0.0, np.inf]), 8000), "not finite"),
    ],
)
def test_unsuited_clips(audio, told):
    with pytest.raises(InputError, match=told):
        clip(audio, 8000)


def test_a_clip_at_the_right_rate_is_untouched():
    samples = np.random.default_rng(0).normal(size=50)
    assert torch.equal(clip((samples, np.int64(8000)), 8000), torch.tensor(samples, dtype=torch.float32))


def test_the_model_gets_the_resampled_clip(folder):
    subject = load(folder("wav2vec2"))
    assert subject.inputs(audio=(tone(200, 16000, 0.5), 16000))["input_values"].shape == (1, 4000)
    both = subject.inputs(audio=[(tone(200, 8000, 0.5), 8000), (tone(200, 8000, 0.25), 8000)])
    assert both["input_values"].shape == (2, 4000)
    assert not both["input_values"][1, 2000:].any()


def test_a_clip_that_would_be_cut(folder):
    with pytest.raises(InputError, match=r"lasts 1\.50 s and the model takes up to 1 s"):
        load(folder("whisper")).inputs(audio=(np.zeros(24000), 16000))


def test_an_extractor_that_always_fills_up_to_one_length_needs_no_word_for_it():
    extractor = tr.ASTFeatureExtractor(num_mel_bins=16, max_length=64)
    made = sound_inputs(extractor, [tone(440, 16000, 0.25), tone(440, 16000, 0.5)])
    assert made["input_values"].shape == (2, 64, 16)
    filled = made["input_values"][:, -1]
    assert torch.equal(filled, filled[:1, :1].expand(2, 16)), "the end is filled with one value"


def test_lengths_that_shapes_tell():
    extractor = types.SimpleNamespace(sampling_rate=100, hop_length=10, feature_size=4)
    assert seconds({"input_values": torch.zeros(1, 250)}, extractor) == 2.5
    assert seconds({"input_features": torch.zeros(1, 4, 20)}, extractor) == 2.0
    assert seconds({"input_features": torch.zeros(1, 20, 4)}, extractor) is None
    assert seconds({"input_values": torch.zeros(1, 20, 4)}, extractor) is None
    assert seconds({}, extractor) is None


@pytest.mark.parametrize("name", ["whisper", "wav2vec2"])
def test_frames_after_the_end_of_each_clip_are_padding(folder, name):
    subject = load(folder(name))
    rate = subject.processors.audio.sampling_rate
    clips = [(tone(200, rate, length), rate) for length in (0.25, 0.5)]
    both = subject.explain(audio=clips).segments["audio"]
    frames = [math.ceil(length / (1.0 if name == "whisper" else 0.5) * both.tokens) for length in (0.25, 0.5)]
    assert [row.count("p") for row in both.roles] == frames
    assert both.roles == tuple("p" * n + "_" * (both.tokens - n) for n in frames)
    assert both.has_role("padding").sum(1).tolist() == [both.tokens - n for n in frames]
    if name == "wav2vec2":
        return
    answer = subject.explain_answer(audio=clips[0], generate={"max_new_tokens": 3}).segments["audio"]
    assert answer.roles == both.roles[:1]
    dictionary = {"array": clips[1][0], "sampling_rate": rate}
    assert subject.explain(audio=dictionary).segments["audio"].roles == both.roles[1:]


def test_what_a_model_should_have_said_needs_a_tokenizer(folder, tmp_path):
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(folder("whisper") / name, tmp_path / name)
    subject = load(tmp_path)
    assert subject.tokenizer is None
    clip = (np.zeros(8000, np.float32), 16000)
    assert len(subject.predict(audio=clip)) > 0
    with pytest.raises(ModelLoadError, match=r"has no tokenizer.*tokenizer\.json"):
        subject.predict(audio=clip, said="paris")
