"""Every method on the zoo's test samples, against the true evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.engine import explain
from heedmap.evaluate.metrics.evidence import (
    RESAMPLES,
    centre_prior,
    cut,
    interval,
    overlap,
    patch_evidence,
    pointing,
    share,
    word_evidence,
)
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS
from heedmap.zoo.samples import Evidence, Material, ZooSample
from heedmap.zoo.samples.sample import SEED, SPLIT, Batch, right_ones

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.explanation_data import Segment

    Figures = dict[str, float]
    Rows = dict[tuple[str, str], list[Figures]]

AT_ONCE = 25
"""Samples of a batch. ``random`` draws anew for each batch."""
MEASURED = tuple(name for name in METHODS if not CARDS[name].is_slow)
"""Those of a pass or two; the others take dozens."""
PRIOR, CHANCE = "centre prior", "chance"
PAPER, ABLATED = "generic", "generic, normalize=False"
"""The paper's method, and the same without rules 8 and 9, which matter where there is cross-attention."""


def measure(
    subject: Any, material: Material, count: int, done: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """The figures of every method in :data:`MEASURED` on the first ``count`` samples of the test split.

    A figure of a sample is the mean over its answers; only right answers are explained.

    Args:
        subject: the model.
        material: its samples.
        count: how many samples to look at.
        done: called with the number of samples after each batch.

    Returns:
        ``samples`` looked at, ``right`` (those with an answer to explain), ``answers`` explained, and ``segments``:
        name → ``samples`` with evidence there, and ``rows``: method, :data:`ABLATED` (where there is cross-attention),
        :data:`PRIOR` (of pictures) or :data:`CHANCE` → figure → mean and both ends of its interval.
    """
    rows: Rows = defaultdict(list)
    right = answers = 0
    for start in range(0, count, AT_ONCE):
        samples = [material.make(index) for index in range(start, min(start + AT_ONCE, count))]
        batch = right_ones(subject, material, samples)
        right += len(batch.samples)
        answers += sum(len(one) for one in batch.asked)
        if batch.samples:
            _add(rows, subject, batch, start)
        done(len(samples))
    return {
        "samples": count,
        "right": right,
        "answers": answers,
        "split": SPLIT,
        "seed": SEED,
        "resamples": RESAMPLES,
        "segments": _summary(rows),
    }


def _add(rows: Rows, subject: Any, batch: Batch, seed: int) -> None:
    """For each method, each sample's figures."""
    crossed = False
    for name in MEASURED:
        options = {"seed": seed} if name == "random" else {}
        maps = explain(subject, batch.inputs, target=batch.targets(), method=name, **options)
        crossed = crossed or any(one.kind == "cross" for one in maps[0].flow.attentions)
        _add_maps(rows, subject, batch, name, maps, references=name == PAPER)
    if crossed:
        maps = explain(subject, batch.inputs, target=batch.targets(), method=PAPER, normalize=False)
        _add_maps(rows, subject, batch, ABLATED, maps, references=False)


def _add_maps(
    rows: Rows, subject: Any, batch: Batch, row: str, maps: Sequence[Explanation], *, references: bool
) -> None:
    """Each sample's figures of the maps, one a target; once also those of what needs no model."""
    for number, (sample, asked) in enumerate(zip(batch.samples, batch.asked, strict=True)):
        found: dict[tuple[str, str], list[Figures]] = defaultdict(list)
        for one, explanation in zip(asked, maps, strict=False):
            for name, judge in _judges(subject, sample, one.evidence, explanation.segments):
                relevance = explanation[name][number].double().numpy()
                found[name, row].append(judge(relevance))
                if references:
                    _add_references(found, name, explanation.segments[name], judge, len(relevance))
        for key, figures in found.items():
            rows[key].append(_mean(figures))


def _add_references(
    found: dict[tuple[str, str], list[Figures]], name: str, segment: Segment, judge: Judge, tokens: int
) -> None:
    """What needs no model: relevance that is the same everywhere, and in pictures the prior for the middle."""
    if segment.grid is not None:
        found[name, PRIOR].append(judge(centre_prior(segment.grid).ravel()))
    found[name, CHANCE].append(judge(np.ones(tokens)))


Judge = Callable[[np.ndarray], "Figures"]


def weights(
    subject: Any, sample: ZooSample, evidence: Evidence, segments: Mapping[str, Segment]
) -> dict[str, np.ndarray]:
    """For each segment that has true evidence, how much of each of the sample's tokens is: from 0 to 1, (tokens,)."""
    found = {}
    if evidence.words is not None:
        found["text"] = word_evidence(subject.tokenizer, sample.inputs["text"], evidence.words)
    if evidence.boxes is not None:
        found["boxes"] = evidence.boxes.astype(np.float64)
    if evidence.mask is not None:
        found["image"] = patch_evidence(evidence.mask, segments["image"].grid or (1, 1))
    return found


def _judges(
    subject: Any, sample: ZooSample, evidence: Evidence, segments: Mapping[str, Segment]
) -> Iterator[tuple[str, Judge]]:
    """For each segment that has true evidence, what makes figures of a sample's relevance there."""
    for name, weight in weights(subject, sample, evidence, segments).items():
        yield name, _judge(weight, evidence.mask if name == "image" else None, segments[name].grid)


def _judge(weight: np.ndarray, mask: np.ndarray | None, grid: tuple[int, int] | None) -> Judge:
    def judge(relevance: np.ndarray) -> Figures:
        own = relevance[: len(weight)]  # the rest is padding
        figures = {"share": share(own, weight), "pointing": pointing(own, weight)}
        if mask is None or grid is None:
            return figures
        return figures | {"overlap": overlap(cut(own.reshape(grid), mask.shape, "otsu"), mask)}

    return judge


def _mean(figures: Sequence[Figures]) -> Figures:
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def _summary(rows: Rows) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (segment, row), figures in rows.items():
        entry = found.setdefault(segment, {"samples": len(figures), "rows": {}})
        entry["rows"][row] = {name: _interval([one[name] for one in figures]) for name in figures[0]}
    order = (PAPER, ABLATED, *MEASURED, PRIOR, CHANCE)
    for entry in found.values():
        entry["rows"] = {row: entry["rows"][row] for row in order if row in entry["rows"]}
    return found


def _interval(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in interval(np.array(values))]
