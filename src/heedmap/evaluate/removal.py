"""Models' inputs without some of their tokens: taken out, so that the model never sees them, or masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

    from heedmap.explanation import Explanation

TOKENS = {
    "text": ("input_ids", "attention_mask", "token_type_ids"),
    "boxes": ("visual_feats", "visual_pos", "visual_embeds", "visual_attention_mask", "visual_token_type_ids"),
}
"""Segment → the inputs that have one entry for each of its tokens, along their second dimension."""
MASKS = {"text": "attention_mask", "boxes": "visual_attention_mask"}
FEATURES = ("visual_feats", "visual_embeds")
PICTURE = "pixel_values"
ENDS = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
"""Tokens of a tokenizer that are no words and are never removed."""

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Remover:
    """Takes tokens of one segment from a batch.

    Attributes:
        segment: ``"text"``, ``"boxes"`` or ``"image"``.
        drop: whether tokens are taken out; else words become the mask token and boxes' features zero. Pixels always
            become zero, the mean of what the model was trained on, as taking patches out is no option of most models.
        mask_id: what words become; None: there is no such token.
    """

    segment: str
    drop: bool
    mask_id: int | None = None

    def check(self, inputs: Inputs, tokens: int) -> None:
        """Raise InputError where the model's inputs do not have the segment's tokens one by one."""
        if self.segment == "image":
            if PICTURE not in inputs or inputs[PICTURE].dim() != 4:
                raise InputError(
                    "a picture's pixels can only be removed from pixel_values (batch, channels, rows, columns)"
                )
            return
        known = [inputs[name].shape[1] for name in TOKENS[self.segment] if isinstance(inputs.get(name), torch.Tensor)]
        if not known or set(known) != {tokens}:
            raise InputError(
                f"the segment {self.segment!r} has {tokens} tokens, the inputs that make it {known or 'none'}; "
                "tokens can only be removed where each is one entry of the inputs"
            )
        if not self.drop and self.segment == "text" and self.mask_id is None:
            raise InputError("the tokenizer has no mask token; remove words with remove='drop'")

    def __call__(self, inputs: Inputs, keep: Bool[Tensor, "batch tokens"]) -> dict[str, Any]:
        """The inputs with only the tokens of ``keep``; of pictures ``keep`` is (batch, rows, columns) of their pixels."""
        if self.segment == "image":
            values = inputs[PICTURE]
            return {**inputs, PICTURE: values * keep[:, None].to(values.dtype)}
        names = [name for name in TOKENS[self.segment] if isinstance(inputs.get(name), torch.Tensor)]
        if self.drop:
            return {**inputs, **_taken({name: inputs[name] for name in names}, keep, MASKS[self.segment])}
        if self.segment == "text":
            return {**inputs, "input_ids": inputs["input_ids"].where(keep, self.mask_id)}
        return {**inputs, **{n: inputs[n] * keep[..., None].to(inputs[n].dtype) for n in names if n in FEATURES}}


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


def repeated(inputs: Inputs, batch: int, owners: Tensor) -> dict[str, Any]:
    """The inputs of the samples with these numbers, once for each time that a number is there."""
    return {
        name: value[owners] if isinstance(value, torch.Tensor) and value.dim() and len(value) == batch else value
        for name, value in inputs.items()
    }


def free_tokens(explanation: Explanation, segment: str, inputs: Inputs, tokenizer: Any) -> Bool[Tensor, "batch tokens"]:
    """Which tokens of a segment may be removed: those that the model takes in, that are no [CLS], [SEP] or the like,
    and not the one token that the answer is read from, where it is read from one."""
    one = explanation.segment(segment)
    free = one.positions >= 0
    if segment == "text" and tokenizer is not None:
        ends = [i for i in (getattr(tokenizer, name, None) for name in ENDS) if i is not None]
        free = free & ~torch.isin(inputs["input_ids"].cpu(), torch.tensor(ends))
    rows = explanation.flow.stream(one.stream).rows or ()
    for number, read in enumerate(rows):
        if len(read) == 1:
            free[number] &= one.positions[number] != read[0]
    return free


def upsampled(relevance: Tensor, grid: tuple[int, int], size: tuple[int, int], smooth: bool) -> Tensor:
    """Relevance of patches as that of pixels, (batch, rows, columns): bilinear, or of each patch the same."""
    maps = relevance.unflatten(1, grid)[:, None]
    if smooth:
        return torch.nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
    return torch.nn.functional.interpolate(maps, size, mode="nearest-exact")[:, 0]
