"""Models whose words ask a picture tower that is not followed: layer by layer, through keys and values of its tokens alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import FEW, livened
from torch import Tensor, nn

import heedmap
from heedmap.attention.beginnings import Steps
from heedmap.errors import HeedmapError, MixingError, UnfollowedAttentionError

Built = tuple[nn.Module, dict[str, Tensor]]
pytestmark = pytest.mark.filterwarnings("ignore")


def donut(batch: int = 2) -> Built:
    """Windows of the picture are folded into the batch; every layer of the decoder asks the last patches."""
    from transformers import (
        DonutSwinConfig,
        DonutSwinModel,
        MBartConfig,
        MBartForCausalLM,
        VisionEncoderDecoderModel,
    )

    encoder = DonutSwinConfig(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    decoder = MBartConfig(
        vocab_size=60, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, encoder_layers=2,
        max_position_embeddings=40, is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    model = VisionEncoderDecoderModel(encoder=DonutSwinModel(encoder), decoder=MBartForCausalLM(decoder))
    ids = torch.tensor([[1, 7, 9 + i] for i in range(batch)])
    return model, {"pixel_values": torch.randn(batch, 3, 32, 32), "decoder_input_ids": ids}


def mllama(batch: int = 2) -> Built:
    """Tiles of the picture are one long row for its tower; two layers of the language model ask them, through gates."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration

    small = {"hidden_size": 32, "intermediate_size": 48}
    vision = {
        **small, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4, "image_size": 16, "patch_size": 8,
        "max_num_tiles": 4, "vision_output_dim": 64, "intermediate_layers_indices": [0],
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2]],
    }  # fmt: skip
    text = {
        **small, "vocab_size": 60, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "cross_attention_layers": [1, 3], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "max_position_embeddings": 80, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    model = MllamaForConditionalGeneration(MllamaConfig(vision_config=vision, text_config=text, image_token_index=51))
    ids = torch.tensor([[1, 51, 9 + i, 10, 11] for i in range(batch)])
    return gated(model, 0.7), {
        "aspect_ratio_ids": torch.full((batch, 1), 2),
        "aspect_ratio_mask": torch.tensor([[[1, 1, 0, 0]]] * batch),
        "cross_attention_mask": torch.tensor([[[[0] * 4]] + [[[1, 1, 0, 0]]] * 4] * batch),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(batch, 1, 4, 3, 16, 16),
    }


def gated(model: nn.Module, gate: float) -> nn.Module:
    """The model with its gates, which are zero when it is new, at ``gate``."""
    for name, parameter in model.named_parameters():
        if "gate" in name and parameter.numel() == 1:
            nn.init.constant_(parameter, gate)
    return model


MODELS: dict[str, tuple[Callable[..., Built], str, str, int]] = {
    "donut": (donut, "decoder", "decoder.model", 64),
    "mllama": (mllama, "text", "language_model", 20),
}
"""Name → model, segment of its words, path of its decoder, tokens of its picture."""


@cache
def built(name: str, kernel: str) -> Built:
    torch.manual_seed(3)
    model, inputs = MODELS[name][0]()
    model = livened(model).double()
    model.set_attn_implementation(kernel)
    return model, {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def normalised(relevance: Tensor) -> Tensor:
    """Equations 8 and 9."""
    rest = relevance - torch.eye(relevance.shape[-1])
    total = rest.sum(-1, keepdim=True)
    return torch.eye(rest.shape[-1]) + torch.where(total != 0, rest / total, 0.0)


def relevance(model: Any, inputs: dict[str, Tensor], path: str) -> tuple[Tensor, Tensor]:
    """Equations 5 to 10 on the maps of the decoder, by autograd: rows of the last words over words and picture."""
    model, maps = copy.deepcopy(model), []
    model.set_attn_implementation("eager")
    for name, module in model.named_modules():
        if path in name and name.endswith(("attn", "attention")):
            module.register_forward_hook(lambda _m, _a, out: maps.append(out[1]))
    best = model(**inputs).logits[:, -1].max(-1).values
    gradients = torch.autograd.grad(best.sum(), maps)
    words = maps[0].shape[-1]
    own, seen = torch.eye(words).expand(len(best), -1, -1).double(), torch.zeros(())
    for a, gradient in zip(maps, gradients, strict=True):
        cam = (a * gradient).clamp(min=0).mean(1).detach()
        if cam.shape[-1] == words:
            own, seen = own + cam @ own, seen + (cam @ seen if seen.dim() else 0.0)
        else:
            seen = seen + normalised(own).mT @ cam
    return own[:, -1].index_fill(1, torch.tensor([words - 1]), 0), seen[:, -1]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(MODELS))
def test_it_is_the_map_of_the_rules(name: str, kernel: str) -> None:
    _, words, path, tokens = MODELS[name]
    model, inputs = built(name, kernel)
    found = heedmap.explain(model, inputs)
    wanted = relevance(model, inputs, path)
    assert set(found.segments) == {words, "image"}
    assert found["image"].shape == (2, tokens)
    assert float(found["image"].max(-1).values.min()) > 0.01
    torch.testing.assert_close(found[words], wanted[0], rtol=1e-6, atol=1e-9, check_dtype=False)
    stops = "this map stops at the tokens that the model makes of" in repr(found)
    assert stops == (name != "donut")  # whose windows the second recorder follows
    if stops:
        torch.testing.assert_close(found["image"], wanted[1], rtol=1e-6, atol=1e-9, check_dtype=False)


@pytest.mark.parametrize("method", ["generic", "attn_lrp", "integrated_gradients", "occlusion", "rollout"])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_batch_equals_its_samples_one_by_one(name: str, method: str) -> None:
    model, inputs = built(name, "sdpa")
    together = heedmap.explain(model, inputs, method=method, **FEW.get(method, {}))
    for sample in range(2):
        single = heedmap.explain(
            model, {k: v[sample : sample + 1] for k, v in inputs.items()}, method=method, **FEW.get(method, {})
        )
        for segment in single.segments:
            torch.testing.assert_close(together[segment][sample], single[segment][0], rtol=1e-4, atol=1e-6)


def test_gates_of_zero_are_the_reason() -> None:
    model, inputs = built("mllama", "sdpa")
    model = copy.deepcopy(model)
    with pytest.raises(
        HeedmapError, match=r"no gradient to attention 1, .* a gate of zero .*language_model.layers.1.cross_attn"
    ):
        heedmap.explain(gated(model, 0.0), inputs)


DIM = 24


class Reader(nn.Module):
    """Words ask, in two layers, what a tower made that mixes its patches by a product over the batch."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.embed, self.patches = how, nn.Embedding(60, DIM), nn.Linear(6, DIM)
        self.query, self.both = (nn.ModuleList(nn.Linear(DIM, n * DIM) for _ in range(2)) for n in (1, 2))
        self.head = nn.Linear(DIM, 4)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        words, seen = self.embed(input_ids), self.patches(pixel_values)
        seen = seen + seen.flatten(0, 1).cumsum(0).reshape(seen.shape)
        for query, both in zip(self.query, self.both, strict=True):
            asked = seen.cumsum(1) if self.how == "mixed" else seen
            keys, values = both(asked).chunk(2, -1)
            if self.how == "unlike":
                keys = keys.flip(1)
            words = words + nn.functional.scaled_dot_product_attention(query(words), keys, values)
        return self.head(words[:, -1] + (seen.mean(1) if self.how == "answer" else 0))


def asked(how: str, method: str = "generic", **options: Any) -> heedmap.Explanation:
    torch.manual_seed(5)
    inputs = {"input_ids": torch.tensor([[7, 8, 9]]), "pixel_values": torch.randn(1, 5, 6)}
    return heedmap.explain(livened(Reader(how)), inputs, method=method, **options)


def test_keys_and_values_of_one_projection_end_the_tower_where_all_layers_read() -> None:
    found = asked("one projection", method="legrad")
    assert [(a.stream, a.source) for a in found.flow.attentions] == [("text", "image")] * 2
    assert found["image"].shape == (1, 5)
    assert float(found["image"].min(-1).values) >= 0
    assert float(found["image"].max()) > 0


def test_a_tower_that_does_not_end_in_tokens_is_followed_by_numbers() -> None:
    found = asked("answer")
    assert [a.form for a in found.flow.attentions] == ["mixer", "sdpa", "sdpa", "mixer"]
    assert float(found["image"].max()) > 0
    with pytest.raises((MixingError, UnfollowedAttentionError)):
        asked("answer", mixers=False)


def test_where_it_moves_them_it_is_followed_by_numbers() -> None:
    found = asked("unlike")
    assert found["image"].shape == (1, 5)
    assert float(found["image"].max()) > 0


def test_where_it_mixes_them_it_is_refused() -> None:
    with pytest.raises(MixingError, match="mix tokens of 'pixel_values'"):
        asked("mixed")


def test_the_latest_step_that_all_come_from() -> None:
    steps, pictures, sound = Steps(), frozenset([0]), frozenset([1])
    first = steps.made(pictures, [None])
    tokens = steps.made(pictures, [first])
    heard = steps.made(sound, [None])
    for _ in range(2):
        steps.ask([steps.made(pictures, [steps.made(pictures, [tokens])]), steps.made(pictures, [tokens]), None])
    assert steps.parting() == {tokens}
    steps.ask([steps.made(sound, [heard])])
    assert steps.parting() == {tokens, (sound, 2)}
    steps.ask([steps.made(pictures, [None])])
    assert steps.parting() == {(sound, 2)}
