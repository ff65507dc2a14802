"""What messages advise, said as the reader can do it: they are written for Python, and a shell and a page have other ways."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROLE = r"(text|image|boxes|audio)=…"
FUNCTION = r"pass target=callable\(output\) -> \(batch,\) tensor"

SHELL: Sequence[tuple[str, str]] = (
    (
        FUNCTION,
        "name a target that fits by --target, or give a function of the output in Python: heedmap.explain(target=…)",
    ),
    (ROLE, r"--\1"),
    (
        r"give target=None or heedmap\.targets\.\w+\(…\)",
        "leave --target out, or see its forms in `heedmap explain --help`",
    ),
    (r"give target=None", "leave --target out"),
    (r"method=(\w+(?:, \w+)*), or 'auto'", r"--method \1, or auto"),
    (r"\banswer=(?![\w'])", "--answer"),
    (r"generate=\{'max_new_tokens': …\}", "--generate max_new_tokens=N"),
    (r"\b(mixers|probe)=False", r"--option \1=false"),
    (r"segments=\{input: name\}", """--option segments='{"input": "name"}'"""),
    (r"\bsplit=(?![\w'])", "--file split="),
    (r"columns=\{'text': …\}", "--file columns.text=NAME"),
    (r"NextToken\(position=…\)", "--target position:P"),
    (r"\bmask=,", "--target mask:PROMPT:MASK,"),
    (r"\bwhere=(?: for a region| \(a mask, a box or a point\))", "--target region:LABEL@X1,Y1,X2,Y2"),
    (r"start_layer=(\d+)", r"--option start_layer=\1"),
)
"""Pattern of a piece of advice → the same for the command line."""

PAGE: Sequence[tuple[str, str]] = (
    (FUNCTION, "choose another answer, or give a function of the output in Python: heedmap.explain(target=…)"),
    (rf"give {ROLE}", r"fill in its field (\1)"),
    (r"method=(\w+(?:, \w+)*), or 'auto'", r"choose \1 as the method"),
    (r"; give the answer that is to be explained with answer=", ""),
)
"""The same for the web page."""


def said_for(ways: Sequence[tuple[str, str]], message: str) -> str:
    """``message`` with its advice as one of :data:`SHELL` and :data:`PAGE` has it."""
    for pattern, words in ways:
        message = re.sub(pattern, words, message)
    return message
