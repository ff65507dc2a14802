"""F-Fidelity: what a model that has learned to do without some tokens still gets right when some of a map's are gone.

Zheng et al., ICLR 2025, arXiv 2410.02970. Inputs with tokens taken away are none that a model was trained on; here it is asked by
a copy of it that was fine-tuned on random masks, and never more of the input is masked than it then learned to do without.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.errors import InputError, OptionError
from heedmap.evaluate.answer import explained, inputs_of, repeated
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part, by_method, fingerprint
from heedmap.evaluate.faithfulness import NEGATIVE, POSITIVE, SIGNS, kept
from heedmap.evaluate.masking import free_tokens, masked
from heedmap.evaluate.scoring import Scorer, asked_once, scorer_of
from heedmap.evaluate.statistics import Curve, Measure, Row, number_of, numbers_of, word_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from heedmap.data.segments import Segment
    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

SIZES = (10, 30, 50, 70, 90)
"""Per cent of the tokens that are taken for the map's, one after the other."""
PLAIN = "plain"
"""Column of the score of the input as it is."""


@dataclass(frozen=True)
class Fidelity:
    """The evaluation, with its settings. Each part of the input is masked alone.

    Attributes:
        tuned: the same model, fine-tuned on random masks.
        share: of the tokens, which it learned to do without; more are not masked on average.
        part: how probable it is that a token of the map is masked, where that is not more.
        draws: of the masks; figures are means over them.
        sizes: per cent of the tokens that are the map's.
        truth: explain the right answer instead of the model's own.
    """

    tuned: Model
    share: float = 0.1
    part: float = 0.5
    draws: int = 4
    sizes: tuple[int, ...] = SIZES
    truth: bool = False
    name = "fidelity"
    together = True

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 0 < self.part <= 1 or self.draws < 1:
            raise OptionError(
                f"share is {self.share}, part {self.part}, draws {self.draws}; expected a share over 0 and below 1, a "
                "part over 0 and up to 1, and 1 or more draws"
            )
        if not self.sizes or not all(0 < size <= 100 for size in self.sizes):
            raise OptionError(f"sizes are {self.sizes}; expected per cents over 0, up to 100")

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        names = ("share", "part", "draws", "truth")
        tuned = {"tuned": fingerprint(self.tuned.model), "sizes": list(self.sizes)}
        return tuned | {name: getattr(self, name) for name in names}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        own, other = (dict(model.model.named_parameters()) for model in (subject, self.tuned))
        if {n: p.shape for n, p in own.items()} != {n: p.shape for n, p in other.items()}:
            raise InputError(
                f"{self.tuned.name} has not the weights that {subject.name} has; give the same model, fine-tuned on random masks "
                "(of the zoo's: heedmap zoo train NAME --masked SHARE --out FOLDER)"
            )
        if all(torch.equal(own[name], other[name]) for name in own):
            raise InputError(
                f"{self.tuned.name} has the very weights of {subject.name}, so it has not learned to do without tokens; give one "
                "that was fine-tuned on random masks (of the zoo's: heedmap zoo train NAME --masked SHARE --out FOLDER)"
            )

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row a sample, contender, segment and sign."""
        inputs = inputs_of(subject, samples)
        segments = [name for name in ("text", "image", "boxes") if name in subject.kind_row.takes]
        rows: list[Row] = []
        keys = [sample.key for sample in samples]
        for segment in segments:
            asked = scorer_of(subject, inputs, samples, segment, self.truth)
            scorer = scorer_of(self.tuned, inputs, samples, segment, self.truth)
            plain = scorer(inputs, torch.arange(len(samples)))[0].tolist()
            known: dict[tuple[int, bytes], float] = {}
            for contender in contenders:
                maps = explained(subject, inputs, asked.target, contender, seed, keys)
                free = free_tokens(subject, inputs, maps, segment).numpy()
                keep = self._masks(maps[segment].double().numpy(), free, keys, seed)
                scores = _scores(subject, inputs, maps.segment(segment), keep, scorer, known).mean(-1)
                rows += [
                    {
                        "sample": key,
                        "method": contender.name,
                        "segment": segment,
                        "sign": sign,
                        PLAIN: plain[number],
                        "scores": scores[number, side].tolist(),
                    }
                    for number, key in enumerate(keys)
                    for side, sign in enumerate(SIGNS)
                ]
        return rows, {}

    def _masks(
        self,
        relevance: Float[np.ndarray, "batch tokens"],
        free: Bool[np.ndarray, "batch tokens"],
        keys: Sequence[str],
        seed: int,
    ) -> Bool[np.ndarray, "batch signs sizes draws tokens"]:
        """Which tokens stay: of the map's own each goes with one probability. Draws do not depend on the map, nor on padding."""
        found = []
        for values, may_go, key in zip(relevance, free, keys, strict=True):
            left = kept(values, may_go, self.sizes, key, seed)[:, :, None]
            chosen = ~left & may_go
            count = np.maximum(chosen.sum(-1, keepdims=True), 1)
            chance = np.minimum(self.part, self.share * may_go.sum() / count)
            drawn = np.random.default_rng([seed, zlib.crc32(key.encode())]).random((len(values), self.draws)).T
            found.append(~(chosen & (drawn < chance)))
        return np.stack(found)

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: by segment what falls, and how the score goes."""
        table: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            table.setdefault((word_of(row, "segment"), word_of(row, "sign")), []).append(row)
        curves = {
            key: {
                name: np.array([[number_of(row, PLAIN), *numbers_of(row, "scores")] for row in own])
                for name, own in by_method(group).items()
            }
            for key, group in table.items()
        }
        measures = []
        for segment in dict.fromkeys(segment for segment, _ in curves):
            both = [_falls(curves[segment, sign]) for sign in SIGNS]
            apart = {name: both[POSITIVE][name] - both[NEGATIVE][name] for name in both[POSITIVE]}
            figures = (
                ("ffid+", "fall with the most relevant masked (FFid+)", True, both[POSITIVE], True),
                ("ffid-", "fall with the least relevant masked (FFid−)", False, both[NEGATIVE], True),
                ("apart", "FFid+ less FFid−", True, apart, False),
            )
            measures += [
                Measure.of_means(f"{segment}/{key}", f"{segment}: {title}", higher, values, ranks=ranks)
                for key, title, higher, values, ranks in figures
            ]
        x = [0.0, *(size / 100 for size in self.sizes)]
        return Findings(
            measures,
            [
                Curve(f"{segment}/{sign}", f"{segment}, {sign}", "share that is the map's", "accuracy", x, values)
                for (segment, sign), values in curves.items()
            ],
        )


def _falls(curves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By how much the score is lower than of the input as it is, mean over the sizes, for each sample."""
    return {name: (values[:, :1] - values[:, 1:]).mean(-1) for name, values in curves.items()}


def _scores(
    subject: Model,
    inputs: Mapping[str, object],
    segment: Segment,
    keep: Bool[np.ndarray, "batch signs sizes draws tokens"],
    scorer: Scorer,
    known: dict[tuple[int, bytes], float],
) -> Float[np.ndarray, "batch signs sizes draws"]:
    """The tuned model's score of each."""
    shape, batch = keep.shape[:-1], len(keep)
    flat = keep.reshape(-1, keep.shape[-1])
    variants = len(flat) // batch
    names = [(row // variants, np.packbits(tokens).tobytes()) for row, tokens in enumerate(flat)]

    def ask(places: list[int]) -> list[float]:
        owners = torch.tensor([place // variants for place in places])
        changed = masked(subject, repeated(inputs, batch, owners), segment, torch.from_numpy(flat[places]))
        return scorer(changed, owners)[0].tolist()

    return np.array(asked_once(names, known, ask)).reshape(shape)
