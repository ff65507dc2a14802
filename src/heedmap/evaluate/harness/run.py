"""One evaluation over a data set, part by part, into a folder."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.printable import without_folders
from heedmap.errors import HeedmapError, InputError, MissingLibraryError, SampleError
from heedmap.evaluate.harness.folder import (
    FORMAT,
    REPORT,
    SUMMARY,
    VERSION,
    RunConfig,
    RunFolder,
    Summary,
    SummaryCurve,
)
from heedmap.evaluate.harness.protocol import TRIED, Evaluation, Findings, MethodSpec
from heedmap.evaluate.metrics.statistics import Measure, MeasureFigures, Row, figures, lines, ranks
from heedmap.methods.cards import CHANCE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from heedmap.datasets.sample import Reader, Sample
    from heedmap.models.model import Model

PART = 32
"""Samples of a part."""
LISTED = 100
"""Skipped samples that a summary lists; the rows' files list all of them."""

Done = Callable[[int], None]


@dataclass(frozen=True)
class EvaluationPlan:
    """What a run does.

    Attributes:
        evaluation: what is measured.
        subject: the model.
        reader: the samples.
        contenders: the methods, the one that others are compared with first.
        count: how many samples, drawn by the seed; all of them where there are not so many.
        seed: of everything that is drawn.
        part: samples of a part, which is one batch for the model.
    """

    evaluation: Evaluation
    subject: Model
    reader: Reader
    contenders: Sequence[MethodSpec]
    count: int
    seed: int = 0
    part: int = PART

    @property
    def parts(self) -> list[list[int]]:
        """Indices of the samples, part by part: ``count`` of all, drawn by the seed, in their order in the files."""
        drawn = sorted(np.random.default_rng(self.seed).permutation(len(self.reader))[: self.count].tolist())
        return [drawn[start : start + self.part] for start in range(0, len(drawn), self.part)]

    def config(self) -> RunConfig:
        """All on which the run depends, as plain JSON data."""
        return {
            "evaluation": self.evaluation.name,
            "settings": dict(self.evaluation.settings),
            "model": {"name": without_folders(self.subject.name), "weights": fingerprint(self.subject.model)},
            "data": dict(self.reader.description),
            "samples": min(self.count, len(self.reader)),
            "seed": self.seed,
            "part": self.part,
            "contenders": [asdict(contender) for contender in self.contenders],
        }


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of the names and values of a model's weights, its first sixteen digits."""
    import torch

    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def run(plan: EvaluationPlan, path: Path, done: Done = lambda _: None) -> Summary:
    """Measure what is not measured yet, and write what all measurements say.

    Args:
        plan: what to do.
        path: the run's folder. Where a run of the same plan was stopped, it goes on; the result is the same.
        done: called with the number of samples after each part.

    Returns:
        The summary, as ``summary.json`` holds it.

    Raises:
        OptionError: the folder holds another run.
        OutputError: it cannot be written, or another process is writing it.
        InputError: the model does not fit the evaluation, or no sample can be used.
    """
    _check(plan)
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(plan.config())
        began = perf_counter()
        trial = _begun(plan, folder.has_part(0))
        if trial.first is not None:
            folder.write_part(0, *trial.first, perf_counter() - began)
        for number, indices in enumerate(plan.parts):
            if not folder.has_part(number):
                began = perf_counter()
                rows, skipped = _part(plan, trial.fit, indices)
                folder.write_part(number, rows, skipped, perf_counter() - began)
            done(len(indices))
        return _concluded(plan, folder, trial.refused)


def measured(plan: EvaluationPlan, done: Done = lambda _: None) -> tuple[Findings, dict[str, str], dict[str, str]]:
    """The same without a folder: nothing is written, so nothing can go on.

    Returns:
        What all measurements say; the samples that were skipped, and the contenders that do not fit, each with why.

    Raises:
        InputError: as for :func:`run`.
    """
    _check(plan)
    trial = _begun(plan, False)
    rows: list[Row] = []
    skipped = dict(plan.reader.problems)
    for number, indices in enumerate(plan.parts):
        more, why = trial.first if trial.first is not None and number == 0 else _part(plan, trial.fit, indices)
        rows += more
        skipped |= why
        done(len(indices))
    return plan.evaluation.findings(rows), skipped, trial.refused


def _check(plan: EvaluationPlan) -> None:
    plan.evaluation.check(plan.subject)
    if not len(plan.reader):
        raise InputError(f"there are no samples to measure{_first_problem(plan.reader)}")


@dataclass(frozen=True)
class _Begun:
    """Contenders that can explain the model, why the others cannot, and what was measured on the way: the first part, or None."""

    fit: list[MethodSpec]
    refused: dict[str, str]
    first: tuple[list[Row], dict[str, str]] | None


def _begun(plan: EvaluationPlan, measured: bool) -> _Begun:
    """Try each contender on the first part, whose rows are kept, else (it was measured, or fails) on one sample."""
    fit, refused = [], {}
    first = None if measured or plan.evaluation.together else _FirstPart(plan)
    sample: Sample | None = None
    for contender in plan.contenders:
        if first is not None and first.holds(contender):
            fit.append(contender)
            continue
        sample = sample or _readable(plan)
        try:
            plan.evaluation.rows(plan.subject, [sample], [contender], plan.seed)
            fit.append(contender)
            first = None
        except MissingLibraryError:
            raise
        except HeedmapError as error:
            refused[contender.name] = str(error)
    if not fit:
        raise InputError(f"no method fits {plan.subject.name} here: {next(iter(refused.values()))}")
    return _Begun(fit, refused, None if first is None else (first.rows, first.skipped))


class _FirstPart:
    """The rows of the first part as far as they are measured, contender by contender."""

    def __init__(self, plan: EvaluationPlan) -> None:
        self.plan = plan
        self.rows: list[Row] = []
        self.skipped: dict[str, str] = {}

    def holds(self, contender: MethodSpec) -> bool:
        """Measure the contender; False where it or a sample fails, or nothing is measured."""
        try:
            samples = [self.plan.reader[index] for index in self.plan.parts[0]]
            seed = _seed(self.plan, samples)
            rows, skipped = self.plan.evaluation.rows(self.plan.subject, samples, [contender], seed)
        except MissingLibraryError:
            raise
        except HeedmapError:
            return False
        own = [row for row in rows if row["method"] == contender.name]
        self.rows += own if self.rows else rows  # what is true, and of chance, comes with each
        self.skipped |= skipped
        return bool(own)


def _readable(plan: EvaluationPlan) -> Sample:
    """The first sample that can be read and explained by chance; else the last reason."""
    reason = ""
    for index in [index for part in plan.parts for index in part][:TRIED]:
        try:
            sample = plan.reader[index]
            rows, skipped = plan.evaluation.rows(plan.subject, [sample], [MethodSpec(CHANCE, CHANCE)], plan.seed)
            if any(row["method"] for row in rows):  # rows of no method say what is true
                return sample
            reason = next(iter(skipped.values()), "it gives no measurement")
        except HeedmapError as error:
            reason = str(error)
    raise InputError(f"none of the first {TRIED} samples can be measured; the last one: {reason}")


def _part(plan: EvaluationPlan, fit: Sequence[MethodSpec], indices: Sequence[int]) -> tuple[list[Row], dict[str, str]]:
    """The rows of a part; what fails is skipped with its reason, and the rest measured without it."""
    samples, skipped = [], {}
    for index in indices:
        try:
            samples.append(plan.reader[index])
        except SampleError as error:
            skipped[plan.reader.keys[index]] = str(error)
    rows, more = _together(plan, fit, samples)
    return rows, skipped | more


def _together(
    plan: EvaluationPlan, fit: Sequence[MethodSpec], samples: Sequence[Sample]
) -> tuple[list[Row], dict[str, str]]:
    if not samples:
        return [], {}
    try:
        return plan.evaluation.rows(plan.subject, samples, fit, _seed(plan, samples))
    except HeedmapError as error:
        if len(samples) == 1:
            return [], {samples[0].key: str(error)}
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for sample in samples:
        sample_rows, why = _together(plan, fit, [sample])
        rows += sample_rows
        skipped |= why
    return rows, skipped


def _seed(plan: EvaluationPlan, samples: Sequence[Sample]) -> int:
    return zlib.crc32(f"{plan.seed} {samples[0].key}".encode())


def _concluded(plan: EvaluationPlan, folder: RunFolder, refused: Mapping[str, str]) -> Summary:
    parts = len(plan.parts)
    skipped = {**plan.reader.problems, **folder.skipped(parts)}
    findings = plan.evaluation.findings(folder.rows(parts))
    summary = summarised(plan, findings, skipped, refused)
    _write_pictures(folder, summary, folder.seconds(parts))
    folder.write_json(SUMMARY, summary)
    return summary


def summarised(
    plan: EvaluationPlan, findings: Findings, skipped: Mapping[str, str], refused: Mapping[str, str]
) -> Summary:
    """What a run found, as plain JSON data; the same run gives the same."""
    reference = plan.contenders[0].name
    measures = [_figures(measure, reference, plan.seed) for measure in findings.measures]
    curves: list[SummaryCurve] = [
        {
            "key": curve.key,
            "title": curve.title,
            "x_label": curve.x_label,
            "y_label": curve.y_label,
            "x": list(curve.x),
            "lines": lines(curve, plan.seed),
        }
        for curve in findings.curves
    ]
    listed = dict(list(skipped.items())[:LISTED])
    return {
        "format": FORMAT,
        "version": VERSION,
        **plan.config(),
        "reference": reference,
        "skipped": {"count": len(skipped), "why": listed},
        "refused": dict(refused),
        "leaderboard": ranks(measures),
        "measures": measures,
        "curves": curves,
        "facts": dict(findings.facts),
    }


def _figures(measure: Measure, reference: str, seed: int) -> MeasureFigures:
    told: MeasureFigures = {
        "key": measure.key,
        "title": measure.title,
        "better": "higher" if measure.higher else "lower",
        "samples": measure.samples,
        "resamples": measure.resamples,
        "ranks": measure.ranks,
        "rows": figures(measure, reference, seed),
    }
    if measure.ranks:
        del told["ranks"]
    return told


def _write_pictures(folder: RunFolder, summary: Summary, seconds: float) -> None:
    from heedmap.evaluate.harness.page import curve_png, report

    pictures = {curve["key"]: curve_png(curve, summary["reference"]) for curve in summary["curves"]}
    for key, data in pictures.items():
        folder.write_file(f"curves/{key.replace('/', '-')}.png", data)
    folder.write_file(REPORT, report(summary, pictures, seconds).encode())


def _first_problem(reader: Reader) -> str:
    return "".join(f": {key}: {why}" for key, why in list(reader.problems.items())[:1])
