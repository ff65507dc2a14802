"""Models of timm and open_clip, in the form of a Model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from heedmap.common.extras import how_to_install
from heedmap.errors import ModelLoadError
from heedmap.models.kinds import kind_of
from heedmap.models.model import Model
from heedmap.models.processors import Processors

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from PIL.Image import Image
    from torch import Tensor, nn

    from heedmap.types import Tokenizer

PADDING = "<pad>"


def load_timm(name: str) -> Model:
    """``"timm/NAME"`` with its trained weights.

    Raises:
        ModelLoadError: timm is missing, knows no such model, has no weights for it, or cannot fetch them.
    """
    timm = _library("timm", "timm")
    short = name.removeprefix("timm/")
    _check_known(name, short.split(".")[0], timm.list_models())
    try:
        model = timm.create_model(short, pretrained=True)
    except Exception as error:  # the hub's errors are of many kinds
        raise _unreachable(name, error) from error
    return timm_subject(name, model.eval())


def timm_subject(name: str, model: nn.Module) -> Model:
    """A timm model that is there already, with the transform of its configuration."""
    import timm

    settings = timm.data.resolve_model_data_config(model)
    own_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if own_size is not None:  # a model made for another size than its weights were trained at
        settings["input_size"] = (3, *own_size)
    image = Transform(timm.data.create_transform(**settings, is_training=False), settings["mean"], settings["std"])
    kind = kind_of(("pixel_values",), False)
    return Model(name, model, kind, Processors(image=image), ("pixel_values",), {"pixel_values": "x"}, _labels(model))


def load_open_clip(name: str, tokenizer: Tokenizer | None) -> Model:
    """``"open_clip/NAME"`` or ``"open_clip/NAME/WEIGHTS"``; the first weights that open_clip lists are the default.

    Raises:
        ModelLoadError: open_clip is missing, knows no such model or weights, or cannot fetch them.
    """
    open_clip = _library("open_clip", "open_clip")
    short, _, tag = name.removeprefix("open_clip/").partition("/")
    _check_known(name, short, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(short)
    if not tags or (tag and tag not in tags):
        raise ModelLoadError(
            f"{name}: open_clip has no weights {tag!r} for {short}; it has {', '.join(tags) or 'none'}"
        )
    try:
        model, transform = open_clip.create_model_from_pretrained(short, pretrained=tag or tags[0])
        words = tokenizer or open_clip.get_tokenizer(short)
    except Exception as error:  # the hub's errors are of many kinds
        raise _unreachable(name, error) from error
    return open_clip_subject(name, model.eval(), transform, words)


def open_clip_subject(
    name: str, model: nn.Module, transform: Callable[[Image], Tensor], tokenizer: HFTokenizer | SimpleTokenizer
) -> Model:
    """An open_clip model that is there already, with its transform and tokenizer."""
    from heedmap.targets import Similarity

    mean, std = getattr(model.visual, "image_mean", None), getattr(model.visual, "image_std", None)
    processors = Processors(tokenizer=ClipWords(tokenizer), image=Transform(transform, mean, std))
    parameters = ("input_ids", "pixel_values")
    renamed = {"input_ids": "text", "pixel_values": "image"}
    return Model(name, model, kind_of(parameters, False), processors, parameters, renamed, None, Similarity())


@dataclass(frozen=True)
class Transform:
    """A torchvision transform with the interface of transformers' image processors."""

    transform: Callable[[Image], Tensor]
    image_mean: Sequence[float] | None
    image_std: Sequence[float] | None

    def __call__(self, images: Sequence[Image], return_tensors: str = "pt") -> dict[str, Tensor]:
        """``pixel_values``, (batch, channels, rows, columns)."""
        import torch

        return {"pixel_values": torch.stack([self.transform(image) for image in images])}


@dataclass(frozen=True)
class ClipWords:
    """An open_clip tokenizer with the interface of transformers' tokenizers."""

    tokenizer: HFTokenizer | SimpleTokenizer

    def __call__(
        self, texts: Sequence[str], padding: bool | str = True, return_tensors: str = "pt"
    ) -> dict[str, Tensor]:
        """``input_ids``, (batch, context length): always padded, as these models were trained."""
        return {"input_ids": self.tokenizer(list(texts))}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """As :meth:`token_labels`: these vocabularies are shown in no other spelling."""
        return list(self.token_labels(ids))

    def token_labels(self, ids: Sequence[int]) -> tuple[str, ...]:
        """One label a token; padding, which open_clip writes as token 0 behind the end, is ``<pad>``."""
        from heedmap.models.labels import token_labels

        inner = getattr(self.tokenizer, "tokenizer", None)  # of transformers, in some models
        if inner is not None:
            return token_labels(inner, ids)
        end = ids.index(self.tokenizer.eot_token_id) + 1 if self.tokenizer.eot_token_id in ids else len(ids)
        words = tuple(self.tokenizer.decode([i]).strip() for i in ids[:end])
        return words + (PADDING,) * (len(ids) - end)

    def token_boundaries(self, ids: Sequence[int]) -> str:
        """How each token stands to the one before it, one letter a token; see ``Segment.boundaries``."""
        from heedmap.models.labels import APART, CLOSE, SPECIAL, token_boundaries, token_labels

        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return token_boundaries(inner, ids, token_labels(inner, ids)) or ""
        ends = {self.tokenizer.sot_token_id, self.tokenizer.eot_token_id}
        end = ids.index(self.tokenizer.eot_token_id) + 1 if self.tokenizer.eot_token_id in ids else len(ids)
        spaced = [True, *(self.tokenizer.decode([i]).endswith(" ") for i in ids[:end])]
        letters = (SPECIAL if i in ends else APART if spaced[n] else CLOSE for n, i in enumerate(ids[:end]))
        return "".join(letters) + SPECIAL * (len(ids) - end)


def _library(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelLoadError(f"{name} is not installed; {how_to_install(extra)}") from error


def _check_known(name: str, short: str, known: Sequence[str]) -> None:
    if ":" not in short and short not in known:  # with a colon it is a place, such as hf-hub:user/model
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(short, known, 5)) or f"{', '.join(list(known)[:5])}, …"
        raise ModelLoadError(f"{name}: there is no model {short!r} among {len(known)} known ones; near it: {near}")


def _unreachable(name: str, error: Exception) -> ModelLoadError:
    told = " ".join(str(error).split())
    return ModelLoadError(
        f"{name} cannot be loaded: its weights are not here and cannot be fetched, or do not exist ({told}); "
        "go online once, or make the model yourself: heedmap.explain(model, tensors)"
    )


def _labels(model: nn.Module) -> Mapping[int, str] | None:
    """Class names of a model trained on ImageNet, in timm's words."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return {i: info.index_to_description(i) for i in range(info.num_classes())}
