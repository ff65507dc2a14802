"""State-space layers and gated recurrences against closed forms of what token j gives to row i, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import scanned
import torch
import torch.nn.functional as F
import transformers
from hand_mixers import LENGTH, WIDTH, Tokens
from placed_models import words
from torch import Tensor, nn

import heedmap
from heedmap.attention import scans
from heedmap.attention.scans import pulled

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = 1e-5
"""transformers computes these scans in float32, whatever the model's dtype."""

WORDS = dict(vocab_size=30, hidden_size=16, pad_token_id=None, eos_token_id=None, bos_token_id=None)
MIXED = dict(WORDS, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3)
OF_MAMBA_2 = dict(mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=4, mamba_chunk_size=4)
DELTA = dict(
    linear_key_head_dim=4, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, head_dim=8
)
SCAN, ATTENTION = ("conv", "scan"), ("attention",)


@dataclass(frozen=True)
class Case:
    """A class of models, and what its layers are."""

    name: str
    layers: Sequence[Sequence[str]]
    options: dict[str, Any] = field(default_factory=dict)
    keys: bool = False
    scale: float = 3.0

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        cls = getattr(transformers, self.name)
        model: nn.Module = cls(cls.config_class(**self.options, attn_implementation="eager")).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(self.scale)
                else:
                    parameter.add_(torch.randn_like(parameter) / 10)
        return model


CASES = {
    "mamba": Case("MambaForCausalLM", [SCAN] * 2, dict(WORDS, num_hidden_layers=2, state_size=4), keys=True),
    "falcon mamba": Case("FalconMambaForCausalLM", [SCAN] * 2, dict(WORDS, num_hidden_layers=2, state_size=4), keys=True),
    "mamba 2": Case(
        "Mamba2ForCausalLM",
        [SCAN] * 2,
        dict(WORDS, num_hidden_layers=2, state_size=4, num_heads=4, head_dim=8, n_groups=2, chunk_size=4),
    ),
    "jamba": Case(
        "JambaForCausalLM",
        [SCAN, ATTENTION, SCAN],
        dict(MIXED, attn_layer_period=3, attn_layer_offset=1, expert_layer_period=2, num_experts=2, mamba_d_state=4,
             experts_implementation="eager"),
        keys=True,
    ),
    "bamba": Case("BambaForCausalLM", [SCAN, ATTENTION, SCAN], dict(MIXED, attn_layer_indices=[1], **OF_MAMBA_2)),
    "granite": Case(
        "GraniteMoeHybridForCausalLM",
        [SCAN, ATTENTION, SCAN],
        dict(
            MIXED, layer_types=["mamba", "attention", "mamba"], num_local_experts=2, num_experts_per_tok=1,
            experts_implementation="eager",
            shared_intermediate_size=24, **OF_MAMBA_2,
        ),
    ),
    "falcon h1": Case("FalconH1ForCausalLM", [(*SCAN, *ATTENTION)] * 3, dict(MIXED, mamba_d_ssm=32, **OF_MAMBA_2)),
    "nemotron h": Case(
        "NemotronHForCausalLM",
        [SCAN, ATTENTION, SCAN],
        dict(
            MIXED, head_dim=4, hybrid_override_pattern="M*M", mamba_num_heads=4, mamba_head_dim=8, n_groups=2,
            ssm_state_size=4, chunk_size=4,
        ),
    ),
    "qwen 3.5": Case(
        "Qwen3_5ForCausalLM",
        [SCAN, ATTENTION, SCAN],
        dict(MIXED, layer_types=["linear_attention", "full_attention", "linear_attention"], **DELTA),
    ),
    "recurrent gemma": Case(
        "RecurrentGemmaForCausalLM",
        [SCAN, SCAN, ATTENTION],
        dict(MIXED, lru_width=16, block_types=["recurrent", "recurrent", "attention"], attention_window_size=8, head_dim=4),
        keys=True,
    ),
    "rwkv": Case(
        "RwkvForCausalLM",
        [("scan", "shift"), ("shift", "shift")] * 2,
        dict(WORDS, num_hidden_layers=2, attention_hidden_size=16, context_length=20),
    ),
}  # fmt: skip


def ids(batch: int, length: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"input_ids": torch.randint(1, 30, (batch, length))}


def target(output: Any) -> Tensor:
    """A number of the last token."""
    return output.logits[:, -1, 5] * 10


def assert_near(found: Tensor, expected: Tensor, to: float = CLOSE) -> None:
    assert found.shape == expected.shape
    assert float(expected.abs().max()) > 0
    assert float((found - expected).abs().max() / expected.abs().max()) < to


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_scans_are_what_they_are_defined_as(name: str, batch: int) -> None:
    case, inputs = CASES[name], ids(batch)
    model = case.model()
    events, score = scanned.seen(model, inputs, target)
    assert_near(target(model(**inputs)).detach(), score)  # the closed forms are the model's
    expected = scanned.relevance(events, case.layers, case.keys)[:, -1]
    found = heedmap.explain(model, inputs, target=target, drop_self=False)
    assert_near(found["text"].double(), expected)


@pytest.mark.parametrize("name", ["mamba", "mamba 2", "qwen 3.5", "rwkv", "recurrent gemma"])
def test_the_answer_is_the_models_own(name: str) -> None:
    model, inputs = CASES[name].model(), ids(1)
    answers = []

    def noted(output: Any) -> Tensor:
        answers.append(output.logits.detach())
        return target(output)

    heedmap.explain(model, inputs, target=noted)
    with torch.no_grad():
        assert torch.equal(answers[-1], model(**inputs, use_cache=False).logits)


@pytest.mark.parametrize("name", ["mamba", "mamba 2"])
def test_padding_changes_nothing(name: str) -> None:
    model, inputs = CASES[name].model(), ids(1)
    padded = {"input_ids": torch.cat([torch.full((1, 2), 3), inputs["input_ids"]], 1)}
    padded["attention_mask"] = torch.tensor([[0, 0, *[1] * 7]])
    alone, beside = (heedmap.explain(model, given, target=target)["text"] for given in (inputs, padded))
    assert float(beside[:, :2].abs().max()) == 0
    assert_near(beside[:, 2:], alone, 1e-4)


def test_a_longer_text_is_followed_by_what_was_proved() -> None:
    model = CASES["mamba 2"].model()
    heedmap.explain(model, ids(1), target=target)
    events, _ = scanned.seen(model, ids(1, 9), target)
    found = heedmap.explain(model, ids(1, 9), target=target, drop_self=False)["text"]
    assert_near(found.double(), scanned.relevance(events, CASES["mamba 2"].layers, False)[:, -1])


class Recurrence(nn.Module):
    """h ← step(a h + x), token by token, a residual connection around it; or what goes wrong with one."""

    def __init__(self, step: Any = None, residual: bool = True) -> None:
        super().__init__()
        self.step, self.residual = step, residual
        self.gate, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        gates, values = torch.sigmoid(self.gate(x)), self.value(x)
        state, found = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            state = gates[:, t] * state + values[:, t]
            state = state if self.step is None else self.step(state)
            found.append(state)
        mixed = torch.stack(found, 1)
        return x + mixed if self.residual else mixed


class Summed(nn.Module):
    """What is summed up over tokens, bent, and added to them: linear in nothing but its first step."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(x.cumsum(1)).cumsum(1)


class Lent(nn.Module):
    """Sums over the tokens before, gated; each tensor lends its type to the other, which says nothing of what is in it."""

    def __init__(self, lends: bool) -> None:
        super().__init__()
        self.lends, self.gate, self.value = lends, nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        summed, gate = self.value(x).cumsum(1), torch.sigmoid(self.gate(x))
        if self.lends:
            summed, gate, x = summed.to(gate), gate.type_as(summed), x.type_as(summed)
        return x + gate * summed


def number(output: Tensor) -> Tensor:
    return output[:, 2] * 10


def test_what_lends_its_type_is_no_part_of_it() -> None:
    found = []
    for lends in (False, True):
        torch.manual_seed(0)
        model = Tokens(Lent(lends), Lent(lends)).double().eval()
        found.append(heedmap.explain(model, words(LENGTH, 1), target=number, drop_self=False)["text"])
    assert torch.equal(*found)
    assert float(found[0][0, :-1].max()) > 0


def test_a_recurrence_of_ones_own() -> None:
    torch.manual_seed(0)
    layer = Recurrence()
    model = Tokens(layer).double().eval()
    inputs = words(LENGTH, 1)
    found = heedmap.explain(model, inputs, target=number, drop_self=False)["text"].double()
    x = (model.words(inputs["input_ids"]) + model.places).detach()
    gates, values = torch.sigmoid(layer.gate(x)), layer.value(x)
    last = layer(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(number(model.head(last[:, -1])).sum(), last)
    parts = [(gradient[0, -1] * gates[0, j + 1 :].prod(0) * values[0, j]).sum().clamp(min=0) for j in range(LENGTH)]
    expected = torch.stack(parts)[None].detach()
    expected[0, -1] += 1
    assert_near(found, expected)


@pytest.mark.parametrize(
    "layer",
    [lambda: Recurrence(torch.tanh), lambda: Recurrence(residual=False), Summed],
    ids=["bent", "alone", "summed"],
)
def test_what_is_linear_in_nothing_is_refused(layer: Any) -> None:
    torch.manual_seed(0)
    model = Tokens(layer(), layer()).double().eval()
    with pytest.raises(heedmap.errors.AttentionError):
        heedmap.explain(model, words(LENGTH, 1), target=number)


class BetweenAttentions(nn.Module):
    """A scan between two attentions of ``nn.MultiheadAttention``, or of the same weights by its parts."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.words, self.head = fused, nn.Embedding(30, WIDTH), nn.Linear(WIDTH, 5)
        self.first, self.last = (nn.MultiheadAttention(WIDTH, 2, batch_first=True) for _ in range(2))
        sizes = {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4}
        config = transformers.Mamba2Config(hidden_size=WIDTH, num_hidden_layers=1, **sizes)
        self.scan = transformers.models.mamba2.modeling_mamba2.Mamba2Mixer(config, 0)

    def attended(self, attention: nn.MultiheadAttention, x: Tensor) -> Tensor:
        if self.fused:
            return attention(x, x, x, need_weights=False)[0]
        q, k, v = F.linear(x, attention.in_proj_weight, attention.in_proj_bias).unflatten(-1, (3, 2, -1)).unbind(2)
        heads = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return attention.out_proj(heads.transpose(1, 2).flatten(2))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids)
        x = x + self.attended(self.first, x)
        x = x + self.scan(x)
        return self.head(x + self.attended(self.last, x))[:, -1]


def test_a_scan_after_an_attention_of_torchs_own() -> None:
    """Within which the recorder enters itself anew."""
    torch.manual_seed(0)
    parts = BetweenAttentions(fused=False).double().eval()
    fused = BetweenAttentions(fused=True).double().eval()
    fused.load_state_dict(parts.state_dict())
    expected, found = (heedmap.explain(model, ids(2), target=number)["text"] for model in (parts, fused))
    assert_near(found.double(), expected.double())


class Heads(nn.Module):
    """A gated sum over the tokens before by several heads: of one value for all of them, or of one for each."""

    def __init__(self, shared: bool, heads: int = 3, features: int = 4) -> None:
        super().__init__()
        self.shared, self.heads, self.features = shared, heads, features
        self.gate, self.value = nn.Linear(WIDTH, heads), nn.Linear(WIDTH, features if shared else heads * features)
        self.out = nn.Linear(heads * features, WIDTH)

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gates, (batch, tokens, heads, 1), and values, (batch, tokens, heads or 1, features)."""
        return torch.sigmoid(self.gate(x))[..., None], self.value(x).unflatten(-1, (-1, self.features))

    def forward(self, x: Tensor) -> Tensor:
        gates, values = self.read(x)
        state, found = x.new_zeros(len(x), self.heads, self.features), []
        for t in range(x.shape[1]):
            state = gates[:, t] * state + values[:, t]
            found.append(state)
        return x + self.out(torch.stack(found, 1).flatten(2))


@pytest.mark.parametrize("shared", [False, True])
def test_heads_are_apart_also_where_they_share_a_value(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product with the Jacobian for each row, where each value is of one head; for each row and head, where they share it."""
    torch.manual_seed(0)
    layer = Heads(shared)
    model, inputs, taken = Tokens(layer).double().eval(), words(LENGTH, 1), []

    def counted(out: Tensor, values: Sequence[Tensor], cotangents: Tensor) -> list[Tensor]:
        taken.append(len(cotangents))
        return pulled(out, values, cotangents)

    monkeypatch.setattr(scans, "pulled", counted)
    found = heedmap.explain(model, inputs, target=number, drop_self=False)["text"].double()
    assert sum(taken) == (layer.heads if shared else 1)  # the last row is all that the target reads
    x = (model.words(inputs["input_ids"]) + model.places).detach()
    gates, values = (t[0].detach() for t in layer.read(x))
    (gradient,) = torch.autograd.grad(
        number(model.head((last := layer(x).detach().requires_grad_())[:, -1])).sum(), last
    )
    of_heads = (gradient[0, -1] @ layer.out.weight).unflatten(0, (layer.heads, layer.features))
    terms = torch.stack([gates[j + 1 :].prod(0) * values[j] for j in range(LENGTH)])
    expected = (of_heads * terms).sum(-1).clamp(min=0).mean(-1)[None].detach()
    expected[0, -1] += 1
    assert float((expected[0, :-1] > 0).sum()) > 1
    assert_near(found, expected, 1e-6)  # relevance is float32
