"""One recorded forward pass of an unmodified model, and the verdict of the mixing probe on it."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention import probe, token_positions
from heedmap.attention.attention import Attention
from heedmap.attention.before_proof import ask
from heedmap.attention.checkpointing import run_directly
from heedmap.attention.fingerprint import of_inputs, of_model
from heedmap.attention.flow import Graph, State, build, verify_same
from heedmap.attention.inputs import check_no_cache, check_required, contents, detached, misfit, put_back
from heedmap.attention.places import told
from heedmap.attention.probe import Verdict
from heedmap.attention.randomness import own_randomness, seed
from heedmap.attention.returned import State as Rows
from heedmap.attention.returned import check_same
from heedmap.attention.steps import Steps
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan
from heedmap.attention.wrapped import called, named_modules
from heedmap.common.memory import ran_out
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    InputError,
    MixingError,
    ModelStateError,
    NoAttentionError,
    UnfollowedAttentionError,
)

_LOCK = threading.RLock()
_AT_REST: weakref.WeakKeyDictionary[nn.Module, tuple[int, _AsFound]] = weakref.WeakKeyDictionary()
_STANCES: list[Any] = []
_NO_TENSOR = {int, float, str, *map(type, vars(nn.Module()).values())}
"""Of most attributes of modules: to ask these classes whether they are tensors takes longer than to look here."""
_BOOKS = vars(nn.Module()).keys()
_PLAIN = {int, float, str, bool, bytes, type(None), torch.dtype, torch.device}
DEPTH = 3
"""How deep it is looked into what attributes hold."""
_VERDICTS: weakref.WeakKeyDictionary[nn.Module, tuple[Any, dict[Any, Any]]] = weakref.WeakKeyDictionary()


@dataclass(eq=False)
class Recording:
    """A recorded forward pass.

    Attributes:
        tape: attentions and sources.
        graph: streams and edges.
        parts: for each stream, its segments.
        output: of the model, attached to the graph.
        inputs: what the model was called with.
        live: the attentions and mixers that are part of the graph; None: all.
        followed: sources of a tensor → the same, without mixers that are not part of the graph, but what these read.
        before: a stream and a state of it → its rows before that; none where the proof knows of these.
    """

    tape: Tape
    graph: Graph
    parts: dict[int, list[InputSpan]]
    output: Any
    inputs: Mapping[str, Any]
    live: frozenset[int] | None = None
    followed: Callable[[frozenset[int]], frozenset[int]] = lambda sources: sources
    before: Callable[[int, State], Sequence[Rows]] = lambda stream, state: ()

    @property
    def mixers(self) -> list[Attention]:
        """What mixes tokens in it and is no softmax attention, also where it is only read by what asks or weighs."""
        tape = self.tape
        events = [] if self.live is None else [tape.attentions[i] for i in sorted(self.live)]
        read = {tape.sources[i].attention for event in events for i in event.query_sources | event.value_sources}
        makes = {i for stream in self.graph.streams for join in stream.joins.values() for i in join.mixers}
        mixing = [a for a in tape.attentions if a.mixes or a.form == "linear" or a.index in makes]
        return [a for a in mixing if a in events or a.index in read]


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """As :func:`recording_state`, for answers alone: without gradients, and with the seed that an explanation has."""
    with recording_state(model), torch.no_grad():
        seed()
        yield


def output_of(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What the model answers, as it does when it is explained: in eval mode; it is left as it was found. No gradient."""
    with answering(model):
        return called(model, detached(inputs))


@contextmanager
def recording_state(model: nn.Module) -> Iterator[None]:
    """Gradients on; dropout and checkpointing off, a fixed seed; afterwards everything is as before, also after an exception.

    Raises:
        ModelStateError: under ``torch.inference_mode``, whose tensors cannot have gradients.
    """
    if torch.is_inference_mode_enabled() or any(t.is_inference() for t in _some_tensors(model)):
        raise ModelStateError(
            "heedmap needs gradients, which torch.inference_mode forbids; call it outside (torch.no_grad is fine), on a "
            "model that was loaded outside too"
        )
    with _at_rest(model), own_randomness(), _uncompiled(), run_directly(), torch.enable_grad():
        yield


def _some_tensors(model: nn.Module) -> list[Tensor]:
    parameter = next(model.parameters(), None)
    return [] if parameter is None else [parameter]


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled modules and functions run as they were written, until the last of several threads leaves."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and its import takes seconds
        yield
        return
    with _LOCK:
        _STANCES.append(None if _STANCES else torch.compiler.set_stance("force_eager"))
        if len(_STANCES) == 1:
            _STANCES[0].__enter__()
    try:
        yield
    finally:
        with _LOCK:
            stance = _STANCES.pop() if len(_STANCES) == 1 else _STANCES.pop(1)
            if stance is not None:
                stance.__exit__(None, None, None)


@dataclass(frozen=True, eq=False)
class _AsFound:
    """What a model was found as.

    Attributes:
        trained: modules in training mode.
        required: parameters that require grad, by module and name.
        attached: attributes that hold a tensor of a graph of the owner's (a loss kept for later), by module's attributes.
        inside: such tensors in what attributes hold (a list, a cache).
    """

    trained: list[nn.Module]
    required: list[tuple[nn.Module, str, nn.Parameter]]
    attached: list[tuple[dict[str, Any], str, Tensor]]
    inside: list[tuple[Any, Any, Tensor]]

    @classmethod
    def of(cls, model: nn.Module) -> _AsFound:
        modules = list(named_modules(model))
        required = [
            (module, name, parameter)
            for module in modules
            for name, parameter in module._parameters.items()
            if parameter is not None and parameter.requires_grad and parameter.is_leaf
        ]
        trained = [module for module in modules if module.training]
        return cls(trained, required, _attached(modules), _inside(modules))

    def rest(self) -> None:
        for module in self.trained:
            module.training = False
        self._require_grad(False)

    def put_back(self, model: nn.Module) -> None:
        for module in self.trained:
            module.training = True
        self._require_grad(True)
        modules = list(named_modules(model))
        for attributes, name, tensor in _attached(modules):
            attributes[name] = tensor.detach()
        for attributes, name, tensor in self.attached:
            attributes[name] = tensor
        owners = {id(tensor) for _, _, tensor in self.inside}
        for holder, place, tensor in _inside(modules):
            if id(tensor) not in owners:
                holder[place] = tensor.detach()

    def _require_grad(self, wanted: bool) -> None:
        for module, name, parameter in self.required:
            for current in (parameter, module._parameters.get(name)):
                if current is not None and current.is_leaf and current.requires_grad != wanted:
                    current.requires_grad_(wanted)


def _attached(modules: Iterable[nn.Module]) -> list[tuple[dict[str, Any], str, Tensor]]:
    return [
        (vars(module), name, value)
        for module in modules
        for name, value in vars(module).items()
        if type(value) not in _NO_TENSOR and isinstance(value, Tensor) and value.grad_fn is not None
    ]


def _inside(modules: Iterable[nn.Module]) -> list[tuple[Any, Any, Tensor]]:
    """Tensors of a graph in lists, dicts and plain objects that attributes hold, with where each is."""
    seen = set[int]()
    return [
        found
        for module in modules
        for name, value in vars(module).items()
        if name not in _BOOKS and type(value) not in _PLAIN
        for found in _held(value, DEPTH, seen)
    ]


def _held(value: Any, depth: int, seen: set[int]) -> Iterator[tuple[Any, Any, Tensor]]:
    if not depth or id(value) in seen or isinstance(value, (Tensor, nn.Module, type)) or callable(value):
        return
    seen.add(id(value))
    holder = value if isinstance(value, (dict, list, deque)) else getattr(value, "__dict__", None)
    if holder is None:
        return
    for place, entry in holder.items() if isinstance(holder, dict) else enumerate(holder):
        if isinstance(entry, Tensor):
            if entry.grad_fn is not None:
                yield holder, place, entry
        elif type(entry) not in _PLAIN:
            yield from _held(entry, depth - 1, seen)


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """In eval mode, and no parameter requires grad, until the last of several threads leaves; then it is as it was found.

    So nothing below the first attention is kept. The parameters stay what they are, so that a layer that moves, casts or
    loads its weights while it runs finds them, and what it puts in their place requires grad again afterwards. What a module
    keeps of a run as an attribute is left without a graph.
    """
    with _LOCK:
        users, state = _AT_REST.get(model) or (0, _AsFound.of(model))
        _AT_REST[model] = users + 1, state
    try:
        with _LOCK:
            state.rest()
        yield
    finally:
        with _LOCK:
            users, state = _AT_REST.pop(model)
            if users > 1:
                _AT_REST[model] = users - 1, state
            else:
                state.put_back(model)


def record(
    model: nn.Module,
    inputs: Mapping[str, Any],
    batch: int,
    check: bool = True,
    known: dict[Any, Any] | None = None,
    hasty: bool = False,
) -> Recording:
    """Run the model once under the recorder; the first time, for this kind of input, also under the mixing probe.

    What was proved is kept for as long as nothing that could decide where tokens are has changed (see
    :mod:`heedmap.attention.fingerprint`). Where they are, and that no other code runs (:mod:`heedmap.attention.ways`), is
    checked in every run.

    To be called within :func:`recording_state`.

    Args:
        model: the module.
        inputs: what it is called with.
        batch: its batch size.
        check: whether it is to be proved that tokens mix nowhere else.
        known: see :func:`proved`, of the model as it now is; None: it is looked up.
        hasty: see :class:`~heedmap.attention.tape.Tape`; of a run that is to prove.

    Raises:
        AttentionError: see its subclasses.
        InputError: the model's forward refuses the inputs.
    """
    check_no_cache(inputs)
    known = proved(model) if known is None else known
    key = key_of(inputs, batch, check)
    verdict: Verdict | None = known.get(key)
    if verdict is not None:
        try:
            return _recorded(model, inputs, batch, verdict, again=True)
        except _Different:
            pass
    if ("refused", key) in known:
        kind, reason = known["refused", key]
        raise kind(reason)
    before = verdict
    try:
        verdict = _probe(model, inputs, batch, check, hasty)
    except (UnfollowedAttentionError, NoAttentionError) as error:
        if type(error) in (UnfollowedAttentionError, NoAttentionError):  # of the model alone, whatever the input holds
            known["refused", key] = (type(error), str(error))
        raise
    try:
        recording = _recorded(model, inputs, batch, verdict)
    except _Moved:  # half precision was too coarse for the quick check
        verdict.static = False
        recording = _recorded(model, inputs, batch, verdict)
    except _Different as error:
        raise AttentionError(str(error)) from error
    check_same(verdict.answered, recording.output)
    verdict.ways.also(recording.tape.ways)
    if before is not None:
        verdict.ways.also(before.ways)
    known[key] = verdict
    return recording


def key_of(inputs: Mapping[str, Any], batch: int, check: bool) -> Any:
    """What a verdict, and a refusal, is kept for."""
    kept = [getattr(inputs, name, None) for name in ("towers", "turned", "ends")]
    return (batch > 1, check, of_inputs(inputs), *kept)


def to_prove(model: nn.Module, inputs: Mapping[str, Any], batch: int) -> tuple[Tape, Any] | None:
    """The pass that is proved, and its output; None where there is a proof."""
    if key_of(inputs, batch, True) in proved(model):
        return None
    tape = Tape(batch, cut=True)
    seed()
    return tape, call(model, inputs, tape)


class _Different(AttentionError):
    """This run is not like the verified one."""


class _Moved(_Different):
    """Tokens are not where they were."""


def proved(model: nn.Module) -> dict[Any, Any]:
    """What is known of the model as it now is, by kind of input; what is put there is forgotten when it changes."""
    state = of_model(model)
    with _LOCK:
        if model not in _VERDICTS or _VERDICTS[model][0] != state:
            _VERDICTS[model] = (state, {})
        return _VERDICTS[model][1]


def _probe(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool, hasty: bool) -> Verdict:
    """The verdict; where heads are folded into the batch, (batch · heads, …) is tried first, then (heads · batch, …)."""
    tape = Tape(batch, cut=True, hasty=hasty)
    try:
        return _proved(model, inputs, tape, check)
    except MixingError:
        if batch == 1 or not any(a.out.dim() == 3 for a in tape.attentions):
            raise
        try:
            return _proved(model, inputs, Tape(batch, cut=True, heads_first=True), check)
        except AttentionError:
            pass
        raise


def _proved(model: nn.Module, inputs: Mapping[str, Any], tape: Tape, check: bool) -> Verdict:
    seed()
    output = call(model, inputs, tape, noted=True)
    if tape.overwritten is not None:
        tape = Tape(tape.batch, cut=True, copies=True, heads_first=tape.heads_first, hasty=tape.hasty)
        seed()
        output = call(model, inputs, tape, noted=True)
        tape.check_kept()
    if check:
        ask(tape, output)
    with told(tape.attentions):
        verdict = probe.prove(tape, check, output)[0]
    for source in tape.sources:  # the verdict outlives the run; its tensors need not
        source.tensor = None
    return verdict


def _recorded(
    model: nn.Module, inputs: Mapping[str, Any], batch: int, verdict: Verdict, again: bool = False
) -> Recording:
    """A run like the verified one; ``again`` where the verdict is of an earlier call."""
    writes = verdict.writes_in_place
    last = 1 + max((edge.attention for edge in verdict.graph.edges), default=-1)
    tape = Tape(batch, leaves=True, clone=writes, copies=writes, heads_first=verdict.heads_first, last=last)
    seed()
    output = call(model, inputs, tape, noted=True)
    if again and not tape.ways.known(verdict.ways):
        raise _Different("the model ran code that had not run when it was verified")
    if tape.overwritten is not None and not writes:
        verdict.writes_in_place = True
        return _recorded(model, inputs, batch, verdict, again)
    tape.check_kept()
    graph = build(tape)
    try:
        verify_same(verdict.graph, graph)
    except AttentionError as error:
        raise _Different(str(error)) from error
    if verdict.static:
        parts = {index: _laid_out(tape, graph, index, segments) for index, segments in verdict.layout.items()}
        for stream in graph.streams:
            if not token_positions.confirmed(tape, graph, stream, parts.get(stream.index, [])):
                raise _Moved(f"tokens of stream {stream.index} are not where they were when the model was verified")
    else:
        known = probe.located(tape, graph, check=False)
        parts = {
            s.index: token_positions.parts(tape, token_positions.inherited(graph, s, known)) for s in graph.streams
        }
    for attention in tape.attentions:
        attention.sides = {}
    return Recording(tape, graph, parts, output, inputs)


def _laid_out(tape: Tape, graph: Graph, stream: int, segments: list[tuple[int, int]]) -> list[InputSpan]:
    """The segments of a stream, by the proved order and the lengths that this run's leaves have."""
    leaves = [i for i, s in enumerate(tape.sources) if s.kind == "leaf"]
    spans, end = [], 0
    for ordinal, gap in segments:
        source = tape.sources[leaves[ordinal]]
        places = source.shape[2:] if source.spatial else source.shape[1:2]
        start, end = end + gap, end + gap + torch.Size(places).numel()
        positions = torch.arange(start, end).expand(tape.batch, -1)
        spans.append(token_positions.part(source, leaves[ordinal], positions))
    if end > graph.streams[stream].tokens:
        raise _Different(f"stream {stream} has {graph.streams[stream].tokens} tokens where its segments need {end}")
    return spans


def call(model: nn.Module, inputs: Mapping[str, Any], tape: Tape, noted: bool = False) -> Any:
    """The model's output under the recorder; ``noted``: whether the recorder keeps the ways of the run.

    Raises:
        InputError: ``forward`` lacks an input, or refuses those it was given, also without the recorder.
    """
    if not tape.given:  # else the pass before was called with the same
        check_required(model, inputs)
    given = detached(inputs)
    tape.towers, tape.steps = getattr(inputs, "towers", frozenset()), Steps(getattr(inputs, "ends", frozenset()))
    turned: frozenset[str] = getattr(inputs, "turned", frozenset())
    tape.turned = bool(turned)
    for name in contents(inputs):
        given[name] = tape.watch(name, given[name])
    try:
        with tape, tape.ways if noted else nullcontext():
            output = called(model, put_back(given, turned))
        exact = any(attention.dtype == torch.float64 for attention in tape.attentions)
        for attention in tape.attentions:
            attention.exact = exact
        return output
    except (IndexError, RuntimeError) as error:
        known = isinstance(error, HeedmapError) or ran_out(error)
        reason = None if known else misfit(model, inputs)
        if reason is None and "leaf Variable" in str(error):
            raise GradientError(
                "the model writes in place to what an operation without a gradient made (a quantised kernel whose weights are "
                f"packed after its first run?), so no gradient could pass; load the model anew, and explain it first: {error}"
            ) from error
        if reason is None:
            raise
        raise InputError(f"{type(model).__name__} failed: {reason} ({error})") from error
    except (TypeError, ValueError, AttributeError, AssertionError, KeyError) as error:
        if not _refuses(model, inputs, turned):
            raise
        shapes = ", ".join(f"{k} {tuple(v.shape)}" if isinstance(v, Tensor) else k for k, v in inputs.items())
        raise InputError(f"{type(model).__name__} refused the inputs ({shapes}): {error!r}") from error


def _refuses(model: nn.Module, inputs: Mapping[str, Any], turned: frozenset[str]) -> bool:
    """Whether the model fails on the inputs by itself; what fails under the recorder alone is a mistake of heedmap's."""
    seed()
    try:
        with torch.no_grad():
            model(**put_back(detached(inputs), turned))
    except Exception:
        return True
    return False
