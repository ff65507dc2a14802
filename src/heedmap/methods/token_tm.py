"""TokenTM: attention weighted by how far each token's transformation changes its length and direction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.flow import State
from heedmap.attention.residual import Residual, pushed
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.methods.states import Block, chained
from heedmap.relevance.chain import AnyMatrix

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
        attention, gradient = self.run.attentions[index], self.run.gradients[index]
        if self.reading == STREAM:
            weights = self._weights(block.around, visible)[:, None]

            def of_stream(rows: slice) -> Tensor:
                attended = attention.probabilities(rows).mean(1) * weights
                return attended * attention.gradient(gradient, rows).clamp_(min=0).mean(1)

            return self.run.matrix(attention, of_stream)
        before = self._cast(block.around.passed)
        each = [transformation(before, self._cast(after), visible) for after in _per_head(attention, block)]
        of_heads = torch.stack(each, 1)[:, :, None]
        return self.run.matrix(
            attention,
            lambda rows: (
                attention.probabilities(rows).mul_(of_heads) * attention.gradient(gradient, rows).clamp_(min=0)
            ).mean(1),
        )

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


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return _Transformed(run, options).rows


METHOD = Method(
    name="token_tm",
    summary="positive gradient times attention, each token weighted by how its length and direction change, through all layers",
    source="Wu et al., Token Transformation Matters, CVPR 2024, arXiv 2403.14552; as two public reimplementations have it",
    options={"reading": HEADS, "start_layer": 0, "drop_self": True},
    choices={"reading": (HEADS, STREAM)},
    prepare=_prepare,
)
