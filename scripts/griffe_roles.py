"""Makes links of the roles in docstrings, such as ``:func:`heedmap.load` ``, for the reference that `make docs` builds."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


class Roles(Extension):
    """What the reference does not have stays a name without a link."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """The docstring of ``obj``, with HTML for its roles."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda role: _link(obj, *role.groups()), obj.docstring.value)


def _link(obj: Object, kind: str, short: str, name: str) -> str:
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{_full(obj, kind, name)}" optional><code>{shown}</code></autoref>'


def _full(obj: Object, kind: str, name: str) -> str:
    if name.startswith("heedmap."):
        return name
    of_class = kind in ("attr", "meth") and "." not in name
    home = (obj if obj.is_class else obj.parent) if of_class else obj.module
    return f"{home.path}.{name}" if home else name
