"""The attentions of one forward pass as a person would describe them, as data and as a plain table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedmap.common.printable import counted, visible
from heedmap.data.segments import rows_of
from heedmap.errors import UnknownNameError

ATTENTION_HEAD = ("attention", "kind", "flow", "heads", "queries×keys", "form", "gradient")
STREAM_HEAD = ("stream", "tokens", "segments", "read by the target")
LONGEST_PERIOD = 8
SAMPLES_SHOWN = 3

Line = tuple[str, ...]


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
    """All attentions of one forward pass in order of execution, and the streams between which they run.

    Examples:
        >>> import heedmap
        >>> sample = heedmap.zoo_sample("lxmert-shapes")
        >>> flow = heedmap.load("zoo/lxmert-shapes").inspect(**sample.inputs)
        >>> [stream.name for stream in flow.streams], len(flow.attentions)
        (['text', 'boxes'], 14)
        >>> sorted({f"{a.stream} ← {a.source}" for a in flow.attentions if a.kind == "cross"})
        ['boxes ← text', 'text ← boxes']
    """

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
        return flow_table(self)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Flow:
        """The inverse of :meth:`to_dict`."""
        known: Mapping[str, Any] = data
        return cls(
            tuple(
                StreamInfo(
                    **{
                        **s,
                        "segments": tuple(s["segments"]),
                        "rows": None if s["rows"] is None else rows_of(s["rows"]),
                    }
                )
                for s in known["streams"]
            ),
            tuple(AttentionInfo(**{**a, "reads": tuple(a["reads"])}) for a in known["attentions"]),
            tuple(known["notes"]),
        )


def flow_table(flow: Flow) -> str:
    """The attentions and the streams as plain text; equal attentions, also when they take turns, share a line."""
    parts = [summary(flow), _plain(ATTENTION_HEAD, attention_lines(flow)), _plain(STREAM_HEAD, stream_lines(flow))]
    notes = [f"note: {visible(note)}" for note in flow.notes]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def summary(flow: Flow) -> str:
    """``12 attentions, 1 stream``."""
    return f"{counted(len(flow.attentions), 'attention')}, {counted(len(flow.streams), 'stream')}"


def attention_lines(flow: Flow) -> list[Line]:
    """One line of cells for each attention, or for several equal ones, in the order of execution."""
    cells = [_attention_cells(a) for a in flow.attentions]
    lines: list[Line] = []
    start = 0
    while start < len(cells):
        period, times = _repetition(cells, start)
        for offset in range(period):
            first = start + offset
            indices = [flow.attentions[i].index for i in range(first, start + period * times, period)]
            lines.append((_index_range(indices), *cells[first]))
        start += period * times
    return lines


def stream_lines(flow: Flow) -> list[Line]:
    """One line of cells for each stream."""
    return [(visible(s.name), str(s.tokens), visible(", ".join(s.segments)), rows_read(s)) for s in flow.streams]


def rows_read(stream: StreamInfo) -> str:
    """Which rows of the stream the target reads: ``row 0``, ``rows 0–11 (mean)``, ``all rows (mean)``."""
    if stream.rows is None:
        return "not read directly"
    described = list(dict.fromkeys(_rows_words(rows, stream.tokens) for rows in stream.rows))
    more = "; …" if len(described) > SAMPLES_SHOWN else ""
    return "; ".join(described[:SAMPLES_SHOWN]) + more


def _attention_cells(a: AttentionInfo) -> Line:
    reached = {True: "yes", False: "no", None: "–"}[a.gradient]
    flow = f"{visible(a.stream)} ← {visible(a.source)}"
    return a.kind, flow, str(a.heads), f"{a.queries}×{a.keys}", a.form, reached


def _repetition(cells: Sequence[Line], start: int) -> tuple[int, int]:
    """Period and number of repeats, from ``start``, of the pattern that folds away most lines."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        times = _repeats(cells, start, period)
        if (times - 1) * period > (best[1] - 1) * best[0]:
            best = (period, times)
    return best


def _repeats(cells: Sequence[Line], start: int, period: int) -> int:
    pattern, times = cells[start : start + period], 1
    while cells[start + times * period : start + (times + 1) * period] == pattern:
        times += 1
    return times


def _index_range(indices: Sequence[int]) -> str:
    if len(indices) == 1:
        return str(indices[0])
    if indices[-1] - indices[0] == len(indices) - 1:
        return f"{indices[0]}–{indices[-1]}"
    return f"{indices[0]}, {indices[1]}" + (f" … {indices[-1]}" if len(indices) > 2 else "")


def _rows_words(rows: Sequence[int], tokens: int) -> str:
    if not rows:
        return "no row"
    if len(rows) == 1:
        return f"row {rows[0]}"
    if len(set(rows)) == tokens:
        return "all rows (mean)"
    return f"rows {_spans(sorted(set(rows)))} (mean)"


def _spans(numbers: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    words = [str(a) if a == b else f"{a}–{b}" for a, b in spans]
    return ", ".join(words if len(words) <= 6 else [*words[:5], "…", words[-1]])


def _plain(head: Line, lines: Sequence[Line]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, tuple("─" * width for width in widths), *lines]
    )
