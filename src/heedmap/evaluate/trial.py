"""One batch of inputs on which a model's answer is explained again and again: other methods, other inputs, other weights.

Noise is on pixels and features themselves, on words where they become features. On random weights: Adebayo et al., NeurIPS
2018, arXiv 1810.03292: a map that stays the same does not explain the model. Weights are changed in place and a copy is kept of
those that are, for a copy of the model would cost as much memory and be proved token-wise anew; so nobody else may use the
model meanwhile.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from heedmap.attention.forward import output_of
from heedmap.common.ranks import spearman
from heedmap.engine.explain import explain
from heedmap.errors import GradientError, InputError
from heedmap.evaluate.answer import BatchAnswer, explained, held, repeated
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.faithfulness import Drop, change, complexity, deletion, rise, saco
from heedmap.evaluate.masking import (
    INPUTS,
    filled,
    free_tokens,
    masked,
    padding_mask,
    real_tokens,
    spread,
    upsampled,
    without,
)
from heedmap.methods.cards import CHANCE
from heedmap.outputs import get

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from heedmap.data.segments import Segment
    from heedmap.datasets.sample import Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import AnyTarget

    Maps = dict[str, Float[np.ndarray, "batch tokens"]]

AT_ONCE = 32
"""Rows of a forward pass with masked tokens."""
FLOATS = {name: segment for segment, names in INPUTS.items() if segment != "text" for name in names}
"""Inputs that are numbers, as transformers calls them → their segment."""
MOST = 6
"""Blocks, by default; the last one reaches down to the input."""
DEEP = 2
"""Names that tell a part of a model which has no number: ``bert.embeddings``, ``classifier``."""


@dataclass(frozen=True, eq=False)
class FixedPrediction:
    """A batch of inputs and what the model says of it, held fixed. Only the segments that a person gave count.

    Attributes:
        subject: the model.
        inputs: what it is called with.
        keys: of the samples.
        answer: what is explained.
        blank: an explanation of it by chance, on whose segments is put what does not ask the model.
        segments: by name, as of any explanation.
        real: for each segment the tokens that are no padding.
        free: for each segment the tokens that may be masked; segments in which none can be are not there.
        seed: of everything that is drawn.
        instead: segment → what stands where its tokens are taken away, see :func:`~heedmap.evaluate.masking.filled`; tokens of
            other segments are masked.
    """

    subject: Model
    inputs: Mapping[str, object]
    keys: Sequence[str]
    answer: BatchAnswer
    blank: Explanation
    segments: Mapping[str, Segment]
    real: Mapping[str, Bool[np.ndarray, "batch tokens"]]
    free: Mapping[str, Bool[np.ndarray, "batch tokens"]]
    seed: int
    instead: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, subject: Model, inputs: Mapping[str, object], keys: Sequence[str], seed: int, target: AnyTarget = None
    ) -> FixedPrediction:
        """The trial of some inputs, as ``subject.inputs`` makes them; ``target`` as for :func:`heedmap.explain`.

        Raises:
            InputError: none of the model's segments is text, a picture, boxes or a sound.
            HeedmapError: the model cannot be explained.
        """
        answer = held(subject, inputs, target)
        explanation = explain(subject, inputs, target=answer.target, method=CHANCE)
        names = [name for name in explanation.segments if name in INPUTS]
        if not names:
            raise InputError(
                f"the model has the segments {', '.join(explanation.segments)}; expected one of {', '.join(INPUTS)}"
            )
        free = {}
        for name in names:
            with suppress(InputError):
                maskable = free_tokens(subject, inputs, explanation, name)
                masked(subject, inputs, explanation.segment(name), torch.ones_like(maskable))
                free[name] = maskable.numpy()
        real = {name: real_tokens(subject, inputs, explanation, name).numpy() for name in names}
        segments = {name: explanation.segment(name) for name in names}
        return cls(subject, inputs, keys, answer, explanation, segments, real, free, seed)

    def replacing(self, donors: Sequence[Sample]) -> FixedPrediction:
        """The same trial, in which nothing is masked: where tokens are taken away stands what :func:`.masking.filled` makes.

        Args:
            donors: other samples; those whose key is one of the trial's give it nothing.

        Raises:
            InputError: there is no other sample, or the segment is of another form than can be replaced.
        """
        instead = {name: filled(self.subject, self.inputs, name, self.keys, donors, self.seed) for name in self.free}
        return replace(self, instead=instead)

    def maps(self, contender: MethodSpec, inputs: Mapping[str, object] | None = None, *, anew: bool = False) -> Maps:
        """The contender's relevance of each segment for the fixed answer; of padding 0.

        For chance and edges, which do not ask the model, it runs only where it is told to, and with other inputs, so that noise
        in its words is seen to come where it should.

        Args:
            contender: the method.
            inputs: of the same shapes, instead of the trial's own.
            anew: the model runs for every method, so that each takes as long as an explanation takes.
        """
        given = self.inputs if inputs is None else inputs
        asked = self.subject, given, self.answer.target, contender, self.seed, self.keys
        return self.relevance(explained(*asked, blank=None if anew or inputs is not None else self.blank))

    def relevance(self, explanation: Explanation) -> Maps:
        """Relevance of each segment; of padding 0."""
        return {name: explanation[name].double().numpy() * real for name, real in self.real.items()}

    def drop(self, *segments: str) -> Drop:
        """The answer's probability with only some tokens of these segments, which lie one behind the other.

        See :data:`~.faithfulness.Drop`.
        """
        return partial(self._left, [self.segments[name] for name in segments])

    def deletion(self, maps: Maps, steps: int, *segments: str) -> Float[np.ndarray, "signs batch steps"]:
        """:func:`.faithfulness.deletion` of the tokens of these segments, in one order."""
        relevance, free = (np.concatenate([of[name] for name in segments], 1) for of in (maps, self.free))
        return deletion(relevance, free, self.drop(*segments), steps, self.seed)

    def saco(self, maps: Maps, groups: int, segment: str) -> Float[np.ndarray, " batch"]:
        """:func:`.faithfulness.saco` of a segment."""
        return saco(maps[segment], self.free[segment], self.drop(segment), groups, self.seed)

    def _left(self, segments: Sequence[Segment], kept: Bool[np.ndarray, "variants batch tokens"]) -> np.ndarray:
        variants, batch, tokens = kept.shape
        widths = [self.free[segment.name].shape[1] for segment in segments]
        keep = torch.from_numpy(kept.reshape(-1, tokens))
        owners = torch.arange(batch).repeat(variants)
        probabilities = []
        for rows, samples in zip(keep.split(AT_ONCE), owners.split(AT_ONCE), strict=True):
            inputs = repeated(self.inputs, batch, samples)
            for segment, part in zip(segments, rows.split(widths, 1), strict=True):
                inputs = self._without(inputs, segment, part, samples)
            probabilities.append(self.answer.probability(inputs, samples).cpu())
        return torch.cat(probabilities).double().numpy().reshape(variants, batch)

    def _without(
        self, inputs: Mapping[str, object], segment: Segment, keep: Tensor, samples: Tensor
    ) -> dict[str, object]:
        """The inputs less some tokens of a segment, of these samples."""
        if segment.name not in self.instead:
            return masked(self.subject, inputs, segment, keep)
        instead = self.instead[segment.name]
        if segment.grid is not None:
            keep = upsampled(keep.float(), segment.grid, (instead.shape[-2], instead.shape[-1]), smooth=False) > 0.5
        keep, instead = keep.to(instead.device), instead[samples.to(instead.device)]
        return without(self.subject, inputs, segment, keep, "replace", instead)


@dataclass(frozen=True, eq=False)
class Mapped:
    """A trial, as some methods explain it.

    Attributes:
        trial: the inputs.
        contenders: the methods.
        maps: contender's name → its maps on the model as it is, without noise.
    """

    trial: FixedPrediction
    contenders: Sequence[MethodSpec]
    maps: Mapping[str, Maps]

    def maps_now(self, inputs: Mapping[str, object] | None = None) -> dict[str, Maps]:
        """The maps of each contender on the model as it is now, perhaps of other inputs; zeros where no gradient is left."""
        found = {}
        for contender in self.contenders:
            try:
                found[contender.name] = self.trial.maps(contender, inputs)
            except GradientError:
                found[contender.name] = {name: np.zeros(real.shape) for name, real in self.trial.real.items()}
        return found

    def means(self, maps: Mapping[str, Maps], draws: int, radius: float) -> dict[str, Maps]:
        """The means of these maps and of those with noise; a model with noise is proved once for all contenders."""
        drawn = [maps]
        for draw in range(draws - 1):
            with noisy(
                self.trial.subject, self.trial.inputs, radius, self.trial.keys, self.trial.seed + draw
            ) as inputs:
                drawn.append(self.maps_now(inputs))
        return {
            spec.name: {name: np.mean([own[spec.name][name] for own in drawn], axis=0) for name in self.trial.real}
            for spec in self.contenders
        }

    def likenesses(
        self, before: Mapping[str, Maps], after: Mapping[str, Maps]
    ) -> dict[tuple[str, str], list[tuple[float, float]]]:
        """(contender, segment) → for each sample the rank correlations of its maps, and of their absolute values."""
        return {
            (method, name): [
                (spearman(a[t], b[t]), spearman(np.abs(a[t]), np.abs(b[t])))
                for a, b, t in zip(before[method][name], maps[name], real, strict=True)
            ]
            for method, maps in after.items()
            for name, real in self.trial.real.items()
        }


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
            noised[name] = value + _draw(value, padding_mask(subject, inputs, segment), radius, keys, (seed, called))
    ids = get(noised, subject.renamed.get("input_ids", "input_ids"))
    if ids is None:
        yield noised
        return
    mask, embeddings = padding_mask(subject, inputs, "text"), []

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


def _draw(value: Tensor, mask: Tensor | None, radius: float, keys: Sequence[str], seed: tuple[int, str]) -> Tensor:
    shape = value.shape[1:]
    draws = [np.random.default_rng(zlib.crc32(f"{seed} {key}".encode())).uniform(-1, 1, shape) for key in keys]
    noise = torch.as_tensor(np.stack(draws), dtype=torch.float32, device=value.device)
    size = radius * spread(value, mask).reshape(-1, *(1 for _ in shape))
    return (noise * size).to(value.dtype)


def sensitivity(mapped: Mapped, draws: int, radius: float) -> dict[tuple[str, str], Float[np.ndarray, "draws batch"]]:
    """How much each map changes with a little noise on the input, relative to its own size.

    Yeh et al., NeurIPS 2019, arXiv 1901.09392, whose max-sensitivity is the greatest over the draws.

    Args:
        mapped: the inputs and their maps.
        draws: of the noise.
        radius: of the noise, see :func:`noisy`.

    Returns:
        (contender, segment) → ‖map(x + δ) − map(x)‖ / ‖map(x)‖ for each draw.
    """
    trial = mapped.trial
    measured: dict[tuple[str, str], list[list[float]]] = {}
    for draw in range(draws):
        with noisy(trial.subject, trial.inputs, radius, trial.keys, trial.seed + draw) as inputs:
            for contender in mapped.contenders:
                after = trial.maps(contender, inputs)
                for name, before in mapped.maps[contender.name].items():
                    changes = [change(a, b) for a, b in zip(before, after[name], strict=True)]
                    measured.setdefault((contender.name, name), []).append(changes)
    return {key: np.array(changes) for key, changes in measured.items()}


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


def after_randomisation(
    mapped: Sequence[Mapped], most: int, done: Callable[[], None] = lambda: None
) -> tuple[list[str], dict[tuple[int, str, str], Float[np.ndarray, "two steps batch"]]]:
    """How much of each map is left when the model's weights become random, from the output down.

    Where relevance on the random model is not finite or no gradient is left, there is no map, and the correlation is 0.

    Args:
        mapped: trials of one model.
        most: in how many steps; with one, all weights at once.
        done: called after each trial of each step.

    Returns:
        The blocks' names, and (number of the trial, contender, segment) → the rank correlations of the two maps, and of
        their absolute values, after each step.
    """
    first = mapped[0].trial
    order = blocks(first.subject, first.inputs, most)
    likeness: dict[tuple[int, str, str], list[list[tuple[float, float]]]] = {}
    with cascade(first.subject.model, order, first.seed) as steps:
        for _ in steps:
            for number, one in enumerate(mapped):
                for (method, name), likes in one.likenesses(one.maps, one.maps_now()).items():
                    likeness.setdefault((number, method, name), []).append(likes)
                done()
    return [block.name for block in order], {key: np.array(likes).transpose(2, 0, 1) for key, likes in likeness.items()}


def smooth_likeness(
    mapped: Mapped, most: int, draws: int, radius: float
) -> dict[tuple[str, str], Float[np.ndarray, "steps batch"]]:
    """sMPRT: as :func:`after_randomisation`, from the input up, of maps that are means over a little noise.

    Hedström et al., 2023, arXiv 2401.06465: from the output down what earlier layers know stays in the map for long, and noise in
    the map makes any two unlike. The noise is that of :func:`noisy`, the last draw is without.

    Args:
        mapped: the inputs and their maps.
        most: in how many steps.
        draws: maps in a mean; with one, there is no noise.
        radius: of the noise.

    Returns:
        (contender, segment) → the rank correlation with the model's own mean map, after each step.
    """
    trial, before = mapped.trial, mapped.means(mapped.maps, draws, radius)
    likeness: dict[tuple[str, str], list[list[float]]] = {}
    with cascade(trial.subject.model, blocks(trial.subject, trial.inputs, most)[::-1], trial.seed) as steps:
        for _ in steps:
            after = mapped.means(mapped.maps_now(), draws, radius)
            for key, likes in mapped.likenesses(before, after).items():
                likeness.setdefault(key, []).append([like for like, _ in likes])
    return {key: np.array(likes) for key, likes in likeness.items()}


def complexity_rise(mapped: Mapped) -> dict[tuple[str, str], Float[np.ndarray, "two batch"]]:
    """eMPRT: by how much, relative to itself, a map's :func:`~.faithfulness.complexity` rises when all weights are random.

    Hedström et al., 2023, arXiv 2401.06465. By contender and segment: near 0 for a map that does not depend on the model; NaN
    where the model's own map is constant. Beside it the rank correlation of both maps, which is the last of the plain cascade.
    """
    trial = mapped.trial
    with cascade(trial.subject.model, blocks(trial.subject, trial.inputs, 1), trial.seed) as steps:
        next(steps)
        after = mapped.maps_now()
    rises = {}
    for (method, name), likes in mapped.likenesses(mapped.maps, after).items():
        maps = zip(mapped.maps[method][name], after[method][name], trial.real[name], likes, strict=True)
        rises[method, name] = np.array(
            [(rise(complexity(a[t]), complexity(b[t])), like) for a, b, t, (like, _) in maps]
        ).T
    return rises
