"""Maps over the pixels of a picture in a model's output: which there are, which class is the top one where.

Found from the names and shapes of the output's parts, as in :mod:`heedmap.outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import Context, class_logits, get, no_object

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
    output: object, context: Context, picked: Int[Tensor, " batch"], weights: Float[Tensor, "batch h w"]
) -> Float[Tensor, " batch"]:
    """The score of each sample's class ``picked``, averaged over the pixels by weights that sum to one; in the graph.

    Raises:
        TargetError: the output has no maps of this size.
    """
    queries = query_masks(output)
    if queries is None:
        maps = class_maps(output, context)
        return mean_over(maps[torch.arange(len(maps), device=maps.device), picked.to(maps.device)], weights)
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


def real_pixels(context: Context, batch: int, size: Sequence[int]) -> Float[Tensor, "batch h w"]:
    """1 for the pixels of a map that are of the picture, 0 for those of its padding (``pixel_mask``); on the CPU."""
    mask = context.inputs.get("pixel_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 3 or len(mask) != batch:
        return torch.ones(batch, *size)
    return torch.nn.functional.interpolate(apart(mask)[:, None], tuple(size))[:, 0]
