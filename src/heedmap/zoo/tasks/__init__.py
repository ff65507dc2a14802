"""The tasks of the recipes, a module each (see :class:`heedmap.zoo.recipe.Task`), and what they share.

That is: names of classes, tokenizers that transformers loads from a folder by itself, heads that do not learn; scenes, their
pixels and image processors, places of patches, and attention that begins local.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch.nn import Linear, init
from torch.nn.functional import avg_pool2d, unfold

from heedmap.errors import UnknownNameError
from heedmap.zoo.world import Scene, make_scene

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor, nn
    from transformers import BaseImageProcessor, BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast


def class_names(labels: Sequence[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    """The names of classes, in the order of their numbers, as a configuration of transformers takes them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}


PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)
"""The first tokens of every vocabulary: their ids are 0 to 3."""


def vocabulary(words: Sequence[str]) -> dict[str, int]:
    """Size of the vocabulary of :data:`SPECIAL` and these words, and the ids of the former, as configurations have them."""
    return {"vocab_size": len(SPECIAL) + len(words), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def character_tokenizer(characters: str) -> PreTrainedTokenizerFast:
    """A token for each character, and ``</s>`` at the end: token i is character i of the text."""
    tokenizer = word_level((*SPECIAL, *characters))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {END}", None, [(END, SPECIAL.index(END))])
    tokenizer.decoder = decoders.Fuse()
    return wrapped(tokenizer)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A token for each word; words are what stands between spaces."""
    tokenizer = word_level((*SPECIAL, *words))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrapped(tokenizer)


def question_tokenizer(words: Sequence[str], longest: int) -> BertTokenizer:
    """``[CLS] question [SEP]``, a token a word or sign, as BERT's tokenizer makes it of a vocabulary of whole words.

    Args:
        words: the vocabulary, of which the first ones are BERT's special tokens; the position is the id.
        longest: tokens of the longest question.
    """
    from transformers import BertTokenizer

    ids = {word: index for index, word in enumerate(words)}
    return BertTokenizer(vocab=ids, model_max_length=longest, clean_up_tokenization_spaces=False)


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: object) -> dict[str, Tensor]:
    """Ids and mask of some texts, padded to the longest; ``options`` as for the tokenizer."""
    tensors = tokenizer(list(texts), padding=True, return_tensors="pt", **options)
    return {name: tensors[name] for name in ("input_ids", "attention_mask")}


def word_level(words: Sequence[str]) -> Tokenizer:
    """A token for each of the words; the position is the id."""
    return Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))


def wrapped(tokenizer: Tokenizer, **settings: object) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers has it, with the names of :data:`SPECIAL`."""
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": PAD, "bos_token": START, "eos_token": END, "unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names, **settings)


Family = TypeVar("Family")


def family_of(settings: Mapping[str, object], families: Mapping[str, Family]) -> tuple[Family, dict[str, object]]:
    """What the setting ``family`` names, and the other settings.

    Raises:
        UnknownNameError: there is none of that name.
    """
    sizes = dict(settings)
    family = str(sizes.pop("family"))
    if family not in families:
        raise UnknownNameError(f"no family is called {family!r}; known families: {', '.join(families)}")
    return families[family], sizes


@cache
def fixed_head(width: int, amount: int) -> Float[Tensor, "width amount"]:
    """A random matrix, always the same: a state of ``width`` numbers, times it, gives ``amount`` numbers."""
    return torch.randn(width, amount, generator=torch.Generator().manual_seed(0)) / width**0.5


SIDE = 96
"""Of the pictures, in pixels."""

FORM = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""Settings of every image processor here: any picture, made square, from -1 to 1."""

AT_ONCE, TEXTS_AT_ONCE = 100, 250
"""Samples of a forward pass in scoring: pictures, and texts."""


def scenes(seed: int, split: str, start: int, count: int) -> list[Scene]:
    """Scenes ``start`` to ``start + count`` of a split."""
    return [_made(seed, split, index, SIDE) for index in range(start, start + count)]


_made = lru_cache(maxsize=512)(make_scene)
"""What learns is checked on the same scenes again and again, and to make one takes longer than to look at it."""


def pixel_values(pictures: Sequence[Scene]) -> Float[Tensor, "batch 3 side side"]:
    """The pictures as an image processor of :data:`FORM` gives them."""
    pixels = torch.from_numpy(np.stack([scene.image for scene in pictures]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def image_processor(name: str, **settings: object) -> BaseImageProcessor:
    """The image processor of transformers called ``name``, in the :data:`FORM`."""
    import transformers

    return getattr(transformers, name)(**FORM, **{"size": {"height": SIDE, "width": SIDE}, **settings})


def chunks(count: int, most: int = AT_ONCE) -> Iterator[tuple[int, int]]:
    """Start and length of the pieces of ``count`` samples, ``most`` in each but the last."""
    return ((start, min(most, count - start)) for start in range(0, count, most))


def shares(hits: Iterable[tuple[str, bool]], names: Sequence[str]) -> dict[str, float]:
    """For each of the names the share of its hits that are true; a name without hits is left out."""
    by_name: dict[str, list[bool]] = {name: [] for name in names}
    for name, hit in hits:
        by_name[name].append(hit)
    return {name: sum(found) / len(found) for name, found in by_name.items() if found}


PATCH = 8
"""Pixels of a patch, each way."""

COVERED = 0.25
"""Share of a patch that an object covers at least for the patch to show it."""

NOTHING = -1
"""Number of the object where a patch shows none."""

PIXEL = 4
"""Pixels of the picture, each way, to a point of a drawn outline."""

WINDOW = 10
"""Points of a drawn outline each way, the patch in their midst."""

BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
"""Neighbours of a patch, rows and columns away."""

SHARP = 2.2
"""Size of the weights that find a neighbour: the greater, the less is seen of the patches around it."""


def rates(width: int) -> Float[Tensor, " waves"]:
    """Of :func:`waves`: with periods from 32 patches to 2."""
    return torch.pi * 2.0 ** torch.linspace(-4, 0, width // 4)


def waves(width: int, places: int) -> Float[Tensor, "patches width"]:
    """Sines, then cosines, of the row of each patch, then those of its column."""
    turns = torch.arange(places)[:, None] * rates(width)
    waves = torch.cat([turns.sin(), turns.cos()], -1)
    rows = waves[:, None].expand(-1, places, -1)
    return torch.cat([rows, rows.transpose(0, 1)], -1).flatten(0, 1)


def outlines(scene: Scene) -> tuple[Int64[Tensor, " patches"], Float[Tensor, "patches points"]]:
    """Number of the object that covers most of each patch, and the object's mask in a window around the patch."""
    masks = torch.stack([torch.from_numpy(item.mask) for item in scene.objects]).float()[:, None]
    share, number = avg_pool2d(masks, PATCH)[:, 0].flatten(1).max(0)
    step = PATCH // PIXEL
    around = unfold(avg_pool2d(masks, PIXEL), WINDOW, stride=step, padding=(WINDOW - step) // 2)
    return torch.where(share >= COVERED, number, NOTHING), around[number, :, torch.arange(len(number))]


def begin(
    model: nn.Module,
    kernel: Float[Tensor, "width channels size size"],
    positions: Float[Tensor, "patches width"],
    layers: Sequence[tuple[nn.Linear, nn.Linear]],
) -> None:
    """Weights of a size that fits the width, positions that begin as waves, and patches that look at their neighbours.

    transformers draws weights for a much wider model, and positions from which neighbours cannot be told.

    Args:
        model: whose linear maps are drawn anew.
        kernel: of the convolution that makes patches of pixels.
        positions: of the patches, written to.
        layers: query and key projections of the vision tower; the first three, of four heads each, look at neighbours.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            init.xavier_uniform_(module.weight)
    with torch.no_grad():
        init.xavier_uniform_(kernel.view(len(kernel), -1))
        positions.copy_(0.5 * waves(len(kernel), round(len(positions) ** 0.5)))
    for (query, key), offsets in zip(layers, (BESIDE, DIAGONAL, BESIDE), strict=False):
        look_aside(query, key, offsets)


def look_aside(query: nn.Linear, key: nn.Linear, offsets: Sequence[tuple[int, int]]) -> None:
    """Add to the projections of an attention what makes each head look so many rows and columns away.

    A shift turns sine and cosine into each other, so that the query of a patch can be the key of its neighbour.

    Args:
        query, key: of tokens to which :func:`waves` were added.
        offsets: of each head, rows and columns.
    """
    width, quarter = query.in_features, query.in_features // 4
    depth = query.out_features // len(offsets)
    chosen = torch.linspace(0, quarter - 1, depth // 4).round().long()
    with torch.no_grad():
        for head, offset in enumerate(offsets):
            for axis, steps in enumerate(offset):
                turn = rates(width)[chosen] * steps
                rows = head * depth + 2 * axis * len(chosen) + torch.arange(len(chosen))
                sine = 2 * axis * quarter + chosen
                _add(key, rows, sine, torch.ones_like(turn), torch.zeros_like(turn))
                _add(key, rows + len(chosen), sine, torch.zeros_like(turn), torch.ones_like(turn))
                _add(query, rows, sine, turn.cos(), turn.sin())
                _add(query, rows + len(chosen), sine, -turn.sin(), turn.cos())


def _add(linear: nn.Linear, rows: Tensor, sine: Tensor, of_sine: Tensor, of_cosine: Tensor) -> None:
    linear.weight[rows, sine] += SHARP * of_sine
    linear.weight[rows, sine + linear.in_features // 4] += SHARP * of_cosine
