"""Task: easy-VQA's questions, by LXMERT. It is here, not among the zoo's tasks, since its data are of a package."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from heedmap.datasets.easy_vqa import (
    ANSWERS,
    COLOURS,
    FEATURES,
    GRID,
    KINDS,
    PLACES,
    SHAPES,
    SIDE,
    WORDS,
    EasyVqa,
    Question,
    features,
    kind_of,
)
from heedmap.packaged.cache import fetch
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import chunks, class_names, encoded, fixed_head, question_tokenizer, shares

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64, UInt8
    from torch import Tensor, nn
    from transformers import BertTokenizer, PreTrainedModel
    from transformers.models.lxmert.modeling_lxmert import LxmertForQuestionAnsweringOutput

TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "?")
LONGEST = 16
"""At least the tokens of the longest question."""
VALIDATION = 3600
"""The first picture of the training split that is not trained with; the questions about those from here validate."""
AT_ONCE = 200
GROUPS = (
    *KINDS[:2],
    *(f"{kind}, {presence}" for kind in KINDS[2:] for presence in ("there", "not there")),
    *(f"{kind}, {presence}, denied" for kind in KINDS[2:] for presence in ("there", "not there")),
)
"""Kinds of questions. Those that ask whether something is there are parted by whether it is (it mostly is not, so that from the
words alone nine of ten questions for a colour can be answered), and by whether they ask if it is *not* there."""
LOOKS = (1 + len(SHAPES), 1 + len(COLOURS))
"""Shapes and colours that a box can have, with none."""
BARE = 0.1
"""Weight of a box of bare background, of which there are many, beside one of the shape: see :func:`loss`."""
BY_KIND = tuple(f"accuracy/{kind}" for kind in (*KINDS, "denied"))
UNKNOWN = -100
"""A number that is not known: torch's cross-entropy leaves it out."""
NAMING = torch.tensor([TOKENS.index(word) for word in (*SHAPES, *COLOURS)])
"""The tokens that name a shape or a colour."""


@cache
def tokenizer() -> BertTokenizer:
    """``[CLS] question [SEP]``."""
    return question_tokenizer(TOKENS, LONGEST)


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import LxmertConfig, LxmertForQuestionAnswering

    sizes = {"vocab_size": len(TOKENS), "max_position_embeddings": LONGEST, "visual_feat_dim": FEATURES}
    return LxmertForQuestionAnswering(
        LxmertConfig(**class_names(ANSWERS), **sizes, num_qa_labels=len(ANSWERS), **settings)
    )


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (tokenizer(),)


@cache
def reader(split: str) -> EasyVqa:
    """The questions of the package's ``"train"`` or ``"test"``."""
    return EasyVqa(fetch("easy-vqa"), split)


@cache
def numbers(split: str) -> Mapping[str, Sequence[int]]:
    """Group of :data:`GROUPS` → numbers of the split's questions, in a random order; ``""`` → all, as in the file."""
    questions = _source(split).questions
    chosen = [
        number
        for number, (_, _, picture) in enumerate(questions)
        if split == "test" or (picture >= VALIDATION) == (split == "val")
    ]
    groups: dict[str, list[int]] = {group: [] for group in GROUPS}
    for number in np.random.default_rng(0).permutation(chosen).tolist():
        groups[_group(*questions[number][:2])].append(number)
    return {"": chosen, **groups}


def _group(text: str, answer: str) -> str:
    kind = kind_of(text, answer)
    if not kind.endswith("or not"):
        return kind
    return f"{kind}, {'there' if _there(text, answer) else 'not there'}{', denied' if _denied(text) else ''}"


def _there(text: str, answer: str) -> bool:
    """Whether what the question names, if anything, is on the picture."""
    return (answer != "no") != (answer in ANSWERS[:2] and _denied(text))


def _denied(text: str) -> bool:
    return bool({"no", "not"} & set(text.split()))


@cache
def looks(split: str) -> Mapping[int, tuple[int, int]]:
    """Picture → its shape and colour, from 1, as far as all questions about it tell them; else :data:`UNKNOWN`."""
    told: defaultdict[int, set[str]] = defaultdict(set)
    for text, answer, picture in _source(split).questions:
        told[picture] |= {answer, *re.findall(r"\w+", text)} if _there(text, answer) else set()
    return {picture: (_number(SHAPES, words), _number(COLOURS, words)) for picture, words in told.items()}


def _number(values: Sequence[str], words: Set[str]) -> int:
    return next((number for number, value in enumerate(values, 1) if value in words), UNKNOWN)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Questions, pictures as boxes, and answers as numbers of :data:`heedmap.datasets.easy_vqa.ANSWERS`.

    Beside these what the losses that help ask for: ``looks``, ``there`` and ``middles``. In training the groups come in turn,
    and a picture is mirrored at random and its shape moved about, which changes no answer.
    """
    rows = [_sample(seed, split, index) for index in range(start, start + count)]
    questions, pictures = zip(*rows, strict=True)
    words = encoded(tokenizer(), [text for text, _, _ in questions])
    return {
        **words,
        "token_type_ids": torch.zeros_like(words["input_ids"]),
        "visual_feats": torch.from_numpy(np.stack([features(picture) for picture in pictures])),
        "visual_pos": torch.from_numpy(PLACES).expand(count, -1, -1),
        "answers": torch.tensor([ANSWERS.index(answer) for _, answer, _ in questions]),
        "kinds": torch.tensor([KINDS.index(kind_of(text, answer)) for text, answer, _ in questions]),
        "denied": torch.tensor([_denied(text) for text, _, _ in questions]),
        "there": _named(words["input_ids"], questions),
        **_seen(pictures, [looks(split)[picture] for _, _, picture in questions]),
    }


def _named(ids: Int64[Tensor, "batch words"], questions: Sequence[Question]) -> Int64[Tensor, "batch words"]:
    """For each word that names a shape or colour whether the picture's is that one; :data:`UNKNOWN` for the others."""
    shown = torch.tensor([[int(_there(text, answer))] for text, answer, _ in questions])
    return torch.where(torch.isin(ids, NAMING), shown, UNKNOWN)


def _seen(pictures: Sequence[UInt8[np.ndarray, "64 64 3"]], shown: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """``looks`` (batch, boxes, 2): shape and colour, 0 for those of bare background; ``middles`` (batch, 2): of the shapes."""
    shapes = torch.from_numpy(np.stack([_unlike(picture) for picture in pictures]))
    touched = shapes.unflatten(1, (GRID, -1)).unflatten(3, (GRID, -1)).sum((2, 4)).flatten(1) > 0
    return {"looks": torch.where(touched[..., None], torch.tensor(shown)[:, None], 0), "middles": _middles(shapes)}


def _middles(shapes: Bool[Tensor, "batch 64 64"]) -> Float[Tensor, "batch 2"]:
    """Of the pixels of each shape, right and down, from -2 to 2 over the picture."""
    along = (torch.arange(SIDE) + 0.5) * 4 / SIDE - 2
    counts = torch.stack([shapes.sum(1), shapes.sum(2)], 1).float()
    return counts @ along / counts.sum(-1)


def _source(split: str) -> EasyVqa:
    return reader("test" if split == "test" else "train")


def _sample(seed: int, split: str, index: int) -> tuple[Question, UInt8[np.ndarray, "64 64 3"]]:
    data, chosen = _source(split), numbers(split)
    if split != "train":
        number = chosen[""][index % len(chosen[""])]
        return data.questions[number], data.picture(number)
    groups = [chosen[name] for name in GROUPS if chosen[name]]
    turn, place = divmod(index, len(groups))
    group = groups[place]
    number = group[turn % len(group)]
    return data.questions[number], _moved(data.picture(number), np.random.default_rng((seed, index)))


def _moved(picture: UInt8[np.ndarray, "64 64 3"], random: np.random.Generator) -> UInt8[np.ndarray, "64 64 3"]:
    """The picture, perhaps mirrored, with its shape at a random place: all around it is alike."""
    mirrored = picture[:, ::-1] if random.random() < 0.5 else picture
    unlike = _unlike(mirrored)
    shifts = [
        random.integers(-where[0], SIDE - where[-1]) for where in map(np.flatnonzero, (unlike.any(1), unlike.any(0)))
    ]
    return np.roll(mirrored, shifts, (0, 1))


def _unlike(picture: UInt8[np.ndarray, "64 64 3"]) -> Bool[np.ndarray, "64 64"]:
    """The pixels that are not of the background's colour: those of the shape and its smooth edge."""
    corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
    return (picture != np.median(corners, 0).astype(np.uint8)).any(2)  # at most one corner can be the shape's


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, and two losses that help, read by fixed random heads that are no part of the model.

    What each box shows, of its last state; and whether what a word of the question names is there, and where, of the word's
    state one layer before the last. Without them every kind of question stays at chance for 2,000 steps.
    """
    output = _outputs(model, batch)
    looks = _looks_loss(output.vision_hidden_states[-1], batch["looks"])
    names = _names_loss(output.language_hidden_states[-2], batch["there"], batch["middles"])
    return cross_entropy(output.question_answering_score, batch["answers"]) + looks + names


def _looks_loss(hidden: Float[Tensor, "batch boxes width"], looks: Int64[Tensor, "batch boxes 2"]) -> Tensor:
    """Cross-entropies of the boxes' shapes and colours, where they are known."""
    shapes, colours = (hidden.flatten(0, 1) @ fixed_head(hidden.shape[-1], sum(LOOKS))).split(LOOKS, -1)
    return _weighed(shapes, looks[..., 0].flatten()) + _weighed(colours, looks[..., 1].flatten())


def _weighed(read: Float[Tensor, "boxes values"], true: Int64[Tensor, " boxes"]) -> Tensor:
    weights = torch.ones(read.shape[-1])
    weights[0] = BARE
    return cross_entropy(read, true, weights)


def _names_loss(
    hidden: Float[Tensor, "batch words width"],
    shown: Int64[Tensor, "batch words"],
    middles: Float[Tensor, "batch 2"],
) -> Tensor:
    """Cross-entropy of whether what a word names is there, and the mean squared difference to its middle where it is."""
    read = hidden @ fixed_head(hidden.shape[-1], 4)
    rows, words = (shown == 1).nonzero(as_tuple=True)
    off = (read[rows, words, 2:] - middles[rows]).square()
    loss = cross_entropy(read[..., :2].flatten(0, 1), shown.flatten(), reduction="sum")
    return loss / (shown >= 0).sum().clamp(min=1) + off.sum() / max(off.numel(), 1)  # a batch may name nothing


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions answered right; ``accuracy/KIND``: of those of a kind; ``accuracy/denied``: with "not"."""
    hits: list[tuple[str, bool]] = []
    for start, length in chunks(count, AT_ONCE):
        examples = batch(seed, split, start, length)
        right = (_outputs(model, examples).question_answering_score.argmax(-1) == examples["answers"]).tolist()
        for kind, denied, hit in zip(examples["kinds"], examples["denied"], right, strict=True):
            names = ("accuracy", f"accuracy/{KINDS[kind]}", *(("accuracy/denied",) if denied else ()))
            hits += ((name, hit) for name in names)
    return shares(hits, ("accuracy", *BY_KIND))


def _outputs(model: nn.Module, batch: Batch) -> LxmertForQuestionAnsweringOutput:
    names = ("input_ids", "attention_mask", "token_type_ids", "visual_feats", "visual_pos")
    return model(**{name: batch[name] for name in names}, output_hidden_states=True)
