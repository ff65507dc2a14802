"""Templates: whatever is filled in is text, and nothing is left out in silence."""

import base64
import io
import re

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from PIL import Image

from heedmap.render.html import document, environment, macro


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


def test_every_template_can_be_read():
    names = environment().list_templates()
    assert {"document.html", "style.css"} < set(names)
    for name in names:
        environment().get_template(name)


def test_a_page_escapes_its_title_and_is_text():
    html = document(Markup("<h1></h1>"), "</title><script>", "wide")
    assert type(html) is str  # so that what somebody adds to it is not escaped
    assert "<script" not in html
    assert "<main>\n<h1></h1>\n</main>" in html
    assert html.count("<style>") == 1


def test_a_picture_is_whole_and_what_is_said_of_it_is_text():
    html = macro("macros.picture", Image.new("RGB", (3, 2), (1, 2, 3)), 'a "b" <c>')
    (coded,) = re.findall('<img alt="a &#34;b&#34; &lt;c&gt;" src="data:image/png;base64,([^"]+)">', html)
    assert Image.open(io.BytesIO(base64.b64decode(coded))).getpixel((0, 0)) == (1, 2, 3)
