"""The page's own style and scripts."""

from __future__ import annotations

from importlib.resources import files


def asset(name: str) -> str:
    """The text of a style or a script that lies beside this module."""
    return files("heedmap.web").joinpath(name).read_text(encoding="utf-8")
