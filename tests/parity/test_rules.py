"""heedmap's equations on the random matrices of ``--golden DIR``'s rules, where the authors' functions gave the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from heedmap.attention.attention import Attention, Layout
from heedmap.attention.flow import Edge, Graph, Stream
from heedmap.methods import METHODS
from heedmap.methods.method import TargetView
from heedmap.relevance import rules
from oracles import rules as oracle

Given = dict[str, Tensor]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``rule`` runs on every case of every rules.json; the repository's own where DIR has none."""
    if "rule" not in metafunc.fixturenames:
        return
    golden = metafunc.config.getoption("golden")
    files = sorted(golden.glob("*/rules.json")) or [Path(__file__).parent / "golden" / "rules" / "rules.json"]
    pairs = [(file, name) for file in files for name in json.loads(file.read_text())["cases"]]
    metafunc.parametrize("rule", pairs, ids=[f"{file.parent.name}-{name}" for file, name in pairs])


def batched(tensor: Tensor) -> Tensor:
    """A batch of one."""
    return tensor[None]


def _average_heads(given: Given, about: dict[str, Any]) -> Given:
    """The authors average a batch together with the heads: here all are heads of one sample."""
    cam, grad = (given[name].flatten(0, -3)[None] for name in ("cam", "grad"))
    return {"cam_bar": rules.average_heads(cam, grad)[0]}


def _self_attention(given: Given, about: dict[str, Any]) -> Given:
    cam = batched(given["cam_ss"])
    return {f"{R}_addition": rules.self_attention(cam, batched(given[R]))[0] for R in ("R_ss", "R_sq")}


def _cross_attention(given: Given, about: dict[str, Any]) -> Given:
    cam, flags = batched(given["cam_sq"]), about["kwargs"]
    added = rules.cross_attention(
        cam,
        batched(given["R_ss"]),
        batched(given["R_qq"]),
        normalized=flags["apply_normalization"],
        self_in_rule_10=flags["apply_self_in_rule_10"],
    )
    found = {"R_sq_addition": added[0]}
    if "R_qs" in given:
        found["R_ss_addition"] = rules.cross_attention_back(cam, batched(given["R_qs"]))[0]
    return found


def _normalize(given: Given, about: dict[str, Any]) -> Given:
    return {"R_bar": rules.normalize(batched(given["R"]))[0]}


def _rollout(given: Given, about: dict[str, Any]) -> Given:
    """The method itself, on a stream whose attentions are these matrices, of one head each."""
    layers = [given[name] for name in sorted(given, key=lambda name: int(name.rpartition("_")[2]))]
    probs = [(m if m.dim() == 3 else m[None])[:, None] for m in layers]
    batch, _, tokens, _ = probs[0].shape
    attentions = [
        Attention(i, "softmax", p, Layout(None, batch), p.new_zeros(batch, 1, tokens, 1), tokens, probs=p)
        for i, p in enumerate(probs)
    ]
    states = [frozenset(range(i)) for i in range(len(probs) + 1)]
    edges = [Edge(i, 0, 0, states[i], states[i]) for i in range(len(probs))]
    graph = Graph([Stream(0, tokens, attentions=list(range(len(probs))))], edges, [])
    options = {"start_layer": about["kwargs"]["start_layer"], "normalize": "NOT row-normalised" not in about["variant"]}
    run = TargetView(graph, attentions, {}, {}, {0: "text"})
    rows = torch.eye(tokens, dtype=probs[0].dtype).expand(batch, -1, -1)
    found = METHODS["rollout"].prepare(run, METHODS["rollout"].resolve(options))(0, states[-1], rows)[0]
    return {"rollout": found if layers[0].dim() == 3 else found[0]}


FUNCTIONS: dict[str, Callable[[Given, dict[str, Any]], Given]] = {
    "avg_heads": _average_heads,
    "apply_self_attention_rules": _self_attention,
    "apply_mm_attention_rules": _cross_attention,
    "handle_residual": _normalize,
    "compute_rollout_attention": _rollout,
}
"""The authors' function → the same from heedmap."""


def _divides_by_zero(given: Given, about: dict[str, Any]) -> bool:
    """Whether the authors' function divides 0 by 0 on these matrices."""
    if not about["kwargs"].get("apply_normalization", True) or not about["kwargs"].get("apply_self_in_rule_10", True):
        return False
    return any(oracle.zero_rows(R.numpy()) for name, R in given.items() if name in ("R", "R_ss", "R_qq"))


def _guarded(given: Given) -> Given:
    """What the equations give where a zero row of R − I stays zero."""
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    if "R" in arrays:
        return {"R_bar": torch.as_tensor(oracle.normalize(arrays["R"]))}
    added = oracle.rule_10(arrays["cam_sq"], arrays["R_ss"], arrays["R_qq"])
    return {"R_sq_addition": torch.as_tensor(added)}


def test_the_authors_equations(rule):
    """Each result is the authors'; where they divide 0 by 0, NaN or zeroed afterwards, it is the guarded one."""
    file, name = rule
    about = json.loads(file.read_text())["cases"][name]
    tensors = load_file(file.with_suffix(".safetensors"))
    given = {key.removeprefix(f"{name}/in/"): t for key, t in tensors.items() if key.startswith(f"{name}/in/")}
    found = FUNCTIONS[about["function"].rpartition(":")[2]](given, about)
    if "raises" in about:  # the authors assert that the diagonal is 1 at least; the equation needs no such thing
        np.testing.assert_allclose(found["R_bar"], oracle.normalize(given["R"].numpy()), rtol=1e-12)
        return
    expected = {output: tensors[f"{name}/out/{output}"] for output in about["outputs"]}
    if _divides_by_zero(given, about):
        lost = [output for output, tensor in expected.items() if tensor.isnan().any() or not tensor.any()]
        assert lost == list(_guarded(given)), "the authors' code lost something else than we think"
        expected |= _guarded(given)
    for output, tensor in expected.items():
        torch.testing.assert_close(found[output], tensor, rtol=1e-12, atol=1e-12, msg=lambda m, o=output: f"{o}: {m}")
