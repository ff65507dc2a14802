"""Dates as people write them, the same in ISO 8601, and which characters carry the year, the month and the day.

What the writing means:

- Numbers alone are day, month, year ("03/04/1987" is 3 April), unless four digits come first: then year, month, day.
- A year of two digits is one of 1930 to 2029 ("87" is 1987, "05" is 2005).
- The name of a weekday is the right one, and tells nothing that the rest does not.

Dates are those of 1900 to 2099. A date is of one split only, in whatever form it is written, so that a model is tested
on dates that it never saw. Everything follows from (seed, split, index).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from random import Random

from heedmap.zoo.lists import split_of as split_of_text

FIRST, LAST = date(1900, 1, 1).toordinal(), date(2099, 12, 31).toordinal()
SHORT_YEARS = range(1930, 2030)

MONTHS = (
    ("january", "jan", "jan.", "janury"),
    ("february", "feb", "feb.", "febuary"),
    ("march", "mar", "mar."),
    ("april", "apr", "apr.", "aprill"),
    ("may",),
    ("june", "jun", "jun."),
    ("july", "jul", "jul."),
    ("august", "aug", "aug.", "agust"),
    ("september", "sep", "sept", "sept.", "setember"),
    ("october", "oct", "oct.", "octobre"),
    ("november", "nov", "nov.", "novembre"),
    ("december", "dec", "dec.", "decembre"),
)
WEEKDAYS = (
    ("monday", "mon"),
    ("tuesday", "tue", "tues"),
    ("wednesday", "wed"),
    ("thursday", "thu", "thurs"),
    ("friday", "fri"),
    ("saturday", "sat"),
    ("sunday", "sun"),
)
UNITS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
TEENS = ("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth")
ORDINALS = (
    *UNITS,
    *TEENS,
    *("nineteenth", "twentieth"),
    *(f"twenty-{unit}" for unit in UNITS[1:10]),
    *("thirtieth", "thirty-first"),
)

FORMS = (
    "{D} {M} {Y}",
    "{D} {M}, {Y}",
    "{M} {D}, {Y}",
    "{M} {D} {Y}",
    "{D} of {M}, {Y}",
    "the {D} of {M} {Y}",
    "{M} the {D}, {Y}",
    "{W}, {D} {M} {Y}",
    "{W} {D} {M} {Y}",
    "{W}, {M} {D}, {Y}",
    "{W}, the {D} of {M}, {Y}",
    "{D}-{M}-{Y}",
    "{D} {M} '{y}",
    "{M} {D} '{y}",
    "{M} {D} {y}",
    "{d}/{m}/{Y}",
    "{d}/{m}/{y}",
    "{d}.{m}.{Y}",
    "{d}. {m}. {Y}",
    "{d}-{m}-{Y}",
    "{f}-{m}-{d}",
    "{f}/{m}/{d}",
    "{f}.{m}.{d}",
    "{f} {M} {D}",
    "{W} {d}/{m}/{Y}",
)
"""D day in any form, d day in digits, M month by name, m in digits, Y year, f with four digits, y with two, W weekday."""

OPENINGS = ("", "", "", "on ", "dated ", "date: ", "born ", "due ")
ISO = {"year": (0, 4), "month": (5, 7), "day": (8, 10)}
"""Part → its characters in the ISO form, from and to."""
PARTS = {"D": "day", "d": "day", "M": "month", "m": "month", "Y": "year", "f": "year", "y": "year", "W": "weekday"}


@dataclass(frozen=True)
class DateSample:
    """A date.

    Attributes:
        text: as somebody wrote it.
        iso: such as ``"1987-03-03"``.
        spans: ``"year"``, ``"month"``, ``"day"`` (and ``"weekday"``, where there is one) → its characters in ``text``,
            from and to.
    """

    text: str
    iso: str
    spans: Mapping[str, tuple[int, int]]

    def evidence(self, position: int) -> tuple[int, int] | None:
        """The characters of ``text`` that a character of ``iso`` is read from; None: it is a hyphen."""
        part = next((part for part, (start, end) in ISO.items() if start <= position < end), None)
        return None if part is None else self.spans[part]


def date_sample(seed: int, split: str, index: int) -> DateSample:
    """Sample ``index`` of ``"train"``, ``"val"`` or ``"test"``."""
    random = Random(f"dates/{seed}/{split}/{index}")
    day = _day_of(random, split)
    form = random.choice([f for f in FORMS if "{y}" not in f or day.year in SHORT_YEARS])
    text, spans = _written(form, day, random)
    return DateSample(text, day.isoformat(), spans)


def split_of(day: date) -> str:
    """The split that a date belongs to: one in ten is of ``"test"``, one in ten of ``"val"``."""
    return split_of_text(day.isoformat())


def _day_of(random: Random, split: str) -> date:
    while True:
        day = date.fromordinal(random.randint(FIRST, LAST))
        if split_of(day) == split:
            return day


def _written(form: str, day: date, random: Random) -> tuple[str, dict[str, tuple[int, int]]]:
    text, spans = random.choice(OPENINGS), {}
    padded = random.random() < 0.5
    for piece in form.replace("{", "\0{").replace("}", "}\0").split("\0"):
        if piece.startswith("{"):
            words = _piece(piece[1], day, random, padded)
            spans[PARTS[piece[1]]] = len(text), len(text) + len(words)
            piece = words
        text += piece
    case = random.choice((str, str, str.lower, str.upper))
    return case(text), spans


def _piece(letter: str, day: date, random: Random, padded: bool) -> str:
    if letter == "W":
        return random.choice(WEEKDAYS[day.weekday()]).capitalize()
    if letter == "M":
        return random.choice(MONTHS[day.month - 1]).capitalize()
    if letter in "dm":
        return f"{day.day if letter == 'd' else day.month:{'02' if padded else ''}}"
    if letter == "D":
        return random.choice((str(day.day), f"{day.day:02}", ordinal(day.day), ORDINALS[day.day]))
    short = letter == "y" or (letter == "Y" and day.year in SHORT_YEARS and random.random() < 0.15)
    return f"{day.year % 100:02}" if short else str(day.year)


def ordinal(number: int) -> str:
    """``"1st"``, ``"2nd"``, ``"3rd"``, ``"4th"``, ``"11th"``, …"""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else ending}"
