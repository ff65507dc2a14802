"""What an explanation holds, and its file: plain data, read by the renderers; it knows nothing of models or pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, Self, TypedDict

from heedmap.common.files import write_atomically
from heedmap.data.answer import ENDED, Answer
from heedmap.data.flow import Flow
from heedmap.errors import FileFormatError, InputError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

FORMAT = "heedmap-explanation"
FORMAT_VERSION = 2
"""2: with an answer; without one a file is of version 1 as ever."""

TOOK = "method 'auto' took "
"""With this begins the note of a flow that says which method was chosen, and why."""

UNKNOWN_WORD = "the model does not know what is written there"
"""In the note of a flow that tells of words which a vocabulary lacks."""

ROLES = {"person": "p", "system": "s", "model": "m", "template": "t", "place": "i", "padding": "_"}
"""Who brought a token into a text: the person, the system prompt, an earlier answer of the model, the template (marks and
special tokens); the place of a picture's or a sound's token; padding."""


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
        row = slice(index, index + 1)
        return replace(
            self,
            relevance=self.relevance[row],
            positions=self.positions[row],
            labels=None if self.labels is None else self.labels[row],
            boundaries=None if self.boundaries is None else self.boundaries[row],
            roles=None if self.roles is None else self.roles[row],
        )

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
        one = slice(index, index + 1)
        return replace(self, labels=self.labels[one], probabilities=self.probabilities[one], target=self.target[one])

    @staticmethod
    def joined(parts: Sequence[Top]) -> Top:
        """Of several samples, of each its own."""
        from torch import cat

        labels = tuple(labels for part in parts for labels in part.labels)
        return replace(
            parts[0],
            labels=labels,
            probabilities=cat([part.probabilities for part in parts]),
            target=cat([part.target for part in parts]),
        )


class _SegmentHeader(TypedDict):
    name: str
    kind: str
    stream: str
    grid: Sequence[int] | None
    labels: Sequence[Sequence[str]] | None
    boundaries: NotRequired[Sequence[str] | None]
    roles: NotRequired[Sequence[str] | None]


class _TopHeader(TypedDict):
    labels: Sequence[Sequence[str]]
    function: str


class _Header(TypedDict):
    """What a file has beside tensors; those of before have less."""

    segments: Sequence[_SegmentHeader]
    maps: Sequence[Sequence[str]]
    target: Sequence[str]
    prediction_labels: Sequence[str] | None
    method: str
    options: Mapping[str, object]
    flow: Mapping[str, object]
    top: NotRequired[_TopHeader | None]
    origin: NotRequired[Mapping[str, str]]
    answer: NotRequired[Mapping[str, object]]


@dataclass(frozen=True, eq=False)
class ExplanationData:
    """Which parts of the input one prediction per sample rests on.

    ``explanation["text"]`` is the relevance of a segment, (batch, tokens), float32.

    What each field is, :class:`~heedmap.explanation.Explanation` tells.
    """

    segments: Mapping[str, Segment]
    target: tuple[str, ...]
    scores: Float[Tensor, "*batch steps"]
    prediction: Int[Tensor, " batch"] | None
    prediction_labels: tuple[str, ...] | None
    method: str
    options: Mapping[str, object]
    flow: Flow
    maps: Mapping[tuple[str, str], Float[Tensor, "batch rows columns"]] = field(default_factory=dict)
    top: Top | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    answer: Answer | None = None
    box: Float[Tensor, "batch 4"] | None = None

    def __getitem__(self, name: str) -> Float[Tensor, "batch *steps tokens"]:
        return self.segment(name).relevance

    def __contains__(self, name: object) -> bool:
        return name in self.segments

    @property
    def choice(self) -> str:
        """Why this method, where ``method="auto"`` chose it; else empty."""
        return next((note for note in self.flow.notes if note.startswith(TOOK)), "")

    def segment(self, name: str) -> Segment:
        """The segment called ``name``; UnknownNameError lists the known ones."""
        if name not in self.segments:
            raise UnknownNameError(f"no segment {name!r}; this explanation has {', '.join(self.segments)}")
        return self.segments[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExplanationData):
            return NotImplemented
        mine, theirs = replace(self, origin={})._pack(), replace(other, origin={})._pack()
        return (
            mine[1] == theirs[1]
            and mine[0].keys() == theirs[0].keys()
            and all(_same(value, theirs[0][key]) for key, value in mine[0].items())
        )

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{s.name} {'×'.join(map(str, s.grid)) if s.grid else s.tokens}" for s in self.segments.values()
        )
        notes = "".join(f"; note: {note}" for note in self.flow.notes)
        steps = "" if self.answer is None else f"{len(self.answer)} steps, "
        return f"Explanation({self.method}, batch {len(self.target)}, target {self.target[0]!r}, {steps}{parts}{notes})"

    def with_labels(
        self,
        labels: Mapping[str, tuple[tuple[str, ...], ...]],
        boundaries: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Self:
        """A copy whose segments carry ``labels``: for each segment name, for each sample, the tokens' labels.

        Args:
            labels: by the segment's name.
            boundaries: how the tokens stand to each other, see :class:`Segment`; of segments that have ``labels``.
        """
        segments = dict(self.segments)
        for name in labels.keys() & segments.keys():
            segments[name] = replace(segments[name], labels=labels[name], boundaries=(boundaries or {}).get(name))
        return replace(self, segments=segments)

    def sample(self, index: int) -> Self:
        """Sample ``index``, from 0, as an explanation of a batch of one."""
        row = slice(index, index + 1)
        labels = self.prediction_labels
        return replace(
            self,
            segments={name: segment.sample(index) for name, segment in self.segments.items()},
            target=self.target[row],
            scores=self.scores[row],
            prediction=None if self.prediction is None else self.prediction[row],
            prediction_labels=None if labels is None else labels[row],
            flow=_flow(self.flow, row),
            maps={pair: whole[row] for pair, whole in self.maps.items()},
            top=None if self.top is None else self.top.sample(index),
            answer=None if self.answer is None else self.answer.sample(index),
            box=None if self.box is None else self.box[row],
        )

    # -- answers ----------------------------------------------------------------------------------------------------

    def step(self, number: int) -> Self:
        """What one token of the answer rests on, as an explanation without steps: (batch, tokens) of each segment.

        Args:
            number: of the token, from 0; negative from the end. A sample whose answer ended before has zeros.

        Raises:
            InputError: there is no such token, or the explanation is of no answer.
        """
        answer = self._answer()
        n = answer.place(number)
        return replace(
            self._shown(lambda steps: steps[:, n]),
            target=tuple(row[n] for row in answer.targets),
            scores=self.scores[:, n],
            flow=_reading(self.flow, self.segments["answer"].stream, answer.rows[:, n : n + 1]),
            top=Top(
                tuple(row[n] for row in answer.top_labels),
                answer.top_probabilities[:, n].contiguous(),
                answer.probabilities[:, n].contiguous(),
                "softmax",
            ),
        )

    def span(self, start: int = 0, end: int | None = None, how: str = "mean") -> Self:
        """What some tokens of the answer in a row rest on, as an explanation without steps.

        Each token's map is of its own score, and they are taken together as they are, by their mean or their sum; so a span
        is of what its tokens rest on one by one. Tokens after the end of a sample's answer do not count. What tokens of the
        span drew from each other stays in the segment ``answer``.

        Args:
            start: the first token, from 0; negative from the end.
            end: the one after the last; None: up to the end of the answer.
            how: ``"mean"`` or ``"sum"``, of relevance and scores.

        Raises:
            InputError: there are no such tokens, or the explanation is of no answer.
            OptionError: ``how`` is neither.
        """
        answer = self._answer()
        if how not in ("mean", "sum"):
            raise OptionError(f"how={how!r}; expected 'mean' or 'sum' of the tokens' maps")
        first, last = answer.place(start), answer.place(len(answer) - 1 if end is None else end - 1)
        if first > last:
            raise InputError(
                f"there are no tokens from {start} to {end}; the answer has {len(answer)}: give start < end"
            )
        real = answer.real[:, first : last + 1]
        count = real.sum(1).clamp(min=1) if how == "mean" else real.sum(1).clamp(max=1)

        def together(steps: Tensor) -> Tensor:
            return steps[:, first : last + 1].sum(1) / count.to(steps)[:, None]

        said = self.segments["answer"].labels
        words = tuple(
            _passage(row, None if said is None else said[i], first, last) for i, row in enumerate(answer.targets)
        )
        return replace(
            self._shown(together),
            target=words,
            scores=together(self.scores[..., None])[:, 0],
            flow=_reading(self.flow, self.segments["answer"].stream, answer.rows[:, first : last + 1]),
        )

    def with_roles(self, roles: Mapping[str, tuple[str, ...]]) -> Self:
        """A copy whose segments say who brought their tokens in: by the segment's name, see :class:`Segment`."""
        segments = {name: replace(s, roles=roles.get(name, s.roles)) for name, s in self.segments.items()}
        return replace(self, segments=segments)

    def without(self, *roles: str) -> Self:
        """A copy in which tokens that were brought in by ``roles`` have no relevance, so that no scale is set by them.

        Args:
            roles: keys of :data:`ROLES`, such as ``"system"`` and ``"template"``.

        Raises:
            OptionError: there is no such role.
        """
        segments = {}
        for name, segment in self.segments.items():
            hidden = segment.has_role(*roles)
            hidden = hidden if segment.relevance.dim() == 2 else hidden[:, None]
            segments[name] = replace(segment, relevance=segment.relevance.masked_fill(hidden, 0.0))
        return replace(self, segments=segments)

    def _answer(self) -> Answer:
        if self.answer is None:
            raise InputError("this explanation is of no answer, so it has no steps; heedmap.explain_answer makes one")
        return self.answer

    def _shown(self, take: Callable[[Tensor], Tensor]) -> Self:
        """A copy without steps: of each segment what ``take`` makes of (batch, steps, tokens)."""
        segments = {n: replace(s, relevance=take(s.relevance).contiguous()) for n, s in self.segments.items()}
        return replace(self, segments=segments, answer=None)

    def block(self, rows: str, columns: str, index: int = 0) -> Float[Tensor, "rows columns"] | None:
        """R^{sx} of sample ``index``: how much each token of one segment counts in each token of another.

        ``maps`` are keyed by streams, and where a stream has several segments by these; here both are segments.

        Args:
            rows: name of the segment whose tokens draw.
            columns: name of the segment that they draw from.
            index: the sample.

        Returns:
            float32; 0 for a token that the model did not take in; None where the map is not kept (``full=True`` keeps it).
        """
        a, b = self.segment(rows), self.segment(columns)
        whole = self.maps.get((rows, columns))
        if whole is None:
            return None
        block = whole[index].float()
        if (rows, columns) != (a.stream, b.stream):
            return block
        down, across = a.positions[index], b.positions[index]
        kept = block[down.clamp(min=0)][:, across.clamp(min=0)]
        return kept.masked_fill(~((down >= 0)[:, None] & (across >= 0)), 0.0)

    def from_tokens(self, segment: str, tokens: Sequence[int], words: str) -> Self:
        """What some tokens drew from the others: the sum of their rows of the whole maps R^{sx}, of a batch of one.

        A token's share of itself is left out, as in the whole map.

        Args:
            segment: name of theirs.
            tokens: their indices in it, from 0.
            words: what they are called.

        Raises:
            UnknownNameError: no such segment.
            InputError: no such token, or no map is kept of what they draw.
        """
        count = self.segment(segment).tokens
        if max(tokens) >= count:
            raise InputError(f"{segment} has {count} tokens, and no token {max(tokens)}")
        segments = {}
        for name, other in self.segments.items():
            whole = self.block(segment, name)
            if whole is not None:
                rows = whole[list(tokens)].clone()
                if name == segment:
                    rows[range(len(rows)), list(tokens)] = 0.0
                segments[name] = replace(other, relevance=rows.sum(0)[None])
        if not segments:
            raise InputError(f"nothing is known of what {segment} draws; click a token of another part")
        return replace(self, segments=segments, target=(f"{self.target[0]}, by way of {words}",), maps={})

    # -- file -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file with the rest as JSON in its header, atomically: a whole file or none."""
        from safetensors.torch import save

        tensors, meta = self._pack()
        version = str(1 if self.answer is None else FORMAT_VERSION)
        data = save(tensors, metadata={"format": FORMAT, "version": version, "json": json.dumps(meta)})
        write_atomically(Path(path), data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FileFormatError: truncated, damaged, written by a newer heedmap, or not a heedmap file.
        """
        tensors, meta = _read(Path(path))
        try:
            return cls._unpack(tensors, meta)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise FileFormatError(
                f"{path} is a heedmap file but its content is damaged ({error!r}); save it again"
            ) from error

    def _pack(self) -> tuple[dict[str, Tensor], _Header]:
        tensors: dict[str, Tensor] = {"scores": self.scores}
        if self.prediction is not None:
            tensors["prediction"] = self.prediction
        for name, s in self.segments.items():
            tensors[f"relevance/{name}"], tensors[f"positions/{name}"] = s.relevance, s.positions
        if self.top is not None:
            tensors |= {"top/probabilities": self.top.probabilities, "top/target": self.top.target}
        pairs = list(self.maps)
        for number, pair in enumerate(pairs):
            tensors[f"map/{number}"] = self.maps[pair]
        meta = {
            "segments": [
                {f: getattr(s, f) for f in ("name", "kind", "stream", "grid", "labels", "boundaries", "roles")}
                for s in self.segments.values()
            ],
            "maps": pairs,
            "target": self.target,
            "prediction_labels": self.prediction_labels,
            "method": self.method,
            "options": dict(self.options),
            "flow": self.flow.to_dict(),
            "top": None if self.top is None else {"labels": self.top.labels, "function": self.top.function},
            "origin": dict(self.origin),
        }
        if self.box is not None:
            tensors["box"] = self.box
        if self.answer is not None:
            more, meta["answer"] = self.answer.pack()
            tensors |= more
        return {k: t.contiguous() for k, t in tensors.items()}, json.loads(json.dumps(meta))

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], meta: _Header) -> Self:
        segments = {}
        for s in meta["segments"]:
            name = s["name"]
            segments[name] = Segment(
                name=name,
                kind=s["kind"],
                stream=s["stream"],
                relevance=tensors[f"relevance/{name}"],
                positions=tensors[f"positions/{name}"],
                grid=None if s["grid"] is None else (s["grid"][0], s["grid"][1]),
                labels=None if s["labels"] is None else tuple(tuple(row) for row in s["labels"]),
                boundaries=None if (marks := s.get("boundaries")) is None else tuple(marks),
                roles=None if (roles := s.get("roles")) is None else tuple(roles),
            )
        labels = meta["prediction_labels"]
        return cls(
            segments=segments,
            target=tuple(meta["target"]),
            scores=tensors["scores"],
            prediction=tensors.get("prediction"),
            prediction_labels=None if labels is None else tuple(labels),
            method=meta["method"],
            options=meta["options"],
            flow=Flow.from_dict(meta["flow"]),
            maps={(pair[0], pair[1]): tensors[f"map/{n}"] for n, pair in enumerate(meta["maps"])},
            top=_top(tensors, meta.get("top")),
            origin=meta.get("origin") or {},
            answer=Answer.unpack(tensors, meta["answer"]) if "answer" in meta else None,
            box=tensors.get("box"),
        )


def _top(tensors: dict[str, Tensor], meta: _TopHeader | None) -> Top | None:
    """Files of before there was any have none."""
    if meta is None:
        return None
    labels = tuple(tuple(row) for row in meta["labels"])
    return Top(labels, tensors["top/probabilities"], tensors["top/target"], meta["function"])


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def _read(path: Path) -> tuple[dict[str, Tensor], _Header]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileFormatError(f"there is no file {path}; give the path of a file that Explanation.save wrote")
    try:
        with safe_open(str(path), framework="pt") as handle:
            meta = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path} is truncated, damaged or no safetensors file ({error}); expected a file that Explanation.save wrote"
        ) from error
    if meta.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} is a safetensors file but not heedmap's; expected one that Explanation.save wrote"
        )
    version = meta.get("version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has format version {version!r}; this heedmap reads up to {FORMAT_VERSION}: upgrade heedmap"
        )
    try:
        return tensors, json.loads(meta["json"])
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"{path} is a heedmap file but its header is damaged; save it again") from error


def _flow(flow: Flow, row: slice) -> Flow:
    streams = tuple(replace(s, rows=None if s.rows is None else s.rows[row]) for s in flow.streams)
    return replace(flow, streams=streams)


def _reading(flow: Flow, stream: str, rows: Tensor) -> Flow:
    """The flow with these rows of a stream as those that are read; -1: none."""
    read = tuple(tuple(row for row in sample if row >= 0) for sample in rows.tolist())
    return replace(flow, streams=tuple(replace(s, rows=read) if s.name == stream else s for s in flow.streams))


def _passage(targets: tuple[str, ...], labels: tuple[str, ...] | None, first: int, last: int) -> str:
    """What tokens of one sample's answer are called."""
    real = [n for n in range(first, last + 1) if targets[n] != ENDED]
    if len(real) < 2:
        return targets[real[0]] if real else ENDED
    told = "" if labels is None else f": {' '.join(labels[n] for n in real)!r}"
    return f"tokens {real[0]} to {real[-1]} of the answer{told}"
