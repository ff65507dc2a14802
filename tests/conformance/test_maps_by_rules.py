"""Maps of whole models are those of the paper's rules on the attention that each model itself has, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import AMONG_WORDS, hf, livened
from torch import Tensor, nn

import heedmap
from heedmap.errors import InputError, UnfollowedAttentionError
from heedmap.targets import NextToken
from oracles import rules

Built = tuple[nn.Module, dict[str, Tensor]]
DIM, HEADS = 24, 3


def same(found: Tensor, wanted: np.ndarray) -> None:
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())


class Explicit(nn.Module):
    """What an nn.MultiheadAttention does, (batch, tokens, features), with A in the open."""

    def __init__(self, given: nn.MultiheadAttention, maps: list[Tensor]) -> None:
        super().__init__()
        self.given, self.maps = given, maps

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        parts = zip((q, k, v), self.given.in_proj_weight.chunk(3), self.given.in_proj_bias.chunk(3), strict=True)
        q, k, v = ((x @ w.T + b).unflatten(-1, (self.given.num_heads, -1)).transpose(1, 2) for x, w, b in parts)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        probs = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        self.maps.append(probs)
        return self.given.out_proj((probs @ v).transpose(1, 2).flatten(2)), None


def opened(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A copy of the model, and where each A of its next run will be found, in order."""
    model, maps = copy.deepcopy(model), list[Tensor]()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, Explicit(child, maps))
    return model, maps


def cams(maps: list[Tensor], target: Tensor) -> list[np.ndarray]:
    """Eq. 5 of the first sample, for each A; zero where the target does not depend on it."""
    gradients = torch.autograd.grad(target, maps, allow_unused=True)
    both = [(a[0], torch.zeros_like(a[0]) if g is None else g[0]) for a, g in zip(maps, gradients, strict=True)]
    return [rules.average_heads(a.detach().numpy(), g.numpy()) for a, g in both]


def coca() -> Built:
    """Pooling queries ask a picture; of them all but the first are asked by the words, of which the last two are left."""
    coca_model = pytest.importorskip("open_clip.coca_model")
    size = {"width": 32, "layers": 2}
    text = {"context_length": 10, "vocab_size": 50, "heads": 4, **size}
    vision = {
        "image_size": 32,
        "patch_size": 8,
        "head_width": 8,
        "attentional_pool": True,
        "attn_pooler_heads": 4,
        **size,
    }
    torch.manual_seed(0)
    model = coca_model.CoCa(
        embed_dim=32,
        multimodal_cfg={**text, "mlp_ratio": 2},
        vision_cfg={**vision, "attn_pooler_queries": 6, "output_tokens": True},
        text_cfg={**text, "embed_cls": True, "output_tokens": True},
    )
    livened(model)
    for parameter in (p for p in model.parameters() if p.dim() < 2 or p.std() == 0 or not p.isfinite().all()):
        nn.init.normal_(parameter, std=0.3) if parameter.dim() else None
    nn.init.normal_(model.text_decoder.text_projection)
    words = torch.randint(1, 48, (1, 10))
    words[:, -1] = 49
    return model.double().eval(), {"image": torch.randn(1, 3, 32, 32).double(), "text": words}


def test_coca_reads_its_picture_through_its_queries() -> None:
    model, inputs = coca()
    found = heedmap.explain(model, inputs, target=NextToken(position=3))
    explicit, maps = opened(model)
    logits = explicit(**inputs)["logits"][0, 3]
    image, pooled, text, words = np.eye(17), np.eye(6), np.eye(11), np.eye(9)
    c = cams(maps, logits.max())
    assert [a.shape for a in c] == [(17, 17)] * 2 + [(6, 17)] + [(11, 11)] * 2 + [(9, 9), (9, 5)] * 2
    for cam in c[:2]:
        image = image + cam @ image
    pooled_image = rules.rule_10(c[2], pooled, image)
    for cam in c[3:5]:
        text = text + cam @ text
    words_text, words_pooled, words_image = text[:9], np.zeros((9, 6)), np.zeros((9, 17))
    for own, asked in (c[5:7], c[7:9]):
        words_text, words = words_text + own @ words_text, words + own @ words
        words_pooled, words_image = words_pooled + own @ words_pooled, words_image + own @ words_image
        words_pooled, words_image = words_pooled + asked @ pooled[1:], words_image + asked @ pooled_image[1:]
    words_text[3, 3] = 0
    same(found["image"], words_image[3, 1:])
    same(found["queries"], words_pooled[3])
    same(found["text"], words_text[3, :10])


SOUND: dict[str, Any] = {
    "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2, "num_labels": 5,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "vocab_size": 30, "hidden_size": 32,
    "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tokens"), [("Wav2Vec2ForCTC", 79), ("SEWForCTC", 39), ("SEWForSequenceClassification", 39)]
)
def test_sound(name: str, tokens: int) -> None:
    """SEW makes one token of two frames, and leaves the last one."""
    torch.manual_seed(0)
    config = name.partition("For")[0] + "Config"
    model = livened(hf(name, config, **SOUND)()).double()
    wave = torch.randn(1, 800, dtype=torch.float64)
    spells = name.endswith("CTC")
    found = heedmap.explain(model, wave, target=heedmap.targets.TokenLabel(token=14, label=9) if spells else 2)
    eager = copy.deepcopy(model).requires_grad_(True)
    eager.set_attn_implementation("eager")
    output = eager(wave, output_attentions=True)
    R = np.eye(tokens)
    for cam in cams(list(output.attentions), output.logits[0, 14, 9] if spells else output.logits[0, 2]):
        R = R + cam @ R
    (stream,) = found.flow.streams
    assert stream.rows is not None
    read = list(stream.rows[0])
    assert len(read) == (1 if spells else tokens)
    row = R[read].mean(0)
    if spells:
        row[read] = 0
    same(found["audio"][:, :tokens], row)
    assert not found["audio"][:, tokens:].any()


class Beside(nn.Module):
    """Words ask patches; the answer reads the last word, and patches beside it: ``where`` they are read."""

    def __init__(self, where: str, rows: slice) -> None:
        super().__init__()
        self.where, self.rows = where, rows
        self.embed, self.patches, self.head = nn.Embedding(60, DIM), nn.Linear(6, DIM), nn.Linear(DIM, 4)
        self.own, self.cross = (nn.MultiheadAttention(DIM, HEADS, batch_first=True) for _ in range(2))

    def forward(self, input_ids: Tensor, patches: Tensor) -> Tensor:
        words, seen = self.embed(input_ids), self.patches(patches)
        before = seen
        if self.where != "no attention":
            seen = seen + self.own(seen, seen, seen)[0]
        words = words + self.cross(words, seen, seen)[0]
        read = seen if self.where == "after attention" else before
        return self.head(words[:, -1] + read[:, self.rows].mean(1))


@pytest.mark.parametrize("rows", [slice(None), slice(1, 3), slice(2, 3)], ids=str)
@pytest.mark.parametrize("where", ["no attention", "before attention", "after attention"])
def test_what_is_read_beside_the_words_that_asked_it(where: str, rows: slice) -> None:
    """The rows that are read themselves, not those that the words asked."""
    torch.manual_seed(5)
    model = livened(Beside(where, rows)).double()
    inputs = {"input_ids": torch.tensor([[7, 8, 9]]), "patches": torch.randn(1, 5, 6).double()}
    found = heedmap.explain(model, inputs, target=2)
    explicit, maps = opened(model)
    *own, cross = cams(maps, explicit(**inputs)[0, 2])
    seen = np.eye(5) + sum(own)
    read = (seen if where == "after attention" else np.eye(5))[rows].mean(0)
    if len(range(*rows.indices(5))) == 1:
        read[rows] = 0
    same(found["patches"], rules.rule_10(cross, np.eye(3), seen)[-1] + read)
    assert found.flow.stream("patches").rows == (tuple(range(*rows.indices(5))),)


OF_STREAMS_APART = ("token_tm", "value_zeroing", "attcat", "fullgrad_plus")
"""Methods of streams that ask themselves only."""
REFUSED = (*OF_STREAMS_APART, *AMONG_WORDS)


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_is_not_of_two_streams_is_refused_where_one_asks_another(method: str) -> None:
    torch.manual_seed(5)
    inputs = {"input_ids": torch.tensor([[7, 8, 9]]), "patches": torch.randn(1, 5, 6).double()}
    with pytest.raises(UnfollowedAttentionError, match=f"'{method}' is not defined here"):
        heedmap.explain(livened(Beside("no attention", slice(None))).double(), inputs, method=method, target=1)


@pytest.mark.parametrize("method", [method for method in heedmap.METHODS if method not in REFUSED])
def test_every_method_takes_what_is_read_without_attention(method: str) -> None:
    torch.manual_seed(5)
    model = livened(Beside("no attention", slice(None))).double()
    inputs = {"input_ids": torch.tensor([[7, 8, 9], [1, 2, 3]]), "patches": torch.randn(2, 5, 6).double()}
    together = heedmap.explain(model, inputs, method=method, target=1)
    for sample in range(2):
        single = heedmap.explain(model, {k: v[sample : sample + 1] for k, v in inputs.items()}, method=method, target=1)
        if method != "random":
            torch.testing.assert_close(together["patches"][sample], single["patches"][0], rtol=1e-4, atol=1e-6)


def test_labels_are_the_words_of_a_decoder() -> None:
    torch.manual_seed(0)
    model = livened(
        hf(
            "T5ForConditionalGeneration", "T5Config", vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            decoder_start_token_id=0, pad_token_id=0,
        )()
    )  # fmt: skip
    words, labels = torch.randint(2, 50, (2, 6)), torch.randint(2, 50, (2, 4))
    found = heedmap.explain(model, {"input_ids": words, "labels": labels}, target=NextToken(position=3))
    shifted = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)
    wanted = heedmap.explain(model, {"input_ids": words, "decoder_input_ids": shifted}, target=NextToken(position=3))
    assert list(found.segments) == ["text", "decoder"]
    for name in found.segments:
        torch.testing.assert_close(found[name], wanted[name])
    model.config.decoder_start_token_id = None
    with pytest.raises(InputError, match="refused the inputs"):
        heedmap.explain(model, {"input_ids": words, "labels": labels})
