"""The parts of an explanation as plain data: the relevance of each token, the most probable answers, an answer token by token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from heedmap.errors import InputError, OptionError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


ROLES = {"person": "p", "system": "s", "model": "m", "template": "t", "place": "i", "padding": "_"}
"""Who brought a token into a text: the person, the system prompt, an earlier answer of the model, the template (marks and
special tokens); the place of a picture's or a sound's token; padding."""
ENDED = "no token: the answer has ended"
"""What a step of a sample is called whose answer is shorter than another's."""
TENSORS = ("tokens", "rows", "probabilities", "top_probabilities", "others")
Labels = tuple[tuple[str, ...], ...]
Whole = TypeVar("Whole", bound="DataclassInstance")
Item = TypeVar("Item")


def of_sample(whole: Whole, index: int, *names: str) -> Whole:
    """A copy whose fields ``names``, each with the batch first or None, hold sample ``index``, from 0, alone."""
    row = slice(index, index + 1)
    alone: dict[str, Any] = {name: None if (all_ := getattr(whole, name)) is None else all_[row] for name in names}
    return replace(whole, **alone)


def rows_of(rows: Iterable[Iterable[Item]]) -> tuple[tuple[Item, ...], ...]:
    """What JSON has as lists of lists; TypeError where it is anything else."""
    return tuple(tuple(row) for row in rows)


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of the input that a person recognises, with the relevance of each of its tokens.

    Attributes:
        name: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"``, ``"queries"``, ``"decoder"``, or the input's own name.
        kind: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"`` or ``"tokens"``: how to draw it.
        stream: the stream that holds it.
        relevance: (batch, tokens), float32 on the CPU; 0 for a token that the model did not take in. Of an explanation
            with an ``answer``: (batch, steps, tokens).
        positions: (batch, tokens), int64: each token's place in its stream; -1 for one that the model did not take in.
        grid: (rows, columns) of the patches of an image, row-major; None for other kinds.
        labels: for each sample the tokens' labels (words, box names); None where nobody gave any.
        boundaries: for each sample one letter a token: how it stands to the one before it in the text. ``w`` white space is
            between them, ``+`` none, ``c`` it continues a character, ``s`` it is a special token, no part of the text.
            None where nobody told.
        roles: for each sample one letter a token: who brought it in, see :data:`ROLES`. None where nobody told.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("lxmert-shapes")
        >>> explanation = heedmap.load("zoo/lxmert-shapes").explain(**sample.inputs)
        >>> for segment in explanation.segments.values():
        ...     print(segment.name, segment.relevance.shape, segment.labels[0][:3])
        text torch.Size([1, 9]) ('[CLS]', 'which', 'colour')
        boxes torch.Size([1, 10]) ('pink heart', 'pink star', 'pink ring')
    """

    name: str
    kind: str
    stream: str
    relevance: Float[Tensor, "batch *steps tokens"]
    positions: Int[Tensor, "batch tokens"]
    grid: tuple[int, int] | None = None
    labels: tuple[tuple[str, ...], ...] | None = None
    boundaries: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.relevance.shape[-1])

    def sample(self, index: int) -> Segment:
        """Sample ``index``, from 0, as a segment of a batch of one."""
        return of_sample(self, index, "relevance", "positions", "labels", "boundaries", "roles")

    def has_role(self, *names: str) -> Bool[Tensor, "batch tokens"]:
        """Which tokens were brought in by one of ``names``, keys of :data:`ROLES`; none where nobody told.

        Raises:
            OptionError: there is no such name.
        """
        import torch

        unknown = [name for name in names if name not in ROLES]
        if unknown:
            raise OptionError(f"no token has the role {unknown[0]!r}; known roles: {', '.join(ROLES)}")
        letters = {ROLES[name] for name in names}
        if self.roles is None:
            return torch.zeros_like(self.positions, dtype=torch.bool)
        return torch.tensor([[letter in letters for letter in row] for row in self.roles])


@dataclass(frozen=True, eq=False)
class Top:
    """The most probable answers of each sample.

    Attributes:
        labels: for each sample the names of its most probable answers, most probable first.
        probabilities: (batch, answers), float32: of these.
        target: (batch,), float32: of the answer that is explained.
        function: what made probabilities of the scores: ``"softmax"`` (one answer is right) or ``"sigmoid"`` (each by
            itself).
    """

    labels: tuple[tuple[str, ...], ...]
    probabilities: Float[Tensor, "batch answers"]
    target: Float[Tensor, " batch"]
    function: str

    def sample(self, index: int) -> Top:
        """Of one sample, as of a batch of one."""
        return of_sample(self, index, "labels", "probabilities", "target")

    @staticmethod
    def joined(parts: Sequence[Top]) -> Top:
        """Of several samples, of each its own."""
        from torch import cat

        return replace(
            parts[0],
            labels=tuple(labels for part in parts for labels in part.labels),
            probabilities=cat([part.probabilities for part in parts]),
            target=cat([part.target for part in parts]),
        )


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
        return of_sample(self, index, *(field.name for field in fields(self) if field.name != "source"))

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


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
