"""What the authors' code does differently from family to family, as data.

Under one method name the authors' code for each model differs a little; heedmap's defaults are one definition for all.
A recipe says which method of heedmap, with which options and which entry overwritten, gives the authors' numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from heedmap import Explanation

View = Callable[[Explanation, Mapping[str, Tensor]], Tensor]
"""(explanation, inputs) → the tensor that the authors return."""


@dataclass(frozen=True)
class Recipe:
    """A method of heedmap that gives the authors' numbers.

    Attributes:
        method: its name in heedmap.
        options: its options, where they are not the defaults.
        zeroed: views of which the authors overwrite entry [0, 0], that of [CLS] to itself, with 0.
        least: views of which they overwrite that entry with the smallest of its row.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    zeroed: tuple[str, ...] = ()
    least: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One of the authors' models: its recipes by the authors' name of the method, its views by name of the map."""

    recipes: Mapping[str, Recipe]
    views: Mapping[str, View]


GENERIC = {
    "ours": {},
    "ours_no_norm": {"normalize": False},
    "ours_no_self_in_10": {"self_in_rule_10": False},
    "ours_no_aggregation": {"aggregate": False, "normalize": False},
}
"""The paper's method and its ablations. The authors ablate aggregation together with normalisation."""

PADDED = {"padding": "include"}
"""The authors do not leave padding out of means and products over whole matrices."""


MIN_MAX = {"min_max": "matrix"}
POSITIVE = {"positive": True}
ORIG = {"rules": "chefer_orig"}
"""Their older rules, of the "lrp" baselines."""
DETR = {"rules": "chefer_detr"}


def _generic(zeroed: tuple[str, ...] = (), **lrp: Any) -> dict[str, Recipe]:
    """Their method; where they also take LRP's relevance for A, with these options."""
    plain = {name: Recipe("generic", options, zeroed) for name, options in GENERIC.items()}
    by_lrp = {
        "ours_with_lrp": Recipe("generic", {"cam": "lrp", **lrp}, zeroed),
        "ours_with_lrp_no_norm": Recipe("generic", {"cam": "lrp", "normalize": False, **lrp}, zeroed),
    }
    return plain | by_lrp


def _both(name: str, recipe: Recipe) -> dict[str, Recipe]:
    """A method by the newer and by the older rules."""
    return {name: recipe, f"{name}_orig": replace(recipe, options={**recipe.options, **ORIG})}


def _segment(name: str) -> View:
    return lambda e, inputs: e[name][0]


def _map(rows: str, columns: str) -> View:
    """A whole map; one that no relevance reaches (LXMERT's R_it with a single x layer) is zero."""

    def view(e: Explanation, inputs: Mapping[str, Tensor]) -> Tensor:
        if (rows, columns) in e.maps:
            return e.maps[rows, columns][0]
        return torch.zeros(e.flow.stream(rows).tokens, e.flow.stream(columns).tokens)

    return view


def _end(ids: Tensor) -> int:
    """CLIP's end of text: the highest token id."""
    return int(ids.argmax())


def _text(number: int) -> View:
    """A text's words between its first token and its end."""
    return lambda e, inputs: e["text"][number, 1 : _end(inputs["input_ids"][number])]


def _scores(number: int) -> View:
    """The same as shares of their sum."""
    return lambda e, inputs: _text(number)(e, inputs) / _text(number)(e, inputs).sum()


class _ClipViews(dict[str, View]):
    """CLIP's views; ``text_<i>`` and ``text_scores_<i>`` for as many texts as a case has."""

    def __missing__(self, name: str) -> View:
        kind, _, number = name.rpartition("_")
        if kind not in ("text", "text_scores") or not number.isdigit():
            raise KeyError(name)
        return (_text if kind == "text" else _scores)(int(number))


FAMILIES: dict[str, Family] = {
    "bert": Family(
        {
            **_generic(),
            "raw_attention": Recipe("raw_attention", zeroed=("text_full",)),
            "rollout": Recipe("rollout", PADDED, zeroed=("text_full",)),
            "attention_gradcam": Recipe("attention_gradcam", {**PADDED, "min_max": "matrix"}, zeroed=("text_full",)),
            "transformer_attribution": Recipe(
                "transformer_attribution", {"normalize": True}, least=("text", "text_full")
            ),
            **_both("partial_lrp", Recipe("partial_lrp", POSITIVE, zeroed=("text_full",))),
            **_both("full_lrp", Recipe("full_lrp", zeroed=("text",))),
        },
        {"text": _segment("text"), "text_full": _map("text", "text")},
    ),
    "clip": Family(
        _generic(),
        _ClipViews(
            image=lambda e, inputs: e["image"],
            image_full=lambda e, inputs: e.maps["image", "image"],
            text_full=lambda e, inputs: e.maps["text", "text"],
        ),
    ),
    "detr": Family(
        {
            **_generic(**DETR),
            "raw_attention": Recipe("raw_attention"),
            "rollout": Recipe("rollout", PADDED),
            "attention_gradcam": Recipe("attention_gradcam", PADDED),
            "transformer_attribution": Recipe("transformer_attribution", DETR),
            "partial_lrp": Recipe("partial_lrp", {**DETR, **MIN_MAX}),
        },
        {
            "row": _segment("image"),
            "full": _map("queries", "image"),
            "R_qq": _map("queries", "queries"),
            "R_ii": _map("image", "image"),
        },
    ),
    "lxmert": Family(
        {
            **_generic(zeroed=("text_full",)),
            "raw_attention": Recipe("raw_attention", zeroed=("text_full",)),
            "rollout": Recipe("rollout", PADDED, zeroed=("text_full",)),
            "attention_gradcam": Recipe("attention_gradcam", PADDED, zeroed=("text_full",)),
            "transformer_attribution": Recipe("transformer_attribution", zeroed=("text_full",)),
            "partial_lrp": Recipe("partial_lrp", MIN_MAX, zeroed=("text_full",)),
        },
        {
            "text": _segment("text"),
            "image": _segment("boxes"),
            "text_full": _map("text", "text"),
            "image_full": _map("text", "boxes"),
            "R_ii": _map("boxes", "boxes"),
            "R_it": _map("boxes", "text"),
        },
    ),
    "visual_bert": Family(
        {
            **_generic(),
            "raw_attention": Recipe("raw_attention"),
            "rollout": Recipe("rollout", {**PADDED, "normalize": False}),
            "attention_gradcam": Recipe("attention_gradcam", {**PADDED, "min_max": "matrix"}),
            "transformer_attribution": Recipe("transformer_attribution"),
            "partial_lrp": Recipe("partial_lrp", MIN_MAX),
        },
        {
            "joint": lambda e, inputs: torch.cat([e["text"][0], e["boxes"][0]]),
            "text": _segment("text"),
            "image": _segment("boxes"),
            "joint_full": _map("text+boxes", "text+boxes"),
        },
    ),
    "vit": Family(
        {
            **_generic(),
            "raw_attention": Recipe("raw_attention"),
            "rollout": Recipe("rollout", PADDED),
            "attention_gradcam": Recipe("attention_gradcam", {"region": "row", "min_max": "region"}),
            "transformer_attribution": Recipe("transformer_attribution"),
            **_both("partial_lrp", Recipe("partial_lrp", POSITIVE)),
            **_both("full_lrp", Recipe("full_lrp", {"share_constants": True, "pixels": True})),
        },
        {
            "image": _segment("image"),
            "image_full": _map("image", "image"),
            "pixels": lambda e, inputs: e["pixels"][0].reshape(e.segments["pixels"].grid),
        },
    ),
}
"""Family, as a case calls it → how to get the authors' numbers."""
