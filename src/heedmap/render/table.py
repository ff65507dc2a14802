"""The flow as Rich tables, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heedmap.flow import ATTENTION_HEAD, STREAM_HEAD, Flow, Line, attention_lines, stream_lines, summary
from heedmap.printable import visible

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def flow_rich(flow: Flow) -> Group:
    """What :func:`heedmap.flow.flow_table` says, as Rich tables."""
    from rich.console import Group
    from rich.text import Text

    notes = [Text(f"note: {visible(note)}", style="yellow") for note in flow.notes]
    tables = _rich(ATTENTION_HEAD, attention_lines(flow)), _rich(STREAM_HEAD, stream_lines(flow))
    return Group(Text(summary(flow), style="bold"), *tables, *notes)


def _rich(head: Line, lines: Sequence[Line]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in head:
        result.add_column(name, overflow="fold")
    for line in lines:
        result.add_row(*map(Text, line))
    return result
