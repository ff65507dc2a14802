"""The same function, written in other ways, has the same map; what comes beside the words takes nothing from them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.errors import InputError

D, HEADS = 32, 4


class Net(nn.Module):
    """Two layers of attention over words, with all that can come beside them, and a head on a pooled state."""

    def __init__(self, attention: str = "module", pooling: str = "first") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.pooling = attention, pooling
        self.embed, self.kinds, self.places = nn.Embedding(50, D), nn.Embedding(3, D), nn.Embedding(20, D)
        self.layers = nn.ModuleList(nn.MultiheadAttention(D, HEADS, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(2))
        self.weigh, self.head = nn.Linear(D, 1), nn.Linear(D, 5)
        for parameter in self.parameters():
            parameter.data *= 2

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        pad: Tensor | None = None,
        bias: Tensor | None = None,
        types: Tensor | None = None,
        pos: Tensor | None = None,
        time: Tensor | None = None,
        valid: Tensor | None = None,
        language: Tensor | None = None,
        country: Tensor | None = None,
    ) -> Tensor:
        x = self.embed(tokens)
        if valid is not None:
            x = x * valid[..., None]
        for given, table in ((types, self.kinds), (pos, self.places)):
            x = x if given is None else x + table(given)
        x = x if time is None else x + time[..., None]
        x = x if country is None else x + self.kinds(country)[:, None]
        if lengths is not None:
            pad = torch.arange(tokens.shape[1])[None] >= lengths[:, None]
        mask = None if bias is None else bias.repeat_interleave(HEADS, 0)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + self.mixed(layer, x, pad, mask))
        return self.head(self.pooled(x))

    def mixed(self, layer: nn.MultiheadAttention, x: Tensor, pad: Tensor | None, mask: Tensor | None) -> Tensor:
        if self.attention == "module":
            return layer(x, x, x, key_padding_mask=pad, attn_mask=mask)[0]
        batch, tokens, _ = x.shape
        folded = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).unflatten(-1, (3, HEADS, -1))
        q, k, v = folded.permute(2, 3, 0, 1, 4)  # (heads, batch, tokens, features) each
        scale = q.shape[-1] ** -0.5
        if self.attention == "heads first":
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
            out = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * scale, -1).bmm(v).unflatten(0, (HEADS, batch))
        elif self.attention == "heads first, fused":
            out = F.scaled_dot_product_attention(*(t.flatten(0, 1) for t in (q, k, v))).unflatten(0, (HEADS, batch))
        else:  # keys on the first axis
            q, k, v = (t.transpose(0, 1) for t in (q, k, v))
            probs = (k @ q.transpose(-1, -2) * scale).softmax(-2)
            out = (probs.transpose(-1, -2) @ v).transpose(0, 1)
        return layer.out_proj(out.permute(1, 2, 0, 3).reshape(batch, tokens, D))

    def several(self, x: Tensor) -> Tensor:
        """Weights of three means, which no query asks."""
        return (self.weigh(x) * torch.tensor([1.0, -2.0, 3.0])).transpose(1, 2).softmax(-1)

    def pooled(self, x: Tensor) -> Tensor:
        ways = {
            "first": lambda: x[:, 0],
            "sum": lambda: (self.weigh(x).softmax(1) * x).sum(1),
            "product": lambda: torch.matmul(F.softmax(self.weigh(x), dim=1).transpose(-1, -2), x).squeeze(-2),
            "bmm": lambda: torch.bmm(self.weigh(x).squeeze(-1).softmax(-1).unsqueeze(1), x).squeeze(1),
            "einsum": lambda: torch.einsum("bn,bnd->bd", self.weigh(x).squeeze(-1).softmax(-1), x),
            "several means": lambda: torch.einsum("...sn,...nd->...sd", self.several(x), x)[:, 1],
            "one of several": lambda: (self.several(x)[:, 1, :, None] * x).sum(1),
            "turned": lambda: (x.transpose(1, 2) @ self.weigh(x).softmax(1)).squeeze(-1),
        }
        return ways[self.pooling]()


WORDS = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(0))


def explained(model: nn.Module, method: str = "generic", **beside: Any) -> heedmap.Explanation:
    return heedmap.explain(model.eval(), {"tokens": WORDS, **beside}, target=1, method=method)


@pytest.mark.parametrize("method", ["generic", "rollout", "raw_attention", "attn_lrp", "partial_lrp", "legrad"])
@pytest.mark.parametrize("way", ["heads first", "heads first, fused", "keys first"])
def test_attention_in_other_layouts(way: str, method: str) -> None:
    torch.testing.assert_close(
        explained(Net(way), method)["text"], explained(Net(), method)["text"], rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("way", ["product", "bmm", "einsum", "turned"])
def test_attention_pooling_has_one_answer(way: str) -> None:
    wanted = explained(Net(pooling="sum"))
    torch.testing.assert_close(explained(Net(pooling=way))["text"], wanted["text"], rtol=1e-4, atol=1e-6)


def test_one_of_several_means() -> None:
    wanted = explained(Net(pooling="one of several"))
    found = explained(Net(pooling="several means"))
    torch.testing.assert_close(found["text"], wanted["text"], rtol=1e-4, atol=1e-6)
    assert found.segments["text"].positions[0].tolist() == list(range(7))


HIDDEN = torch.zeros(3, 7, dtype=torch.bool)
HIDDEN[:, 5:] = True
BESIDE: dict[str, dict[str, Tensor]] = {
    "lengths": {"lengths": torch.tensor([7, 7, 7])},
    "pad of zeros": {"pad": torch.zeros(3, 7)},
    "bias": {"bias": torch.zeros(3, 7, 7)},
    "types": {"types": torch.zeros(3, 7, dtype=torch.long)},
    "pos": {"pos": torch.arange(7).expand(3, 7)},
    "time": {"time": torch.randn(3, 7)},
    "valid": {"valid": torch.ones(3, 7)},
    "valid, some zero": {"valid": (~HIDDEN).float()},
    "country": {"country": torch.tensor([0, 1, 2])},
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("before", [False, True], ids=["after the words", "before the words"])
def test_what_comes_beside_the_words_is_no_content(name: str, before: bool) -> None:
    beside = BESIDE[name]
    inputs = {**beside, "tokens": WORDS} if before else {"tokens": WORDS, **beside}
    found = heedmap.explain(Net().eval(), inputs, target=1)
    assert list(found.segments) == ["text"]
    fixed = Net().eval()  # the same function of the words alone
    whole, call = copy.deepcopy(fixed), fixed.forward
    fixed.forward = lambda tokens: call(tokens, **beside)
    torch.testing.assert_close(found["text"], heedmap.explain(fixed, WORDS, target=1)["text"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.scores, whole(WORDS, **beside)[:, 1].detach())


def test_float_and_boolean_masks_are_alike() -> None:
    wanted = explained(Net(), pad=HIDDEN)["text"]
    for value in (-1e9, -torch.inf):
        found = explained(Net(), pad=torch.zeros(3, 7).masked_fill(HIDDEN, value))
        torch.testing.assert_close(found["text"], wanted, rtol=1e-4, atol=1e-6)


def test_the_caller_names_the_segments() -> None:
    inputs = {"tokens": WORDS, **BESIDE["types"]}
    found = heedmap.explain(Net().eval(), inputs, target=1)
    assert any("types" in note and "segments=" in note for note in found.flow.notes)
    named = heedmap.explain(Net().eval(), inputs, target=1, segments={"types": "kinds of words"})
    torch.testing.assert_close(named["kinds of words"], found["text"])
    with pytest.raises(InputError, match=r"segments names 'type'.*tokens \(Tensor\)"):
        heedmap.explain(Net().eval(), inputs, target=1, segments={"type": "kinds"})


def test_words_and_entities_in_one_attention() -> None:
    """LUKE puts its scores together from four products; the oracle is its eager attention and autograd."""
    from transformers import LukeConfig, LukeForEntityClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = LukeConfig(**sizes, vocab_size=50, entity_vocab_size=10, entity_emb_size=16, num_labels=5)
    model = LukeForEntityClassification(config).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    inputs = {
        "input_ids": torch.randint(5, 45, (2, 12)),
        "attention_mask": torch.ones(2, 12, dtype=torch.long),
        "entity_ids": torch.tensor([[1, 2], [3, 4]]),
        "entity_attention_mask": torch.ones(2, 2, dtype=torch.long),
        "entity_position_ids": torch.tensor([[[1, 2, -1], [3, 4, -1]]] * 2),
    }
    found = heedmap.explain(model, inputs, target=3, drop_self=False)
    output = model(**inputs, output_attentions=True)
    gradients = torch.autograd.grad(output.logits[:, 3].sum(), output.attentions)
    R = torch.eye(14).expand(2, -1, -1)
    for A, gradient in zip(output.attentions, gradients, strict=True):
        R = R + (A * gradient).clamp(min=0).mean(1).detach() @ R
    torch.testing.assert_close(found["text"], R[:, 12, :12], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found["entity"], R[:, 12, 12:], rtol=1e-3, atol=1e-6)


class Memory(nn.Module):
    """Two layers of self-attention with learned keys and values beside those of the words: a prefix, a memory."""

    def __init__(self, fused: bool, before: int, after: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fused, self.before, self.after = fused, before, after
        self.embed, self.head = nn.Embedding(50, D), nn.Linear(D, 5)
        self.qkv = nn.ModuleList(nn.Linear(D, 3 * D) for _ in range(2))
        self.learned = nn.Parameter(torch.randn(2, 2, HEADS, before + after, D // HEADS))
        self.probs: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for number, qkv in enumerate(self.qkv):
            q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in qkv(x).chunk(3, -1))
            k, v = (
                torch.cat(
                    [
                        own[:, : self.before].expand(len(t), -1, -1, -1),
                        t,
                        own[:, self.before :].expand(len(t), -1, -1, -1),
                    ],
                    -2,
                )
                for own, t in zip(self.learned[number], (k, v), strict=True)
            )
            if self.fused:
                out = F.scaled_dot_product_attention(q, k, v)
            else:
                self.probs.append((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1))
                out = self.probs[-1] @ v
            x = x + out.transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


@pytest.mark.parametrize(("before", "after"), [(3, 0), (0, 2), (2, 1)])
def test_learned_keys_are_no_tokens(before: int, after: int) -> None:
    plain = Memory(False, before, after).eval()
    output = plain(WORDS)
    R = torch.eye(7).expand(3, -1, -1)
    for A, gradient in zip(plain.probs, torch.autograd.grad(output[:, 1].sum(), plain.probs), strict=True):
        R = R + ((A * gradient).clamp(min=0).mean(1)[..., before : before + 7]).detach() @ R
    wanted = R[:, 0].clone()
    wanted[:, 0] = 0
    maps = [heedmap.explain(Memory(fused, before, after).eval(), WORDS, target=1)["text"] for fused in (True, False)]
    for found in maps:
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    for method in ("rollout", "attention_gradcam", "transformer_attribution", "attn_lrp"):
        fused, inline = (
            heedmap.explain(Memory(f, before, after).eval(), WORDS, target=1, method=method) for f in (True, False)
        )
        torch.testing.assert_close(fused["text"], inline["text"], rtol=1e-3, atol=1e-5)


def luke(kind: str, labels: int = 5) -> tuple[Any, dict[str, Tensor]]:
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.LukeConfig(
        **sizes, vocab_size=50, entity_vocab_size=10, entity_emb_size=16, num_labels=labels
    )
    model = getattr(transformers, kind)(config).eval().double()
    for parameter in model.parameters():
        parameter.data *= 3
    inputs = {
        "input_ids": torch.randint(5, 45, (2, 12)),
        "attention_mask": torch.ones(2, 12, dtype=torch.long),
        "entity_ids": torch.tensor([[1, 2], [3, 4]]),
        "entity_attention_mask": torch.ones(2, 2, dtype=torch.long),
        "entity_position_ids": torch.tensor([[[1, 2, -1], [3, 4, -1]]] * 2),
    }
    return model, inputs


def rows_by_rules(output: Any, y: Tensor) -> Tensor:
    """R by eqs. 5 and 6 of the maps that a model returned, (batch, tokens, tokens)."""
    R = torch.eye(output.attentions[0].shape[-1]).double().expand(len(y), -1, -1)
    for A, gradient in zip(output.attentions, torch.autograd.grad(y.sum(), output.attentions), strict=True):
        R = R + (A * gradient).clamp(min=0).mean(1).detach() @ R
    return R


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("label", [None, 3])
def test_a_pair_of_entities(label: int | None, padded: bool) -> None:
    """The rows of both entities are read."""
    model, inputs = luke("LukeForEntityPairClassification")
    inputs["attention_mask"][1, 9:] = 0 if padded else 1
    found = heedmap.explain(model, inputs, target=label)
    output = model(**inputs, output_attentions=True)
    picked = output.logits.argmax(-1) if label is None else torch.full((2,), label)
    wanted = rows_by_rules(output, output.logits.gather(1, picked[:, None]))[:, 12:].mean(1)
    row = torch.cat([found["text"], found["entity"]], 1).double()
    torch.testing.assert_close(row, wanted, rtol=1e-6, atol=1e-6 * float(wanted.max()))
    assert not padded or not bool(row[1, 9:12].any())


@pytest.mark.parametrize("label", range(5))
def test_a_span_of_words_beside_its_entity(label: int) -> None:
    """The rows of its first and last word and of its entity are read, with equal weights."""
    model, inputs = luke("LukeForEntitySpanClassification")
    inputs |= {"entity_start_positions": torch.tensor([[1, 3]] * 2), "entity_end_positions": torch.tensor([[2, 4]] * 2)}
    found = heedmap.explain(model, inputs, target=lambda output: output.logits[:, 1, label])
    output = model(**inputs, output_attentions=True)
    wanted = rows_by_rules(output, output.logits[:, 1, label])[:, [3, 4, 13]].mean(1)
    row = torch.cat([found["text"], found["entity"]], 1).double()
    torch.testing.assert_close(row, wanted, rtol=1e-6, atol=1e-6 * float(wanted.max()))


def test_the_start_and_the_end_of_an_answer() -> None:
    """The rows of both are read, with equal weights; where they are one, that row without itself."""
    from heedmap.targets import AnswerSpan

    model, inputs = luke("LukeForQuestionAnswering", labels=2)
    for start, end in ((2, 5), (4, 4)):
        found = heedmap.explain(model, inputs, target=AnswerSpan(start, end))
        output = model(**inputs, output_attentions=True)
        y = output.start_logits[:, start] + output.end_logits[:, end]
        wanted = rows_by_rules(output, y)[:, [start, end]].mean(1)
        wanted = wanted.index_fill(1, torch.tensor([start]), 0) if start == end else wanted
        torch.testing.assert_close(
            torch.cat([found["text"], found["entity"]], 1).double(), wanted, rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(found.scores.double(), y.detach(), rtol=1e-5, atol=1e-6)


def test_a_model_is_explained_as_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Falcon computes another function where it returns its attention: the map is that of the one that it answers with."""
    from transformers import FalconConfig, FalconForSequenceClassification

    torch.manual_seed(0)
    config = FalconConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=50,
        num_labels=5,
        alibi=True,
        pad_token_id=0,
    )
    model = FalconForSequenceClassification(config).eval().double()
    for parameter in model.parameters():
        parameter.data *= 3
    inputs = {"input_ids": torch.randint(5, 45, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    found = heedmap.explain(model, inputs, target=1)
    answer = model(**inputs).logits[:, 1].detach()
    other = model(**inputs, output_attentions=True).logits[:, 1].detach()
    assert not torch.allclose(answer, other, atol=1e-3)
    torch.testing.assert_close(found.scores.double(), answer, rtol=1e-5, atol=1e-6)
    maps: list[Tensor] = []

    def written_out(
        q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, *more: Any, **given: Any
    ) -> Tensor:
        scores = q @ k.mT * q.shape[-1] ** -0.5
        if given.get("is_causal"):
            scores = scores.masked_fill(torch.ones(7, 7).tril() == 0, -torch.inf)
        scores = scores if attn_mask is None else scores + attn_mask
        maps.append(scores.softmax(-1))
        return maps[-1] @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", written_out)
    y = model(**inputs).logits[:, 1]
    torch.testing.assert_close(y.detach(), answer)
    R = torch.eye(7).double()
    for A, gradient in zip(maps, torch.autograd.grad(y.sum(), maps), strict=True):
        R = R + (A * gradient).clamp(min=0).mean(1).detach() @ R
    torch.testing.assert_close(
        found["text"].double(), R[:, -1].index_fill(1, torch.tensor([6]), 0), rtol=1e-5, atol=1e-7
    )
