"""Known evidence: every method on the zoo's test samples, against what answers truly rest on, in figures and as a page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NotRequired, TypedDict

import numpy as np

from heedmap.common.printable import counted
from heedmap.errors import InputError, SampleError
from heedmap.evaluate.answer import explained_each, tokenizer_of
from heedmap.evaluate.evaluation import (
    EvaluationPlan,
    Findings,
    MethodSpec,
    Part,
    contender,
    contenders,
    crossed,
    measured,
)
from heedmap.evaluate.evidence import centre_prior, cut, overlap, patch_evidence, pointing, share, word_evidence
from heedmap.evaluate.statistics import RESAMPLES, Measure, Row, interval, number_of, of_values, word_of
from heedmap.methods import METHODS
from heedmap.methods.cards import CHANCE, PAPER
from heedmap.zoo.dataset import KnownSample, first
from heedmap.zoo.material import SEED, SPLIT, Batch, Evidence, Material, ZooSample, right_ones

if TYPE_CHECKING:
    from rich.table import Table

    from heedmap.data.segments import Segment
    from heedmap.datasets.sample import Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model

    SampleFigures = dict[str, float]

AT_ONCE = 25
"""Samples of a part."""
PRIOR, EVEN = "centre prior", "chance"
"""Rows that need no model: relevance in the middle of the picture, and the same everywhere."""
NOT_NORMALIZED = "generic:normalize=false"
"""The paper's method without rules 8 and 9, which matter where there is cross-attention."""
ABLATED = contender(NOT_NORMALIZED).name
FIGURES = {"share": "share inside", "pointing": "pointing game", "overlap": "IoU after Otsu"}
"""Figure → its title; the last is of pictures alone."""
PICTURES = ("image", "image_encoder")
"""Segments of a picture: its tokens, and in a model that merges patches before it reads them among words, the patches."""
WRONG = "the model says nothing right of it"
SAME = ("samples", "right", "answers", "split", "seed", "resamples")
"""Facts that figures must share to stand in one table."""


class SegmentFigures(TypedDict):
    """What was measured of a segment: ``samples`` with evidence there, and method, :data:`PRIOR` (of pictures) or :data:`EVEN` →
    figure → mean and both ends of its interval.
    """

    samples: int
    rows: dict[str, dict[str, list[float]]]


class Facts(TypedDict):
    """What was found: ``right`` samples, with an answer to explain, ``answers`` explained, of which draws, and ``segments``."""

    right: int
    answers: int
    split: str
    seed: int
    resamples: int
    segments: dict[str, SegmentFigures]


class Figures(Facts):
    """Those of one model, of ``samples`` looked at; ``skipped``: sample that could not be measured → why."""

    samples: int
    skipped: NotRequired[dict[str, str]]


class ModelFigures(Figures):
    """With the methods that do not fit → why."""

    refused: NotRequired[dict[str, str]]


class KeptFigures(Figures):
    """As a file has them, with the names of the methods that do not fit."""

    refused: NotRequired[list[str]]


@dataclass(frozen=True)
class KnownFindings(Findings):
    """Those of :class:`KnownEvidence`, whose facts are known."""

    facts: Facts = field(kw_only=True)


def measure(
    subject: Model,
    material: Material,
    count: int,
    done: Callable[[int], None] = lambda _: None,
    methods: Sequence[str] = ("fast",),
) -> ModelFigures:
    """The figures of every method of a pass or two, or of those named, on the first ``count`` samples of the test split.

    Args:
        subject: the model.
        material: its samples.
        count: how many samples to look at.
        done: called with the number of samples after each part.
        methods: see :func:`~heedmap.evaluate.evaluation.contenders`.

    Raises:
        InputError: the model says nothing right of the first samples, or no method fits.
    """
    reader = first(subject, material, count)
    cross = crossed(subject, reader)
    specs = contenders((NOT_NORMALIZED, *methods) if cross else methods, cross)
    plan = EvaluationPlan(KnownEvidence(material), subject, reader, specs, count, part=AT_ONCE)
    findings, skipped, refused = measured(plan, done)
    failed = {key: why for key, why in skipped.items() if why != WRONG}
    assert isinstance(findings, KnownFindings)  # the plan's evaluation gives no others
    figures: ModelFigures = {"samples": count, **findings.facts}
    if refused:
        figures["refused"] = refused
    if failed:
        figures["skipped"] = failed
    return figures


def kept_of(figures: ModelFigures) -> KeptFigures:
    """As they are kept."""
    same: Figures = figures
    return {**same, "refused": list(figures["refused"])} if "refused" in figures else {**same}


def added(before: KeptFigures, now: KeptFigures) -> KeptFigures:
    """The figures of one model with those of further methods of the same samples; what both have is taken from ``now``.

    Raises:
        InputError: the samples are others, or the paper's method, which both have, has other figures.
    """
    was, here = dict(before), dict(now)
    for fact in SAME:
        if was[fact] != here[fact]:
            raise InputError(
                f"the figures before are of other samples ({fact}: {was[fact]}, now {here[fact]}); ask for as many as before, "
                "or measure all methods again"
            )
    segments: dict[str, SegmentFigures] = {}
    for name, entry in now["segments"].items():
        known, rows = before["segments"][name], entry["rows"]
        if known["rows"][PAPER] != rows[PAPER]:
            raise InputError(
                f"{PAPER!r} has other figures of {name!r} than before ({known['rows'][PAPER]}, now {rows[PAPER]}), so model, "
                "method or machine are not the same; measure all methods again"
            )
        order = {row: place for place, row in enumerate((PAPER, ABLATED, *METHODS, PRIOR, EVEN))}
        all_rows = known["rows"] | rows
        segments[name] = {**entry, "rows": {row: all_rows[row] for row in sorted(all_rows, key=lambda row: order[row])}}
    refused = sorted({*before.get("refused", ()), *now.get("refused", ())}, key=list(METHODS).index)
    skipped = {**before.get("skipped", {}), **now.get("skipped", {})}
    both: KeptFigures = {**now, "segments": segments}
    if refused:
        both["refused"] = refused
    if skipped:
        both["skipped"] = skipped
    return both


@dataclass(frozen=True)
class KnownEvidence:
    """The evaluation. Only right answers are explained; a figure of a sample is the mean over its answers.

    Attributes:
        material: how samples become a batch, and what the model says rightly of them.
    """

    material: Material
    name = "evidence"
    together = False

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: there are none."""
        return {}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a model without the material's inputs fails by itself."""

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row for each sample, segment and contender.

        Beside the first contender stand the rows that need no model. Chance draws once for all samples, by the key of the
        first, which is its number.
        """
        known = [_known(sample) for sample in samples]
        batch = right_ones(subject, self.material, [sample.made for sample in known])
        keys = [known[number].key for number in batch.numbers]
        rows: list[Row] = []
        for spec in contenders if keys else ():
            maps = explained_each(subject, batch.inputs, batch.targets(), spec, int(known[0].key))
            for number, key in enumerate(keys):
                figures = _figures(subject, batch, number, spec.name, maps, references=spec is contenders[0])
                fixed: Row = {"sample": key, "answers": len(batch.asked[number])}
                rows += [
                    {**fixed, "method": name, "segment": segment, **row} for (segment, name), row in figures.items()
                ]
        return rows, {sample.key: WRONG for sample in samples if sample.key not in keys}

    def findings(self, rows: Iterable[Row]) -> KnownFindings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: each figure by segment."""
        answers: dict[str, int] = {}
        values: dict[str, dict[str, dict[str, list[float]]]] = {}
        for row in rows:
            answers[word_of(row, "sample")] = int(number_of(row, "answers"))
            for figure in FIGURES:
                if not np.isnan(value := number_of(row, figure)):
                    methods = values.setdefault(word_of(row, "segment"), {}).setdefault(figure, {})
                    methods.setdefault(word_of(row, "method"), []).append(value)
        measures = [
            Measure(
                f"{segment}/{figure}",
                f"{segment}: {FIGURES[figure]}",
                True,
                len(next(iter(methods.values()))),
                {name: of_values(np.array(samples)) for name, samples in methods.items()},
            )
            for segment, figures in values.items()
            for figure, methods in figures.items()
        ]
        facts: Facts = {
            "right": len(answers),
            "answers": sum(answers.values()),
            "split": SPLIT,
            "seed": SEED,
            "resamples": RESAMPLES,
            "segments": {segment: _intervals(figures) for segment, figures in values.items()},
        }
        return KnownFindings(measures, facts=facts)


def _known(sample: Sample) -> KnownSample:
    if not isinstance(sample, KnownSample):
        raise SampleError(
            "its true evidence is not known; expected a sample of the zoo, as heedmap.zoo.dataset makes them"
        )
    return sample


def _intervals(figures: Mapping[str, Mapping[str, Sequence[float]]]) -> SegmentFigures:
    """Of one segment, method by method; what needs no model stands at the end."""
    methods = next(iter(figures.values()))
    order = sorted(methods, key=lambda name: (name == EVEN, name == PRIOR))
    rows = {
        name: {figure: [round(v, 4) for v in interval(np.array(table[name]))] for figure, table in figures.items()}
        for name in order
    }
    return {"samples": len(methods[PAPER]), "rows": rows}


def _figures(
    subject: Model, batch: Batch, number: int, method: str, maps: Sequence[Explanation], *, references: bool
) -> dict[tuple[str, str], SampleFigures]:
    """(segment, row) → the figures of a sample, mean over its answers, each of which has a map."""
    sample, judged = batch.samples[number], defaultdict(list)
    for asked, explanation in zip(batch.asked[number], maps, strict=False):
        for name, weight in weights(subject, sample, asked.evidence, explanation.segments).items():
            grid = explanation.segments[name].grid or (asked.evidence.grid if name in PICTURES else None)
            rows = {method: explanation[name][number].double().numpy()}
            if references:
                rows[EVEN] = np.ones(len(rows[method]))
            if references and grid is not None:
                rows[PRIOR] = centre_prior(grid).ravel()
            for row, relevance in rows.items():
                mask = asked.evidence.mask if name in PICTURES else None
                judged[name, row].append(_judged(relevance, weight, mask, grid))
    return {key: {f: float(np.mean([each[f] for each in answers])) for f in FIGURES} for key, answers in judged.items()}


def _judged(
    relevance: np.ndarray, weight: np.ndarray, mask: np.ndarray | None, grid: tuple[int, int] | None
) -> SampleFigures:
    """Figures of one map; what is longer than the evidence is padding. NaN: of pictures alone."""
    values = relevance[: len(weight)]
    figures = {"share": share(values, weight), "pointing": pointing(values, weight), "overlap": np.nan}
    if mask is not None and grid is not None:
        figures["overlap"] = overlap(cut(values.reshape(grid), mask.shape, "otsu"), mask)
    return figures


def weights(
    subject: Model, sample: ZooSample, evidence: Evidence, segments: Mapping[str, Segment]
) -> dict[str, np.ndarray]:
    """For each segment that has true evidence, how much of each of the sample's tokens is: from 0 to 1, (tokens,).

    Raises:
        SampleError: it is not known which part of the picture a token is of.
    """
    shares = {}
    if evidence.words is not None:
        shares["text"] = word_evidence(tokenizer_of(subject), sample.inputs["text"], evidence.words)
    if evidence.boxes is not None:
        shares["boxes"] = evidence.boxes.astype(np.float64)
    for name in PICTURES:
        if evidence.mask is not None and name in segments:
            shares[name] = patch_evidence(evidence.mask, _grid(segments[name], evidence))
    return shares


def _grid(segment: Segment, evidence: Evidence) -> tuple[int, int]:
    rows, columns = segment.grid or evidence.grid or (0, 0)
    if rows * columns != segment.tokens:
        raise SampleError(
            f"the {segment.tokens} tokens of {segment.name!r} form no grid that is known; give evidence with their grid"
        )
    return rows, columns


SEGMENTS = {"text": "the words", "image": "the picture", "image_encoder": "the picture's patches", "boxes": "the boxes"}
REFERENCES = (CHANCE, PRIOR, EVEN)
"""Rows that know nothing of the model."""

HEAD = """# Evidence that is known

<!-- Written by `heedmap zoo evidence --out docs/zoo.json --markdown docs/zoo.md`; do not edit. -->

Nobody can say what a model of the hub *should* look at. For heedmap's own small models it is known, word by word and pixel
by pixel, as their data are made by a program. So a map can be measured against the truth:

- **share inside**: the part of the relevance that lies on the evidence (a patch counts by the share of its area);
- **pointing game**: how often the most relevant token is evidence (for a patch: touches it);
- **IoU after Otsu**, of pictures: intersection over union of the evidence and the map cut by Otsu's threshold.

Each is the mean over samples of the test split with its 95 % bootstrap interval (1,000 resamples), one sample being the
mean of its answers. Only right answers are explained. All tokens count, `[CLS]`, `</s>` and the like included, none of
which is evidence. `random` draws numbers, the *centre prior* prefers the middle of the picture, and *chance* is what a map
has that is the same everywhere. None of the three knows the model. The methods are those that take a pass or two; those that take
dozens (`integrated_gradients`, `smoothgrad`, `gradient_shap`, `occlusion`) are left out where they are not in the table.

Where a model answers in words (`bart-dates`, `gpt-lists`, `idefics-shapes`), the whole right answer is given to it and its
words are explained from that one pass: the maps, and so the figures, are those of [`heedmap.explain_answer`](answers.md). Of
`idefics-shapes` it is each colour and each shape of an answer that is right in every word; the truth is the one object that the
word stands for, also where others look the same. Its *picture* is the tokens that the language model reads, two by two patches
each; methods that are carried on through this merging also have a map of *the picture's patches*.

The evidence is what the *task* depends on. A model may rightly look elsewhere too (at the word "?" to know where it is), so
1 is not the aim of every map; but a method that does better than another on all of them has found more of the reasons.
Two things to know when reading the figures. The models are shallow: where the last attention does the looking up by itself,
`raw_attention`, which knows nothing else, is at its best; with depth it falls behind ([two deeper
models](which-method.md#does-depth-change-it)). And where there is cross-attention, the paper's method is also
measured without its normalisation (rules 8 and 9), which gives what the key tokens took in from each other half of the
weight, however little it matters to the answer.
"""


def tables(name: str, figures: ModelFigures) -> Iterator[Table]:
    """A table for each segment of a model."""
    from rich.table import Table

    for segment, entry in figures["segments"].items():
        table = Table(
            title=f"zoo/{name}: {SEGMENTS[segment]}, {counted(entry['samples'], 'sample')}", title_justify="left"
        )
        table.add_column("method")
        for figure in _figure_names(entry):
            table.add_column(FIGURES[figure], justify="right")
        for row, values in entry["rows"].items():
            table.add_row(row, *(_cell(values[figure]) for figure in values), style="dim" if row in REFERENCES else "")
        yield table


def markdown(measured: Mapping[str, KeptFigures]) -> str:
    """The page of all models that were measured, by name."""
    return "\n".join((HEAD, *(_model_text(name, measured[name]) for name in sorted(measured))))


def verdict(figure: str, rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Whether the paper's method has the best figure, and if not, which have a better one."""
    paper = rows[PAPER][figure]
    better = [row for row in rows if row != PAPER and rows[row][figure][0] > paper[0]]
    equal = [_row_name(row) for row in rows if row != PAPER and rows[row][figure][0] == paper[0]]
    if not better:
        among = f" (as good: {', '.join(equal)})" if equal else ""
        return f"{FIGURES[figure]}: the paper's method is best{among}."
    told = " and ".join(
        f"{_row_name(row)} {rows[row][figure][0]:.3f} "
        f"(intervals {'overlap' if paper[2] >= rows[row][figure][1] else 'apart'})"
        for row in better
    )
    return f"{FIGURES[figure]}: **the paper's method does not win**, {paper[0]:.3f} against {told}."


def _model_text(name: str, figures: KeptFigures) -> str:
    right = f"{figures['right']} of {counted(figures['samples'], 'sample')} answered rightly"
    facts = f"{right}, {counted(figures['answers'], 'answer')} explained."
    if figures.get("refused"):
        facts += f" Not defined for it: {', '.join(map(_row_name, figures['refused']))}."
    parts = [_segment_text(segment, entry) for segment, entry in figures["segments"].items()]
    return f"## zoo/{name}\n\n{facts}\n\n" + "\n".join(parts)


def _segment_text(segment: str, entry: SegmentFigures) -> str:
    figures, rows = _figure_names(entry), entry["rows"]
    best = {figure: max(values[figure][0] for values in rows.values()) for figure in figures}
    head = f"| | {' | '.join(FIGURES[figure] for figure in figures)} |\n|---|{'---|' * len(figures)}"
    lines = [
        f"| {_row_name(row)} | {' | '.join(_cell(values[f], best[f]) for f in figures)} |"
        for row, values in rows.items()
    ]
    verdicts = "\n".join(f"- {verdict(figure, rows)}" for figure in figures)
    title = f"### {SEGMENTS[segment].capitalize()} ({counted(entry['samples'], 'sample')})"
    return "\n".join((title, "", head, *lines, "", verdicts, ""))


def _figure_names(entry: SegmentFigures) -> list[str]:
    return list(next(iter(entry["rows"].values())))


def _row_name(row: str) -> str:
    return f"`{row}`" if row in (*METHODS, ABLATED) else row


def _cell(values: list[float], best: float | None = None) -> str:
    """The mean, in bold where it is the best, and its interval."""
    bold = "**" if values[0] == best else ""
    return f"{bold}{values[0]:.3f}{bold} ({values[1]:.3f}–{values[2]:.3f})"
