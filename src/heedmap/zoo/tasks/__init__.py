"""The tasks of the recipes, a module each; see :class:`heedmap.zoo.recipe.Task`."""

from __future__ import annotations

from collections.abc import Sequence


def class_names(labels: Sequence[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    """The names of classes, in the order of their numbers, as a configuration of transformers takes them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}
