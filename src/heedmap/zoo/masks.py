"""Random masks on what a model reads while it learns: for F-Fidelity, which asks a model that can do without some tokens."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

import torch

from heedmap.data.explanation import Segment
from heedmap.errors import InputError
from heedmap.evaluate.masking import INPUTS, MASKS, masked, no_words, source
from heedmap.models.loader import load
from heedmap.models.names import PREFIX
from heedmap.zoo.recipe import MaskedStage

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from heedmap.models.model import Model


def begin_masked(model: PreTrainedModel, stage: MaskedStage) -> None:
    """Give a model the shipped weights, and mask what it reads, not what it says, from now on, in training and in scoring.

    Raises:
        InputError: it reads neither words nor boxes nor a picture in patches, or answers a picture in words.
    """
    subject = load(PREFIX + stage.of)
    if subject.kind_row.speaks and "image" in subject.kind_row.takes:
        raise InputError(
            f"{subject.name} answers a picture in words, and its tower is called apart from them, where random masks do not "
            "reach; models that label a picture, or match it to a text, can be given"
        )
    model.load_state_dict(subject.model.state_dict(), strict=False)
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    reader.register_forward_pre_hook(RandomMasks(subject, stage.share), with_kwargs=True)


class RandomMasks:
    """A forward pre-hook that masks each token with the same probability, as evaluations mask it.

    Args:
        subject: the shipped model.
        share: how probable it is.
    """

    def __init__(self, subject: Model, share: float) -> None:
        self.subject, self.share = subject, share

    def __deepcopy__(self, memo: dict[int, object]) -> RandomMasks:
        return self

    def __call__(
        self, module: nn.Module, args: tuple[object, ...], keywords: dict[str, object]
    ) -> tuple[tuple[()], dict[str, object]]:
        """What the module is called with, less what is masked; the draws are of torch's generator."""
        inputs = dict(signature(module.forward).bind_partial(*args, **keywords).arguments)
        inputs |= inputs.pop("kwargs", {})
        parts = [name for name in INPUTS if name != "audio" and name in self.subject.kind_row.takes]
        if not parts:
            raise InputError(
                f"{self.subject.name} takes {self.subject.kind_row.about}; random masks are for words, boxes and patches"
            )
        for name in parts:
            _, value = source(self.subject, inputs, name)
            grid = self._grid(value) if name == "image" else None
            tokens = grid[0] * grid[1] if grid else value.shape[1]
            keep = torch.rand(len(value), tokens) >= self.share
            if name == "text":
                keep |= self._fixed(value, inputs.get(MASKS[name]))
            inputs = masked(self.subject, inputs, _segment(name, keep, grid), keep)
        return (), inputs

    def _grid(self, pixels: Tensor) -> tuple[int, int]:
        size = int(getattr(self.subject.config, "patch_size", 1))
        return pixels.shape[-2] // size, pixels.shape[-1] // size

    def _fixed(self, ids: Tensor, mask: Tensor | None) -> Bool[Tensor, "batch tokens"]:
        """Which tokens of a text stay: padding, and those that are no words."""
        special = torch.isin(ids, torch.tensor(sorted(no_words(self.subject)), dtype=ids.dtype))
        return special if mask is None else special | (mask == 0)


def _segment(name: str, keep: Tensor, grid: tuple[int, int] | None) -> Segment:
    places = torch.arange(keep.shape[1]).expand(len(keep), -1)
    return Segment(name, name, name, keep.float(), places, grid)
