"""heedmap's own method against a slow oracle in float64: gradients of a twin that holds by hand, rules entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.errors import OptionError, UnfollowedAttentionError
from heedmap.methods import METHODS
from oracles import rules

ASKS, ASKED, WIDTH, CLASSES = 4, 6, 8, 3


class Two(nn.Module):
    """Words are mixed by a self-attention; rows ask each other, and them, twice. Row 0 answers. A twin holds what Libra holds."""

    def __init__(self, twin: bool = False, ruled: bool = True) -> None:
        super().__init__()
        self.twin, self.ruled = twin, ruled
        self.maps, self.outs = list[Tensor](), list[Tensor]()
        names = [f"{name}{number}" for name in "qkvo" for number in range(5)]
        self.maps_of = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in [*names, "up"]})
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, rows: Tensor, features: Tensor) -> Tensor:
        features = features + self.attended(0, features, features)
        for number in (1, 3):
            rows = rows + self.attended(number, rows, rows)
            rows = rows + self.attended(number + 1, rows, features)
            rows = rows + self.fed(rows)
        return self.head(rows[:, 0])

    def fed(self, x: Tensor) -> Tensor:
        g = self.maps_of["up"](x)
        if not self.ruled:
            return g.softmax(-1) / (1 + g.pow(2))
        return g * (0.5 * (1 + torch.erf(g / 2**0.5))).detach() if self.twin else F.gelu(g)

    def attended(self, number: int, asks: Tensor, asked: Tensor) -> Tensor:
        q, k, v = (self.maps_of[f"{n}{number}"](x) for n, x in zip("qkv", (asks, asked, asked), strict=True))
        q, k, v = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (q, k, v))
        probs = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        probs = probs.detach() if self.twin else probs
        out = probs @ v
        self.maps.append(probs)
        self.outs.append(out)
        self.values = [*getattr(self, "values", []), v]
        return self.maps_of[f"o{number}"](out.transpose(1, 2).flatten(2))


def made(seed: int, ruled: bool = True) -> tuple[Two, Two, dict[str, Tensor]]:
    torch.manual_seed(seed)
    model, twin = Two(ruled=ruled).double().eval(), Two(twin=True, ruled=ruled).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    twin.load_state_dict(model.state_dict())
    inputs = {
        "rows": torch.randn(2, ASKS, WIDTH, dtype=torch.float64),
        "features": torch.randn(2, ASKED, WIDTH, dtype=torch.float64),
    }
    return model, twin, inputs


def oracle(twin: Two, inputs: dict[str, Tensor], target: int) -> tuple[np.ndarray, np.ndarray]:
    """Relevance of rows and of features for each sample, by equations 5 to 7 and rule 10 without its self parts."""
    y = twin(**inputs)[:, target].sum()
    pulled = torch.autograd.grad(y, twin.outs)
    of_rows, of_features = [], []
    for sample in range(2):
        cams = []
        for probs, values, gradient in zip(twin.maps, twin.values, pulled, strict=True):
            of_map = gradient[sample] @ values[sample].transpose(-1, -2)
            cams.append(rules.average_heads(probs[sample].detach().numpy(), of_map.detach().numpy()))
        R_rows, R_across = np.eye(ASKS), np.zeros((ASKS, ASKED))
        for number in (1, 3):
            R_rows, R_across = R_rows + cams[number] @ R_rows, R_across + cams[number] @ R_across
            R_across = R_across + rules.rule_10(cams[number + 1], R_rows, np.eye(ASKED), self_in_rule_10=False)
        own = R_rows[0].copy()
        own[0] = 0  # drop_self
        of_rows.append(own)
        of_features.append(R_across[0])
    return np.stack(of_rows), np.stack(of_features)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_oracle(seed: int) -> None:
    model, twin, inputs = made(seed)
    for target in (0, 2):
        twin.maps, twin.outs, twin.values = [], [], []
        rows, features = oracle(twin, inputs, target)
        found = heedmap.explain(
            model, inputs, target=target, method="heedmap", segments={"rows": "rows", "features": "features"}
        )
        assert not any("own gradients" in note for note in found.flow.notes)
        np.testing.assert_allclose(found["rows"].numpy(), rows, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["features"].numpy(), features, rtol=1e-5, atol=1e-6)
        assert features.max() > 1e-3


def test_with_plain_gradients_it_is_the_papers_rules_without_self_in_rule_10() -> None:
    subject = heedmap.load("zoo/lxmert-shapes")
    inputs = heedmap.zoo_sample("lxmert-shapes").inputs
    own = subject.explain(**inputs, method="heedmap", gradients="plain")
    paper = subject.explain(**inputs, method="generic", self_in_rule_10=False)
    libra = subject.explain(**inputs, method="libra_generic", self_in_rule_10=False)
    best = subject.explain(**inputs, method="heedmap")
    for name in ("text", "boxes"):
        assert torch.equal(own[name], paper[name])
        assert torch.equal(best[name], libra[name])
        assert not torch.allclose(own[name], best[name])


def test_where_libra_has_no_rule_it_says_that_it_took_the_models_gradient() -> None:
    subject = heedmap.load("zoo/convbert-lists")
    found = subject.explain(text="dog red ; cat blue ? cat", method="heedmap")
    assert sum("method 'heedmap' took the model's own gradients" in note for note in found.flow.notes) == 1
    assert torch.equal(found["text"], subject.explain(text="dog red ; cat blue ? cat", method="generic")["text"])
    with pytest.raises(UnfollowedAttentionError, match="method 'heedmap' takes its gradients in a pass of its own"):
        subject.explain(text="dog red ; cat blue ? cat", method="heedmap", gradients="libra")
    with pytest.raises(OptionError, match="expected one of 'best', 'libra', 'plain'"):
        subject.explain(text="dog red ; cat blue ? cat", method="heedmap", gradients="mine")


def test_an_operation_without_a_rule_is_told() -> None:
    model, _, inputs = made(0, ruled=False)
    segments = {"rows": "rows", "features": "features"}
    found = heedmap.explain(model, inputs, target=1, method="heedmap", segments=segments)
    plain = heedmap.explain(model, inputs, target=1, method="heedmap", gradients="plain", segments=segments)
    assert any("Libra gradients are not defined here" in note for note in found.flow.notes)
    assert not any("own gradients" in note for note in plain.flow.notes)
    assert torch.equal(found["features"], plain["features"])


def test_one_stream_is_libra_generic() -> None:
    subject = heedmap.load("zoo/gpt-lists")
    asked = {"text": "dog red ; cat blue ? cat", "target": "red"}
    assert torch.equal(
        subject.explain(**asked, method="heedmap")["text"], subject.explain(**asked, method="libra_generic")["text"]
    )
    assert METHODS["heedmap"].options["start_layer"] == 0
