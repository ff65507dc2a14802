"""Models' inputs without some of their tokens: taken out, so that the model never sees them, or masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from heedmap.errors import InputError, OptionError
from heedmap.evaluate.perturb.masking import MASKS, masked

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from heedmap.explanation_data import Segment

TOKENS = {
    "text": ("input_ids", "attention_mask", "token_type_ids"),
    "boxes": ("visual_feats", "visual_pos", "visual_embeds", "visual_attention_mask", "visual_token_type_ids"),
}
"""Segment → the inputs that have one entry for each of its tokens, along their second dimension."""
WAYS = ("drop", "mask")


def without(
    subject: Any, inputs: Mapping[str, Any], segment: Segment, keep: Bool[Tensor, "batch tokens"], way: str
) -> dict[str, Any]:
    """The inputs with only the tokens of one segment that are in ``keep``.

    Args:
        subject: the model.
        inputs: what it is called with.
        segment: of an explanation; its own batch does not matter.
        keep: of words and boxes which tokens stay; of a picture which pixels, (batch, rows, columns). Pixels always become 0,
            the mean of what the model was trained on: patches cannot be taken out of most models.
        way: ``"drop"`` takes tokens out, ``"mask"`` hides them, see :func:`~heedmap.evaluate.perturb.masking.masked`.

    Raises:
        InputError: the segment's tokens are not to be found in the inputs one by one.
    """
    if segment.name == "image":
        return _blank(inputs, keep)
    return _dropped(inputs, segment, keep) if way == "drop" else masked(subject, inputs, segment, keep)


def check_way(way: str) -> None:
    """OptionError where there is no such way to remove tokens."""
    if way not in WAYS:
        raise OptionError(f"remove is {way!r}; expected {' or '.join(map(repr, WAYS))}")


def _blank(inputs: Mapping[str, Any], keep: Bool[Tensor, "batch rows columns"]) -> dict[str, Any]:
    values = inputs.get("pixel_values")
    if not isinstance(values, torch.Tensor) or values.dim() != 4:
        raise InputError("a picture's pixels can only be removed from pixel_values (batch, channels, rows, columns)")
    return {**inputs, "pixel_values": values * keep[:, None].to(values.dtype)}


def _dropped(inputs: Mapping[str, Any], segment: Segment, keep: Bool[Tensor, "batch tokens"]) -> dict[str, Any]:
    known = {n: inputs[n] for n in TOKENS.get(segment.name, ()) if isinstance(inputs.get(n), torch.Tensor)}
    widths = {name: value.shape[1] for name, value in known.items()}
    if set(widths.values()) != {keep.shape[1]}:
        raise InputError(
            f"the segment {segment.name!r} has {keep.shape[1]} tokens, the inputs that make it {widths or 'none'}; "
            "tokens can only be taken out where each is one entry of the inputs"
        )
    return {**inputs, **_taken(known, keep, MASKS[segment.name])}


def _taken(tensors: Mapping[str, Tensor], keep: Bool[Tensor, "batch tokens"], mask: str) -> dict[str, Tensor]:
    """The kept tokens moved to the front, cut to the longest sample; what is behind a shorter one is masked and zero.

    A sample without any keeps one masked token of zeros: models of transformers do not take none at all. Where all keys are
    masked, as in LXMERT's cross-attention, that token is looked at, and it tells nothing.
    """
    counts = keep.sum(1)
    places = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(int(counts.max()), 1)]
    real = torch.arange(places.shape[1], device=keep.device) < counts[:, None]
    rows = torch.arange(len(keep), device=keep.device)[:, None]
    found = {name: _blanked(tensor[rows, places], real) for name, tensor in tensors.items()}
    return found if mask in found else {**found, mask: real.long()}


def _blanked(tensor: Tensor, real: Bool[Tensor, "batch tokens"]) -> Tensor:
    return tensor * real.reshape(*real.shape, *(1 for _ in tensor.shape[2:])).to(tensor.dtype)


def upsampled(relevance: Tensor, grid: tuple[int, int], size: tuple[int, int], smooth: bool) -> Tensor:
    """Relevance of patches as that of pixels, (batch, rows, columns): bilinear, or of each patch the same."""
    maps = relevance.unflatten(1, grid)[:, None]
    if smooth:
        return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
    return torch.nn.functional.interpolate(maps, size, mode="nearest-exact")[:, 0]
