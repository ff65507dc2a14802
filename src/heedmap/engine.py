"""explain() and inspect(): record → target → gradient → method → Explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor, nn

from heedmap.attention.flow import Graph, check_followed
from heedmap.attention.forward import Recording, record, recording_state
from heedmap.attention.inputs import batch_size, named
from heedmap.attention.layout import Part
from heedmap.errors import GradientError, HeedmapError, InputError, OptionError, TargetError, UnknownNameError
from heedmap.explanation import AttentionInfo, Explanation, Flow, Segment, StreamInfo
from heedmap.methods import METHODS, Method
from heedmap.methods.run import MEMORY_BUDGET, Readout, Run
from heedmap.targets import Chosen, Context, Target, as_target

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

KINDS = {"text": "text", "decoder": "text", "image": "image", "boxes": "boxes", "audio": "audio", "queries": "queries"}


@runtime_checkable
class Wrapped(Protocol):
    """A model with its processor (``heedmap.Subject``): it labels the tokens of an explanation."""

    model: nn.Module

    def finish(self, explanation: Explanation, inputs: Mapping[str, Any]) -> Explanation:
        """``explanation`` with labels."""


AnyTarget = Any


@overload
def explain(
    model: nn.Module | Wrapped, inputs: Any, *, target: list[AnyTarget], method: str | Method = ..., **options: Any
) -> list[Explanation]: ...
@overload
def explain(
    model: nn.Module | Wrapped, inputs: Any, *, target: AnyTarget = ..., method: str | Method = ..., **options: Any
) -> Explanation: ...
def explain(
    model: nn.Module | Wrapped,
    inputs: Any,
    *,
    target: AnyTarget = None,
    method: str | Method = "generic",
    full: bool = False,
    probe: bool = True,
    memory_budget: int = MEMORY_BUDGET,
    labels: Mapping[int, str] | None = None,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Which parts of its input the model's answer rests on.

    Args:
        model: any torch module with softmax attention, unmodified, or a ``heedmap.Subject``. It is left as it was found.
        inputs: what the model is called with: dict of keyword arguments, tuple, or one tensor; batch first.
        target: None (each sample's own top prediction), a class index, a label, a ``heedmap.targets.Target``, or a
            callable(output) → (batch,) tensor. A list gives one Explanation per target, all from one forward pass.
        method: a name in ``heedmap.METHODS``, or a Method.
        full: also compute the whole R^{sx} matrices, ``Explanation.maps``.
        probe: prove, once per model and image size, that tokens mix in recorded attention only. False: at your own risk.
        memory_budget: bytes that blocks of attention may take at once.
        labels: class index → name, where the model's ``config.id2label`` does not say.
        options: the method's own.

    Returns:
        One Explanation, or a list of them for a list of targets; relevance is float32, on the CPU.

    Raises:
        HeedmapError: see ``heedmap.errors``; the message says what was given, what was expected and what to do.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "model", None)
    if not isinstance(module, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; expected a torch.nn.Module or a heedmap.Subject")
    module = getattr(module, "_orig_mod", module)  # of torch.compile: its kernels hide the attention
    recipe = find_method(method)
    resolved = recipe.resolve(options)
    engine = _Engine(module, inputs, labels, check=probe)
    targets = [as_target(t) for t in (target if isinstance(target, list) else [target])]
    if not targets:
        raise TargetError("target is an empty list; give at least one target, or None for the top prediction")
    if isinstance(memory_budget, bool) or not isinstance(memory_budget, int) or memory_budget < 1:
        raise OptionError(f"memory_budget is {memory_budget!r}; expected a positive number of bytes")
    with recording_state(module):
        found = engine.explain(targets, recipe, resolved, full, memory_budget)
    if not isinstance(model, nn.Module):
        found = [model.finish(e, engine.inputs) for e in found]
    return found if isinstance(target, list) else found[0]


def inspect(model: nn.Module | Wrapped, inputs: Any, *, target: AnyTarget = None, probe: bool = True) -> Flow:
    """The attentions found, their streams, and the rows that the target reads, as a table.

    Arguments as for :func:`explain`. Where the output has no top prediction and no target is given, the rows are left out
    and a note says so.
    """
    module = model if isinstance(model, nn.Module) else model.model
    module = getattr(module, "_orig_mod", module)
    engine = _Engine(module, inputs, None, check=probe)
    with recording_state(module):
        recording = engine.record()
        try:
            run, _ = engine.choose(recording, as_target(target), MEMORY_BUDGET, keep=False)
        except (TargetError, GradientError) as error:
            if target is not None:
                raise
            note = f"which rows are read is not known: {error}"
            return describe(recording, stream_names(recording), None, (note,))
        return describe(recording, run.names, run)


def find_method(method: str | Method) -> Method:
    """The method of this name; UnknownNameError lists the known ones."""
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise UnknownNameError(f"no method {method!r}; known methods: {', '.join(METHODS)}")
    return METHODS[method]


class _Engine:
    """One call of explain or inspect."""

    def __init__(self, model: nn.Module, inputs: Any, labels: Mapping[int, str] | None, check: bool) -> None:
        self.model, self.check = model, check
        self.inputs = named(model, inputs)
        self.batch = batch_size(self.inputs)
        config = getattr(model, "config", None)
        if labels is None:
            labels = getattr(config, "id2label", None) or {}
        self.context = Context(self.inputs, {int(k): str(v) for k, v in labels.items()})

    def record(self) -> Recording:
        return record(self.model, self.inputs, self.batch, self.check)

    def explain(
        self, targets: Sequence[Target], method: Method, options: dict[str, Any], full: bool, memory_budget: int
    ) -> list[Explanation]:
        recording = self.record()
        found = []
        for number, target in enumerate(targets):
            run, chosen = self.choose(recording, target, memory_budget, keep=number + 1 < len(targets))
            found.append(_explanation(recording, replace_full(run, full), chosen, method, options, self.context))
        return found

    def choose(self, recording: Recording, target: Target, memory_budget: int, keep: bool) -> tuple[Run, Chosen]:
        """Evaluate the target under the recorder and pull its gradient back to the attention outputs."""
        tape, graph = recording.tape, recording.graph
        with tape:
            chosen = target.choose(recording.output, self.context)
        values = chosen.values
        if tuple(values.shape) != (self.batch,):
            raise TargetError(
                f"the target has shape {tuple(values.shape)}; expected one value per sample, ({self.batch},)"
            )
        if not bool(torch.isfinite(values.detach()).all()):
            raise GradientError(
                f"the target is not finite: {values.tolist()}; look for NaN or infinity in model or input"
            )
        sources = tape.tag(values).sources
        check_followed(tape, sources, "the target")
        states = graph.states(sources)
        if not states:
            raise TargetError("the target depends on no attention; choose one that is computed from the model's output")
        if not values.requires_grad:
            raise GradientError(
                "no gradient flows from the target to the attention: weights are quantised without gradients, or the model "
                "or the target runs under torch.no_grad, detaches, or rounds (argmax); explain a floating-point model"
            )
        gradients = _gradients(tape.attentions, values, keep)
        names = stream_names(recording)
        run = Run(graph, tape.attentions, gradients, _readouts(graph, tape, states, gradients), names, memory_budget)
        return run, chosen


def replace_full(run: Run, full: bool) -> Run:
    """``run`` with whole maps wanted or not."""
    return replace(run, full=full)


def _gradients(attentions: list[Any], values: Tensor, keep: bool) -> dict[int, Tensor]:
    """∂y/∂o of each attention, (batch, heads, queries, features); one backward pass, to the attention outputs only."""
    outs = [a.out for a in attentions]
    raw = torch.autograd.grad(values.sum(), outs, retain_graph=keep, allow_unused=True)
    found = {a.index: a.layout.apply(g) for a, g in zip(attentions, raw, strict=True) if g is not None}
    if not found:
        raise TargetError("the target depends on no attention; choose one that is computed from the model's output")
    if not bool(torch.stack([torch.isfinite(g).all() for g in found.values()]).all()):
        raise GradientError(
            "the gradient of the target is not finite (NaN or infinity); try float32, or look for NaN in model or input"
        )
    return found


def _readouts(graph: Graph, tape: Any, states: Any, gradients: dict[int, Tensor]) -> dict[int, Readout]:
    found = {}
    for stream, state in states.items():
        last = max(state)
        if last not in gradients:
            continue
        rows = (gradients[last] != 0).any(-1).any(1)
        weights = rows.to(tape.attentions[last].dtype)[:, None]
        found[stream] = Readout(state, weights / weights.sum(-1, keepdim=True).clamp(min=1))
    read = torch.stack([r.weights.sum((1, 2)) for r in found.values()]).sum(0) if found else torch.zeros(1)
    if not bool((read > 0).all()):
        raise GradientError(
            "the target's gradient to the attention it reads is zero for a sample: it does not depend on the input there "
            "(a saturated probability? explain the logit instead)"
        )
    return found


# -- the result ---------------------------------------------------------------------------------------------------


def _explanation(
    recording: Recording, run: Run, chosen: Chosen, method: Method, options: dict[str, Any], context: Context
) -> Explanation:
    with torch.no_grad():
        rows_of = method.prepare(run, options)
        rows = _rows(run, rows_of, options.get("drop_self", False))
        maps = _maps(run, rows_of) if run.full else {}
    segments = _segments(recording, run, rows)
    prediction = chosen.prediction
    labels = None
    if prediction is not None and context.labels:
        labels = tuple(context.labels.get(i, str(i)) for i in prediction.tolist())
    return Explanation(
        segments=segments,
        target=chosen.words,
        scores=chosen.values.detach().float().cpu(),
        prediction=None if prediction is None else prediction.cpu(),
        prediction_labels=labels,
        method=method.name,
        options=options,
        flow=describe(recording, run.names, run),
        maps={**maps, **_blocks(segments, maps)},
    )


def _rows(run: Run, rows_of: Any, drop_self: bool) -> dict[int, Tensor]:
    """The relevance of each stream's tokens, (batch, tokens): summed over the streams that the target reads."""
    total: dict[int, Tensor] = {}
    for stream, readout in run.readouts.items():
        for x, rows in rows_of(stream, readout.state, readout.weights).items():
            rows = rows[:, 0]
            if x == stream and drop_self:
                single = (readout.weights > 0).sum(-1) == 1
                rows = rows.masked_fill((readout.weights[:, 0] > 0) & single, 0.0)
            total[x] = total[x] + rows if x in total else rows
    return total


def _maps(run: Run, rows_of: Any) -> dict[tuple[str, str], Tensor]:
    """Whole maps of every stream in its final state (of a stream that is read: in the state that is read)."""
    found = {}
    for stream in run.graph.streams:
        readout = run.readouts.get(stream.index)
        state = readout.state if readout else frozenset(stream.attentions)
        identity = torch.eye(stream.tokens, dtype=run.attentions[0].dtype, device=run.attentions[0].value.device)
        for x, rows in rows_of(stream.index, state, identity.expand(run.batch, -1, -1)).items():
            found[run.names[stream.index], run.names[x]] = rows.float().cpu().contiguous()
    return found


def _blocks(segments: dict[str, Segment], maps: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    """Of a stream with several segments, also the map of each segment to each."""
    found = {}
    for a in segments.values():
        for b in segments.values():
            whole = maps.get((a.stream, b.stream))
            if whole is None or (a.name, b.name) in maps:
                continue
            rows = whole.gather(1, a.positions.clamp(min=0)[:, :, None].expand(-1, -1, whole.shape[2]))
            block = rows.gather(2, b.positions.clamp(min=0)[:, None].expand(-1, rows.shape[1], -1))
            there = (a.positions >= 0)[:, :, None] & (b.positions >= 0)[:, None]
            found[a.name, b.name] = block.masked_fill(~there, 0.0).contiguous()
    return found


def _segments(recording: Recording, run: Run, rows: dict[int, Tensor]) -> dict[str, Segment]:
    names = segment_names(recording)
    found: dict[str, Segment] = {}
    for stream in recording.graph.streams:
        if stream.index not in rows:
            continue
        relevance = rows[stream.index].float().cpu()
        for name, part in names[stream.index]:
            found[name] = _segment(name, part, run.names[stream.index], relevance)
    if not found:
        raise HeedmapError("none of the streams that the target reads has tokens that can be traced to an input")
    return found


def _segment(name: str, part: Part | None, stream: str, relevance: Tensor) -> Segment:
    if part is None:
        positions = torch.arange(relevance.shape[1]).expand(len(relevance), -1).contiguous()
        return Segment(name, KINDS.get(name, "tokens"), stream, relevance.contiguous(), positions)
    positions = part.positions.cpu().contiguous()
    picked = relevance.gather(1, positions.clamp(min=0)).masked_fill(positions < 0, 0.0)
    kind = KINDS.get(name, part.kind_hint)
    return Segment(name, kind, stream, picked.contiguous(), positions, part.grid if kind != "audio" else None)


def segment_names(recording: Recording) -> dict[int, list[tuple[str, Part | None]]]:
    """For each stream its segments with their names, each name once."""
    used: set[str] = set()
    found: dict[int, list[tuple[str, Part | None]]] = {}
    for stream in recording.graph.streams:
        parts = recording.parts.get(stream.index, [])
        wanted: list[tuple[str, Part | None]] = [(_segment_name(part, recording.inputs), part) for part in parts]
        wanted = wanted or [("queries", None)]
        found[stream.index] = []
        for name, part in wanted:
            if name == "text" and name in used and "decoder" not in used and recording.graph.hears[stream.index]:
                name = "decoder"  # a decoder that begins with the encoder's own words
            name = next(n for n in (name, *(f"{name}{i}" for i in range(2, 100))) if n not in used)
            used.add(name)
            found[stream.index].append((name, part))
    return found


def _segment_name(part: Part, inputs: Mapping[str, Any]) -> str:
    if part.name in SEGMENTS:
        return SEGMENTS[part.name]
    value = inputs[part.name]
    if value.is_floating_point():
        return "image" if value.dim() == 4 else part.name
    return "text" if value.dim() == 2 else part.name


def stream_names(recording: Recording) -> dict[int, str]:
    """For each stream, its segments' names joined by +."""
    return {index: "+".join(name for name, _ in parts) for index, parts in segment_names(recording).items()}


def describe(recording: Recording, names: Mapping[int, str], run: Run | None, notes: tuple[str, ...] = ()) -> Flow:
    """The flow as plain data."""
    segments = segment_names(recording)
    streams = tuple(
        StreamInfo(names[s.index], s.tokens, tuple(n for n, _ in segments[s.index]), _read_rows(run, s.index))
        for s in recording.graph.streams
    )
    attentions = []
    for edge in recording.graph.edges:
        a = recording.tape.attentions[edge.attention]
        attentions.append(
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
    return Flow(streams, tuple(attentions), notes)


def _read_rows(run: Run | None, stream: int) -> tuple[tuple[int, ...], ...] | None:
    if run is None or stream not in run.readouts:
        return None
    weights = run.readouts[stream].weights[:, 0]
    return tuple(tuple(row.nonzero()[:, 0].tolist()) for row in weights)
