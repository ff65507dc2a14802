"""An Explanation as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from heedmap.explanation_data import ExplanationData, Segment, Top


def to_json(explanation: ExplanationData) -> str:
    """The explanation as strict JSON text; see :func:`to_data`."""
    return json.dumps(to_data(explanation), allow_nan=False, indent=1)


def to_data(explanation: ExplanationData) -> dict[str, Any]:
    """The explanation as plain JSON data, of the same shape as the object: lists run over the batch.

    A value that is not finite becomes None; whole maps (``full=True``) are left out.
    """
    prediction, labels = explanation.prediction, explanation.prediction_labels
    return {
        "target": list(explanation.target),
        "score": _numbers(explanation.scores),
        "prediction": None if prediction is None else prediction.tolist(),
        "prediction_label": None if labels is None else list(labels),
        "method": explanation.method,
        "options": _plain(dict(explanation.options)),
        "segments": {name: _segment(segment) for name, segment in explanation.segments.items()},
        "flow": explanation.flow.to_dict(),
        "top": None if explanation.top is None else _top(explanation.top),
        "origin": dict(explanation.origin),
    }


def _top(top: Top) -> dict[str, Any]:
    return {
        "function": top.function,
        "labels": [list(row) for row in top.labels],
        "probabilities": _numbers(top.probabilities),
        "target": _numbers(top.target),
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "kind": segment.kind,
        "stream": segment.stream,
        "grid": None if segment.grid is None else list(segment.grid),
        "labels": None if segment.labels is None else [list(row) for row in segment.labels],
        "joints": None if segment.joints is None else list(segment.joints),
        "positions": segment.positions.tolist(),
        "relevance": _numbers(segment.relevance),
    }


def _numbers(tensor: Tensor) -> list[Any]:
    """Nested lists of the fewest digits that give the same float32 again."""
    if tensor.dim() > 1:
        return [_numbers(row) for row in tensor]
    return [float(str(x)) if math.isfinite(x) else None for x in tensor.detach().cpu().float().numpy()]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
