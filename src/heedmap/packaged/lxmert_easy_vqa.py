"""Task: easy-VQA's questions, by LXMERT. It is here, not among the zoo's tasks, since its data are of a package."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from heedmap.data.easy_vqa import ANSWERS, FEATURES, KINDS, PLACES, SIDE, WORDS, EasyVqa, Question, features, kind_of
from heedmap.packaged.cache import fetch
from heedmap.zoo.task import Batch
from heedmap.zoo.tasks.tokenizers import question_tokenizer

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor, nn

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "?")
LONGEST = 16
"""At least the tokens of the longest question."""
VALIDATION = 3600
"""The first picture of the training split that is not trained with; the questions about those from here validate."""
AT_ONCE = 200
GROUPS = (*KINDS[:2], *(f"{kind}, {there}" for kind in KINDS[2:] for there in ("there", "not there")))
"""Kinds of questions, of which those that ask whether something is there are parted by whether it is: it mostly is not, so
that from the words alone nine of ten questions for a colour can be answered."""
EARLY = 48_000
"""Samples of training that ask for a colour or a shape only: the other kinds say too little to begin with."""


@cache
def tokenizer() -> Any:
    """``[CLS] question [SEP]``."""
    return question_tokenizer(TOKENS, LONGEST)


def model(settings: Mapping[str, Any], before: nn.Module | None) -> nn.Module:
    """See :class:`heedmap.zoo.task.Task`."""
    from transformers import LxmertConfig, LxmertForQuestionAnswering

    labels = dict(enumerate(ANSWERS))
    named = {"id2label": labels, "label2id": {answer: number for number, answer in labels.items()}}
    sizes = {"vocab_size": len(TOKENS), "max_position_embeddings": LONGEST, "visual_feat_dim": FEATURES}
    return LxmertForQuestionAnswering(LxmertConfig(**named, **sizes, num_qa_labels=len(ANSWERS), **settings))


def processors() -> Sequence[Any]:
    """See :class:`heedmap.zoo.task.Task`."""
    return (tokenizer(),)


@cache
def reader(split: str) -> EasyVqa:
    """The questions of the package's ``"train"`` or ``"test"``."""
    return EasyVqa(fetch("easy-vqa"), split)


@cache
def numbers(split: str) -> Mapping[str, Sequence[int]]:
    """Group of :data:`GROUPS` → numbers of the split's questions, in a random order; ``""`` → all, as in the file."""
    questions = _source(split).questions
    chosen = [number for number, (_, _, picture) in enumerate(questions) if _belongs(picture, split)]
    groups: dict[str, list[int]] = {group: [] for group in GROUPS}
    for number in np.random.default_rng(0).permutation(chosen).tolist():
        groups[_group(*questions[number][:2])].append(number)
    return {"": chosen, **groups}


def _group(text: str, answer: str) -> str:
    kind = kind_of(text, answer)
    if not kind.endswith("or not"):
        return kind
    denied = bool({"no", "not"} & set(text.split()))
    return f"{kind}, {'there' if (answer == 'yes') != denied else 'not there'}"


def _belongs(picture: int, split: str) -> bool:
    return split == "test" or (picture >= VALIDATION) == (split == "val")


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Questions, pictures as boxes, and answers as numbers of :data:`heedmap.data.easy_vqa.ANSWERS`.

    In training the groups come in turn, at first the first two only, and a picture is mirrored at random and its shape moved
    about, which changes no answer.
    """
    rows = [_sample(seed, split, index) for index in range(start, start + count)]
    questions, pictures = zip(*rows, strict=True)
    made = tokenizer()([text for text, _, _ in questions], padding=True, return_tensors="pt")
    return {
        "input_ids": made["input_ids"],
        "attention_mask": made["attention_mask"],
        "token_type_ids": torch.zeros_like(made["input_ids"]),
        "visual_feats": torch.from_numpy(np.stack([features(picture) for picture in pictures])),
        "visual_pos": torch.from_numpy(PLACES).expand(count, -1, -1),
        "answers": torch.tensor([ANSWERS.index(answer) for _, answer, _ in questions]),
        "kinds": torch.tensor([KINDS.index(kind_of(text, answer)) for text, answer, _ in questions]),
    }


def _source(split: str) -> EasyVqa:
    return reader("test" if split == "test" else "train")


def _sample(seed: int, split: str, index: int) -> tuple[Question, UInt8[np.ndarray, "64 64 3"]]:
    data, chosen = _source(split), numbers(split)
    if split != "train":
        number = chosen[""][index % len(chosen[""])]
        return data.questions[number], data.picture(number)
    groups = [chosen[name] for name in GROUPS[: 2 if index < EARLY else None] if chosen[name]]
    turn, place = divmod(index, len(groups))
    group = groups[place]
    number = group[turn % len(group)]
    return data.questions[number], _moved(data.picture(number), np.random.default_rng((seed, index)))


def _moved(picture: UInt8[np.ndarray, "64 64 3"], random: np.random.Generator) -> UInt8[np.ndarray, "64 64 3"]:
    """The picture, perhaps mirrored, with its shape at a random place: all around it is alike."""
    mirrored = picture[:, ::-1] if random.random() < 0.5 else picture
    unlike = (mirrored != _background(mirrored)).any(2)
    shifts = [
        random.integers(-where[0], SIDE - where[-1]) for where in map(np.flatnonzero, (unlike.any(1), unlike.any(0)))
    ]
    return np.roll(mirrored, shifts, (0, 1))


def _background(picture: UInt8[np.ndarray, "64 64 3"]) -> UInt8[np.ndarray, " 3"]:
    corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
    return np.median(corners, 0).astype(np.uint8)  # at most one corner can be the shape's


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the answers."""
    return cross_entropy(_logits(model, batch), batch["answers"])


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions answered right; ``accuracy/KIND``: of those of a kind."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for start in range(0, count, AT_ONCE):
        made = batch(seed, split, start, min(AT_ONCE, count - start))
        hits = _logits(model, made).argmax(-1) == made["answers"]
        kinds = [KINDS[number] for number in made["kinds"]]
        total.update(kinds)
        right.update(kind for kind, hit in zip(kinds, hits.tolist(), strict=True) if hit)
    by_kind = {f"accuracy/{kind}": right[kind] / total[kind] for kind in KINDS if total[kind]}
    return {"accuracy": right.total() / count, **by_kind}


def _logits(model: nn.Module, batch: Batch) -> Float[Tensor, "batch answers"]:
    inputs = {name: value for name, value in batch.items() if name not in ("answers", "kinds")}
    return model(**inputs).question_answering_score
