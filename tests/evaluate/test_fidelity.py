"""F-Fidelity: loops by hand, masks that are bounded and the same for all maps, and what is refused."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.datasets.sample import RightAnswers, Said, Sample
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import explained, inputs_of
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.fidelity import Fidelity
from heedmap.evaluate.masking import free_tokens, masked
from heedmap.evaluate.scoring import scorer_of
from heedmap.zoo.dataset import masked as asked_while_masked

PAIR = [contender("generic"), contender("random")]
NAMES = ("visualbert-shapes", "vit-shapes", "gpt-lists", "bart-dates", "convbert-lists")


@cache
def subject_of(name: str) -> Any:
    return heedmap.load(f"zoo/{name}")


@cache
def tuned_of(name: str) -> Any:
    """The model with other weights: what it has learned does not matter here."""
    tuned = copy.deepcopy(subject_of(name))
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in tuned.model.parameters():
            weight.add_(0.03 * weight.std(correction=0) * torch.randn_like(weight))
    return tuned


def samples(name: str, count: int) -> list[Any]:
    reader = asked_while_masked(subject_of(name))
    return [reader[index] for index in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_a_loop_by_hand(name: str) -> None:
    subject, tuned, some = subject_of(name), tuned_of(name), samples(name, 3)
    evaluation = Fidelity(tuned, share=0.3, draws=2, sizes=(20, 80))
    evaluation.check(subject)
    rows, skipped = evaluation.rows(subject, some, PAIR, 5)
    assert skipped == {}
    assert len(rows) == len(some) * len(PAIR) * 2 * (2 if name == "visualbert-shapes" else 1)
    inputs, keys = inputs_of(subject, some), [sample.key for sample in some]
    segment = rows[0]["segment"]
    asked, scorer = (scorer_of(model, inputs, some, segment, False) for model in (subject, tuned))
    maps = explained(subject, inputs, asked.target, PAIR[0], 5, keys)
    free = free_tokens(subject, inputs, maps, segment).numpy()
    keep = evaluation._masks(maps[segment].double().numpy(), free, keys, 5)
    for row in (r for r in rows if r["method"] == "generic" and r["segment"] == segment):
        number, side = keys.index(row["sample"]), ("positive", "negative").index(row["sign"])
        alone = inputs_of(subject, [some[number]])
        own = scorer_of(tuned, alone, [some[number]], segment, False)
        width = alone["input_ids"].shape[1] if segment == "text" else keep.shape[-1]
        for size, score in enumerate(row["scores"]):
            hits = []
            for draw in keep[number, side, size]:
                left = torch.from_numpy(draw[None, :width])
                hits.append(float(own(masked(tuned, alone, maps.segment(segment), left), torch.zeros(1).long())[0]))
            assert score == pytest.approx(np.mean(hits))
        assert row["plain"] == float(scorer(inputs, torch.arange(len(some)))[0][number])


def test_of_words_it_is_what_the_zoo_knows_to_be_right() -> None:
    gpt, labelled, bart = (
        asked_while_masked(subject_of(name)) for name in ("gpt-lists", "convbert-lists", "bart-dates")
    )
    for reader, name in ((gpt, "gpt-lists"), (labelled, "convbert-lists")):
        sample, subject = reader[4], subject_of(name)
        words = sample.inputs["text"].split()
        value = words[words.index(words[-1]) + 1]
        known = subject.config.label2id if name == "convbert-lists" else subject.tokenizer.get_vocab()
        assert sample.truth == Said(len(words) - 1, known[value])
    for index, place in enumerate((3, 6, 9)):  # the last digits of the year, the month and the day
        sample = bart[index]
        assert sample.truth.place == place
        assert subject_of("bart-dates").tokenizer.decode([sample.truth.index]) == sample.made.answer[place]


def test_a_batch_is_its_samples_one_by_one() -> None:
    subject, some = subject_of("visualbert-shapes"), samples("visualbert-shapes", 3)
    evaluation = Fidelity(tuned_of("visualbert-shapes"), share=0.3, draws=2)
    together, _ = evaluation.rows(subject, some, PAIR, 5)
    alone = [row for sample in some for row in evaluation.rows(subject, [sample], PAIR, 5)[0]]
    names = ("sample", "method", "segment", "sign")
    by = {tuple(row[name] for name in names): row["scores"] for row in alone}
    assert {tuple(row[name] for name in names): row["scores"] for row in together} == by


def test_no_more_is_masked_than_was_learned_and_only_of_the_map() -> None:
    evaluation = Fidelity(tuned_of("vit-shapes"), share=0.1, part=0.5, draws=400, sizes=(10, 50, 100))
    relevance, free = np.arange(40.0)[None], np.ones((1, 40), dtype=bool)
    free[0, :4] = False
    gone = ~evaluation._masks(relevance, free, ["7"], 1)[0]
    assert not gone[..., :4].any()
    for side in range(2):
        for size, percent in enumerate(evaluation.sizes):
            count = int(36 * percent / 100)
            own = range(40 - count, 40) if side == 0 else range(4, 4 + count)
            assert set(np.flatnonzero(gone[side, size].any(0))) <= set(own)
            assert gone[side, size].sum(-1).mean() == pytest.approx(min(0.5 * count, 3.6), rel=0.15)
    again = ~evaluation._masks(relevance[:, ::-1], free, ["7"], 1)[0]
    assert np.array_equal(again[0, 2], gone[0, 2]), (
        "where all tokens are the map's, the masks are those of any other map"
    )


def test_findings_are_the_mean_falls() -> None:
    rows = [
        {"sample": key, "method": method, "segment": "text", "sign": sign, "plain": 1.0, "scores": scores}
        for key in "ab"
        for method, gap in (("generic", 0.5), ("random", 0.1))
        for sign, scores in (("positive", [1.0 - gap, 0.5 - gap]), ("negative", [1.0, 0.5]))
    ]
    findings = Fidelity(tuned_of("vit-shapes"), sizes=(20, 80)).findings(rows)
    found = {m.key: {n: s(np.arange(2)) for n, s in m.statistics.items()} for m in findings.measures}
    assert found["text/ffid+"] == pytest.approx({"generic": 0.75, "random": 0.35})
    assert found["text/ffid-"] == pytest.approx({"generic": 0.25, "random": 0.25})
    assert found["text/apart"] == pytest.approx({"generic": 0.5, "random": 0.1})
    assert [m.higher for m in findings.measures] == [True, False, True]
    assert findings.curves[0].x == [0.0, 0.2, 0.8]
    assert findings.curves[0].values["generic"][0].tolist() == [1.0, 0.5, 0.0]


def test_models_that_do_not_fit_are_refused() -> None:
    subject = subject_of("vit-shapes")
    with pytest.raises(InputError, match="has the very weights of"):
        Fidelity(copy.deepcopy(subject)).check(subject)
    with pytest.raises(InputError, match="has not the weights that"):
        Fidelity(subject_of("visualbert-shapes")).check(subject)
    gpt, evaluation, given = (
        subject_of("gpt-lists"),
        Fidelity(tuned_of("gpt-lists")),
        {"text": "dog red ; cat blue ? cat"},
    )
    with pytest.raises(InputError, match=r"gpt-lists speaks, and .* not known which token is right at which place"):
        evaluation.rows(gpt, [Sample("0", given, RightAnswers({"blue": 1.0}))], PAIR, 0)
    with pytest.raises(InputError, match="place 40 is asked about, and the model has logits of 7"):
        evaluation.rows(gpt, [Sample("0", given, Said(40, 3))], PAIR, 0)
    for wrong in ({"share": 0.0}, {"share": 1.0}, {"part": 0.0}, {"draws": 0}, {"sizes": ()}, {"sizes": (0, 50)}):
        with pytest.raises(OptionError, match="expected"):
            Fidelity(tuned_of("vit-shapes"), **wrong)  # type: ignore[arg-type]


def test_a_run_by_its_command(tmp_path: Any) -> None:
    tuned_of("visualbert-shapes").model.save_pretrained(tmp_path / "tuned")
    subject_of("visualbert-shapes").tokenizer.save_pretrained(tmp_path / "tuned")
    command = ["evaluate", "fidelity", "zoo/visualbert-shapes", "--tuned", str(tmp_path / "tuned"), "--share", "0.3"]
    rest = ["--samples", "3", "--draws", "1", "--method", "random", "--out", str(tmp_path / "run"), "--json"]
    result = CliRunner().invoke(app, [*command, *rest])
    assert result.exit_code == 0, result.output
    assert '"evaluation": "fidelity"' in result.stdout
    assert (tmp_path / "run" / "summary.json").exists()
