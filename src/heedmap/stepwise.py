"""The relevance of every token of an answer, from one forward pass in which the whole answer is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heedmap.engine import explain
from heedmap.errors import TargetError
from heedmap.explanation import Explanation
from heedmap.outputs import MOST, Context, class_logits
from heedmap.targets import Chosen, Target

if TYPE_CHECKING:
    from torch import nn

    from heedmap.engine import Wrapped
    from heedmap.methods import Method

Progress = Callable[[int, int], None]
"""Is told how many steps are done, and of how many."""


@dataclass(frozen=True, eq=False)
class Said:
    """The tokens of an answer, and where the model says them.

    Attributes:
        tokens: (batch, steps), int64: ids; -1 after the end of a sample's answer.
        rows: (batch, steps), int64: the token of the input that says each, from 0; -1 after the end.
        length: number of tokens of the input among which these rows are; an output may have rows before them.
        others: (batch, steps), int64: the token that each is set against; -1: none.
    """

    tokens: Int[Tensor, "batch steps"]
    rows: Int[Tensor, "batch steps"]
    length: int
    others: Int[Tensor, "batch steps"] | None = None

    @property
    def told(self) -> Bool[Tensor, "batch steps"]:
        """Which steps have a map: no token after the end, none that is set against itself."""
        same = torch.zeros_like(self.tokens, dtype=torch.bool) if self.others is None else self.others == self.tokens
        return (self.tokens >= 0) & ~same

    def step(self, number: int) -> Step:
        """The target of one step. A sample without a map there has the target of its last step before, to be left out."""
        here = torch.where(self.tokens[:, number] >= 0, number, (self.tokens >= 0).sum(1) - 1)[:, None]
        others = None
        if self.others is not None:
            others = self.others.gather(1, here)[:, 0].masked_fill(~self.told.gather(1, here)[:, 0], -1)
        return Step(self.tokens.gather(1, here)[:, 0], self.rows.gather(1, here)[:, 0], self.length, others)


@dataclass(frozen=True, eq=False)
class Step(Target):
    """The logit of each sample's token at its row, less that of another token where there is one.

    Attributes:
        token: (batch,), ids.
        row: (batch,), the token of the input that says it.
        length: see :class:`Said`.
        other: (batch,), ids, -1: none; None: none for all.
    """

    token: Tensor
    row: Tensor
    length: int
    other: Tensor | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = partial(self._values, context)
        return Chosen(values(output), tuple(f"token {i}" for i in self.token.tolist()), again=values)

    def _values(self, context: Context, output: Any) -> Tensor:
        row = logits_at(class_logits(context.read(output), 3), self.row[:, None], self.length)[:, 0]
        found = row.gather(1, self.token.to(row.device)[:, None])[:, 0]
        if self.other is None:
            return found
        other = self.other.to(row.device)
        less = row.gather(1, other.clamp(min=0)[:, None])[:, 0]
        return found - less.masked_fill(other < 0, 0.0)


@dataclass(frozen=True, eq=False)
class Stepwise:
    """The relevance of every step.

    Attributes:
        first: the explanation of the first step, whose segments have all tokens of the input.
        relevance: by segment, (batch, steps, tokens), float32, on the CPU.
        scores: (batch, steps), float32.
        probabilities: (batch, steps), float32, of the tokens.
        best: (batch, steps, tokens), int64, the most probable tokens at each step.
        best_probabilities: (batch, steps, tokens), float32.
    """

    first: Explanation
    relevance: Mapping[str, Float[Tensor, "batch steps tokens"]]
    scores: Float[Tensor, "batch steps"]
    probabilities: Float[Tensor, "batch steps"]
    best: Int[Tensor, "batch steps tokens"]
    best_probabilities: Float[Tensor, "batch steps tokens"]


def explain_steps(
    model: nn.Module | Wrapped,
    inputs: Any,
    said: Said,
    *,
    method: str | Method = "generic",
    progress: Progress = lambda done, of: None,
    **options: Any,
) -> Stepwise:
    """The relevance of every token of ``said``, from one forward pass.

    Args:
        model: as for :func:`heedmap.explain`.
        inputs: what the model is called with, the answer included.
        said: the answer.
        method: as for :func:`heedmap.explain`.
        progress: see :data:`Progress`.
        options: as for :func:`heedmap.explain`.

    Raises:
        HeedmapError: as for :func:`heedmap.explain`.
    """
    seen = _Seen(said)
    steps = range(said.tokens.shape[1])
    found = explain(model, inputs, target=[seen, *map(said.step, steps)], method=method, **options)[1:]
    told = said.told[:, :, None]
    relevance = {
        name: torch.stack([one[name] for one in found], 1).masked_fill(~told, 0.0) for name in found[0].segments
    }
    scores = torch.stack([one.scores for one in found], 1).masked_fill(~said.told, 0.0)
    progress(len(found), len(found))
    return Stepwise(found[0], relevance, scores, *seen.odds())


@dataclass(eq=False)
class _Seen(Target):
    """The first step, which also looks at how probable all tokens are."""

    said: Said
    found: tuple[Tensor, Tensor, Tensor] | None = None

    def choose(self, output: Any, context: Context) -> Chosen:
        logits = class_logits(context.read(output), 3).detach()
        self.found = probable(logits, self.said)
        return self.said.step(0).choose(output, context)

    def odds(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.found is not None
        return self.found


def probable(logits: Float[Tensor, "batch places vocabulary"], said: Said) -> tuple[Tensor, Tensor, Tensor]:
    """How probable each token of the answer is, the most probable ones at its place, and how probable these are."""
    rows = logits_at(logits, said.rows.clamp(min=0), said.length)
    odds = rows.float().softmax(-1)
    own = odds.gather(-1, said.tokens.clamp(min=0).to(odds.device)[..., None])[..., 0].cpu()
    best = odds.topk(min(MOST, odds.shape[-1]), -1)
    return own.masked_fill(said.tokens < 0, 0.0), best.indices.cpu(), best.values.cpu()


def logits_at(
    logits: Float[Tensor, "batch places vocabulary"], rows: Int[Tensor, "batch steps"], length: int
) -> Float[Tensor, "batch steps vocabulary"]:
    """The logits at rows of the input's tokens, before which an output may have places of a picture.

    Raises:
        TargetError: there are fewer places than tokens.
    """
    before = logits.shape[1] - length
    if before < 0:
        raise TargetError(
            f"the logits have {logits.shape[1]} places for {length} tokens, so those of the answer are not known; give a model "
            "that answers at each token"
        )
    samples = torch.arange(len(logits), device=logits.device)[:, None]
    return logits[samples, rows.to(logits.device) + before]
