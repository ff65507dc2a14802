from typing import Any

import numpy as np
import pytest
import torch

import heedmap
from heedmap.datasets.sample import Foreground, Match, RightAnswers, Sample
from heedmap.errors import InputError, OptionError, SampleError
from heedmap.evaluate.answer import repeated
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.masking import without
from heedmap.evaluate.scoring import AnswerScorer, MatchScorer
from heedmap.targets import class_logits
from heedmap.zoo.dataset import answered

NAMES = ("lxmert-shapes", "visualbert-shapes", "vit-shapes", "clip-shapes")
PAIR = [contender("generic"), contender("random")]


@pytest.fixture(scope="module")
def subjects() -> dict[str, Any]:
    return {name: heedmap.load(f"zoo/{name}") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_better_than_chance_on_every_kind_of_model(subjects: dict[str, Any], name: str) -> None:
    subject = subjects[name]
    reader, evaluation = answered(subject), Perturbation.of(subjects[name])
    evaluation.check(subject)
    samples = [reader[index] for index in range(12)]
    rows, skipped = evaluation.rows(subject, samples, PAIR, 0)
    findings = evaluation.findings(rows)
    assert skipped == {}
    assert len(rows) == 12 * 2 * sum(2 * len(s) for s in evaluation.settings["steps"].values())
    every = np.arange(12)
    for measure in findings.measures:
        if measure.key.endswith("probability/auc"):
            own, chance = (measure.statistics[one](every) for one in ("generic", "random"))
            assert own > chance if measure.higher else own < chance, measure.key
    for curve in findings.curves:
        ends = {round(float(values[:, 0].mean()), 9) for values in curve.values.values()}
        assert len(ends) == 1, "nothing is removed at the first step, so all begin alike"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_samples_one_by_one(subjects: dict[str, Any], name: str) -> None:
    subject = subjects[name]
    reader, evaluation = answered(subject), Perturbation.of(subjects[name])
    samples = [reader[index] for index in (3, 4, 9)]
    together, _ = evaluation.rows(subject, samples, PAIR, 0)
    alone = [row for sample in samples for row in evaluation.rows(subject, [sample], PAIR, 0)[0]]
    what = ("sample", "method", "segment", "sign", "step")
    mine, other = ({tuple(row[name] for name in what): row for row in rows} for rows in (together, alone))
    assert mine.keys() == other.keys()
    apart = [abs(mine[one]["probability"] - other[one]["probability"]) for one in mine]
    assert np.mean(np.array(apart) < 1e-4) > 0.97, "but for ties that rounding decides"


def test_scores_by_step_are_those_of_a_loop_by_hand(subjects: dict[str, Any]) -> None:
    """The slow way: one forward pass for each step, tokens sorted in Python."""
    subject = subjects["lxmert-shapes"]
    sample = answered(subject)[5]
    inputs = subject.inputs(**sample.inputs)
    maps = heedmap.explain(subject, inputs)
    relevance, ids = maps["text"][0].tolist(), inputs["input_ids"][0].tolist()
    words = [place for place in range(1, len(ids) - 1)]
    ranked = sorted(words, key=lambda place: -relevance[place])
    rows, _ = Perturbation.of(subject, segments=("text",)).rows(subject, [sample], PAIR[:1], 0)
    measured = [row for row in rows if row["sign"] == "positive"]
    label = int(class_logits(subject.model(**inputs), 2).argmax())
    for row in measured:
        gone = set(ranked[: row["percent"] * len(words) // 100])
        keep = [place for place in range(len(ids)) if place not in gone]
        cut = {
            n: v[:, keep] if n in ("input_ids", "attention_mask", "token_type_ids") else v for n, v in inputs.items()
        }
        with torch.no_grad():
            logits = class_logits(subject.model(**cut), 2)[0]
        assert row["probability"] == pytest.approx(float(logits.softmax(-1)[label]), abs=1e-4)
        assert row["score"] == float(subject.config.id2label[int(logits.argmax())] in sample.truth.scores)
        assert row["tokens"] == len(words)


def test_soft_scores_are_those_of_what_the_model_answers(subjects: dict[str, Any]) -> None:
    subject = subjects["visualbert-shapes"]
    plain = answered(subject)[0]
    inputs = subject.inputs(**plain.inputs)
    answer = subject.config.id2label[int(class_logits(subject.model(**inputs), 2).argmax())]
    other = next(name for name in subject.config.id2label.values() if name != answer)
    for truth, expected in ((RightAnswers({answer.upper(): 0.3, other: 1.0}), 0.3), (RightAnswers({other: 1.0}), 0.0)):
        scorer = AnswerScorer(subject, inputs, [Sample("a", plain.inputs, truth)], truth=False)
        score, probability = scorer(inputs, torch.tensor([0]))
        assert float(score) == pytest.approx(expected)
        assert 0.3 < float(probability) <= 1
    asked = AnswerScorer(subject, inputs, [Sample("a", plain.inputs, RightAnswers({other: 1.0}))], truth=True)
    assert (
        asked.target.choose(subject.model(**inputs), heedmap.targets.Context(inputs, subject.config.id2label))
        .words[0]
        .endswith(f"({other})")
    )


def test_a_pair_is_right_where_it_beats_all_wrong_texts(subjects: dict[str, Any]) -> None:
    subject = subjects["clip-shapes"]
    samples = [answered(subject)[index] for index in range(3)]
    inputs = subject.inputs(text=[s.inputs["text"] for s in samples], image=[s.inputs["image"] for s in samples])
    owners = torch.tensor([0, 0, 2])
    for segment in ("text", "image"):
        score, probability = MatchScorer(subject, inputs, samples, segment)(repeated(inputs, 3, owners), owners)
        for row, owner in enumerate(owners.tolist()):
            one = samples[owner]
            with torch.no_grad():
                similar = subject.model(
                    **subject.inputs(text=[one.inputs["text"], *one.truth.wrong], image=one.inputs["image"])
                ).logits_per_image[0]
            assert float(score[row]) == float(similar.argmax() == 0)
            assert float(probability[row]) == pytest.approx(float(similar.softmax(-1)[0]), abs=1e-4)


def test_pixels_go_by_the_map_scaled_up(subjects: dict[str, Any]) -> None:
    subject = subjects["vit-shapes"]
    inputs = subject.inputs(image=answered(subject)[0].inputs["image"])
    rows, columns = inputs["pixel_values"].shape[-2:]
    keep = torch.ones(1, rows, columns, dtype=torch.bool)
    keep[0, :10] = False
    made = without(subject, inputs, heedmap.explain(subject, inputs).segment("image"), keep, "drop")["pixel_values"]
    assert not made[:, :, :10].any()
    assert torch.equal(made[:, :, 10:], inputs["pixel_values"][:, :, 10:])


def test_whole_patches_go_where_the_preset_says_so(subjects: dict[str, Any]) -> None:
    subject = subjects["vit-shapes"]
    rows, _ = Perturbation.of(subject, "tenths").rows(subject, [answered(subject)[1]], PAIR[:1], 0)
    grid = heedmap.explain(subject, subject.inputs(image=answered(subject)[1].inputs["image"])).segment("image").grid
    assert {row["tokens"] for row in rows} == {grid[0] * grid[1]}
    assert [row["percent"] for row in rows[:11]] == list(range(0, 101, 10))


def test_what_does_not_fit_is_told(subjects: dict[str, Any]) -> None:
    lxmert = subjects["lxmert-shapes"]
    with pytest.raises(InputError, match="takes"):
        Perturbation.of(subjects["vit-shapes"], "lxmert")
    with pytest.raises(OptionError, match="steps for text, boxes"):
        Perturbation.of(lxmert, segments=("audio",))
    with pytest.raises(OptionError, match="'drop', 'mask' or 'replace'"):
        Perturbation.of(lxmert, remove="erase")
    with pytest.raises(InputError, match="speaks"):
        Perturbation.of(lxmert).check(heedmap.load("zoo/bart-dates"))
    masked = Sample("a", answered(lxmert)[0].inputs, Foreground(np.ones((2, 2), dtype=bool)))
    with pytest.raises(SampleError, match="no answer"):
        Perturbation.of(lxmert).rows(lxmert, [masked], PAIR, 0)
    with pytest.raises(SampleError, match="wrong texts"):
        MatchScorer(lxmert, {}, [masked], "text")
    assert Match(("a",)).wrong == ("a",)
