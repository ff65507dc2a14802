"""Models in which no attention is followed, explained by their input's own features: against autograd and leaving out by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refused import CASES, FOLLOWED
from test_conformance import state
from tiny_models import FEW, ids
from torch import Tensor, nn

import heedmap
from heedmap.attention.features import channel_axis, places
from heedmap.engine.choosing import WITHOUT_ATTENTION
from heedmap.errors import AttentionError, GradientError, HeedmapError, NoAttentionError, OptionError, TargetError
from heedmap.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE = {"rtol": 1e-5, "atol": 1e-7}
"""Maps are float32."""


def of_transformers(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        cls = getattr(transformers, name)
        return cls(cls.config_class(**options))

    return build


def of_torchvision() -> nn.Module:
    import torchvision

    return torchvision.models.squeezenet1_1(num_classes=4)


class Recurrent(nn.Module):
    """Words → classes, by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(50, 8)
        self.states, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.states(self.embeddings(input_ids))[0][:, -1])


class Channels(nn.Module):
    """Pictures whose channels are last, or a time series whose features are last → classes, by a convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.head = conv, nn.Linear(8, 3)

    def forward(self, values: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(values.movedim(-1, 1))).flatten(2).mean(-1))


class Bag(nn.Module):
    """Words whose embeddings are summed where they are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.EmbeddingBag(50, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.embeddings(input_ids)


class Boxes(nn.Module):
    """The features of boxes → classes, by an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, visual_feats: Tensor) -> Tensor:
        return self.head(torch.tanh(self.inner(visual_feats)).amax(1))


STAGES = {"hidden_sizes": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "num_labels": 4}
WORDS = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2}
SMALL_SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "window_size": 4,
}

PICTURES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...], int]] = {
    "resnet": (of_transformers("ResNetForImageClassification", embedding_size=8, layer_type="basic", **STAGES),
               "pixel_values", (2, 3, 16, 56), 1),
    "convnext": (of_transformers("ConvNextForImageClassification", **STAGES), "pixel_values", (2, 3, 32, 84), 1),
    "swin": (of_transformers("SwinForImageClassification", num_labels=3, **SMALL_SWIN), "pixel_values", (2, 3, 16, 56), 1),
    "torchvision": (of_torchvision, "x", (2, 3, 24, 40), 1),
    "channels last": (lambda: Channels(nn.Conv2d(3, 8, 3)), "values", (2, 10, 45, 3), 3),
}  # fmt: skip
"""Model, input, its shape, its axis of channels."""

ROWS: dict[str, Callable[[], nn.Module]] = {
    "mamba": of_transformers("MambaForCausalLM", state_size=4, **WORDS),
    "falcon mamba": of_transformers("FalconMambaForCausalLM", state_size=4, **WORDS),
    "rwkv": of_transformers("RwkvForCausalLM", attention_hidden_size=16, context_length=20, **WORDS),
    "fnet": of_transformers("FNetForSequenceClassification", intermediate_size=16, num_labels=3, **WORDS),
    "lstm": Recurrent,
}
"""Models of words."""


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(3)
    if name in ROWS:
        return livened(ROWS[name]()), {"input_ids": ids(2, 7)}
    build, given, shape, _ = PICTURES[name]
    return livened(build()), {given: torch.randn(shape, dtype=torch.float64)}


def livened(model: nn.Module) -> nn.Module:
    """With weights and biases that are not 0: a norm of nothing but 0 would be a step."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    return model.eval().double()


def score(output: Any) -> Tensor:
    """Class 1 of each sample; of a language model, at the last word."""
    logits = output if isinstance(output, Tensor) else output.logits
    return logits[:, 1] if logits.dim() == 2 else logits[:, -1, 1]


def features(name: str) -> Tensor:
    """What the laws are about: the words' embeddings, or the input itself."""
    model, inputs = built(name)
    (value,) = inputs.values()
    return value if value.is_floating_point() else model.get_input_embeddings()(value).detach()


def answer(name: str, x: Tensor) -> Tensor:
    """The score where the features are ``x``; words' features go in by a hook on the embedding."""
    model, inputs = built(name)
    if name not in ROWS:
        return score(model(**{key: x for key in inputs}))
    handle = model.get_input_embeddings().register_forward_hook(lambda *_: x)
    try:
        return score(model(**inputs, **({"use_cache": False} if name == "rwkv" else {})))
    finally:
        handle.remove()


def cells(name: str) -> tuple[Tensor, tuple[int, int] | None]:
    """For each word or place which features are its own, (tokens, *shape of one sample), and the grid."""
    x = features(name)
    if name in ROWS:
        return torch.eye(x.shape[1])[:, :, None].expand(-1, -1, x.shape[2]), None
    axis = PICTURES[name][3]
    rows, columns = x[0].movedim(axis - 1, 0).shape[1:]
    side = max(1, round(max(rows, columns) / 14))
    grid = round(rows / side), round(columns / side)
    where = np.floor(np.arange(rows) * grid[0] / rows)[:, None] * grid[1] + np.floor(
        np.arange(columns) * grid[1] / columns
    )
    own = torch.as_tensor(where)[None] == torch.arange(grid[0] * grid[1])[:, None, None]
    return own[:, None].expand(-1, 3, -1, -1).movedim(1, axis).double(), grid


def summed(name: str, relevance: Tensor) -> Tensor:
    return torch.einsum("b...,t...->bt", relevance, cells(name)[0].to(relevance))


@pytest.mark.parametrize("name", [*PICTURES, *ROWS])
def test_input_x_gradient_is_that_of_autograd(name: str) -> None:
    model, inputs = built(name)
    found = heedmap.explain(model, inputs, target=1, method="input_x_gradient") if name in PICTURES else _of_words(name)
    x = features(name).requires_grad_()
    (gradient,) = torch.autograd.grad(answer(name, x).sum(), x)
    (segment,) = found.segments.values()
    assert segment.grid == cells(name)[1]
    assert segment.kind == ("text" if name in ROWS else "image")
    torch.testing.assert_close(segment.relevance, summed(name, x * gradient).detach().float(), **CLOSE)
    assert found.flow.attentions == ()
    assert "no attention was followed" in found.flow.notes[0]


def _of_words(name: str, method: str = "input_x_gradient", **options: Any) -> heedmap.Explanation:
    model, inputs = built(name)
    return heedmap.explain(model, inputs, target=score, method=method, **options)


ROUGH = {"mamba": 100, "swin": 100}
"""Where more steps are needed until the sum is the integral."""


@pytest.mark.parametrize("name", [name for name in (*PICTURES, *ROWS) if name != "falcon mamba"])
def test_integrated_gradients_sum_to_what_the_baseline_lacks(name: str) -> None:
    """Of words the baseline is their mean: at 0 a norm without bias, as Mamba has, is a step. FalconMamba is too rough to be summed."""
    found = _of_words(
        name, "integrated_gradients", steps=ROUGH.get(name, 40), baseline="mean" if name in ROWS else "zero"
    )
    x = features(name)
    baseline = x.mean(1, keepdim=True).expand_as(x) if name in ROWS else torch.zeros_like(x)
    (segment,) = found.segments.values()
    difference = (answer(name, x) - answer(name, baseline)).detach().float()
    torch.testing.assert_close(segment.relevance.sum(1), difference, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", [*PICTURES, *ROWS])
def test_occlusion_is_leaving_out_by_hand(name: str) -> None:
    found = _of_words(name, "occlusion")
    x, (own, _) = features(name), cells(name)
    (segment,) = found.segments.values()
    with torch.no_grad():
        whole = answer(name, x)
        for token in range(0, len(own), max(1, len(own) // 12)):
            fall = whole - answer(name, torch.where(own[token] > 0, 0.0, x))
            torch.testing.assert_close(segment.relevance[:, token], fall.float(), **CLOSE)


@pytest.mark.parametrize("method", ["random", *WITHOUT_ATTENTION])
@pytest.mark.parametrize("name", ["resnet", "mamba", "lstm"])
def test_a_batch_is_its_samples_one_by_one(name: str, method: str) -> None:
    model, inputs = built(name)
    both = _of_words(name, method, **FEW.get(method, {}))
    for number in range(2):
        one = {key: value[number : number + 1] for key, value in inputs.items()}
        alone = heedmap.explain(model, one, target=score, method=method, **FEW.get(method, {}))
        for segment in alone.segments.values():
            torch.testing.assert_close(both[segment.name][number], segment.relevance[0], **CLOSE)


def test_padding_is_no_part_of_the_mean_word() -> None:
    model, inputs = built("mamba")
    words = inputs["input_ids"][:1]
    padded = torch.cat([torch.zeros_like(words[:, :3]), words], 1)
    seen = torch.cat([torch.zeros_like(words[:, :3]), torch.ones_like(words)], 1)
    alone = heedmap.explain(model, {"input_ids": words}, target=score, method="occlusion", baseline="mean")["text"]
    within = heedmap.explain(
        model, {"input_ids": padded, "attention_mask": seen}, target=score, method="occlusion", baseline="mean"
    )["text"]
    torch.testing.assert_close(within[:, 3:], alone, **CLOSE)
    assert within[:, :3].abs().max() == 0


def test_a_word_of_several_tables_goes_with_all_of_them() -> None:
    torch.manual_seed(5)
    build = of_transformers(
        "CanineForSequenceClassification", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, num_hash_buckets=64, num_hash_functions=4, max_position_embeddings=64,
        downsampling_rate=2, local_transformer_stride=8, num_labels=3,
    )  # fmt: skip
    model, inputs = livened(build()).float(), {"input_ids": ids(2, 16)}  # its own mask is not finite in float64
    tables = [m for name, m in model.named_modules() if "HashBucket" in name]
    assert len(tables) == 4
    found = heedmap.explain(model, inputs, target=score, method="occlusion")["text"]
    less = heedmap.explain(model, inputs, target=score, method="integrated_gradients", steps=80)["text"]
    with torch.no_grad():
        whole = score(model(**inputs))
        for table in tables:
            table.register_forward_hook(lambda m, given, made: made * (torch.arange(16) != 2)[:, None])
        torch.testing.assert_close(found[:, 2], (whole - score(model(**inputs))).float(), **CLOSE)
        for table in tables:
            table.register_forward_hook(lambda m, given, made: made * 0)
        torch.testing.assert_close(less.sum(1), (whole - score(model(**inputs))).float(), rtol=1e-2, atol=2e-3)


def test_relevance_by_rules_where_there_are_rules() -> None:
    model, inputs = built("resnet")
    found = heedmap.explain(model, inputs, target=1, method="full_lrp")
    assert found["image"].abs().sum() > 0
    with pytest.raises(heedmap.errors.MissingRuleError, match="lstm"):
        heedmap.explain(*built("lstm"), method="full_lrp")


def test_what_it_is_goes_to_a_file_and_to_pictures(tmp_path: Path) -> None:
    from PIL import Image

    model, inputs = built("resnet")
    found = heedmap.explain(model, inputs, method="input_x_gradient", pixels=True)
    assert found["pixels"].shape == (2, 16 * 56)
    torch.testing.assert_close(found["pixels"].sum(1), found["image"].sum(1), **CLOSE)
    found.save(tmp_path / "map.safetensors")
    assert heedmap.Explanation.load(tmp_path / "map.safetensors") == found
    picture = Image.new("RGB", (56, 16), "grey")
    figure = found.plot(1, picture)
    assert "took in none" not in " ".join(axes.get_title() for axes in figure.axes)
    assert "no attention was followed" in found.to_html(0, picture)
    assert found.overlay(picture).size == (56, 16)


def test_words_boxes_sounds_and_films_are_segments() -> None:
    torch.manual_seed(0)
    boxes = heedmap.explain(Boxes(), {"visual_feats": torch.randn(2, 5, 6)}, method="input_x_gradient")
    assert (boxes.segments["boxes"].kind, boxes["boxes"].shape) == ("boxes", (2, 5))
    plain = nn.Sequential(nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 3))
    assert heedmap.explain(plain, torch.randn(2, 9), method="occlusion")["input"].shape == (2, 9)
    series = heedmap.explain(Channels(nn.Conv1d(6, 8, 3)), torch.randn(2, 300, 6), method="input_x_gradient")
    assert series["values"].shape == (2, 100)
    case = FOLLOWED["conformer"]
    sound = heedmap.explain(case.build().eval(), case.inputs(), target=score, method="occlusion")
    assert (sound.segments["audio"].kind, sound["audio"].shape) == ("audio", (1, 100))


@pytest.mark.parametrize("name", ["coat", "resnet"])
def test_what_a_refusal_names_explains_the_model(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = CASES[name].build().eval(), CASES[name].inputs()
    with pytest.raises(AttentionError) as refused:
        heedmap.explain(model, inputs)
    named = [method for method in METHODS if f"'{method}'" in str(refused.value)]
    assert set(named) == set(WITHOUT_ATTENTION)
    before = state(model)
    for method in set(named) - {"occlusion"} if len(next(iter(inputs.values())).shape) > 2 else named:
        found = heedmap.explain(model, inputs, method=method, **FEW.get(method, {}))
        assert all(bool(segment.relevance.isfinite().all()) for segment in found.segments.values())
        assert any(bool(segment.relevance.abs().sum() > 0) for segment in found.segments.values())
    own = {"versions", "hooks"}
    assert {k: v for k, v in state(model).items() if k not in own} == {k: v for k, v in before.items() if k not in own}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.needs_attention])
def test_each_method_that_needs_attention_says_so(method: str) -> None:
    with pytest.raises(NoAttentionError, match=r"methods that need no attention explain this model: .*'occlusion'"):
        heedmap.explain(*built("lstm"), method=method)


def test_auto_takes_the_best_that_works() -> None:
    found = heedmap.explain(*built("lstm"), method="auto", target=[0, 1])
    assert [one.method for one in found] == ["integrated_gradients"] * 2
    assert found[0].flow.notes[0].startswith("method 'auto' took 'integrated_gradients'")
    assert found[1].options == METHODS["integrated_gradients"].resolve({})
    plain = heedmap.explain(*built("lstm"), method="integrated_gradients", target=1)
    torch.testing.assert_close(found[1]["text"], plain["text"])
    with pytest.raises(OptionError, match="steps"):
        heedmap.explain(*built("lstm"), method="auto", steps=3)


def test_without_captum_auto_takes_occlusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedmap.engine.choosing.find_spec", lambda name: None if name == "captum" else name)
    assert heedmap.explain(*built("lstm"), method="auto").method == "occlusion"


def test_a_model_without_backward_pass_is_explained_by_occlusion() -> None:
    case = CASES["reformer"]
    torch.manual_seed(0)
    model, inputs = case.build().eval(), case.inputs()
    assert heedmap.explain(model, inputs, method="auto").method == "occlusion"
    with pytest.raises(GradientError, match="'occlusion'"):
        heedmap.explain(model, inputs, method="smoothgrad")


def test_what_cannot_be_told_is_refused() -> None:
    words = {"input_ids": ids(2, 5)}
    with pytest.raises(AttentionError, match=r"which token.*input_ids \(2, 5\)"):
        heedmap.explain(Bag(), words, method="occlusion")
    with pytest.raises(NoAttentionError) as refused:
        heedmap.explain(Bag(), words)
    assert "occlusion" not in str(refused.value)
    with pytest.raises(TargetError, match="out of range"):
        heedmap.explain(*built("lstm"), target=9, method="occlusion")
    with pytest.raises(HeedmapError, match="whole maps"):
        heedmap.explain(*built("lstm"), method="occlusion", full=True)


@pytest.mark.parametrize(
    ("shape", "convolved", "axis"),
    [
        ((2, 3, 8, 9), (2, 3, 8, 9), 1),
        ((2, 8, 9, 3), (2, 3, 8, 9), 3),
        ((2, 8, 9, 3), None, 3),
        ((2, 16, 8, 9), None, 1),
        ((2, 80, 50), (2, 80, 50), 1),
        ((2, 50, 80), (2, 80, 50), 2),
        ((2, 50, 80), (2, 1, 50, 80), 0),
        ((2, 50, 80), None, None),
        ((2, 3, 4, 8, 9), (2, 3, 4, 8, 9), 1),
        ((2, 4, 3, 8, 9), (2, 3, 4, 8, 9), 2),
        ((2, 4, 3, 8, 9), (8, 3, 8, 9), 2),
    ],
)
def test_the_first_convolution_tells_the_channels(shape: Any, convolved: Any, axis: int | None) -> None:
    assert channel_axis(shape, convolved) == axis


def test_places_are_squares_of_whole_pixels() -> None:
    assert [places(sizes) for sizes in ((224, 224), (28, 28), (8, 8), (112, 224), (3000,), (60,))] == [
        (14, 14), (14, 14), (8, 8), (7, 14), (100,), (60,),
    ]  # fmt: skip
