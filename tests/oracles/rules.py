"""Equations 5, 8, 9 and 10 for one sample, entry by entry."""

from __future__ import annotations

import numpy as np

Matrix = np.ndarray


def average_heads(probs: Matrix, gradient: Matrix) -> Matrix:
    """Eq. 5: the positive part of A ⊙ ∂y/∂A of each head, then the mean over heads; both are (heads, s, q)."""
    heads, rows, columns = probs.shape
    found = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            found[i, j] = sum(max(float(probs[h, i, j] * gradient[h, i, j]), 0.0) for h in range(heads)) / heads
    return found


def zero_rows(R: Matrix) -> list[int]:
    """The rows of R − I that sum to zero."""
    return [i for i, row in enumerate(R - np.eye(len(R))) if row.sum() == 0]


def normalize(R: Matrix, guard: bool = True) -> Matrix:
    """Eqs. 8 and 9; ``guard`` leaves a row of R − I that is zero as it is, without it 0/0 makes it NaN."""
    found = np.eye(len(R))
    for i in range(len(R)):
        rest = [R[i, j] - (i == j) for j in range(len(R))]
        total = sum(rest)
        if total == 0 and guard:
            continue
        with np.errstate(invalid="ignore"):
            found[i] += np.array(rest) / np.float64(total)
    return found


def rule_10(
    cam: Matrix, R_ss: Matrix, R_qq: Matrix, normalized: bool = True, self_in_rule_10: bool = True, guard: bool = True
) -> Matrix:
    """Eq. 10: (R̄^{ss})ᵀ Ā R̄^{qq}, or its ablations."""
    if not self_in_rule_10:
        return cam.copy()
    if normalized:
        R_ss, R_qq = normalize(R_ss, guard), normalize(R_qq, guard)
    found = np.zeros_like(cam)
    for i in range(cam.shape[0]):
        for j in range(cam.shape[1]):
            found[i, j] = R_ss[:, i] @ cam @ R_qq[:, j]
    return found
