"""Maps of text classifiers beside the words that people gave as reasons, and whether the model rests on the mapped words.

Token F1 of the top-k words as in the authors' experiment on ERASER's movie reviews; comprehensiveness and sufficiency after
DeYoung et al., ACL 2020, arXiv 1911.03429.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from heedmap.datasets.sample import Rationale
from heedmap.errors import InputError, OptionError, SampleError
from heedmap.evaluate.answer import explained, logits_of, tokenizer_of
from heedmap.evaluate.evaluation import Findings, MethodSpec, Part, by_method, usable, values_of
from heedmap.evaluate.evidence import agreement, reasons, rebuilt, share_of, top_words, word_relevance, words_of_tokens
from heedmap.evaluate.masking import check_remove
from heedmap.evaluate.scoring import asked_once
from heedmap.evaluate.statistics import Curve, Measure, Row, number_of
from heedmap.models.inputs import placed, token_limit
from heedmap.targets import ClassLogit

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

COUNTS = tuple(range(10, 90, 10))
"""The authors' k."""
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""ERASER's shares of the words that are taken away or left alone."""
REMOVES = ("drop", "replace")
AT_ONCE = 32
"""Texts of a forward pass."""
COLUMNS = ("precision", "recall", "f1")
FIGURES = {
    "f1_mean": ("token F1, mean over k", True),
    "comprehensiveness": ("comprehensiveness (AOPC)", True),
    "sufficiency": ("sufficiency (AOPC)", False),
}
"""Columns that are measures: column → title, whether more is better."""


@dataclass(frozen=True)
class Rationales:
    """The evaluation, with its settings.

    A text longer than the model takes is cut by its tokenizer. Words beyond have no relevance and are never among the top
    ones; reasons among them stay in the denominator of recall. For comprehensiveness and sufficiency the text is what the
    model saw of it, so that no word moves in where others are taken out.

    Attributes:
        counts: k, how many of the most relevant words are compared with the reasons.
        shares: of the words seen, rounded up: those whose removal, or all that is left, is measured; AOPC is the mean.
        join: what a word's relevance is of its tokens', ``"sum"`` or ``"max"``.
        truth: explain the true label; else the model's own prediction.
        classes: label of the samples → the model's class index, where the model's own names are others.
        remove: ``"drop"`` takes words out of a text, ``"replace"`` puts words of other samples there, the same whatever the map.
        donors: the other samples. Their words may have more tokens, so that a text that is as long as the model takes is cut.
    """

    counts: tuple[int, ...] = COUNTS
    shares: tuple[float, ...] = SHARES
    join: str = "sum"
    truth: bool = False
    classes: Mapping[str, int] = field(default_factory=dict)
    remove: str = "drop"
    donors: tuple[Sample, ...] = ()
    name = "rationales"
    together = False

    def __post_init__(self) -> None:
        if self.join not in ("sum", "max"):
            raise OptionError(f"join is {self.join!r}; expected 'sum' or 'max'")
        check_remove(self.remove, REMOVES)
        if not self.counts or min(self.counts) < 1:
            raise OptionError(f"counts is {self.counts}; expected numbers of words, 1 or more")
        if not self.shares or min(self.shares) <= 0 or max(self.shares) >= 1:
            raise OptionError(f"shares is {self.shares}; expected shares of the words, over 0 and below 1")

    @property
    def settings(self) -> Mapping[str, object]:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        lists = {"counts": list(self.counts), "shares": list(self.shares), "classes": dict(self.classes)}
        donors = (
            {"remove": self.remove, "donors": [donor.key for donor in self.donors]} if self.remove != "drop" else {}
        )
        return {**lists, "join": self.join, "truth": self.truth, **donors}

    def check(self, subject: Model) -> None:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`."""
        if subject.kind_row.needs != ("text",) or subject.kind_row.speaks:
            raise InputError(
                f"{subject.name} takes {subject.kind_row.about}; rationales need a classifier of text alone"
            )
        if subject.tokenizer is None or not getattr(subject.tokenizer, "is_fast", False):
            raise InputError(
                f"the tokenizer of {subject.name} ({type(subject.tokenizer).__name__}) does not tell which characters its tokens "
                "are, which only fast tokenizers do; load the model with one: heedmap.load(…, tokenizer=…)"
            )

    def rows(self, subject: Model, samples: Sequence[Sample], contenders: Sequence[MethodSpec], seed: int) -> Part:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: a row for each sample and contender."""
        texts, skipped = usable(samples, partial(self._text, subject, seed))
        if not texts:
            return [], skipped
        reader = _Reader(subject)
        inputs, offsets = reader.inputs([text.text for text in texts])
        logits = logits_of(subject, inputs)
        tops = logits.argmax(-1).tolist()
        picked = [
            text.label if self.truth and text.label is not None else top for text, top in zip(texts, tops, strict=True)
        ]
        keys = [text.key for text in texts]
        instead = [self._instead(text, seed) for text in texts]
        rows: list[Row] = []
        for contender in contenders:
            maps = explained(subject, inputs, ClassLogit(tuple(picked)), contender, seed, keys)["text"]
            orders = [
                text.order(relevance, spans, self.join)
                for text, relevance, spans in zip(texts, maps.double().numpy(), offsets, strict=True)
            ]
            losses = self._losses(reader, texts, orders, picked, instead)
            for text, order, top, loss in zip(texts, orders, tops, losses, strict=True):
                rows.append(self._row(contender.name, text, order, top, loss))
        return rows, skipped

    def findings(self, rows: Iterable[Row]) -> Findings:
        """See :class:`~heedmap.evaluate.evaluation.Evaluation`: F1, precision and recall by k, and both AOPCs."""
        methods = by_method(rows)
        measures = [
            Measure.of_means(column, title, higher, values_of(methods, column))
            for column, (title, higher) in FIGURES.items()
        ]
        curves = [
            Curve(
                column,
                f"{'F1' if column == 'f1' else column} of the most relevant words",
                "words",
                column,
                self.counts,
                values_of(methods, column),
            )
            for column in reversed(COLUMNS)
        ]
        return Findings(measures, curves, _facts(next(iter(methods.values()), [])))

    def _text(self, subject: Model, seed: int, sample: Sample) -> _Text:
        text, truth = sample.inputs.get("text"), sample.truth
        if not isinstance(truth, Rationale) or not isinstance(text, str):
            raise SampleError(
                f"it has a {type(text).__name__} and {type(truth).__name__}; expected one text and its reasons"
            )
        evidence = reasons(truth.words, truth.spans)
        if not evidence.any():
            raise SampleError("none of its words is a reason; expected at least one")
        names = {name.casefold(): index for index, name in subject.class_names.items()}
        label = self.classes.get(truth.label, names.get(truth.label.casefold()))
        if label is None and self.truth:
            raise SampleError(
                f"its label {truth.label!r} is none of the model's ({', '.join(names) or 'it has no names'}); say which class it "
                "is with classes={…}"
            )
        return _Text(sample.key, text, truth.words, evidence, label, zlib.crc32(f"{seed} {sample.key}".encode()))

    def _instead(self, text: _Text, seed: int) -> dict[int, str]:
        """For each word of a text one of another sample's, each as probable as it is frequent among the donors."""
        if self.remove == "drop":
            return {}
        pool = [
            donor.inputs["text"][begin:end]
            for donor in self.donors
            if donor.key != text.key and isinstance(donor.truth, Rationale)
            for begin, end in donor.truth.words
        ]
        if not pool:
            raise InputError(
                f"there is no word of another sample than {text.key} to put where words are taken out; give more samples"
            )
        drawn = np.random.default_rng([seed, zlib.crc32(text.key.encode())]).integers(len(pool), size=len(text.words))
        return {number: pool[place] for number, place in enumerate(drawn.tolist())}

    def _losses(
        self,
        reader: _Reader,
        texts: Sequence[_Text],
        orders: Sequence[np.ndarray],
        picked: Sequence[int],
        instead: Sequence[Mapping[int, str]],
    ) -> Float[np.ndarray, "texts shares 2"]:
        """For each share, what the answer loses in probability without the top words, and with them alone."""
        versions = []
        for text, order, others in zip(texts, orders, instead, strict=True):
            if len(order) < 2:
                raise InputError(f"the model sees {len(order)} words of {text.key}; expected two or more")
            tops = [set(share_of(order, share).tolist()) for share in self.shares]
            kept = [set(order.tolist()), *(words for top in tops for words in (set(order.tolist()) - top, top))]
            seen = {word: others[word] for word in order.tolist() if word in others}
            versions += [rebuilt(text.text, text.words, sorted(words), seen) for words in kept]
        picks = np.repeat(picked, len(versions) // len(texts))
        left = reader.probabilities(versions)[np.arange(len(versions)), picks].reshape(len(texts), -1)
        return (left[:, :1] - left[:, 1:]).reshape(len(texts), len(self.shares), 2)

    def _row(self, method: str, text: _Text, order: np.ndarray, top: int, losses: Float[np.ndarray, "shares 2"]) -> Row:
        figures = agreement(order, text.evidence, self.counts)
        return {
            "sample": text.key,
            "method": method,
            "words": len(text.words),
            "seen": len(order),
            "reasons": int(text.evidence.sum()),
            "right": float("nan") if text.label is None else float(text.label == top),
            **{column: figures[:, number].tolist() for number, column in enumerate(COLUMNS)},
            "f1_mean": float(figures[:, -1].mean()),
            "without_top": losses[:, 0].tolist(),
            "only_top": losses[:, 1].tolist(),
            "comprehensiveness": float(losses[:, 0].mean()),
            "sufficiency": float(losses[:, 1].mean()),
        }


@dataclass(frozen=True, eq=False)
class _Text:
    """A sample that can be measured; ``label`` is the model's class of its label, None where it has none of that name."""

    key: str
    text: str
    words: Sequence[tuple[int, int]]
    evidence: np.ndarray
    label: int | None
    seed: int

    def order(self, relevance: np.ndarray, offsets: Sequence[tuple[int, int]], join: str) -> np.ndarray:
        """Its words, those that the model sees, from the most relevant one."""
        owners = words_of_tokens(offsets, self.words)
        return top_words(word_relevance(relevance[: len(owners)], owners, len(self.words), join), self.seed)


class _Reader:
    """Reads texts with a model, each text once."""

    def __init__(self, subject: Model) -> None:
        self._subject = subject
        self._tokenizer = tokenizer_of(subject)
        self._limit = token_limit(self._tokenizer, subject.config)
        self._known: dict[str, np.ndarray] = {}

    def inputs(self, texts: Sequence[str]) -> tuple[dict[str, Tensor], list[list[tuple[int, int]]]]:
        """What the model is called with, cut to what it takes, and for each text the characters of its tokens."""
        subject = self._subject
        cut = {} if self._limit is None else {"truncation": True, "max_length": self._limit}
        encoded = self._tokenizer(
            list(texts), padding=len(texts) > 1, return_offsets_mapping=True, return_tensors="pt", **cut
        )
        offsets = encoded.pop("offset_mapping").tolist()
        known = {
            subject.renamed.get(name, name): value for name, value in encoded.items() if name in subject.parameters
        }
        return placed(known, subject.model), offsets

    def probabilities(self, texts: Sequence[str]) -> Float[np.ndarray, "texts classes"]:
        """Of each class, for each text."""

        def ask(places: list[int]) -> np.ndarray:
            logits = logits_of(self._subject, self.inputs([texts[place] for place in places])[0])
            return self._subject.context({}).probabilities(logits).double().cpu().numpy()

        values: list[np.ndarray] = asked_once(texts, self._known, ask, AT_ONCE)
        return np.stack(values)


def _facts(rows: Sequence[Row]) -> dict[str, object]:
    """Of the samples: how many texts were cut, how many reasons were beyond, how often the model is right."""
    right = [known for row in rows if not np.isnan(known := number_of(row, "right"))]
    return {
        "texts": len(rows),
        "cut": sum(number_of(row, "seen") < number_of(row, "words") for row in rows),
        "words": sum(number_of(row, "words") for row in rows),
        "words_seen": sum(number_of(row, "seen") for row in rows),
        "accuracy": round(float(np.mean(right)), 4) if right else None,
    }
