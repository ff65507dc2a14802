"""Task: the answer to a question about boxes of a picture, by VisualBERT or by LXMERT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import (
    TEXTS_AT_ONCE,
    chunks,
    class_names,
    encoded,
    family_of,
    fixed_head,
    question_tokenizer,
    shares,
)
from heedmap.zoo.world import ANSWERS, COLOURS, FEATURES, KINDS, SHAPES, VOCABULARY, Question, Scene, ask, regions
from heedmap.zoo.world.making import make_scene

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int64
    from torch import Tensor, nn
    from transformers import BertTokenizer, PreTrainedModel

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *VOCABULARY, ",", "?")
"""Every token; the position is its id."""
LONGEST = 32
"""At least the tokens of the longest question."""
LOOKS = [1 + len(SHAPES), 1 + len(COLOURS)]
"""Shapes and colours that a box can have, with none."""
AID = 1.0
"""Weight of the losses that help: see :func:`loss`."""


@cache
def tokenizer() -> BertTokenizer:
    """``[CLS] question [SEP]``."""
    return question_tokenizer(WORDS, LONGEST)


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`; the setting ``family`` is ``"visualbert"`` or ``"lxmert"``."""
    made, sizes = family_of(settings, FAMILIES)
    return made({**class_names(ANSWERS), "vocab_size": len(WORDS), "max_position_embeddings": LONGEST, **sizes})


def _visualbert(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import VisualBertConfig, VisualBertForQuestionAnswering

    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    return VisualBertForQuestionAnswering(VisualBertConfig(visual_embedding_dim=FEATURES + 4, **ids, **settings))


def _lxmert(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import LxmertConfig, LxmertForQuestionAnswering

    return LxmertForQuestionAnswering(LxmertConfig(visual_feat_dim=FEATURES, num_qa_labels=len(ANSWERS), **settings))


FAMILIES = {"visualbert": _visualbert, "lxmert": _lxmert}


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (tokenizer(),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Questions, boxes and what each shows, the boxes that words name, answers and kinds.

    Answers are numbers of :data:`ANSWERS`, kinds of :data:`KINDS`.
    """
    scenes, questions = zip(*(sample(seed, split, index) for index in range(start, start + count)), strict=True)
    words = encoded(tokenizer(), [question.text for question in questions])
    looks = torch.from_numpy(np.stack([scene.looks for scene in scenes]))
    return {
        **words,
        "features": torch.from_numpy(np.stack([scene.features for scene in scenes])),
        "positions": torch.from_numpy(np.stack([scene.positions for scene in scenes])),
        "looks": looks,
        "named": _named(words["input_ids"], looks),
        "answers": torch.tensor([ANSWERS.index(question.answer) for question in questions]),
        "kinds": torch.tensor([KINDS.index(question.kind) for question in questions]),
    }


def _named(ids: Int64[Tensor, "batch words"], looks: Int64[Tensor, "batch boxes 2"]) -> Int64[Tensor, "batch words"]:
    """The box that a word names together with the word before it (``red star``); -1 where it is not exactly one."""
    colours, shapes = _numbers(tuple(COLOURS)), _numbers(SHAPES)
    pairs = torch.stack([shapes[ids], colours[ids.roll(1, 1)]], -1)
    fits = (pairs[:, :, None] == looks[:, None]).all(-1) & (pairs > 0).all(-1, keepdim=True)
    return torch.where(fits.sum(-1) == 1, fits.int().argmax(-1), -1)


def _numbers(values: Sequence[str]) -> Int64[Tensor, " tokens"]:
    """For each token which of the values it is, from 1; 0: none."""
    return torch.tensor([1 + values.index(word) if word in values else 0 for word in WORDS])


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, and two losses that help, read by fixed random heads that are no part of the model.

    What each box shows, of its last state; and where the thing lies that a word of the question names, of the word's state
    two layers (LXMERT: one) before the last. Without the second, relations stay at chance.
    """
    logits, boxes, words = _outputs(model, batch)
    aid = _looks_loss(boxes, batch["looks"]) + _places_loss(words, batch["named"], batch["positions"])
    return cross_entropy(logits, batch["answers"]) + AID * aid


def _looks_loss(hidden: Float[Tensor, "batch boxes width"], looks: Int64[Tensor, "batch boxes 2"]) -> Tensor:
    """Cross-entropies of the boxes' shapes and colours, read off their last states by a head that does not learn."""
    read = hidden.flatten(0, 1) @ fixed_head(hidden.shape[-1], sum(LOOKS))
    shapes, colours = read.split(LOOKS, -1)
    return cross_entropy(shapes, looks[..., 0].flatten()) + cross_entropy(colours, looks[..., 1].flatten())


def _places_loss(
    hidden: Float[Tensor, "batch words width"],
    named: Int64[Tensor, "batch words"],
    positions: Float[Tensor, "batch boxes 4"],
) -> Tensor:
    """Mean squared difference to the middles of the boxes that words name, from -2 to 2 over the picture."""
    rows, words = (named >= 0).nonzero(as_tuple=True)
    boxes = positions[rows, named[rows, words]]
    middles = 2 * (boxes[:, :2] + boxes[:, 2:] - 1)
    read = hidden[rows, words] @ fixed_head(hidden.shape[-1], 2)
    return (read - middles).square().sum() / max(read.numel(), 1)  # a batch may name nothing


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions answered right; ``accuracy/KIND``: of those of a kind."""
    hits: list[tuple[str, bool]] = []
    for start, length in chunks(count, TEXTS_AT_ONCE):
        examples = batch(seed, split, start, length)
        right = (_outputs(model, examples)[0].argmax(-1) == examples["answers"]).tolist()
        for number, hit in zip(examples["kinds"], right, strict=True):
            hits += [("accuracy", hit), (f"accuracy/{KINDS[number]}", hit)]
    return shares(hits, ("accuracy", *(f"accuracy/{kind}" for kind in KINDS)))


def _outputs(
    model: PreTrainedModel, batch: Batch
) -> tuple[Float[Tensor, "batch answers"], Float[Tensor, "batch boxes width"], Float[Tensor, "batch words width"]]:
    """The logits, the boxes' last states, and the words' states two layers (LXMERT: one) before the last."""
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    text["token_type_ids"] = torch.zeros_like(text["input_ids"])
    if model.config.model_type == "lxmert":
        boxes = {"visual_feats": batch["features"], "visual_pos": batch["positions"]}
        output = model(**text, **boxes, output_hidden_states=True)
        return output.question_answering_score, output.vision_hidden_states[-1], output.language_hidden_states[-2]
    output = model(**text, **_placed(batch), output_hidden_states=True)
    length = text["input_ids"].shape[1]
    return output.logits, output.hidden_states[-1][:, length:], output.hidden_states[-3][:, :length]


def _placed(batch: Batch) -> dict[str, Tensor]:
    """Boxes for VisualBERT: their places are features, every box is there, and each is of the type of boxes."""
    features = torch.cat([batch["features"], batch["positions"]], -1)
    ones = torch.ones(features.shape[:2], dtype=torch.long)
    return {"visual_embeds": features, "visual_attention_mask": ones, "visual_token_type_ids": ones}


SIDE = 96
"""Of the pictures, in pixels."""

BOXES = 10
"""Boxes a scene, true and false."""

POOL = 20_000
"""Scenes to train with. A scene costs more than a step of the model, so each is seen often, with new questions."""

ROUNDS = 3
"""Rounds of questions about a scene of the training split; after these they come again."""


@dataclass(frozen=True, eq=False)
class AskedScene:
    """A scene as a model for questions sees it.

    Attributes:
        features: of its boxes, as :func:`heedmap.zoo.world.region_features` gives them.
        positions: of its boxes, 0 to 1.
        looks: shape and colour of what each box is of, as numbers from 1; both 0: of nothing.
        rounds: for each round a question of each of :data:`heedmap.zoo.world.KINDS`.
    """

    features: Float32[np.ndarray, "boxes features"]
    positions: Float32[np.ndarray, "boxes 4"]
    looks: Int64[np.ndarray, "boxes 2"]
    rounds: tuple[tuple[Question, ...], ...]


def sample(seed: int, split: str, index: int) -> tuple[AskedScene, Question]:
    """Sample ``index`` of a split: a scene and a question about it, the kinds in turn.

    Those of ``"train"`` ask five questions of each scene; those of the other splits one of each.
    """
    number, kind = divmod(index, len(KINDS))
    if split != "train":
        scene = scene_asked(seed, split, index, 1)
        return scene, scene.rounds[0][kind]
    scene = scene_asked(seed, split, number % POOL, ROUNDS)
    return scene, scene.rounds[number // POOL % ROUNDS][kind]


@lru_cache(maxsize=2 * POOL)
def scene_asked(seed: int, split: str, index: int, rounds: int) -> AskedScene:
    """A scene with its boxes and so many rounds of questions."""
    scene = make_scene(seed, split, index, SIDE)
    boxes = regions(scene, BOXES)
    asked = tuple(
        one_of_each((*ask(scene, 2 * n), *ask(scene, 2 * n + 1)), index // len(KINDS) + n) for n in range(rounds)
    )
    return AskedScene(boxes.features, boxes.positions, looks(scene)[boxes.objects], asked)


def looks(scene: Scene) -> Int64[np.ndarray, "objects 2"]:
    """Shape and colour of each object, as numbers from 1; in the last row, at -1, those of nothing: 0."""
    seen = [(1 + SHAPES.index(o.shape), 1 + list(COLOURS).index(o.colour)) for o in scene.objects]
    return np.array([*seen, (0, 0)])


def one_of_each(questions: Sequence[Question], turn: int) -> tuple[Question, ...]:
    """A question of each kind; for a kind of which there is none, one of another kind, and of several one by turns."""
    by_kind = [[q for q in questions if q.kind == kind] or list(questions) for kind in KINDS]
    return tuple(of_kind[turn % len(of_kind)] for of_kind in by_kind)
