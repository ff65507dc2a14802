"""Both parts of an input perturbed in one order, against a loop by hand."""

from typing import Any

import numpy as np
import pytest
import torch

import heedmap
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.perturbation import PRESETS, Perturbation
from heedmap.evaluate.masking import donors_of
from heedmap.evaluate.scoring import MatchScorer
from heedmap.targets import class_logits
from heedmap.zoo.dataset import answered

PAIR = [contender("generic"), contender("random")]
TEXT, BOXES = ("input_ids", "attention_mask", "token_type_ids"), ("visual_feats", "visual_pos")


@pytest.fixture(scope="module")
def subjects() -> dict[str, Any]:
    return {name: heedmap.load(f"zoo/{name}") for name in ("lxmert-shapes", "clip-shapes")}


def test_words_and_boxes_go_in_one_order(subjects: dict[str, Any]) -> None:
    """The slow way: one forward pass a step, all tokens sorted together in Python."""
    subject = subjects["lxmert-shapes"]
    sample = answered(subject)[5]
    inputs = subject.inputs(**sample.inputs)
    maps = heedmap.explain(subject, inputs)
    words, boxes = maps["text"].shape[1], maps["boxes"].shape[1]
    tokens = [("text", place, float(maps["text"][0, place])) for place in range(1, words - 1)]
    tokens += [("boxes", place, float(maps["boxes"][0, place])) for place in range(boxes)]
    rows, _ = Perturbation.of(subject, segments=("joint",)).rows(subject, [sample], PAIR[:1], 0)
    label = int(class_logits(subject.model(**inputs), 2).argmax())
    assert len(rows) == 2 * len(PRESETS["lxmert"].steps["joint"])
    for row in rows:
        sign = 1 if row["sign"] == "negative" else -1
        ranked = sorted(tokens, key=lambda token: sign * token[2])
        gone = {(part, place) for part, place, _ in ranked[: row["percent"] * len(tokens) // 100]}
        left = [place for place in range(words) if ("text", place) not in gone]
        seen = [place for place in range(boxes) if ("boxes", place) not in gone]
        if not seen:
            continue  # LXMERT takes no picture without boxes
        cut = {n: v[:, left] if n in TEXT else v[:, seen] if n in BOXES else v for n, v in inputs.items()}
        cut.pop("visual_attention_mask", None)
        with torch.no_grad():
            logits = class_logits(subject.model(**cut), 2)[0]
        assert row["probability"] == pytest.approx(float(logits.softmax(-1)[label]), abs=1e-4)
        assert row["tokens"] == len(tokens)


@pytest.mark.parametrize(("name", "remove"), [("lxmert-shapes", "drop"), ("clip-shapes", "replace")])
def test_a_batch_is_its_samples_one_by_one(subjects: dict[str, Any], name: str, remove: str) -> None:
    subject = subjects[name]
    reader = answered(subject)
    evaluation = Perturbation.of(subject, segments=("joint",), remove=remove, donors=donors_of(reader, 0, 4))
    samples = [reader[index] for index in (3, 4)]
    together, _ = evaluation.rows(subject, samples, PAIR, 0)
    alone = [row for sample in samples for row in evaluation.rows(subject, [sample], PAIR, 0)[0]]
    what = ("sample", "method", "segment", "sign", "step")
    mine, other = ({tuple(row[name] for name in what): row for row in rows} for rows in (together, alone))
    assert mine.keys() == other.keys()
    apart = [abs(mine[key]["probability"] - other[key]["probability"]) for key in mine]
    assert np.mean(np.array(apart) < 1e-4) > 0.97, "but for ties that rounding decides"
    assert {measure.key.split("/")[0] for measure in evaluation.findings(together).measures} == {"joint"}


def test_a_changed_picture_is_compared_with_its_changed_text(subjects: dict[str, Any]) -> None:
    subject = subjects["clip-shapes"]
    samples = [answered(subject)[index] for index in range(3)]
    scorer = MatchScorer(subject, subject.inputs(**_joined(samples)), samples, "joint")
    changed, owners = _joined([samples[0], samples[2]]), torch.tensor([0, 2])
    changed["text"] = [text.rsplit(" ", 1)[0] for text in changed["text"]]
    inputs = subject.inputs(**changed)
    inputs["pixel_values"] = inputs["pixel_values"].flip(-1)
    score, probability = scorer(inputs, owners)
    for row, owner in enumerate(owners.tolist()):
        alone = subject.inputs(text=[changed["text"][row], *samples[owner].truth.wrong], image=changed["image"][row])
        with torch.no_grad():
            similar = subject.model(
                **{**alone, "pixel_values": inputs["pixel_values"][row : row + 1]}
            ).logits_per_image[0]
        assert float(score[row]) == float(similar.argmax() == 0)
        assert float(probability[row]) == pytest.approx(float(similar.softmax(-1)[0]), abs=1e-4)


def _joined(samples: list[Any]) -> dict[str, Any]:
    return {role: [sample.inputs[role] for sample in samples] for role in ("text", "image")}


def test_one_part_alone_has_no_joint_order() -> None:
    vit = heedmap.load("zoo/vit-shapes")
    with pytest.raises(InputError, match="choose the one part"):
        Perturbation.of(vit, "tenths", segments=("joint",))
    with pytest.raises(OptionError, match="steps for image, not for joint"):
        Perturbation.of(vit, segments=("joint",))
