"""The recipes of the zoo's models, a file each."""

from collections.abc import Mapping

from heedmap.zoo.recipe import Recipe
from heedmap.zoo.recipes import (
    bart_dates,
    clip_shapes,
    detr_shapes,
    gpt_lists,
    lxmert_easy_vqa,
    lxmert_shapes,
    visualbert_shapes,
    vit_shapes,
)

_ALL = (bart_dates, gpt_lists, detr_shapes, vit_shapes, clip_shapes, lxmert_shapes, visualbert_shapes, lxmert_easy_vqa)

ZOO: Mapping[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in _ALL}
"""Name, without ``zoo/`` → recipe."""

__all__ = ["ZOO"]
