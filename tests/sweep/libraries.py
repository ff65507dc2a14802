"""The libraries that are swept: their subjects by family, and how a subject is built."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import build, others
from . import tables as T
from .build import Built, NotBuilt, enlivened
from .inputs import Inputs, plain, target
from .processes import Subject


@dataclass(frozen=True)
class Library:
    """Its subjects' names by family, and what makes one small."""

    families: Callable[[], Mapping[str, Sequence[str]]]
    built: Callable[[str, str], Built]


def subjects(libraries: Sequence[str], families: Sequence[str] | None = None) -> list[Subject]:
    """All of these libraries, or those of ``families``."""
    return [
        Subject(library, family, name)
        for library in libraries
        for family, names in LIBRARIES[library].families().items()
        if families is None or family in families
        for name in names
    ]


# -- timm ---------------------------------------------------------------------------------------------------------------


def timm_groups() -> dict[str, list[str]]:
    """Module → the first words of its models' names: an architecture each; without modules that are convolutions alone."""
    import timm

    modules = [m for m in timm.list_modules() if m not in others.CONVOLUTIONS]
    return {m: sorted({n.split("_")[0] for n in timm.list_models(module=m)}) for m in modules}


def timm_built(family: str, name: str, seconds: float = 20) -> Built:
    """The smallest variant of the group, smaller where its constructor takes that; the first whose forward pass runs."""
    import timm

    of_group = [n for n in timm.list_models(module=family) if n.split("_")[0] == name]
    reasons, end = [], time.process_time() + seconds
    for variant in sorted(of_group, key=size)[: others.VARIANTS]:
        for options in others.OPTIONS:
            try:
                model = fitting(lambda v=variant, o=options: timm.create_model(v, pretrained=False, **o))
                return running(model, squares(model, options))
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
            if time.process_time() > end:
                break
    raise NotBuilt(reasons[-1])


def size(variant: str) -> tuple[int, int, str]:
    """How large a variant is, by the words of its name."""
    words = re.split(r"[_.]", variant)
    ranks = [others.SMALLEST.index(w) for w in words if w in others.SMALLEST]
    numbers = [int(n) for n in re.findall(r"\d+", variant)]
    return min(ranks, default=len(others.SMALLEST)), max(numbers, default=0), variant


def fitting(make: Callable[[], nn.Module]) -> nn.Module:
    """What is made, where it is small enough; NotBuilt."""
    with torch.device("meta"):
        count = sum(p.numel() for p in make().parameters())
    if count > T.LARGEST:
        raise NotBuilt(f"too large: {count} parameters")
    torch.manual_seed(7)
    return enlivened(make())


def squares(model: nn.Module, options: Mapping[str, Any]) -> Iterator[Inputs]:
    """A batch of pictures: of the size that was asked for, else small, else of the model's own size."""
    torch.manual_seed(1)
    own = getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[1]
    for side in [options["img_size"]] if "img_size" in options else [64, own]:
        yield {"x": torch.randn(T.BATCH, 3, side, side)}


def running(model: nn.Module, inputs: Iterator[Inputs], wanted: Callable[[Any], Tensor] = target) -> Built:
    """The model with the first inputs that it runs on."""
    reason: Exception = NotBuilt("no inputs")
    for some in inputs:
        try:
            plain(model, some, wanted)
            return Built(model, some, wanted)
        except Exception as error:
            reason = error
    raise reason


# -- torchvision and open_clip ------------------------------------------------------------------------------------------


def by_constructor(table: Mapping[str, others.Made], wanted: Callable[[Any], Tensor]) -> Library:
    """The models of a table of constructors."""

    def built(family: str, name: str) -> Built:
        made = table[family]
        return running(fitting(lambda: constructed(made)), iter([inputs_of(made)]), wanted)

    return Library(lambda: {family: [made.name.split(":")[-1]] for family, made in table.items()}, built)


def constructed(made: others.Made) -> nn.Module:
    """The model; options that name a class by its module are that class."""
    options = {k: named(v) if isinstance(v, str) and ":" in v else v for k, v in made.options.items()}
    return named(made.name)(**options)


def named(path: str) -> Any:
    """``module:name``."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def inputs_of(made: others.Made) -> Inputs:
    """Random inputs of the shapes of the table: floats, or ids."""
    torch.manual_seed(1)
    return {
        name: torch.randint(T.FIRST_WORD, T.LAST_WORD, (T.BATCH, *shape[1:]))
        if shape[0] == "ids"
        else torch.randn(T.BATCH, *shape)
        for name, shape in made.inputs.items()
    }


def similarity(output: Any) -> Tensor:
    """Of a picture and its text: the product of their features, the first two tensors of the output."""
    values = list(output.values() if isinstance(output, dict) else output)
    picture, text = [v for v in values if isinstance(v, Tensor) and v.dim() == 2][:2]
    return (picture * text).sum(-1)


LIBRARIES = {
    "transformers": Library(build.families, build.built),
    "timm": Library(timm_groups, timm_built),
    "torchvision": by_constructor(others.TORCHVISION, target),
    "open_clip": by_constructor(others.OPEN_CLIP, similarity),
}
