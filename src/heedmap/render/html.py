"""HTML from the templates in ``templates``: what is filled in is escaped, and nothing unprintable gets through."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from heedmap.common.printable import number, percent, visible
from heedmap.data.picture import Box, Geometry
from heedmap.render.overlay import muted
from heedmap.render.scale import MUTE, STEPS, step_class, tint
from heedmap.render.scale import theme as themed

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
SWITCH = ".d{display:none}@media(prefers-color-scheme:dark){.l{display:none}.d{display:inline}}"
"""In a picture of a page, this is the color-scheme of the element."""
PIXELS = ' style="image-rendering:pixelated"'
UNQUOTED = ";=,+@.-{}"
LOSSLESS = 300 * 300
"""Pixels up to which a picture under many maps is kept as it is; larger ones are compressed."""


@dataclass(frozen=True)
class InThemes:
    """A picture as each theme has it, of one size.

    Attributes:
        light, dark: as it is there.
        smooth: whether it is smoothed where it is shown larger.
    """

    light: Image.Image
    dark: Image.Image
    smooth: bool

    @property
    def width(self) -> int:
        """In pixels."""
        return self.light.width

    @property
    def height(self) -> int:
        """In pixels."""
        return self.light.height


def in_themes(draw: Callable[[str], Image.Image], *, smooth: bool = True) -> InThemes:
    """What ``draw`` makes of the name of each theme."""
    return InThemes(draw("light"), draw("dark"), smooth)


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
    templates.filters.update(number=number, percent=percent, url=picture_url)
    return templates


def render(template: str, **values: object) -> Markup:
    """``template``, the name of a file in ``templates``, filled in with ``values``.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not there.
    """
    return Markup(environment().get_template(template).render(values))


def macro(name: str, *values: object, **named: object) -> Markup:
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
    seen = None
    if image is not None:
        shown = image.convert("RGB")
        seen = picture_url(in_themes(lambda name: muted(shown, MUTE, themed(name)))), image.size
    return render("fragment.html", body=body, seen=seen, style=style())


@cache
def style(*, wide: bool = False) -> Markup:
    """The one sheet; what only wide pages need is left out elsewhere."""
    steps = [(step_class(n), tint(n / STEPS), tint(n / STEPS, dark=True)) for n in range(-STEPS, STEPS + 1) if n]
    return render("style.css", steps=steps, wide=wide)


def picture_url(picture: Image.Image | InThemes) -> str:
    """``picture`` as an address that holds all of it; one in themes is as the element is in which it stands."""
    if not isinstance(picture, InThemes):
        return _url(picture, "png")
    size = f'width="{picture.width}" height="{picture.height}"'
    scaled = f'{size} preserveAspectRatio="none"{"" if picture.smooth else PIXELS}'
    light, dark = (f'<image {scaled} href="{background_url(each)}"' for each in (picture.light, picture.dark))
    viewed = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {picture.width} {picture.height}" {size}>'
    drawing = f'{viewed}<style>{SWITCH}</style>{light} class="l"/>{dark} class="d"/></svg>'
    address = quote(drawing, safe=UNQUOTED).replace("http", "%68ttp")  # of a name, from which nothing is loaded
    return f"data:image/svg+xml,{address}"


def data_url(data: bytes, kind: str = "png") -> str:
    """The bytes of a picture of ``kind`` as an address that holds all of it."""
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def background_url(image: Image.Image) -> str:
    """``image`` as an address, small enough to lie under many maps; a large one of red, green and blue is compressed."""
    if image.width * image.height <= LOSSLESS or image.mode != "RGB":
        return _url(image, "png")
    return _url(image, "jpeg", quality=90)


def css_box(box: Box) -> str:
    """Where on a picture a box lies, in shares of its sides."""
    left, top, right, bottom = box
    return f"left:{left:.3%};top:{top:.3%};width:{right - left:.3%};height:{bottom - top:.3%}"


def css_view(geometry: Geometry) -> str:
    """Where on a picture that what the model saw lies, its padding too."""
    left, top, right, bottom = geometry.to_original((0.0, 0.0, *geometry.seen))
    width, height = geometry.size
    return css_box((left / width, top / height, right / width, bottom / height))


def _url(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return data_url(buffer.getvalue(), kind)


def _printable(value: object) -> object:
    """Text as people can see it, see :func:`heedmap.common.printable.visible`; HTML, numbers and spaces as they are."""
    if isinstance(value, Markup) or not isinstance(value, str) or value.isprintable():
        return value
    return visible(value)
