"""What people give, sorted into samples and made into the tensors that a model is called with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.models.audio import clip, sound_inputs
from heedmap.models.boxes import box_inputs
from heedmap.models.image import pixels
from heedmap.models.kinds import Kind
from heedmap.models.text import joint_inputs, text_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from heedmap.models.processors import Processors


def listed(value: object) -> list[object]:
    """A list of samples: ``value`` itself if it is one, else of that one sample."""
    return value if isinstance(value, list) else [value]


def samples(kind: Kind, name: str, given: Mapping[str, object]) -> dict[str, list[object]]:
    """For each input that was given, one entry a sample; what was given once beside a list is repeated.

    Args:
        kind: of the model.
        name: of the model, for messages.
        given: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"`` → one, a list, or None.

    Raises:
        InputError: an input is missing or not for this model, or the lists are of unequal length.
    """
    lists = {role: listed(value) for role, value in given.items() if value is not None}
    takes = f"{name} takes {' and '.join(kind.needs)}"
    takes += f" and, optionally, {' or '.join(kind.optional)}" if kind.optional else ""
    for role in lists:
        if role not in kind.takes:
            raise InputError(f"{role} was given, but {takes}; leave {role} out")
    for role in kind.needs:
        if not lists.get(role):
            raise InputError(f"no {role} was given, and {takes}; give {role}=…")
    sizes = {len(entries) for entries in lists.values()} - {1}
    if len(sizes) > 1:
        told = ", ".join(f"{len(entries)} × {role}" for role, entries in lists.items())
        raise InputError(f"the lists are of unequal length: {told}; give one for each sample, or one for all")
    batch = sizes.pop() if sizes else 1
    return {role: entries * batch if len(entries) == 1 else entries for role, entries in lists.items()}


def tensors(
    processors: Processors, name: str, config: object, parameters: Sequence[str], given: Mapping[str, Sequence[object]]
) -> dict[str, Tensor]:
    """Everything that a model's processors make of the samples, under transformers' names.

    Args:
        processors, name, config, parameters: the model's.
        given: see :func:`samples`.

    Raises:
        InputError: an input in a form that the model cannot take.
        ModelLoadError: the model came without a processor that is needed.
    """
    if processors.joint is not None and len(given) > 1:
        return joint_inputs(processors, name, given, config)
    made: dict[str, Tensor] = {}
    if "text" in given:
        made |= text_inputs(processors.need(processors.tokenizer, "tokenizer", name), given["text"], config)
    if "image" in given:
        made |= pixels(processors.need(processors.image, "image", name), given["image"])
        made |= _stretched(made["pixel_values"], config, parameters)
    if "boxes" in given:
        made |= box_inputs(given["boxes"], parameters, config)
    if "audio" in given:
        extractor = processors.need(processors.audio, "audio", name)
        made |= sound_inputs(extractor, [clip(sound, extractor.sampling_rate) for sound in given["audio"]])
    return made


def standard(inputs: Mapping[str, object], renamed: Mapping[str, str]) -> dict[str, object]:
    """The inputs also by transformers' names, where the model calls them otherwise; ``renamed``: of a ``heedmap.Model``."""
    return {name: inputs.get(renamed.get(name, name)) for name in (*inputs, *renamed)}


def placed(inputs: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """``inputs`` on the device of ``model``, floating-point ones in its dtype."""
    import torch

    weights = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))

    def put(value: Tensor) -> Tensor:
        if not isinstance(value, torch.Tensor):  # a switch, see _stretched
            return value
        return value.to(weights.device, weights.dtype if value.is_floating_point() else None)

    return {name: put(value) for name, value in inputs.items()}


def _stretched(pixel_values: Tensor, config: object, parameters: Sequence[str]) -> dict[str, Tensor]:
    """Position embeddings are stretched where the processor's size is not the model's own, if the model can do that."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if size is None or "interpolate_pos_encoding" not in parameters:
        return {}
    expected = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(pixel_values.shape[-2:]) == expected:
        return {}
    return {"interpolate_pos_encoding": True}  # type: ignore[dict-item]  # the one input that is no tensor
