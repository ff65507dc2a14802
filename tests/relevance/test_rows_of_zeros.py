"""The proof leaves out rows of zeros of a linear map's gradient, and pulls no more than it has to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

import heedmap
from heedmap.attention import operations, probe, returned
from heedmap.attention.at_rest import recording_state
from heedmap.attention.forward import record
from heedmap.attention.operations import by_rows, takes_rows
from heedmap.errors import MixingError

SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(num_labels=3, **SIZES)).double().eval()


def picture() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, 32, 32, dtype=torch.float64)}


@pytest.mark.parametrize("asked", [[], [3], [0, 2, 9], list(range(10))])
@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_is_that_of_torch(asked: list[int], bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    weight, shift = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, dtype=torch.float64) if bias else None
    vector = torch.zeros(10, 4, dtype=torch.float64)
    vector[asked] = torch.randn(len(asked), 4, dtype=torch.float64)
    ours, theirs = by_rows(x, weight, shift), F.linear(x, weight, shift)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    found, wanted = (torch.autograd.grad(out, x, vector.view(2, 5, 4))[0] for out in (ours, theirs))
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)
    assert [row for row in range(10) if found.view(10, 7)[row].any()] == asked


def test_a_number_that_is_none_stays_one() -> None:
    x = torch.randn(5, 7, requires_grad=True)
    vector = torch.zeros(5, 4)
    vector[2, 1] = torch.nan
    (found,) = torch.autograd.grad(by_rows(x, torch.randn(4, 7)), x, vector)
    assert found[2].isnan().all()
    assert not found[[0, 1, 3, 4]].any()


def test_several_gradients_at_once_are_those_of_each() -> None:
    x, weight = torch.randn(2, 5, 7, requires_grad=True), torch.randn(4, 7)
    vectors = torch.randn(3, 2, 5, 4)
    vectors[0, :, 1] = vectors[1, 0] = 0
    (found,) = torch.autograd.grad(by_rows(x, weight), x, vectors, is_grads_batched=True)
    torch.testing.assert_close(found, vectors @ weight)


def test_what_it_makes_may_be_written_to() -> None:
    x, weight = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True), torch.randn(4, 7, dtype=torch.float64)
    found, wanted = (torch.autograd.grad(f(x, weight).relu_().sum(), x)[0] for f in (by_rows, F.linear))
    torch.testing.assert_close(found, wanted)


def test_it_stands_for_large_maps_with_constant_weights_alone() -> None:
    x, weight = torch.randn(64, 512, requires_grad=True), torch.randn(512, 512)
    assert takes_rows(F.linear, (x, weight, None), {})
    assert not takes_rows(F.linear, (x, weight), {"bias": None})
    assert not takes_rows(F.linear, (x, weight.requires_grad_()), {})
    assert not takes_rows(F.linear, (x, torch.randn(8, 512)), {})
    assert not takes_rows(F.linear, (x.detach(), torch.randn(512, 512)), {})
    assert not takes_rows(torch.matmul, (x, torch.randn(512, 512)), {})
    with torch.autocast("cpu"):
        assert not takes_rows(F.linear, (x, torch.randn(512, 512)), {})
    assert not takes_rows(
        F.linear, (torch.randn(600, 9000, requires_grad=True), torch.randn(9000)), {}
    )  # to one number a row


def test_no_map_changes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = heedmap.explain(classifier(), picture(), target=1)
    monkeypatch.setattr(operations, "PAYS", 0)
    by_row = heedmap.explain(classifier(), picture(), target=1)
    for name, segment in plain.segments.items():
        torch.testing.assert_close(by_row.segments[name].relevance, segment.relevance, rtol=1e-12, atol=1e-14)


class Leaks(nn.Module):
    """A linear map that also adds one token's features to another one's."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inside(x)
        return y + F.pad(y[:, 3:4], (0, 0, 5, y.shape[1] - 6))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("half", [0, 1])
def test_one_token_in_one_other_is_found(layer: int, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever half is pulled first: what the other one has of it shows then, or when the other one is pulled."""

    def even(graph: Any, batch: int, device: torch.device) -> list[Tensor]:
        return [(torch.arange(s.tokens) // 4 % 2 == half).expand(batch, -1) for s in graph.streams]

    monkeypatch.setattr(operations, "PAYS", 0)
    monkeypatch.setattr(probe, "_halves", even)
    model = classifier()
    mlp = model.vit.layers[layer].mlp
    mlp.fc2 = Leaks(mlp.fc2)
    with recording_state(model), pytest.raises(MixingError, match=r"token 3 leaks"):
        record(model, picture(), 2)


def test_a_proof_pulls_the_whole_pass_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves of what attention reads, and with them of the rows of which the head takes one; then what the head says."""
    counted = []
    whole = probe.pulled

    def pulled(*args: Any) -> Any:
        counted.append(len(args[0]))
        return whole(*args)

    monkeypatch.setattr(probe, "pulled", pulled)
    monkeypatch.setattr(returned, "pulled", pulled)
    heedmap.explain(classifier(), picture(), target=1)
    assert counted == [10, 10, 1]


def test_behind_the_last_attention_few_rows_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a classifier that reads one row: out-projection and both maps of the last layer, in a run that proves nothing."""
    monkeypatch.setattr(operations, "PAYS", 0)
    model = classifier()
    heedmap.explain(model, picture(), target=1)
    given, stood = [], operations.by_rows

    def by_row(x: Tensor, *weights: Any) -> Tensor:
        made = stood(x, *weights)
        made.register_hook(lambda gradient: given.append(int(gradient.flatten(0, -2).any(-1).sum())))
        return made

    monkeypatch.setattr(operations, "by_rows", by_row)
    heedmap.explain(model, picture(), target=1)
    assert given == [2, 2, 2, 2]  # the head first; one row of each of two samples
