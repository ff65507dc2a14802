"""Models by name: hub ids, folders, GGUF files, and the models of other libraries."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.common.extras import how_to_install
from heedmap.errors import ModelLoadError
from heedmap.models.kinds import kind_of
from heedmap.models.model import Model
from heedmap.models.names import EXPECTED, folder_of, is_of_library, is_zoo, source_of
from heedmap.models.processors import load_processors

if TYPE_CHECKING:
    import torch
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
        tokenizer: to use instead of the model's own; see :class:`heedmap.models.processors.Processors`.

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
        from heedmap.models.libraries import load_open_clip, load_timm

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
        known = ["cpu", *(kind for kind in ("cuda", "mps", "xpu") if _has(kind))]
        raise ModelLoadError(
            f"there is no device {str(device)!r} here ({_line(error).split('. ')[0]}); there is {', '.join(known)}"
        ) from error


def _has(kind: str) -> bool:
    import torch

    return bool(torch.backends.mps.is_available() if kind == "mps" else getattr(torch, kind).is_available())
