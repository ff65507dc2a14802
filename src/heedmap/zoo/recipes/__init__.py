"""The recipes of the zoo's models, a file each."""

from collections.abc import Mapping

from heedmap.zoo.recipe import Recipe
from heedmap.zoo.recipes import bart_dates, gpt_lists

ZOO: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (bart_dates.RECIPE, gpt_lists.RECIPE)}
"""Name, without ``zoo/`` → recipe."""

__all__ = ["ZOO"]
