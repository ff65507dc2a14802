"""Models by name: hub ids, folders, GGUF files, and the models of other libraries."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from heedmap.errors import ModelLoadError
from heedmap.models.kinds import READ_AT, kind_of
from heedmap.models.model import Model
from heedmap.models.processors import load_processors
from heedmap.models.shipped import PREFIX, folder_of, shipped

if TYPE_CHECKING:
    import torch

EXPECTED = (
    "expected a folder with a config.json and weights, a hub id such as google/vit-base-patch16-224, folder/file.gguf, "
    "timm/NAME, open_clip/NAME or zoo/NAME"
)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    trust_remote_code: bool = False,
    tokenizer: Any = None,
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
        ModelLoadError: there is no such model, it is of no known kind, or it cannot be loaded.

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
    if name.startswith(PREFIX) and (name.removeprefix(PREFIX) in shipped() or not Path(name).exists()):
        return _load_zoo(name, device, number, tokenizer)
    if name.startswith(("timm/", "open_clip/")) and not Path(name).exists():
        from heedmap.models.libraries import load_open_clip, load_timm

        subject = (load_timm if name.startswith("timm/") else load_open_clip)(name, tokenizer)
        subject.model.to(device=device, dtype=number)
        return subject
    subject = _load_transformers(name, number, trust_remote_code, tokenizer)
    if device is not None:
        subject.model.to(device)
    return subject


def _load_zoo(name: str, device: Any, dtype: torch.dtype | None, tokenizer: Any) -> Model:
    subject = _load_transformers(str(folder_of(name)), dtype, False, tokenizer)
    subject.model.to(device)
    return replace(subject, name=name)


def _load_transformers(name: str, dtype: torch.dtype | None, trust: bool, tokenizer: Any) -> Model:
    source, options = _source(name)
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
    return Model(name, _readable(model), kind, processors, parameters)


def _source(name: str) -> tuple[str, dict[str, Any]]:
    """Folder or hub id, and the options by which it is read; folders never ask the hub."""
    if not name:
        raise ModelLoadError(f"there is no folder ''; {EXPECTED}")
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return _gguf(name, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            files = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
            raise ModelLoadError(f"{name} is no model folder: it has no config.json (it has: {files}); {EXPECTED}")
        return str(path), {"local_files_only": True}
    if path.exists():
        raise ModelLoadError(f"{name} is a file; {EXPECTED}: give the folder that holds it")
    if path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2:
        raise ModelLoadError(f"there is no folder {name!r}; {EXPECTED}")
    return name, {}


def _gguf(name: str, path: Path) -> tuple[str, dict[str, Any]]:
    if path.is_file():
        return str(path.parent), {"gguf_file": path.name, "local_files_only": True}
    if path.parent.is_dir() or path.is_absolute() or len(path.parts) != 3:
        raise ModelLoadError(
            f"there is no file {name}; expected a GGUF file as folder/file.gguf or user/model/file.gguf"
        )
    return str(path.parent), {"gguf_file": path.name}


def _loader(config: Any, gguf: bool, trust: bool) -> Any:
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
        extra = " (for GGUF files: pip install heedmap[gguf])" if name.endswith(".gguf") else ""
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


def _readable(model: nn.Module) -> nn.Module:
    name = READ_AT.get(type(model).__name__)
    if name is None:
        return model
    return OutputOf(model, name)


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    import torch

    resolved = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(resolved, torch.dtype) and resolved.is_floating_point):
        raise ModelLoadError(f"dtype is {dtype!r}; expected float32, float64, bfloat16 or float16, or None: as stored")
    return resolved


class OutputOf(nn.Module):
    """``model`` as it is, but its output is that of its submodule ``name``, the last time that it ran.

    Args:
        model: any model.
        name: dotted path of a submodule that runs in each forward pass.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.submodule = name
        self.config = model.config
        self.training = model.training

    def forward(self, **inputs: Any) -> Any:
        """Run the whole model; return the submodule's output."""
        outputs: list[Any] = []
        handle = self.model.get_submodule(self.submodule).register_forward_hook(lambda _m, _a, out: outputs.append(out))
        try:
            self.model(**inputs)
        finally:
            handle.remove()
        return outputs[-1]

    def generate(self, **settings: Any) -> Any:
        """The model's own ``generate``."""
        inner: Any = self.model
        return inner.generate(**settings)
