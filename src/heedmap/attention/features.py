"""The recorder of a model in which no attention is followed: it knows where each input becomes features, and nothing after that.

Words are rows of features where ids become them. Pictures, sounds and other floats are features as they are given; which of
their axes are places is told by the first convolution that reads them. Neighbouring pixels, and moments of a sound, are
summed into places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention import operations as ops
from heedmap.attention.flow import Graph, Stream
from heedmap.attention.forward import Recording, call
from heedmap.attention.inputs import ModelInputs, check_no_cache, contents
from heedmap.attention.tags import Source, Tag
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan
from heedmap.errors import AttentionError

PLACES = {1: 100, 2: 14, 3: 7}
"""How many places there are, at about, along the longest axis of a sound, a picture and a film (times, rows, columns)."""

COLOURS = (1, 3, 4)
"""Sizes of an axis that is taken for the channels of a picture that no convolution reads."""


class FeatureTape(Tape):
    """Records the first features of each input; attention is an operation like any other.

    Args:
        batch: batch size of the inputs.
        channels: name of a float input whose other axes are places → its axis of channels; 0: it has none.
        options: see :class:`~heedmap.attention.tape.Tape`.

    Attributes:
        convolved: name of a float input → shape of what the first convolution made of it reads.
    """

    def __init__(self, batch: int, *, channels: Mapping[str, int] | None = None, **options: Any) -> None:
        super().__init__(batch, **options)
        self.channels = channels or {}
        self.convolved: dict[str, tuple[int, ...]] = {}

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        """Register a content input; its leaf is (batch, rows, …), or where it has places (batch, channels, *places)."""
        if not tensor.is_floating_point():
            return super().watch(name, tensor)
        axis = self.channels.get(name)
        if axis is None:
            rows = self._leaf(tensor if tensor.dim() > 1 else tensor[:, None], name, spatial=False, first=True)
            made = rows.reshape(tensor.shape)
        elif axis == 0:
            made = self._leaf(tensor[:, None], name, spatial=True, first=True).squeeze(1)
        else:
            made = self._leaf(tensor.movedim(axis, 1), name, spatial=True, first=True).movedim(1, axis)
        self.set_tag(made, Tag(frozenset([len(self.sources) - 1])))
        return made

    def _is_leaf(self, func: Any, args: tuple[Any, ...], tag: Tag, result: Tensor) -> bool:
        if func in ops.SPATIAL and args and isinstance(args[0], Tensor):
            for index in self.tag(args[0]).sources:
                self.convolved.setdefault(self.sources[index].name, tuple(args[0].shape))
        return (
            bool(tag.sources)
            and result.is_floating_point()
            and all(self.sources[index].kind == "input" for index in tag.sources)
        )

    def _in_tower(self, tags: Any) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class FeatureRecording:
    """One forward pass, and where in it each input became features.

    Attributes:
        recording: a stream and a segment for each input; no attention.
        parts: for each stream all leaves that are its tokens' features, its segment's own first: ids may have several
            tables.
        tape: makes the recorder of another run.
    """

    recording: Recording
    parts: dict[int, list[InputSpan]]
    tape: Callable[..., Tape]


def record(model: nn.Module, inputs: ModelInputs, batch: int, sounds: Collection[str]) -> FeatureRecording:
    """Run the model under :class:`FeatureTape`; within :func:`~heedmap.attention.at_rest.recording_state`.

    Args:
        model: any.
        inputs: what it is called with.
        batch: batch size.
        sounds: names of the inputs that are sounds: of these only times are places.

    Raises:
        AttentionError: of no input it is known which features are which token's.
        InputError: the model's forward refuses the inputs.
    """
    check_no_cache(inputs)
    again = partial(FeatureTape, channels=_channels(model, inputs, batch))
    tape = again(batch, leaves=True)
    output = call(model, inputs, tape)
    parts: dict[int, list[InputSpan]] = {}
    for name in contents(inputs):
        spans = _parts(tape, name, inputs[name], name in sounds)
        if spans:
            parts[len(parts)] = spans
    if not parts:
        given = ", ".join(f"{name} {tuple(inputs[name].shape)}" for name in contents(inputs))
        raise AttentionError(
            f"no input becomes features of which it is known which token or place they are of ({given}): are words summed where "
            "they are looked up? Give the model features, (batch, tokens, features), in place of ids"
        )
    streams = [
        Stream(stream, spans[0].positions.shape[1], {part.leaf for part in spans}) for stream, spans in parts.items()
    ]
    main = {stream: spans[:1] for stream, spans in parts.items()}
    return FeatureRecording(Recording(tape, Graph(streams, [], tape.sources), main, output, inputs), parts, again)


def _channels(model: nn.Module, inputs: ModelInputs, batch: int) -> dict[str, int]:
    """Name of each float input that has places → its axis of channels, see :func:`channel_axis`."""
    several = [n for n in contents(inputs) if inputs[n].is_floating_point() and inputs[n].dim() > 2]
    if not several:
        return {}
    tape = FeatureTape(batch)
    with torch.no_grad():
        call(model, inputs, tape)
    axes = {name: channel_axis(tuple(inputs[name].shape), tape.convolved.get(name)) for name in several}
    return {name: axis for name, axis in axes.items() if axis is not None}


def channel_axis(shape: tuple[int, ...], convolved: tuple[int, ...] | None) -> int | None:
    """Which axis of a float input of three axes or more is its channels: 0: it has none; None: it has rows, no places.

    Args:
        shape: of the input.
        convolved: of what the first convolution reads, (batch, channels, *places).
    """
    axes = range(1, len(shape))
    if convolved is not None:
        for axis in axes:
            if len(convolved) == len(shape) and _moved(shape, axis) == convolved:
                return axis
        for axis in (2, 1, len(shape) - 1):  # the pictures of a film as a batch
            if len(shape) == 5 and len(convolved) == 4 and convolved[1:] == (shape[axis], *_places(shape, axis)[-2:]):
                return axis
        if len(shape) == 3 and convolved[:2] == (shape[0], 1) and sorted(convolved[2:]) == sorted(shape[1:]):
            return 0
    if len(shape) == 3:
        return None
    return next((axis for axis in (1, len(shape) - 1, 2) if shape[axis] in COLOURS), 1)


def _moved(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (shape[0], shape[axis], *_places(shape, axis))


def _places(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[1:axis], *shape[axis + 1 :])


def _parts(tape: FeatureTape, name: str, value: Tensor, sound: bool) -> list[InputSpan]:
    """The leaves of one input whose rows are its tokens, with the place of each row; of ids, those of the largest table."""
    leaves = [
        leaf for leaf, s in enumerate(tape.sources) if s.kind == "leaf" and s.name == name and s.shape[0] == tape.batch
    ]
    if value.is_floating_point():
        return [_floats(tape.sources[leaf], leaf, value, sound) for leaf in leaves]
    leaves = [leaf for leaf in leaves if len(value.shape) > 1 and tape.sources[leaf].shape[:2] == value.shape[:2]]
    most = max((_table(tape.sources[leaf]) for leaf in leaves), default=None)
    rows = torch.arange(value.shape[-1] if value.dim() < 2 else value.shape[1], device=value.device)
    rows = rows.expand(tape.batch, -1)
    return [InputSpan(leaf, name, rows, None, "tokens", rows) for leaf in leaves if _table(tape.sources[leaf]) == most]


def _table(source: Source) -> tuple[bool, int]:
    """Rows of features before single numbers (masks made of ids), large tables before small ones (positions)."""
    return len(source.shape) > 2, source.says


def _floats(source: Source, leaf: int, value: Tensor, sound: bool) -> InputSpan:
    sizes = source.shape[2:] if source.spatial else source.shape[1:2]
    counts = places(sizes) if source.spatial or sound else tuple(sizes)
    if sound and len(sizes) > 1:  # a spectrogram: its longer axis is time
        times = max(range(len(sizes)), key=lambda axis: sizes[axis])
        counts = tuple(places((size,))[0] if axis == times else 1 for axis, size in enumerate(sizes))
    number = torch.zeros((), dtype=torch.long, device=value.device)
    for size, count in zip(sizes, counts, strict=True):
        number = number[..., None] * count + torch.arange(size, device=value.device) * count // size
    grid = (counts[0], counts[1]) if len(counts) == 2 and not sound else None
    rows = number.flatten().expand(source.shape[0], -1)
    positions = torch.arange(torch.Size(counts).numel(), device=value.device).expand(source.shape[0], -1)
    return InputSpan(leaf, source.name, positions, grid, "image" if grid else "tokens", rows)


def places(sizes: Sequence[int]) -> tuple[int, ...]:
    """How many places each axis has: about :data:`PLACES` along the longest, as long along all, each of whole pixels."""
    side = max(1, round(max(sizes) / PLACES.get(len(sizes), PLACES[3])))
    return tuple(max(1, round(size / side)) for size in sizes)
