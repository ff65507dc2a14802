"""The states of a stream's tokens around its attentions, from one pass more, and methods on them: FullGrad+, AttCAT, TokenTM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.backward import ancestors
from heedmap.attention.flow import Edge, State
from heedmap.attention.residual import Residual, ResidualTape, pushed
from heedmap.errors import UnfollowedAttentionError
from heedmap.lrp.replay import states
from heedmap.methods.layers import for_all_rows, mean_row
from heedmap.methods.method import Method, RelevanceRows, TargetView, undefined, unlike
from heedmap.relevance.chain import AnyMatrix


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


BY_NUMBERS = "tokens are followed by their numbers only (windows, merged tokens, other mixers)"


class _SecondPass:
    """What a method needs of a second pass; ``method`` and ``streams``, what it needs of streams, are for messages."""

    def __init__(self, run: TargetView, method: str, streams: str = "") -> None:
        self.run, self.method, self.streams = run, method, streams
        self.edges = [edge for edge in run.graph.edges if edge.attention in run.gradients]
        if run.replay is None:
            raise self.undefined(BY_NUMBERS)
        if run.heads is not None and run.heads.calls:
            raise self.undefined("the heads of an attention are computed by calls of their own")
        self.replay = run.replay

    def undefined(self, why: str) -> UnfollowedAttentionError:
        """The error that a model cannot have the method."""
        needs = f"it needs {self.streams}a residual connection around each attention and each feed-forward network"
        return undefined(self.method, why, needs, "'generic', 'legrad' or 'rollout'")

    def blocks(self, tape: ResidualTape) -> dict[int, Block]:
        """The block of each attention that the target depends on; errors as of :func:`activations`."""
        if [a.out.shape for a in tape.attentions] != [a.out.shape for a in self.run.attentions]:
            raise unlike("the second forward pass")
        return {edge.attention: self._block(tape, edge) for edge in self.edges}

    def _block(self, tape: ResidualTape, edge: Edge) -> Block:
        index = edge.attention
        residuals = [r for r in tape.residuals if r.attention == index]
        around = [r for r in residuals if r.around]
        attention = tape.attentions[index]
        chained = len(around) == 1 and residuals[0] is around[0]
        if not chained or not (around[0].is_state or (not edge.query_state and _reads(attention.out, around[0]))):
            raise self.undefined(
                f"attention {index} has not one residual connection around it that begins where the one before ended "
                f"({len(around)} seen; parallel branches, windows or tokens that are put together anew)"
            )
        first, *after = (self._batch_first(r, self.run.attentions[index].queries) for r in residuals)
        return Block(attention, first, tuple(after))

    def _batch_first(self, residual: Residual, tokens: int) -> Residual:
        """The connection, its tensors as (batch, tokens, features)."""
        shape, axis = residual.passed.shape, residual.batch_axis
        if len(shape) != 3 or axis is None or shape[1 - axis] != tokens:
            raise self.undefined(f"its states have shape {tuple(shape)}, not (batch, tokens, features)")
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


def _reads(out: Tensor, residual: Residual) -> bool:
    """Whether what is passed by is what the attention reads, where autograd knows both."""
    if residual.edge is None or out.grad_fn is None:
        return True
    return residual.edge.node in ancestors(out)


def chained(run: TargetView, method: str) -> tuple[ResidualTape, dict[int, Block]]:
    """The recorder of a second pass, and the block of each attention that the target depends on; each stream asks itself only.

    Raises:
        UnfollowedAttentionError: there is a cross-attention, a stream takes in another's tokens, tokens are followed by their
            numbers only, or a block is no chain of residual connections.
        AttentionError: the second forward pass was not like the recorded one.
    """
    second = _SecondPass(run, method, "streams that ask themselves only, in blocks with ")
    if any(not e.is_self for e in second.edges):
        raise second.undefined("a stream asks another one (cross-attention)")
    if any(s.joins for s in run.graph.streams):
        raise second.undefined("a stream takes in the tokens of another one")
    tape = ResidualTape(run.batch, heads_first=second.replay.heads_first)
    with torch.enable_grad():
        second.replay.run(tape)
    return tape, second.blocks(tape)


def of_stream(run: TargetView, tape: ResidualTape, stream: int, method: str) -> dict[int, Block]:
    """The block of each attention of a stream to itself that the target depends on; errors as of :func:`activations`."""
    second = _SecondPass(run, method)
    second.edges = [edge for edge in second.edges if edge.stream == stream and edge.is_self]
    return second.blocks(tape)


def activations(
    run: TargetView, options: Mapping[str, object], method: str
) -> list[tuple[Edge, Float[Tensor, "batch tokens"]]]:
    """For each attention that the target depends on, Σ_c x_c ∂y/∂x_c, x the tokens that its residual connection passes by.

    ``method``: for messages.

    Raises:
        UnfollowedAttentionError: tokens are followed by their numbers only, heads are computed by calls of their own, or there
            is no chain of residual connections.
        AttentionError: the second forward pass was not like the recorded one.
        MissingRuleError, GradientError: see :func:`heedmap.lrp.replay.states`.
    """
    kept, second, found = run.from_layer(options["start_layer"]), _SecondPass(run, method), []
    blocks = second.blocks(states(second.replay, balanced=options["gradients"] == "libra"))
    for edge in second.edges:
        if edge.attention in kept:
            around, dtype = blocks[edge.attention].around, run.attentions[edge.attention].dtype
            x = around.passed.detach().to(dtype)
            product = torch.zeros_like(x) if around.gradient is None else x * around.gradient.to(dtype)
            found.append((edge, product.sum(-1)))
    return found


OPTIONS = {"gradients": "libra", "start_layer": 0}
CHOICES = {"gradients": ("libra", "plain")}


def _fullgrad_plus(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    found = activations(run, options, "fullgrad_plus")
    return for_all_rows(run, [(edge.stream, edge.stream, values) for edge, values in found])


FULLGRAD_PLUS = Method(
    name="fullgrad_plus",
    summary="tokens times their (Libra) gradient where they enter each layer, summed over the layers",
    source="Mehri et al., LibraGrad, CVPR 2025, arXiv 2411.16760, after FullGrad of Srinivas and Fleuret, NeurIPS 2019",
    options=OPTIONS,
    choices=CHOICES,
    prepare=_fullgrad_plus,
)


def _attcat(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    layers = []
    for edge, values in activations(run, options, "attcat"):
        if edge.is_self:
            heard = mean_row(run, edge, run.mean_probabilities(edge.attention))
            layers.append((edge.stream, edge.stream, values * heard))
    return for_all_rows(run, layers)


ATTCAT = Method(
    name="attcat",
    summary="tokens times their (Libra) gradient where they enter each layer, weighted by the attention that they get there",
    source="Qiang et al., AttCAT, NeurIPS 2022; with Libra gradients: Mehri et al., CVPR 2025, arXiv 2411.16760",
    options=OPTIONS,
    choices=CHOICES,
    prepare=_attcat,
)


HEADS, STREAM = "heads", "stream"
TOKENS = "batch tokens features"


def transformation(
    before: Float[Tensor, TOKENS], after: Float[Tensor, TOKENS], visible: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """W_i = ‖Ẽ_i‖ / ‖E_i‖ · exp cos(E_i, Ẽ_i) / Σ_k exp cos(E_k, Ẽ_k), over visible tokens; 0 of others, and where E_i is 0."""
    cosines = F.cosine_similarity(before, after, dim=-1)
    shares = cosines.masked_fill(~visible, -torch.inf).softmax(-1)
    lengths = before.norm(dim=-1)
    ratio = after.norm(dim=-1) / torch.where(lengths > 0, lengths, 1.0)
    return ratio.masked_fill(lengths == 0, 0.0) * shares.nan_to_num(0.0)


class _Transformed:
    """The map C of one target: C⁰ = diag ‖E⁰‖, C ← (I + W_FFN)(I + M) C for each block."""

    def __init__(self, run: TargetView, options: Mapping[str, object]) -> None:
        _, self.blocks = chained(run, "token_tm")
        self.run, self.reading = run, options["reading"]
        self.dtype = run.attentions[0].dtype
        self.kept = run.from_layer(options["start_layer"])
        self._known: dict[int, tuple[AnyMatrix, Tensor]] = {}

    def rows(self, stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        """rows @ C of a stream."""
        edges = [e for e in self.run.graph.edges if e.stream == stream and e.attention in state & self.blocks.keys()]
        for edge in reversed([e for e in edges if e.attention in self.kept]):
            matrix, factors = self._of(edge.attention, stream)
            rows = rows * factors[:, None]
            rows = rows + matrix.left(rows)
        first = next((e for e in edges if e.attention in self.kept), None)
        if first is None:
            return {stream: rows}
        lengths = self._cast(self.blocks[first.attention].around.passed).norm(dim=-1)
        return {stream: rows * lengths[:, None]}

    def _of(self, index: int, stream: int) -> tuple[AnyMatrix, Tensor]:
        """M of an attention, and the factors of what follows it, (batch, tokens)."""
        if index not in self._known:
            visible, block = self.run.visible(stream), self.blocks[index]
            factors = [1 + self._weights(r, visible) for r in block.after]
            ones = torch.ones_like(visible, dtype=self.dtype)
            self._known[index] = self._matrix(index, block, visible), torch.stack([ones, *factors]).prod(0)
        return self._known[index]

    def _weights(self, residual: Residual, visible: Tensor) -> Tensor:
        after = residual.result if self.reading == STREAM else residual.branch
        return transformation(self._cast(residual.passed), self._cast(after), visible)

    def _matrix(self, index: int, block: Block, visible: Tensor) -> AnyMatrix:
        if self.reading == STREAM:
            weights = self._weights(block.around, visible)[:, None]

            def of_stream(attention: Attention, gradient: Tensor, rows: slice) -> Tensor:
                attended = attention.probabilities(rows).mean(1) * weights
                return attended * attention.gradient(gradient, rows).clamp_(min=0).mean(1)

            return self.run.weighted(index, of_stream)
        before, made = self._cast(block.around.passed), _per_head(self.run.attentions[index], block)
        each = torch.stack([transformation(before, self._cast(after), visible) for after in made], 1)[:, :, None]

        def of_heads(attention: Attention, gradient: Tensor, rows: slice) -> Tensor:
            return (attention.probabilities(rows).mul_(each) * attention.gradient(gradient, rows).clamp_(min=0)).mean(1)

        return self.run.weighted(index, of_heads)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self.dtype)


def _per_head(attention: Attention, block: Block) -> list[Tensor]:
    """v_h W_O of each head, (batch, tokens, features)."""
    values = attention.value.detach()[:, :, attention.columns]
    values = values.repeat_interleave(attention.heads // values.shape[1], 1)
    again = block.attention
    made = []
    for head in range(attention.heads):
        alone = torch.zeros_like(values)
        alone[:, head] = values[:, head]
        made.append(pushed(again.out, block.around.branch, alone, again.layout))
    return made


def _token_tm(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return _Transformed(run, options).rows


TOKEN_TM = Method(
    name="token_tm",
    summary="positive gradient times attention, each token weighted by how its length and direction change, through all layers",
    source="Wu et al., Token Transformation Matters, CVPR 2024, arXiv 2403.14552; as two public reimplementations have it",
    options={"reading": HEADS, "start_layer": 0, "drop_self": True},
    choices={"reading": (HEADS, STREAM)},
    prepare=_token_tm,
)
