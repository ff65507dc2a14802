"""Models by name: hub ids, folders and GGUF files of transformers, and the models of timm and open_clip."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from heedmap.common.extras import how_to_install
from heedmap.errors import ModelLoadError
from heedmap.models.kinds import Processors, kind_of, load_processors
from heedmap.models.model import Model
from heedmap.models.names import EXPECTED, folder_of, is_of_library, is_zoo, source_of
from heedmap.models.words import APART, CLOSE, SPECIAL, token_boundaries, token_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    from heedmap.types import Tokenizer


def load(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Model:
    """A model with its processors, in eval mode.

    Args:
        name_or_path: a transformers model: folder, hub id, or a ``.gguf`` file in one of these; ``"timm/NAME"``;
            ``"open_clip/NAME"`` or ``"open_clip/NAME/WEIGHTS"``; ``"zoo/NAME"``, a model that ships with heedmap.
        device: where to put it; None: the CPU.
        dtype: such as ``"bfloat16"`` or ``torch.bfloat16``; None: as its configuration says.
        trust_remote_code: whether to run code that comes with the model.
        tokenizer: to use instead of the model's own; see :class:`heedmap.models.kinds.Processors`.

    Raises:
        ModelLoadError: there is no such model or device, it is of no known kind, or it cannot be loaded.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> subject.kind, heedmap.MODELS[subject.kind]
        ('causal', 'text → next token')
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ModelLoadError(f"the model's name is a {type(name_or_path).__name__}; {EXPECTED}")
    name = os.fspath(name_or_path)
    number = _dtype(dtype)
    _check_device(device)
    if is_of_library(name):
        subject = load_timm(name) if name.startswith("timm/") else load_open_clip(name, tokenizer)
        subject.model.to(device=device, dtype=number)
        return subject
    zoo = is_zoo(name)
    source = str(folder_of(name)) if zoo else name
    subject = _load_transformers(source, number, trust_remote_code and not zoo, tokenizer)
    if device is not None:
        subject.model.to(device)
    return replace(subject, name=name)


def _load_transformers(name: str, dtype: torch.dtype | None, trust: bool, tokenizer: Tokenizer | None) -> Model:
    source, options = source_of(name)
    options["trust_remote_code"] = trust
    with _told(name):
        import transformers

        config = transformers.AutoConfig.from_pretrained(source, **options)
        loader = _loader(config, "gguf_file" in options, trust)
        settings = options if dtype is None else {**options, "dtype": dtype}
        model, info = loader.from_pretrained(source, config=config, output_loading_info=True, **settings)
    _warn_of_random(name, info.get("missing_keys", ()))
    parameters = tuple(signature(model.forward).parameters)
    kind = kind_of(parameters, bool(getattr(model, "can_generate", bool)()))
    processors = load_processors(source, kind, config, tokenizer, options)
    return Model(name, model, kind, processors, parameters)


def _loader(config: object, gguf: bool, trust: bool) -> type[PreTrainedModel | _BaseAutoModelClass]:
    """The class that the configuration names; the code that comes with the model, where that is trusted."""
    import transformers

    names = getattr(config, "architectures", None) or []
    if gguf or not names:
        return transformers.AutoModelForCausalLM if gguf else transformers.AutoModel
    remote = getattr(config, "auto_map", None) or {}
    for auto, where in remote.items() if trust else ():
        if auto.startswith("AutoModel") and str(where).endswith(f".{names[0]}"):
            return getattr(transformers, auto)
    loader = getattr(transformers, names[0], None)
    if loader is None:
        raise ModelLoadError(
            f"its config.json names the architecture {names[0]!r}, which transformers {transformers.__version__} does "
            "not have; install a version that has it, or load(…, trust_remote_code=True) if its code comes with it and "
            "you trust that"
        )
    return loader


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a ModelLoadError that says so in one line."""
    try:
        yield
    except ModelLoadError as error:
        raise ModelLoadError(f"{name} cannot be loaded: {error}") from error
    except ImportError as error:
        extra = f" (for GGUF files, {how_to_install('gguf')})" if name.endswith(".gguf") else ""
        raise ModelLoadError(f"{name} cannot be loaded, a package is missing{extra}: {_line(error)}") from error
    except Exception as error:  # files of any kind of damage raise errors of any kind
        exists = Path(name).expanduser().exists()
        hub = "" if exists else ": there is no such folder, and the hub has no such model or cannot be reached"
        raise ModelLoadError(f"{name} cannot be loaded{hub} ({_line(error)}); {EXPECTED}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _warn_of_random(name: str, missing: Collection[str]) -> None:
    if missing:
        told = ", ".join(sorted(missing)[:5]) + (", …" if len(missing) > 5 else "")
        warnings.warn(
            f"{name} has no weights for {len(missing)} parameters, which are random now ({told}); "
            "an explanation of what depends on them means nothing",
            stacklevel=4,
        )


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    import torch

    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(resolved, torch.dtype) and resolved.is_floating_point):
        raise ModelLoadError(f"dtype is {dtype!r}; expected float32, float64, bfloat16 or float16, or None: as stored")
    return resolved


def _check_device(device: str | torch.device | None) -> None:
    """See that the device is there, before anything is loaded."""
    import torch

    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch raises a RuntimeError, an AssertionError or a NotImplementedError, by the device
        others = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
        known = ["cpu", *(kind for kind, backend in others.items() if backend.is_available())]
        raise ModelLoadError(
            f"there is no device {str(device)!r} here ({_line(error).split('. ')[0]}); there is {', '.join(known)}"
        ) from error


# -- timm and open_clip -----------------------------------------------------------------------------------------------

PADDING = "<pad>"


def load_timm(name: str) -> Model:
    """``"timm/NAME"`` with its trained weights.

    Raises:
        ModelLoadError: timm is missing, knows no such model, has no weights for it, or cannot fetch them.
    """
    timm = _imported("timm", "timm")
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
    return Model(
        name, model, kind, Processors(image=image), ("pixel_values",), {"pixel_values": "x"}, _imagenet_names(model)
    )


def load_open_clip(name: str, tokenizer: Tokenizer | None) -> Model:
    """``"open_clip/NAME"`` or ``"open_clip/NAME/WEIGHTS"``; the first weights that open_clip lists are the default.

    Raises:
        ModelLoadError: open_clip is missing, knows no such model or weights, or cannot fetch them.
    """
    open_clip = _imported("open_clip", "open_clip")
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
        inner = getattr(self.tokenizer, "tokenizer", None)  # of transformers, in some models
        if inner is not None:
            return token_labels(inner, ids)
        end = self._end(ids)
        words = tuple(self.tokenizer.decode([i]).strip() for i in ids[:end])
        return words + (PADDING,) * (len(ids) - end)

    def token_boundaries(self, ids: Sequence[int]) -> str:
        """How each token stands to the one before it, one letter a token; see ``Segment.boundaries``."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return token_boundaries(inner, ids, token_labels(inner, ids)) or ""
        ends, end = {self.tokenizer.sot_token_id, self.tokenizer.eot_token_id}, self._end(ids)
        spaced = [True, *(self.tokenizer.decode([i]).endswith(" ") for i in ids[:end])]
        letters = (SPECIAL if i in ends else APART if spaced[n] else CLOSE for n, i in enumerate(ids[:end]))
        return "".join(letters) + SPECIAL * (len(ids) - end)

    def _end(self, ids: Sequence[int]) -> int:
        """Where padding begins."""
        return ids.index(self.tokenizer.eot_token_id) + 1 if self.tokenizer.eot_token_id in ids else len(ids)


def _imported(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelLoadError(f"{name} is not installed; {how_to_install(extra)}") from error


def _check_known(name: str, short: str, known: Sequence[str]) -> None:
    if ":" not in short and short not in known:  # with a colon it is a place, such as hf-hub:user/model
        near = ", ".join(get_close_matches(short, known, 5)) or f"{', '.join(list(known)[:5])}, …"
        raise ModelLoadError(f"{name}: there is no model {short!r} among {len(known)} known ones; near it: {near}")


def _unreachable(name: str, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        f"{name} cannot be loaded: its weights are not here and cannot be fetched, or do not exist ({_line(error)}); "
        "go online once, or make the model yourself: heedmap.explain(model, tensors)"
    )


def _imagenet_names(model: nn.Module) -> Mapping[int, str] | None:
    """Class names of a model trained on ImageNet, in timm's words."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return {i: info.index_to_description(i) for i in range(info.num_classes())}
