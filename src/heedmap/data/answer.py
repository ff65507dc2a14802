"""What is known of each token of a text that a model said: the steps of an explanation of a whole answer, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

ENDED = "no token: the answer has ended"
"""What a step of a sample is called whose answer is shorter than another's."""
TENSORS = ("tokens", "rows", "probabilities", "top_probabilities", "others")

Labels = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Answer:
    """A text that a model said, token by token. Each token is a step.

    Attributes:
        text: for each sample, all of it.
        tokens: (batch, steps), int64: the ids; -1 after the end of an answer that is shorter than another.
        rows: (batch, steps), int64: the token of the answer's stream that says each of them, from 0; -1 after the end.
        targets: for each sample what is explained at each step, in words.
        probabilities: (batch, steps), float32: of each token at its place; 0 after the end.
        top_labels: for each sample and step the most probable tokens there, most probable first.
        top_probabilities: (batch, steps, tokens), float32: of these.
        others: (batch, steps), int64: the token that each one is set against, -1 where it is set against none; None: no
            contrast was asked for.
        source: ``"generated"`` by the model itself, or ``"given"``.

    Examples:
        >>> import heedmap
        >>> said = heedmap.load("zoo/bart-dates").explain_answer(text="the 3rd of may 1987").answer
        >>> said.text, said.tokens.shape, said.top_labels[0][0][0]
        (('1987-05-03',), torch.Size([1, 10]), '1')
    """

    text: tuple[str, ...]
    tokens: Int[Tensor, "batch steps"]
    rows: Int[Tensor, "batch steps"]
    targets: Labels
    probabilities: Float[Tensor, "batch steps"]
    top_labels: tuple[Labels, ...]
    top_probabilities: Float[Tensor, "batch steps tokens"]
    others: Int[Tensor, "batch steps"] | None = None
    source: str = "generated"

    def __len__(self) -> int:
        return int(self.tokens.shape[1])

    @property
    def real(self) -> Bool[Tensor, "batch steps"]:
        """Which steps are tokens of a sample's own answer: False after its end."""
        return self.tokens >= 0

    def sample(self, index: int) -> Self:
        """Sample ``index``, from 0, as the answer of a batch of one, as long as the longest of the batch."""
        one = slice(index, index + 1)
        cut: dict[str, Any] = {f.name: _cut(getattr(self, f.name), one) for f in fields(self)}
        return replace(self, **cut)

    def place(self, step: int) -> int:
        """``step`` counted from 0; negative from the end.

        Raises:
            InputError: there is no such step.
        """
        if not -len(self) <= step < len(self):
            raise InputError(f"there is no step {step}: the answer has {len(self)} tokens, 0 to {len(self) - 1}")
        return step % len(self)

    def pack(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors and plain data, for a file."""
        tensors = {f"answer/{name}": getattr(self, name) for name in TENSORS if getattr(self, name) is not None}
        return tensors, {f.name: getattr(self, f.name) for f in fields(self) if f.name not in TENSORS}

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, object]) -> Self:
        """The inverse of :meth:`pack`."""
        found = {name: tensors.get(f"answer/{name}") for name in TENSORS}
        given: dict[str, Any] = {**found, **{name: _tuples(value) for name, value in meta.items()}}
        return cls(**given)


def _cut(value: tuple[object, ...] | Tensor | str | None, one: slice) -> object:
    return value if value is None or isinstance(value, str) else value[one]


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
