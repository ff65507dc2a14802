"""Pictures as a model sees them: masks laid on them, what it answers, and maps of several answers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heedmap.errors import InputError
from heedmap.evaluate.answer import explained, output_of, target_of
from heedmap.evaluate.perturb.masking import repeated

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from heedmap.evaluate.harness.protocol import Contender
    from heedmap.explanation import Explanation

SIDE = 64
"""Of the grey picture that a model is tried on."""


def seen_mask(subject: Any, mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "rows columns"]:
    """A picture's mask as it lies on the picture that the model sees, resized and cropped.

    The mask goes through the model's own image processor, white on black, so that it is resized and cropped as any
    picture is; a pixel is of the mask where it is at least half white.

    Raises:
        InputError: the model takes no image, or cuts it to pieces that are no picture any more.
    """
    from PIL import Image

    shown = subject.shown_image(Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB"))
    return np.asarray(shown)[..., 0] > 127


def answered(subject: Any, inputs: Mapping[str, Any]) -> Any:
    """The model's output, without gradients."""
    return output_of(subject, inputs)


def tried(subject: Any) -> Any:
    """The model's output for one grey picture.

    Raises:
        InputError: it takes something else beside a picture, or no picture.
    """
    from PIL import Image

    if subject.kind_row.needs != ("image",) or subject.kind_row.speaks:
        raise InputError(f"{subject.name} takes {subject.kind_row.about}; expected a model of pictures alone")
    return answered(subject, subject.inputs(image=Image.new("RGB", (SIDE, SIDE), (127, 127, 127))))


def maps_of(
    subject: Any,
    inputs: Mapping[str, Any],
    places: Sequence[Sequence[tuple[int, ...]]],
    contender: Contender,
    seed: int,
) -> list[list[Float[np.ndarray, "rows columns"]]]:
    """For each sample the maps of its answers, over the patches of its picture.

    Samples with as many answers go together, so that all answers of a picture share the forward passes.

    Args:
        subject: the model.
        inputs: of the samples.
        places: for each sample, where in its own logits the scores are that are explained, one or more.
        contender: the method.
        seed: of methods that draw.

    Raises:
        InputError: the patches form no grid.
        HeedmapError: the method cannot explain them.
    """
    alike: dict[int, list[int]] = {}
    for number, own in enumerate(places):
        alike.setdefault(len(own), []).append(number)
    maps: list[list[Float[np.ndarray, "rows columns"]]] = [[] for _ in places]
    for count, numbers in alike.items():
        targets = [target_of([places[number][turn] for number in numbers]) for turn in range(count)]
        some = repeated(inputs, len(places), torch.tensor(numbers))
        for explanation in explained(subject, some, targets, contender, seed):
            for number, grid in zip(numbers, _grids(explanation), strict=True):
                maps[number].append(grid)
    return _shuffled(maps, seed) if contender.method == "random" else maps


def _shuffled(maps: list[list[np.ndarray]], seed: int) -> list[list[np.ndarray]]:
    """Each map in an order of its own: ``random`` draws one for the whole batch, so that samples would not differ."""
    rng = np.random.default_rng(seed)
    return [[rng.permutation(one.ravel()).reshape(one.shape) for one in own] for own in maps]


def _grids(explanation: Explanation) -> Float[np.ndarray, "batch rows columns"]:
    part = explanation.segment("image")
    if part.grid is None:
        raise InputError("the patches of the picture form no grid in this model, so no pixels belong to them")
    return part.relevance.double().numpy().reshape(-1, *part.grid)
