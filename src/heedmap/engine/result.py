"""The result of one target: rows of relevance and whole maps, cut into named segments, with the flow as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import NamedTuple

import torch
from torch import Tensor

from heedmap.attention.flow import Graph, Stream
from heedmap.attention.forward import Recording
from heedmap.attention.inputs import ModelInputs, contents
from heedmap.attention.tags import Source
from heedmap.attention.token_positions import InputSpan, leaf_rows
from heedmap.common.printable import without_folders
from heedmap.data.flow import AttentionInfo, Flow, StreamInfo
from heedmap.data.segments import Segment
from heedmap.engine.choosing import MethodCall
from heedmap.errors import HeedmapError
from heedmap.explanation import Explanation
from heedmap.methods.input_features import part_rows
from heedmap.methods.method import RelevanceRows, TargetView, view_of_several
from heedmap.relevance.propagate import add_to
from heedmap.targets import Chosen, Context
from heedmap.version import __version__

SEGMENTS = {
    "input_ids": "text",
    "inputs_embeds": "text",
    "decoder_input_ids": "decoder",
    "decoder_inputs_embeds": "decoder",
    "pixel_values": "image",
    "visual_feats": "boxes",
    "visual_embeds": "boxes",
    "input_features": "audio",
    "input_values": "audio",
}
"""Names of inputs → names of segments. An input that is not here is called by what it looks like, or its own name."""

ENCODER = "_encoder"
"""Ends the names of segments of a stream whose tokens another stream takes in among its own."""

KINDS = {"text": "text", "decoder": "text", "image": "image", "boxes": "boxes", "audio": "audio", "queries": "queries"}

Named = dict[int, list[tuple[str, InputSpan | None]]]
"""For each stream its segments with their names; None: tokens that no input made."""


class Recorded(NamedTuple):
    """A recorded forward pass, and what people call its parts."""

    recording: Recording
    segments: Named

    @classmethod
    def of(cls, recording: Recording) -> Recorded:
        """With the names of its segments."""
        return cls(recording, named_segments(recording))

    @property
    def names(self) -> dict[int, str]:
        """For each stream, its segments' names joined by +."""
        return {index: "+".join(name for name, _ in segments) for index, segments in self.segments.items()}


def assembled(
    recorded: Recorded,
    run: TargetView,
    chosen: Chosen,
    asked: MethodCall,
    context: Context,
    leaves: Mapping[int, Tensor] | None = None,
    rows: dict[int, Tensor] | None = None,
) -> Explanation:
    """The explanation of one target.

    ``leaves``: what a method that attributes to the input gave each leaf; ``rows``: of another method, what :func:`rows_of_each`
    gave each stream, where that is known.
    """
    method, options = asked.method, asked.options
    maps: dict[tuple[str, str], Tensor] = {}
    if method.prepare is not None:
        with torch.no_grad():
            if rows is None:
                rest = without_identity(run, asked)
                rows_of = method.prepare(run, options) if rest is None or run.full else rest
                rows = relevance_rows(run, rows_of, rest, options) if run.readouts else _unread_rows(run, rows_of)
                maps = _maps(run, rows_of) if run.full else {}
        segments = cut(recorded, rows)
    else:
        segments = _attributed(recorded, run, leaves or {}, bool(options.get("pixels", False)))
    prediction = chosen.prediction
    labels = chosen.names
    if labels is None and prediction is not None and context.labels:
        labels = tuple(context.labels.get(i, str(i)) for i in prediction.tolist())
    return Explanation(
        segments=segments,
        target=chosen.words,
        scores=chosen.values.detach().float().cpu(),
        prediction=None if prediction is None else prediction.cpu(),
        prediction_labels=labels,
        method=method.name,
        options=options,
        flow=described(recorded, run, tuple(run.notes)),
        maps={**maps, **_blocks(segments, maps)},
        top=chosen.top,
        box=chosen.box,
    )


def rows_of_each(runs: Sequence[TargetView], asked: MethodCall) -> Sequence[dict[int, Tensor] | None]:
    """The relevance of each stream's tokens for each of several targets, (batch, tokens), with A made once for all.

    None for each, where there is one or they are not of one kind: these are made one by one.
    """
    first = runs[0]
    states = [{s: readout.state for s, readout in run.readouts.items()} for run in runs]
    alike = all(r.graph is first.graph and r.gradients.keys() == first.gradients.keys() for r in runs)
    if len(runs) == 1 or not alike or any(of_run != states[0] for of_run in states):
        return [None] * len(runs)
    view = view_of_several(first, [run.gradients for run in runs], [run.readouts for run in runs])
    return rows_of_view(view, len(runs), asked)


def rows_of_view(view: TargetView, count: int, asked: MethodCall) -> list[dict[int, Tensor]]:
    """The relevance of each stream's tokens for each of the ``count`` targets of a view, (batch, tokens)."""
    with torch.no_grad():
        assert asked.method.prepare is not None
        rest = without_identity(view, asked)
        rows = relevance_rows(view, rest or asked.method.prepare(view, asked.options), rest, asked.options)
    parts = {x: own.unflatten(0, (count, -1)) for x, own in rows.items()}
    return [{x: own[number] for x, own in parts.items()} for number in range(count)]


def without_identity(run: TargetView, asked: MethodCall) -> RelevanceRows | None:
    """The method's map less the identity with which it begins, where that is to be dropped: everywhere, or of merged rows."""
    options, rest = asked.options, asked.method.rest
    merged = any(join.mixers for stream in run.graph.streams for join in stream.joins.values())
    wanted = options.get("drop_identity", False) or (merged and options.get("drop_self", False))
    return rest(run, options) if wanted and rest is not None else None


def relevance_rows(
    run: TargetView, rows_of: RelevanceRows, rest: RelevanceRows | None, options: Mapping[str, object]
) -> dict[int, Tensor]:
    """The relevance of each stream's tokens, (batch, tokens): summed over the streams that the target reads."""
    total: dict[int, Tensor] = {}
    for stream, readout in run.readouts.items():
        single = (readout.weights > 0).sum(-1, keepdim=True) == 1
        self_weights = _self_weights(run, stream, readout.weights * (single & bool(options.get("drop_self", False))))
        keeps = rest is not None and not options.get("drop_identity", False)
        kept = _self_weights(run, stream, readout.weights) if keeps else {}
        for x, rows in (rest or rows_of)(stream, readout.state, readout.weights).items():
            rows = rows + kept[x] if x in kept else rows
            rows = rows.masked_fill(self_weights[x] > 0, 0.0) if x in self_weights else rows
            add_to(total, {x: rows[:, 0]})
    return total


def _unread_rows(run: TargetView, rows_of: RelevanceRows) -> dict[int, Tensor]:
    """The same where no attention is followed, so that no row is read: of each stream by itself."""
    weights = torch.ones(run.batch, 1, 1)
    return {s.index: rows_of(s.index, frozenset(), weights)[s.index][:, 0] for s in run.graph.streams}


def _self_weights(run: TargetView, stream: int, weights: Tensor) -> dict[int, Tensor]:
    """The entries of the tokens that are read themselves, in their stream and in those that it took them from."""
    entries = {stream: weights}
    for other, join in run.graph.streams[stream].joins.items():
        if not join.mixers:  # a row that is made of several tokens is none of them
            entries |= _self_weights(run, other, join.weights(weights))
    return entries


def _maps(run: TargetView, rows_of: RelevanceRows) -> dict[tuple[str, str], Tensor]:
    """Whole maps of every stream in its final state (of a stream that is read: in the state that is read)."""
    maps = {}
    for stream in run.graph.streams:
        readout = run.readouts.get(stream.index)
        state = readout.state if readout else frozenset(stream.attentions)
        identity = torch.eye(stream.tokens, dtype=run.attentions[0].dtype, device=run.attentions[0].value.device)
        for x, rows in rows_of(stream.index, state, identity.expand(run.batch, -1, -1)).items():
            maps[run.names[stream.index], run.names[x]] = rows.float().cpu().contiguous()
    return maps


def _blocks(segments: dict[str, Segment], maps: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    """Of a stream with several segments, also the map of each segment to each."""
    blocks = {}
    for a in segments.values():
        for b in segments.values():
            whole = maps.get((a.stream, b.stream))
            if whole is None or (a.name, b.name) in maps:
                continue
            rows = whole.gather(1, a.positions.clamp(min=0)[:, :, None].expand(-1, -1, whole.shape[2]))
            block = rows.gather(2, b.positions.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1))
            present = (a.positions >= 0)[:, :, None] & (b.positions >= 0)[:, None]
            blocks[a.name, b.name] = block.masked_fill(~present, 0.0).contiguous()
    return blocks


def cut(recorded: Recorded, rows: dict[int, Tensor]) -> dict[str, Segment]:
    """The segments of relevance by stream, (batch, tokens) each.

    Raises:
        HeedmapError: none of the streams has tokens of an input.
    """
    segments, names = dict[str, Segment](), recorded.names
    for stream in recorded.recording.graph.streams:
        if stream.index not in rows or (stream.joins and not stream.leaves):
            continue
        relevance = rows[stream.index].float().cpu()
        for name, span in recorded.segments[stream.index]:
            segments[name] = _segment(name, span, names[stream.index], relevance)
    if not segments:
        raise HeedmapError("none of the streams that the target reads has tokens that can be traced to an input")
    return segments


def _attributed(recorded: Recorded, run: TargetView, leaves: Mapping[int, Tensor], pixels: bool) -> dict[str, Segment]:
    """The segments of a method that gives relevance to the input's features; of a token, their sum."""
    rows: dict[int, Tensor] = {}
    for stream, parts in run.parts.items():
        for part in parts if any(span is not None for _, span in recorded.segments[stream]) else ():
            of_leaf = part_rows(run.graph.sources, part, leaves)
            if of_leaf is not None:
                stream_rows = rows.setdefault(stream, of_leaf.new_zeros(run.batch, run.graph.streams[stream].tokens))
                stream_rows.scatter_add_(1, part.rows.clamp(min=0), of_leaf.masked_fill(part.rows < 0, 0.0))
    segments = cut(recorded, rows)
    return segments | (_pixels(run, leaves, segments) if pixels else {})


def _pixels(run: TargetView, leaves: Mapping[int, Tensor], segments: dict[str, Segment]) -> dict[str, Segment]:
    """Of an image also its pixels, as a segment of their own."""
    sources = run.graph.sources
    first = {source.name: index for index, source in reversed(list(enumerate(sources)))}
    image = next((i for i in first.values() if i in leaves and leaves[i].dim() == 4 and "image" in segments), None)
    if image is None:
        return {}
    relevance = leaf_rows(sources[image], leaves[image]).detach().float().cpu()
    numbers = torch.arange(relevance.shape[1]).expand(len(relevance), -1).contiguous()
    grid = (leaves[image].shape[2], leaves[image].shape[3])
    return {"pixels": Segment("pixels", "image", segments["image"].stream, relevance, numbers, grid)}


def _segment(name: str, span: InputSpan | None, stream: str, relevance: Tensor) -> Segment:
    if span is None:
        positions = torch.arange(relevance.shape[1]).expand(len(relevance), -1).contiguous()
        return Segment(name, KINDS.get(name, "tokens"), stream, relevance.contiguous(), positions)
    positions = span.positions.cpu().contiguous()
    picked = relevance.gather(1, positions.clamp(min=0)).masked_fill(positions < 0, 0.0)
    kind = KINDS.get(name.removesuffix(ENCODER), span.kind_hint)
    return Segment(name, kind, stream, picked.contiguous(), positions, span.grid)


def named_segments(recording: Recording) -> Named:
    """For each stream its segments with their names, each name once.

    Where a stream takes in another one's tokens among its own (a language model, a picture's), they are its segment of
    that name, and the other stream is called the encoder.
    """
    graph, used = recording.graph, set[str]()
    named: Named = {}
    for stream in graph.streams:
        spans = recording.parts.get(stream.index, []) if stream.leaves else []
        wanted: list[tuple[str, InputSpan | None]] = [
            (_segment_name(span.name, recording.inputs, _is_of_rows(graph.sources[span.leaf])), span) for span in spans
        ]
        if any(stream.index in graph.taken_in(s.index) and _begins_elsewhere(graph, s, stream) for s in graph.streams):
            wanted = [(f"{name}{ENCODER}", span) for name, span in wanted]
        wanted = wanted or [("kept" if stream.joins else "queries", None)]
        named[stream.index] = []
        for name, span in wanted:
            if name == "text" and name in used and "decoder" not in used and graph.reachable_from[stream.index]:
                name = "decoder"  # a decoder that begins with the encoder's own words
            name = next(n for n in (name, *(f"{name}{i}" for i in range(2, 100))) if n not in used)
            used.add(name)
            named[stream.index].append((name, span))
    return named


def _begins_elsewhere(graph: Graph, stream: Stream, other: Stream) -> bool:
    """Whether a stream begins in inputs, none of which is one that the other begins in (else they are levels of a pyramid)."""
    own, others = ({graph.sources[leaf].name for leaf in s.leaves} for s in (stream, other))
    return bool(own) and not own & others


def _is_of_rows(leaf: Source) -> bool:
    """Whether an input of four axes is rows of numbers (points of several prompts), and no picture."""
    return not leaf.spatial and len(leaf.shape) == 4


def _segment_name(name: str, inputs: Mapping[str, Tensor], of_rows: bool = False) -> str:
    given = getattr(inputs, "segments", None)
    if given is not None:
        return str(given[name])
    if name in SEGMENTS:
        return SEGMENTS[name]
    value = inputs[name]
    if value.is_floating_point():
        return "image" if value.dim() == 4 and not of_rows else name
    return "text" if value.dim() == 2 and "input_ids" not in inputs else name.removesuffix("_ids")


def sounds(inputs: ModelInputs) -> frozenset[str]:
    """The names of the inputs that are sounds."""
    return frozenset(name for name in contents(inputs) if KINDS.get(_segment_name(name, inputs)) == "audio")


def without_segment(recording: Recording) -> tuple[str, ...]:
    """A note on the inputs that could be content, and have no tokens of their own; none where there is no such input."""
    traced = {span.name for spans in recording.parts.values() for span in spans}
    known = traced | getattr(recording.inputs, "towers", frozenset())
    untraced = [name for name in contents(recording.inputs) if name not in known]
    if not untraced:
        return ()
    return (
        f"no token begins in {', '.join(untraced)} (masks, positions, features of other tokens?); segments={{input: name}} says "
        "which inputs are content",
    )


EXTENDED = (
    "tokens also mix in what is no softmax attention (convolutions, merges, recurrences …); it is followed by an extension of "
    "the paper's rules, which mixers=False turns off"
)


def described(recorded: Recorded, run: TargetView | None, notes: tuple[str, ...] = ()) -> Flow:
    """The flow as plain data."""
    recording, names = recorded.recording, recorded.names
    streams = tuple(
        StreamInfo(names[s.index], s.tokens, tuple(n for n, _ in recorded.segments[s.index]), _read_rows(run, s.index))
        for s in recording.graph.streams
    )
    graph, attentions = (recording.graph, recording.tape.attentions) if run is None else (run.graph, run.attentions)
    listed = []
    for edge in graph.edges:
        a = attentions[edge.attention]
        listed.append(
            AttentionInfo(
                index=a.index,
                kind="self" if edge.is_self else "cross",
                stream=names[edge.stream],
                source=names[edge.source],
                heads=a.heads,
                queries=a.queries,
                keys=a.keys,
                form=a.form,
                reads=tuple(sorted(edge.value_state)),
                gradient=None if run is None else a.index in run.gradients,
            )
        )
    stopped = getattr(recording.inputs, "stopped", "")  # where the map stops, where it is not of the whole model
    extended = EXTENDED if recording.mixers else ""
    notes = (*filter(None, (stopped, extended)), *without_segment(recording), *notes)
    return Flow(streams, tuple(listed), notes)


def _read_rows(run: TargetView | None, stream: int) -> tuple[tuple[int, ...], ...] | None:
    if run is None or stream not in run.readouts:
        return None
    weights = run.readouts[stream].weights[:, 0]
    return tuple(tuple(row.nonzero()[:, 0].tolist()) for row in weights)


LIBRARIES = ("torch", "transformers")


def origin(model: object, name: str | None) -> dict[str, str]:
    """Name (what it was loaded from, where that is known) and class of a model, and the versions that ran it."""
    given = name or getattr(getattr(model, "config", None), "_name_or_path", "") or ""
    return {**({"model": without_folders(str(given))} if given else {}), "class": type(model).__name__, **versions()}


@cache
def versions() -> dict[str, str]:
    """``heedmap``, ``python`` and the libraries under it → version."""
    versions = {"heedmap": __version__, "python": python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:  # a module may run without transformers
            continue
    return versions
