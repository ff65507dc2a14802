"""Methods by name. ``METHODS`` is what the command line, the docs and the conformance tests iterate.

They are imported when first asked for, so that the cards, which are data, can be read without torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heedmap.methods.method import Method
    from heedmap.methods.registry import METHODS

__all__ = ["METHODS", "Method"]


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'heedmap.methods' has no attribute {name!r}")
        from heedmap.methods.method import Method
        from heedmap.methods.registry import METHODS

        exported = {"METHODS": METHODS, "Method": Method}
        globals().update(exported)
        return exported[name]
