"""What people give, sorted into samples and made into the tensors that a model is called with: texts, boxes, all together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heedmap.errors import InputError
from heedmap.models.audio import sound_inputs
from heedmap.models.image import pixels
from heedmap.models.kinds import LONGEST_PADDING, Kind
from heedmap.models.media import clip, rgb

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from heedmap.models.kinds import Processors
    from heedmap.types import JointProcessor, Tokenizer


def listed(value: object) -> list[object]:
    """A list of samples: ``value`` itself if it is one, else of that one sample."""
    return value if isinstance(value, list) else [value]


def samples(kind: Kind, name: str, given: Mapping[str, object]) -> dict[str, list[object]]:
    """For each input that was given, one entry a sample; what was given once beside a list is repeated.

    ``given``: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"`` → one, a list, or None; ``name``: of the model, for messages.

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
    """Everything that a model's processors make of the samples, see :func:`samples`, under transformers' names.

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
    return {
        name: value.to(weights.device, weights.dtype if value.is_floating_point() else None)
        if isinstance(value, torch.Tensor)  # else a switch, see _stretched
        else value
        for name, value in inputs.items()
    }


def _stretched(pixel_values: Tensor, config: object, parameters: Sequence[str]) -> dict[str, Tensor]:
    """Position embeddings are stretched where the processor's size is not the model's own, if the model can do that."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None)
    if size is None or "interpolate_pos_encoding" not in parameters:
        return {}
    expected = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(pixel_values.shape[-2:]) == expected:
        return {}
    return {"interpolate_pos_encoding": True}  # type: ignore[dict-item]  # the one input that is no tensor


# -- texts ------------------------------------------------------------------------------------------------------------

IMAGE_PLACES = ("image_token_id", "image_token_index")
FAR = 1_000_000
"""From here on a tokenizer's greatest length means that it has none."""


def text_inputs(tokenizer: Tokenizer, texts: Sequence[object], config: object) -> dict[str, Tensor]:
    """``input_ids`` and what else the tokenizer gives for texts, or for (first, second) pairs of texts.

    Raises:
        InputError: no text, pairs among single texts, an empty text, or more tokens than the model has positions for.
    """
    import torch

    parts = [_text_parts(text) for text in texts]
    if len({len(of_text) for of_text in parts}) > 1:
        raise InputError("some texts are pairs and some are not; give all in one form")
    columns = (list(column) for column in zip(*parts, strict=True))
    padding = "max_length" if getattr(config, "model_type", "") in LONGEST_PADDING else len(texts) > 1
    made = tokenizer(*columns, padding=padding, return_tensors="pt")
    inputs = {name: torch.as_tensor(value) for name, value in made.items()}
    tokens, limit = inputs["input_ids"].shape[1], token_limit(tokenizer, config)
    if not tokens:
        raise InputError("the text is empty: it has no tokens; give at least one word")
    if limit is not None and tokens > limit:
        raise InputError(
            f"the text has {tokens} tokens and the model takes up to {limit}; shorten it, or explain parts"
        )
    return inputs


def joint_inputs(
    processors: Processors, name: str, given: Mapping[str, Sequence[object]], config: object
) -> dict[str, Tensor]:
    """What a model is called with that wants image or audio tokens among the words, placed by its own processor.

    ``given``: ``"text"`` with ``"image"``, ``"audio"`` or both; for each one entry a sample.

    Raises:
        InputError: a text is none, or has no place for the image, or the processor cannot take the inputs.
    """
    joint = processors.need(processors.joint, "joint", name)
    texts = list(given["text"])
    for text in texts:
        _text_parts(text)  # whether it is one
    settings: dict[str, object] = {"text": texts, "padding": len(texts) > 1, "return_tensors": "pt"}
    if "image" in given:
        settings["images"] = [
            [rgb(picture) for picture in image] if isinstance(image, tuple) else rgb(image) for image in given["image"]
        ]
    if "audio" in given:
        rate = processors.need(processors.audio, "audio", name).sampling_rate
        settings |= {"audio": [clip(sound, rate).numpy() for sound in given["audio"]], "sampling_rate": rate}
    try:
        inputs = dict(joint(**settings))
    except (ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        raise InputError(f"the processor cannot take these inputs ({error}); {_place_hint(joint)}") from error
    place = next((getattr(config, name) for name in IMAGE_PLACES if hasattr(config, name)), None)
    if "image" in given and place is not None and not bool((inputs["input_ids"] == place).any()):
        raise InputError(f"the text has no place for the image; {_place_hint(joint)}")
    return inputs


def _place_hint(processor: JointProcessor) -> str:
    token = getattr(processor, "image_token", None)
    if token is None:
        return "write the text as the model's own documentation shows it"
    return f"write {token} in the text where the image stands, such as {f'{token} What is this?'!r}"


def _text_parts(text: object) -> list[str]:
    """A text, or both of a pair.

    Raises:
        InputError: it is neither, or has half a character, as of bytes on a command line that are no UTF-8.
    """
    pair = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    parts = [part for part in pair if isinstance(part, str)]
    if len(parts) < len(pair):
        raise InputError(f"the text is {text!r}; expected a str, a (first, second) pair of str, or a list of these")
    for part in parts:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text has half a character ({part[error.start]!r}, character {error.start + 1}); write it in UTF-8"
            ) from error
    return parts


def token_limit(tokenizer: Tokenizer, config: object) -> int | None:
    """The most tokens of a text: the model's positions, or the tokenizer's own limit where that is less (RoBERTa keeps two
    back); None: neither says."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    longest = getattr(tokenizer, "model_max_length", None)
    return min(positions, longest) if isinstance(longest, int) and 0 < longest < FAR else positions


# -- boxes ------------------------------------------------------------------------------------------------------------

BOX_KEYS = ("features", "boxes", "labels")
BOX_WIDTHS = ("visual_feat_dim", "visual_embedding_dim")


def box_inputs(boxes: Sequence[object], parameters: Collection[str], config: object) -> dict[str, Tensor]:
    """What LXMERT (``visual_feats``, ``visual_pos``) and VisualBERT (``visual_embeds``) are called with.

    Samples with fewer boxes than others are filled up with zeros, which the mask hides.

    Args:
        boxes: for each sample ``features`` (N, d), ``boxes`` (N, 4), x1 y1 x2 y2 as parts of the image's size, 0 to 1,
            and, optionally, ``labels``, N names. Models without places take no ``boxes``.
        parameters: names of the parameters of the model's ``forward``.
        config: of the model, with the width of the features.

    Raises:
        InputError: something is missing, or of another shape, width or range.
    """
    from torch.nn.utils.rnn import pad_sequence

    places = "visual_pos" in parameters
    width = next((getattr(config, name) for name in BOX_WIDTHS if hasattr(config, name)), None)
    read = [_box_sample(sample, places, width) for sample in boxes]
    features = pad_sequence([f for f, _ in read], batch_first=True)
    mask = pad_sequence([f.new_ones(len(f)) for f, _ in read], batch_first=True).long()
    name = "visual_feats" if "visual_feats" in parameters else "visual_embeds"
    inputs = {name: features, "visual_attention_mask": mask, "visual_token_type_ids": mask.new_ones(mask.shape)}
    if places:
        inputs["visual_pos"] = pad_sequence([p for _, p in read if p is not None], batch_first=True)
    return inputs


def box_names(boxes: object) -> Sequence[str] | None:
    """The names of one sample's boxes, where they have names."""
    names = boxes.get("labels") if isinstance(boxes, Mapping) else None
    return None if names is None else [str(name) for name in names]


def box_places(boxes: object) -> Float[np.ndarray, "boxes 4"] | None:
    """The places of one sample's boxes, where they are known."""
    given = boxes.get("boxes") if isinstance(boxes, Mapping) else None
    if given is None:
        return None
    places = np.asarray(given.cpu() if hasattr(given, "cpu") else given, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 4:
        raise InputError(f"the boxes have shape {places.shape}; expected (N, 4): x1 y1 x2 y2 from 0 to 1")
    return places


def _box_sample(
    sample: object, places: bool, width: int | None
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 4"] | None]:
    if not isinstance(sample, Mapping) or "features" not in sample or not set(sample) <= set(BOX_KEYS):
        given = f"keys {', '.join(map(str, sample))}" if isinstance(sample, Mapping) else f"a {type(sample).__name__}"
        raise InputError(f"the boxes are {given}; expected a mapping with features (N, d), boxes (N, 4), maybe labels")
    features = _box_rows(sample["features"], "features", width)
    names = box_names(sample)
    if names is not None and len(names) != len(features):
        raise InputError(f"there are {len(names)} box labels for {len(features)} boxes; give one label a box")
    return features, _box_places(sample, len(features)) if places else None


def _box_places(sample: Mapping[str, object], count: int) -> Float[Tensor, "n 4"]:
    if sample.get("boxes") is None:
        raise InputError("this model wants to know where the boxes are: give boxes (N, 4), x1 y1 x2 y2, from 0 to 1")
    places = _box_rows(sample["boxes"], "boxes", 4)
    if len(places) != count:
        raise InputError(f"there are {len(places)} boxes and features of {count}; expected as many of both")
    if bool(((places < 0) | (places > 1)).any()):
        raise InputError(
            f"the boxes go from {float(places.min()):g} to {float(places.max()):g}; expected x1 y1 x2 y2 from 0 to 1: "
            "divide x by the image's width and y by its height"
        )
    return places


def _box_rows(value: object, what: str, width: int | None) -> Float[Tensor, "n d"]:
    import torch

    try:
        tensor = torch.as_tensor(value).to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the {what} are a {type(value).__name__}; expected rows of numbers, one a box") from error
    if tensor.dim() != 2 or not len(tensor) or (width is not None and tensor.shape[1] != width):
        wanted = "d" if width is None else width
        raise InputError(f"the {what} have shape {tuple(tensor.shape)}; expected (N, {wanted}) for one sample")
    return tensor
