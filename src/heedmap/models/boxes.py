"""Object boxes that a detector found beforehand: their features, places and names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


KNOWN = ("features", "boxes", "labels")
WIDTH_SETTINGS = ("visual_feat_dim", "visual_embedding_dim")


def box_inputs(boxes: Sequence[object], parameters: Collection[str], config: object) -> dict[str, Tensor]:
    """What LXMERT (``visual_feats``, ``visual_pos``) and VisualBERT (``visual_embeds``) are called with.

    Samples with fewer boxes than others are filled up with zeros, which the mask hides.

    Args:
        boxes: for each sample ``features`` (N, d), ``boxes`` (N, 4), x1 y1 x2 y2 as parts of the image's size, 0 to 1,
            and, optionally, ``labels``, N names. Models without places take no ``boxes``.
        parameters: names of the parameters of the model's ``forward``.
        config: of the model.

    Raises:
        InputError: something is missing, or of another shape, width or range.
    """
    from torch.nn.utils.rnn import pad_sequence

    places = "visual_pos" in parameters
    width = next((getattr(config, name) for name in WIDTH_SETTINGS if hasattr(config, name)), None)
    read = [_read(sample, places, width) for sample in boxes]
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


def _read(sample: object, places: bool, width: int | None) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 4"] | None]:
    if not isinstance(sample, Mapping) or "features" not in sample or not set(sample) <= set(KNOWN):
        given = f"keys {', '.join(map(str, sample))}" if isinstance(sample, Mapping) else f"a {type(sample).__name__}"
        raise InputError(f"the boxes are {given}; expected a mapping with features (N, d), boxes (N, 4), maybe labels")
    features = _array(sample["features"], "features", width)
    names = box_names(sample)
    if names is not None and len(names) != len(features):
        raise InputError(f"there are {len(names)} box labels for {len(features)} boxes; give one label a box")
    return features, _places(sample, len(features)) if places else None


def _places(sample: Mapping[str, object], count: int) -> Float[Tensor, "n 4"]:
    if sample.get("boxes") is None:
        raise InputError("this model wants to know where the boxes are: give boxes (N, 4), x1 y1 x2 y2, from 0 to 1")
    places = _array(sample["boxes"], "boxes", 4)
    if len(places) != count:
        raise InputError(f"there are {len(places)} boxes and features of {count}; expected as many of both")
    if bool(((places < 0) | (places > 1)).any()):
        raise InputError(
            f"the boxes go from {float(places.min()):g} to {float(places.max()):g}; expected x1 y1 x2 y2 from 0 to 1: "
            "divide x by the image's width and y by its height"
        )
    return places


def _array(value: object, what: str, width: int | None) -> Float[Tensor, "n d"]:
    import torch

    try:
        tensor = torch.as_tensor(value).to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the {what} are a {type(value).__name__}; expected rows of numbers, one a box") from error
    if tensor.dim() != 2 or not len(tensor) or (width is not None and tensor.shape[1] != width):
        wanted = "d" if width is None else width
        raise InputError(f"the {what} have shape {tuple(tensor.shape)}; expected (N, {wanted}) for one sample")
    return tensor
