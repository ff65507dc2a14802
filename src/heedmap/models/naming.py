"""Labels for the segments of an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heedmap.models.audio import seconds
from heedmap.models.kinds import UNEVEN_TOKENS
from heedmap.models.labels import box_labels, second_labels, token_joints, token_labels

if TYPE_CHECKING:
    from heedmap.explanation_data import Segment
    from heedmap.models.processors import Processors

Labels = tuple[tuple[str, ...], ...]


def segment_labels(
    segments: Mapping[str, Segment],
    inputs: Mapping[str, Any],
    processors: Processors,
    config: Any,
    boxes: Sequence[Sequence[str] | None],
) -> dict[str, Labels]:
    """For each segment that can be told in words, for each sample, one label a token.

    Args:
        segments: of the explanation.
        inputs: what the model was called with, under transformers' names.
        processors: of the model.
        config: of the model.
        boxes: for each sample the names of its boxes, where they have names.
    """
    found: dict[str, Labels] = {}
    for name, segment in segments.items():
        if segment.kind == "text":
            found |= _words(segment, inputs, processors.tokenizer)
        elif segment.kind == "boxes":
            batch, count = segment.relevance.shape
            found[name] = tuple(box_labels(count, boxes[i] if i < len(boxes) else None) for i in range(batch))
        elif segment.kind == "audio":
            found |= _times(segment, inputs, processors.audio, config)
    return found


def segment_joints(
    segments: Mapping[str, Segment], inputs: Mapping[str, Any], tokenizer: Any, labels: Mapping[str, Labels]
) -> dict[str, tuple[str, ...]]:
    """For each segment of text, for each sample, how its tokens stand to each other; see ``Segment.joints``.

    Args:
        segments, inputs: as for :func:`segment_labels`.
        tokenizer: of the model, or None.
        labels: what :func:`segment_labels` found.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in labels:
        ids = _ids(segments[name], inputs) if segments[name].kind == "text" else None
        if ids is not None:
            rows = [token_joints(tokenizer, *pair) for pair in zip(ids.tolist(), labels[name], strict=True)]
            known = tuple(row for row in rows if row is not None)
            found |= {name: known} if len(known) == len(rows) else {}
    return found


def _ids(segment: Segment, inputs: Mapping[str, Any]) -> Any:
    """Token ids of a segment; a decoder that is called with none of its own begins with the encoder's."""
    own = inputs.get("decoder_input_ids") if segment.name.startswith("decoder") else None
    return inputs.get("input_ids") if own is None else own


def _words(segment: Segment, inputs: Mapping[str, Any], tokenizer: Any) -> dict[str, Labels]:
    ids = _ids(segment, inputs)
    if ids is None or tokenizer is None or ids.shape != segment.relevance.shape:
        return {}
    return {segment.name: tuple(token_labels(tokenizer, row) for row in ids.tolist())}


def _times(segment: Segment, inputs: Mapping[str, Any], extractor: Any, config: Any) -> dict[str, Labels]:
    length = None if extractor is None else seconds(inputs, extractor)
    if length is None or segment.grid is not None or getattr(config, "model_type", "") in UNEVEN_TOKENS:
        return {}
    batch, count = segment.relevance.shape
    return {segment.name: (second_labels(count, length),) * batch}
