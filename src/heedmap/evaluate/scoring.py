"""Whether a model is still right about a sample from which something was taken away, and how probable its answer is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch

from heedmap.attention.forward import output_of
from heedmap.datasets.sample import Match, RightAnswers, Said
from heedmap.datasets.vqa import normalised
from heedmap.errors import InputError, SampleError
from heedmap.evaluate.answer import all_class_names, logits_of, repeated, target_of
from heedmap.evaluate.evidence import plain, spellings
from heedmap.outputs import get
from heedmap.targets import ClassLogit, Similarity, Target, class_logits

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from heedmap.datasets.sample import Sample
    from heedmap.models.model import Model

    Scores = tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]

AT_ONCE = 256
"""Rows of a forward pass."""

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Scorer(Protocol):
    """Knows what is asked of a batch of samples.

    It is made of the model, the inputs of the samples as they are, and the samples, with a truth of its kind; ``truth`` says
    whether what is right is explained, or what the model says itself, as the authors do.

    Attributes:
        target: what is explained.
    """

    target: Target

    def __call__(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Scores:
        """For each row of ``inputs``, made of the sample ``owners`` says: how right the answer is, 0 to 1, and the
        probability of what was explained; ``owners`` and both of these are on the CPU."""


class AnswerScorer:
    """Of a model with one answer, or a yes and no for each label: the score of what it answers, by RightAnswers.

    Where the model has a yes and no for each label, the sample's one label is asked for, and a yes is right.
    """

    def __init__(self, subject: Model, inputs: Mapping[str, object], samples: Sequence[Sample], truth: bool) -> None:
        self._subject = subject
        self._many = not subject.context({}).exclusive
        logits = logits_of(subject, inputs).cpu()
        self._scores = torch.stack([_scores(sample, subject, logits.shape[-1]) for sample in samples])
        best = self._scores if truth or self._many else logits
        self._picked = best.argmax(-1)
        self.target: Target = ClassLogit(tuple(self._picked.tolist()))

    def __call__(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Scores:
        """See :class:`Scorer`."""
        logits = logits_of(self._subject, inputs).cpu()
        picked = self._picked[owners, None]
        probability = self._subject.context({}).probabilities(logits).gather(1, picked)[:, 0]
        if self._many:
            return (probability > 0.5).float(), probability
        return self._scores[owners].gather(1, logits.argmax(-1, keepdim=True))[:, 0], probability


class WordScorer:
    """Of a model with logits at each place of a text: whether the token, or label, of Said is the most probable at its place.

    What is asked about must keep its place in other inputs.
    """

    def __init__(self, subject: Model, inputs: Mapping[str, object], samples: Sequence[Sample], truth: bool) -> None:
        self._subject = subject
        said = [sample.truth for sample in samples if isinstance(sample.truth, Said)]
        self._places = torch.tensor([truth.place for truth in said])
        self._right = torch.tensor([truth.index for truth in said])
        self._picked = self._right if truth else self._logits(inputs, torch.arange(len(said))).argmax(-1)
        self.target = target_of(list(zip(self._places.tolist(), self._picked.tolist(), strict=True)))

    def __call__(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Scores:
        """See :class:`Scorer`."""
        logits = self._logits(inputs, owners)
        probability = logits.softmax(-1).gather(1, self._picked[owners, None])[:, 0]
        return (logits.argmax(-1) == self._right[owners]).float(), probability

    def _logits(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Float[Tensor, "rows classes"]:
        logits, places = class_logits(output_of(self._subject.model, inputs), 3).float().cpu(), self._places[owners]
        if int(places.max()) >= logits.shape[1]:
            raise InputError(
                f"place {int(places.max())} is asked about, and the model has logits of {logits.shape[1]}; its answer is "
                "shorter than what is right"
            )
        return logits[torch.arange(len(logits)), places]


class MatchScorer:
    """Of a dual encoder: whether a picture is nearer to its text than to all wrong ones of Match.

    ``segment`` is what is perturbed, ``"text"``, ``"image"``, or both: ``"joint"``.
    """

    def __init__(self, subject: Model, inputs: Mapping[str, object], samples: Sequence[Sample], segment: str) -> None:
        self._subject, self._inputs, self._segment = subject, inputs, segment
        self._batch = len(samples)
        matches = [_match(sample) for sample in samples]
        wrong = [text for match in matches for text in match.wrong]
        counts = torch.tensor([len(match.wrong) for match in matches])
        self._owner = torch.arange(len(samples)).repeat_interleave(counts)
        image = samples[0].inputs["image"]
        encoded = subject.inputs(text=wrong, image=[image] * len(wrong))
        self._wrong = {
            name: value for name, value in _words(subject, encoded).items() if name in _words(subject, inputs)
        }
        self.target: Target = Similarity()

    def __call__(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Scores:
        """See :class:`Scorer`; the probability is the softmax over the right text and the wrong ones."""
        present = owners.unique()
        place = torch.searchsorted(present, owners)
        rivals = torch.isin(self._owner, present)
        wrong = {name: value[rivals] for name, value in self._wrong.items()}
        rival_place = torch.searchsorted(present, self._owner[rivals])
        plain = repeated(self._inputs, self._batch, present)
        rows = torch.arange(len(place))
        pictures, picture = (plain, place) if self._segment == "text" else (inputs, rows)
        texts, text = (plain, place) if self._segment == "image" else (inputs, rows)
        similar = logits_of(self._subject, {**pictures, **_joined(_words(self._subject, texts), wrong)}).cpu()
        matching, others = similar[picture, text], similar[picture, similar.shape[1] - len(rival_place) :]
        scores = others.masked_fill(rival_place != place[:, None], -torch.inf)
        right = (matching > scores.amax(-1)).float()
        return right, torch.cat([matching[:, None], scores], 1).softmax(-1)[:, 0]


def asked_once(
    keys: Sequence[Key],
    known: dict[Key, Answer],
    ask: Callable[[list[int]], Iterable[Answer]],
    at_once: int = AT_ONCE,
    amounts: np.ndarray | None = None,
) -> list[Answer]:
    """What a model says of each of many inputs, of equal ones once.

    Args:
        keys: one an input; equal inputs have equal keys.
        known: what was asked before, to which this is added.
        ask: numbers of some inputs → what the model says of each.
        at_once: of so many inputs.
        amounts: tokens of each input; those of about as many go together. None: in the order in which they come.
    """
    fresh = list({key: place for place, key in enumerate(keys) if key not in known}.values())
    if amounts is not None:
        fresh = np.array(fresh, dtype=int)[np.argsort(amounts[fresh], kind="stable")].tolist()
    for start in range(0, len(fresh), at_once):
        places = fresh[start : start + at_once]
        known.update(zip([keys[place] for place in places], ask(places), strict=True))
    return [known[key] for key in keys]


def scorer_of(
    subject: Model, inputs: Mapping[str, object], samples: Sequence[Sample], segment: str, truth: bool
) -> Scorer:
    """What scores these samples; InputError where their truth is of another kind."""
    if all(isinstance(sample.truth, Match) for sample in samples):
        return MatchScorer(subject, inputs, samples, segment)
    if all(isinstance(sample.truth, Said) for sample in samples):
        return WordScorer(subject, inputs, samples, truth)
    if subject.kind_row.speaks:
        raise InputError(
            f"{subject.name} speaks, and of the samples it is not known which token is right at which place; models that choose "
            "an answer or match a pair can be asked about them, and of those that speak the zoo's about their own"
        )
    return AnswerScorer(subject, inputs, samples, truth)


def _match(sample: Sample) -> Match:
    if not isinstance(sample.truth, Match):
        raise SampleError("it has no wrong texts to be told from; expected pictures with a right and wrong texts")
    return sample.truth


def _scores(sample: Sample, subject: Model, classes: int) -> Float[Tensor, " classes"]:
    """The truth's score of each class of the model, found by its name as it is, as VQA's answers are
    written, or by one of the names that it lists; SampleError where the truth is of another kind."""
    truth = sample.truth
    if not isinstance(truth, RightAnswers):
        raise SampleError(f"it has no answer but {type(truth).__name__}; expected a question or a labelled picture")
    scores = {plain(label): score for label, score in truth.scores.items()}
    names = all_class_names(subject, classes).values()
    class_scores = [
        max((scores.get(spelling, 0.0) for spelling in (*spellings(name), plain(normalised(name)))), default=0.0)
        for name in names
    ]
    if truth.index is not None and not any(class_scores) and truth.index < classes:
        class_scores[truth.index] = 1.0  # classes without names that fit are told by their number
    return torch.tensor(class_scores)


def _words(subject: Model, inputs: Mapping[str, object]) -> dict[str, Tensor]:
    found = {name: get(inputs, name) for name in (subject.renamed.get(n, n) for n in ("input_ids", "attention_mask"))}
    return {name: value for name, value in found.items() if value is not None}


def _joined(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Texts below each other, those of fewer tokens filled up at the end; the mask hides that."""
    width = max(value.shape[1] for value in (*first.values(), *second.values()))

    def wide(value: Tensor) -> Tensor:
        return torch.nn.functional.pad(value, (0, width - value.shape[1]))

    return {name: torch.cat([wide(first[name]), wide(second[name])]) for name in first}
