"""``method="auto"``: the best supported method that a model can have, told in the explanation and all that shows it."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

import heedmap
from heedmap.cli.main import app
from heedmap.errors import AttentionError, GradientError, OptionError
from heedmap.methods import supported
from heedmap.methods.supported import Supported
from heedmap.models.forced import joined_parts

TEXT = "dog red ; cat blue ? cat"
CELL = "one stream: text"


@pytest.fixture
def ordered(monkeypatch):
    """Makes the order of methods, whatever the table says."""

    def order(*names: str) -> None:
        choices = [Supported(name, (0.5, 0.25, 0.75), 2, CELL) for name in names]
        monkeypatch.setattr("heedmap.engine.engine.ranking", lambda kind, segments: choices)

    return order


@pytest.mark.parametrize(
    "name", ["gpt-lists", "bart-dates", "vit-shapes", "lxmert-shapes", "clip-shapes", "mamba-lists"]
)
def test_the_first_that_the_model_can_have_is_taken(name):
    subject, sample = heedmap.load(f"zoo/{name}"), heedmap.zoo_sample(name)
    found = subject.explain(**sample.inputs, method="auto")
    assert found.choice == found.flow.notes[0]
    assert found.choice.startswith(f"method 'auto' took {found.method!r}, because it is before ")
    plain = subject.explain(**sample.inputs, method=found.method)
    assert plain.choice == ""
    assert found.options == plain.options
    assert all(torch.equal(found[segment], plain[segment]) for segment in plain.segments)


def test_what_the_model_cannot_have_is_passed_over_and_told(ordered):
    ordered("token_tm", "generic")
    bart = heedmap.load("zoo/bart-dates").explain(text="the 3rd of may 1987", method="auto")
    assert bart.method == "generic"
    assert bart.choice.endswith("; 'token_tm', which stands before it, cannot be had here")
    assert "50 % (25–75 %) of the other methods in 2 tables of one stream: text (docs/which-method.md)" in bart.choice


def test_whole_maps_are_of_methods_that_have_them(ordered):
    ordered("attn_lrp", "rollout", "generic")
    subject = heedmap.load("zoo/gpt-lists")
    assert subject.explain(text=TEXT, method="auto").method == "attn_lrp"
    found = subject.explain(text=TEXT, method="auto", full=True)
    assert found.method == "rollout"
    assert found.maps


def test_targets_share_the_choice_and_samples_too(ordered):
    ordered("libra_generic", "generic")
    subject = heedmap.load("zoo/gpt-lists")
    found = subject.explain(text=[TEXT, "sun red ; dog blue ? dog"], method="auto", target=["red", "blue"])
    assert [one.method for one in found] == ["libra_generic"] * 2
    assert all("took 'libra_generic'" in one.choice for one in found)
    with pytest.raises(OptionError, match="chooses the method, so it takes no option"):
        subject.explain(text=TEXT, method="auto", normalize=False)
    with pytest.raises(OptionError, match="chooses the method, so it takes no option"):
        subject.explain_answer(text=TEXT, method="auto", normalize=False)
    with pytest.raises(OptionError, match="chooses the method, so it takes no option"):
        heedmap.plan(subject, subject.inputs(text=TEXT), method="auto", normalize=False)


def test_answers_are_of_one_method_and_each_token_has_its_own_map(ordered):
    subject = heedmap.load("zoo/gpt-lists")
    for name in ("heedmap", "attn_lrp", "generic"):
        ordered(name, "generic")
        found = subject.explain_answer(text=TEXT, answer="blue ? dog red", method="auto")
        assert found.method == name
        assert f"took {name!r}" in found.choice
        plain = subject.explain_answer(text=TEXT, answer="blue ? dog red", method=name)
        assert torch.equal(found["text"], plain["text"])
    ordered("token_tm", "generic")
    bart = heedmap.load("zoo/bart-dates").explain_answer(text="the 3rd of may 1987", method="auto")
    assert bart.method == "generic"
    assert "'token_tm', which stands before it, cannot be had here" in bart.choice


def test_what_all_are_refused_for_is_raised():
    class Saturated(heedmap.targets.Target):
        def choose(self, output, context):
            return heedmap.targets.Chosen((output.logits[:, -1, 0] * 0), ("nothing",))

    with pytest.raises(GradientError, match="zero for a sample"):
        heedmap.load("zoo/gpt-lists").explain(text=TEXT, method="auto", target=Saturated())


def test_parts_of_an_answer_by_other_methods_are_no_answer():
    class Part:
        def __init__(self, method):
            self.first = type("First", (), {"method": method})()

    with pytest.raises(AttentionError, match=r"^parts of the answer can have attn_lrp or generic only.*name a method"):
        joined_parts([Part("generic"), Part("attn_lrp")])


def test_pictures_pages_and_the_terminal_say_why(tmp_path):
    subject = heedmap.load("zoo/gpt-lists")
    found = subject.explain(text=TEXT, method="auto")
    said = " ".join(heedmap.explanation_fragment(found).split())
    assert "took &#39;" in said
    assert "docs/which-method.md" in said
    figure = found.plot()
    assert figure.get_suptitle().endswith(found.method)
    assert " ".join(figure.get_supxlabel().split()) == found.choice
    assert not found.plot(title=False).get_supxlabel()
    path = tmp_path / "found.json"
    found.save(path)
    assert heedmap.Explanation.load(path).choice == found.choice
    done = CliRunner().invoke(app, ["explain", "zoo/gpt-lists", "--text", TEXT, "--method", "auto"])
    assert done.exit_code == 0
    assert "method 'auto' took" in " ".join(done.output.split())


def test_the_table_is_asked_for_the_flow_of_the_model(monkeypatch):
    asked = []
    monkeypatch.setattr("heedmap.engine.engine.ranking", lambda *args: asked.append(args) or supported.ranking(*args))
    sample = heedmap.zoo_sample("lxmert-shapes")
    heedmap.load("zoo/lxmert-shapes").explain(**sample.inputs, method="auto")
    assert asked[0][0] == "co-attention"
    assert {"text", "boxes"} <= set(asked[0][1])
