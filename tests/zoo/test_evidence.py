"""The figures of maps against the truth: by hand, by law, and on the shipped models."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import heedmap
from conformance.tiny_models import AMONG_WORDS
from heedmap.cli.main import app
from heedmap.cli.zoo import read_figures
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import InputError, MissingLibraryError, SampleError
from heedmap.evaluate import evaluation, evidence
from heedmap.evaluate.answer import explained_each
from heedmap.evaluate.evaluation import EvaluationPlan, contenders, measured, run
from heedmap.evaluate.evidence import cut, overlap
from heedmap.evaluate.folder import RunFolder, read_summary
from heedmap.evaluate.statistics import interval
from heedmap.zoo.dataset import first
from heedmap.zoo.evidence import ABLATED, AT_ONCE, EVEN, PRIOR, KnownEvidence, _judged, markdown, measure, verdict
from heedmap.zoo.material import Evidence, KnownAnswer, right_ones
from heedmap.zoo.samples import MATERIALS

FAST = tuple(name for name in evaluation.FAST if name not in AMONG_WORDS)
"""Of a pass or two, but for those of pictures among words."""

DOCS = Path(__file__).parents[2] / "docs"
HALF = np.zeros((96, 96), dtype=bool)
HALF[:, :48] = True


def otsu_overlap(grid, mask):
    return overlap(cut(grid, mask.shape, "otsu"), mask)


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_a_perfect_map():
    weight = evidence.patch_evidence(HALF, (6, 6))
    assert evidence.share(weight, weight) == 1
    assert evidence.pointing(weight, weight) == 1
    assert otsu_overlap(weight.reshape(6, 6), HALF) == 1


def test_a_map_of_equal_values_has_the_share_of_the_area():
    mask = np.zeros((96, 96), dtype=bool)
    mask[10:50, 3:33] = True
    weight = evidence.patch_evidence(mask, (6, 6))
    flat = np.full(36, 0.7)
    assert evidence.share(flat, weight) == pytest.approx(mask.mean())
    assert otsu_overlap(flat.reshape(6, 6), mask) == pytest.approx(mask.mean())
    assert evidence.pointing(flat, weight) == pytest.approx(12 / 36)  # rows 0 to 3, columns 0 to 2 are touched


def test_a_map_beside_the_truth():
    weight = evidence.patch_evidence(HALF, (6, 6))
    assert evidence.share(1 - weight, weight) == 0
    assert evidence.pointing(1 - weight, weight) == 0
    assert otsu_overlap((1 - weight).reshape(6, 6), HALF) == 0


def test_a_map_by_hand():
    weight = np.array([0.0, 1.0, 1.0, 0.0])
    assert evidence.share(np.array([1.0, 2.0, 4.0, 1.0]), weight) == pytest.approx(6 / 8)
    assert evidence.pointing(np.array([5.0, 2.0, 5.0, 1.0]), weight) == 0.5
    assert evidence.share(np.array([-3.0, 1.0, 0.0, 1.0]), weight) == 0.5
    assert evidence.share(np.zeros(4), weight) == 0


def test_a_patch_counts_by_the_share_of_its_area():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = mask[2, 2:] = True
    assert evidence.patch_evidence(mask, (2, 2)).tolist() == [0.25, 0, 0, 0.5]
    assert evidence.share(np.array([1.0, 1.0, 0.0, 2.0]), evidence.patch_evidence(mask, (2, 2))) == pytest.approx(
        1.25 / 4
    )


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.filters", None)
    with pytest.raises(MissingLibraryError, match=r"'\.\[eval\]'"):
        cut(np.eye(4), (8, 8), "otsu")


def test_padding_does_not_count():
    figures = _judged(np.array([1.0, 3.0, 9.0, 9.0]), np.array([0.0, 1.0]), None, None)
    assert figures == pytest.approx({"share": 0.75, "pointing": 1.0, "overlap": np.nan}, nan_ok=True)


def test_the_prior_is_highest_in_the_middle_and_the_same_on_all_sides():
    prior = evidence.centre_prior((5, 5))
    assert prior.argmax() == 12
    assert np.allclose(prior, prior[::-1])
    assert np.allclose(prior, prior.T)
    assert prior[2, 2] == 1
    assert prior[2, 4] == pytest.approx(np.exp(-((0.4 / 0.25) ** 2) / 2))
    assert evidence.centre_prior((2, 7)).shape == (2, 7)


def test_words_are_found_by_their_characters():
    subject = heedmap.load("zoo/gpt-lists")
    text = "dog red ; cat blue ? cat"
    assert evidence.word_evidence(subject.tokenizer, text, [(10, 13), (14, 18)]).tolist() == [0, 0, 0, 1, 1, 0, 0]


# -- the interval ----------------------------------------------------------------------------------------------------


def test_the_interval_is_the_same_each_time_and_holds_the_mean():
    values = np.random.default_rng(3).random(80)
    mean, low, high = interval(values)
    assert interval(values) == (mean, low, high)
    assert interval(values, seed=1) != (mean, low, high)
    assert mean == pytest.approx(values.mean())
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(80), rel=0.15)


def test_equal_values_have_no_spread():
    assert interval(np.full(9, 0.25)) == (0.25, 0.25, 0.25)


def test_no_values_are_told():
    with pytest.raises(InputError, match="more samples"):
        interval(np.zeros(0))


# -- on the shipped models -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of a run of every method on the first 30 lists."""
    subject, material = heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"]
    reader, fast = first(subject, material, 30), contenders(("fast",), False)
    out = tmp_path_factory.mktemp("lists") / "run"
    run(EvaluationPlan(KnownEvidence(material), subject, reader, fast, 30, part=AT_ONCE), out)
    return out


@pytest.fixture(scope="module")
def lists(kept):
    return read_summary(kept)["facts"]


def test_every_method_is_measured(lists):
    rows = lists["segments"]["text"]["rows"]
    assert list(rows) == [*FAST, EVEN]
    assert lists["right"] == lists["answers"] == lists["segments"]["text"]["samples"] <= 30
    assert all(low <= mean <= high for row in rows.values() for mean, low, high in row.values())


def test_the_models_own_methods_beat_chance(lists):
    rows = lists["segments"]["text"]["rows"]
    for method in ("generic", "raw_attention", "rollout"):
        assert rows[method]["share"][1] > rows[EVEN]["share"][2]
        assert rows[method]["pointing"][1] > rows["random"]["pointing"][2]


def test_chance_is_the_share_of_the_tokens(lists):
    samples = [MATERIALS["gpt-lists"].make(index) for index in range(30)]
    shares = [2 / len(sample.inputs["text"].split()) for sample in samples]
    assert lists["segments"]["text"]["rows"][EVEN]["share"][0] == pytest.approx(np.mean(shares), abs=1e-3)


def test_a_batch_has_the_figures_of_its_samples_one_by_one(monkeypatch):
    subject, material = heedmap.load("zoo/bart-dates"), MATERIALS["bart-dates"]
    together = measure(subject, material, 2)
    monkeypatch.setattr("heedmap.zoo.evidence.AT_ONCE", 1)
    alone = measure(subject, material, 2)
    assert ABLATED in alone["segments"]["text"]["rows"]
    assert list(alone["refused"]) == ["token_tm", *AMONG_WORDS]
    for method in {*FAST, ABLATED} - {"random", "token_tm"}:
        rows = [found["segments"]["text"]["rows"][method]["share"] for found in (together, alone)]
        assert rows[0] == pytest.approx(rows[1], abs=2e-4)


def test_only_right_answers_are_explained(monkeypatch):
    subject, material = heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"]
    samples = [material.make(index) for index in range(4)]
    object.__setattr__(samples[1], "answer", "red")
    batch = right_ones(subject, material, samples)
    assert batch.samples == [samples[0], samples[2], samples[3]]
    assert batch.numbers == [0, 2, 3]
    assert len(batch.inputs["input_ids"]) == len(batch.asked) == 3


def test_a_sample_with_fewer_answers_repeats_its_last():
    subject, material = heedmap.load("zoo/bart-dates"), MATERIALS["bart-dates"]
    batch = right_ones(subject, material, [material.make(index) for index in range(2)])
    short = [batch.asked[0], batch.asked[1][:1]]
    assert len(replace(batch, asked=short).targets()) == 3
    assert isinstance(short[0][0], KnownAnswer)
    assert isinstance(short[0][0].evidence, Evidence)


def test_it_runs_into_a_folder_as_every_evaluation_does(kept, lists):
    methods = ("rollout", "random")
    found = measure(heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"], 30, methods=methods)
    rows = lists["segments"]["text"]["rows"]
    wanted = {**lists["segments"]["text"], "rows": {name: rows[name] for name in ("generic", *methods, EVEN)}}
    assert found == {"samples": 30, **lists, "segments": {"text": wanted}}
    summary = read_summary(kept)
    assert summary["skipped"]["count"] == 30 - lists["right"]
    rows = list(RunFolder(kept).rows(2))
    assert {row["method"] for row in rows} == {*FAST, EVEN}
    for entry in summary["measures"]:
        segment, figure = entry["key"].split("/")
        for row in entry["rows"]:
            assert row["value"] == pytest.approx(lists["segments"][segment]["rows"][row["method"]][figure][0], abs=1e-4)
    assert "leaderboard" in (kept / "report.html").read_text()


def test_what_a_model_never_says_rightly_is_told(monkeypatch):
    subject, material = heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"]
    never = replace(material, ask=lambda subject, sample, output, row: ())
    with pytest.raises(InputError, match="says nothing right of it"):
        measure(subject, never, 3)


def test_samples_without_known_evidence_are_told():
    subject, material = heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"]
    samples = [Sample("a", {"text": "dog red ? dog"}, RightAnswers({"red": 1.0}))]
    with pytest.raises(SampleError, match="true evidence is not known"):
        KnownEvidence(material).rows(subject, samples, contenders((), False), 0)


def test_a_method_that_does_not_fit_is_told(monkeypatch):
    subject, material = heedmap.load("zoo/gpt-lists"), MATERIALS["gpt-lists"]

    def refuse(subject, inputs, targets, contender, seed):
        if contender.method == "rollout":
            raise InputError("it does not fit")
        return explained_each(subject, inputs, targets, contender, seed)

    monkeypatch.setattr("heedmap.zoo.evidence.explained_each", refuse)
    found = measure(subject, material, 3)
    assert found["refused"]["rollout"] == "it does not fit"
    assert set(found["refused"]) == {"rollout", *AMONG_WORDS}
    assert list(found["segments"]["text"]["rows"]) == [*(name for name in FAST if name != "rollout"), EVEN]


# -- the command and the page ----------------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(app, ["zoo", "evidence", *map(str, arguments)])


def test_figures_are_printed_written_and_kept(tmp_path):
    out, page = tmp_path / "figures.json", tmp_path / "zoo.md"
    done = invoke("gpt-lists", "--samples", 1, "--out", out)
    assert done.exit_code == 0, done.output
    assert all(method in done.stdout for method in FAST)
    first = json.loads(out.read_text())["models"]
    assert list(first) == ["gpt-lists"]
    one = ("zoo/bart-dates", "--samples", 1, "--method", "rollout")
    assert invoke(*one, "--out", out, "--markdown", page).exit_code == 0
    both = json.loads(out.read_text())["models"]
    assert list(both) == ["bart-dates", "gpt-lists"]
    assert both["gpt-lists"] == first["gpt-lists"]
    assert "## zoo/gpt-lists" in page.read_text()
    assert page.read_text() == markdown(both)


def test_methods_are_added_to_those_of_the_file(tmp_path):
    out, whole = tmp_path / "figures.json", tmp_path / "whole.json"
    one, other = ("--method", "rollout", "--method", "token_tm"), ("--method", "attn_lrp")
    assert invoke("bart-dates", "--samples", 2, *other, "--out", out).exit_code == 0
    assert invoke("bart-dates", "--samples", 2, *one, "--out", out, "--add").exit_code == 0
    assert invoke("bart-dates", "--samples", 2, *one, *other, "--out", whole).exit_code == 0
    assert json.loads(out.read_text()) == json.loads(whole.read_text())
    assert json.loads(out.read_text())["models"]["bart-dates"]["refused"] == ["token_tm"]
    assert invoke("gpt-lists", "--samples", 2, *one, "--out", out, "--add").exit_code == 0
    assert list(json.loads(out.read_text())["models"]) == ["bart-dates", "gpt-lists"]


def test_figures_of_others_are_not_added(tmp_path):
    out = tmp_path / "figures.json"
    assert invoke("gpt-lists", "--samples", 2, "--method", "rollout", "--out", out).exit_code == 0
    other = invoke("gpt-lists", "--samples", 3, "--method", "attn_lrp", "--out", out, "--add")
    assert other.exit_code == 1
    assert "other samples (samples: 2, now 3)" in " ".join(other.output.split())
    changed = json.loads(out.read_text())
    changed["models"]["gpt-lists"]["segments"]["text"]["rows"]["generic"]["share"] = [0.5, 0.5, 0.5]
    out.write_text(json.dumps(changed))
    unlike = invoke("gpt-lists", "--samples", 2, "--method", "attn_lrp", "--out", out, "--add")
    assert unlike.exit_code == 1
    assert "measure all methods again" in " ".join(unlike.output.split())
    assert json.loads(out.read_text()) == changed
    assert invoke("gpt-lists", "--add").exit_code == 2


def test_methods_that_a_model_has_not_are_named_in_file_and_page(tmp_path):
    out, page = tmp_path / "figures.json", tmp_path / "zoo.md"
    done = invoke("swin-shapes", "--samples", 1, "--out", out, "--markdown", page)
    assert (
        "left out: partial_lrp: the relevance of attention matrices by relevance propagation is not defined"
        in done.stdout
    )
    figures = json.loads(out.read_text())["models"]["swin-shapes"]
    assert figures["refused"] == [
        "attention_gradcam",
        "partial_lrp",
        "transformer_attribution",
        "token_tm",
        "grad_eclip",
        "libra_generic",
        "attcat",
        "fullgrad_plus",
        *AMONG_WORDS,
    ]
    assert f"Not defined for it: {', '.join(f'`{method}`' for method in figures['refused'])}." in page.read_text()
    assert set(figures["segments"]["image"]["rows"]) == {*FAST, PRIOR, EVEN} - set(figures["refused"])


def test_a_mean_of_merged_rows_finds_what_it_rests_on():
    subject, material = heedmap.load("zoo/swin-shapes"), MATERIALS["swin-shapes"]
    reader, generic = first(subject, material, 6), contenders(("generic",), False)
    findings, _, _ = measured(EvaluationPlan(KnownEvidence(material), subject, reader, generic, 6, part=AT_ONCE))
    figures = findings.facts["segments"]["image"]["rows"]
    assert figures["generic"]["share"][0] > 2 * figures[EVEN]["share"][0]
    assert figures["generic"]["pointing"][0] > 0.6


def test_bad_input_is_told(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    assert "no model 'nothing'" in invoke("nothing").stderr
    assert "holds no figures" in invoke("gpt-lists", "--samples", 1, "--out", tmp_path / "other.json").stderr
    assert "cannot write" in invoke("gpt-lists", "--samples", 1, "--out", tmp_path / "other.json" / "a.json").stderr
    assert invoke("--samples", 0).exit_code == 2
    assert invoke("--markdown", tmp_path / "page.md").exit_code == 2


def test_the_page_says_where_the_papers_method_does_not_win():
    rows = {"generic": {"share": [0.5, 0.4, 0.6]}, "rollout": {"share": [0.3, 0.2, 0.4]}}
    assert "is best" in verdict("share", rows)
    rows["raw_attention"] = {"share": [0.55, 0.5, 0.6]}
    assert "does not win**, 0.500 against `raw_attention` 0.550 (intervals overlap)." in verdict("share", rows)
    rows["raw_attention"] = {"share": [0.8, 0.7, 0.9]}
    assert "intervals apart" in verdict("share", rows)
    rows["raw_attention"] = {"share": [0.5, 0.4, 0.6]}
    assert "as good: `raw_attention`" in verdict("share", rows)


def test_a_model_that_sees_is_measured_beside_the_prior(subjects):
    figures = measure(subjects["vit-shapes"], MATERIALS["vit-shapes"], 3)
    rows = figures["segments"]["image"]["rows"]
    assert list(rows) == [*FAST, PRIOR, EVEN]
    assert figures["answers"] > figures["right"] == 3
    assert set(rows[PRIOR]) == {"share", "pointing", "overlap"}
    assert rows[EVEN]["share"] == rows[EVEN]["overlap"]


@pytest.mark.parametrize(
    ("name", "count", "segments", "crossed"),
    [
        ("detr-shapes", 4, {"image"}, True),
        ("clip-shapes", 2, {"text", "image"}, False),
        ("visualbert-shapes", 20, {"text", "boxes"}, False),
        ("lxmert-shapes", 20, {"text", "boxes"}, True),
    ],
)
def test_what_is_measured_of_each_model_that_sees(name, count, segments, crossed, subjects, lenient):
    figures = measure(subjects[name], MATERIALS[name], count)
    assert set(figures["segments"]) == segments
    assert 1 <= figures["right"] <= count
    for segment, entry in figures["segments"].items():
        assert (ABLATED in entry["rows"]) == crossed
        assert (PRIOR in entry["rows"]) == (segment == "image")
        assert all(0 <= values[0] <= 1 for row in entry["rows"].values() for values in row.values())
    assert name in markdown({name: figures})


def test_the_documents_page_is_that_of_its_figures():
    assert (DOCS / "zoo.md").read_text() == markdown(read_figures(DOCS / "zoo.json"))
