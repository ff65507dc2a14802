"""Models whose picture tower is not followed: the language model's own map, with the picture's tokens as leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import livened
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError, InputError, MixingError, UnfollowedAttentionError

IMAGE = 51
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
WORDS = {**SMALL, "vocab_size": 60, "max_position_embeddings": 80, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2, "num_key_value_heads": 2}  # fmt: skip
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
pytestmark = pytest.mark.filterwarnings("ignore")


def words(images: int, batch: int = 1) -> dict[str, Tensor]:
    ids = torch.tensor([[7, *[IMAGE] * images, 9 + i, 10] for i in range(batch)])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def qwen(kind: str, **vision: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    import transformers

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    text = {**WORDS, "rope_parameters": rope, "rope_scaling": rope, **({"head_dim": 8} if kind == "Qwen3VL" else {})}
    tower = {"depth": 2, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2,
             "temporal_patch_size": 2, **vision}  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        vision_config=tower, text_config=text, image_token_id=IMAGE, video_token_id=52, vision_start_token_id=53
    )
    ids = torch.tensor([[7, 53, *[IMAGE] * 4, 54, 9, 10]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(16, 96),
              "image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": (ids == IMAGE).long()}  # fmt: skip
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), inputs


def llava_next() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    config = LlavaNextConfig(
        vision_config={**VISION, "model_type": "clip_vision_model"}, text_config={**WORDS, "model_type": "llama"},
        image_token_index=IMAGE, image_grid_pinpoints=[[32, 32], [32, 64], [64, 32]],
    )  # fmt: skip
    inputs = {**words(52), "pixel_values": torch.randn(1, 3, 3, 32, 32), "image_sizes": torch.tensor([[32, 64]])}
    return LlavaNextForConditionalGeneration(config), inputs


def idefics3(batch: int = 1) -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    config = Idefics3Config(
        vision_config=VISION, text_config={**WORDS, "model_type": "llama"}, image_token_id=IMAGE, scale_factor=2
    )
    inputs = {**words(8, batch), "pixel_values": torch.randn(batch, 2, 3, 32, 32)}
    return Idefics3ForConditionalGeneration(config), inputs


def internvl(batch: int = 1) -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        vision_config={**SMALL, "image_size": [32, 32], "patch_size": [8, 8]}, image_token_id=IMAGE,
        text_config={**WORDS, "model_type": "qwen2"}, downsample_ratio=0.5, image_seq_length=4,
    )  # fmt: skip
    return InternVLForConditionalGeneration(config), {
        **words(8, batch),
        "pixel_values": torch.randn(2 * batch, 3, 32, 32),
    }


def pixtral() -> tuple[nn.Module, dict[str, Tensor]]:
    """Two pictures, which its tower reads as one row of patches."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = LlavaConfig(
        vision_config={**VISION, "model_type": "pixtral", "head_dim": 8, "rope_parameters": rope},
        text_config={**WORDS, "model_type": "mistral"}, image_token_index=IMAGE, vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    sizes = torch.tensor([[32, 32], [32, 32]])
    return LlavaForConditionalGeneration(config), {
        **words(32), "pixel_values": torch.randn(2, 3, 32, 32), "image_sizes": sizes
    }  # fmt: skip


QWEN3 = {"out_hidden_size": 32, "intermediate_size": 48, "num_position_embeddings": 16}
MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]] = {
    "qwen2-vl": lambda: qwen("Qwen2VL", embed_dim=32, mlp_ratio=2),
    "qwen2.5-vl": lambda: qwen("Qwen2_5_VL", out_hidden_size=32, intermediate_size=48, window_size=16,
                               fullatt_block_indexes=[1]),
    "qwen3-vl": lambda: qwen("Qwen3VL", **QWEN3, deepstack_visual_indexes=[]),
    "qwen3-vl-deepstack": lambda: qwen("Qwen3VL", **QWEN3, deepstack_visual_indexes=[0]),
    "llava-next": llava_next,
    "idefics3": idefics3,
    "internvl": internvl,
    "pixtral": pixtral,
}  # fmt: skip


class LanguageModel(nn.Module):
    """The language model alone, called with the embeddings that it has inside, and all else as there."""

    def __init__(self, model: Any, inputs: dict[str, Tensor]) -> None:
        super().__init__()
        found: dict[str, Any] = {}
        language = model.model.text_model if hasattr(model.model, "text_model") else model.model.language_model

        def keep(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            found.update(kwargs)

        handle = language.register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            model(**inputs)
        handle.remove()
        self.language, self.head = language, model.lm_head
        self.embeds = found.pop("inputs_embeds")
        self.others = {k: v for k, v in found.items() if k not in ("input_ids", "past_key_values", "use_cache")}

    def forward(self, inputs_embeds: Tensor) -> Tensor:
        return self.head(self.language(inputs_embeds=inputs_embeds, use_cache=False, **self.others)[0])


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor], LanguageModel]:
    torch.manual_seed(3)
    model, inputs = MODELS[name]()
    model = livened(model)
    return model, inputs, LanguageModel(model, inputs)


def rows(explanation: heedmap.Explanation, tokens: int) -> Tensor:
    """The relevance of every row of the language model's stream."""
    found = torch.full((len(explanation.target), tokens), float("nan"))
    for segment in explanation.segments.values():
        for sample, (places, values) in enumerate(zip(segment.positions, segment.relevance, strict=True)):
            assert bool(found[sample, places[places >= 0]].isnan().all())
            found[sample, places[places >= 0]] = values[places >= 0]
    return found


METHODS = ("generic", "rollout", "raw_attention", "transformer_attribution", "input_x_gradient", "attn_lrp")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(MODELS))
def test_it_is_the_map_of_the_language_model_alone(name: str, method: str) -> None:
    model, inputs, alone = built(name)
    if name == "qwen3-vl-deepstack" and method in ("input_x_gradient", "attn_lrp"):
        with pytest.raises(HeedmapError, match="in several layers, of which it would see the first only"):
            heedmap.explain(model, inputs, method=method)
        return
    found = heedmap.explain(model, inputs, method=method)
    expected = heedmap.explain(alone, {"inputs_embeds": alone.embeds}, method=method)
    assert found.target == expected.target
    assert set(found.segments) == {"text", "image"}
    ids = inputs["input_ids"][0]
    assert found.segments["image"].positions[0].tolist() == (ids == IMAGE).nonzero()[:, 0].tolist()
    torch.testing.assert_close(rows(found, len(ids)), expected["text"], rtol=1e-4, atol=1e-6)
    assert float(found["image"].abs().max()) > 0
