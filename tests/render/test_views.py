"""One table of views: what a kind of segment looks like everywhere."""

import pytest
from hand_made import patches, segment
from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from heedmap.render.answer_page import answers_fragment
from heedmap.render.figure import plot, side_by_side
from heedmap.render.page import explanation_page
from heedmap.render.terminal import terminal
from heedmap.render.views import VIEWS, Cell, View, view


class _Waves(View):
    """A kind that heedmap does not have."""

    def body(self, segment, index, used, beside):
        return Markup("<p>waves</p>")

    def panel(self, segment, index, used, seen=False, outline=None):
        return Markup("<p>small waves</p>")

    def cell(self, part, column, look):
        return Cell(1.0, lambda axes: axes.set_ylabel("waves"), "x", "inferno")

    def heat(self, segment, index, used, colours):
        return [Text("~~~")]


class _Answers:
    def __init__(self, *explanations):
        self.explanations, self.names = explanations, [str(n) for n in range(len(explanations))]
        self.boxes, self.joined, self.text = (), False, ""

    def __len__(self):
        return len(self.names)


def test_a_new_kind_is_one_class_and_one_line(make_explanation, monkeypatch):
    monkeypatch.setitem(VIEWS, "waves", _Waves())
    explanation = make_explanation(segment([0.1, 0.9], name="sea", kind="waves"))
    assert "<p>waves</p>" in explanation_page(explanation)
    assert "<p>small waves</p>" in answers_fragment(_Answers(explanation, explanation))
    assert plot(explanation).axes[0].get_ylabel() == "waves"
    assert side_by_side({"a": explanation}).axes[0].get_ylabel() == "waves"
    console = Console()
    with console.capture() as printed:
        console.print(terminal(explanation))
    assert "~~~" in printed.get()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (segment([1.0]), "text"),
        (patches(1, 2, {}), "image"),
        (segment([1.0, 2.0], kind="audio", grid=(1, 2)), "image"),
        (segment([1.0], kind="image"), "tokens"),
        (segment([1.0], kind="boxes"), "boxes"),
        (segment([1.0], kind="never heard of"), "tokens"),
    ],
)
def test_what_has_a_grid_is_seen_as_patches_and_what_is_not_known_as_bars(given, kind):
    assert view(given) is VIEWS[kind]
