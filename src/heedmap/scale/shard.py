"""Explanations as rows of a Parquet file, and back.

A row of the data set is one line; of an answer in words one line a token, in the long format. Relevance is half-precision: the
values of a segment are divided by a power of two, ``scale``, so that the largest is between ½ and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from heedmap.common.extras import library
from heedmap.errors import SampleError

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

    from heedmap.data.explanation import Segment
    from heedmap.explanation import Explanation


class SegmentLine(TypedDict, total=False):
    """A segment in a line; of a token that is not an answer's first, only its name and relevance."""

    name: str
    kind: str
    stream: str
    grid: Sequence[int] | None
    scale: float
    relevance: Sequence[float] | np.ndarray
    positions: Sequence[int]
    labels: Sequence[str] | None
    boundaries: str | None
    roles: str | None


class Line(TypedDict, total=False):
    """A line of a file, see :func:`schema`; what was not written is None where it is read."""

    row: int
    key: str
    step: int | None
    error: str | None
    target: str
    score: float
    prediction: int | None
    label: str | None
    certainty: float | None
    probability: float
    top_labels: Sequence[str]
    top_probabilities: Sequence[float]
    function: str | None
    box: Sequence[float] | None
    segments: Sequence[SegmentLine]
    answer: str
    token: int
    token_row: int
    other: int | None
    source: str
    whole_target: str
    method: str
    options: str
    flow: str
    origin: str


LIGHT = ("row", "key", "step", "error", "target", "score", "prediction", "label", "certainty", "probability", "answer")
"""Columns without the maps: what an index of a run is made of."""
FEW = ("method", "options", "flow", "origin", "function", "source", "label", "answer")
"""Columns of few values, of which the file keeps each once."""


def arrow() -> ModuleType:
    """pyarrow, with its module parquet.

    Raises:
        MissingLibraryError: it is not installed.
    """
    library("pyarrow.parquet", "scale", "a run's Parquet files need")
    return library("pyarrow", "scale", "a run's Parquet files need")


def schema() -> pyarrow.Schema:
    """The columns of a file."""
    pa = arrow()
    words = pa.list_(pa.string())
    segment = pa.struct(
        [
            ("name", pa.string()),
            ("kind", pa.string()),
            ("stream", pa.string()),
            ("grid", pa.list_(pa.int32())),
            ("scale", pa.float32()),
            ("relevance", pa.list_(pa.float16())),
            ("positions", pa.list_(pa.int32())),
            ("labels", words),
            ("boundaries", pa.string()),
            ("roles", pa.string()),
        ]
    )
    return pa.schema(
        [
            ("row", pa.int64()),
            ("key", pa.string()),
            ("step", pa.int32()),
            ("error", pa.string()),
            ("target", pa.string()),
            ("score", pa.float32()),
            ("prediction", pa.int64()),
            ("label", pa.string()),
            ("certainty", pa.float32()),
            ("probability", pa.float32()),
            ("top_labels", words),
            ("top_probabilities", pa.list_(pa.float32())),
            ("function", pa.string()),
            ("box", pa.list_(pa.float32())),
            ("segments", pa.list_(segment)),
            ("answer", pa.string()),
            ("token", pa.int64()),
            ("token_row", pa.int64()),
            ("other", pa.int64()),
            ("source", pa.string()),
            ("whole_target", pa.string()),
            ("method", pa.string()),
            ("options", pa.string()),
            ("flow", pa.string()),
            ("origin", pa.string()),
        ]
    )


def file_bytes(lines: Sequence[Line], facts: Mapping[str, object]) -> bytes:
    """A whole Parquet file with ``facts``, plain JSON data, in its metadata, and a checksum of each page."""
    pa = arrow()
    buffer = pa.BufferOutputStream()
    made = pa.Table.from_pylist(list(lines), schema=schema())
    made = made.replace_schema_metadata({"heedmap": json.dumps(dict(facts))})
    pa.parquet.write_table(made, buffer, compression="zstd", write_page_checksum=True, use_dictionary=list(FEW))
    return buffer.getvalue().to_pybytes()


def lines_of(row: int, key: str, explanation: Explanation) -> list[Line]:
    """The lines of an explanation of one sample."""
    common: Line = {
        "row": row,
        "key": key,
        "method": explanation.method,
        "options": _json(dict(explanation.options)),
        "flow": _json(explanation.flow.to_dict()),
        "origin": _json(dict(explanation.origin)),
    }
    if explanation.answer is not None:
        return _answer_lines(common, explanation)
    top = explanation.top
    labels = explanation.prediction_labels
    line: Line = {
        **common,
        "target": explanation.target[0],
        "score": float(explanation.scores[0]),
        "prediction": None if explanation.prediction is None else int(explanation.prediction[0]),
        "label": None if labels is None else labels[0],
        "segments": [_segment(s, s.relevance[0], True) for s in explanation.segments.values()],
    }
    if explanation.box is not None:
        line["box"] = explanation.box[0].tolist()
    if top is not None:
        line |= {
            "probability": float(top.target[0]),
            "certainty": float(top.probabilities[0, 0]) if top.probabilities.shape[1] else None,
            "top_labels": list(top.labels[0]),
            "top_probabilities": top.probabilities[0].tolist(),
            "function": top.function,
        }
    return [line]


def explanation_of(lines: Sequence[Line]) -> Explanation:
    """The explanation of one sample that its lines hold.

    Raises:
        SampleError: it could not be explained; the message says why.
    """
    import torch

    from heedmap.data.explanation import Top
    from heedmap.data.flow import Flow
    from heedmap.explanation import Explanation

    first = lines[0]
    if first["error"] is not None:
        raise SampleError(f"row {first['row']} ({first['key']}) could not be explained: {first['error']}")
    made = partial(
        Explanation,
        method=first["method"],
        options=json.loads(first["options"]),
        flow=Flow.from_dict(json.loads(first["flow"])),
        origin=json.loads(first["origin"]),
    )
    if first["step"] is not None:
        return _answer_of(lines, made)
    top = None
    if first["function"] is not None:
        top = Top(
            (tuple(first["top_labels"]),),
            torch.tensor([first["top_probabilities"]], dtype=torch.float32),
            torch.tensor([first["probability"]], dtype=torch.float32),
            first["function"],
        )
    prediction = None if first["prediction"] is None else torch.tensor([first["prediction"]])
    return made(
        segments={s["name"]: _segment_of(s, _values(s)[None]) for s in first["segments"]},
        target=(first["target"],),
        scores=torch.tensor([first["score"]], dtype=torch.float32),
        prediction=prediction,
        prediction_labels=None if first["label"] is None else (first["label"],),
        top=top,
        box=None if first.get("box") is None else torch.tensor([first["box"]], dtype=torch.float32),
    )


def _answer_lines(common: Line, explanation: Explanation) -> list[Line]:
    """A line for each token of the answer; what all steps share stands in the first alone."""
    answer = explanation.answer
    assert answer is not None
    steps = int(answer.real[0].sum())
    certainty = math.exp(float(answer.probabilities[0, :steps].clamp(min=1e-30).log().mean())) if steps else None
    lines: list[Line] = []
    for step in range(steps):
        segments = []
        for name, segment in explanation.segments.items():
            values = segment.relevance[0, step]
            segments.append(_segment(segment, values[:steps] if name == "answer" else values, not step, steps))
        lines.append(
            {
                **common,
                "step": step,
                "target": answer.targets[0][step],
                "score": float(explanation.scores[0, step]),
                "certainty": certainty,
                "probability": float(answer.probabilities[0, step]),
                "top_labels": list(answer.top_labels[0][step]),
                "top_probabilities": answer.top_probabilities[0, step].tolist(),
                "segments": segments,
                "answer": answer.text[0],
                "token": int(answer.tokens[0, step]),
                "token_row": int(answer.rows[0, step]),
                "other": None if answer.others is None else int(answer.others[0, step]),
                "source": answer.source,
                "whole_target": explanation.target[0],
            }
        )
    return lines


def _answer_of(lines: Sequence[Line], made: partial[Explanation]) -> Explanation:
    import torch

    from heedmap.data.answer import Answer

    first = lines[0]

    def column(values: Sequence[object], dtype: torch.dtype) -> Tensor:
        return torch.tensor([values], dtype=dtype)

    segments = {}
    for number, segment in enumerate(first["segments"]):
        values = torch.stack([_values(line["segments"][number]) for line in lines])
        segments[segment["name"]] = _segment_of(segment, values[None])
    answer = Answer(
        (first["answer"],),
        column([line["token"] for line in lines], torch.int64),
        column([line["token_row"] for line in lines], torch.int64),
        (tuple(line["target"] for line in lines),),
        column([line["probability"] for line in lines], torch.float32),
        (tuple(tuple(line["top_labels"]) for line in lines),),
        column([line["top_probabilities"] for line in lines], torch.float32),
        None if first["other"] is None else column([line["other"] for line in lines], torch.int64),
        first["source"],
    )
    return made(
        segments=segments,
        target=(first["whole_target"],),
        scores=column([line["score"] for line in lines], torch.float32),
        prediction=None,
        prediction_labels=None,
        answer=answer,
    )


def _segment(segment: Segment, values: Tensor, whole: bool, tokens: int | None = None) -> SegmentLine:
    """A segment of a batch of one, with the relevance of a step.

    Args:
        segment: it.
        values: (tokens,) float32.
        whole: also with what all steps share.
        tokens: so many of its own, where it is the answer itself.
    """
    relevance = values.detach().cpu().float().numpy()
    finite = np.abs(relevance[np.isfinite(relevance)])
    exponent = math.frexp(float(finite.max()))[1] if finite.size else 0
    scale = math.ldexp(1.0, max(-126, min(127, exponent)))
    line: SegmentLine = {"name": segment.name, "scale": scale, "relevance": (relevance / scale).astype(np.float16)}
    if whole:
        end = tokens if segment.name == "answer" else None
        line |= {
            "kind": segment.kind,
            "stream": segment.stream,
            "grid": None if segment.grid is None else list(segment.grid),
            "positions": segment.positions[0, :end].tolist(),
            "labels": None if segment.labels is None else list(segment.labels[0][:end]),
            "boundaries": None if segment.boundaries is None else segment.boundaries[0][:end],
            "roles": None if segment.roles is None else segment.roles[0][:end],
        }
    return line


def _segment_of(told: SegmentLine, relevance: Tensor) -> Segment:
    import torch

    from heedmap.data.explanation import Segment

    labels, boundaries, roles, grid = told["labels"], told["boundaries"], told["roles"], told["grid"]
    return Segment(
        told["name"],
        told["kind"],
        told["stream"],
        relevance,
        torch.tensor([told["positions"]], dtype=torch.int64),
        None if grid is None else (grid[0], grid[1]),
        None if labels is None else (tuple(labels),),
        None if boundaries is None else (boundaries,),
        None if roles is None else (roles,),
    )


def _values(told: SegmentLine) -> Tensor:
    """(tokens,) float32."""
    import torch

    return torch.from_numpy(np.asarray(told["relevance"], dtype=np.float32) * np.float32(told["scale"]))


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
