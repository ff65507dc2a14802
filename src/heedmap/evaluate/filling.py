"""What is put where tokens are taken away, when nothing is to look empty: the picture blurred, words and boxes of other samples.

Each number stands ready for each place before anything is removed, so that it depends on the sample, the place and the seed
alone: not on the map, the step or the batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.common.extras import library
from heedmap.engine.explain import explain
from heedmap.errors import InputError, SampleError
from heedmap.evaluate.answer import inputs_of
from heedmap.evaluate.perturb.masking import free_tokens, source
from heedmap.methods.cards import CHANCE
from heedmap.outputs import needed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from heedmap.datasets.sample import Reader, Sample
    from heedmap.models.model import Model

BLUR = 1 / 8
"""Standard deviation of the Gaussian, as a share of the picture's shorter side."""
DONORS = 32
"""Samples whose words and boxes are put into others."""


def blurred(pixels: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch channels rows columns"]:
    """Each picture under a Gaussian of :data:`BLUR`; beyond its edge the outermost pixels go on.

    Raises:
        MissingLibraryError: there is no scipy.
    """
    gaussian = library("scipy.ndimage", "eval", "blurred pictures need").gaussian_filter
    sigma = BLUR * min(pixels.shape[-2:])
    soft = gaussian(pixels.detach().cpu().double().numpy(), sigma, axes=(-2, -1), mode="nearest")
    return torch.from_numpy(soft).to(pixels)


def donors_of(reader: Reader, seed: int, count: int = DONORS) -> tuple[Sample, ...]:
    """Samples that can be read, drawn by the seed; those that cannot are passed over."""
    donors: list[Sample] = []
    for index in np.random.default_rng(seed).permutation(len(reader)).tolist():
        if len(donors) == count:
            break
        with suppress(SampleError):
            donors.append(reader[index])
    return tuple(donors)


def filled(
    subject: Model,
    inputs: Mapping[str, object],
    segment: str,
    keys: Sequence[str],
    donors: Sequence[Sample],
    seed: int,
) -> Tensor:
    """For each place of a segment's input what stands there when its token is gone; of the input's shape and dtype.

    Args:
        subject: the model.
        inputs: what it is called with, of the samples ``keys``.
        segment: ``"image"``: the picture :func:`blurred`. ``"text"``, ``"boxes"``: at each place one of all words or boxes'
            features of the donors, without the sample's own, each as probable as it is frequent there.
        keys: of the samples.
        donors: other samples; not looked at for a picture.
        seed: of the draws.

    Raises:
        InputError: the segment is of none of the inputs, or there is no other sample.
    """
    name, value = source(subject, inputs, segment)
    if segment == "image":
        if value.dim() != 4:
            raise InputError(
                f"the picture has shape {tuple(value.shape)}; it can only be blurred in pixel_values (batch, channels, rows, "
                "columns)"
            )
        return blurred(value)
    pool, owners = _pool(subject, segment, name, donors)
    rows = []
    for key in keys:
        others = [number for number, owner in enumerate(owners) if owner != key]
        if not others:
            raise InputError(
                f"there is no {segment} of another sample than {key} to put where tokens are removed; give more samples"
            )
        generator = np.random.default_rng([seed, zlib.crc32(key.encode()), zlib.crc32(segment.encode())])
        drawn = generator.integers(len(others), size=value.shape[1])
        rows.append(pool[torch.tensor(others)[torch.from_numpy(drawn)]])
    return torch.stack(rows).to(value)


def _pool(subject: Model, segment: str, name: str, donors: Sequence[Sample]) -> tuple[Tensor, list[str]]:
    """All words or boxes of the donors that may be removed, and whose each is."""
    if not donors:
        return torch.empty(0), []
    inputs = inputs_of(subject, donors)
    explanation = explain(subject, inputs, method=CHANCE)
    free = free_tokens(subject, inputs, explanation, segment)
    value = needed(inputs, name).cpu()
    if value.shape[:2] != free.shape:
        raise InputError(
            f"the segment {segment!r} has {free.shape[1]} tokens and its input the shape {tuple(value.shape)}; other "
            "samples' tokens can only be put where each is one entry of the input"
        )
    return value[free], [donors[row].key for row in free.nonzero()[:, 0].tolist()]
