"""A little noise on what a model is given, and a model's weights made random from the output down and put back.

Noise is on pixels and features themselves, on words where they become features. On random weights: Adebayo et al., NeurIPS
2018, arXiv 1810.03292: a map that stays the same does not explain the model. Weights are changed in place and a copy is kept of
those that are, for a copy of the model would cost as much memory and be proved token-wise anew; so nobody else may use the
model meanwhile.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from heedmap.attention.forward import output_of
from heedmap.errors import InputError
from heedmap.evaluate.perturb.masking import INPUTS, MASKS, spread
from heedmap.models.inputs import standard
from heedmap.outputs import get

if TYPE_CHECKING:
    from torch import Tensor

    from heedmap.models.model import Model

FLOATS = {name: segment for segment, names in INPUTS.items() if segment != "text" for name in names}
"""Inputs that are numbers, as transformers calls them → their segment."""
MOST = 6
"""Blocks, by default; the last one reaches down to the input."""
DEEP = 2
"""Names that tell a part of a model which has no number: ``bert.embeddings``, ``classifier``."""


# -- noise -------------------------------------------------------------------------------------------------------------


@contextmanager
def noisy(
    subject: Model, inputs: Mapping[str, object], radius: float, keys: Sequence[str], seed: int
) -> Iterator[dict[str, object]]:
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
    noised = dict(inputs)
    for called, segment in FLOATS.items():
        name = subject.renamed.get(called, called)
        value = get(noised, name)
        if value is not None and value.is_floating_point():
            noised[name] = value + _draw(value, _mask(subject, inputs, segment), radius, keys, (seed, called))
    ids = get(noised, subject.renamed.get("input_ids", "input_ids"))
    if ids is None:
        yield noised
        return
    mask, embeddings = _mask(subject, inputs, "text"), []

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not args or args[0].shape != ids.shape or not bool((args[0] == ids).all()):
            return output
        embeddings.append(module)
        words = torch.from_numpy(output.detach().float().cpu().numpy())  # else a recorder sees tokens mix in the noise
        return output + _draw(words.to(output.device), mask, radius, keys, (seed, "words")).to(output.dtype)

    handles = [m.register_forward_hook(hook) for m in subject.model.modules() if isinstance(m, nn.Embedding)]
    try:
        yield noised
    finally:
        for handle in handles:
            handle.remove()
    if not embeddings:
        raise InputError(
            f"no embedding of {type(subject.model).__name__} looks up the text's ids, so words cannot have noise; leave the "
            "sensitivity and the smooth randomisation out"
        )


def _mask(subject: Model, inputs: Mapping[str, object], segment: str) -> Tensor | None:
    return get(standard(inputs, subject.renamed), MASKS.get(segment, ""))


def _draw(value: Tensor, mask: Tensor | None, radius: float, keys: Sequence[str], seed: tuple[int, str]) -> Tensor:
    shape = value.shape[1:]
    draws = [np.random.default_rng(zlib.crc32(f"{seed} {key}".encode())).uniform(-1, 1, shape) for key in keys]
    noise = torch.as_tensor(np.stack(draws), dtype=torch.float32, device=value.device)
    size = radius * spread(value, mask).reshape(-1, *(1 for _ in shape))
    return (noise * size).to(value.dtype)


# -- random weights ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightBlock:
    """Weights that become random in one step.

    Attributes:
        name: of its first and last module, from the output down.
        parameters: names in ``model.named_parameters()``.
    """

    name: str
    parameters: tuple[str, ...]


def blocks(subject: Model, inputs: Mapping[str, object], most: int = MOST) -> list[WeightBlock]:
    """The model's floating-point weights in up to ``most`` blocks, those used last first.

    Weights belong to the module that has them, in the order in which modules last began to run (of one that never ran,
    the next around it that did); weights of a numbered layer stay together. Shared weights go where they are used last.
    """
    order = _order(subject, inputs)
    last: dict[int, tuple[int, str]] = {}
    for name, weight in subject.model.named_parameters(remove_duplicate=False):
        if weight.is_floating_point():
            last[id(weight)] = max(last.get(id(weight), (-1, "")), (_ran(order, name), name))
    names = {id(weight): name for name, weight in subject.model.named_parameters()}
    ranked = sorted(((when, used, names[key]) for key, (when, used) in last.items()), reverse=True)
    units = [(unit, [name for *_, name in group]) for unit, group in groupby(ranked, lambda entry: _unit(entry[1]))]
    cuts = np.array_split(np.arange(len(units)), min(most, len(units)))
    return [_block([units[number] for number in cut]) for cut in cuts]


def _block(units: Sequence[tuple[str, list[str]]]) -> WeightBlock:
    ends = dict.fromkeys((units[0][0], units[-1][0]))
    return WeightBlock(" … ".join(ends), tuple(name for _, names in units for name in names))


def _order(subject: Model, inputs: Mapping[str, object]) -> dict[str, int]:
    """Module's name → when it last began to run."""
    last_run: dict[str, int] = {}
    clock = count()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: last_run.update({name: next(clock)}))
        for name, module in subject.model.named_modules()
    ]
    try:
        output_of(subject.model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return last_run


def _ran(order: Mapping[str, int], parameter: str) -> int:
    owner = parameter
    while owner:
        owner = owner.rpartition(".")[0]
        if owner in order:
            return order[owner]
    return -1


def _unit(parameter: str) -> str:
    """The numbered layer that a weight is of, else the part of the model, as deep as :data:`DEEP`."""
    parts = parameter.split(".")[:-1]
    number = next((place for place, part in enumerate(parts) if part.isdigit()), DEEP - 1)
    return ".".join(parts[: number + 1]) or parameter


@contextmanager
def cascade(model: nn.Module, order: Sequence[WeightBlock], seed: int) -> Iterator[Iterator[WeightBlock]]:
    """Within it, each block taken from the iterator becomes random, and those before it stay so.

    The values of each weight are permuted, which keeps their distribution. On leaving, also by an exception, every weight
    has the very bits that it had; gradients, ``requires_grad`` and modes are not touched.

    Args:
        model: to be changed meanwhile.
        order: see :func:`blocks`.
        seed: of the permutations.
    """
    weights = dict(model.named_parameters())
    before: dict[str, Tensor] = {}

    def steps() -> Iterator[WeightBlock]:
        for block in order:
            for name in block.parameters:
                before[name] = weights[name].detach().clone()
                _permute(weights[name].data, zlib.crc32(f"{seed} {name}".encode()))
            yield block

    try:
        yield steps()
    finally:
        for name, value in before.items():
            weights[name].data.copy_(value)


def _permute(weight: Tensor, seed: int) -> None:
    draw = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(seed))
    weight.copy_(weight.reshape(-1)[draw.to(weight.device)].reshape(weight.shape))
