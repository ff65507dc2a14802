"""The states of a stream's tokens around its attentions, from one pass more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.at_rest import seed
from heedmap.attention.attention import Attention
from heedmap.attention.backward import ancestors
from heedmap.attention.flow import Edge
from heedmap.attention.forward import call
from heedmap.attention.residual import Residual, ResidualTape
from heedmap.errors import UnfollowedAttentionError
from heedmap.lrp.replay import ForwardCall, states
from heedmap.methods.run import TargetView, unlike


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


OF_ONE = "streams that ask themselves only, in blocks with "
BY_NUMBERS = "tokens are followed by their numbers only (windows, merged tokens, other mixers)"
NEEDS = "a residual connection around each attention and each feed-forward network"


def chained(run: TargetView, method: str) -> tuple[ResidualTape, dict[int, Block]]:
    """The recorder of a second pass, and the block of each attention that the target depends on; each stream asks itself only.

    Raises:
        UnfollowedAttentionError: there is a cross-attention, a stream takes in another's tokens, tokens are followed by their
            numbers only, or a block is no chain of residual connections.
        AttentionError: the second forward pass was not like the recorded one.
    """
    replay = _replay(run, method, OF_ONE)
    cross = [e for e in _read(run) if not e.is_self]
    if cross or any(s.joins for s in run.graph.streams):
        raise _undefined(
            method,
            "a stream asks another one (cross-attention)" if cross else "a stream takes in the tokens of another one",
            OF_ONE,
        )
    tape = ResidualTape(run.batch, heads_first=replay.heads_first)
    seed()
    with torch.enable_grad():
        call(replay.model, replay.inputs, tape)
    return tape, _blocks(run, tape, method, OF_ONE)


def activations(run: TargetView, method: str, balanced: bool) -> dict[int, Float[Tensor, "batch tokens"]]:
    """For each attention that the target depends on, Σ_c x_c ∂y/∂x_c, x the tokens that its residual connection passes by.

    ``method``: for messages; ``balanced``: whether ∂y/∂x is Libra's.

    Raises:
        UnfollowedAttentionError: tokens are followed by their numbers only, or there is no chain of residual connections.
        AttentionError: the second forward pass was not like the recorded one.
        MissingRuleError, GradientError: see :func:`heedmap.lrp.replay.states`.
    """
    replay = _replay(run, method)
    found = {}
    for index, block in _blocks(run, states(replay, balanced), method).items():
        x, gradient = block.around.passed.detach(), block.around.gradient
        dtype = run.attentions[index].dtype
        product = torch.zeros_like(x, dtype=dtype) if gradient is None else x.to(dtype) * gradient.to(dtype)
        found[index] = product.sum(-1)
    return found


def of_stream(run: TargetView, tape: ResidualTape, stream: int, method: str) -> dict[int, Block]:
    """The block of each attention of a stream to itself that the target depends on, of a second pass.

    Raises:
        UnfollowedAttentionError, AttentionError: as of :func:`activations`.
    """
    _replay(run, method)
    edges = [edge for edge in _read(run) if edge.stream == stream and edge.is_self]
    return _blocks(run, tape, method, edges=edges)


def _replay(run: TargetView, method: str, needs: str = "") -> ForwardCall:
    if run.replay is None:
        raise _undefined(method, BY_NUMBERS, needs)
    if run.heads is not None and run.heads.calls:
        raise _undefined(method, "the heads of an attention are computed by calls of their own", needs)
    return run.replay


def _blocks(
    run: TargetView, tape: ResidualTape, method: str, needs: str = "", edges: Sequence[Edge] | None = None
) -> dict[int, Block]:
    if [a.out.shape for a in tape.attentions] != [a.out.shape for a in run.attentions]:
        raise unlike("the second forward pass")
    wanted = _read(run) if edges is None else edges
    return {edge.attention: _block(run, tape, edge, method, needs) for edge in wanted}


def _read(run: TargetView) -> list[Edge]:
    """The edges that the target depends on."""
    return [edge for edge in run.graph.edges if edge.attention in run.gradients]


def _block(run: TargetView, tape: ResidualTape, edge: Edge, method: str, needs: str) -> Block:
    index = edge.attention
    residuals = [r for r in tape.residuals if r.attention == index]
    around = [r for r in residuals if r.around]
    attention = tape.attentions[index]
    chained = len(around) == 1 and residuals[0] is around[0]
    if not chained or not (around[0].is_state or (not edge.query_state and _reads(attention.out, around[0]))):
        raise _undefined(
            method,
            f"attention {index} has not one residual connection around it that begins where the one before ended "
            f"({len(around)} seen; parallel branches, windows or tokens that are put together anew)",
            needs,
        )
    tokens = run.attentions[index].queries
    placed = [_batch_first(r, tokens, method, needs) for r in residuals]
    return Block(attention, placed[0], tuple(placed[1:]))


def _reads(out: Tensor, residual: Residual) -> bool:
    """Whether what is passed by is what the attention reads, where autograd knows both."""
    if residual.edge is None or out.grad_fn is None:
        return True
    return residual.edge.node in ancestors(out)


def _batch_first(residual: Residual, tokens: int, method: str, needs: str) -> Residual:
    """The connection, its tensors as (batch, tokens, features)."""
    shape, axis = residual.passed.shape, residual.batch_axis
    if len(shape) != 3 or axis is None or shape[1 - axis] != tokens:
        raise _undefined(method, f"its states have shape {tuple(shape)}, not (batch, tokens, features)", needs)
    if axis == 0:
        return residual
    with torch.enable_grad():  # what is turned stays on the way from attention
        return replace(
            residual,
            passed=residual.passed.transpose(0, 1),
            branch=residual.branch.transpose(0, 1),
            result=residual.result.transpose(0, 1),
            gradient=None if residual.gradient is None else residual.gradient.transpose(0, 1),
        )


def _undefined(method: str, why: str, needs: str) -> UnfollowedAttentionError:
    return UnfollowedAttentionError(
        f"method {method!r} is not defined here: {why}; it needs {needs}{NEEDS}, so there is no map; choose 'generic', "
        "'legrad' or 'rollout'"
    )
