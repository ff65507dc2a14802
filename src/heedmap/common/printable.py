"""What people read: texts and numbers on a terminal, a page or a picture; and what messages advise, said as the reader can do it,
for they are written for Python, and a shell and a page have other ways.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
WRITTEN = {"\n": "⏎", "\r": "⏎", "\t": "⇥"}
"""White space that is no space: signs that more fonts have than those of Unicode's control pictures."""


def visible(text: str) -> str:
    """``text`` with everything unprintable made visible: no control, bidi override or lone surrogate remains."""
    if not text:
        return "∅"
    if not text.strip(" "):
        return "␣" * len(text)
    return "".join(map(_visible_character, text))


def number(value: float) -> str:
    """``value`` in three significant digits."""
    return f"{value:.3g}"


def percent(part: float) -> str:
    """``12.3 %``; what is not quite nothing or not quite all is said to be so."""
    if 0 < part < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < part < 1 else f"{100 * part:.1f} %"


def closest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'cat'?)``, after a name that is none: the known one that is written most alike, if any is."""
    folded = {other.casefold(): other for other in known}
    alike = get_close_matches(name.casefold(), folded, 1)
    return f" (did you mean {folded[alike[0]]!r}?)" if alike else ""


def cut(text: str, most: int) -> str:
    """``text`` of no more than ``most`` letters, the last an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(count: int, thing: str) -> str:
    """``1 model``, ``2 models``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def without_folders(name: str) -> str:
    """A model's name, of a path the last part alone: what is sent to others does not tell whose machine it was."""
    path = Path(name).expanduser()
    return path.name if path.is_absolute() or name.startswith((".", "~")) else name


def _visible_character(character: str) -> str:
    code = ord(character)
    if character in WRITTEN:
        return WRITTEN[character]
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character in BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    return character


Ways = Sequence[tuple[str, str]]

ROLE = r"(text|image|boxes|audio)=…"
FUNCTION = r"pass target=callable\(output\) -> \(batch,\) tensor"
METHODS = r"method=('?\w+'?(?:, '?\w+'?)*), or 'auto'"

PYTHON: Ways = (
    (
        r"(?:: |; |, or )(?:make the model yourself: |go without it: )?heedmap\.(load|explain)\(",
        r"; in Python: heedmap.\1(",
    ),
    (r"(?<![:.] )heedmap\.(load|explain)\((?=model)", r"in Python heedmap.\1("),
    (r"\. heedmap\.explain\(model, tensors\) takes", ". In Python heedmap.explain(model, tensors) takes"),
    (r", or load\(…, trust_remote_code=True\)", "; or, in Python, heedmap.load(…, trust_remote_code=True)"),
    (r"say which class it is with classes=\{…\}", "say in Python which class it is: classes={…}"),
    (r"; give chat=False and the prompt as it is", "; in Python chat=False takes the prompt as it is"),
    (r"; give labels= with all names, or", "; in Python give labels= with all names, or"),
    (r"give reference=, or ", ""),
    (r"; choose scoring='any'", "; in Python, scoring='any' takes it"),
)
"""Pattern of a piece of advice that can be followed in Python alone → the same, which says so."""

SHELL: Ways = (
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
    (METHODS, r"--method \1, or auto"),
    (r"\banswer=True\b", "--answer"),
    (r"\banswer=(?![\w'])", "--answer"),
    (r"generate=\{'max_new_tokens': …\}", "--generate max_new_tokens=N"),
    (r"\b(mixers|probe)=False", r"--option \1=false"),
    (r"\bfull=True", "--option full=true"),
    (r"with cam='gradient'", "with --option cam=gradient"),
    (r"\bgrid=\(rows, columns\)", "--option grid=[ROWS,COLUMNS]"),
    (r"segments=\{input: name\}", """--option segments='{"input": "name"}'"""),
    (r"\bsplit=(?:, on the command line --file)?(?![\w'])", "--file split=NAME"),
    (r"columns=\{'\w+': '\w+'\}, on the command line (?=--file)", ""),
    (r"columns=\{'(\w+)': (?:…|'(\w+)')\}", r"--file columns.\1=NAME"),
    (r"NextToken\(position=…\)", "--target position:P"),
    (r"\bmask=,", "--target mask:PROMPT:MASK,"),
    (r"\bwhere=(?: for a region| \(a mask, a box or a point\))", "--target region:LABEL@X1,Y1,X2,Y2"),
    (r"start_layer=(\d+) leaves out", r"--option start_layer=\1 leaves out"),
    (r"\bweights='(\w+)'", r"--weights \1"),
    (r"\bworkers=(\d+)", r"--workers \1"),
    (r"another of heedmap\.METHODS", "another that `heedmap methods` lists"),
    (r"use heedmap\.explain on", "use `heedmap explain` on"),
    *PYTHON,
)
"""Pattern of a piece of advice → the same for the command line."""

PAGE: Ways = (
    (FUNCTION, "choose another answer, or give a function of the output in Python: heedmap.explain(target=…)"),
    (rf"give {ROLE} or {ROLE}", r"fill in their fields (\1, \2)"),
    (rf"give {ROLE}", r"fill in its field (\1)"),
    (METHODS, r"choose \1 as the method"),
    (r",? which (?:mixers|probe)=False turns off(?:: leave it out)?", ""),
    (r" \(or (?:pass )?probe=False, at your (?:own )?risk\)", ""),
    (r"; segments=\{input: name\} says which inputs are content", ""),
    (r"; generate=\{'max_new_tokens': …\} gives it more", ""),
    (r": its beginning, by answer=, or generate=\{'max_new_tokens': …\}", ""),
    (r"give the answer with answer=, or other inputs", "give other inputs"),
    (r"; give the answer that is to be explained with answer=", ""),
    (r"; give another with answer=", ""),
    (r", or give NextToken\(position=…\)", ""),
    (r"(?:; |, or )give target=None(?: or heedmap\.targets\.\w+\(…\)| for the most probable text.*)", ""),
    (r", or where=(?: for a region| \(a mask, a box or a point\))", ""),
    (r"; give mask=,", "; they are"),
    (r"\bstart_layer=(\d+) leaves out", r"start_layer=\1 among the method's options leaves out"),
    (r"another of heedmap\.METHODS", "another of the list"),
    (r"with cam='gradient'", "with the option cam=gradient"),
    (r"\bgrid=\(rows, columns\)", "grid=[ROWS,COLUMNS] among the method's options"),
    (r"(?<![\w./])/(?:[\w.+@-]+/)*site-packages/", ""),
    (r"(?<![\w./])/(?:[\w.+@-]+/)+(?=[\w.-]+\.py:)", ""),
    *PYTHON,
)
"""The same for the web page, and for reports, whose readers call nothing."""


def said_for(ways: Ways, message: str) -> str:
    """``message`` with its advice as one of :data:`SHELL` and :data:`PAGE` has it."""
    for pattern, words in ways:
        message = re.sub(pattern, words, message)
    return message
