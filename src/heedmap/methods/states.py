"""The states of a stream's tokens around its attentions, from one pass more."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.forward import call
from heedmap.attention.randomness import seed
from heedmap.attention.residual import Residual, ResidualTape
from heedmap.errors import AttentionError, UnfollowedAttentionError
from heedmap.methods.run import TargetView


@dataclass(frozen=True, eq=False)
class Block:
    """One self-attention of a stream with what follows it, as the second pass has them.

    Attributes:
        attention: of the second pass, its output attached to the graph.
        around: the residual connection around it.
        after: those around what follows (the feed-forward network), before the stream's next attention.
    """

    attention: Attention
    around: Residual
    after: tuple[Residual, ...]


def blocks(run: TargetView, method: str) -> dict[int, Block]:
    """The block of each attention, by index. Tensors are (batch, tokens, features).

    Raises:
        UnfollowedAttentionError: there is a cross-attention, a stream takes in another's tokens, tokens are followed by their
            numbers only, or a block is no chain of residual connections.
        AttentionError: the second forward pass was not like the recorded one.
    """
    if run.replay is None:
        raise _undefined(method, "tokens are followed by their numbers only (windows, merged tokens, other mixers)")
    cross = [e for e in run.graph.edges if not e.is_self]
    if cross or any(s.joins for s in run.graph.streams):
        raise _undefined(
            method,
            "a stream asks another one (cross-attention)" if cross else "a stream takes in the tokens of another one",
        )
    if run.heads is not None and run.heads.calls:
        raise _undefined(method, "the heads of an attention are computed by calls of their own")
    tape = ResidualTape(run.batch, heads_first=run.replay.heads_first)
    seed()
    with torch.enable_grad():
        call(run.replay.model, run.replay.inputs, tape)
    if [a.out.shape for a in tape.attentions] != [a.out.shape for a in run.attentions]:
        raise AttentionError(
            "the second forward pass is not like the recorded one: the model does not do the same thing twice on equal input; "
            "make it deterministic"
        )
    return {edge.attention: _block(run, tape, edge.attention, method) for edge in run.graph.edges}


def _block(run: TargetView, tape: ResidualTape, index: int, method: str) -> Block:
    edge = next(e for e in run.graph.edges if e.attention == index)
    first = not edge.query_state
    residuals = [r for r in tape.residuals if r.attention == index]
    around = [r for r in residuals if r.around]
    if len(around) != 1 or residuals[0] is not around[0] or not (first or around[0].is_state):
        raise _undefined(
            method,
            f"attention {index} has not one residual connection around it that begins where the one before ended "
            f"({len(around)} seen; parallel branches, windows or tokens that are put together anew)",
        )
    tokens = run.attentions[index].queries
    placed = [_batch_first(run, r, tokens, method) for r in residuals]
    return Block(tape.attentions[index], placed[0], tuple(placed[1:]))


def _batch_first(run: TargetView, residual: Residual, tokens: int, method: str) -> Residual:
    """The connection, its tensors as (batch, tokens, features)."""
    shape = residual.passed.shape
    fits = [shape[:2] == (run.batch, tokens), shape[:2] == (tokens, run.batch)]
    if len(shape) != 3 or not any(fits):
        raise _undefined(method, f"its states have shape {tuple(shape)}, not (batch, tokens, features)")
    if all(fits) and run.batch > 1:
        raise _undefined(
            method, f"a batch of {run.batch} samples with {tokens} tokens each may be turned; explain them one by one"
        )
    if fits[0]:
        return residual

    def turned(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1)

    return replace(
        residual,
        passed=turned(residual.passed),
        branch=turned(residual.branch),
        result=turned(residual.result),
    )


def _undefined(method: str, why: str) -> UnfollowedAttentionError:
    return UnfollowedAttentionError(
        f"method {method!r} is not defined here: {why}; it needs streams that ask themselves only, in blocks with a residual "
        "connection around each attention and each feed-forward network, so there is no map; choose 'generic', 'legrad' or "
        "'rollout'"
    )
