"""HTML from the templates in ``templates``: what is filled in is escaped, and nothing unprintable gets through."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heedmap.printable import number, percent, visible
from heedmap.render.scale import STEPS, step_class, tint

if TYPE_CHECKING:
    from PIL import Image

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LOSSLESS = 300 * 300
"""Pixels up to which a picture under many maps is kept as it is; larger ones are compressed."""


@cache
def environment() -> Environment:
    """The templates: escaped always, whatever their name; a value that is not given is an error."""
    templates = Environment(
        loader=PackageLoader("heedmap.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_printable,
    )
    templates.filters.update(number=number, percent=percent, png=png_url)
    return templates


def render(template: str, **values: Any) -> Markup:
    """``template``, the name of a file in ``templates``, filled in with ``values``.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not there.
    """
    return Markup(environment().get_template(template).render(values))


def macro(name: str, *values: Any, **named: Any) -> Markup:
    """What a macro makes of the values; ``segments.bars`` is the one called ``bars`` in ``segments.html``."""
    template, own_name = name.split(".")
    return Markup(getattr(environment().get_template(f"{template}.html").module, own_name)(*values, **named))


def document(
    body: Markup, title: str = "heedmap", kind: str = "", script: Markup | None = None, policy: str = POLICY
) -> str:
    """A page that loads nothing.

    Args:
        body: what is in it, with the style where ``kind`` is empty.
        title: of the page, text.
        kind: the classes of a page that is wide, see ``style.css``; it gets the style here.
        script: the page's own, which ``policy`` has to allow.
        policy: the page's Content-Security-Policy.
    """
    sheet = style(wide=True) if kind else ""
    return str(render("document.html", body=body, title=title, kind=kind, style=sheet, script=script, policy=policy))


def fragment(body: Markup, image: Image.Image | None = None) -> Markup:
    """``body`` as one element with the style and, where there is one, the picture that lies under its maps."""
    seen = None if image is None else (background_url(image), image.size)
    return render("fragment.html", body=body, seen=seen, style=style())


@cache
def style(*, wide: bool = False) -> Markup:
    """The one sheet; what only wide pages need is left out elsewhere."""
    steps = [(step_class(n), tint(n / STEPS), tint(n / STEPS, dark=True)) for n in range(-STEPS, STEPS + 1) if n]
    return render("style.css", steps=steps, wide=wide)


def png_url(picture: Image.Image) -> str:
    """``picture`` as an address that holds all of it."""
    return _url(picture, "png")


def data_url(data: bytes, kind: str = "png") -> str:
    """The bytes of a picture of ``kind`` as an address that holds all of it."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def background_url(image: Image.Image) -> str:
    """``image`` as an address, small enough to lie under many maps."""
    small = image.width * image.height <= LOSSLESS
    return _url(image.convert("RGB"), "png" if small else "jpeg", quality=90)


def _url(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return data_url(buffer.getvalue(), kind)


def _printable(value: object) -> object:
    """Text as people can see it, see :func:`heedmap.printable.visible`; HTML, numbers and spaces as they are."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return visible(value)
