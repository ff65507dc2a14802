"""Value zeroing: how far a layer's output of each token turns where the values of another token are zero in that layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.flow import Edge, State
from heedmap.attention.residual import ResidualTape, Sum, laid_back
from heedmap.common.progress import Passes
from heedmap.methods.method import Method, RelevanceRows, TargetView, block_rows, unlike
from heedmap.methods.states import chained

NAME = "value_zeroing"
Mixing = Float[Tensor, "batch tokens tokens"]


def turned(
    before: Float[Tensor, "batch tokens features"], after: Float[Tensor, "batch tokens features"]
) -> Float[Tensor, "batch tokens"]:
    """1 − cos of each token's two states, as half the squared distance of their directions: small ones stay exact."""
    return (F.normalize(before, dim=-1) - F.normalize(after, dim=-1)).square().sum(-1) / 2


def mixing(distances: Mixing) -> Mixing:
    """Each row scaled to sum to 1; a token that nothing turns is mixed of itself alone."""
    sums = distances.sum(-1, keepdim=True)
    alone = torch.eye(distances.shape[1], dtype=distances.dtype, device=distances.device)
    return torch.where(sums > 0, distances / torch.where(sums > 0, sums, 1.0), alone)


def without_value(attention: Attention, token: int, step: int) -> Tensor:
    """o of an attention without what one token's values bring, in the model's layout; A is made ``step`` rows at a time."""
    starts = range(0, attention.queries, step)
    heard = torch.cat([attention.probabilities(slice(start, start + step))[..., token] for start in starts], 2)
    value = attention.value.detach()[:, :, attention.columns][:, :, token].to(heard.dtype)
    value = value.repeat_interleave(attention.heads // value.shape[1], 1)
    out = attention.out.detach()
    return out - laid_back(out, heard[..., None] * value[:, :, None], attention.layout)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A block of the recorded pass; tensors are in the model's layout.

    Attributes:
        around: number of the residual connection around its attention.
        last: number of its last residual connection.
        normed: whether it hands on the norm of that one's result, not the result.
        following: number of the connection around the next attention of its stream, which passes by what it hands on.
        passed: what the connection around its attention passes by.
        output: what it hands on.
        batch_axis: of these.
    """

    around: int
    last: int
    normed: bool
    following: int | None
    passed: Tensor
    output: Tensor
    batch_axis: int

    def after(self, tape: ResidualTape) -> Tensor:
        """What it hands on in a pass; in one with other outputs of attention, what it would."""
        if self.following is not None:
            return tape.met[self.following] if isinstance(tape, _ZeroedTape) else tape.residuals[self.following].passed
        return tape.norms[self.last] if self.normed else tape.residuals[self.last].result


def _layers(tape: ResidualTape, edges: Sequence[Edge]) -> dict[int, _Layer]:
    """The blocks of all attentions, each of which has its residual connections."""
    numbers = {e.attention: [n for n, r in enumerate(tape.residuals) if r.attention == e.attention] for e in edges}
    layers = {}
    for place, edge in enumerate(edges):
        own = numbers[edge.attention]
        later = [e.attention for e in edges[place + 1 :] if e.stream == edge.stream]
        following = numbers[later[0]][0] if later else None
        pairs = [(own[-1], following)] if following is not None else list(pairwise(own))
        normed = any(_is_norm(tape, before, after) for before, after in pairs) and own[-1] in tape.norms
        around = tape.residuals[own[0]]
        assert around.batch_axis is not None
        passed = around.passed.detach()
        layer = _Layer(own[0], own[-1], normed, following, passed, passed, around.batch_axis)
        layers[edge.attention] = replace(layer, output=layer.after(tape).detach())
    return layers


def _is_norm(tape: ResidualTape, before: int, after: int) -> bool:
    """Whether a residual connection passes by the norm of the result of the one before."""
    return before in tape.norms and torch.equal(tape.residuals[after].passed, tape.norms[before])


class _ZeroedTape(ResidualTape):
    """The recorder of a pass in which each attention gives what it is told, and each block begins where it began before.

    Attributes:
        outputs: attention → what it gives.
        passed: number of a residual connection → what it passes by.
        met: number of a residual connection → what it would have passed by.
    """

    def __init__(
        self, batch: int, heads_first: bool, outputs: Mapping[int, Tensor], passed: Mapping[int, Tensor]
    ) -> None:
        super().__init__(batch, heads_first=heads_first)
        self.outputs, self.passed = outputs, passed
        self.met: dict[int, Tensor] = {}

    def _record(self, attention: Attention) -> Tensor:
        given = super()._record(attention)
        if attention.index in self.outputs:
            with torch._C.DisableTorchFunction():
                given.copy_(self.outputs[attention.index])
        return given

    def passing(self, known: Sum, args: tuple[Tensor, ...], in_place: bool) -> tuple[Tensor, ...]:
        """What the recorded pass passed by in place of what this one would."""
        number = len(self.residuals)
        if number not in self.passed:
            return args
        instead, given = self.passed[number], args[known.passed]
        self.met[number] = given.clone()
        if in_place and known.passed == 0:
            given.copy_(instead)
            return args
        self.set_tag(instead, self.tag(given))
        return (instead, args[1]) if known.passed == 0 else (args[0], instead)


class _Zeroed:
    """The mixing C of each layer of one target."""

    def __init__(self, run: TargetView, options: Mapping[str, object]) -> None:
        tape, blocks = chained(run, NAME)
        self.run, self.kept = run, run.from_layer(options["start_layer"])
        self.edges = [edge for edge in run.graph.edges if edge.attention in blocks]
        self.layers = _layers(tape, self.edges)

    def rows(self, stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        """rows @ C_L … C_1 of a stream."""
        for edge in reversed(self.edges):
            if edge.stream == stream and edge.attention in state & self.kept:
                rows = rows @ self._mixings[edge.attention]
        return {stream: rows}

    @cached_property
    def _mixings(self) -> dict[int, Mixing]:
        attentions = {index: self.run.attentions[index] for index in self.layers}
        found = {index: a.value.new_zeros(a.batch, a.queries, a.keys, dtype=a.dtype) for index, a in attentions.items()}
        tokens = self._tokens()
        passes = Passes(len(tokens))
        for token in tokens:
            for index, distances in self._without(token).items():
                found[index][:, :, token] = distances
            passes.done()
        return {index: mixing(distances) for index, distances in found.items()}

    def _tokens(self) -> list[int]:
        """Those that are no padding in all samples of all streams."""
        visible = [self.run.visible(stream).any(0) for stream in {edge.stream for edge in self.edges}]
        return sorted({token for seen in visible for token in seen.nonzero()[:, 0].tolist()})

    def _without(self, token: int) -> dict[int, Tensor]:
        """How far each layer turns its tokens where the values of one are zero in it, (batch, tokens)."""
        attentions = {i: a for i in self.layers if token < (a := self.run.attentions[i]).keys}
        budget = self.run.memory_budget
        outputs = {i: without_value(a, token, block_rows(a, budget)) for i, a in attentions.items()}
        replay = self.run.replay
        assert replay is not None
        passed = {layer.around: layer.passed for layer in self.layers.values()}
        tape = _ZeroedTape(self.run.batch, replay.heads_first, outputs, passed)
        with torch.no_grad():
            replay.run(tape)
        return {i: self._turned(tape, self.layers[i], a.dtype) for i, a in attentions.items()}

    def _turned(self, tape: _ZeroedTape, layer: _Layer, dtype: torch.dtype) -> Tensor:
        try:
            states = layer.output, layer.after(tape)
        except (IndexError, KeyError) as error:
            raise unlike("a further pass") from error
        before, after = (state.detach().to(dtype).movedim(layer.batch_axis, 0) for state in states)
        return turned(before, after)


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return _Zeroed(run, options).rows


VALUE_ZEROING = Method(
    name=NAME,
    summary="how far each layer turns a token where another one's values are zero in it, multiplied through the layers",
    source="Mohebbi et al., Quantifying Context Mixing in Transformers, EACL 2023, arXiv 2301.12971, with its rollout",
    options={"start_layer": 0, "drop_self": True},
    prepare=_prepare,
)
