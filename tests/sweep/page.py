"""The page of the models: what was explained, how it was checked, and why the rest is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import groupby

from .processes import Row
from .verdict import EXPLAINED

UNBUILT = ("not built", "timeout", "died")
CHECKS = ("eager", "batch", "padding")
DISTRIBUTIONS = {"open_clip": "open_clip_torch"}
WORKS = ("whole", "language part", "without attention", "nothing", "wrong", "crash")
PACKAGES = re.compile(r"[^\s'\"(]*[/\\](?:site|dist)-packages[/\\]")
"""What comes before a package's own path."""
PATH = re.compile(r"(?<![\w.…])(?:[A-Z]:)?[/\\][\w.+-]+(?:[/\\][\w.+-]*)*")
HEAD = "| family | classes | explained | checked, or why refused |\n|---|---|---|---|"
INTRODUCTION = """# Models

<!-- Written by `python -m tests.sweep --write docs/reference/models.md`; do not edit. -->

Every model of {libraries} that builds small by its configuration, with random weights (torch {torch}): what explains it, and how
that was checked ([how this is measured](../breadth.md)).

- **whole**: `generic`, and with it every method that its [card](methods.md) does not except. **language part**: `generic` explains
  the language model, down to the tokens that it gets of the picture or sound. **without attention**: `generic` refuses, for the
  reason given; the methods that need no attention explain it, and `method="auto"` takes the one named.
- **oracle**: agrees with the paper's rules on the attention that the model itself returns. **eager**: the same map under fused
  and eager attention. **batch**: the same map in a batch as alone. **padding**: padding changes nothing. A number says of how
  many of the classes; the others return no attention, take no mask, or answer otherwise themselves. Batch and padding are checked
  of one class of a family.
"""


def works(row: Row) -> str:
    """What explains a class: a word of :data:`WORKS`."""
    if row["verdict"] in EXPLAINED:
        return {"whole": "whole", "language": "language part"}[row["part"]]
    if row["verdict"] in ("WRONG", "CRASH"):
        return {"WRONG": "wrong", "CRASH": "crash"}[row["verdict"]]
    return "without attention" if row.get("auto") else "nothing"


def written(rows: Sequence[Row]) -> str:
    """The page; no path of the machine on which it was written stands on it."""
    rows = [{**row, **{key: placeless(row[key]) for key in ("cause", "auto_error") if row.get(key)}} for row in rows]
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    named = [f"{name} {version(DISTRIBUTIONS.get(name, name))}" for name in libraries]
    parts = [
        INTRODUCTION.format(libraries=", ".join(named), torch=version("torch").split("+")[0]),
        counts(rows),
        causes(rows),
        *(library(name, [row for row in rows if row["library"] == name]) for name in libraries),
    ]
    return "\n".join(parts).rstrip() + "\n"


# -- counts -------------------------------------------------------------------------------------------------------------


def counts(rows: Sequence[Row]) -> str:
    """How many classes of how many families; shares of those that attend."""
    ran = [row for row in rows if row["verdict"] not in UNBUILT]
    attend = [row for row in ran if row["softmax"]]
    generic = [row for row in attend if row["verdict"] in EXPLAINED]
    some = [row for row in attend if row["verdict"] in EXPLAINED or row.get("auto")]
    others = [row for row in ran if not row["softmax"]]
    lines: list[tuple[str, Sequence[Row], Sequence[Row]]] = [
        ("swept", rows, ()),
        ("built and ran", ran, ()),
        ("mix tokens by softmax attention", attend, ()),
        ("– explained by `generic`", generic, attend),
        ("– – of these the language part alone", [r for r in generic if r["part"] == "language"], ()),
        ("– explained by some method", some, attend),
        ("without softmax attention, explained by some method", [r for r in others if works(r) != "nothing"], others),
        ("held against the oracle, all agree", [r for r in ran if r["verdict"] == "agrees"], ()),
        ("the same under fused and eager attention", made(ran, "eager"), ()),
        ("the same in a batch as alone", made(ran, "batch"), ()),
        ("the same with padding as without", made(ran, "padding"), ()),
        ("wrong", [r for r in ran if r["verdict"] == "WRONG"], ()),
        ("crashed", [r for r in rows if r["verdict"] in ("CRASH", "died")], ()),
        ("over the time or memory for one class", [r for r in rows if r["verdict"] == "timeout"], ()),
    ]
    table = [f"| {words} | {count(some)}{share(some, of)} |" for words, some, of in lines]
    return "\n".join(["| | classes |", "|---|---|", *table, ""])


def made(rows: Sequence[Row], check: str) -> list[Row]:
    """Those of the explained that a check was made of."""
    return [row for row in rows if row["verdict"] in EXPLAINED and isinstance(row.get(check), float)]


def count(rows: Sequence[Row]) -> str:
    """``3 of 2 families``."""
    families = {(row["library"], row["family"]) for row in rows}
    return f"{len(rows)} of {len(families)} families" if rows else "0"


def share(rows: Sequence[Row], of: Sequence[Row]) -> str:
    """``, 92.4 %``, rounded down; empty where it is of nothing."""
    return f", {int(1000 * len(rows) / len(of)) / 10} %" if of else ""


def causes(rows: Sequence[Row]) -> str:
    """Why ``generic`` refuses, and how many."""
    refused = [row for row in rows if row["verdict"] == "refused"]
    table = [
        f"| {cause} | {count([row for row in refused if row['cause'] == cause])} |"
        for cause, _ in sorted(Counter(row["cause"] for row in refused).items(), key=lambda item: (-item[1], item[0]))
    ]
    return "\n".join(["| `generic` refuses | classes |", "|---|---|", *table, ""])


# -- the table ----------------------------------------------------------------------------------------------------------


def library(name: str, rows: Sequence[Row]) -> str:
    """A library's tables: what ran, and what did not."""
    ran = [row for row in rows if row["verdict"] not in UNBUILT]
    left = [row for row in rows if row["verdict"] in UNBUILT]
    parts = [f"## {name}\n", HEAD, *lines(ran, lambda row: (works(row), reason(row)), checks), ""]
    if left:
        words = f"\nNot built by names alone, which says nothing of heedmap, or not done in time ({count(left)}).\n"
        table = lines(left, lambda row: ("—", row["cause"]), lambda some: "")
        parts += [words, HEAD.replace("explained", "").replace("checked, or why refused", "why"), *table, ""]
    return "\n".join(parts)


def lines(
    rows: Sequence[Row], key: Callable[[Row], tuple[str, str]], more: Callable[[Sequence[Row]], str]
) -> Iterator[str]:
    """A line for each family and what is said of its classes."""

    def order(row: Row) -> tuple[str, tuple[str, str]]:
        return row["family"], key(row)

    for (family, (first, words)), group in groupby(sorted(rows, key=lambda r: (*order(r), r["class"])), order):
        some = list(group)
        names = " ".join(f"`{row['class']}`" for row in some)
        yield f"| {family} | {names} | {first} | {'; '.join(w for w in (more(some), cell(words)) if w)} |"


def placeless(words: str) -> str:
    """Words without what is of one machine: packages' own paths stay, other paths, also those cut off, are ``…``."""
    return PATH.sub("…", PACKAGES.sub("", words))


def cell(words: str) -> str:
    """Words that cannot end a cell of the table."""
    return words.replace("|", "/").replace("\n", " ")


def reason(row: Row) -> str:
    """Why a class is not explained by ``generic``, and what explains it instead."""
    if row["verdict"] in EXPLAINED:
        return ""
    return f"{row['cause']}; `{row['auto']}`" if row.get("auto") else f"{row['cause']}; {row.get('auto_error', '')}"


def checks(rows: Sequence[Row]) -> str:
    """How these classes were checked: ``oracle, eager 2``."""
    explained = [row for row in rows if row["verdict"] in EXPLAINED]
    numbers = {
        "oracle": sum(row["verdict"] == "agrees" for row in explained),
        **{check: len(made(explained, check)) for check in CHECKS},
    }
    said = [name if number == len(rows) else f"{name} {number}" for name, number in numbers.items() if number]
    return ", ".join(said) if said or not explained else "runs"
