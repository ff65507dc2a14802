"""Task: which caption is true of a picture, by CLIP.

The loss is CLIP's own, with two changes: a caption of another picture that is not clearly false of this one is no wrong
answer, and a picture's own caption with something changed is one. From nothing [CLS] has no features to tell patches
apart by, so the settings add losses on each patch of an object, with a weight each: ``patches``, it must find its
object's look among all looks, and ``outlines``, it must draw its object's mask around itself. Colours are learned without
the second, shapes hardly. What draws is no part of CLIP; a last stage without ``outlines`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import TYPE_CHECKING, TypedDict

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import (
    END,
    NOTHING,
    PAD,
    PATCH,
    SIDE,
    START,
    UNKNOWN,
    begin,
    chunks,
    encoded,
    image_processor,
    outlines,
    pixel_values,
    scenes,
    word_level,
    wrapped,
)
from heedmap.zoo.tasks.labels import guide
from heedmap.zoo.world import COLOURS, SHAPES, VOCABULARY, Scene, caption, distractors, judge
from heedmap.zoo.world.texts import article

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64
    from torch import Tensor
    from transformers import CLIPModel, PreTrainedModel, PreTrainedTokenizerFast

WORDS = (PAD, UNKNOWN, *VOCABULARY, ",", START, END)
"""Every token; the position is its id. CLIP reads its text at the token with the highest one."""
LONGEST = 24
"""At least the tokens of the longest caption."""
LOOKS = tuple(product(COLOURS, SHAPES))
PHRASES = tuple(f"{article(colour)} {colour} {shape}" for colour, shape in LOOKS)
CHANGED = 1
"""Captions of a picture with something changed, in training."""
CHOICES = 32
"""Captions to find the right one among, in scoring; those of other pictures."""
HARD = 8
"""How many of them are the picture's own with something changed instead, in the harder score."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """``<s> caption </s>``, a token a word."""
    from tokenizers import normalizers, pre_tokenizers, processors

    words = word_level(WORDS)
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, WORDS.index(name)) for name in (START, END)]
    words.post_processor = processors.TemplateProcessing(f"{START} $A {END}", None, ends)
    return wrapped(words, model_max_length=LONGEST)


class CaptionSettings(TypedDict):
    """Of both towers, of their common space, and the weights of the losses on patches."""

    vision: Mapping[str, object]
    text: Mapping[str, object]
    projection_dim: int
    patches: float
    outlines: float


def model(settings: CaptionSettings, before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import CLIPConfig, CLIPModel

    ids = {f"{name}_token_id": WORDS.index(sign) for name, sign in (("pad", PAD), ("bos", START), ("eos", END))}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": LONGEST, **ids, **settings["text"]}
    vision = {"image_size": SIDE, "patch_size": PATCH, **settings["vision"]}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings["projection_dim"]))
    guide(clip, settings, clip.config.vision_config.hidden_size)
    if before is None:
        tower = clip.vision_model
        layers = [(layer.self_attn.q_proj, layer.self_attn.k_proj) for layer in tower.encoder.layers]
        begin(clip, tower.embeddings.patch_embedding.weight, tower.embeddings.position_embedding.weight[1:], layers)
    else:
        clip.load_state_dict(before.state_dict(), strict=False)
    return clip


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    square = {"height": SIDE, "width": SIDE}
    return (tokenizer(), image_processor("CLIPImageProcessor", do_center_crop=False, crop_size=square))


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Pixels, captions and changed captions, which fit which picture, looks and outlines at each patch."""
    pictures = scenes(seed, split, start, count)
    right = [caption(scene) for scene in pictures]
    changed = [distractors(scene, CHANGED, edited=CHANGED) for scene in pictures]
    texts = [caption.text for caption in right] + [caption.text for several in changed for caption in several]
    looks, drawn = zip(*map(_patches, pictures), strict=True)
    return {
        "pixel_values": pixel_values(pictures),
        **encoded(tokenizer(), texts),
        "fitting": torch.tensor([[judge(caption, scene) is not False for caption in right] for scene in pictures]),
        "looks": torch.stack(looks),
        "outlines": torch.stack(drawn),
    }


def _patches(scene: Scene) -> tuple[Int64[Tensor, " patches"], Float[Tensor, "patches points"]]:
    """Number of the look of the object that covers most of each patch, a quarter at least, and its mask around there."""
    number, around = outlines(scene)
    looks = torch.tensor([LOOKS.index((item.colour, item.shape)) for item in scene.objects])
    return torch.where(number == NOTHING, NOTHING, looks[number]), around


def loss(model: CLIPModel, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    states = model.vision_model(batch["pixel_values"]).last_hidden_state
    seen = _seen(model, states[:, :1])[:, 0]
    told = _told(model, batch["input_ids"], batch["attention_mask"])
    scale = model.logit_scale.exp().clamp(max=100)
    whole = _matching(scale, seen, told, batch["fitting"])
    shown = batch["looks"] != NOTHING
    patches = states[:, 1:][shown]
    if model.guides["patches"]:
        similar = scale * _seen(model, patches) @ _told(model, **encoded(tokenizer(), PHRASES)).T
        whole = whole + model.guides["patches"] * cross_entropy(similar, batch["looks"][shown])
    if model.guides["outlines"]:
        drawn = model.outlines(model.vision_model.post_layernorm(patches))
        whole = whole + model.guides["outlines"] * binary_cross_entropy_with_logits(drawn, batch["outlines"][shown])
    return whole


def _matching(
    scale: Tensor, seen: Float[Tensor, "n d"], told: Float[Tensor, "texts d"], fitting: Bool[Tensor, "n n"]
) -> Tensor:
    """The mean of: which caption for a picture, its changed ones among them; and which picture for a caption."""
    count = len(seen)
    answers = torch.arange(count)
    others = fitting & ~torch.eye(count, dtype=torch.bool)
    among = (scale * seen @ told[:count].T).masked_fill(others, -torch.inf)
    edited = scale * torch.einsum("nd,ncd->nc", seen, told[count:].view(count, CHANGED, -1))
    return (cross_entropy(torch.cat([among, edited], 1), answers) + cross_entropy(among.T, answers)) / 2


def _seen(model: CLIPModel, states: Float[Tensor, "*places d"]) -> Float[Tensor, "*places p"]:
    """What CLIP makes of [CLS] of the vision tower, made of any of its tokens."""
    return normalize(model.visual_projection(model.vision_model.post_layernorm(states)), dim=-1)


def _told(model: CLIPModel, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "texts p"]:
    output = model.text_model(input_ids=input_ids, attention_mask=attention_mask)
    return normalize(model.text_projection(output.pooler_output), dim=-1)


def scores(model: CLIPModel, seed: int, split: str, count: int) -> dict[str, float]:
    """``retrieval``: share of pictures whose caption is the most similar of 32, the others clearly false of it.

    ``retrieval/hard``: the same, with eight of the others the picture's own captions with something changed.
    """
    ranked = [hits for start, length in chunks(count) for hits in _right(model, seed, split, start, length)]
    easy, hard = (sum(hits) / count for hits in zip(*ranked, strict=True))
    return {"retrieval": easy, "retrieval/hard": hard}


def _right(model: CLIPModel, seed: int, split: str, start: int, count: int) -> Iterator[tuple[bool, bool]]:
    """Of each picture, whether the right caption is the most similar: among those of others, and among the harder ones."""
    pictures = pixel_values(scenes(seed, split, start, count))
    seen = _seen(model, model.vision_model(pictures).last_hidden_state[:, 0])
    for index, own in enumerate(seen, start):
        likeness = _told(model, **encoded(tokenizer(), _choices(seed, split, index))) @ own
        easy, hard = likeness[:CHOICES], torch.cat([likeness[: CHOICES - HARD], likeness[CHOICES:]])
        yield int(easy.argmax()) == 0, int(hard.argmax()) == 0


@lru_cache(maxsize=1024)
def _choices(seed: int, split: str, index: int) -> tuple[str, ...]:
    """The right caption, those of other pictures, and changed ones; to make them takes longer than to read them."""
    (scene,) = scenes(seed, split, index, 1)
    wrong = distractors(scene, CHOICES - 1) + distractors(scene, HARD, edited=HARD)
    return (caption(scene).text, *(caption.text for caption in wrong))
