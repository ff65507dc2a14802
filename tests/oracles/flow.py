"""The flow of attention of one sample as plain data, and the paper's rules over it, as whole matrices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from oracles import rules
from oracles.rules import Matrix

State = frozenset[int]
PerStream = dict[int, Matrix]


@dataclass(frozen=True)
class Step:
    """One attention: ``stream`` asks ``source``; each is read after the attentions in its state."""

    number: int
    stream: int
    source: int
    query_state: State
    value_state: State


@dataclass(frozen=True)
class Flow:
    """Streams by size, and attentions in order; those in one of ``groups`` run side by side."""

    sizes: tuple[int, ...]
    groups: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> list[Step]:
        """All attentions in order."""
        return [step for group in self.groups for step in group]

    def heard(self, stream: int) -> set[int]:
        """The other streams that reach ``stream``, at once or through others."""
        found: set[int] = set()
        todo = [stream]
        while todo:
            here = todo.pop()
            for step in self.steps:
                if step.stream == here and step.source != here and step.source not in found:
                    found.add(step.source)
                    todo.append(step.source)
        return found


@dataclass(frozen=True)
class Ablations:
    """The paper's ablations."""

    normalize: bool = True
    self_in_rule_10: bool = True
    aggregate: bool = True

    def rule_10(self, cam: Matrix, R_ss: Matrix, R_qq: Matrix, guard: bool = True) -> Matrix:
        """Eq. 10 with these ablations."""
        return rules.rule_10(cam, R_ss, R_qq, self.normalize, self.self_in_rule_10, guard)


def in_order(flow: Flow, cams: dict[int, Matrix], ablations: Ablations) -> dict[tuple[int, int], Matrix]:
    """Every R^{sx} at the end, by the paper's procedure: start from the identity, update in order of execution.

    For flows in which each attention reads its streams as they then are; attentions of one group read the same.
    """
    R = {(s, s): np.eye(n) for s, n in enumerate(flow.sizes)}
    for group in flow.groups:
        before = dict(R)
        for step in group:
            if step.number in cams:
                _update(R, before, flow, step, cams[step.number], ablations)
    return R


def _update(R: dict, before: dict, flow: Flow, step: Step, cam: Matrix, ablations: Ablations) -> None:
    s, q = step.stream, step.source
    added: PerStream = {}
    if s == q:
        for x in range(len(flow.sizes)):
            if (s, x) in before:
                added[x] = cam @ before[s, x]
    else:
        added[q] = ablations.rule_10(cam, before[s, s], before[q, q])
        for x in flow.heard(q) - {q}:
            added[x] = cam @ before.get((q, x), np.zeros((flow.sizes[q], flow.sizes[x])))
    for x, matrix in added.items():
        R[s, x] = R[s, x] + matrix if ablations.aggregate and (s, x) in R else matrix


@dataclass
class States:
    """R of any state: R[S] = I + Σ_{a∈S} Δ_a, with Δ_a from the states that attention a read.

    Without aggregation the latest Δ_a replaces what was there.
    """

    flow: Flow
    cams: dict[int, Matrix]
    ablations: Ablations
    _known: dict[tuple[int, State], PerStream] = field(default_factory=dict)

    def R(self, stream: int, state: State) -> PerStream:
        """R[state]^{sx} for every x that reaches s."""
        if (stream, state) not in self._known:
            total: PerStream = {stream: np.eye(self.flow.sizes[stream])}
            for step in self.flow.steps:
                if step.number not in state or step.number not in self.cams:
                    continue
                for x, added in self._added(step).items():
                    total[x] = total[x] + added if x in total and self.ablations.aggregate else added
            self._known[stream, state] = total
        return self._known[stream, state]

    def _added(self, step: Step) -> PerStream:
        cam = self.cams[step.number]
        asked = self.R(step.source, step.value_state)
        if step.stream == step.source:
            return {x: cam @ R_sx for x, R_sx in asked.items()}
        R_ss = self.R(step.stream, step.query_state)[step.stream]
        added = {step.source: self.ablations.rule_10(cam, R_ss, asked[step.source])}
        for x in self.flow.heard(step.source) - {step.source}:
            nothing = np.zeros((self.flow.sizes[step.source], self.flow.sizes[x]))
            added[x] = cam @ asked.get(x, nothing)
        return added
