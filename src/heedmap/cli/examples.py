"""Examples at the end of a command's help; the tests run them."""

from __future__ import annotations

HEADING = "Examples"


def examples(*commands: str) -> str:
    """The end of a command's help, one example a line.

    Args:
        commands: each as it is typed, at most 78 letters, so that no line of an 80-column terminal is broken.
    """
    return "\n\n".join((f"[bold]{HEADING}[/bold]", *(command.replace("[", "\\[") for command in commands)))


def commands_of(end: str | None) -> list[str]:
    """The commands that :func:`examples` was given, from the end of a help that it made."""
    lines = (end or "").replace("\\[", "[").split("\n\n")
    return lines[1:] if HEADING in lines[0] else []
