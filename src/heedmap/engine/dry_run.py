"""What an explanation would take, told before it is made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heedmap.attention import forward, placing
from heedmap.attention.at_rest import recording_state
from heedmap.attention.inputs import detached
from heedmap.engine.explain import Engine, MethodCall, Wrapped, find_method
from heedmap.engine.planning import Plan, check_proof, is_counted, proof_peak, seconds
from heedmap.engine.without_attention import AUTO
from heedmap.methods import METHODS, Method
from heedmap.methods.run import MEMORY_BUDGET
from heedmap.targets import AnyTarget

if TYPE_CHECKING:
    from heedmap.types import Entry, Inputs

TIMED = 3
"""So many forward passes are timed; the quickest one counts."""
PROOF = "a first call also proves where tokens mix, which takes a few forward passes more"
NUMBERS = "the model's tokens are followed by their numbers (windows, merged tokens, other mixers); that is not counted"
MORE = "what this method does beside one forward pass and a backward pass a target is not counted"


def plan(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    target: AnyTarget | list[Entry] = None,
    method: str | Method = "generic",
    full: bool = False,
    memory: int | str | None = None,
    memory_budget: int = MEMORY_BUDGET,
    labels: Mapping[int, str] | None = None,
    segments: Mapping[str, str] | None = None,
    mixers: bool = True,
    **options: object,
) -> Plan:
    """How :func:`heedmap.explain` would make an explanation, how much memory it would take, and about how long.

    The model runs a few times, forward. No target is pulled back and nothing is proved; to find where tokens are, the recorder
    pulls back through what lies before the first attention.

    Args:
        model: as for :func:`heedmap.explain`, and so on for all others.
        inputs: as there.
        target: as there.
        method: as there.
        full: as there.
        memory: as there.
        memory_budget: as there.
        labels: as there.
        segments: as there.
        mixers: as there.
        options: as there.

    Returns:
        The plan, by which an explanation of the same is made.

    Raises:
        OptionError: the memory does not suffice for the smallest blocks, or for the proof of a first call; the message says
            what does.
        AttentionError: the model's attention is not followed, so there is nothing to plan.
        HeedmapError: as for :func:`heedmap.explain`.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/vit-shapes")
        >>> inputs = subject.inputs(image=heedmap.zoo_sample("vit-shapes").picture)
        >>> plan = heedmap.plan(subject, inputs, target=heedmap.targets.TopClasses(10), memory="100MB")
        >>> plan.targets, plan.at_once, plan.tokens, plan.peak <= plan.memory
        (10, 8, (145,), True)
    """
    recipe = METHODS["generic"] if method == AUTO else find_method(method)
    resolved = recipe.resolve(options)
    engine = Engine(model, inputs, labels, False, memory_budget, segments, mixers, memory)
    with recording_state(engine.model):
        parts = list(engine.narrowed(engine.each(engine.targets(target))))
        engine, targets = parts[0]
        recording, named = engine.record(whole=recipe.attribute is None)
        if method == AUTO:
            recipe = METHODS[engine.supported(recording, named, full)[0].name]
            resolved = recipe.resolve({})
        with recording.tape:
            for of_target in targets:
                of_target.choose(recording.output, engine.context)
        made = engine.plan(recording, MethodCall(recipe, resolved, full), len(targets))
        attentions, plain = recording.tape.attentions, recording.live is None
        given = recording.inputs
        del recording
        passed = (forward if plain else placing).to_prove(engine.model, given, engine.batch)
        proof = 0 if passed is None else proof_peak(passed[0], passed[1], engine.model)
        del passed
        if engine.memory is not None:
            check_proof(engine.memory, proof)
        forward_seconds, operations = _timed(engine.model, engine.inputs.given())
    counted = is_counted(recipe, resolved)
    notes = (PROOF, *(() if counted else (MORE,)), *(() if plain else (NUMBERS,)))
    return replace(
        made,
        peak=max(made.peak, proof),
        least=max(made.least, proof),
        targets=sum(len(of_part) for _, of_part in parts),
        seconds=len(parts) * seconds(forward_seconds, operations, attentions, len(targets))
        if plain and counted
        else None,
        forward_seconds=forward_seconds,
        notes=notes,
        proof=proof,
    )


def _timed(model: nn.Module, inputs: Mapping[str, object]) -> tuple[float, float]:
    """Seconds of a plain forward pass, and its operations."""
    taken = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(**detached(inputs))
        for _ in range(TIMED):
            given, began = detached(inputs), time.perf_counter()
            model(**given)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return min(taken), float(counter.get_total_flops())
