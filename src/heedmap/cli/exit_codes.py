"""What a command does with an exception: one message and an exit code.

Exit codes: 0 done; 1 an error that heedmap raises on purpose; 2 a wrong command line; 3 an error inside heedmap; 130
interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from heedmap.errors import HeedmapError

USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 3, 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with every exception turned into one message and an exit code."""

    @wraps(command)
    def run(context: typer.Context, **arguments: Any) -> None:
        try:
            command(context, **arguments)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise
        except HeedmapError as error:
            fail(str(error), USER_ERROR)
        except Exception as error:
            if context.find_root().obj:
                raise
            hint = "run the command again as `heedmap --debug …` to see where"
            fail(f"internal error: {type(error).__name__}: {error}\n{hint}", INTERNAL_ERROR)

    return run


def fail(message: str, code: int) -> None:
    """Print ``message`` in red and exit with ``code``."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(Text(f"heedmap: {message}", style="red"), soft_wrap=True)
    raise typer.Exit(code)


def quiet(*, bars: bool = False) -> None:
    """Transformers' hints are for programmers, its progress bars for terminals: an error should stand alone.

    Args:
        bars: leave its progress bars, where there is a terminal; a command with a bar of its own wants no other.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not (bars and sys.stderr.isatty()):
        logging.disable_progress_bar()
