"""What lies in a run's folder: its configuration, its parts, a manifest of them; and the lines of a part, which are explanations.

``config.json`` is written first. The rows of the data set are cut into parts of equal number; each is one Parquet file, written
whole or not at all, that says in its own metadata of which run and part it is. So what is done is what is there and whole.

A row of the data set is one line; of an answer in words one line a token, in the long format. Relevance is half-precision: the
values of a segment are divided by a power of two, ``scale``, so that the largest is between ½ and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    TypeAlias,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import numpy as np

from heedmap.common.extras import library
from heedmap.common.files import CONFIG, HeldFolder, write_atomically, writing
from heedmap.errors import FileFormatError, OutputError, SampleError

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

    from heedmap.data.segments import Segment
    from heedmap.explanation import Explanation

MANIFEST, REPORT, PARTS = "manifest.json", "report.html", "parts"


class Told(TypedDict):
    """What is explained and how, as plain data."""

    target: int | str | None
    method: str
    options: dict[str, object]
    answer: dict[str, dict[str, object]] | None


class JobConfig(TypedDict):
    """All on which the rows of a run depend."""

    heedmap: str
    model: dict[str, str]
    data: dict[str, object]
    rows: int
    part: int
    explained: Told


@dataclass(frozen=True)
class MadePart:
    """What a part's file says of itself.

    Attributes:
        run: digest of the configuration.
        part: its number.
        rows: of the data set.
        lines: of the file; of answers there are several a row.
        bad: rows that could not be explained.
        seconds: that it took.
    """

    run: str
    part: int
    rows: int
    lines: int
    bad: int
    seconds: float


class ShardFolder(HeldFolder[JobConfig]):
    """The folder of a run over a data set."""

    format, version, holds = "heedmap-run", 1, "a run over a data set"

    def digest(self) -> str:
        """Of the configuration: what a part has to be of."""
        return sha256((self.path / CONFIG).read_bytes()).hexdigest()[:16]

    def path_of(self, number: int) -> Path:
        """The file of a part."""
        return self.path / PARTS / f"part-{number:06d}.parquet"

    def part(self, number: int, run: str) -> MadePart | None:
        """What the file of a part says; None: there is none.

        Raises:
            FileFormatError: it is cut off, damaged, or of another run.
        """
        path = self.path_of(number)
        pa = arrow()
        try:
            told = pa.parquet.read_metadata(path)
            part = MadePart(**json.loads(told.metadata[b"heedmap"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileFormatError(f"{path} is cut off or damaged ({error or 'no footer'})") from error
        if (part.run, part.part, part.lines) != (run, number, told.num_rows):
            raise FileFormatError(f"{path} is no part {number} of this run")
        return part

    def write_part(self, part: MadePart, lines: Sequence[Line]) -> None:
        """Write a part, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path_of(part.part)
        try:
            write_atomically(path, file_bytes(lines, asdict(part)))
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; what is there is whole: make room, and the same command goes on"
            ) from error

    def clean(self) -> None:
        """Remove what killed processes left half written; the folder has to be held."""
        with writing(self.path):
            (self.path / PARTS).mkdir(exist_ok=True)
            for left in (self.path / PARTS).glob(".part-*"):
                left.unlink(missing_ok=True)

    def write_manifest(self, parts: Sequence[MadePart], rows: int, expected: int) -> None:
        """Write which parts there are."""
        listed = [
            {"file": f"{PARTS}/{path.name}", "bytes": path.stat().st_size, "rows": part.rows, "bad": part.bad}
            for part in parts
            for path in [self.path_of(part.part)]
        ]
        manifest = {
            "format": self.format,
            "version": self.version,
            "rows": rows,
            "done": sum(part.rows for part in parts),
            "bad": sum(part.bad for part in parts),
            "complete": len(parts) == expected,
            "seconds": round(sum(part.seconds for part in parts), 3),
            "parts": listed,
        }
        self.write_json(MANIFEST, manifest)


Short: TypeAlias = Annotated[int, "int32"]
Long: TypeAlias = Annotated[int, "int64"]
Half: TypeAlias = Annotated[float, "float16"]
Single: TypeAlias = Annotated[float, "float32"]
"""Numbers of a line, with Arrow's names of what they are in a file."""


class SegmentLine(TypedDict, total=False):
    """A segment in a line; of a token that is not an answer's first, only its name and relevance."""

    name: str
    kind: str
    stream: str
    grid: Sequence[Short] | None
    scale: Single
    relevance: Sequence[Half] | np.ndarray
    positions: Sequence[Short]
    labels: Sequence[str] | None
    boundaries: str | None
    roles: str | None


class Line(TypedDict, total=False):
    """A line of a file, whose columns these are; what was not written is None where it is read."""

    row: Long
    key: str
    step: Short | None
    error: str | None
    target: str
    score: Single
    prediction: Long | None
    label: str | None
    certainty: Single | None
    probability: Single
    top_labels: Sequence[str]
    top_probabilities: Sequence[Single]
    function: str | None
    box: Sequence[Single] | None
    segments: Sequence[SegmentLine]
    answer: str
    token: Long
    token_row: Long
    other: Long | None
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
    """The columns of a file: the fields of :class:`Line`."""
    return arrow().schema(_columns(Line))


def _columns(line: type) -> list[tuple[str, pyarrow.DataType]]:
    return [(name, _arrow_type(kind)) for name, kind in get_type_hints(line, include_extras=True).items()]


def _arrow_type(kind: object) -> pyarrow.DataType:
    """Arrow's type for one of a field; anything may be missing there."""
    pa, origin, inner = arrow(), get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_typeddict(kind):
        return pa.struct(_columns(kind))
    if origin in (Union, UnionType):
        return _arrow_type(inner[0])
    if origin is Sequence:
        return pa.list_(_arrow_type(inner[0]))
    return pa.type_for_alias(inner[1] if origin is Annotated else "string")


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

    from heedmap.data.flow import Flow
    from heedmap.data.segments import Top
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

    from heedmap.data.segments import Answer

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

    from heedmap.data.segments import Segment

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
