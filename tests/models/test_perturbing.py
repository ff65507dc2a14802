"""Perturbation of other kinds of models than the zoo has."""

import pytest

from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.models import load

from .test_explaining import GIVEN, noise

PAIR = [contender("generic"), contender("random")]


def _samples(given, count=3):
    made = []
    for number in range(count):
        inputs = dict(given)
        if "image" in inputs:
            inputs["image"] = noise(seed=number)
        if number == 1 and "text" in inputs:
            inputs["text"] += " cat"
        made.append(Sample(str(number), inputs, RightAnswers({"LABEL_1": 1.0})))
    return made


@pytest.mark.parametrize(
    ("name", "segments", "remove"),
    [
        ("bert", {"text"}, "drop"),
        ("bert", {"text"}, "mask"),
        ("vit", {"image"}, "drop"),
        ("lxmert", {"text", "boxes"}, "drop"),
        ("lxmert", {"text", "boxes"}, "mask"),
        ("lxmert", {"text", "boxes"}, "replace"),
        ("visual_bert", {"text", "boxes"}, "replace"),
        ("vilt", {"image"}, "replace"),
        ("visual_bert", {"text", "boxes"}, "drop"),
        ("vilt", {"text"}, "drop"),
    ],
)
def test_every_kind_of_classifier_can_be_perturbed(folder, name, segments, remove):
    model = load(folder(name))
    samples = _samples(GIVEN[name])
    evaluation = Perturbation.of(model, segments=sorted(segments), remove=remove, donors=samples)
    rows, skipped = evaluation.rows(model, samples, PAIR, 0)
    assert not skipped
    assert {row["segment"] for row in rows} == segments
    assert {row["method"] for row in rows} == {"generic", "random"}
    assert all(0 <= row["score"] <= 1 and 0 < row["probability"] < 1 for row in rows)
    begins = {row["sample"]: row["probability"] for row in rows if row["step"] == 0}
    changed = [row for row in rows if row["percent"] >= 80 and row["probability"] != begins[row["sample"]]]
    assert changed, "taking tokens away changes what the model says"


def test_pictures_of_unequal_size_are_measured_together_as_alone(folder):
    """ViLT pads pictures of unequal size, so that one token comes twice."""
    model = load(folder("vilt"))
    sizes = [(40, 60), (64, 40), (33, 33)]
    samples = [
        Sample(str(n), {**GIVEN["vilt"], "image": noise(*size, seed=n)}, RightAnswers({"LABEL_1": 1.0}))
        for n, size in enumerate(sizes)
    ]
    evaluation = Perturbation.of(model, segments=("image",))
    together, skipped = evaluation.rows(model, samples, PAIR[:1], 0)
    assert not skipped
    for sample in samples:
        alone, _ = evaluation.rows(model, [sample], PAIR[:1], 0)
        rows = [row for row in together if row["sample"] == sample.key]
        assert len(rows) == len(alone) > 0
        for row, wanted in zip(rows, alone, strict=True):
            assert row == {**wanted, "probability": pytest.approx(wanted["probability"], rel=1e-5)}
