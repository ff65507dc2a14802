"""Templates: whatever is filled in is text, and nothing is left out in silence."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from heedmap.render.html import environment, render


def _filled(source: str, **values) -> str:
    return environment().from_string(source).render(values)


@pytest.mark.parametrize("text", ["<b>", '" onclick="x', "'", "&amp;", "a\0b\x1b[31m", "a\u202eb", "\ud800"])
def test_whatever_is_filled_in_is_text(text):
    html = _filled('<i title="{{ text }}">{{ text }}</i>', text=text)
    assert html.count("<") == 2
    assert html.count('"') == 2
    assert "'" not in html
    html.encode("utf-8")
    assert not set("\0\x1b\u202e") & set(html)


def test_what_templates_made_is_not_escaped_again():
    assert _filled("{{ body }}", body=Markup("<b>1</b>")) == "<b>1</b>"


def test_a_value_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="nothing"):
        _filled("{{ nothing }}")


def test_a_page_escapes_its_title():
    html = render("document.html", title="</title><script>", policy="default-src 'none'", body=Markup("<main></main>"))
    assert isinstance(html, Markup)
    assert "<script" not in html
    assert "<main></main>" in html
