"""Perturbation: what the model still knows while the tokens that a map calls relevant, or irrelevant, are taken away.

The paper's experiment (Chefer et al., ICCV 2021, section 5.1). Positive: the most relevant tokens go first, and a good map
makes the accuracy fall fast. Negative: the least relevant go first, and it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import explained, image_grid, inputs_of, repeated
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part
from heedmap.evaluate.faithfulness import POSITIVE, SIGNS, area, between_curves, kept, over_curve, symmetric_gain
from heedmap.evaluate.masking import check_remove, filled, free_tokens, source, upsampled, without
from heedmap.evaluate.scoring import Scorer, asked_once, scorer_of
from heedmap.evaluate.statistics import Curve, Measure, Row, number_of, word_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from heedmap.datasets.sample import Sample
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model

VQA = (0, 25, 50, 75, 80, 85, 90, 95, 100)
CROWDED = (0, 50, 75, 95, 96, 97, 98, 99, 100)
PIXELS = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
TENTHS = (*PIXELS, 100)
SCORES = {"score": "accuracy", "probability": "probability"}
JOINT = "joint"
"""All parts of the input at once, as if they were one segment: the tokens of all go in one order."""


@dataclass(frozen=True)
class Preset:
    """How a kind of model is perturbed.

    Attributes:
        steps: segment's name, or :data:`JOINT` → per cent of its tokens that are gone at each step.
        pixels: whether pictures lose pixels one by one, by the map scaled up, or whole patches.
    """

    steps: Mapping[str, Sequence[int]]
    pixels: bool = False


PRESETS = {
    "lxmert": Preset({"text": VQA, "boxes": VQA, JOINT: VQA}),
    "visualbert": Preset({"text": VQA, "boxes": CROWDED, JOINT: VQA}),
    "vit": Preset({"image": PIXELS}, pixels=True),
    "tenths": Preset({name: TENTHS for name in ("text", "image", "boxes", JOINT)}),
}
"""Name → the authors' for LXMERT, VisualBERT and ViT; steps of a tenth, of whole patches."""

FAMILIES = {"lxmert": "lxmert", "visual_bert": "visualbert", "vit": "vit", "deit": "vit"}
"""``model_type`` of a configuration → its preset; ``tenths`` for all others."""


@dataclass(frozen=True)
class Perturbation:
    """The evaluation, with its settings.

    Attributes:
        preset: key of :data:`PRESETS`.
        segments: which parts of the input; each is perturbed alone. :data:`JOINT` are all of them together, by their relevance as
            the map has it: whether a word or a box goes first is the map's to say.
        remove: ``"drop"`` takes tokens out, ``"mask"`` hides them (words become the mask token, boxes' features zero); of both,
            pixels become the mean of what the model was trained on. ``"replace"`` puts something else there: the picture
            blurred, words and boxes of other samples.
        truth: explain the right answer instead of the model's own.
        donors: the other samples.
    """

    preset: str
    segments: tuple[str, ...]
    remove: str = "drop"
    truth: bool = False
    donors: tuple[Sample, ...] = ()
    name = "perturbation"
    together = True

    @classmethod
    def of(
        cls,
        subject: Model,
        preset: str | None = None,
        segments: Sequence[str] = (),
        remove: str = "drop",
        truth: bool = False,
        donors: Sequence[Sample] = (),
    ) -> Perturbation:
        """The evaluation that fits a model: its preset, and all parts of its input that the preset has steps for.

        Raises:
            OptionError: an unknown preset, segment or way to remove; words or boxes are to be replaced and there are no donors.
            InputError: the model has no such part.
        """
        chosen = preset_of(preset, subject)
        steps, takes = PRESETS[chosen].steps, subject.kind_row.takes
        wanted = tuple(segments) or tuple(name for name in steps if name in takes)
        check_remove(remove)
        unknown = [name for name in wanted if name not in steps]
        if unknown:
            raise OptionError(f"preset {chosen!r} has steps for {', '.join(steps)}, not for {', '.join(unknown)}")
        if JOINT in wanted and len(_parts(chosen, JOINT, subject)) < 2:
            raise InputError(
                f"{subject.name} takes {subject.kind_row.about}; {JOINT!r} perturbs several of {', '.join(steps)} together, so "
                "choose the one part that there is"
            )
        missing = [name for name in wanted if name not in (*takes, JOINT)]
        if missing or not wanted:
            raise InputError(
                f"{subject.name} takes {subject.kind_row.about}, so preset {chosen!r} cannot perturb its "
                f"{', '.join(missing or steps)}; choose other segments or another preset"
            )
        if remove == "replace" and not donors and wanted != ("image",):
            raise OptionError(
                f"there are no donors whose {', '.join(wanted)} could stand where tokens are removed; give other samples, or "
                "remove by 'drop' or 'mask'"
            )
        return cls(chosen, wanted, remove, truth, tuple(donors) if remove == "replace" else ())

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        steps = {name: list(PRESETS[self.preset].steps[name]) for name in self.segments}
        donors = {"donors": [donor.key for donor in self.donors]} if self.donors else {}
        return {"preset": self.preset, "steps": steps, "remove": self.remove, "truth": self.truth, **donors}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        if subject.kind_row.speaks:
            raise InputError(
                f"{subject.name} speaks; perturbation needs a model that chooses an answer or matches a pair"
            )

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row a sample, contender, segment, sign, step."""
        inputs = inputs_of(subject, samples)
        keys = [sample.key for sample in samples]
        parts = {segment: _parts(self.preset, segment, subject) for segment in self.segments}
        instead: dict[str, Tensor] = {}
        if self.remove == "replace":
            names = dict.fromkeys(name for group in parts.values() for name in group)
            instead = {name: filled(subject, inputs, name, keys, self.donors, seed) for name in names}
        batches = []
        for segment, group in parts.items():
            scorer = scorer_of(subject, inputs, samples, segment, self.truth)
            batches.append(_SegmentOfBatch(self, subject, inputs, samples, segment, group, scorer, instead))
        rows: list[Row] = []
        for contender in contenders:
            maps = explained(subject, inputs, batches[0].scorer.target, contender, seed, keys)
            rows += [row for batch in batches for row in batch.rows(maps, contender, seed)]
        return rows, {}

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: curves and areas under them, over them and between them."""
        tables = self._tables(rows)
        curves = [
            Curve(
                f"{segment}/{sign}/{SCORES[column]}",
                f"{segment}, {sign}",
                "share removed",
                SCORES[column],
                self._shares(segment),
                values,
            )
            for (segment, sign, column), values in tables.items()
        ]
        measures = [
            Measure.of_means(
                f"{curve.key}/auc",
                f"{curve.title}: {curve.y_label} AUC",
                "/negative/" in curve.key,
                {name: area(values, curve.x) for name, values in curve.values.items()},
            )
            for curve in curves
        ]
        measures.sort(key=lambda measure: "/probability/" in measure.key)
        joined = [measure for segment in self.segments for measure in self._joined(segment, tables)]
        return Findings([*measures, *joined], curves)

    def _shares(self, segment: str) -> list[float]:
        """Which share of a segment is gone at each step."""
        return [percent / 100 for percent in PRESETS[self.preset].steps[segment]]

    def _joined(
        self, segment: str, tables: Mapping[tuple[str, str, str], Mapping[str, np.ndarray]]
    ) -> Iterator[Measure]:
        """Figures of both orders together, by what is in the leaderboard already: they do not rank again."""
        figures: dict[tuple[str, str], Mapping[str, np.ndarray]] = {}
        for column, label in SCORES.items():
            signs = [tables[segment, sign, column] for sign in SIGNS]
            curves = {name: np.stack([own[name] for own in signs]) for name in signs[POSITIVE]}
            gains = {name: symmetric_gain(own, self._shares(segment)) for name, own in curves.items()}
            figures[f"srg/{label}", f"{label} SRG"] = gains
            if column == "probability":
                over = {name: over_curve(own[POSITIVE]) for name, own in curves.items()}
                figures["aopc", "probability AOPC, most relevant first"] = over
                figures["abpc", "probability ABPC"] = {name: between_curves(own) for name, own in curves.items()}
        for (key, title), values in figures.items():
            yield Measure.of_means(f"{segment}/{key}", f"{segment}: {title}", True, values, ranks=False)

    def _tables(self, rows: Iterable[Row]) -> dict[tuple[str, str, str], dict[str, np.ndarray]]:
        """(segment, sign, column) → contender → (samples, steps), samples in the order of their keys."""
        curves: dict[tuple[str, str, str], dict[str, dict[str, np.ndarray]]] = {
            (segment, sign, column): {} for segment in self.segments for sign in SIGNS for column in SCORES
        }
        for row in rows:
            sample, method, segment, sign = (word_of(row, name) for name in ("sample", "method", "segment", "sign"))
            nothing = np.full(len(self._shares(segment)), np.nan)
            for column in SCORES:
                table = curves[segment, sign, column].setdefault(method, {})
                table.setdefault(sample, nothing.copy())[int(number_of(row, "step"))] = number_of(row, column)
        return {
            key: {name: np.stack([table[sample] for sample in sorted(table)]) for name, table in tables.items()}
            for key, tables in curves.items()
        }


@dataclass(frozen=True, eq=False)
class _SegmentOfBatch:
    """One segment of a batch of samples, or several as one (``parts``), to be perturbed.

    ``instead`` is what stands where tokens of a part are replaced. ``known`` holds what was measured already: (sample, what is
    kept) → score and probability.
    """

    evaluation: Perturbation
    subject: Model
    inputs: Mapping[str, object]
    samples: Sequence[Sample]
    segment: str
    parts: tuple[str, ...]
    scorer: Scorer
    instead: Mapping[str, Tensor]
    known: dict[tuple[int, bytes], tuple[float, float]] = field(default_factory=dict)

    def rows(self, maps: Explanation, contender: MethodSpec, seed: int) -> list[Row]:
        tokens = [self._tokens(name, maps) for name in self.parts]
        relevance, free = (np.concatenate(joined, 1) for joined in zip(*tokens, strict=True))
        percents = PRESETS[self.evaluation.preset].steps[self.segment]
        keep = np.stack(
            [kept(r, f, percents, s.key, seed) for r, f, s in zip(relevance, free, self.samples, strict=True)]
        )
        ends = np.cumsum([part.shape[1] for _, part in tokens])
        kept_parts = np.split(keep, ends[:-1], -1)
        shaped = [self._shaped(name, part, maps) for name, part in zip(self.parts, kept_parts, strict=True)]
        scores = self._scores(maps, shaped)
        total = free.sum(-1).tolist()
        return [
            {
                "sample": sample.key,
                "method": contender.name,
                "segment": self.segment,
                "sign": sign,
                "step": step,
                "percent": percent,
                "tokens": total[number],
                "score": scores[number, side, step, 0],
                "probability": scores[number, side, step, 1],
            }
            for number, sample in enumerate(self.samples)
            for side, sign in enumerate(SIGNS)
            for step, percent in enumerate(percents)
        ]

    def _tokens(
        self, name: str, maps: Explanation
    ) -> tuple[Float[np.ndarray, "batch tokens"], Bool[np.ndarray, "batch tokens"]]:
        """Relevance of what may be removed of a part, and which that is: tokens, or pixels."""
        relevance = maps[name]
        if name != "image" or not PRESETS[self.evaluation.preset].pixels:
            free = free_tokens(self.subject, self.inputs, maps, name)
            return relevance.double().numpy(), free.numpy()
        pixels = upsampled(relevance, image_grid(maps), self._size(), smooth=True).flatten(1)
        return pixels.double().numpy(), np.ones(pixels.shape, dtype=bool)

    def _shaped(self, name: str, keep: Bool[np.ndarray, "batch signs steps tokens"], maps: Explanation) -> np.ndarray:
        """Of patches, their pixels; of words and boxes, without those that the model does not take in."""
        if name != "image":
            return keep & (maps.segment(name).positions >= 0).numpy()[:, None, None]
        if keep.shape[-1] == np.prod(self._size()):
            return keep.reshape(*keep.shape[:3], *self._size())
        flat = torch.from_numpy(keep).flatten(0, 2).float()
        pixels = upsampled(flat, image_grid(maps), self._size(), smooth=False) > 0.5
        return pixels.numpy().reshape(*keep.shape[:3], *self._size())

    def _size(self) -> tuple[int, int]:
        rows, columns = source(self.subject, self.inputs, "image")[1].shape[-2:]
        return rows, columns

    def _scores(self, maps: Explanation, keep: Sequence[np.ndarray]) -> Float[np.ndarray, "batch signs steps 2"]:
        """Score and probability of each."""
        shape = keep[0].shape[:3]
        flat = [part.reshape(-1, *part.shape[3:]) for part in keep]
        variants = shape[1] * shape[2]
        keys = [
            (row // variants, b"".join(np.packbits(tokens).tobytes() for tokens in parts))
            for row, parts in enumerate(zip(*flat, strict=True))
        ]

        def ask(places: list[int]) -> Iterator[tuple[float, float]]:
            owners = torch.tensor([place // variants for place in places])
            changed = repeated(self.inputs, len(self.samples), owners)
            for name, part in zip(self.parts, flat, strict=True):
                instead = self.instead[name][owners] if name in self.instead else None
                left = torch.from_numpy(part[places]).to(device)
                changed = without(self.subject, changed, maps.segment(name), left, self.evaluation.remove, instead)
            score, probability = self.scorer(changed, owners)
            return zip(score.double().tolist(), probability.double().tolist(), strict=True)

        device = next(self.subject.model.parameters()).device
        amounts = np.sum([part.sum(tuple(range(1, part.ndim))) for part in flat], axis=0)
        return np.array(asked_once(keys, self.known, ask, amounts=amounts)).reshape(*shape, 2)


def _parts(preset: str, segment: str, subject: Model) -> tuple[str, ...]:
    """The segments of the input that are perturbed as one."""
    if segment != JOINT:
        return (segment,)
    return tuple(name for name in PRESETS[preset].steps if name in subject.kind_row.takes)


def preset_of(name: str | None, subject: Model) -> str:
    """``name``, checked; None: the preset for the model of ``subject``.

    Raises:
        OptionError: there is no such preset.
    """
    if name is None:
        return FAMILIES.get(getattr(subject.config, "model_type", ""), "tenths")
    if name not in PRESETS:
        raise OptionError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return name
