"""Task: the objects of a picture in words, from left to right, by Idefics 3, which reads merged patches among its words.

The tower begins as that of ``zoo/vit-shapes``, as the original's begins trained: it has the same layers, without [CLS]. Each
picture is patches of :data:`heedmap.zoo.tasks.PATCH` pixels, of which two by two are merged into one token of the
language model. Words alone teach the tower colours, shapes hardly: so the settings add the losses on each patch of
:mod:`heedmap.zoo.tasks.labels`, by heads that are not shipped. The last stage leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from heedmap.models.names import folder_of
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import (
    PAD,
    PATCH,
    SIDE,
    UNKNOWN,
    chunks,
    image_processor,
    pixel_values,
    scenes,
    word_level,
)
from heedmap.zoo.tasks.labels import GUIDES, guidance, guide
from heedmap.zoo.tasks.labels import batch as labelled
from heedmap.zoo.world import VOCABULARY, listing

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor
    from transformers import (
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        PreTrainedModel,
        PreTrainedTokenizerFast,
        ViTConfig,
        ViTForImageClassification,
    )
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionTransformer

ENDED, AROUND, PLACE, WHOLE = (
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
)
SIGNS = (PAD, UNKNOWN, ENDED, AROUND, PLACE, WHOLE)
"""Tokens that are no words, by the names that Idefics 3 has for them."""
WORDS = (*SIGNS, *VOCABULARY, ",", "?")
"""Every token; the position is its id."""
MERGED = 2
"""Patches, each way, that become one token of the language model."""
QUESTION = "what do you see?"
TEMPLATE = (
    "{% for message in messages %}"
    "{% set words = message['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') %}"
    "{% set pictures = message['content'] | selectattr('type', 'equalto', 'image') | list | length %}"
    "{% if '<image>' not in words %}{{ '<image>' * pictures }}{% endif %}{{ words }}"
    "{% endfor %}"
)
"""The chat template: pictures, then words; words with places for pictures stay as they are."""
LONGEST = 24
"""At least the tokens of the longest answer, with its end."""
PLACES = 128
"""Of the language model."""
TOWER = "vit-shapes"
"""Shipped model from which the tower is taken."""
LAYERS = {
    "layernorm_before": "layer_norm1",
    "layernorm_after": "layer_norm2",
    "attention": "self_attn",
    "mlp": "mlp",
}
"""What the parts of a ViT's layer are called in the tower."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token a word, comma or other sign."""
    from tokenizers import decoders, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = word_level(WORDS)
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.WordPiece(cleanup=True)
    words.add_special_tokens(list(SIGNS))
    names = {"pad_token": PAD, "unk_token": UNKNOWN, "eos_token": ENDED}
    return PreTrainedTokenizerFast(tokenizer_object=words, clean_up_tokenization_spaces=False, **names)


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (processor(),)


@cache
def processor() -> Idefics3Processor:
    """Of pictures and words: one square picture a place, not cut into tiles."""
    from transformers import Idefics3Processor

    square = {"longest_edge": SIDE}
    images = image_processor("Idefics3ImageProcessor", size=square, max_image_size=square, do_image_splitting=False)
    tokens = (SIDE // PATCH // MERGED) ** 2
    return Idefics3Processor(images, tokenizer(), image_seq_len=tokens, chat_template=TEMPLATE)


@cache
def prompt() -> tuple[int, ...]:
    """The ids of the question, with the places of a picture."""
    from PIL import Image

    return tuple(processor()(text=PLACE + QUESTION, images=Image.new("RGB", (SIDE, SIDE)))["input_ids"][0])


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`.

    Args:
        settings: of the language model; ``tower``: whether the tower learns; and the weights of the losses on patches.
        before: see there.
    """
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, ViTForImageClassification

    tower = ViTForImageClassification.from_pretrained(folder_of(TOWER), local_files_only=True)
    rest = {name: value for name, value in settings.items() if name not in ("tower", *GUIDES)}
    ids = {"pad_token_id": WORDS.index(PAD), "bos_token_id": None, "eos_token_id": WORDS.index(ENDED)}
    text = {"model_type": "llama", "vocab_size": len(WORDS), "max_position_embeddings": PLACES, **ids, **rest}
    config = Idefics3Config(
        vision_config=_seeing(tower.config),
        text_config=text,
        image_token_id=WORDS.index(PLACE),
        scale_factor=MERGED,
        **ids,
    )
    made = Idefics3ForConditionalGeneration(config)
    if settings["patches"]:
        made.patches = tower.classifier
    guide(made, settings, tower.config.hidden_size)
    if before is None:
        _take_tower(made.model.vision_model, tower)
    else:
        made.load_state_dict(before.state_dict(), strict=False)
    made.model.vision_model.requires_grad_(settings["tower"])
    return made


def _seeing(config: ViTConfig) -> dict[str, object]:
    """The same sizes for Idefics 3."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    sizes = {name: getattr(config, name) for name in (*names, "layer_norm_eps")}
    return {**sizes, "image_size": SIDE, "patch_size": PATCH}


def _take_tower(tower: Idefics3VisionTransformer, trained: ViTForImageClassification) -> None:
    """All weights of the ViT but those of [CLS]."""
    embeddings, given = tower.embeddings, trained.vit.embeddings
    embeddings.patch_embedding.load_state_dict(given.patch_embeddings.projection.state_dict())
    with torch.no_grad():
        embeddings.position_embedding.weight.copy_(given.position_embeddings[0, 1:])
    for layer, source in zip(tower.encoder.layers, trained.vit.layers, strict=True):
        for name, own in LAYERS.items():
            weights = getattr(source, name).state_dict()
            getattr(layer, own).load_state_dict({key.replace("o_proj", "out_proj"): w for key, w in weights.items()})
    tower.post_layernorm.load_state_dict(trained.vit.layernorm.state_dict())


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Pixels, the question, and the answers with their ends, padded on the right; what is told to patches."""
    pictures = scenes(seed, split, start, count)
    answers = [f"{listing(scene).text}{ENDED}" for scene in pictures]
    labels = tokenizer()(answers, padding=True, padding_side="right", return_tensors="pt")["input_ids"]
    shown = labelled(seed, split, start, count)
    told = {name: shown[name] for name in ("patches", "shown", "outlines")}
    return {"pixel_values": shown["pixel_values"][:, None], "input_ids": asked(count), "labels": labels, **told}


def asked(count: int) -> Int64[Tensor, "count tokens"]:
    """The ids of the question, for each of ``count`` pictures."""
    return torch.tensor(prompt()).expand(count, -1)


def loss(model: Idefics3ForConditionalGeneration, batch: Batch) -> Tensor:
    """Cross-entropy of the words of the answers and of their ends, and the losses on patches."""
    labels, question = batch["labels"], batch["input_ids"]
    ids = torch.cat([question, labels[:, :-1]], 1)
    seen = model.get_image_features(batch["pixel_values"])
    logits = model(input_ids=ids, mm_encoder_outputs={"image": seen}).logits[:, question.shape[1] - 1 :]
    said = cross_entropy(logits.transpose(1, 2), labels, ignore_index=WORDS.index(PAD))
    return said + guidance(model, seen.last_hidden_state, getattr(model, "patches", model.lm_head), batch)


def scores(model: Idefics3ForConditionalGeneration, seed: int, split: str, count: int) -> dict[str, float]:
    """Of answers that the model writes by greedy search.

    ``exact``: share that are right word by word; ``words``: mean share of the words that are right at their place, of the
    longer of both; ``objects``: share that name just the objects that there are, in any order.
    """
    pairs = [pair for start, length in chunks(count) for pair in _told(model, seed, split, start, length)]
    return {
        "exact": sum(said == right for said, right in pairs) / count,
        "words": sum(_same_words(said.split(), right.split()) for said, right in pairs) / count,
        "objects": sum(_objects(said) == _objects(right) for said, right in pairs) / count,
    }


def _told(
    model: Idefics3ForConditionalGeneration, seed: int, split: str, start: int, count: int
) -> list[tuple[str, str]]:
    """What the model says of some pictures, and what is right."""
    pictures = scenes(seed, split, start, count)
    inputs = {"input_ids": asked(count), "pixel_values": pixel_values(pictures)[:, None]}
    mask = torch.ones_like(inputs["input_ids"])
    ids = model.generate(**inputs, attention_mask=mask, do_sample=False, num_beams=1, max_new_tokens=LONGEST)
    said = tokenizer().batch_decode(ids[:, len(prompt()) :], skip_special_tokens=True)
    return [(text, listing(scene).text) for text, scene in zip(said, pictures, strict=True)]


def _same_words(said: Sequence[str], right: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(said, right, strict=False)) / max(len(said), len(right))


def _objects(text: str) -> list[str]:
    """The objects that a text names, sorted."""
    return sorted(part.strip() for part in text.replace(" and ", ", ").split(","))
