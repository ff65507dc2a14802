"""What a run over a data set does: all that a worker has to know, which can be sent to it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.version import __version__

if TYPE_CHECKING:
    from heedmap.datasets.rows import RowSource
    from heedmap.models.model import Model
    from heedmap.targets import Target

PART = 256
"""Rows of a part."""
BATCH = 8
RowTarget: TypeAlias = "Target | int | str | None"
"""What a run explains: a target that can be told again, by its words or a digest."""
LEFT_OUT = ("full", "segments", "labels", "probe")
"""Options of :func:`heedmap.explain` that a run does not take."""


class Told(TypedDict):
    """What is explained and how, as plain data."""

    target: int | str | None
    method: str
    options: dict[str, object]
    answer: dict[str, dict[str, object]] | None


class JobConfig(TypedDict):
    """All on which the rows of a run depend."""

    heedmap: str
    model: dict[str, str]
    data: dict[str, object]
    rows: int
    part: int
    explained: Told


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is explained, and how.

    Attributes:
        target: as for :func:`heedmap.explain`; that of rows that have none of their own.
        method: name of the method.
        options: its own.
        answer: whether answers in words are explained, token by token.
        generate: for transformers' ``generate``.
    """

    target: RowTarget = None
    method: str = "generic"
    options: Mapping[str, object] = field(default_factory=dict)
    answer: bool = False
    generate: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """See that the options can be meant, before a model is loaded.

        Raises:
            OptionError: one is not for a run, or something is asked that answers do not have.
            UnknownNameError: no such method.
        """
        from heedmap.methods.cards import CARDS

        if self.method not in (*CARDS, "auto"):
            raise UnknownNameError(f"no method {self.method!r}; known methods: {', '.join(CARDS)}, auto")
        if wrong := [name for name in LEFT_OUT if name in self.options]:
            raise OptionError(f"{wrong[0]} is no option of a run over a data set; use heedmap.explain on single rows")
        if self.answer and self.target is not None:
            raise OptionError("an answer is explained token by token, so it has no target; leave target out")
        if type(self.target).__module__ == "heedmap.targets.several":
            raise OptionError(
                f"{type(self.target).__name__} stands for several targets, and a run explains one of each row"
            )
        known = self.target is None or type(self.target).__module__.startswith("heedmap.targets")
        if not known and (isinstance(self.target, bool) or not isinstance(self.target, int | str)):
            raise OptionError(
                f"target is a {type(self.target).__name__}, of which no run can be told again; expected a class, its label, or "
                "one of heedmap.targets"
            )
        try:
            json.dumps(self.told())
        except (TypeError, ValueError, AttributeError, pickle.PicklingError) as error:
            raise OptionError(f"options of a run are plain data, and these are not ({error})") from error
        if self.generate and not self.answer:
            raise OptionError("generate is for answers in words; give answer=True too")

    def told(self) -> Told:
        """As plain data."""
        answer = {"generate": dict(self.generate)} if self.answer else None
        return {"target": _told(self.target), "method": self.method, "options": dict(self.options), "answer": answer}


@dataclass(frozen=True, eq=False)
class Job:
    """A run.

    Attributes:
        model: its name, or the model itself.
        device, dtype: as for :func:`heedmap.load`.
        source: the rows.
        out: the folder.
        run: digest of the configuration; empty before it is known.
        wanted: what is explained.
        part: rows of a part.
        batch: rows of one size that are explained at once, at most.
        memory: bytes that a batch may take beside the model, or ``"free"``; None: as :func:`heedmap.explain`.
    """

    model: str | Model
    device: str | None
    dtype: str | None
    source: RowSource
    out: Path
    wanted: Wanted
    part: int = PART
    batch: int = BATCH
    memory: int | str | None = None
    run: str = ""

    @property
    def parts(self) -> int:
        """Their number."""
        return -(-len(self.source) // self.part)

    def rows(self, number: int) -> range:
        """The rows of a part."""
        return range(number * self.part, min(len(self.source), (number + 1) * self.part))

    def load(self) -> Model:
        """The model."""
        if not isinstance(self.model, str):
            return self.model
        from heedmap.models import load

        return load(self.model, device=self.device, dtype=self.dtype)

    def config(self, subject: Model) -> JobConfig:
        """All on which the rows that come out depend, as plain JSON data."""
        from heedmap.evaluate.evaluation import fingerprint

        dtypes = {str(p.dtype).removeprefix("torch.") for p in subject.model.parameters() if p.is_floating_point()}
        weights = {"dtype": " and ".join(sorted(dtypes)), "weights": fingerprint(subject.model)}
        return {
            "heedmap": __version__,
            "model": {"name": subject.name, **weights},
            "data": dict(self.source.description),
            "rows": len(self.source),
            "part": self.part,
            "explained": self.wanted.told(),
        }


def _told(target: RowTarget) -> int | str | None:
    """A target as plain data; one that holds more than a word or a number also by a digest of all of it."""
    if target is None or isinstance(target, int | str):
        return target
    return f"{type(target).__name__} {sha256(pickle.dumps(target)).hexdigest()[:16]}"


def check_roles(source: RowSource, subject: Model, answer: bool) -> None:
    """See that the data have what the model takes, as far as it is known.

    Raises:
        InputError: they have not, or the model says no answers.
    """
    kind = subject.kind_row
    if answer and not kind.speaks:
        raise InputError(f"{subject.name} answers in no words: it gives {kind.about}; leave answer out")
    roles = {"text" if role == "text_pair" else role for role in source.roles}
    missing = [role for role in kind.needs if roles and role not in roles]
    if missing:
        raise InputError(
            f"{subject.name} takes {' and '.join(kind.needs)}, and the data have no {' and no '.join(missing)} (columns: "
            f"{', '.join(source.columns)}); say which column it is: columns={{'{missing[0]}': 'NAME'}}, "
            f"on the command line --file columns.{missing[0]}=NAME"
        )
