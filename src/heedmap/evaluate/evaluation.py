"""An evaluation over a data set: what is measured of each sample, who takes part, and its run in parts into a folder."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from heedmap.common.printable import without_folders
from heedmap.errors import HeedmapError, InputError, MissingLibraryError, OptionError, SampleError
from heedmap.evaluate.folder import FORMAT, VERSION, RunConfig, RunFolder, Summary, SummaryCurve
from heedmap.evaluate.statistics import Curve, Measure, MeasureFigures, Row, figures, lines, ranks, word_of
from heedmap.methods import METHODS
from heedmap.methods.cards import CARDS, CHANCE, EDGES, PAPER
from heedmap.methods.written import json_or_text, pairs

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from heedmap.datasets.sample import Reader, Sample
    from heedmap.models.model import Model

FAST = tuple(name for name in METHODS if not CARDS[name].is_slow)
"""Methods of a pass or two; the others take dozens."""
ABLATIONS = ("generic:aggregate=false", "generic:cam=lrp")
CROSS_ABLATIONS = ("generic:normalize=false", "generic:self_in_rule_10=false")
"""The paper's method without a part of it; these two only matter where there is cross-attention."""
TRIED = 20
"""Samples that are looked at for one that can be read."""
PART = 32
"""Samples of a part."""
LISTED = 100
"""Skipped samples that a summary lists; the rows' files list all of them."""

Done = Callable[[int], None]
Part = tuple[list[Row], dict[str, str]]
"""What is measured of some samples: rows, and for samples that could not be measured, key → why."""
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class MethodSpec:
    """A method with its options, under the name that tables give it.

    Attributes:
        name: shown, and in the rows as ``method``.
        method: a key of ``heedmap.METHODS``, or ``"edges"``: the picture's edges, by no model.
        options: of the method.

    Examples:
        >>> import heedmap
        >>> heedmap.MethodSpec("without normalising", "generic", {"normalize": False}).options
        {'normalize': False}
    """

    name: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What the rows of a run say.

    Attributes:
        measures: in the order of tables; the first is what the leaderboard is sorted by.
        curves: to be plotted.
        facts: plain JSON data beside (counts, notes).
    """

    measures: Sequence[Measure]
    curves: Sequence[Curve] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


class Evaluation(Protocol):
    """One kind of evaluation, with its settings."""

    @property
    def name(self) -> str:
        """Of its command."""

    @property
    def together(self) -> bool:
        """Whether contenders share what is measured, or are compared: then all are measured at once, not one by one."""

    @property
    def settings(self) -> Mapping[str, object]:
        """Plain JSON data: all on which the rows depend, beside model, samples, contenders and seed."""

    def check(self, subject: Model) -> None:
        """Raise InputError where the model does not fit; called before anything is read."""

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """Measure some samples, which become one batch or more.

        Args:
            subject: the model.
            samples: of one part of the run, all readable.
            contenders: the methods.
            seed: for this part, always the same.

        Returns:
            See :data:`Part`.
        """

    def findings(self, rows: Iterable[Row]) -> Findings:
        """What all rows of the run say. They come one by one from the run's files, and there may be millions."""


def usable(samples: Iterable[Sample], prepare: Callable[[Sample], Prepared]) -> tuple[list[Prepared], dict[str, str]]:
    """What ``prepare`` makes of each sample; and of those at which it raises SampleError, key → why."""
    prepared, skipped = [], {}
    for sample in samples:
        try:
            prepared.append(prepare(sample))
        except SampleError as error:
            skipped[sample.key] = str(error)
    return prepared, skipped


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """MethodSpec's name → its rows, one a sample, in the order of the samples' keys."""
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(word_of(row, "method"), {})[word_of(row, "sample")] = row
    return {name: [by_sample[key] for key in sorted(by_sample)] for name, by_sample in table.items()}


def values_of(methods: Mapping[str, Sequence[Row]], column: str) -> dict[str, np.ndarray]:
    """MethodSpec's name → what its rows have in a column of numbers, or of lists of them: one value or list a sample."""
    return {name: np.array([row[column] for row in rows]) for name, rows in methods.items()}


# -- contenders by their names -----------------------------------------------------------------------------------------


def contenders(names: Sequence[str], crossed: bool, pictures: bool = False) -> list[MethodSpec]:
    """The contenders of these names, each once; the paper's method is always one of them, and the first.

    Args:
        names: of methods, ``METHOD:KEY=VALUE,…`` with options; ``fast`` are those of a pass or two, ``all`` every one,
            ``ablations`` the paper's method without its parts. None given: ``fast`` and ``ablations``.
        crossed: whether the model has cross-attention.
        pictures: whether ``fast`` and ``all`` have the picture's edges beside them.

    Raises:
        OptionError: an unknown option, or no ``KEY=VALUE``.
        UnknownNameError: no such method.
    """
    ablations = (*ABLATIONS, *CROSS_ABLATIONS) if crossed else ABLATIONS
    beside = (EDGES,) if pictures else ()
    groups = {"fast": (*FAST, *beside), "all": (*METHODS, *beside), "ablations": ablations}
    wanted = [member for name in (PAPER, *(names or ("fast", "ablations"))) for member in groups.get(name, (name,))]
    return list({spec.name: spec for spec in map(contender, wanted)}.values())


def crossed(subject: Model, reader: Reader) -> bool:
    """Whether streams look at each other in this model: asked of the first sample that can be read; else False."""
    for index in range(min(len(reader), TRIED)):
        try:
            flow = subject.inspect(**reader[index].inputs)
        except HeedmapError:
            continue
        return any(attention.kind == "cross" for attention in flow.attentions)
    return False


def contender(text: str) -> MethodSpec:
    """``"generic:normalize=false"`` as a contender; errors as in :func:`contenders`."""
    name, _, rest = text.partition(":")
    try:
        written = pairs([pair for pair in rest.split(",") if pair])
    except OptionError as error:
        raise OptionError(f"{error}, in {text!r}") from error
    options = {key: json_or_text(value) for key, value in written.items()}
    check_options(name, options)
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    return MethodSpec(f"{name}, {shown}" if shown else name, name, options)


def check_options(name: str, options: Mapping[str, object]) -> None:
    """See that a method, or what is set beside methods, takes these options; errors as in :func:`contenders`."""
    from heedmap.engine.choosing import find_method

    if name != EDGES:
        find_method(name).resolve(dict(options))
    elif options:
        raise OptionError(f"{EDGES} has no options; given {', '.join(options)}")


# -- a run -------------------------------------------------------------------------------------------------------------


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
            "contenders": [asdict(spec) for spec in self.contenders],
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
    from heedmap.evaluate.report import conclude

    _check(plan)
    folder = RunFolder(path)
    with folder.locked():
        folder.begin(plan.config())
        began = perf_counter()
        fit, refused, first = _begun(plan, folder.has_part(0))
        if first is not None:
            folder.write_part(0, *first, perf_counter() - began)
        for number, indices in enumerate(plan.parts):
            if not folder.has_part(number):
                began = perf_counter()
                folder.write_part(number, *_part(plan, fit, indices), perf_counter() - began)
            done(len(indices))
        parts = len(plan.parts)
        skipped = {**plan.reader.problems, **folder.skipped(parts)}
        summary = summarised(plan, plan.evaluation.findings(folder.rows(parts)), skipped, refused)
        conclude(folder, summary, parts)
        return summary


def measured(plan: EvaluationPlan, done: Done = lambda _: None) -> tuple[Findings, dict[str, str], dict[str, str]]:
    """The same without a folder: nothing is written, so nothing can go on.

    Returns:
        What all measurements say; the samples that were skipped, and the contenders that do not fit, each with why.

    Raises:
        InputError: as for :func:`run`.
    """
    _check(plan)
    fit, refused, first = _begun(plan, False)
    rows: list[Row] = []
    skipped = dict(plan.reader.problems)
    for number, indices in enumerate(plan.parts):
        more, why = first if first is not None and number == 0 else _part(plan, fit, indices)
        rows += more
        skipped |= why
        done(len(indices))
    return plan.evaluation.findings(rows), skipped, refused


def _check(plan: EvaluationPlan) -> None:
    plan.evaluation.check(plan.subject)
    if not len(plan.reader):
        first = "".join(f": {key}: {why}" for key, why in list(plan.reader.problems.items())[:1])
        raise InputError(f"there are no samples to measure{first}")


def _begun(plan: EvaluationPlan, measured: bool) -> tuple[list[MethodSpec], dict[str, str], Part | None]:
    """Contenders that can explain the model, why the others cannot, and the first part where it was measured on the way.

    Each is tried on the first part, whose rows are kept, else (it was measured, or fails) on one sample.
    """
    fit: list[MethodSpec] = []
    refused: dict[str, str] = {}
    first: Part | None = None if measured or plan.evaluation.together else ([], {})
    sample: Sample | None = None
    for spec in plan.contenders:
        own = None if first is None else _first_part(plan, spec)
        if first is not None and own is not None:
            rows, skipped = first
            # what is true comes with the rows of each method: it is kept once
            rows += [row for row in own[0] if not rows or row["method"] == spec.name]
            skipped |= own[1]
            fit.append(spec)
            continue
        sample = sample or _readable(plan)
        try:
            plan.evaluation.rows(plan.subject, [sample], [spec], plan.seed)
            fit.append(spec)
            first = None
        except MissingLibraryError:
            raise
        except HeedmapError as error:
            refused[spec.name] = str(error)
    if not fit:
        raise InputError(f"no method fits {plan.subject.name} here: {next(iter(refused.values()))}")
    return fit, refused, first


def _first_part(plan: EvaluationPlan, spec: MethodSpec) -> Part | None:
    """What is measured of a method on the first part; None where it or a sample fails, or nothing is measured."""
    try:
        samples = [plan.reader[index] for index in plan.parts[0]]
        rows, skipped = plan.evaluation.rows(plan.subject, samples, [spec], _seed(plan, samples))
    except MissingLibraryError:
        raise
    except HeedmapError:
        return None
    return (rows, skipped) if any(row["method"] == spec.name for row in rows) else None


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


def _part(plan: EvaluationPlan, fit: Sequence[MethodSpec], indices: Sequence[int]) -> Part:
    """The rows of a part; what fails is skipped with its reason, and the rest measured without it."""
    samples, skipped = [], {}
    for index in indices:
        try:
            samples.append(plan.reader[index])
        except SampleError as error:
            skipped[plan.reader.keys[index]] = str(error)
    rows, more = _together(plan, fit, samples)
    return rows, skipped | more


def _together(plan: EvaluationPlan, fit: Sequence[MethodSpec], samples: Sequence[Sample]) -> Part:
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
