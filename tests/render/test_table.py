import pytest
from hand_made import attention
from rich.console import Console

from heedmap.data.flow import Flow, StreamInfo, attention_lines, flow_table, rows_read
from heedmap.render.terminal import flow_rich

TEXT = StreamInfo("text", 9, ("text",), ((0,),))


def _flow(*attentions, streams=(TEXT,), notes=()) -> Flow:
    return Flow(streams, attentions, notes)


def test_a_run_of_equal_attentions_is_one_line():
    (line,) = attention_lines(_flow(*(attention(i) for i in range(24))))
    assert line == ("0–23", "self", "text ← text", "12", "9×9", "sdpa", "yes")


def test_attentions_in_turn_are_folded_and_none_is_lost():
    pairs = [a for i in range(6) for a in (attention(2 * i), attention(2 * i + 1, source="image", keys=49))]
    lines = attention_lines(_flow(*pairs))
    assert [line[0] for line in lines] == ["0, 2 … 10", "1, 3 … 11"]
    assert [line[2] for line in lines] == ["text ← text", "text ← image"]


def test_a_difference_of_any_kind_starts_a_line():
    lines = attention_lines(_flow(attention(0), attention(1, gradient=False), attention(2, heads=8)))
    assert [line[0] for line in lines] == ["0", "1", "2"]
    assert [line[6] for line in lines] == ["yes", "no", "yes"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (None, "not read directly"),
        (((0,),), "row 0"),
        (((0,), (0,)), "row 0"),
        (((5,), (7,)), "row 5; row 7"),
        ((tuple(range(8)),), "rows 0–7 (mean)"),
        ((tuple(range(9)),), "all rows (mean)"),
        (((1, 2, 4),), "rows 1–2, 4 (mean)"),
        (((),), "no row"),
        (((1,), (2,), (3,), (4,)), "row 1; row 2; row 3; …"),
    ],
)
def test_rows_in_words(rows, words):
    assert rows_read(StreamInfo("text", 9, ("text",), rows)) == words


def test_plain_text_has_everything_and_lines_up():
    flow = _flow(attention(0, gradient=None), streams=(TEXT, StreamInfo("image", 49, ("image",))), notes=("look",))
    text = str(flow)
    assert text == flow_table(flow)
    lines = text.splitlines()
    assert lines[0] == "1 attention, 2 streams"
    assert "note: look" in lines
    head, rule, row = lines[2:5]
    assert head.index("kind") == row.index("self")
    assert len(rule) == len(head)
    assert "image   49" in text


def test_an_empty_flow_is_a_table_too():
    assert str(Flow((), ())).startswith("0 attentions, 0 streams")


def test_rich_says_the_same():
    flow = _flow(attention(0, source="im[red]age"), notes=("a [bold]note",))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(flow_rich(flow))
    for words in ("text ← im[red]age", "row 0", "note: a [bold]note"):
        assert words in capture.get()
