"""A little noise on what a model is given: on pixels and features themselves, on words where they become features."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from heedmap.errors import InputError
from heedmap.evaluate.perturb.masking import INPUTS, MASKS, spread

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = {name: segment for segment, names in INPUTS.items() if segment != "text" for name in names}
"""Inputs that are numbers, as transformers calls them → their segment."""


@contextmanager
def noisy(
    subject: Any, inputs: Mapping[str, Any], radius: float, keys: Sequence[str], seed: int
) -> Iterator[dict[str, Any]]:
    """Within it, the model reads its words with noise; the other inputs, with noise, are what it gives.

    Noise is uniform in ±``radius`` times the standard deviation of the sample's own numbers (without padding). A sample's
    noise does not depend on the others beside it. Methods that multiply with the input take words as they are without it.

    Args:
        subject: the model.
        inputs: what it is called with.
        radius: see above.
        keys: of the samples.
        seed: of the draws.

    Raises:
        InputError: on leaving, where no embedding looked up the text's ids, so that its words had no noise.
    """
    given = dict(inputs)
    for standard, segment in FLOATS.items():
        name = subject.renamed.get(standard, standard)
        if isinstance(given.get(name), torch.Tensor) and given[name].is_floating_point():
            given[name] = given[name] + _draw(given[name], _mask(inputs, segment), radius, keys, (seed, standard))
    ids = given.get(subject.renamed.get("input_ids", "input_ids"))
    if not isinstance(ids, torch.Tensor):
        yield given
        return
    mask, found = _mask(inputs, "text"), []

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if not args or args[0].shape != ids.shape or not bool((args[0] == ids).all()):
            return output
        found.append(module)
        return output + _draw(output, mask, radius, keys, (seed, "words"))

    handles = [one.register_forward_hook(hook) for one in subject.model.modules() if isinstance(one, nn.Embedding)]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise InputError(
            f"no embedding of {type(subject.model).__name__} looks up the text's ids, so words cannot have noise; leave the "
            "sensitivity out"
        )


def _mask(inputs: Mapping[str, Any], segment: str) -> Any:
    return inputs.get(MASKS.get(segment, ""))


def _draw(value: Tensor, mask: Any, radius: float, keys: Sequence[str], seed: tuple[int, str]) -> Tensor:
    shape = value.shape[1:]
    draws = [np.random.default_rng(zlib.crc32(f"{seed} {key}".encode())).uniform(-1, 1, shape) for key in keys]
    noise = torch.as_tensor(np.stack(draws), dtype=torch.float32, device=value.device)
    size = radius * spread(value, mask).reshape(-1, *(1 for _ in shape))
    return (noise * size).to(value.dtype)
