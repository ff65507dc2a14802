"""Inputs that a small model runs on, found by the names of its forward pass and by trying; and the number that is explained."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import tables as T
from .exceptions import INPUTS

Inputs = dict[str, Any]


def plain(model: nn.Module, inputs: Inputs, wanted: Callable[[Any], Tensor] | None = None, seed: int = 3) -> Any:
    """The model's own answer; what the target makes of it is finite, or ArithmeticError."""
    torch.manual_seed(seed)
    with torch.no_grad():
        output = model(**inputs)
    if not bool(torch.isfinite((wanted or target)(output)).all()):
        raise ArithmeticError("the output is not finite")
    return output


def primary(output: Any, batch: int = T.BATCH) -> Tensor:
    """The tensor of an output that a target is picked from."""
    items = output if hasattr(output, "keys") else dict(enumerate(output if isinstance(output, tuple) else [output]))
    named = [items[k] for k in T.OUTPUTS if k in items]
    for value in [*named, *items.values()]:
        value = value[-1] if isinstance(value, (tuple, list)) and value else value
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2 and len(value) == batch:
            return value
    raise ArithmeticError("the output has no tensor with the batch first")


def target(output: Any, batch: int = T.BATCH) -> Tensor:
    """One number for each sample: of its last row, the middle feature; of pairs, the pair."""
    value = primary(output, batch)
    if value.dim() == 2 and any(output.get(k) is value for k in T.PAIRS if hasattr(output, "get")):
        return value.diagonal()
    while value.dim() > 2:
        value = value[:, -1]
    finite = value.isfinite().all(0).nonzero().flatten().tolist() or [0]  # a detector's logits of no word are -inf
    return value[:, finite[len(finite) // 2]]


def candidates(model: nn.Module, family: str = "", hurried: Callable[[], bool] = lambda: False) -> Iterator[Inputs]:
    """Inputs by the names of the forward pass, most complete first, with those that are known of the family.

    Where ``hurried`` says so, words alone are left.
    """
    known = {
        name: of_shape(*value) if value else None
        for name, value in INPUTS.get(type(model).__name__, INPUTS.get(family, {})).items()
    }
    names = set(inspect.signature(model.forward).parameters)
    for inputs in by_names(model):
        if not hurried() or not set(inputs) - set(T.WORD_INPUTS):
            yield {k: v for k, v in {**inputs, **known}.items() if k in names and v is not None}


def of_shape(kind: str | int, *shape: Any) -> Tensor:
    """Random floats, ids or floats that are whole numbers; a number everywhere, or rows of numbers as they are."""
    if kind == "rows":
        return torch.tensor(shape)
    if kind == "floats":
        return torch.randn(shape)
    if isinstance(kind, int):
        return torch.full(shape, kind)
    whole = torch.randint(T.FIRST_WORD, T.LAST_WORD, shape)
    return whole if kind == "ids" else whole.float()


def by_names(model: nn.Module) -> Iterator[Inputs]:
    """Inputs by the names of the forward pass, most complete first."""
    names = set(inspect.signature(model.forward).parameters)
    kinds = [
        [n for n in group if n in names]
        for group in (T.WORD_INPUTS, T.PICTURE_INPUTS, T.SOUND_INPUTS, T.VIDEO_INPUTS, T.SERIES_INPUTS)
    ]
    words, *others = kinds
    some = [k for k in others if k]
    multiple = [n for n in ("choices",) if type(model).__name__.endswith("MultipleChoice")]
    for group in [*some[:3], []]:
        if not group and not words:
            continue
        tokens = T.COUNTS if group and "input_ids" in words and placeholder(model.config, group) else (0,)
        for count, layout, frames in itertools.product(tokens, T.LAYOUTS if group else (0,), T.SOUND_FRAMES):
            if frames != T.SOUND_FRAMES[0] and not set(group) & set(T.SOUND_INPUTS):
                continue
            yield made(model, [*words, *group, *multiple], Shape(count, layout, frames))
            if group and words:
                yield made(model, group + [n for n in words if n.startswith("decoder")], Shape(count, layout, frames))
            if "decoder_input_ids" in words:
                yield made(
                    model, [n for n in words if not n.startswith("decoder")] + group, Shape(count, layout, frames)
                )


@dataclass(frozen=True)
class Shape:
    """What the names of inputs leave open: placeholders among the words, which layout of pictures or sound, frames."""

    tokens: int
    layout: int
    frames: int


def made(model: nn.Module, names: list[str], shape: Shape) -> Inputs:
    """Random inputs of these names."""
    torch.manual_seed(1)
    config, found = model.config, {}
    for name in (n for n in names if n != "choices"):
        if (value := one(config, name, names, shape)) is not None:
            found[name] = value
    if "choices" in names:
        found = {k: v.unsqueeze(1) for k, v in found.items()}  # one each: of several, a target names one
    return found


def one(config: Any, name: str, names: list[str], shape: Shape) -> Tensor | None:
    """The value of one input."""
    batch, length = T.BATCH, T.WORDS + shape.tokens
    if name == "input_ids":
        ids = torch.randint(T.FIRST_WORD, T.LAST_WORD, (batch, length))
        if shape.tokens:
            ids[:, 2 : 2 + shape.tokens] = placeholder(config, names) or 0
        end = found(config, ("eos_token_id",))
        ids[:, -1] = end if isinstance(end, int) and end < T.VOCABULARY else T.LAST_WORD
        return ids
    if name == "attention_mask":
        return torch.ones(batch, length, dtype=torch.long) if "input_ids" in names else None
    if name == "mm_token_type_ids":
        kinds = torch.zeros(batch, length, dtype=torch.long)
        kinds[:, 2 : 2 + shape.tokens] = 1
        return kinds if "input_ids" in names else None
    if name == "decoder_input_ids":
        return torch.randint(T.FIRST_WORD, T.LAST_WORD, (batch, T.ANSWER))
    if name == "bbox":
        return torch.sort(torch.randint(0, 60, (batch, length, 2)).repeat(1, 1, 2), -1).values[..., [0, 1, 2, 3]]
    if name == "query_embeds":
        return torch.randn(batch, T.ANSWER, 32)
    if name == "entity_ids":
        return torch.randint(T.FIRST_WORD, T.LAST_WORD, (batch, 3))
    if name == "entity_position_ids":
        return torch.tensor([[[1, 2, -1], [3, -1, -1], [4, 5, 6]]] * batch)
    if name in T.PICTURE_INPUTS:
        return picture(config, name, shape)
    if name == "pixel_values_videos":
        return torch.randn(batch, frames_of(config), 3, *sides(config))
    if name in T.SOUND_INPUTS:
        return sound(config, name, shape)
    return series(config, name)


def picture(config: Any, name: str, shape: Shape) -> Tensor | None:
    """Pixels, boxes or sizes of a picture by the name of the input; None: this layout has no such input."""
    height, width = sides(config)
    channels = looked_up(config, ("num_channels", "in_channels"), 3)
    patch, time_patch = looked_up(config, ("patch_size",), 8), looked_up(config, ("temporal_patch_size",), 1)
    if name == "pixel_values":
        if shape.layout == 2:
            count = (height // patch) * (width // patch)
            return torch.randn(T.BATCH * count, channels * time_patch * patch * patch)
        frames = (frames_of(config),) if shape.layout else ()
        return torch.randn(T.BATCH, *frames, channels, height, width)
    if name in ("image_grid_thw", "grid_thw"):
        grid = torch.tensor([[1, height // patch, width // patch]] * T.BATCH)
        return grid if shape.layout == 2 else None
    if name == "visual_feats":
        return torch.randn(T.BATCH, 6, looked_up(config, ("visual_feat_dim",), 32))
    if name == "visual_pos":
        return torch.rand(T.BATCH, 6, 4)
    return torch.tensor([[height, width]] * T.BATCH) if shape.layout else None


def sound(config: Any, name: str, shape: Shape) -> Tensor | None:
    """Samples, spectrum or mask of a sound, of ``shape.frames`` frames; None: too many samples."""
    mel = looked_up(config, ("num_mel_bins", "input_feat_per_channel", "feature_size", "input_dim", "mel_bins"), 80)
    if name in ("input_values", "input_features", "audio_values"):
        sizes = {0: (mel, shape.frames), 1: (shape.frames, mel), 2: (shape.frames * 50,)}[shape.layout]
        sizes = (shape.frames * 50,) if name == "input_values" and shape.layout == 0 else sizes
        return torch.randn(T.BATCH, *sizes) if sizes[0] < 20_000 else None
    return torch.ones(T.BATCH, shape.frames, dtype=torch.long) if name.endswith("_mask") else None


def series(config: Any, name: str) -> Tensor:
    """Values, times or masks of a time series, with the past that its lags need."""
    length = looked_up(config, ("context_length",), 32)
    lags = max(getattr(config, "lags_sequence", None) or [0])
    ahead = looked_up(config, ("prediction_length",), 4)
    width = (config.num_input_channels,) if hasattr(config, "num_input_channels") else ()
    steps = ahead if name.startswith("future") else length + lags
    if name.endswith("time_features"):
        return torch.randn(T.BATCH, steps, max(looked_up(config, ("num_time_features",), 1), 1))
    return torch.ones(T.BATCH, steps, *width) if name.endswith("mask") else torch.randn(T.BATCH, steps, *width)


def placeholder(config: Any, names: list[str]) -> int | None:
    """The id that stands for a picture's or a sound's token among the words; None: there is none."""
    wanted = T.SOUND_TOKENS if set(names) & set(T.SOUND_INPUTS) else T.PICTURE_TOKENS
    return next((vars(config)[k] for k in wanted if isinstance(vars(config).get(k), int)), None)


def frames_of(config: Any) -> int:
    """How many frames a video has, at most 8."""
    return min(looked_up(config, ("num_frames", "frames_per_clip"), 2), 8)


def sides(config: Any) -> tuple[int, int]:
    """Height and width of a picture; 32 where the configuration names none."""
    size = found(config, ("image_size", "img_size", "tile_size"))
    size = list(size) if isinstance(size, (list, tuple)) else [size, size]
    return (size[0], size[-1]) if all(isinstance(s, int) for s in size) else (32, 32)


def looked_up(config: Any, names: tuple[str, ...], default: int) -> int:
    """The first integer of these names in the config or in those within it."""
    value = found(config, names)
    value = value[-1] if isinstance(value, (list, tuple)) and value else value
    return value if isinstance(value, int) else default


def found(config: Any, names: tuple[str, ...]) -> Any:
    """The first value of these names in the config, else in those within it; None: nowhere."""
    own = vars(config)
    for name in names:
        if own.get(name) is not None:
            return own[name]
    nested = (found(v, names) for v in own.values() if hasattr(v, "to_dict"))
    return next((v for v in nested if v is not None), None)
