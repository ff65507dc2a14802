import io

import pytest
import torch
from hand_made import patches, segment
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heedmap.data.segments import Top
from heedmap.render.scale import chip_colours
from heedmap.render.terminal import Kept, terminal
from heedmap.render.views import WIDEST_GRID


def _printed(explanation, colours: bool) -> str:
    console = Console(width=400, force_terminal=colours, color_system="truecolor" if colours else None)
    with console.capture() as capture:
        console.print(terminal(explanation, colours=colours))
    return capture.get()


def test_summary_and_top_tokens(all_kinds):
    text = _printed(all_kinds, colours=False)
    assert "prediction cat $5 <i>\n" in text
    assert 'target     "cat" <b>' in text
    assert "score      8.125" in text
    assert 'top  say "hi" & go 0.4 · السلام 0.3' in text
    assert "top  row 2, column 3: 1" in text


def test_grid_without_colour_is_shaded(make_explanation):
    lines = _printed(make_explanation(patches(2, 3, {(1, 2): 1.0})), colours=False).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("image"))
    assert [line.rstrip() for line in lines[at + 1 : at + 3]] == ["", "    @@"]


def test_grid_in_colour(make_explanation):
    """In the colours of words, since nobody knows the ground."""
    printed = _printed(make_explanation(patches(2, 3, {(1, 2): 1.0})), colours=True)
    red, green, blue = bytes.fromhex(chip_colours(1.0)[0][1:])
    assert printed.count(f"\x1b[48;2;{red};{green};{blue}m  ") == 1
    assert printed.count("\x1b[48;2;") == 1, "what does not matter has the terminal's own ground"


def test_wide_grids_are_made_smaller(make_explanation):
    lines = _printed(make_explanation(patches(100, 200, {(0, 199): 1.0})), colours=False).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("image"))
    assert lines[at + 1] == " " * (2 * WIDEST_GRID - 2) + "@@"
    assert len(lines) < 30


def test_nothing_finite(make_explanation):
    assert "nothing finite" in _printed(make_explanation(segment([float("nan")])), colours=False)


def test_what_has_no_relevance_and_queries_are_left_out(make_explanation):
    decoder = segment([0.0, 0.0], name="decoder", labels=(("<s>", "cat"),))
    queries = segment([0.1, 0.2], name="queries", kind="queries", labels=None)
    target = {"target": ("query 8, class 5 (star)",), "prediction": None, "prediction_labels": None}
    text = _printed(make_explanation(segment([0.5, 1.0]), decoder, queries, **target), colours=False)
    assert "target     star, object query 8" in text
    assert "decoder" not in text
    assert "queries" not in text
    assert "prediction" not in text
    assert "nothing to show" in _printed(make_explanation(decoder), colours=False)


def test_special_tokens_that_are_all_there_is_set_the_scale(make_explanation):
    decoder = segment([0.213, 0.0], name="decoder", labels=(("<|start|>", "<|en|>"),), boundaries=("ss",))
    text = _printed(make_explanation(decoder), colours=False)
    assert "from 0: 0 … 0.213" in text
    assert "nothing to show" not in text


@pytest.mark.parametrize("width", range(12, 60))
def test_no_line_begins_with_the_unit_of_a_number(make_explanation, width):
    names = (("a rather long name", "b", "cat"),)
    top = Top(names, torch.tensor([[0.91, 0.05, 0.04]]), torch.tensor([0.91]), "softmax")
    made = make_explanation(segment([0.1, 0.9], labels=(("a", "cat"),)), top=top)
    console = Console(width=width, file=io.StringIO(), force_terminal=True)
    console.print(terminal(made))
    lines = [Text.from_ansi(line).plain for line in console.file.getvalue().splitlines()]
    assert not [line for line in lines if line.lstrip().startswith("%")]
    assert "91.0 %" in "\n".join(lines)
    assert max(map(cell_len, lines)) <= width


def test_cells_of_a_table_keep_a_number_and_its_unit():
    for width in range(20, 40):
        console = Console(width=width, file=io.StringIO())
        table = Table(box=None)
        table.add_column("word")
        table.add_column("said with", overflow="fold")
        table.add_row("an answer", Kept("> 99.9 % and 12.5 %"))
        console.print(table)
        assert not [line for line in console.file.getvalue().splitlines() if line.split()[-1:] == ["99.9"]]
