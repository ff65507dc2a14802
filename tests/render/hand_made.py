"""Segments and attentions made by hand."""

import base64
import io
import re
from urllib.parse import unquote

import torch
from PIL import Image

from heedmap.data.flow import AttentionInfo
from heedmap.data.segments import Segment

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


def pictures(html: str, theme: str = "light") -> list[Image.Image]:
    """The pictures of a page, as a theme has them."""
    coded = re.findall(r"data:image/svg\+xml,([^\")]+)", html)
    links = [re.findall(r'base64,([^"]+)" class="(.)"', unquote(address)) for address in coded]
    return [Image.open(io.BytesIO(base64.b64decode(data))) for both in links for data, name in both if name == theme[0]]


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
