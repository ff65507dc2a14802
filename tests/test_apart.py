"""Samples that cannot be told apart in one batch are explained one by one, as they would be by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError, InputError, TargetError

D = 16


class Packed(nn.Module):
    """Attention over one row of all samples' patches, each of which hears its own sample only; a class from their mean.

    Args:
        counted: samples have as many patches as an input says; else all have the same number.
    """

    def __init__(self, counted: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.counted = counted
        self.embed, self.qkv, self.head = nn.Linear(6, D), nn.Linear(D, 3 * D), nn.Linear(D, 3)
        self.double().eval()
        self.maps: list[Tensor] = []

    def forward(self, patches: Tensor, lengths: Tensor | None = None, samples: int = 2) -> dict[str, Tensor]:
        counts = lengths if lengths is not None else torch.full((samples,), len(patches) // samples)
        owner = torch.arange(len(counts)).repeat_interleave(counts)
        x = self.embed(patches)[None]
        for _ in range(2):
            q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
            mask = owner[:, None] != owner
            self.maps.append((q @ k.mT * 2).masked_fill(mask, -torch.inf).softmax(-1))
            x = x + (self.maps[-1] @ v).transpose(1, 2).flatten(2)
        pooled = torch.stack([x[0, owner == i].mean(0) for i in range(len(counts))])
        return {"logits": self.head(pooled), "patches": x[0]}


def relevance(model: Packed, patches: Tensor, label: int) -> Tensor:
    """Eq. 5 and 6 written out, for one sample alone; all of its rows are read."""
    model.maps.clear()
    y = model(patches, torch.tensor([len(patches)]))["logits"][0, label]
    r = torch.eye(len(patches)).double()
    for a, g in zip(model.maps, torch.autograd.grad(y, model.maps), strict=True):
        r = r + (a[0] * g[0]).clamp(min=0).mean(0).detach() @ r
    return r.mean(0)


COUNTS = [4, 2, 3]


def parcel() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"patches": torch.randn(sum(COUNTS), 6).double(), "lengths": torch.tensor(COUNTS)}


@pytest.mark.parametrize("labels", [1, (0, 2, 1), None])
def test_a_row_of_patches_of_unequal_samples(labels: Any) -> None:
    """What is chosen for the batch is what is explained, also where each sample has a target of its own."""
    model, inputs = Packed(), parcel()
    found = heedmap.explain(model, inputs, target=labels)
    top = model(**inputs)["logits"].argmax(-1).tolist()
    wanted = top if labels is None else [labels] * 3 if isinstance(labels, int) else list(labels)
    assert found["patches"].shape == (3, max(COUNTS))
    assert found.target == tuple(f"class {c}" for c in wanted)
    assert found.prediction is not None
    assert found.prediction.tolist() == top
    positions = found.segments["patches"].positions
    for i, own in enumerate(inputs["patches"].split(COUNTS)):
        torch.testing.assert_close(
            found["patches"][i, : len(own)].double(), relevance(model, own, wanted[i]), rtol=1e-5, atol=1e-7
        )
        assert found["patches"][i, len(own) :].eq(0).all()
        assert positions[i].tolist() == [*range(len(own)), *[-1] * (max(COUNTS) - len(own))]
    assert any("one by one" in note for note in found.flow.notes)
    assert found.sample(1).target == found.target[1:2]


def test_several_targets_by_several_methods() -> None:
    """One by one by the library is one by one by hand."""
    model, inputs = Packed(), parcel()
    for method in ("generic", "rollout", "raw_attention"):
        found = heedmap.explain(model, inputs, target=[2, lambda out: out["logits"][:, 0] ** 2], method=method)
        for sample, (patches, count) in enumerate(zip(inputs["patches"].split(COUNTS), COUNTS, strict=True)):
            alone = {"patches": patches, "lengths": torch.tensor([count])}
            by_hand = heedmap.explain(model, alone, target=[2, lambda out: out["logits"][:, 0] ** 2], method=method)
            for one, hand in zip(found, by_hand, strict=True):
                torch.testing.assert_close(one["patches"][sample, :count], hand["patches"][0])
                torch.testing.assert_close(one.scores[sample], hand.scores[0])


class Compared(Packed):
    """Samples hear each other: there is no sample alone."""

    def forward(self, patches: Tensor, lengths: Tensor | None = None, samples: int = 2) -> dict[str, Tensor]:
        out = super().forward(patches, lengths, samples)
        return {"logits": out["logits"] - out["logits"].mean(0)}


def test_samples_that_hear_each_other_are_refused() -> None:
    with pytest.raises(HeedmapError) as error:
        heedmap.explain(Compared(), parcel(), target=1)
    assert "test_apart.py" in str(error.value)


class Shared(nn.Module):
    """A question and a document, each a row of patches, of one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Packed()

    def forward(self, question: Tensor, document: Tensor) -> Tensor:
        return self.inner(torch.cat([question, document]), torch.tensor([len(question) + len(document)]))["logits"]


def test_rows_of_one_sample() -> None:
    """Of how many samples the inputs are, the target's values tell."""
    model, given = Shared(), {"question": torch.randn(3, 6).double(), "document": torch.randn(5, 6).double()}
    found = heedmap.explain(model, given, target=1)
    wanted = relevance(model.inner, torch.cat([given["question"], given["document"]]), 1)
    torch.testing.assert_close(
        torch.cat([found["question"], found["document"]], 1)[0].double(), wanted, rtol=1e-5, atol=1e-7
    )


class Means(Shared):
    """One value for each row of the document."""

    def forward(self, question: Tensor, document: Tensor) -> Tensor:
        return super().forward(question, document) * document[:, :3]


def test_inputs_of_which_nobody_knows_whose_they_are() -> None:
    given = {"question": torch.randn(3, 6).double(), "document": torch.randn(5, 6).double()}
    with pytest.raises(InputError, match="question: 3, document: 5"):
        heedmap.explain(Means(), given, target=1)


@pytest.mark.parametrize("grids", [[[1, 4, 4], [1, 2, 4]], [[1, 2, 2], [1, 4, 4], [1, 2, 4]]], ids=["2", "1 and 2"])
def test_pictures_of_unequal_size_and_number_in_one_row(grids: list[list[int]]) -> None:
    """Qwen2-VL packs the patches of all pictures of the batch; how many pictures a sample has, only its words tell."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    from conformance.tiny_models import livened

    text = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "vocab_size": 60, "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {"embed_dim": 32, "depth": 1, "num_heads": 4, "hidden_size": 32, "patch_size": 4, "spatial_merge_size": 2}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, image_token_id=59, vision_start_token_id=58)
    torch.manual_seed(0)
    model = livened(Qwen2VLForConditionalGeneration(config)).double()
    ids = torch.randint(5, 50, (2, 11))
    places = [range(2, 6), range(2, 4)] if len(grids) == 2 else [range(2, 3), [2, 3, 4, 5, 7, 8]]
    for row, place in zip(ids, places, strict=True):
        row[list(place)] = 59
    sizes = [h * w for _, h, w in grids]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == 59).long(),
        "pixel_values": torch.randn(sum(sizes), 3 * 2 * 4 * 4).double(),
        "image_grid_thw": torch.tensor(grids),
    }
    found = heedmap.explain(model, inputs, target=7)
    begun = 0
    for sample, pictures in enumerate([1, len(grids) - 1]):
        rows = slice(sum(sizes[:begun]), sum(sizes[: begun + pictures]))
        alone = {name: value[sample : sample + 1] for name, value in inputs.items() if len(value) == 2}
        alone |= {
            "pixel_values": inputs["pixel_values"][rows],
            "image_grid_thw": inputs["image_grid_thw"][begun:][:pictures],
        }
        by_hand = heedmap.explain(model, alone, target=7)
        for name, segment in by_hand.segments.items():
            torch.testing.assert_close(found[name][sample, : segment.relevance.shape[1]], segment.relevance[0])
        begun += pictures


def test_a_target_that_is_no_value_a_sample() -> None:
    """A batch is what the inputs have, where each sample is alone what it is in the batch: then the target is at fault."""
    model, x = Turned(words=True, batch_first=True), torch.randint(0, 30, (3, 5))
    for target in (lambda out: out[:2, 0, 1], lambda out: out[:, :, 1].flatten(), lambda out: out[:1, 0, 0]):
        with pytest.raises(TargetError, match=r"the target has shape .*expected one value per sample, \(3,\)"):
            heedmap.explain(model, x, target=target)


class Turned(nn.Module):
    """A sequence-first encoder: (tokens, batch, features), or ids (tokens, batch)."""

    def __init__(self, words: bool, batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(30, D) if words else nn.Linear(6, D)
        layer = nn.TransformerEncoderLayer(D, 2, 24, batch_first=batch_first)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(D, 3)
        self.double().eval()

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(self.embed(x), src_key_padding_mask=padding))


def by_rules(model: Turned, x: Tensor, read: int, label: int) -> Tensor:
    """The rules on nn.MultiheadAttention written out, for one sequence (tokens, …)."""
    x, maps = model.embed(x), []
    for layer in model.encoder.layers:
        given = F.linear(x, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).unflatten(-1, (3, 2, -1))
        q, k, v = given.permute(1, 2, 0, 3)
        maps.append((q @ k.mT / 8**0.5).softmax(-1))
        heard = layer.self_attn.out_proj((maps[-1] @ v).transpose(0, 1).flatten(1))
        x = layer.norm1(x + heard)
        x = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    r = torch.eye(len(x)).double()
    for a, g in zip(maps, torch.autograd.grad(model.head(x)[read, label], maps), strict=True):
        r = r + (a * g).clamp(min=0).mean(0).detach() @ r
    return r[read].index_fill(0, torch.tensor([read]), 0)


@pytest.mark.parametrize("words", [True, False], ids=["ids", "features"])
@pytest.mark.parametrize(("tokens", "batch"), [(5, 2), (4, 4), (5, 1), (2, 4)])
def test_a_model_whose_batch_comes_second(words: bool, tokens: int, batch: int) -> None:
    model = Turned(words)
    torch.manual_seed(2)
    x = torch.randint(0, 30, (tokens, batch)) if words else torch.randn(tokens, batch, 6).double()
    found = heedmap.explain(model, x, target=lambda out: out[-1, :, 1])
    (segment,) = found.segments.values()
    assert segment.relevance.shape == (batch, tokens)
    assert any("one by one" in note for note in found.flow.notes) == (tokens == batch > 1)
    for sample in range(batch):
        wanted = by_rules(model, x[:, sample], tokens - 1, 1)
        torch.testing.assert_close(segment.relevance[sample].double(), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("method", ["rollout", "attn_lrp", "partial_lrp", "integrated_gradients", "occlusion"])
@pytest.mark.parametrize("words", [True, False], ids=["ids", "features"])
def test_methods_where_the_batch_comes_second(method: str, words: bool) -> None:
    model, twin = Turned(words), Turned(words, batch_first=True)
    torch.manual_seed(2)
    x = torch.randint(0, 30, (5, 2)) if words else torch.randn(5, 2, 6).double()
    found = heedmap.explain(model, x, target=lambda out: out[0, :, 1], method=method)
    wanted = heedmap.explain(twin, x.transpose(0, 1), target=lambda out: out[:, 0, 1], method=method)
    for one, other in zip(found.segments.values(), wanted.segments.values(), strict=True):
        torch.testing.assert_close(one.relevance, other.relevance, rtol=1e-4, atol=1e-6)


class Translator(nn.Module):
    """torch's nn.Transformer as it is by default: source (tokens, batch, features), answer (words, batch, features)."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.transformer = nn.Transformer(D, 2, 2, 2, 24, batch_first=batch_first)
        self.double().eval()

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        return self.transformer(src, tgt)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_an_encoder_and_a_decoder_whose_batch_comes_second() -> None:
    torch.manual_seed(2)
    src, tgt = torch.randn(6, 2, D).double(), torch.randn(3, 2, D).double()
    found = heedmap.explain(Translator(), (src, tgt), target=lambda out: out[-1, :, 1])
    given = (src.transpose(0, 1), tgt.transpose(0, 1))
    wanted = heedmap.explain(Translator(batch_first=True), given, target=lambda out: out[:, -1, 1])
    assert {name: s.relevance.shape for name, s in found.segments.items()} == {"src": (2, 6), "tgt": (2, 3)}
    for name in wanted.segments:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-7)
