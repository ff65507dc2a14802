"""What the page shows between its fields, as HTML; all that people wrote is escaped."""

from __future__ import annotations

from heedmap.models.predictions import Choice
from heedmap.printable import visible
from heedmap.render.html import html_text
from heedmap.render.page import wrapped
from heedmap.web.frames import pressable
from heedmap.web.handlers import Asked
from heedmap.web.results import TYPES


def hint(model: str, samples: bool) -> str:
    """What to do next, before anything was explained."""
    pick = "Pick a sample or give something of your own" if samples else "Give something of your own"
    return f"<p>{html_text(model)}: {pick}, ask the model, then choose an answer; its map comes here.</p>"


def error(message: str) -> str:
    """A message that screen readers tell at once; ``""`` where there is none."""
    return f'<div class="heedmap-error" role="alert" dir="auto">{html_text(message)}</div>' if message else ""


def links(name: str) -> str:
    """Links to the files of a result."""
    return "".join(
        f'<a href="explained/{name}{ending}" download="heedmap{ending}">Download {ending[1:].upper()}</a>'
        for ending in TYPES
    )


def answer(asked: Asked) -> str:
    """The answers where they are, to be pressed: objects on the picture, tokens in what was said; ``""`` of others."""
    choices = asked.predictions.choices
    if asked.picture is not None and any(choice.box is not None for choice in choices):
        return wrapped(pressable(asked.picture, choices), None)
    if any(choice.token for choice in choices):
        return wrapped(_said(choices), None)
    return ""


def _said(choices: tuple[Choice, ...]) -> str:
    said = [(n, choice) for n, choice in enumerate(choices) if choice.token]
    tokens = "".join(_token(n, choice, first=k == 0) for k, (n, choice) in enumerate(said))
    return f'<div class="said" dir="auto" role="group" aria-label="what the model says">{tokens}</div>'


def _token(number: int, choice: Choice, first: bool) -> str:
    name, place = html_text(str(choice)), 0 if first else -1
    shown = html_text(visible(choice.token))
    return f'<span role="button" tabindex="{place}" data-choice="{number}" title="{name}" aria-label="{name}">{shown}</span>'
