"""Texts and pairs of texts, as a model is called with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.models.audio import clip
from heedmap.models.image import rgb
from heedmap.models.kinds import LONGEST_PADDING

if TYPE_CHECKING:
    from torch import Tensor

    from heedmap.models.processors import Processors
    from heedmap.types import JointProcessor, Tokenizer


IMAGE_PLACES = ("image_token_id", "image_token_index")
FAR = 1_000_000
"""From here on a tokenizer's greatest length means that it has none."""


def text_inputs(tokenizer: Tokenizer, texts: Sequence[object], config: object) -> dict[str, Tensor]:
    """``input_ids`` and what else the tokenizer gives for texts, or for (first, second) pairs of texts.

    Raises:
        InputError: no text, pairs among single texts, an empty text, or more tokens than the model has positions for.
    """
    import torch

    columns = _columns(texts)
    padding = "max_length" if getattr(config, "model_type", "") in LONGEST_PADDING else len(texts) > 1
    made = tokenizer(*columns, padding=padding, return_tensors="pt")
    inputs = {name: torch.as_tensor(value) for name, value in made.items()}
    tokens, limit = inputs["input_ids"].shape[1], token_limit(tokenizer, config)
    if not tokens:
        raise InputError("the text is empty: it has no tokens; give at least one word")
    if limit is not None and tokens > limit:
        raise InputError(
            f"the text has {tokens} tokens and the model takes up to {limit}; shorten it, or explain parts"
        )
    return inputs


def joint_inputs(
    processors: Processors, name: str, given: Mapping[str, Sequence[object]], config: object
) -> dict[str, Tensor]:
    """What a model is called with that wants image or audio tokens among the words, placed by its own processor.

    Args:
        processors: of the model.
        name: of the model, for messages.
        given: ``"text"`` with ``"image"``, ``"audio"`` or both; for each one entry a sample.
        config: of the model.

    Raises:
        InputError: a text is none, or has no place for the image, or the processor cannot take the inputs.
    """
    joint = processors.need(processors.joint, "joint", name)
    texts = list(given["text"])
    for text in texts:
        _parts(text)
    settings: dict[str, object] = {"text": texts, "padding": len(texts) > 1, "return_tensors": "pt"}
    if "image" in given:
        settings["images"] = [
            [rgb(picture) for picture in image] if isinstance(image, tuple) else rgb(image) for image in given["image"]
        ]
    if "audio" in given:
        rate = processors.need(processors.audio, "audio", name).sampling_rate
        settings |= {"audio": [clip(sound, rate).numpy() for sound in given["audio"]], "sampling_rate": rate}
    try:
        inputs = dict(joint(**settings))
    except (ValueError, TypeError, RuntimeError, IndexError, KeyError, AttributeError) as error:
        raise InputError(f"the processor cannot take these inputs ({error}); {_place_hint(joint)}") from error
    place = next((getattr(config, name) for name in IMAGE_PLACES if hasattr(config, name)), None)
    if "image" in given and place is not None and not bool((inputs["input_ids"] == place).any()):
        raise InputError(f"the text has no place for the image; {_place_hint(joint)}")
    return inputs


def _place_hint(processor: JointProcessor) -> str:
    token = getattr(processor, "image_token", None)
    if token is None:
        return "write the text as the model's own documentation shows it"
    return f"write {token} in the text where the image stands, such as {f'{token} What is this?'!r}"


def _columns(texts: Sequence[object]) -> tuple[list[str], ...]:
    parts = [_parts(text) for text in texts]
    if len({len(of_text) for of_text in parts}) > 1:
        raise InputError("some texts are pairs and some are not; give all in one form")
    return tuple([list(column) for column in zip(*parts, strict=True)])


def _parts(text: object) -> list[str]:
    """A text, or both of a pair.

    Raises:
        InputError: it is neither, or has half a character, as of bytes on a command line that are no UTF-8.
    """
    pair = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    parts = [part for part in pair if isinstance(part, str)]
    if len(parts) < len(pair):
        raise InputError(f"the text is {text!r}; expected a str, a (first, second) pair of str, or a list of these")
    for part in parts:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text has half a character ({part[error.start]!r}, character {error.start + 1}); write it in UTF-8"
            ) from error
    return parts


def token_limit(tokenizer: Tokenizer, config: object) -> int | None:
    """The most tokens of a text: the model's positions, or the tokenizer's own limit where that is less (RoBERTa keeps two
    back); None: neither says."""
    positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    longest = getattr(tokenizer, "model_max_length", None)
    return min(positions, longest) if isinstance(longest, int) and 0 < longest < FAR else positions
