"""A recording by token numbers, of models whose tokens the first recorder cannot follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from heedmap.attention.flow import verify_same
from heedmap.attention.forward import Recording, call
from heedmap.attention.inputs import check_no_cache
from heedmap.attention.placed import PlacedTape
from heedmap.attention.placed_flow import Builder, prove
from heedmap.attention.places import told
from heedmap.attention.randomness import seed
from heedmap.errors import NoAttentionError


def record(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool = True) -> Recording:
    """Run the model under the second recorder, and prove that tokens mix in what was recorded only.

    To be called within :func:`heedmap.attention.forward.recording_state`.

    Raises:
        AttentionError: see its subclasses.
    """
    check_no_cache(inputs)
    tokens = frozenset[int]()
    while True:
        tape, output = _run(model, inputs, PlacedTape(batch, cut=True, tokens=tokens))
        with told(tape.attentions):
            builder = Builder(tape, output)
            try:
                graph, more = builder.build(), frozenset(builder.ancestors) - tokens
            except NoAttentionError:
                more = tape.firsts - tokens
                if not more:
                    raise
        if not more:
            break
        tokens |= more
    with told(tape.attentions):
        if check:
            prove(tape, builder)
    tape, output = _run(model, inputs, PlacedTape(batch, tokens=tokens))
    builder = Builder(tape, output)
    verify_same(graph, builder.build())
    tape.reads.clear()
    return Recording(
        tape, builder.graph, builder.parts(), output, inputs, frozenset(builder.live), builder.read_by_target
    )


def _run(model: nn.Module, inputs: Mapping[str, Any], tape: PlacedTape) -> tuple[PlacedTape, Any]:
    seed()
    return tape, call(model, inputs, tape)
