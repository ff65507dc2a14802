"""Models' inputs without some of their tokens, which are masked, taken out, or replaced by something that does not look empty.

A masked word becomes a token that says nothing, masked patches and boxes become zeros, and nothing changes its shape; what is
taken out the model never sees; what is replaced becomes the picture blurred, words and boxes of other samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from heedmap.common.extras import library
from heedmap.engine.explain import explain
from heedmap.errors import InputError, OptionError, SampleError
from heedmap.evaluate.answer import inputs_of
from heedmap.methods.cards import CHANCE
from heedmap.models.inputs import standard
from heedmap.models.words import special_ids
from heedmap.outputs import get, needed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from heedmap.data.segments import Segment
    from heedmap.datasets.sample import Reader, Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.types import Tokenizer

INPUTS: Mapping[str, tuple[str, ...]] = {
    "text": ("input_ids",),
    "image": ("pixel_values",),
    "boxes": ("visual_feats", "visual_embeds"),
    "audio": ("input_features", "input_values"),
}
"""Segment → the inputs, as transformers calls them, that it may be of. Other segments are no input of a person's."""
MASKS: Mapping[str, str] = {"text": "attention_mask", "boxes": "visual_attention_mask"}
"""Segment → the input that is 0 where its tokens are padding."""
FILLERS = ("mask_token_id", "unk_token_id", "pad_token_id")
"""Tokens that a masked word becomes: the first that there is, and that does not also end texts."""
ENDS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
PLACES = ("image_token_id", "image_token_index", "video_token_id", "audio_token_id", "audio_token_index")
"""Settings of a model that name tokens which only keep a place."""
TOKENS = {
    "text": ("input_ids", "attention_mask", "token_type_ids"),
    "boxes": ("visual_feats", "visual_pos", "visual_embeds", "visual_attention_mask", "visual_token_type_ids"),
}
"""Segment → the inputs that have one entry for each of its tokens, along their second dimension."""
NO_PADDING = 1e-6
"""Of masked pixels, where a model takes several pictures: one that is 0 everywhere is none."""
WAYS = ("drop", "mask", "replace")
FILLS = WAYS[1:]
"""Those in which every token keeps its place."""
BLUR = 1 / 8
"""Standard deviation of the Gaussian, as a share of the picture's shorter side."""
DONORS = 32
"""Samples whose words and boxes are put into others."""


# -- masked ------------------------------------------------------------------------------------------------------------


def masked(
    subject: Model, inputs: Mapping[str, object], segment: Segment, keep: Bool[Tensor, "batch tokens"]
) -> dict[str, object]:
    """The inputs with the tokens of one segment masked that are not in ``keep``; nothing changes its shape.

    A word becomes the tokenizer's mask token, else its unknown or padding token; where it has none of its own for that, the
    attention mask hides the word. The pixels of a patch become 0, which after normalisation is the mean picture, so do the
    features of a box and the samples of a sound; of a sound's spectrogram the least value there.

    Args:
        subject: the model.
        inputs: what it is called with; their batch is that of ``keep``.
        segment: of an explanation of the same model, for inputs of the same sizes; its own batch does not matter.
        keep: which tokens of the segment stay.

    Raises:
        InputError: the segment's tokens are not to be found in the inputs one by one.
    """
    name, value = source(subject, inputs, segment.name)
    kept = keep.to(value.device)
    if segment.name == "text":
        _check_one_by_one(segment, value, kept)
        return _words(subject, inputs, name, value, kept)
    if segment.name == "boxes":
        _check_one_by_one(segment, value, kept)
        return {**inputs, name: value * kept[..., None].to(value.dtype)}
    if segment.name == "image":
        return {**inputs, name: _patches(segment, value, kept)}
    return {**inputs, name: _sound(segment, value, kept)}


def source(subject: Model, inputs: Mapping[str, object], segment: str) -> tuple[str, Tensor]:
    """Name and value of the input that a segment is of; InputError where there is none."""
    for name in (subject.renamed.get(name, name) for name in INPUTS.get(segment, ())):
        if (value := get(inputs, name)) is not None:
            return name, value
    raise InputError(
        f"the segment {segment!r} is of none of the inputs ({', '.join(inputs)}); tokens can be masked in "
        f"{', '.join(INPUTS)}"
    )


def _check_one_by_one(segment: Segment, value: Tensor, keep: Tensor) -> None:
    if value.dim() < 2 or value.shape[1] != keep.shape[1]:
        raise InputError(
            f"the segment {segment.name!r} has {keep.shape[1]} tokens and its input the shape {tuple(value.shape)}; tokens can "
            "only be masked where each is one entry of the input"
        )


def _words(subject: Model, inputs: Mapping[str, object], name: str, ids: Tensor, keep: Tensor) -> dict[str, object]:
    filler = filling(subject.tokenizer)
    if filler is not None:
        return {**inputs, name: ids.where(keep, filler)}
    mask = subject.renamed.get("attention_mask", "attention_mask")
    if mask not in subject.parameters:
        raise InputError(
            f"words cannot be masked: the tokenizer of {subject.name} has no mask, unknown or padding token, and the model takes "
            "no attention_mask"
        )
    before = get(inputs, mask)
    return {**inputs, mask: keep.long() if before is None else before * keep.to(before.dtype)}


def filling(tokenizer: Tokenizer | None) -> int | None:
    """Id of the token that a masked word becomes; None: there is none that means nothing else."""
    ends = {getattr(tokenizer, name, None) for name in ENDS}
    ids = [getattr(tokenizer, name, None) for name in FILLERS]
    return next((i for i in ids if i is not None and i not in ends), None)


def _patches(segment: Segment, value: Tensor, keep: Tensor) -> Tensor:
    several = value.dim() == 5 and value.shape[1] == 1
    if segment.grid is None or not (several or value.dim() == 4) or segment.grid[0] * segment.grid[1] != keep.shape[1]:
        raise InputError(
            f"the picture's {keep.shape[1]} tokens are no grid over pixels of shape {tuple(value.shape)}; patches can only be "
            "masked in pixel_values (batch, channels, rows, columns), or (batch, 1, channels, rows, columns)"
        )
    rows, columns = value.shape[-2:]
    cover = upsampled(keep.float(), segment.grid, (rows, columns), smooth=False)[:, None].to(value.dtype)
    return value * cover if not several else value * cover[:, None] + (1 - cover[:, None]) * NO_PADDING


def _sound(segment: Segment, value: Tensor, keep: Tensor) -> Tensor:
    if value.dim() not in (2, 3) or segment.grid is not None:
        raise InputError(
            f"the sound has shape {tuple(value.shape)}; its tokens can only be masked in (batch, samples) or (batch, bands, time)"
        )
    cover = interpolate(keep[:, None].float(), value.shape[-1], mode="nearest-exact") > 0
    if value.dim() == 2:
        return value.where(cover[:, 0], 0)
    return value.where(cover, value.amin((1, 2), keepdim=True))


def padding_mask(subject: Model, inputs: Mapping[str, object], segment: str) -> Tensor | None:
    """The input that is 0 where a segment's tokens are padding; None: there is none."""
    return get(standard(inputs, subject.renamed), MASKS.get(segment, ""))


def real_tokens(
    subject: Model, inputs: Mapping[str, object], explanation: Explanation, name: str
) -> Bool[Tensor, "batch tokens"]:
    """Which tokens of a segment are no padding and were taken in by the model; on the CPU."""
    segment = explanation.segment(name)
    real = segment.positions >= 0
    mask = padding_mask(subject, inputs, name)
    if mask is not None and mask.shape == real.shape:
        real = real & (mask.cpu() != 0)
    pixels = get(inputs, "pixel_mask")
    if name == "image" and segment.grid is not None and pixels is not None and pixels.dim() == 3:
        real_pixels = interpolate(pixels[:, None].float().cpu(), segment.grid, mode="nearest-exact")
        real = real & (real_pixels.flatten(1) > 0)
    return real


def free_tokens(
    subject: Model, inputs: Mapping[str, object], explanation: Explanation, name: str
) -> Bool[Tensor, "batch tokens"]:
    """Which tokens of a segment may be masked: the real ones that are words, patches or boxes.

    [CLS], [SEP] and the like stay, tokens that only keep a place, and the token that the answer is read from, if it is one.
    """
    segment = explanation.segment(name)
    free = real_tokens(subject, inputs, explanation, name)
    if name == "text":
        ids = source(subject, inputs, name)[1].cpu()
        if ids.shape == free.shape:
            free = free & ~torch.isin(ids, torch.tensor(sorted(no_words(subject)), dtype=ids.dtype))
    for number, read in enumerate(explanation.flow.stream(segment.stream).rows or ()):
        if len(read) == 1:
            free[number] &= segment.positions[number] != read[0]
    return free


def no_words(subject: Model) -> set[int]:
    """Ids of tokens that are no words: special ones, but for unknown and masked words, and those that keep a place."""
    tokenizer, config = subject.tokenizer, subject.config
    words = {getattr(tokenizer, name, None) for name in ("unk_token_id", "mask_token_id")}
    special = [token for token in special_ids(tokenizer) if token not in words]
    named = [getattr(tokenizer, name, None) for name in ENDS] + [getattr(config, name, None) for name in PLACES]
    return {token for token in (*special, *named) if isinstance(token, int)}


def spread(value: Tensor, mask: Tensor | None) -> Float[Tensor, " batch"]:
    """Standard deviation of each sample's numbers, (batch, …), without those of tokens that ``mask`` hides."""
    flat = value.detach().float().flatten(1)
    if mask is None or mask.shape != value.shape[:2]:
        return flat.std(1, correction=0)
    weight = (mask != 0).to(flat).repeat_interleave(flat.shape[1] // mask.shape[1], 1)
    count = weight.sum(1).clamp(min=1)
    mean = (flat * weight).sum(1) / count
    return (((flat - mean[:, None]).square() * weight).sum(1) / count).sqrt()


# -- taken out ---------------------------------------------------------------------------------------------------------


def without(
    subject: Model,
    inputs: Mapping[str, object],
    segment: Segment,
    keep: Bool[Tensor, "batch tokens"],
    way: str,
    instead: Tensor | None = None,
) -> dict[str, object]:
    """The inputs with only the tokens of one segment that are in ``keep``.

    Args:
        subject: the model.
        inputs: what it is called with.
        segment: of an explanation; its own batch does not matter.
        keep: of words and boxes which tokens stay; of a picture which pixels, (batch, rows, columns). Pixels that are dropped or
            masked become 0, the mean of what the model was trained on: patches cannot be taken out of most models.
        way: ``"drop"`` takes tokens out, ``"mask"`` hides them, see :func:`~heedmap.evaluate.masking.masked`;
            ``"replace"`` puts ``instead`` where they were.
        instead: of the input's shape, see :func:`~heedmap.evaluate.masking.filled`; for ``"replace"`` alone.

    Raises:
        InputError: the segment's tokens are not to be found in the inputs one by one.
    """
    if way == "replace":
        assert instead is not None, "what is put in the place of tokens has to be given"
        return _replaced(subject, inputs, segment, keep, instead)
    if segment.name == "image":
        return _blank(subject, inputs, keep)
    return _dropped(inputs, segment, keep) if way == "drop" else masked(subject, inputs, segment, keep)


def check_remove(remove: str, ways: Sequence[str] = WAYS) -> None:
    """OptionError where tokens cannot be removed so."""
    if remove not in ways:
        raise OptionError(f"remove is {remove!r}; expected {', '.join(map(repr, ways[:-1]))} or {ways[-1]!r}")


def _blank(subject: Model, inputs: Mapping[str, object], keep: Bool[Tensor, "batch rows columns"]) -> dict[str, object]:
    name = subject.renamed.get("pixel_values", "pixel_values")
    values = get(inputs, name)
    if values is None or values.dim() != 4:
        raise InputError(f"a picture's pixels can only be removed from {name} (batch, channels, rows, columns)")
    return {**inputs, name: values * keep[:, None].to(values.dtype)}


def _replaced(
    subject: Model, inputs: Mapping[str, object], segment: Segment, keep: Bool[Tensor, "batch ..."], instead: Tensor
) -> dict[str, object]:
    name, value = source(subject, inputs, segment.name)
    if segment.name == "image":
        return {**inputs, name: value.where(keep[:, None], instead)}
    _check_one_by_one(segment, value, keep)
    return {**inputs, name: value.where(keep.reshape(*keep.shape, *(1 for _ in value.shape[2:])), instead)}


def _dropped(inputs: Mapping[str, object], segment: Segment, keep: Bool[Tensor, "batch tokens"]) -> dict[str, object]:
    known = {name: value for name in TOKENS.get(segment.name, ()) if (value := get(inputs, name)) is not None}
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
    taken = {name: _blanked(tensor[rows, places], real) for name, tensor in tensors.items()}
    return taken if mask in taken else {**taken, mask: real.long()}


def _blanked(tensor: Tensor, real: Bool[Tensor, "batch tokens"]) -> Tensor:
    return tensor * real.reshape(*real.shape, *(1 for _ in tensor.shape[2:])).to(tensor.dtype)


def upsampled(relevance: Tensor, grid: tuple[int, int], size: tuple[int, int], smooth: bool) -> Tensor:
    """Relevance of patches as that of pixels, (batch, rows, columns), by torch: bilinear, or of each patch the same.

    One of two: segmentation and detection scale by Pillow (:func:`heedmap.evaluate.evidence.upsampled`), whose last
    bit differs, so that neither can stand in for the other without a change of figures that were published.
    """
    maps = relevance.unflatten(1, grid)[:, None]
    if smooth:
        return interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
    return interpolate(maps, size, mode="nearest-exact")[:, 0]


# -- replaced ----------------------------------------------------------------------------------------------------------


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
    subject: Model, inputs: Mapping[str, object], segment: str, keys: Sequence[str], donors: Sequence[Sample], seed: int
) -> Tensor:
    """For each place of a segment's input what stands there when its token is gone; of the input's shape and dtype.

    All is drawn before anything is removed, so that it depends on the sample, the place and the seed alone: not on the map, the
    step or the batch.

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
