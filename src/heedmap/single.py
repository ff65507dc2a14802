"""One sample of a batch as a batch of one."""

from __future__ import annotations

from dataclasses import replace

from heedmap.explanation import Explanation, Flow, Segment
from heedmap.top import Top


def single(explanation: Explanation, index: int) -> Explanation:
    """Sample ``index`` of ``explanation``, as an explanation of that sample alone.

    Args:
        explanation: of a batch.
        index: the sample, from 0.
    """
    one = slice(index, index + 1)
    labels = explanation.prediction_labels
    return replace(
        explanation,
        segments={name: _segment(segment, one) for name, segment in explanation.segments.items()},
        target=explanation.target[one],
        scores=explanation.scores[one],
        prediction=None if explanation.prediction is None else explanation.prediction[one],
        prediction_labels=None if labels is None else labels[one],
        flow=_flow(explanation.flow, one),
        maps={pair: whole[one] for pair, whole in explanation.maps.items()},
        top=None if explanation.top is None else _top(explanation.top, one),
    )


def _segment(segment: Segment, one: slice) -> Segment:
    return replace(
        segment,
        relevance=segment.relevance[one],
        positions=segment.positions[one],
        labels=None if segment.labels is None else segment.labels[one],
        joints=None if segment.joints is None else segment.joints[one],
    )


def _flow(flow: Flow, one: slice) -> Flow:
    streams = tuple(replace(s, rows=None if s.rows is None else s.rows[one]) for s in flow.streams)
    return replace(flow, streams=streams)


def _top(top: Top, one: slice) -> Top:
    return replace(top, labels=top.labels[one], probabilities=top.probabilities[one], target=top.target[one])
