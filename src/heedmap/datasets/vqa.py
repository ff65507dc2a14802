"""Visual question answering as VQA v2 has it: questions, ten people's answers, and pictures or box features."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedmap.datasets.features import Features, open_features
from heedmap.datasets.files import (
    FilePath,
    chosen_subset,
    described,
    image_id,
    images_by_id,
    listed,
    needed_file,
    needed_folder,
    picture,
    read_json,
    subset_of,
)
from heedmap.datasets.sample import RightAnswers, Sample, SampleInputs
from heedmap.errors import OptionError, SampleError

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"


@dataclass(frozen=True)
class VqaQuestion:
    """A question.

    Attributes:
        text: of it.
        image: id of the picture that it is about.
        answers: one a person.
    """

    text: str
    image: str
    answers: tuple[str, ...]


class VQA:
    """A VQA v2 data set, a :class:`~heedmap.datasets.sample.Reader`; a sample is a question, its key the question's id."""

    def __init__(
        self, questions: Path, annotations: Path, images: Path | None, features: Features | None, scoring: str
    ) -> None:
        self._folder, self._features, self._scoring = images, features, scoring
        self._pictures = {} if images is None else images_by_id(images)
        self._asked, self.problems = self._read(questions, annotations)
        self.keys: Sequence[str] = list(self._asked)
        self.description = described("vqa", (questions, annotations), len(self.keys), scoring=scoring)
        if images is not None:
            self.description["images"] = images.name
        if features is not None:
            self.description["features"] = dict(features.description)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``text`` with ``image`` and ``boxes``, as far as they were given; the truth is RightAnswers."""
        key = self.keys[index]
        asked = self._asked[key]
        scores = soft_scores(asked.answers, self._scoring)
        if not scores:
            raise SampleError(f"question {key}: no answer is left of {asked.answers} when normalised; leave it out")
        return Sample(key, {"text": asked.text, **self._seen(asked.image)}, RightAnswers(scores))

    def _seen(self, image: str) -> SampleInputs:
        seen: SampleInputs = {}
        if self._folder is not None:
            name = self._pictures[image]
            seen["image"] = picture(self._folder / name, name)
        if self._features is not None:
            seen["boxes"] = self._features.read(image)
        return seen

    def _read(self, questions: Path, annotations: Path) -> tuple[dict[str, VqaQuestion], dict[str, str]]:
        answers = _answers(annotations)
        asked: dict[str, VqaQuestion] = {}
        problems: dict[str, str] = {}
        for number, row in enumerate(listed(read_json(questions), "questions", questions)):
            fields = row if isinstance(row, dict) else {}
            key = fields.get("question_id")
            if not isinstance(key, int | str):
                problems[f"row {number}"] = "no question_id"
            elif str(key) in asked:
                problems[f"{key} (row {number})"] = "its id was there before"
            elif isinstance(entry := self._question(fields, answers.get(str(key))), str):
                problems[str(key)] = entry
            else:
                asked[str(key)] = entry
        return asked, problems

    def _question(self, fields: Mapping[str, object], given: tuple[str, ...] | None) -> VqaQuestion | str:
        """What is asked, or else what is wrong."""
        text, image = fields.get("question"), fields.get("image_id")
        if not isinstance(text, str) or not text.strip() or not isinstance(image, int | str):
            return "no question, or no image_id"
        if not given:
            return "no annotation" if given is None else "no answer in its annotation"
        asked = VqaQuestion(text, image_id(image), given)
        if self._folder is not None and asked.image not in self._pictures:
            return f"image {asked.image} is not in {self._folder.name}"
        if self._features is not None and asked.image not in self._features.ids:
            why = self._features.problems.get(asked.image, "there are none of it")
            return f"image {asked.image} has no box features: {why}"
        if len(asked.answers) == 1 and self._scoring == "official":
            return "a single answer, which the official score makes 0; choose scoring='any'"
        return asked


def open_vqa(
    folder: FilePath,
    *,
    split: str | None = None,
    questions: FilePath | None = None,
    annotations: FilePath | None = None,
    images: FilePath | None = None,
    features: FilePath | None = None,
    names: FilePath | None = None,
    scoring: str = "official",
) -> VQA:
    """Open a VQA v2 data set.

    Args:
        folder: has the files under VQA v2's own names, so far as no other paths are given.
        split: "val" or "val2014" and so on, where there are several.
        questions, annotations: JSON files.
        images: folder of pictures named by COCO image id; by default ``val2014`` and so on, but none beside features.
        features: box features, see :func:`~heedmap.datasets.features.open_features`.
        names: of the features' objects, a text file.
        scoring: key of :data:`~heedmap.datasets.vqa.SCORINGS`.

    Raises:
        InputError: a file or folder is not there, or it is not clear which to read.
        FileFormatError: a file is not what it should be.
        OptionError: no such scoring.
    """
    if scoring not in SCORINGS:
        raise OptionError(f"scoring is {scoring!r}; expected one of {', '.join(SCORINGS)}")
    subset = subset_of(questions, QUESTIONS) if questions else chosen_subset(folder, QUESTIONS, split)
    pictures = images or (None if features else Path(folder, subset))
    seen = None if pictures is None else needed_folder(pictures, "pictures")
    return VQA(
        needed_file(questions or Path(folder, QUESTIONS.format(subset)), "questions"),
        needed_file(annotations or Path(folder, ANNOTATIONS.format(subset)), "annotations"),
        seen,
        None if features is None else open_features(features, names),
        scoring,
    )


def _answers(path: Path) -> dict[str, tuple[str, ...]]:
    rows = listed(read_json(path, _slim), "annotations", path)
    return {row[0]: row[1] for row in rows if isinstance(row, tuple)}


def _slim(fields: dict[str, object]) -> object:
    """An answer as a str, an annotation as (question's id, answers): a quarter of a million of them stay small."""
    answer, answers = fields.get("answer"), fields.get("answers")
    if isinstance(answer, str):
        return sys.intern(answer)
    if isinstance(answers, list) and isinstance(fields.get("question_id"), int | str):
        return str(fields["question_id"]), tuple(answer for answer in answers if isinstance(answer, str))
    return fields


NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}

ARTICLES = frozenset({"a", "an", "the"})

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Not the apostrophe, which tells possessives from plurals, nor the colon, which is in times of day."""

_WITH_APOSTROPHES = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
y'all'd've you'd you'd've you'll you're you've
"""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def _slips(word: str) -> list[str]:
    """The word with each of its apostrophes left out in turn."""
    return [word[:n] + word[n + 1 :] for n, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {slip: word for word in _WITH_APOSTROPHES.split() for slip in _slips(word)}
"""How a contraction with an apostrophe left out is meant; ``let's`` and ``she's`` are not among them."""


def normalised(answer: str) -> str:
    """An answer as the official evaluation compares it (https://visualqa.org/evaluation.html).

    In small letters; without articles and punctuation, but for periods before a digit, apostrophes and colons; numbers
    to ten as digits; contractions with their apostrophes. May be empty.
    """
    raw = " ".join(re.split(r"[\n\t]", answer)).strip()
    text, in_number = raw, _COMMA_IN_NUMBER.search(raw) is not None
    for sign in PUNCTUATION:
        beside_space = f"{sign} " in raw or f" {sign}" in raw
        text = text.replace(sign, "" if in_number or beside_space else " ")
    words = (NUMBERS.get(word, word) for word in _PERIOD.sub("", text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def leave_one_out(count: int, of: int) -> float:
    """The official score of an answer that ``count`` of the people gave.

    Each in turn is left out and the answer compared with the others': min(those who say so / 3, 1); the mean of these.
    Of ten people that is 0.3 for each, 1 at most: the labels that LXMERT was trained with.
    """
    return ((of - count) * min(count / 3, 1.0) + count * min((count - 1) / 3, 1.0)) / of


def thirds(count: int, of: int) -> float:
    """min(count / 3, 1), as the paper of VQA has it."""
    return min(count / 3, 1.0)


def any_of(count: int, of: int) -> float:
    """1: every answer that was given is right."""
    return 1.0


SCORINGS: dict[str, Callable[[int, int], float]] = {"official": leave_one_out, "thirds": thirds, "any": any_of}


def soft_scores(answers: Sequence[str], scoring: str = "official") -> dict[str, float]:
    """Answer, normalised → its score, 0 to 1; the best first, those that score 0 left out.

    Where all say the same the official evaluation takes it as it is written; it scores 1 then in both forms.

    Args:
        answers: one a person.
        scoring: key of :data:`SCORINGS`.
    """
    score = SCORINGS[scoring]
    counts = Counter(normalised(answer) for answer in answers)
    scores = {answer: score(count, len(answers)) for answer, count in counts.most_common()}
    if len({answer.strip() for answer in answers}) == 1:
        scores[answers[0].strip()] = score(len(answers), len(answers))
    return {answer: value for answer, value in scores.items() if answer and value > 0}
