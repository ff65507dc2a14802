"""Models whose picture tower only the second recorder follows, if any: of the language model's stream, its own map."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import FEW, livened
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError, MixingError

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


def gemma3() -> tuple[nn.Module, dict[str, Tensor]]:
    """Its tower's patches are averaged by fours before the language model reads them."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    vision = {**VISION, "model_type": "siglip_vision_model", "vision_use_head": False}
    language = {**WORDS, "model_type": "gemma3_text", "num_key_value_heads": 1, "head_dim": 8}
    config = Gemma3Config(vision_config=vision, text_config=language, mm_tokens_per_image=4, image_token_index=IMAGE)
    model = Gemma3ForConditionalGeneration(config)
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero in a new model
    inputs = words(4)
    types = (inputs["input_ids"] == IMAGE).long()
    return model, {**inputs, "token_type_ids": types, "pixel_values": torch.randn(1, 3, 32, 32)}


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
    "gemma3": gemma3,
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
    """The relevance of every row of the language model's stream that is of an input."""
    found = torch.full((len(explanation.target), tokens), float("nan"))
    own = explanation.segments["text"].stream
    for segment in (s for s in explanation.segments.values() if s.stream == own):
        for sample, (places, values) in enumerate(zip(segment.positions, segment.relevance, strict=True)):
            assert bool(found[sample, places[places >= 0]].isnan().all())
            found[sample, places[places >= 0]] = values[places >= 0]
    return found


BY_NUMBERS = ("generic", "rollout", "raw_attention")
METHODS = ("generic", "rollout", "raw_attention", "transformer_attribution", "input_x_gradient", "attn_lrp")


def is_whole(name: str, method: str) -> bool:
    """Whether a method is defined through the tower: where patches are added to tokens in a later layer, by probabilities not."""
    return method == "generic" or (method in BY_NUMBERS and name != "qwen3-vl-deepstack")


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
    ids = inputs["input_ids"][0]
    values, own = rows(found, len(ids)), expected["text"]
    learned = 4 if name == "llava-next" and is_whole(name, method) else 0  # the ends of its lines
    assert int(values.isnan().sum()) == learned
    torch.testing.assert_close(values.where(~values.isnan(), own), own, rtol=1e-4, atol=1e-6)
    pictures = [s for s in found.segments.values() if s.name.startswith("image") and "encoder" not in s.name]
    places = torch.cat([s.positions[0] for s in pictures])
    assert sorted(places.tolist()) == [i for i in (ids == IMAGE).nonzero()[:, 0].tolist() if not values[0, i].isnan()]
    assert min(float(s.relevance.abs().max()) for s in pictures) > 0
    assert any("encoder" in s for s in found.segments) == is_whole(name, method)


@pytest.mark.parametrize("method", ["generic", "integrated_gradients", "occlusion", "full_lrp"])
@pytest.mark.parametrize("build", [idefics3, internvl])
def test_a_batch_equals_its_samples_one_by_one(build: Callable[..., Any], method: str) -> None:
    torch.manual_seed(3)
    model, inputs = build(batch=2)
    model, pictures = livened(model).double(), len(inputs["pixel_values"]) // 2
    inputs["pixel_values"] = inputs["pixel_values"].double()
    together = heedmap.explain(model, inputs, method=method, **FEW.get(method, {}))
    for sample in range(2):
        own = {k: v[sample : sample + 1] for k, v in inputs.items()}
        own["pixel_values"] = inputs["pixel_values"][sample * pictures : (sample + 1) * pictures]
        single = heedmap.explain(model, own, method=method, **FEW.get(method, {}))
        for name in ("text", "image"):
            torch.testing.assert_close(together[name][sample], single[name][0], rtol=1e-4, atol=1e-6)


def test_what_a_person_reads_says_where_the_map_stops_and_why() -> None:
    from rich.console import Console

    from heedmap.render.terminal import terminal

    inputs = {"input_ids": torch.tensor([[IMAGE, IMAGE, 7]]), "pixel_values": torch.randn(2, 6)}
    model = own("scatter")
    found = heedmap.explain(model, inputs)
    console = Console(width=600)
    with console.capture() as shown:
        console.print(terminal(found))
    says = "this map stops at the tokens that the model makes of pixel_values"
    for text in (repr(found), shown.get(), found.to_html(), str(heedmap.inspect(model, inputs))):
        assert says in text
        assert "the parts of all pictures or sounds are one batch of their own there (pixel_values (2, 6) for 1" in text


def test_the_model_answers_as_before() -> None:
    model, inputs, _ = built("qwen3-vl-deepstack")
    with torch.no_grad():
        before = model(**inputs).logits
        heedmap.explain(model, inputs)
        assert torch.equal(model(**inputs).logits, before)


DIM = 24


class Own(nn.Module):
    """Word embeddings, a tower that mixes patches by a product over the batch, a transformer."""

    def __init__(self, join: str) -> None:
        super().__init__()
        self.embed, self.patches, self.join = nn.Embedding(60, DIM), nn.Linear(6, DIM), join
        self.prefix, self.head = nn.Parameter(torch.randn(2, DIM)), nn.Linear(DIM, 4)
        self.layer = nn.TransformerEncoderLayer(DIM, 3, 30, batch_first=True)
        self.reader = nn.MultiheadAttention(DIM, 3, batch_first=True)

    def tower(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values)
        x = x + torch.nn.functional.scaled_dot_product_attention(x, x, x)
        return x + x.mean(0, keepdim=True)

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        words, seen = self.embed(input_ids), self.tower(pixel_values)
        if self.join == "prefix":
            x = torch.cat([self.prefix.expand(len(words), -1, -1), seen.reshape(len(words), -1, DIM), words], 1)
        if self.join == "scatter":
            x = words.masked_scatter((input_ids == IMAGE)[..., None], seen)
        if self.join == "written":
            x = words.clone()
            x[input_ids == IMAGE] = seen
        if self.join == "added":
            x = words + seen[: words.shape[1]]
        if self.join == "twice":
            x = torch.cat([seen := seen[None], seen, words], 1)
        if self.join == "mixed":
            x = torch.cat([seen[None].cumsum(1), words], 1)
            x = torch.cat([x.cumsum(1), words], 1)
        if self.join == "answer":
            return self.head(self.layer(words)[:, -1] + seen.mean(0))
        if self.join == "asked":
            x = words + self.reader(words, seen[None], seen[None], need_weights=False)[0]
        return self.head(self.layer(x)[:, -1])


def own(join: str) -> Own:
    torch.manual_seed(5)
    return livened(Own(join))


def test_learned_rows_before_the_picture_are_no_part_of_it() -> None:
    found = heedmap.explain(own("prefix"), {"input_ids": torch.tensor([[7, 8]]), "pixel_values": torch.randn(5, 6)})
    assert found.segments["image"].positions.tolist() == [[2, 3, 4, 5, 6]]
    assert found.segments["text"].positions.tolist() == [[7, 8]]


@pytest.mark.parametrize("join", ["scatter", "written"])
def test_as_many_tokens_for_each_sample_or_one_by_one(join: str) -> None:
    model = own(join)
    ids = torch.tensor([[IMAGE, IMAGE, 7, 8], [7, IMAGE, IMAGE, 9]])
    found = heedmap.explain(model, {"input_ids": ids, "pixel_values": torch.randn(4, 6)})
    assert found.segments["image"].positions.tolist() == [[0, 1], [1, 2]]
    ids = torch.tensor([[IMAGE, IMAGE, IMAGE, 8], [7, IMAGE, 5, 9]])
    with pytest.raises(MixingError, match="explain the samples one by one"):
        heedmap.explain(model, {"input_ids": ids, "pixel_values": torch.randn(4, 6)})
    ids = torch.tensor([[IMAGE, IMAGE, 7, 8], [7, IMAGE, 5, 9]])
    with pytest.raises(MixingError, match="explain the samples one by one"):
        heedmap.explain(model, {"input_ids": ids, "pixel_values": torch.randn(3, 6)})
    with pytest.raises(MixingError, match="explain the samples one by one"):  # a batch is its samples by every method
        heedmap.explain(model, {"input_ids": ids, "pixel_values": torch.randn(3, 6)}, method="input_x_gradient")


@pytest.mark.parametrize("join", ["added", "twice", "mixed", "answer"])
def test_a_picture_without_tokens_of_its_own_is_refused(join: str) -> None:
    with pytest.raises(HeedmapError):
        heedmap.explain(own(join), {"input_ids": torch.tensor([[7, 8, 9, 5]]), "pixel_values": torch.randn(4, 6)})


def test_tokens_that_are_asked_are_a_stream_of_their_own() -> None:
    found = heedmap.explain(own("asked"), {"input_ids": torch.tensor([[7, 8]]), "pixel_values": torch.randn(5, 6)})
    assert [(a.stream, a.source) for a in found.flow.attentions] == [("text", "image"), ("text", "text")]
    assert found["image"].shape == (1, 5)
