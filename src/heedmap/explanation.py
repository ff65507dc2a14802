"""The result of an explanation, and its file.

Plain data only: it is built by :func:`heedmap.explain`, read by the renderers, and knows nothing of models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedmap.atomic import write_atomically
from heedmap.errors import FileFormatError, UnknownNameError
from heedmap.top import Top

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

FORMAT = "heedmap-explanation"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class AttentionInfo:
    """One recorded attention, as a person would describe it.

    Attributes:
        index: its place in the order of execution, from 0.
        kind: ``"self"`` (queries and keys are one stream) or ``"cross"``.
        stream: the stream that asks (its tokens are the queries).
        source: the stream that is asked (its tokens are the keys).
        heads, queries, keys: sizes of A, (batch, heads, queries, keys).
        form: how the model wrote it: ``"sdpa"`` (fused), ``"mha"`` (nn.MultiheadAttention) or ``"softmax"`` (inline).
        reads: indices of the attentions in the state of the keys.
        gradient: whether the target's gradient reached its output; None where no target was given.
    """

    index: int
    kind: str
    stream: str
    source: str
    heads: int
    queries: int
    keys: int
    form: str
    reads: tuple[int, ...] = ()
    gradient: bool | None = None


@dataclass(frozen=True)
class StreamInfo:
    """A sequence of token states that attention updates.

    Attributes:
        name: its segments' names joined by ``+``.
        tokens: number of tokens, prefix tokens included.
        segments: names of the parts that a person recognises, in order.
        rows: for each sample, the rows that the target reads; None where the target does not read this stream.
    """

    name: str
    tokens: int
    segments: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Flow:
    """All attentions of one forward pass in order of execution, and the streams between which they run."""

    streams: tuple[StreamInfo, ...]
    attentions: tuple[AttentionInfo, ...]
    notes: tuple[str, ...] = ()

    def stream(self, name: str) -> StreamInfo:
        """The stream called ``name``; UnknownNameError lists the known ones."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise UnknownNameError(f"no stream {name!r}; this model has {', '.join(s.name for s in self.streams)}")

    def __str__(self) -> str:
        from heedmap.render.table import flow_table

        return flow_table(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Flow:
        """The inverse of :meth:`to_dict`."""
        return cls(
            tuple(
                StreamInfo(**{**s, "segments": tuple(s["segments"]), "rows": _rows(s["rows"])}) for s in data["streams"]
            ),
            tuple(AttentionInfo(**{**a, "reads": tuple(a["reads"])}) for a in data["attentions"]),
            tuple(data["notes"]),
        )


def _rows(rows: list[list[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    return None if rows is None else tuple(tuple(r) for r in rows)


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of the input that a person recognises, with the relevance of each of its tokens.

    Attributes:
        name: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"``, ``"queries"``, ``"decoder"``, or the input's own name.
        kind: ``"text"``, ``"image"``, ``"boxes"``, ``"audio"`` or ``"tokens"``: how to draw it.
        stream: the stream that holds it.
        relevance: (batch, tokens), float32 on the CPU; 0 for a token that the model did not take in.
        positions: (batch, tokens), int64: each token's place in its stream; -1 for one that the model did not take in.
        grid: (rows, columns) of the patches of an image, row-major; None for other kinds.
        labels: for each sample the tokens' labels (words, box names); None where nobody gave any.
        joints: for each sample one letter a token: how it stands to the one before it in the text. ``w`` white space is
            between them, ``+`` none, ``c`` it continues a character, ``s`` it is a special token, no part of the text.
            None where nobody told.
    """

    name: str
    kind: str
    stream: str
    relevance: Float[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens"]
    grid: tuple[int, int] | None = None
    labels: tuple[tuple[str, ...], ...] | None = None
    joints: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which parts of the input one prediction per sample rests on.

    ``explanation["text"]`` is the relevance of a segment, (batch, tokens), float32.

    Attributes:
        segments: by name.
        target: for each sample, what was explained, in words.
        scores: (batch,), float32: the target's value.
        prediction: (batch,), int64: the top class of each sample; None where the output has no classes.
        prediction_labels: their names, where the model has names.
        method: name of the method, a key of ``heedmap.METHODS``.
        options: the method's options as used.
        flow: the attentions, streams and rows read.
        maps: with ``full=True`` the whole R^{sx}, keyed by (s, x), (batch, rows, columns), float32.
        top: the most probable answers, where the output has classes.
        origin: the model's name and class, and the versions of the libraries; no part of what is compared by ``==``.
    """

    segments: Mapping[str, Segment]
    target: tuple[str, ...]
    scores: Float[Tensor, " batch"]
    prediction: Int[Tensor, " batch"] | None
    prediction_labels: tuple[str, ...] | None
    method: str
    options: Mapping[str, Any]
    flow: Flow
    maps: Mapping[tuple[str, str], Float[Tensor, "batch rows columns"]] = field(default_factory=dict)
    top: Top | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Float[Tensor, "batch tokens"]:
        return self.segment(name).relevance

    def __contains__(self, name: object) -> bool:
        return name in self.segments

    def segment(self, name: str) -> Segment:
        """The segment called ``name``; UnknownNameError lists the known ones."""
        if name not in self.segments:
            raise UnknownNameError(f"no segment {name!r}; this explanation has {', '.join(self.segments)}")
        return self.segments[name]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Explanation):
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
            f"{s.name} {'×'.join(map(str, s.grid)) if s.grid else s.relevance.shape[1]}" for s in self.segments.values()
        )
        notes = "".join(f"; note: {note}" for note in self.flow.notes)
        return f"Explanation({self.method}, batch {len(self.target)}, target {self.target[0]!r}, {parts}{notes})"

    def with_labels(
        self,
        labels: Mapping[str, tuple[tuple[str, ...], ...]],
        joints: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Explanation:
        """A copy whose segments carry ``labels``: for each segment name, for each sample, the tokens' labels.

        Args:
            labels: by the segment's name.
            joints: how the tokens stand to each other, see :class:`Segment`; of segments that have ``labels``.
        """
        segments = dict(self.segments)
        for name in labels.keys() & segments.keys():
            segments[name] = replace(segments[name], labels=labels[name], joints=(joints or {}).get(name))
        return replace(self, segments=segments)

    # -- pictures ---------------------------------------------------------------------------------------------------

    def to_html(self, index: int = 0, image: Any = None) -> str:
        """Sample ``index`` as one self-contained HTML page; every piece of user text is escaped.

        Args:
            index: the sample.
            image: PIL, as the model saw it (``Subject.shown_image``), to lay the map of its patches on.
        """
        from heedmap.render.page import explanation_page

        return explanation_page(self, index, image)

    def overlay(self, image: Any, index: int = 0, segment: str = "image", **options: Any) -> Any:
        """A PIL image: ``image`` with the relevance of ``segment`` laid over it.

        Args:
            image: PIL, as the model saw it (``Subject.shown_image``); or ``Subject.picture``'s, of the original.
            index: the sample.
            segment: one of patches.
            options: ``alpha``, ``cmap``, ``opacity``, ``contour``, ``patches``, ``mute``, and ``scale``, one that several maps
                share: see :mod:`heedmap.render.overlay`.
        """
        from heedmap.render.overlay import overlay

        return overlay(image, self.segment(segment), index, **options)

    def plot(self, index: int = 0, image: Any = None, **options: Any) -> Any:
        """A matplotlib figure of all segments of sample ``index``.

        Args:
            index: the sample.
            image: see :meth:`overlay`; None: patches are drawn as a grid.
            options: ``theme`` and those of :meth:`overlay`.
        """
        from heedmap.render.plot import plot

        return plot(self, index, image, **options)

    def _repr_html_(self) -> str:
        from heedmap.render.page import explanation_fragment

        return explanation_fragment(self, 0)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: HTML, where it cannot show that a picture, and text; all of sample 0."""
        from heedmap.render.notebook import bundle

        return bundle(self, include, exclude)

    # -- file -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file with the rest as JSON in its header, atomically: a whole file or none."""
        from safetensors.torch import save

        tensors, meta = self._pack()
        data = save(tensors, metadata={"format": FORMAT, "version": str(FORMAT_VERSION), "json": json.dumps(meta)})
        write_atomically(Path(path), data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Explanation:
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

    def _pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
                {f: getattr(s, f) for f in ("name", "kind", "stream", "grid", "labels", "joints")}
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
        return {k: t.contiguous() for k, t in tensors.items()}, json.loads(json.dumps(meta))

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Explanation:
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
                joints=None if s.get("joints") is None else tuple(s["joints"]),
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
        )


def _top(tensors: dict[str, Tensor], meta: dict[str, Any] | None) -> Top | None:
    """Files of before there was any have none."""
    if meta is None:
        return None
    labels = tuple(tuple(row) for row in meta["labels"])
    return Top(labels, tensors["top/probabilities"], tensors["top/target"], meta["function"])


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
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
