"""Sanity of maps on the shipped models: what does not depend on the model is exposed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import heedmap
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import inputs_of
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.experiments.sanity import MORE, PARTS, Sanity
from heedmap.evaluate.faithfulness import saco
from heedmap.evaluate.masking import donors_of, filled, without
from heedmap.evaluate.trial import FixedPrediction, noisy
from heedmap.methods import METHODS, Method
from heedmap.methods.input_features import Leaves
from heedmap.zoo.dataset import plain
from heedmap.zoo.samples import MATERIALS

GENERIC, RAW, CHANCE = (MethodSpec(name, name) for name in ("generic", "raw_attention", "random"))


def samples(name, count=2):
    return [Sample(str(i), MATERIALS[name].make(i).inputs, RightAnswers({"yes": 1.0})) for i in range(count)]


def rows(name, contenders=(GENERIC, CHANCE), count=2, **settings):
    found, skipped = Sanity(**settings).rows(heedmap.load(f"zoo/{name}"), samples(name, count), contenders, 7)
    assert skipped == {}
    return found


@pytest.fixture
def brightness(monkeypatch):
    """A method that knows the picture alone."""

    def attribute(runs, options):
        return [{index: feature.x.abs() for index, feature in Leaves(runs).features.items()} for _ in runs]

    method = Method("brightness", "how bright", "none", {}, {}, attribute=attribute)
    monkeypatch.setitem(METHODS, "brightness", method)
    return MethodSpec("brightness", "brightness")


@pytest.mark.parametrize("name", sorted(MATERIALS))
def test_every_shipped_model_is_measured(name):
    evaluation = Sanity((*PARTS, *MORE), steps=1, draws=1, groups=4)
    subject = heedmap.load(f"zoo/{name}")
    evaluation.check(subject)
    before = {n: p.detach().clone() for n, p in subject.model.named_parameters()}
    found, _ = evaluation.rows(subject, samples(name, 1), [GENERIC, CHANCE], 7)
    assert all(torch.equal(p, before[n]) for n, p in subject.model.named_parameters())
    segments = {row["segment"] for row in found}
    assert segments == {"text", "image", "boxes"} & set(heedmap.explain(subject, first_of(subject, name)).segments)
    assert len(found) == 2 * len(segments)
    for row in found:
        assert len(row["correlation"]) == len(row["correlation_abs"]) == len(json.loads(row["blocks"])) == 1
        assert -1 <= row["saco"] <= 1
        assert 0 <= row["sensitivity"] <= row["sensitivity_max"]
        assert row["tokens"] > 0
        number = json.loads(row["others"]).index(row["method"])
        assert row["agreement"][number] == pytest.approx(1)
        assert row["overlap"][number] == 1
        if row["method"] == "random":
            assert row["random"] == pytest.approx(1)
            assert row["sensitivity"] == 0
        else:
            assert row["random"] < 0.99
            assert row["sensitivity"] > 0
    facts = evaluation.findings(found).facts
    assert all("random" in own for own in facts["unchanged"].values())


def first_of(subject, name):
    return inputs_of(subject, [MATERIALS[name].make(0)])


def test_a_map_of_the_input_alone_is_exposed(brightness):
    found = rows("vit-shapes", [brightness, RAW], parts=("randomisation",), steps=3)
    by = {
        name: np.array([row["correlation"] for row in found if row["method"] == name])
        for name in ("brightness", "raw_attention")
    }
    assert by["brightness"] == pytest.approx(np.ones((2, 3)))
    assert (by["raw_attention"][:, -1] < 0.6).all()
    facts = Sanity(parts=("randomisation",), steps=3).findings(found).facts
    assert facts["unchanged"] == {"image": ["brightness"]}
    assert len(facts["blocks"]) == 3


def test_a_good_map_says_more_of_the_model_than_chance():
    found = rows("clip-shapes", count=4, parts=("saco",))
    mean = {
        m: np.mean([r["saco"] for r in found if r["method"] == m and r["segment"] == "image"])
        for m in ("generic", "random")
    }
    assert mean["generic"] > 0.6 > abs(mean["random"])


@pytest.mark.parametrize("name", ["vit-shapes", "visualbert-shapes"])
def test_what_saco_takes_away_may_be_replaced(name):
    subject, some = heedmap.load(f"zoo/{name}"), samples(name, 2)
    donors = donors_of(plain(subject), 0, 4)
    evaluation = Sanity(("saco",), groups=8, remove="replace", donors=donors)
    found, _ = evaluation.rows(subject, some, [GENERIC], 7)
    hidden, _ = Sanity(("saco",), groups=8).rows(subject, some, [GENERIC], 7)
    assert [row["saco"] for row in found] != [row["saco"] for row in hidden]
    inputs, keys = inputs_of(subject, some), [sample.key for sample in some]
    trial = FixedPrediction.of(subject, inputs, keys, 7)
    for segment, free in trial.free.items():
        instead = filled(subject, inputs, segment, keys, donors, 7)

        def drop(kept, segment=segment, instead=instead):
            of_segment = trial.segments[segment]
            left = []
            for tokens in kept:
                keep = torch.from_numpy(tokens)
                if segment == "image":
                    keep = keep.reshape(-1, *of_segment.grid).repeat_interleave(8, 1).repeat_interleave(8, 2)
                changed = without(subject, inputs, of_segment, keep, "replace", instead)
                left.append(trial.answer.probability(changed, torch.arange(len(some))).double().numpy())
            return np.stack(left)

        wanted = saco(trial.maps(GENERIC)[segment], free, drop, 8, 7)
        own = [row["saco"] for row in found if row["segment"] == segment]
        assert own == pytest.approx(wanted.tolist(), abs=1e-4)
    assert evaluation.settings["donors"] == [donor.key for donor in donors]
    with pytest.raises(OptionError, match="remove is 'drop'; expected 'mask' or 'replace'"):
        Sanity(remove="drop")


@pytest.mark.parametrize("name", ["lxmert-shapes", "bart-dates", "clip-shapes"])
def test_a_batch_is_its_samples_one_by_one(name):
    evaluation = Sanity((*PARTS, *MORE), steps=2, draws=2, groups=3)
    subject, some = heedmap.load(f"zoo/{name}"), samples(name, 2)
    together_, _ = evaluation.rows(subject, some, [GENERIC], 7)
    alone = [row for one in some for row in evaluation.rows(subject, [one], [GENERIC], 7)[0]]
    one_by_one = {(row["sample"], row["segment"]): row for row in alone}
    for row in together_:
        other = one_by_one[row["sample"], row["segment"]]
        assert row["tokens"] == other["tokens"]
        for column in ("saco", "sensitivity", "sensitivity_max"):
            assert row[column] == pytest.approx(other[column], rel=2e-3, abs=2e-4), column
        assert row["correlation"] == pytest.approx(other["correlation"], abs=0.02)


def test_parts_can_be_switched_off():
    found = rows("gpt-lists", parts=("agreement",))
    assert all(np.isnan([row["saco"], row["random"], row["sensitivity"]]).all() for row in found)
    assert all(row["correlation"] == [] for row in found)
    findings = Sanity(parts=("agreement",)).findings(found)
    assert list(findings.measures) == list(findings.curves) == []
    assert findings.facts["agreement"]["text"]["methods"] == ["generic", "random"]
    assert Sanity(parts=("saco",)).findings(rows("gpt-lists", parts=("saco",))).facts["agreement"] == {}


def test_findings_are_the_same_in_any_order():
    evaluation = Sanity(("randomisation", "saco", "agreement"), steps=2, draws=1)
    found = rows("lxmert-shapes", count=3, parts=evaluation.parts, steps=2, draws=1)
    one, other = evaluation.findings(iter(found)), evaluation.findings(found[::-1])
    every = np.arange(3)
    assert [m.key for m in one.measures][:3] == ["boxes/saco", "text/saco", "boxes/random"]
    for a, b in zip(one.measures, other.measures, strict=True):
        assert (a.key, a.samples) == (b.key, 3)
        assert {n: s(every) for n, s in a.statistics.items()} == {n: s(every) for n, s in b.statistics.items()}
    matrix = one.facts["agreement"]["text"]
    assert np.array(matrix["spearman"]) == pytest.approx(np.array(matrix["spearman"]).T)
    assert matrix == other.facts["agreement"]["text"]
    (curve, _) = one.curves
    assert curve.values["generic"].shape == (3, len(curve.x)) == (3, 3)
    assert (curve.values["generic"][:, 0] == 1).all()
    json.dumps(one.facts)


def test_noise_is_small_and_leaves_no_hook():
    subject = heedmap.load("zoo/lxmert-shapes")
    inputs = first_of(subject, "lxmert-shapes")
    with noisy(subject, inputs, 0.1, ["0"], 3) as given:
        noise = given["visual_feats"] - inputs["visual_feats"]
        assert 0.09 < float(noise.abs().max() / inputs["visual_feats"].std()) <= 0.1001
        assert torch.equal(given["visual_pos"], inputs["visual_pos"])
        with torch.no_grad():
            changed = subject.model(**inputs).question_answering_score
    with torch.no_grad():
        plain = subject.model(**inputs).question_answering_score
    assert 0 < (changed - plain).norm() < 0.5 * plain.norm()  # the words' noise
    assert not any(m._forward_hooks for m in subject.model.modules())
    with pytest.raises(KeyError), noisy(subject, inputs, 0.1, ["0"], 3):
        raise KeyError
    assert not any(m._forward_hooks for m in subject.model.modules())
    with pytest.raises(InputError, match="no embedding"), noisy(subject, inputs, 0.1, ["0"], 3):
        pass


def test_noise_knows_padding_by_the_models_own_name_for_it():
    subject = heedmap.load("zoo/lxmert-shapes")
    inputs = subject.inputs(**heedmap.zoo_sample("lxmert-shapes").inputs)
    inputs["visual_attention_mask"] = torch.ones(inputs["visual_feats"].shape[:2], dtype=torch.long)
    inputs["visual_attention_mask"][:, 4:] = 0
    inputs["visual_feats"][:, 4:] = 100.0
    renamed = replace(subject, renamed={"visual_attention_mask": "real_boxes"})
    called = {name.replace("visual_attention_mask", "real_boxes"): value for name, value in inputs.items()}
    noise = []
    for model, asked in ((subject, inputs), (renamed, called)):
        with pytest.raises(InputError, match="no embedding"), noisy(model, asked, 0.1, ["0"], 3) as given:
            noise.append(given["visual_feats"] - asked["visual_feats"])
    assert torch.equal(*noise)


def test_settings_are_checked():
    with pytest.raises(OptionError, match="smooth_randomisation, complexity, saco"):
        Sanity(parts=("magic",))
    for wrong in ({"steps": 0}, {"draws": 0}, {"groups": 1}, {"radius": 0.0}, {"share": 1.5}, {"parts": ()}):
        with pytest.raises(OptionError):
            Sanity(**wrong)
    with pytest.raises(InputError, match=r"heedmap\.load"):
        Sanity().check(torch.nn.Linear(1, 1))
    assert json.loads(json.dumps(Sanity().settings))["parts"] == list(PARTS)
