"""Relevance of named streams by the paper's rules, as dense matrices in float64."""

from __future__ import annotations

import torch
from torch import Tensor


class Relevance:
    """R^{sx} by the paper's rules, of streams that are named, with those of which the tokens of others were made."""

    def __init__(self) -> None:
        self.R: dict[tuple[str, str], Tensor] = {}

    def begin(self, stream: str, tokens: int, made_of: str | None = None, by: Tensor | None = None) -> None:
        """R^{ss} = I; of what it is made of, M R."""
        if made_of is not None:
            assert by is not None
            self.take(stream, made_of, by)
        self.R[stream, stream] = torch.eye(tokens, dtype=torch.float64)

    def take(self, stream: str, other: str, by: Tensor) -> None:
        """What another stream's tokens are of is added to that of the tokens made of them."""
        for (s, x), R in list(self.R.items()):
            if s == other:
                self.R[stream, x] = by @ R + self.R.get((stream, x), torch.zeros(()))

    def ask(self, s: str, q: str, cam: Tensor) -> None:
        """Rules 6 and 7 of a stream that asks itself, 10 and 11 of one that asks another."""
        before = dict(self.R)
        for (stream, x), R in before.items():
            if stream == q:
                added = self._rule_10(s, q, cam) if s != q and x == q else cam @ R
                self.R[s, x] = before[s, x] + added if (s, x) in before else added

    def _rule_10(self, s: str, q: str, cam: Tensor) -> Tensor:
        asks, asked = (bar(self.R[x, x]) for x in (s, q))
        return asks.T @ cam @ asked


def bar(R: Tensor) -> Tensor:
    """Equations 8 and 9; a row of R − I that is zero stays zero."""
    rest = R - torch.eye(len(R), dtype=R.dtype)
    sums = rest.sum(-1, keepdim=True)
    return rest / torch.where(sums == 0, 1, sums) + torch.eye(len(R), dtype=R.dtype)
