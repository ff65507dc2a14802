"""Maps of real weights where the evidence is known: the map must lie on it, and more so than chance and baselines."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photographs import build_probe, side_by_side
from PIL import Image

import heedmap
from heedmap import Subject
from heedmap.models.media import read_audio
from heedmap.targets import NextToken
from known.reactions import REACTIONS, centre, unmarked
from known.speech import Sentence

pytestmark = pytest.mark.weights
Load = Callable[[str], Subject]
FRAME = 0.02
"""Seconds of an audio token of Whisper; its label is when it begins."""


def shares(rxnfp: Subject, method: str) -> np.ndarray:
    """For each reaction: the relevance on its centre (0 where the map is empty), and the tokens in it, as shares."""
    found = []
    for reaction in REACTIONS.values():
        relevance = rxnfp.explain(text=unmarked(reaction), method=method)["text"][0].numpy()[1:-1]
        inside = np.array(centre(reaction, rxnfp.tokenizer))[1:-1]
        found.append((relevance[inside].sum() / (relevance.sum() or 1), inside.mean()))
    return np.array(found)


def test_rxnfp_finds_the_centre_of_twenty_reactions(subject: Load) -> None:
    rxnfp = subject("rxnfp")
    mass, chance = shares(rxnfp, "generic").T
    assert (mass > chance).all()
    assert mass.mean() > 2.5 * chance.mean()
    assert mass.mean() > shares(rxnfp, "raw_attention")[:, 0].mean() > shares(rxnfp, "random")[:, 0].mean()


def test_rxnfp_draws_a_reaction(explain: Callable[..., Any]) -> None:
    reaction = unmarked(REACTIONS["bromo Suzuki-type coupling"])
    picture = explain("rxnfp", "--text", reaction, ending=".png")
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 150
    page = explain("rxnfp", "--text", reaction, ending=".html").read_text()
    assert "bromo Suzuki-type coupling" in page
    assert "&gt;&gt;" in page


@pytest.fixture(scope="module")
def probe(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage", reason="scikit-image, of the dev extra, has the photographs")
    made = tmp_path_factory.mktemp("probe")
    build_probe(folder("dinov2-small"), made, crops=3)
    return made


PAIRS = [("coffee", "cat"), ("motorcycle", "coffee"), ("astronaut", "rocket")]


def left_shares(probed: Subject, image: Image.Image, targets: Sequence[str], method: str = "generic") -> list[float]:
    maps = [
        found["image"][0].reshape(16, 16) for found in probed.explain(image=image, target=[*targets], method=method)
    ]
    return [float(relevance[:, :8].sum() / relevance.sum()) for relevance in maps]


def test_dinov2_looks_where_the_class_is(probe: Path) -> None:
    probed = heedmap.load(probe)
    for pair in PAIRS:
        image = side_by_side(*pair)
        seen_left, seen_right = left_shares(probed, image, pair)
        assert seen_left > seen_right + 0.1, pair
    seen_left, seen_right = left_shares(probed, image, pair, "raw_attention")
    assert seen_left == seen_right  # attention alone cannot tell one class from another


def test_dinov2_draws_a_class_on_the_photograph(probe: Path, explain: Callable[..., Any], tmp_path: Path) -> None:
    side_by_side("coffee", "cat").save(tmp_path / "both.png")
    picture = explain(probe, "--image", str(tmp_path / "both.png"), "--target", "cat", ending=".png")
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 400
        assert np.asarray(drawn.convert("RGB")).std() > 20, "a photograph with colours on it"


def heard(whisper: Subject, sentence: Sentence) -> dict[str, tuple[bool, float, float]]:
    """For each word: whether the peak is where it is said, the map's share there, and that time's share of the sentence."""
    inputs = whisper.inputs(audio=read_audio(sentence.path))
    places = {word: place_of(whisper, inputs, word) for word in sentence.times}
    targets = [NextToken(position=place - 1) for place in places.values()]
    explanations = heedmap.explain(whisper, inputs, target=targets)
    found = {}
    for (word, (begin, end)), explanation in zip(sentence.times.items(), explanations, strict=True):
        relevance = explanation["audio"][0].numpy()
        labels = explanation.segments["audio"].labels[0]
        time = np.array([float(label.removesuffix(" s")) for label in labels]) + FRAME / 2
        inside = (time > begin - 0.1) & (time < end + 0.1)
        share = float(relevance[inside].sum() / relevance.sum())
        found[word] = bool(inside[relevance.argmax()]), share, float(inside.sum() / (time < sentence.end).sum())
    return found


def test_whisper_hears_every_word_at_its_time(subject: Load, say: Callable[..., Sentence], tmp_path: Path) -> None:
    found = heard(subject("whisper-base"), say("Yesterday I bought seven red apples", tmp_path / "apples.wav"))
    for word, (peak, share, chance) in found.items():
        assert peak, word
        assert share > 1.3 * chance, word
    shares, chances = zip(*((share, chance) for _, share, chance in found.values()), strict=True)
    assert sum(shares) > 2 * sum(chances)


def place_of(whisper: Subject, inputs: dict[str, Any], word: str) -> int:
    said = [whisper.tokenizer.decode([int(i)]).strip() for i in inputs["decoder_input_ids"][0]]
    return next(i for i, text in enumerate(said) if re.sub(r"\W", "", text) == word)


EVIDENCE = {
    "The capital of France is": "France",
    "The capital of Italy is": "Italy",
    "The opposite of hot is": "hot",
    "The sun rises in the east and sets in the": "east",
}


def test_smollm2_looks_at_the_word_that_decides(subject: Load) -> None:
    explanation = subject("smollm2").explain(text=[*EVIDENCE], start_layer=15)
    labels = explanation.segments["text"].labels
    for own, relevance, word in zip(labels, explanation["text"], EVIDENCE.values(), strict=True):
        assert own[1 + int(relevance[1:].argmax())] == word  # the first token is an attention sink


def test_relevance_propagation_sees_past_smollm2s_attention_sink(subject: Load) -> None:
    """Of all tokens and all layers: weighted by relevance, the first token's share of attention counts for nothing."""
    explanation = subject("smollm2").explain(text=[*EVIDENCE], method="transformer_attribution")
    labels = explanation.segments["text"].labels
    for own, relevance, word in zip(labels, explanation["text"], EVIDENCE.values(), strict=True):
        assert own[int(relevance.argmax())] == word
