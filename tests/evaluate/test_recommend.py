"""Methods ranked by hand-made figures, and on the shipped models."""

import copy
import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console

import heedmap
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import AttentionError, InputError, OptionError, TargetError, UnknownNameError
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.experiments.choosing import _agreements, _trial, recommend
from heedmap.evaluate.masking import filled
from heedmap.evaluate.ranking import Recommendation, recommendation
from heedmap.evaluate.trial import FixedPrediction, Mapped
from heedmap.methods import METHODS, Method
from heedmap.methods.input_features import Leaves
from heedmap.targets import class_logits
from heedmap.zoo.samples import MATERIALS


def given(name, count):
    return [dict(MATERIALS[name].make(index).inputs) for index in range(count)]


def figures(levels, samples=20, noise=0.0, **fixed):
    """SRG and SaCo by a level for each method: the lower, the better in both."""
    drawn = np.random.default_rng(0)
    return {
        name: {
            "srg": -level - noise * drawn.random(samples),
            "saco": -level + noise * drawn.random(samples),
            "randomisation": np.full(samples, fixed.get(name, 0.1)),
        }
        for name, level in levels.items()
    }


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_best_in_every_test_is_first():
    found = recommendation("m", figures({"b": 0.5, "a": 0.1, "random": 0.9}), {"a": 4.0, "b": 2.0, "random": 1.0})
    assert [(row.method, row.rank, row.low, row.high) for row in found.rows] == [
        ("a", 1, 1, 1),
        ("b", 2, 2, 2),
        ("random", 3, 3, 3),
    ]
    assert [row.verdict for row in found.rows] == ["best", "worse", "chance"]
    assert found.best == "a"
    assert found.sentence == "On m, `a` ranks best over 20 inputs (mean rank 1.0 of 3)."


def test_what_is_as_good_and_cheaper_is_told():
    table = figures({"a": 0.1, "b": 0.13, "random": 0.9}, noise=0.3)
    found = recommendation("m", table, {"a": 10.0, "b": 10.0, "random": 1.0})
    best, second = found.rows[:2]
    assert best.rank < second.rank
    assert second.verdict == "as good"
    costs = {best.method: 10.0, second.method: 2.0, "random": 1.0}
    cheaper = recommendation("m", table, costs)
    assert f"`{second.method}` is statistically as good and 5.0 × cheaper" in cheaper.sentence
    assert f"`{second.method}` is statistically as good." in found.sentence


def test_a_map_that_ignores_the_model_is_out_however_well_it_ranks():
    table = figures({"fixed": 0.0, "a": 0.1, "random": 0.9}, fixed=0.95, random=1.0)
    found = recommendation("m", table, dict.fromkeys(table, 1.0))
    assert [row.method for row in found.rows] == ["a", "random", "fixed"]
    assert found.rows[-1].verdict == "unchanged"
    assert found.rows[-1].rank == 1
    assert found.best == "a"
    assert "don't trust `fixed`: its map does not change when the weights are random" in found.sentence
    none = recommendation("m", figures({"fixed": 0.0, "random": 0.9}, fixed=0.95), {"fixed": 1.0, "random": 1.0})
    assert none.best is None
    assert none.sentence.startswith("On m, no map of a method that was tried can be trusted; don't trust `fixed`")


def test_the_best_map_is_doubted_where_random_weights_give_much_the_same():
    table = figures({"a": 0.1, "b": 0.5, "random": 0.9}, a=0.7, b=0.8)
    found = recommendation("m", table, dict.fromkeys(table, 1.0))
    assert found.best == "a"
    assert "but `a` gives much the same map when the weights are random (rank correlation 0.70)" in found.sentence
    assert "random weights" not in recommendation("m", figures({"a": 0.1}, a=0.4), {"a": 1.0}).sentence


def test_methods_that_no_test_tells_apart_and_that_disagree_are_told():
    table = figures({"a": 0.1, "b": 0.12, "c": 0.11, "random": 0.9}, noise=0.4)
    table["worse"] = figures({"worse": 0.8})["worse"]
    alike = {("a", "b"): 0.1, ("a", "c"): 0.4, ("b", "c"): 0.7, ("a", "worse"): -1.0, ("a", "random"): 0.0}
    agreements = {frozenset(pair): value for pair, value in alike.items()}
    found = recommendation("m", table, dict.fromkeys(table, 1.0), agreements=agreements)
    verdicts = {row.method: row.verdict for row in found.rows}
    assert {verdicts[name] for name in "abc"} == {"best", "as good"}
    assert verdicts["worse"] == "worse"
    assert found.agreement == pytest.approx((0.1 + 0.4 + 0.7) / 3)
    order = [row.method for row in found.rows if row.method in "ab"]
    assert (
        f"disagree (mean rank correlation of their maps 0.40, least between `{order[0]}` and `{order[1]}`)"
        in found.sentence
    )
    same = recommendation("m", table, dict.fromkeys(table, 1.0), agreements=dict.fromkeys(agreements, 0.9))
    assert same.agreement == pytest.approx(0.9)
    assert "disagree" not in same.sentence
    assert recommendation("m", table, dict.fromkeys(table, 1.0)).agreement is None


def test_what_is_not_told_from_chance_is_said():
    table = figures({"a": 0.1, "random": 0.1}, noise=1.0)
    assert "not told from chance" in recommendation("m", table, {"a": 1.0, "random": 1.0}).sentence
    few = recommendation("m", figures({"a": 0.1, "random": 0.9}, samples=2), {"a": 1.0, "random": 1.0})
    assert "so few inputs" in few.sentence
    assert "not told from chance" not in few.sentence


def test_a_correlation_near_zero_does_not_rank():
    table = figures({"a": 0.1, "b": 0.2}, a=0.6, b=0.0)
    assert recommendation("m", table, {"a": 1.0, "b": 1.0}).rows[0].rank == 1
    only = {name: {"randomisation": own["randomisation"], "sensitivity": -own["srg"]} for name, own in table.items()}
    assert "cannot be masked" in recommendation("m", only, {"a": 1.0, "b": 1.0}).sentence


def test_the_interval_is_that_of_the_mean_rank():
    found = recommendation("m", figures({"a": 0.1, "b": 0.12}, samples=60, noise=0.2), {"a": 1.0, "b": 1.0}, seed=3)
    again = recommendation("m", figures({"a": 0.1, "b": 0.12}, samples=60, noise=0.2), {"a": 1.0, "b": 1.0}, seed=3)
    assert found == again
    assert all(row.low < row.rank < row.high for row in found.rows)
    assert sum(row.rank for row in found.rows) == pytest.approx(3)


def test_unequal_figures_are_told():
    table = figures({"a": 0.1, "b": 0.2})
    table["b"].pop("saco")
    with pytest.raises(InputError, match="unequal tests"):
        recommendation("m", table, {"a": 1.0, "b": 1.0})
    with pytest.raises(InputError, match="unequal tests"):
        recommendation("m", {}, {})


def test_it_is_shown():
    found = recommendation("m", figures({"b": 0.5, "a": 0.1}), {"a": 4.0, "b": 2.0})
    assert json.loads(json.dumps(found.to_dict()))["best"] == "a"
    lines = found.to_markdown().splitlines()
    assert lines[0] == found.sentence
    assert lines[2].startswith("| method | mean rank | interval | SRG ↑ | SaCo ↑ | random weights ↓ | cost |")
    assert lines[4].startswith("| a | 1.00 | 1.00–1.00 | -0.100 | -0.100 | 0.100 | 4.0 × | best |")
    assert found.sentence in " ".join(shown(found, width=160).split())
    assert "A: SRG (higher is better)" in shown(found, width=160)


def test_names_and_figures_are_whole_in_80_columns():
    names = ["transformer_attribution", "integrated_gradients", "generic", *(f"method_{i}" for i in range(9)), "random"]
    table = figures({name: number / 13 - 0.5 for number, name in enumerate(names)}, integrated_gradients=0.95)
    for own in table.values():
        own |= {"joint": own["saco"], "sensitivity": -own["srg"]}
    found = recommendation("m", table, dict.fromkeys(names, 123.4))
    lines = [line.rstrip() for line in shown(found, width=80).splitlines()]
    assert {"best", "worse", "unchanged", "chance"} == {row.verdict for row in found.rows}
    for row in found.rows:
        (line,) = [one for one in lines if one.startswith(row.method[:20]) and one.endswith(row.verdict)]
        assert line.split()[1:] == [
            f"{row.rank:.1f}",
            f"{row.low:.1f}–{row.high:.1f}",
            *(f"{row.tests[test]:.2f}" for test in ("srg", "joint", "saco", "sensitivity", "randomisation")),
            "123",
            row.verdict,
        ]


def shown(found: Recommendation, width: int) -> str:
    stream = StringIO()
    Console(file=stream, width=width).print(found.table())
    return stream.getvalue()


# -- on models ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(monkeypatch):
    """A method that knows the picture alone, and one that refuses every model."""

    def bright(runs, options):
        return [{index: feature.x.abs() for index, feature in Leaves(runs).features.items()} for _ in runs]

    def never(runs, options):
        raise AttentionError("not this one")

    for name, attribute in (("bright", bright), ("never", never)):
        method = Method(name, name, "none", {}, {}, attribute=attribute)
        monkeypatch.setitem(METHODS, name, method)


def test_a_good_method_is_above_chance_and_a_fixed_map_is_exposed(odd):
    subject, done = heedmap.load("zoo/vit-shapes"), []
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    found = recommend(subject, given("vit-shapes", 2), methods=["bright", "never", "generic"], progress=done.append)
    order = [row.method for row in found.rows]
    assert order == ["generic", "random", "bright"]
    assert found.best == "generic"
    assert found.refused == {"never": "not this one"}
    assert found.agreement is None, "one method alone has none to agree with"
    by = {row.method: row for row in found.rows}
    assert by["bright"].verdict == "unchanged"
    assert by["bright"].tests["randomisation"] == pytest.approx(1)
    assert by["generic"].tests["srg"] > by["random"].tests["srg"]
    assert all(row.cost > 0 for row in found.rows)
    assert "`never` cannot be used: not this one" in found.to_markdown()
    assert done == sorted(done)
    assert done[-1] == 1
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_a_model_whose_attention_is_not_learned_has_no_rollout_to_trust():
    """Without q and k each token looks at all before it alike, whatever the other weights are."""
    subject = copy.deepcopy(heedmap.load("zoo/gpt-lists"))
    with torch.no_grad():
        for layer in subject.model.model.layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.k_proj.weight.zero_()
    inputs = given("gpt-lists", 2)
    alone = recommend(subject, inputs, methods=["rollout"])
    assert alone.best is None
    assert [row.verdict for row in alone.rows] == ["chance", "unchanged"]
    assert "no map of a method that was tried can be trusted; " in alone.sentence
    assert "don't trust `rollout`: its map does not change when the weights are random" in alone.sentence
    learned = recommend(heedmap.load("zoo/gpt-lists"), inputs, methods=["rollout"])
    assert learned.best == "rollout"
    beside = recommend(subject, inputs, methods=["rollout", "libra_input_x_gradient"])
    assert beside.best == "libra_input_x_gradient"
    assert "don't trust `rollout`" in beside.sentence


def test_what_is_taken_away_may_be_replaced_by_the_other_inputs_words():
    subject, inputs = heedmap.load("zoo/gpt-lists"), given("gpt-lists", 3)
    found = recommend(subject, inputs, methods=["generic"], remove="replace")
    donors = [Sample(f"{number}.0", one, RightAnswers({})) for number, one in enumerate(inputs)]
    gains = []
    for number, one in enumerate(inputs):
        tensors, key = subject.inputs(**one), f"{number}.0"
        explanation = heedmap.explain(subject, tensors)
        ids, other = tensors["input_ids"], filled(subject, tensors, "text", [key], donors, 0)[0]
        assert set(other.tolist()) <= {
            int(i) for d in donors if d.key != key for i in subject.inputs(**d.inputs)["input_ids"][0]
        }
        word = int(subject.model(**tensors).logits[0, -1].argmax())
        free = range(ids.shape[1] - 1)  # the last one is read from
        order = sorted(free, key=lambda place: -float(explanation["text"][0, place]))

        def left(gone, tensors=tensors, other=other, word=word):
            changed = tensors["input_ids"].clone()
            for place in gone:
                changed[0, place] = other[place]
            with torch.no_grad():
                return float(subject.model(**{**tensors, "input_ids": changed}).logits[0, -1].softmax(-1)[word])

        counts = [round(step * len(order) / 10) for step in range(11)]
        first, last = [left(order[:count]) for count in counts], [left(order[::-1][:count]) for count in counts]
        gains.append(sum((last[k] + last[k + 1] - first[k] - first[k + 1]) / 2 for k in range(10)) / 10)
    by = {row.method: row.tests for row in found.rows}
    assert by["generic"]["srg"] == pytest.approx(np.mean(gains), abs=1e-3)
    assert recommend(subject, inputs, methods=["generic"]).rows[0].tests["srg"] != pytest.approx(
        np.mean(gains), abs=1e-3
    )
    with pytest.raises(InputError, match=r"no text of another sample than 0\.0"):
        recommend(subject, inputs[:1], methods=["generic"], remove="replace")
    with pytest.raises(OptionError, match="remove is 'drop'; expected 'mask' or 'replace'"):
        recommend(subject, inputs, methods=["generic"], remove="drop")


WITH_MIXERS = {"deformable-shapes", "convbert-lists", "bamba-lists", "mamba-lists"}
"""Models in which more than attention mixes tokens (sampled points, convolutions, recurrences): that has no probabilities."""


OF_SEVERAL_PARTS = {"clip-shapes", "idefics-shapes", "lxmert-shapes", "visualbert-shapes"}


@pytest.mark.parametrize("name", sorted(set(MATERIALS) - {"vit-shapes"}))
def test_every_shipped_model_has_its_methods(name):
    method = "generic" if name in WITH_MIXERS else "raw_attention"
    found = recommend(heedmap.load(f"zoo/{name}"), given(name, 1), methods=[method])
    assert found.best == method
    assert {row.method for row in found.rows} == {method, "random"}
    assert set(found.rows[0].tests) - {"joint"} == {"srg", "saco", "sensitivity", "randomisation"}
    assert ("joint" in found.rows[0].tests) == (name in OF_SEVERAL_PARTS)
    assert found.samples == 1


def test_the_joint_figure_is_that_of_a_loop_by_hand():
    subject, (inputs,) = heedmap.load("zoo/lxmert-shapes"), given("lxmert-shapes", 1)
    found = recommend(subject, [inputs], methods=["generic"])
    tensors = subject.inputs(**inputs)
    explanation = heedmap.explain(subject, tensors)
    special, mask = set(subject.tokenizer.all_special_ids), subject.tokenizer.mask_token_id
    ids = tensors["input_ids"][0].tolist()
    both = [("text", n, float(r)) for n, r in enumerate(explanation["text"][0]) if ids[n] not in special]
    both += [("boxes", n, float(r)) for n, r in enumerate(explanation["boxes"][0])]
    ranked = sorted(both, key=lambda token: -token[2])
    label = int(class_logits(subject.model(**tensors), 2).argmax())

    def left(gone):
        changed = {name: value.clone() for name, value in tensors.items()}
        for segment, number, _ in gone:
            if segment == "text":
                changed["input_ids"][0, number] = mask
            else:
                changed["visual_feats"][0, number] = 0
        with torch.no_grad():
            return float(class_logits(subject.model(**changed), 2)[0].double().softmax(-1)[label])

    counts = [round(step * len(ranked) / 10) for step in range(11)]
    first, last = [left(ranked[:count]) for count in counts], [left(ranked[::-1][:count]) for count in counts]
    gain = sum((last[k] + last[k + 1] - first[k] - first[k + 1]) / 2 for k in range(10)) / 10
    by = {row.method: row.tests for row in found.rows}
    assert by["generic"]["joint"] == pytest.approx(gain, abs=1e-4)
    assert gain != pytest.approx(by["generic"]["srg"], abs=1e-3)


def test_methods_come_with_options_and_the_seed_decides():
    subject, inputs = heedmap.load("zoo/gpt-lists"), given("gpt-lists", 2)
    options = MethodSpec("generic, last", "generic", {"start_layer": -1})
    found = [recommend(subject, inputs, methods=["rollout", options], seed=seed) for seed in (0, 0, 1)]
    plain = [{row.method: row.tests for row in one.rows} for one in found]
    assert set(plain[0]) == {"rollout", "generic, last", "random"}
    assert plain[0] == plain[1]
    assert plain[0]["random"] != plain[2]["random"]


def test_tokens_that_cannot_be_masked_leave_the_other_tests(monkeypatch):
    plain = FixedPrediction.of
    monkeypatch.setattr(FixedPrediction, "of", lambda *given: replace(plain(*given), free={}))
    found = recommend(heedmap.load("zoo/gpt-lists"), given("gpt-lists", 1), methods=["generic"])
    assert [set(row.tests) for row in found.rows] == [{"sensitivity", "randomisation"}] * 2
    assert "cannot be masked" in found.sentence


def test_another_target_may_be_explained():
    subject, inputs = heedmap.load("zoo/vit-shapes"), given("vit-shapes", 1)
    found = [recommend(subject, inputs, methods=["raw_attention"], target=target) for target in (None, 3)]
    said, other = ({row.method: row.tests["srg"] for row in one.rows} for one in found)
    assert said["raw_attention"] > 0.7 > 0.5 > other["raw_attention"]  # it does not say class 3
    with pytest.raises(TargetError, match="out of range"):
        recommend(subject, inputs, methods=["raw_attention"], target=999)


def test_no_more_inputs_than_the_budget_are_tried():
    found = recommend(heedmap.load("zoo/gpt-lists"), given("gpt-lists", 10), methods=["rollout"])
    assert found.samples == 8


def test_bad_calls_are_told(odd):
    subject = heedmap.load("zoo/gpt-lists")
    inputs = given("gpt-lists", 1)
    with pytest.raises(OptionError, match="quick, thorough"):
        recommend(subject, inputs, budget="huge")
    with pytest.raises(InputError, match="no inputs"):
        recommend(subject, [])
    with pytest.raises(UnknownNameError, match="known methods"):
        recommend(subject, inputs, methods=["magic"])
    with pytest.raises(OptionError, match="one name"):
        recommend(subject, inputs, methods=["generic", "generic"])
    with pytest.raises(InputError, match="no method fits zoo/gpt-lists here: not this one"):
        recommend(subject, inputs, methods=["never"])
    with pytest.raises(InputError, match="only chance"):
        recommend(subject, inputs, methods=["random"])
    with pytest.raises(InputError, match="no text was given"):
        recommend(subject, [{"text": None}], methods=["generic"])
    for wrong in ("a text", [7]):
        with pytest.raises(InputError, match=r"the inputs are a (str|int); expected a dict"):
            recommend(subject, wrong, methods=["generic"])
    with pytest.raises(InputError, match="the inputs are a str; expected a dict"):
        heedmap.compare(subject, "a text", ["generic"])


def test_one_input_and_one_method_need_no_list():
    subject, inputs = heedmap.load("zoo/gpt-lists"), given("gpt-lists", 1)
    one, listed = (recommend(subject, *asked) for asked in ((inputs[0],), (inputs,)))
    assert [row.method for row in one.rows] == [row.method for row in listed.rows]
    alone, among = (recommend(subject, inputs, methods=methods) for methods in ("rollout", ["rollout"]))
    assert [row.tests for row in alone.rows] == [row.tests for row in among.rows]
    assert list(heedmap.compare(subject, inputs[0], "rollout").explanations) == ["rollout"]


def test_agreement_is_the_rank_correlation_of_the_maps():
    from scipy.stats import spearmanr

    subject, inputs = heedmap.load("zoo/gpt-lists"), given("gpt-lists", 2)
    names = ("generic", "rollout")
    specs = [MethodSpec(name, name) for name in names]
    trials = [_trial(subject, one, number, None, 0) for number, one in enumerate(inputs)]
    plain = [{spec.name: trial.maps(spec) for spec in specs} for trial in trials]
    maps = [[subject.explain(**one, method=name)["text"][0].double().numpy() for name in names] for one in inputs]
    expected = np.mean([spearmanr(*pair).statistic for pair in maps])
    mapped = [Mapped(trial, specs, maps) for trial, maps in zip(trials, plain, strict=True)]
    assert _agreements(mapped) == {frozenset(names): pytest.approx(expected, abs=1e-6)}
    found = recommend(subject, inputs[:1], methods=["generic", MethodSpec("again", "generic")])
    assert found.agreement == pytest.approx(1)
    assert found.to_dict()["agreement"] == found.agreement
