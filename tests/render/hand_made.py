"""Segments and attentions made by hand."""

import torch

from heedmap.explanation_data import Segment
from heedmap.flow import AttentionInfo

HOSTILE = (
    "[CLS]",
    "<script>alert('x')</script>",
    'say "hi" & go',
    "a\0b\x1b[31m",
    "السلام",
    "$x_2$",
    "",
    " ",
    "\ud800",
)


def segment(values: list[float], **changes) -> Segment:
    relevance = torch.tensor([values], dtype=torch.float32)
    fields = {
        "name": "text",
        "kind": "text",
        "stream": "text",
        "relevance": relevance,
        "positions": torch.arange(len(values))[None],
    }
    return Segment(**{**fields, **changes})


def patches(rows: int, columns: int, hot: dict[tuple[int, int], float], rest: float = 0.0) -> Segment:
    values = [hot.get((r, c), rest) for r in range(rows) for c in range(columns)]
    return segment(values, name="image", kind="image", stream="image", grid=(rows, columns))


def attention(index: int, stream: str = "text", source: str = "text", **changes) -> AttentionInfo:
    kind = "self" if stream == source else "cross"
    fields = {"index": index, "kind": kind, "stream": stream, "source": source, "heads": 12, "queries": 9, "keys": 9}
    return AttentionInfo(**{**fields, "form": "sdpa", "gradient": True, **changes})
