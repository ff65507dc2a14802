"""TAM: where in a picture the model would say the token too, less what the words before it would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.attention.token_positions import InputSpan
from heedmap.errors import OptionError
from heedmap.methods.layers import for_all_rows
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.methods.spoken import Spoken, spoken

NAME = "tam"
WINDOW = 3
"""Rows and columns of the filter."""


def filtered(picture: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The rank-Gaussian filter: of each window of 3×3 its sorted values, weighted by their distance from the median's rank.

    The weights are exp(−d² / 2σ²), σ the window's standard deviation over its mean; where σ is 0, the median. Windows at the
    border see the picture mirrored.
    """
    pad = [WINDOW // 2 if size > WINDOW // 2 else 0 for size in picture.shape]
    edge = F.pad(picture[None, None], (pad[1], pad[1], pad[0], pad[0]), mode="reflect")[0, 0]
    windows = edge.unfold(0, 1 + 2 * pad[0], 1).unfold(1, 1 + 2 * pad[1], 1).flatten(2).sort(-1).values
    count = windows.shape[-1]
    ranks = torch.arange(count, dtype=picture.dtype, device=picture.device) - count // 2
    mean = windows.mean(-1, keepdim=True)
    spread = windows.std(-1, correction=0, keepdim=True) / torch.where(mean > 0, mean, 1.0)
    weights = torch.exp(-ranks.square() / (2 * spread.square()).clamp(min=torch.finfo(picture.dtype).tiny))
    return (windows * weights / weights.sum(-1, keepdim=True)).sum(-1).masked_fill(mean[..., 0] <= 0, 0.0)


def without(own: Float[Tensor, " tokens"], others: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """A map less another one, scaled so that the squares of what is left are least, where that is above 0."""
    size = others.square().sum()
    scale = torch.where(size > 0, (own * others).sum() / torch.where(size > 0, size, 1.0), 0.0)
    return (own - scale * others).clamp(min=0)


def _grid(run: TargetView, span: InputSpan, options: Mapping[str, object]) -> tuple[int, int] | None:
    """Rows and columns of a picture's tokens; of a square number of them that nothing tells more of, as many of both."""
    count = span.positions.shape[1]
    grid = options["grid"]
    if grid is not None:
        rows, columns = grid if isinstance(grid, Iterable) else (0, 0)
        if rows * columns != count:
            raise OptionError(f"grid is {grid!r}, and the picture has {count} tokens")
        return rows, columns
    if span.grid is not None:
        return span.grid
    tensor, side = run.graph.sources[span.leaf].tensor, isqrt(count)
    whole = tensor is not None and tensor.shape[:2] == (run.batch, count)
    told = f"{side} rows and columns; grid=(rows, columns) says others" if whole and side**2 == count else ""
    note = f"method {NAME!r}: how the picture's {count} tokens lie is not known"
    run.notes.append(f"{note}; they are taken as {told}" if told else f"{note}, so they are not filtered")
    return (side, side) if told else None


def _said(found: Spoken, sample: int, place: int, first: bool) -> int:
    """The token of which a word's own map is: itself; of the first one, what the model says there."""
    return int(found.logits[sample, place].argmax()) if first else int(found.ids[sample, place])


def _of_sample(run: TargetView, found: Spoken, sample: int, options: Mapping[str, object]) -> Float[Tensor, " tokens"]:
    """The relevance of each token of the stream."""
    dtype = run.attentions[0].dtype
    logits, wanted, row = (
        found.logits[sample].detach().to(dtype),
        found.wanted[sample].to(dtype),
        int(found.rows[sample]),
    )
    activations = (logits @ wanted).clamp(min=0)
    shown = found.shown[sample].nonzero()[:, 0]
    later = found.words[sample].nonzero()[:, 0]
    words: Int[Tensor, " words"] = later[later > shown.max()] if len(shown) else later
    own = activations[shown]
    token = int(wanted.argmax())
    others = [
        (place, _said(found, sample, place, number == 0))
        for number, place in enumerate(words.tolist())
        if int(found.ids[sample, place]) != token
    ]
    if others and options["interference"]:
        places, tokens = (torch.tensor(column, device=logits.device) for column in zip(*others, strict=True))
        weights = activations[places]
        maps = logits[shown][:, tokens].clamp(min=0)
        own = without(own, maps @ (weights / (weights.sum() + 1e-8)))
    before = words[words != row]
    together = torch.cat([own, activations[before]])
    least, span = together.min(), together.max() - together.min()
    together = torch.where(span > 0, (together - least) / torch.where(span > 0, span, 1.0), 0.0)
    relevance = torch.zeros_like(activations)
    relevance[shown], relevance[before] = together[: len(shown)], together[len(shown) :]
    return relevance


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    found = spoken(run, NAME)
    relevance = torch.stack([_of_sample(run, found, sample, options) for sample in range(run.batch)])
    for span in found.pictures:
        grid = _grid(run, span, options) if options["filter"] else None
        if grid is None:
            continue
        places = span.positions.to(relevance.device)
        for sample in range(run.batch):
            if bool((places[sample] >= 0).all()):
                picture = relevance[sample, places[sample]].reshape(grid)
                relevance[sample, places[sample]] = filtered(picture).flatten()
    return for_all_rows(run, [(found.stream, found.stream, relevance)])


METHOD = Method(
    name=NAME,
    summary="where in a picture the model would say the token too, less what earlier words would make of it",
    source="Li et al., Token Activation Map, ICCV 2025, arXiv 2506.23270; by the authors' public code",
    options={"interference": True, "filter": True, "grid": None},
    prepare=_prepare,
)
