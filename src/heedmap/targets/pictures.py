"""Targets over the pixels of a picture: a class of a segmenter in a region, a mask of a prompt, depth.

Each is a mean of one map of the output, (batch, h, w), over the pixels of a place: a mask, a box or a point. The maps are found
from the names and shapes of the output's parts, as in :mod:`heedmap.outputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.common.printable import percent
from heedmap.errors import TargetError
from heedmap.outputs import Context, class_logits, get, no_object
from heedmap.targets.classes import class_index
from heedmap.targets.target import Chosen, OneOrEach, Target, at, in_range, per_sample

Place: TypeAlias = Tensor | np.ndarray | Sequence[float] | None
"""A mask (h, w) or (batch, h, w); a box x1 y1 x2 y2 or a point x y: whole numbers are pixels, others shares of the picture."""
MEANT = (
    "expected a mask (h, w) or (batch, h, w), a box (x1, y1, x2, y2) or a point (x, y): whole numbers are pixels of the "
    "picture that the model saw, numbers with a point are shares of it, 0.0 to 1.0"
)


def covered(place: Place, maps: Sequence[int], seen: tuple[int, int] | None) -> Float[Tensor, "batch h w"]:
    """How much of each pixel of a map lies in the place, on the CPU: float32, from 0, above 0 somewhere in each sample.

    Args:
        place: see :data:`Place`.
        maps: (batch, h, w), of the map.
        seen: (h, w) of the picture that the model saw; None: as the map.

    Raises:
        TargetError: it is no place, or outside of the picture; or the mask is empty or of another size.
    """
    batch, height, width = maps
    size = seen or (height, width)
    if isinstance(place, (Tensor, np.ndarray)) and place.ndim > 1:
        return _masked(apart(torch.as_tensor(place)), (batch, height, width), size)
    x, y = (_weights(*side) for side in zip(_shares(_numbers(place), size), (width, height), strict=True))
    return (y[:, None] * x).expand(batch, -1, -1)


def place_words(place: Place) -> str:
    """``in the box (0, 0, 8, 8)``, ``at (3, 5)`` or ``in the mask``."""
    if isinstance(place, (Tensor, np.ndarray)) and place.ndim > 1:
        return "in the mask"
    numbers = _numbers(place)
    told = _told(numbers)
    return f"at {told}" if len(numbers) == 2 else f"in the box {told}"


def _told(numbers: Sequence[int | float]) -> str:
    return f"({', '.join(str(n if isinstance(n, int) else round(n, 4)) for n in numbers)})"


def _masked(mask: Tensor, maps: tuple[int, int, int], seen: tuple[int, int]) -> Tensor:
    batch, size = maps[0], maps[1:]
    fits = mask.dim() in (2, 3) and tuple(mask.shape[-2:]) in (size, seen)
    if not fits or (mask.dim() == 3 and len(mask) != batch):
        raise TargetError(
            f"the mask has shape {tuple(mask.shape)}; expected (h, w) or ({batch}, h, w) with h×w the map's "
            f"{size[0]}×{size[1]}, or {seen[0]}×{seen[1]} as the picture that the model saw; resize it"
        )
    weights = mask.expand(batch, -1, -1)
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise TargetError("the mask has negative numbers or NaN; expected bool, or weights from 0 on")
    if bool((weights.sum((1, 2)) == 0).any()):
        raise TargetError("the mask is empty: no pixel of it is above 0; mark at least one in each sample")
    if tuple(mask.shape[-2:]) == size:
        return weights
    return torch.nn.functional.adaptive_avg_pool2d(weights, size)


def _numbers(place: Place) -> list[int | float]:
    numbers = place.tolist() if isinstance(place, (Tensor, np.ndarray)) else place
    given = numbers if isinstance(numbers, Sequence) and not isinstance(numbers, str) else ()
    plain = [number.item() if isinstance(number, np.generic) else number for number in given]
    known = all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in plain)
    if len(plain) not in (2, 4) or not known:
        raise TargetError(f"where={place!r:.60} is no place; {MEANT}")
    return plain


def _shares(numbers: Sequence[int | float], seen: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(x1, x2) and (y1, y2), 0 to 1; of a point both are the same."""
    told = _told(numbers)
    pixels, point = all(isinstance(number, int) for number in numbers), len(numbers) == 2
    if pixels and not point and max(numbers) <= 1:
        raise TargetError(f"the box {told} may be one pixel or all of the picture; write 1.0 where a share is meant")
    low = [float(number) for number in numbers[:2]]
    high = low if point else [float(number) for number in numbers[2:]]
    limits = (seen[1], seen[0]) if pixels else (1, 1)
    inside = all(
        a >= 0 and (a < limit if pixels else a <= limit) if point else 0 <= a < b <= limit
        for a, b, limit in zip(low, high, limits, strict=True)
    )
    if not inside:
        what, order = ("point", "") if point else ("box", ", x1 < x2 and y1 < y2")
        last = f"pixels 0 to {limits[0] - point} and 0 to {limits[1] - point}" if pixels else "shares from 0.0 to 1.0"
        raise TargetError(
            f"the {what} {told} does not lie in the picture that the model saw, {seen[1]} pixels wide and {seen[0]} high; "
            f"expected {last}{order}"
        )
    half = 0.5 if pixels and point else 0.0
    (x1, x2), (y1, y2) = (
        ((a + half) / limit, (b + half) / limit) for a, b, limit in zip(low, high, limits, strict=True)
    )
    return (x1, x2), (y1, y2)


def _weights(ends: tuple[float, float], count: int) -> Float[Tensor, " pixels"]:
    """How much of each of ``count`` pixels lies between two shares; of a point: 1 for the pixel that it lies in."""
    first, last = (end * count for end in ends)
    places = torch.arange(count, dtype=torch.float64)
    if first == last:
        return (places == min(int(first), count - 1)).float()
    return ((places + 1).clamp(max=last) - places.clamp(min=first)).clamp(min=0).float()


PRESENT = 8
"""Classes of a picture that a message names."""
THE_MAP = "the map"
"""What the only map of an output is called that is no class of the configuration."""


@dataclass(frozen=True)
class Region(Target):
    """The score of a class of a segmenter, averaged over a region of the picture.

    From logits (batch, classes, h, w); from those of one map, (batch, h, w) (CLIPSeg: of its text); or from queries with
    masks (Mask2Former, MaskFormer, OneFormer, EoMT, DETR): the score of class c at a pixel is Σ_q p_q(c)·sigmoid(mask_q), as
    the models' own ``post_process_semantic_segmentation`` has it, at the masks' own resolution.

    Attributes:
        label: class index or name; None: the class that is the top one at most pixels of the region. A sequence gives each
            sample its own.
        where: the region. None: the pixels where the class is the top one (of one map: where it is above 0, and where that
            is nowhere, its highest pixel). A mask, bool or weights from 0, (h, w) or (batch, h, w), of as many pixels as the
            logits or as the picture that the model saw. A box (x1, y1, x2, y2) or a point (x, y): whole numbers are pixels
            of the picture that the model saw, numbers with a point are shares of it, 0.0 to 1.0.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import DPTConfig, DPTForSemanticSegmentation
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
        >>> necks = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
        >>> model = DPTForSemanticSegmentation(DPTConfig(**sizes, **necks, image_size=32, patch_size=8, num_labels=3))
        >>> target = heedmap.targets.Region(2, where=(0, 0, 16, 32))
        >>> heedmap.explain(model, {"pixel_values": torch.randn(1, 3, 32, 32)}, target=target).target
        ('class 2 in the box (0, 0, 16, 32)',)
    """

    label: OneOrEach = None
    where: Place = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        maps = pixel_scores(context.read(output), context)
        batch, classes = maps.shape[:2]
        top = top_classes(maps)
        real = real_pixels(context, top.shape)
        region = real if self.where is None else covered(self.where, top.shape, picture_size(context))
        shares = class_shares(top, region, classes)
        prediction = shares.argsort(dim=-1, descending=True, stable=True)[:, 0]
        labels = per_sample(self.label, batch, "class")
        wanted = [None if label is None else self._index(label, maps, context) for label in labels]
        picked = torch.tensor([t if w is None else w for w, t in zip(wanted, prediction.tolist(), strict=True)])
        if self.where is None:
            region = self._top_region(top, real, picked, shares, context)
        values = partial(mean_scores, context, picked, region / region.sum((1, 2), keepdim=True))
        scores = values(output)
        words = tuple(self._words(int(c), maps[i], shares[i], context) for i, c in enumerate(picked))
        return Chosen(scores, words, prediction if classes > 1 else None, values)

    def _words(self, index: int, maps: Tensor, shares: Tensor, context: Context) -> str:
        name = class_name(index, len(maps), context)
        if self.where is not None:
            return f"{name} {place_words(self.where)}"
        if len(maps) == 1 and not bool((maps > 0).any()):
            return f"{name} at its highest pixel, as it is nowhere above 0"
        return f"{name} over its pixels, {percent(float(shares[index]))} of the picture"

    @staticmethod
    def _index(label: int | str, maps: Tensor, context: Context) -> int:
        if isinstance(label, str) and class_name(0, maps.shape[1], context) == THE_MAP:
            raise TargetError(f"there is one map, and none is called {label!r}; give no label, or where= for a region")
        return class_index(label, maps.shape[1], context)

    @staticmethod
    def _top_region(top: Tensor, real: Tensor, picked: Tensor, shares: Tensor, context: Context) -> Tensor:
        """(batch, h, w): the pixels where ``picked`` is the top class."""
        region = real * (top == picked[:, None, None])
        for i in (region.sum((1, 2)) == 0).nonzero()[:, 0].tolist():
            present = ", ".join(
                f"{name} ({percent(share)})" for _, name, share in _present(shares[i], context)[:PRESENT]
            )
            raise TargetError(
                f"{context.name(int(picked[i]))} is the top class at no pixel, so it has no region of its own; the picture "
                f"has {present}; give one of these, or where= (a mask, a box or a point)"
            )
        return region


def present_classes(output: object, context: Context) -> list[tuple[int, str, float]]:
    """Of the first sample, the classes that are the top ones somewhere: index, name, share of the pixels; the largest first."""
    maps = pixel_scores(context.read(output), context)
    classes, top = maps.shape[1], top_classes(maps)
    shares = class_shares(top, real_pixels(context, top.shape), classes)[0]
    single = class_name(0, classes, context) == THE_MAP
    return [(c, THE_MAP if single else name, share) for c, name, share in _present(shares, context)]


def _present(shares: Float[Tensor, " classes"], context: Context) -> list[tuple[int, str, float]]:
    order = shares.argsort(descending=True, stable=True).tolist()
    return [(c, context.short(c), float(shares[c])) for c in order if shares[c] > 0]


def class_name(index: int, classes: int, context: Context) -> str:
    """``class 3 (sky)``, or :data:`THE_MAP`."""
    return THE_MAP if classes == 1 and context.counts and 1 not in context.counts else context.name(index)


def _over(read: Callable[[object], Tensor], weights: Tensor, output: object) -> Tensor:
    return mean_over(read(output), weights)


@dataclass(frozen=True)
class PromptMask(Target):
    """The mean logit of a mask inside itself, of a model that segments what is pointed at (SAM).

    From ``pred_masks`` (batch, prompts, masks, h, w) and ``iou_scores`` (batch, prompts, masks). Inside is where the logit
    is above 0; a mask that is nowhere above 0 is explained at its highest pixel.

    Attributes:
        prompt: number of the prompt (an object that is pointed at), from 0.
        mask: number of the mask among those of the prompt; None: the one that the model holds best, by ``iou_scores``.

    Examples:
        >>> import heedmap, torch
        >>> masks = torch.full((1, 2, 3, 4, 4), -1.0)
        >>> masks[0, 1, 2, :2] = 3
        >>> output = {"pred_masks": masks, "iou_scores": torch.tensor([[[0.1, 0.2, 0.1], [0.3, 0.2, 0.9]]])}
        >>> chosen = heedmap.targets.PromptMask(prompt=1).choose(output, heedmap.targets.Context())
        >>> chosen.words, chosen.values.tolist()
        (('mask 2 of prompt 1, 50.0 % of the picture',), [3.0])
    """

    prompt: int = 0
    mask: int | None = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        masks = prompt_masks(context.read(output))
        prompt = in_range(self.prompt, masks.shape[1], "prompt")
        picked = self._picked(context.read(output), masks, prompt)
        read = partial(_mask_of, context, prompt, picked)
        scores = apart(read(output))
        region = inside(scores)
        values = partial(_over, read, region / region.sum((1, 2), keepdim=True))
        shares = (scores > 0).float().mean((1, 2)).tolist()
        words = tuple(
            f"mask {mask} of prompt {prompt}, {percent(share)} of the picture" if share else
            f"mask {mask} of prompt {prompt}, which is empty, at its highest pixel"
            for mask, share in zip(picked.tolist(), shares, strict=True)
        )  # fmt: skip
        return Chosen(values(output), words, again=values)

    def _picked(self, output: object, masks: Tensor, prompt: int) -> Tensor:
        """(batch,): the mask of each sample."""
        if self.mask is not None:
            return torch.full((len(masks),), in_range(self.mask, masks.shape[2], "mask"))
        quality = get(output, "iou_scores")
        if not isinstance(quality, Tensor) or quality.shape != masks.shape[:3]:
            raise TargetError(
                f"there are no iou_scores {tuple(masks.shape[:3])}, by which the best mask is known; give mask=, 0 to "
                f"{masks.shape[2] - 1}"
            )
        return apart(quality[:, prompt]).argsort(dim=-1, descending=True, stable=True)[:, 0]


def prompt_masks(output: object) -> Float[Tensor, "batch prompts masks h w"]:
    """``pred_masks`` of prompts; TargetError where there are none."""
    masks = get(output, "pred_masks")
    if not isinstance(masks, Tensor) or masks.dim() != 5:
        shape = f", {tuple(masks.shape)}" if isinstance(masks, Tensor) else ""
        raise TargetError(
            f"PromptMask needs pred_masks (batch, prompts, masks, h, w) in the output{shape}; of a segmenter without "
            "prompts a class is explained: Region"
        )
    return masks


def _mask_of(context: Context, prompt: int, picked: Tensor, output: object) -> Tensor:
    masks = prompt_masks(context.read(output))
    return masks[torch.arange(len(masks), device=masks.device), prompt, picked.to(masks.device)]


@dataclass(frozen=True)
class Depth(Target):
    """The depth that a model predicts, at a point or averaged over a region: ``predicted_depth``, (batch, h, w).

    Attributes:
        where: a point (x, y), a box, or a mask, as for :class:`Region`; None: the whole picture.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import DPTConfig, DPTForDepthEstimation
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
        >>> necks = {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
        >>> seed = torch.manual_seed(4)
        >>> model = DPTForDepthEstimation(DPTConfig(**sizes, **necks, image_size=32, patch_size=8))
        >>> target = heedmap.targets.Depth(where=(0.5, 0.25))
        >>> heedmap.explain(model, {"pixel_values": torch.randn(1, 3, 32, 32)}, target=target).target
        ('depth at (0.5, 0.25)',)
    """

    where: Place = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        read = partial(_depth, context)
        size = read(output).shape
        if self.where is None:
            region, words = real_pixels(context, size), "mean depth"
        else:
            region, words = covered(self.where, size, picture_size(context)), f"depth {place_words(self.where)}"
        values = partial(_over, read, region / region.sum((1, 2), keepdim=True))
        return Chosen(values(output), (words,) * size[0], again=values)


def _depth(context: Context, output: object) -> Tensor:
    depth = get(context.read(output), "predicted_depth")
    if not isinstance(depth, Tensor) or depth.dim() != 3:
        raise TargetError("Depth needs predicted_depth (batch, h, w) in the output, which has none")
    return depth


MASKED = (("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks"))
"""Names of the class logits (batch, queries, classes) and of the mask logits (batch, queries, h, w) of object queries."""


def apart(tensor: Tensor) -> Tensor:
    """A copy on the CPU that no recorder follows: by it a target chooses what it then reads. bfloat16 and half as float32."""
    plain = tensor.detach().cpu()
    return torch.from_numpy((plain if plain.dtype == torch.float64 else plain.float()).numpy().copy())


def pixel_scores(output: object, context: Context) -> Float[Tensor, "batch classes h w"]:
    """The score of each class at each pixel, see :func:`apart`; of one map, (batch, h, w), it is the only class.

    Raises:
        TargetError: the output has no such maps.
    """
    queries = query_masks(output)
    if queries is None:
        return apart(class_maps(output, context))
    classes, masks = map(apart, queries)
    none = no_object(classes, context)
    odds = classes.sigmoid() if none is None else classes.softmax(-1)
    kept = [index for index in range(classes.shape[-1]) if index != none]
    return torch.einsum("bqc,bqhw->bchw", odds[..., kept], masks.sigmoid())


def mean_scores(
    context: Context, picked: Int[Tensor, " batch"], weights: Float[Tensor, "batch h w"], output: object
) -> Float[Tensor, " batch"]:
    """The score of each sample's class ``picked``, averaged over the pixels by weights that sum to one; in the graph.

    Raises:
        TargetError: the output has no maps of this size.
    """
    output = context.read(output)
    queries = query_masks(output)
    if queries is None:
        maps = class_maps(output, context)
        return mean_over(at(maps, picked), weights)
    classes, masks = queries
    scores = classes.gather(2, picked.to(classes.device)[:, None, None].expand(-1, classes.shape[1], 1))[..., 0]
    none = no_object(classes, context)
    odds = scores.sigmoid() if none is None else (scores - classes.logsumexp(-1)).exp()
    means = mean_over(masks.sigmoid().flatten(0, 1), weights.repeat_interleave(masks.shape[1], 0))
    return (odds * means.reshape(odds.shape)).sum(1)


def mean_over(maps: Float[Tensor, "batch h w"], weights: Float[Tensor, "batch h w"]) -> Float[Tensor, " batch"]:
    """Of each map the mean by weights that sum to one; TargetError where it is of another size."""
    if maps.shape != weights.shape:
        raise TargetError(f"the output has maps {tuple(maps.shape)}; the region was chosen in {tuple(weights.shape)}")
    return (maps * weights.to(maps.device)).sum((1, 2))


def class_maps(output: object, context: Context) -> Float[Tensor, "batch classes h w"]:
    """The logits of a segmenter without queries, in the graph; TargetError where there are none."""
    logits = class_logits(output, None)
    if logits.dim() == 4:
        return logits
    if not is_map(logits, context):
        raise TargetError(
            "Region needs logits (batch, classes, h, w), a map (batch, h, w) of the picture, or queries with masks in the "
            f"output; the logits have shape {tuple(logits.shape)}"
        )
    return logits[:, None]


def query_masks(output: object) -> tuple[Tensor, Tensor] | None:
    """Class logits (batch, queries, classes) and mask logits (batch, queries, h, w) of object queries, or None."""
    for names in MASKED:
        classes, masks = (get(output, name) for name in names)
        if isinstance(classes, Tensor) and isinstance(masks, Tensor) and (classes.dim(), masks.dim()) == (3, 4):
            return (classes, masks) if classes.shape[:2] == masks.shape[:2] else None
    return None


def is_map(logits: Tensor, context: Context) -> bool:
    """Whether (batch, h, w) are the pixels of one map: as many as the picture has that the model saw."""
    return logits.dim() == 3 and tuple(logits.shape[1:]) == picture_size(context)


def picture_size(context: Context) -> tuple[int, int] | None:
    """Height and width in pixels of the picture that the model saw: (…, h, w) of its inputs; None: there is none."""
    given = (context.inputs.get("pixel_values"), *context.inputs.values())
    sizes = (v.shape[-2:] for v in given if isinstance(v, Tensor) and v.dim() in (4, 5) and v.is_floating_point())
    height, width = next(sizes, (0, 0))
    return (int(height), int(width)) if height else None


def top_classes(maps: Float[Tensor, "batch classes h w"]) -> Int[Tensor, "batch h w"]:
    """The top class of each pixel, of one class alone 0 inside of it, see :func:`inside`, and -1 elsewhere."""
    return maps.argmax(1) if maps.shape[1] > 1 else inside(maps[:, 0]).long() - 1


def inside(mask: Float[Tensor, "batch h w"]) -> Float[Tensor, "batch h w"]:
    """1 where the logits of a mask are above 0; where they are nowhere, at the highest."""
    best = torch.nn.functional.one_hot(mask.flatten(1).argmax(-1), mask[0].numel()).reshape(mask.shape)
    above = mask > 0
    return torch.where(above.any(-1).any(-1)[:, None, None], above, best).float()


def class_shares(top: Tensor, weights: Float[Tensor, "batch h w"], classes: int) -> Float[Tensor, "batch classes"]:
    """For each class the share of the weighted pixels where it is the top one."""
    pairs = zip(top.flatten(1), weights.flatten(1), strict=True)
    counts = torch.stack([torch.bincount(t + 1, w.double(), classes + 1)[1:] for t, w in pairs])
    return (counts / weights.double().sum((1, 2))[:, None]).float()


def real_pixels(context: Context, maps: Sequence[int]) -> Float[Tensor, "batch h w"]:
    """1 for the pixels of maps, (batch, h, w), that are of the picture, 0 for its padding (``pixel_mask``); on the CPU."""
    mask = get(context.inputs, "pixel_mask")
    if mask is None or mask.dim() != 3 or len(mask) != maps[0]:
        return torch.ones(*maps)
    return torch.nn.functional.interpolate(apart(mask)[:, None], tuple(maps[1:]))[:, 0]
