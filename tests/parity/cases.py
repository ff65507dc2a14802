"""Golden cases: one folder each, read from their own files; nothing here knows a particular case."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from heedmap.targets import ClassLogit, DetectionQuery, Similarity, Target
from parity.families import FAMILIES, Family

NO_MAPS = ("logits", "meta")
"""Keys of the expected numbers that are not relevance."""


@dataclass(frozen=True)
class Key:
    """One expected tensor: ``ours_start2/text_full``, or DETR's ``q2/ours_full`` and ``q2/R_ii``.

    Attributes:
        name: in the file.
        query: DETR's target, ``"q2"``; None in other families.
        method: as the authors call it, with its start layers: ``"ours_start2"``.
        view: which map: ``"text"``, ``"text_full"``; DETR's are ``"row"``, ``"full"``, ``"R_qq"`` and ``"R_ii"``.
    """

    name: str
    query: str | None
    method: str
    view: str

    @classmethod
    def parse(cls, name: str, queries: Any) -> Key:
        """The parts of a key; ``queries`` are the case's targets by name, where it has several."""
        first, second = name.split("/")
        if first not in queries:
            return cls(name, None, first, second)
        if second.startswith("R_"):
            return cls(name, first, "ours", second)
        full = second.endswith("_full")
        return cls(name, first, second.removesuffix("_full"), "full" if full else "row")

    @property
    def group(self) -> str:
        """What one explanation gives: the method, and the query."""
        return self.method if self.query is None else f"{self.query}/{self.method}"

    @property
    def base(self) -> str:
        """The method without its target and start layers."""
        return self._parts[0].removesuffix("_argmax")

    @property
    def is_argmax(self) -> bool:
        """Whether the target is the model's own top class."""
        return self._parts[0].endswith("_argmax")

    @property
    def start_layers(self) -> tuple[int, ...]:
        """Numbers after ``_start``: none, one, or one for each stream."""
        return tuple(int(n) for n in self._parts[1].split("_") if n)

    @property
    def _parts(self) -> tuple[str, str]:
        found = re.fullmatch(r"(.*?)(?:_start(-?\d+(?:_-?\d+)*))?", self.method)
        assert found
        return found[1], found[2] or ""


@dataclass(frozen=True)
class Case:
    """One input of one golden case.

    Attributes:
        folder: where it is.
        variant: ``""``, or ``"_padded"``.
        about: its case.json.
    """

    folder: Path
    variant: str
    about: dict[str, Any]

    def __hash__(self) -> int:
        return hash((self.folder, self.variant))

    def __str__(self) -> str:
        return self.folder.name + self.variant

    @property
    def family(self) -> Family:
        """What is particular to the model's family."""
        return FAMILIES[self.about["family"]]

    @property
    def truth(self) -> dict[str, Tensor]:
        """The authors' numbers in float64."""
        return _tensors(self.folder / f"expected{self.variant}_float64.safetensors")

    @property
    def float32(self) -> dict[str, Tensor]:
        """What the authors' code gives in float32."""
        return _tensors(self.folder / f"expected{self.variant}.safetensors")

    def expected(self) -> list[Key]:
        """The expected maps."""
        queries = self.about["target"].get("targets", {})
        return [Key.parse(name, queries) for name in self.truth if name.split("/")[0] not in NO_MAPS]

    def inputs(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """What the model is called with; an image goes with each text of a dual encoder."""
        found = _tensors(self.folder / f"inputs{self.variant}.safetensors")
        batch = max(len(t) for t in found.values())
        repeated = {k: t.expand(batch, *t.shape[1:]) if len(t) == 1 else t for k, t in found.items()}
        return {k: t.to(dtype) if t.is_floating_point() else t for k, t in repeated.items()}

    def model(self, attention: str | None = None, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The model, loaded once; ``attention`` None is its own default."""
        return _model(self.folder, self.about["hf_class"], attention, dtype)

    def target(self, key: Key) -> Target:
        """What the authors explained."""
        wanted = self.about["target"]
        if key.query is not None:
            return DetectionQuery(wanted["targets"][key.query]["query"], wanted["targets"][key.query]["class_index"])
        if wanted["output"] == "logits_per_image":
            return Similarity()
        return ClassLogit(None if key.is_argmax else wanted["index"])

    def start_layer(self, key: Key) -> int | dict[str, int]:
        """The option start_layer: one number, or one for each stream as the case names them."""
        for start in self.about.get("start_layers", ()):
            if start["key"] == key.method:
                return {stream: layer for stream, layer in start.items() if stream != "key"}
        assert len(key.start_layers) == 1, f"{self}: which streams are the start layers of {key.name!r} for?"
        return key.start_layers[0]


@cache
def _tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


@cache
def _model(folder: Path, name: str, attention: str | None, dtype: torch.dtype) -> nn.Module:
    transformers.logging.disable_progress_bar()
    chosen = {} if attention is None else {"attn_implementation": attention}
    return getattr(transformers, name).from_pretrained(folder, dtype=dtype, **chosen).eval()


def load(folder: Path) -> list[Case]:
    """The cases in a folder of cases, each with its variants.

    Raises:
        ValueError: there are none, or one is of an unknown family.
    """
    found = sorted(folder.glob("*/case.json"))
    if not found:
        raise ValueError(f"no golden cases in {folder}: expected folders with a case.json")
    cases = []
    for path in found:
        about = json.loads(path.read_text())
        if about["family"] not in FAMILIES:
            raise ValueError(f"{path}: unknown family {about['family']!r}; known: {', '.join(FAMILIES)}")
        variants = sorted(p.stem.removeprefix("inputs") for p in path.parent.glob("inputs*.safetensors"))
        cases += [Case(path.parent, variant, about) for variant in variants]
    return cases
