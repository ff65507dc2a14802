"""HTML from the templates in ``templates``: what is filled in is escaped, and nothing unprintable gets through."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from heedmap.printable import visible


@cache
def environment() -> Environment:
    """The templates: escaped always, whatever their name; a value that is not given is an error."""
    return Environment(
        loader=PackageLoader("heedmap.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_printable,
    )


def render(template: str, **values: Any) -> Markup:
    """``template``, the name of a file in ``templates``, filled in with ``values``.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not there.
    """
    return Markup(environment().get_template(template).render(values))


def _printable(value: object) -> object:
    """Text as people can see it, see :func:`heedmap.printable.visible`; HTML, numbers and ``""`` as they are."""
    return visible(value) if value and isinstance(value, str) and not isinstance(value, Markup) else value
