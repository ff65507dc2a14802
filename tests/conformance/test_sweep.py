"""The sweep over transformers' classes, on a few families: that it builds, finds inputs, judges and counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCH = Path(__file__).parents[2] / "bench"
pytestmark = pytest.mark.filterwarnings("ignore")
EXPECTED = {
    ("bert", "BertForTokenClassification"): "agrees",
    ("llama", "LlamaForCausalLM"): "agrees",
    ("vit", "ViTModel"): "agrees",
    ("bart", "BartModel"): "agrees",
    ("clip", "CLIPModel"): "agrees",
    ("resnet", "ResNetModel"): "refused",
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    import sweep

    yield sweep
    for name in [n for n in sys.modules if n == "sweep" or n.split(".")[0] == "breadth"]:
        del sys.modules[name]


@pytest.mark.parametrize(("family", "name"), EXPECTED)
def test_a_class_is_built_explained_and_held_against_the_oracle(bench: Any, family: str, name: str) -> None:
    row = bench.judged(family, name)
    assert row["verdict"] == EXPECTED[family, name], row
    assert row["class"] == name
    assert row["verdict"] == "refused" or row["distance"] < 1e-4


def test_the_oracle_sees_a_wrong_map(bench: Any) -> None:
    import heedmap
    from breadth.build import Built, built, target
    from breadth.verdict import against, expectation

    subject: Built = built("bert", "BertModel")
    other = {**subject.inputs, "input_ids": subject.inputs["input_ids"].flip(1)}
    found = heedmap.explain(subject.model, other, target=target)
    assert against(found, expectation(subject.model, other)) < 1e-4
    assert against(found, expectation(subject.model, subject.inputs)) > 1e-2


def test_each_class_is_of_one_family(bench: Any) -> None:
    found = bench.families()
    assert len(found) > 300
    names = [name for names in found.values() for name in names]
    assert len(names) == len(set(names))
    assert {"BertModel", "BertForMaskedLM"} <= set(found["bert"])


def test_rows_are_written_resumed_and_counted(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(bench, "judged", lambda family, name: {"family": family, "class": name, "verdict": "agrees"})
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--out", str(out), "--families", "vit", "--resume"])
    threads = torch.get_num_threads()
    try:
        bench.main()
        first = bench.read(out)
        bench.main()
    finally:
        torch.set_num_threads(threads)
    assert first == bench.read(out)
    assert {row["class"] for row in first} >= {"ViTModel", "ViTForImageClassification"}
    assert f"{len(first)} classes of 1 families" in capsys.readouterr().out


def test_a_class_that_ends_the_interpreter_does_not_end_the_sweep(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(family: str, name: str) -> dict[str, str]:
        if name == "bad":
            import os

            os._exit(3)
        return {"family": family, "class": name, "verdict": "agrees"}

    monkeypatch.setattr(bench, "judged", judged)
    found = {row["class"]: row["verdict"] for row in bench.swept({"vit": ["a", "bad", "b"]})}
    assert found == {"a": "agrees", "bad": "died", "b": "agrees"}
