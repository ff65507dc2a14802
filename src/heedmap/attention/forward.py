"""One recorded forward pass of an unmodified model, and the verdict of the mixing probe on it."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention import layout, probe
from heedmap.attention.flow import Graph, build, verify_same
from heedmap.attention.inputs import check_required, detached, is_content, misfit
from heedmap.attention.layout import Part
from heedmap.attention.probe import Verdict
from heedmap.attention.tape import Tape
from heedmap.errors import AttentionError, HeedmapError, InputError, ModelStateError

_LOCK = threading.RLock()
_MODES: weakref.WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = weakref.WeakKeyDictionary()
_RANDOM: dict[str, Any] = {}
_STANCES: list[Any] = []
_VERDICTS: weakref.WeakKeyDictionary[nn.Module, dict[Any, Verdict]] = weakref.WeakKeyDictionary()


@dataclass(eq=False)
class Recording:
    """A recorded forward pass.

    Attributes:
        tape: attentions and sources.
        graph: streams and edges.
        parts: for each stream, its segments.
        output: of the model, attached to the graph.
        inputs: what the model was called with.
    """

    tape: Tape
    graph: Graph
    parts: dict[int, list[Part]]
    output: Any
    inputs: dict[str, Any]


@contextmanager
def recording_state(model: nn.Module) -> Iterator[None]:
    """Gradients on, dropout off, a fixed seed; afterwards everything is as before, also after an exception.

    Raises:
        ModelStateError: under ``torch.inference_mode``, whose tensors cannot have gradients.
    """
    if torch.is_inference_mode_enabled() or any(t.is_inference() for t in _some_tensors(model)):
        raise ModelStateError(
            "heedmap needs gradients, which torch.inference_mode forbids; call it outside (torch.no_grad is fine), on a "
            "model that was loaded outside too"
        )
    with _evaluating(model), _own_randomness(), _uncompiled(), torch.enable_grad():
        yield


def _some_tensors(model: nn.Module) -> list[Tensor]:
    parameter = next(model.parameters(), None)
    return [] if parameter is None else [parameter]


@contextmanager
def _own_randomness() -> Iterator[None]:
    """The generators' states are put back by the last of several threads to leave: they belong to the process."""
    with _LOCK:
        _RANDOM["users"] = _RANDOM.get("users", 0) + 1
        if _RANDOM["users"] == 1:
            _RANDOM["cpu"] = torch.get_rng_state()
            _RANDOM["cuda"] = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        with _LOCK:
            _RANDOM["users"] -= 1
            if _RANDOM["users"] == 0:
                torch.set_rng_state(_RANDOM["cpu"])
                if _RANDOM["cuda"]:
                    torch.cuda.set_rng_state_all(_RANDOM["cuda"])


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


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """All modules in eval mode until the last of several threads leaves."""
    with _LOCK:
        users, trained = _MODES.get(model, (0, []))
        if users == 0:
            trained = [m for m in model.modules() if m.training]
            for module in trained:
                module.training = False
        _MODES[model] = users + 1, trained
    try:
        yield
    finally:
        with _LOCK:
            users, trained = _MODES.pop(model)
            if users > 1:
                _MODES[model] = users - 1, trained
            else:
                for module in trained:
                    module.training = True


def record(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool = True) -> Recording:
    """Run the model once under the recorder; the first time, for this kind of input, also under the mixing probe.

    To be called within :func:`recording_state`.

    Raises:
        AttentionError: see its subclasses.
        InputError: the model's forward refuses the inputs.
    """
    key = _kind_of(model, inputs, check)
    verdict = _VERDICTS.get(model, {}).get(key)
    if verdict is not None:
        try:
            return _recorded(model, inputs, batch, verdict)
        except _Different:
            pass
    verdict = _probe(model, inputs, batch, check)
    try:
        found = _recorded(model, inputs, batch, verdict)
    except _Different as error:
        raise AttentionError(str(error)) from error
    with _LOCK:
        _VERDICTS.setdefault(model, {})[key] = verdict
    return found


class _Different(AttentionError):
    """This run is not like the verified one."""


def _kind_of(model: nn.Module, inputs: Mapping[str, Any], check: bool) -> Any:
    """What a verdict holds for: input names, image sizes, attention implementation; not the number of words."""
    kernel = getattr(getattr(model, "config", None), "_attn_implementation", None)
    shapes = tuple(
        (name, value.dim(), tuple(value.shape[2:]) if value.dim() > 3 else ()) if isinstance(value, Tensor) else (name,)
        for name, value in sorted(inputs.items())
    )
    dtype = next((p.dtype for p in model.parameters()), None)
    return shapes, kernel, dtype, check


def _probe(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool) -> Verdict:
    tape = Tape(batch, cut=True)
    torch.manual_seed(0)
    call(model, inputs, tape)
    return probe.prove(tape, check)[0]


def _recorded(model: nn.Module, inputs: Mapping[str, Any], batch: int, verdict: Verdict) -> Recording:
    tape = Tape(batch, leaves=not verdict.static, clone=verdict.writes_in_place)
    torch.manual_seed(0)
    output = call(model, inputs, tape)
    graph = build(tape)
    try:
        verify_same(verdict.graph, graph)
    except AttentionError as error:
        raise _Different(str(error)) from error
    if verdict.static:
        parts = {index: _laid_out(tape, graph, index, segments) for index, segments in verdict.layout.items()}
    else:
        known = probe.located(tape, graph, check=False)
        parts = {s.index: layout.parts(tape, layout.inherited(graph, s, known)) for s in graph.streams}
    return Recording(tape, graph, parts, output, dict(inputs))


def _laid_out(tape: Tape, graph: Graph, stream: int, segments: list[tuple[int, int]]) -> list[Part]:
    """The segments of a stream, by the proved order and the lengths that this run's leaves have."""
    leaves = [i for i, s in enumerate(tape.sources) if s.kind == "leaf"]
    found, end = [], 0
    for ordinal, gap in segments:
        source = tape.sources[leaves[ordinal]]
        places = source.shape[2:] if source.spatial else source.shape[1:2]
        start, end = end + gap, end + gap + torch.Size(places).numel()
        positions = torch.arange(start, end).expand(tape.batch, -1)
        found.append(layout.part(source, leaves[ordinal], positions))
    if end > graph.streams[stream].tokens:
        raise _Different(f"stream {stream} has {graph.streams[stream].tokens} tokens where its segments need {end}")
    return found


def call(model: nn.Module, inputs: Mapping[str, Any], tape: Tape) -> Any:
    """The model's output under the recorder.

    Raises:
        InputError: ``forward`` lacks an input, or refuses those it was given.
    """
    check_required(model, inputs)
    given = detached(inputs)
    for name, value in given.items():
        if is_content(name, value):
            given[name] = tape.watch(name, value)
    try:
        with tape:
            return model(**given)
    except (IndexError, RuntimeError) as error:
        reason = None if isinstance(error, HeedmapError) else misfit(model, inputs)
        if reason is None:
            raise
        raise InputError(f"{type(model).__name__} failed: {reason} ({error})") from error
    except (TypeError, ValueError, AttributeError, AssertionError, KeyError) as error:
        shapes = ", ".join(f"{k} {tuple(v.shape)}" if isinstance(v, Tensor) else k for k, v in inputs.items())
        raise InputError(f"{type(model).__name__} refused the inputs ({shapes}): {error!r}") from error
