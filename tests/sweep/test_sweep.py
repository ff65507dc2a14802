"""The sweep over transformers' classes, on a few families: that it builds, finds inputs, judges and counts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import heedmap

from . import __main__ as sweep
from . import checks
from .build import Built, built, families
from .inputs import target
from .processes import Subject, swept
from .verdict import against, expectation, judged

pytestmark = pytest.mark.filterwarnings("ignore")
EXPECTED = {
    Subject("transformers", "bert", "BertForTokenClassification"): "agrees",
    Subject("transformers", "llama", "LlamaForCausalLM"): "agrees",
    Subject("transformers", "vit", "ViTModel"): "agrees",
    Subject("transformers", "bart", "BartModel"): "agrees",
    Subject("transformers", "clip", "CLIPModel"): "agrees",
    Subject("transformers", "resnet", "ResNetModel"): "refused",
    Subject("timm", "vision_transformer", "test"): "fused = eager",
    Subject("open_clip", "ViT", "CLIP"): "explained",
}


AUTO = {"resnet": "integrated_gradients"}
"""What the table of evidence says for a family, where it is not heedmap's own method."""


@pytest.mark.parametrize("subject", EXPECTED, ids=lambda subject: subject.name)
def test_a_class_is_built_explained_and_checked(subject: Subject) -> None:
    row = judged(subject)
    assert row["verdict"] == EXPECTED[subject], row
    assert row["softmax"] == (subject.family != "resnet")
    assert row["auto"] == AUTO.get(subject.family, "heedmap")
    distances = [row[name] for name in ("distance", "eager", "batch", "padding") if isinstance(row.get(name), float)]
    assert all(distance < 1e-4 for distance in distances)
    assert distances or row["verdict"] == "refused"


def test_the_oracle_sees_a_wrong_map() -> None:
    subject = built("bert", "BertModel")
    other = {**subject.inputs, "input_ids": subject.inputs["input_ids"].flip(1)}
    found = heedmap.explain(subject.model, other, target=target)
    assert against(found, expectation(Built(subject.model, other))) < 1e-4
    assert against(found, expectation(subject)) > 1e-2


def test_learned_values_are_those_of_the_tokens_whose_keys_stand_beside_them() -> None:
    """LW-DETR's first decoder layer: places ask places, which no gradient reaches, for learned features."""
    subject = built("lw_detr", "LwDetrModel")
    assert checks.under_eager(subject, heedmap.explain(subject.model, subject.inputs, target=target)) < 1e-4


def test_padding_that_counts_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = built("bert", "BertModel")
    plain = checks.without_padding(subject, None)  # type: ignore[arg-type]
    padded, short = checks.padding(subject.inputs)
    padded["attention_mask"][:] = 1
    monkeypatch.setattr(checks, "padding", lambda inputs: (padded, short))
    with pytest.raises(checks.Other, match="own answer"):
        checks.without_padding(subject, None)  # type: ignore[arg-type]
    monkeypatch.setattr(checks, "agree", lambda *answers: None)
    assert plain < 1e-4 < 1e-2 < checks.without_padding(subject, None)  # type: ignore[arg-type]


def test_each_class_is_of_one_family() -> None:
    found = families()
    assert len(found) > 300
    names = [name for names in found.values() for name in names]
    assert len(names) == len(set(names))
    assert {"BertModel", "BertForMaskedLM"} <= set(found["bert"])


def test_rows_are_written_resumed_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sweep, "judged", lambda subject: {**subject.row(), "verdict": "not built"})
    words = ["--out", str(out), "--library", "transformers", "--families", "vit", "--resume"]
    threads = torch.get_num_threads()
    try:
        sweep.main(words)
        first = sweep.read(out)
        sweep.main(words)
    finally:
        torch.set_num_threads(threads)
    assert first == sweep.read(out)
    assert {row["class"] for row in first} >= {"ViTModel", "ViTForImageClassification"}
    assert f"| swept | {len(first)} of 1 families |" in capsys.readouterr().out


def test_a_class_that_ends_the_interpreter_does_not_end_the_sweep() -> None:
    def judge(subject: Subject) -> dict[str, Any]:
        if subject.name == "bad":
            os._exit(3)
        return {**subject.row(), "verdict": "agrees"}

    rows = swept([Subject("transformers", "vit", name) for name in ("a", "bad", "b")], judge)
    assert {row["class"]: row["verdict"] for row in rows} == {"a": "agrees", "bad": "died", "b": "agrees"}
