"""Makes links of the roles in docstrings, such as ``:func:`heedmap.load` ``, for the reference that `make docs` builds."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`(~?)([\w.]+)`")


class Roles(Extension):
    """What the reference does not have stays a name without a link."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """The docstring of ``obj``, with HTML for its roles."""
        if obj.docstring:
            home = obj.path if obj.is_class or obj.is_module else obj.path.rpartition(".")[0]
            obj.docstring.value = ROLE.sub(lambda role: _link(home, *role.groups()), obj.docstring.value)


def _link(home: str, short: str, name: str) -> str:
    full = name if name.startswith("heedmap.") else f"{home}.{name}"
    shown = name.rpartition(".")[2] if short else name
    return f'<autoref identifier="{full}" optional><code>{shown}</code></autoref>'
