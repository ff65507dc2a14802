"""What an explanation holds, its file, and the difference of two: plain data that knows nothing of models or pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict, TypeVar

from heedmap.common.files import write_atomically
from heedmap.data.flow import Flow
from heedmap.data.segments import ENDED, Answer, Segment, Top, of_sample, rows_of
from heedmap.errors import FileFormatError, InputError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


FORMAT = "heedmap-explanation"
FORMAT_VERSION = 2
"""2: with an answer; without one a file is of version 1 as ever."""
SEGMENT_FIELDS = ("name", "kind", "stream", "grid", "labels", "boundaries", "roles")
"""What a file's header has of a segment; files of before have not all of them."""
TOOK = "method 'auto' took "
"""With this begins the note of a flow that says which method was chosen, and why."""
UNKNOWN_WORD = "the model does not know what is written there"
"""In the note of a flow that tells of words which a vocabulary lacks."""
CHANGE = "change of "
"""Before a target, where what is shown is the difference of two maps of it."""
MOST_NAMED = 5
Shown = TypeVar("Shown", bound="ExplanationData")


class _Header(TypedDict):
    """What a file has beside tensors; those of before have less."""

    segments: Sequence[Mapping[str, Any]]
    maps: Sequence[tuple[str, str]]
    target: Sequence[str]
    prediction_labels: Sequence[str] | None
    method: str
    options: Mapping[str, object]
    flow: Mapping[str, object]
    top: NotRequired[Mapping[str, Any] | None]
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
        return replace(
            of_sample(self, index, "target", "scores", "prediction", "prediction_labels", "box"),
            segments={name: segment.sample(index) for name, segment in self.segments.items()},
            flow=replace(self.flow, streams=tuple(of_sample(stream, index, "rows") for stream in self.flow.streams)),
            maps={pair: whole[index : index + 1] for pair, whole in self.maps.items()},
            top=None if self.top is None else self.top.sample(index),
            answer=None if self.answer is None else self.answer.sample(index),
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
            roles: keys of :data:`~heedmap.data.segments.ROLES`, such as ``"system"`` and ``"template"``.

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
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
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
        tensors |= {f"map/{number}": whole for number, whole in enumerate(self.maps.values())}
        meta = {
            "segments": [{name: getattr(s, name) for name in SEGMENT_FIELDS} for s in self.segments.values()],
            "maps": list(self.maps),
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
        for header in meta["segments"]:
            name, grid, labels = header["name"], header["grid"], header["labels"]
            segments[name] = Segment(
                name=name,
                kind=header["kind"],
                stream=header["stream"],
                relevance=tensors[f"relevance/{name}"],
                positions=tensors[f"positions/{name}"],
                grid=None if grid is None else (grid[0], grid[1]),
                labels=None if labels is None else rows_of(labels),
                boundaries=None if (marks := header.get("boundaries")) is None else tuple(marks),
                roles=None if (roles := header.get("roles")) is None else tuple(roles),
            )
        labels, top = meta["prediction_labels"], None
        if (odds := meta.get("top")) is not None:  # files of before there was any have none
            shares, target = tensors["top/probabilities"], tensors["top/target"]
            top = Top(rows_of(odds["labels"]), shares, target, odds["function"])
        return cls(
            segments=segments,
            target=tuple(meta["target"]),
            scores=tensors["scores"],
            prediction=tensors.get("prediction"),
            prediction_labels=None if labels is None else tuple(labels),
            method=meta["method"],
            options=meta["options"],
            flow=Flow.from_dict(meta["flow"]),
            maps={(rows, columns): tensors[f"map/{n}"] for n, (rows, columns) in enumerate(meta["maps"])},
            top=top,
            origin=meta.get("origin") or {},
            answer=Answer.unpack(tensors, meta["answer"]) if "answer" in meta else None,
            box=tensors.get("box"),
        )


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


def difference(first: Shown, second: Shown) -> Shown:
    """``second`` less ``first``; see :meth:`heedmap.explanation.Explanation.difference`."""
    _check_comparable(first, second)
    segments, notes = {}, []
    for name, segment in second.segments.items():
        segments[name], told = _changed_segment(first.segments[name], segment)
        notes += told
    same = first.target == second.target
    target = tuple(CHANGE + (b if same else f"{a}, now {b}") for a, b in zip(first.target, second.target, strict=True))
    flow = replace(second.flow, notes=(*second.flow.notes, *notes))
    scores = second.scores - first.scores
    return replace(second, segments=segments, target=target, scores=scores, flow=flow, maps={}, top=None)


def _check_comparable(first: ExplanationData, second: ExplanationData) -> None:
    if first.answer is not None or second.answer is not None:
        raise InputError("the difference of whole answers is not known; take a token of each with step()")
    if (first.method, dict(first.options)) != (second.method, dict(second.options)):
        raise InputError(
            f"the maps are of {first.method} and {second.method}, or of other options, so their numbers are not of one "
            "kind; explain both inputs by one method with the same options"
        )
    if first.segments.keys() != second.segments.keys():
        raise InputError(
            f"the maps have the parts {', '.join(first.segments)} and {', '.join(second.segments)}; expected the same "
            "parts: explain two inputs of one kind by one model"
        )
    if len(first.target) != len(second.target):
        raise InputError(f"the batches are of {len(first.target)} and {len(second.target)} samples; expected as many")


def _changed_segment(first: Segment, second: Segment) -> tuple[Segment, list[str]]:
    """The second segment with what its tokens gained, and words about tokens that only one of the two has."""
    before, after = first.labels, second.labels
    if first.grid != second.grid or ((before is None or after is None) and first.tokens != second.tokens):
        sizes = " and ".join("×".join(map(str, s.grid)) if s.grid else str(s.tokens) for s in (first, second))
        raise InputError(
            f"{first.name} has {sizes} tokens, and they cannot be told apart; give inputs of one size, or with words"
        )
    if before is None or after is None or second.kind != "text":
        if first.tokens != second.tokens:
            raise InputError(f"{first.name} has {first.tokens} and {second.tokens} tokens; give inputs of one size")
        return replace(second, relevance=second.relevance - first.relevance), []
    relevance, notes = second.relevance.clone(), []
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        pairs = _paired_tokens(old, new)
        for a, b in pairs:
            relevance[index, b] -= first.relevance[index, a]
        notes += _unpaired_note(first.name, old, {a for a, _ in pairs}, "was left out and is in no map of the change")
        notes += _unpaired_note(first.name, new, {b for _, b in pairs}, "is new: its change is all its relevance")
    return replace(second, relevance=relevance), notes


def _paired_tokens(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Which token stands for which: those that are the same, in their order, and those that replace each other one by one."""
    pairs = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and b - a == d - c):
            pairs += list(zip(range(a, b), range(c, d), strict=True))
    return pairs


def _unpaired_note(name: str, labels: Sequence[str], paired: set[int], what: str) -> list[str]:
    left = [label for i, label in enumerate(labels) if i not in paired and label]
    more = "" if len(left) <= MOST_NAMED else f" and {len(left) - MOST_NAMED} more"
    return [f"{name}: {', '.join(left[:MOST_NAMED])}{more} {what}"] if left else []
