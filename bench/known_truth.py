"""Maps of models with real weights against what is known to be true: ``python bench/known_truth.py --out docs``.

Writes ``known-truth.json``, ``known-truth.md`` and three pictures in ``img``. It takes about two and a half hours on one thread;
what is measured is kept in ``--work``, and a run that stopped goes on from there. ``--only drawings`` measures a part alone,
``--methods NAME …`` these methods alone: the other rows of the tables stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from known import chemistry, findings, hearing, language, pictures, programs, reading
from known.molecules import MOLECULES
from known.page import page
from known.speech import SENTENCES, speaker
from known.summary import Table, summary
from known.templates import reactions

OF_REACTIONS = ("share", "atoms", "group", "pointing", "auc")
BEHIND = ("signs", "unsigned", "empty")
"""What the text of the page tells beside the table of reactions."""
OF_LANGUAGE = ("share", "rest", "pointing", "auc")
OF_SPEECH = ("share", "pointing", "centre", "peak")
OF_DRAWINGS = ("share", "pointing", "nearest", "distance")
Part = tuple[Mapping[str, Any], dict[str, Table]]
"""How much was measured, and the tables."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, such as docs")
    parser.add_argument("--work", type=Path, default=Path(".cache/known-truth"), help="what is measured so far")
    parser.add_argument(
        "--only",
        choices=PARTS,
        default=tuple(PARTS),
        nargs="+",
        help="parts; the others stay as known-truth.json has them",
    )
    parser.add_argument("--methods", default=(), nargs="+", help="rows that are measured; the others stay")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "known-truth.json"
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    tables = data.pop("tables", {})
    for name in arguments.only:
        measured, drawn = PARTS[name]
        facts, more = measured(arguments.work / f"{name}.jsonl", arguments.methods)
        data[name] = _joined(data[name], facts) if arguments.methods else facts
        tables |= {t: tables[t] | rows if arguments.methods else rows for t, rows in more.items()}
        if drawn is not None and not arguments.methods:
            drawn(arguments.out / "img" / f"known-{name.removesuffix('s')}.png")
    (arguments.out / "known-truth.md").write_text(page(tables, data, findings.told(tables)), encoding="utf-8")
    path.write_text(json.dumps({**data, "tables": tables}, indent=1) + "\n", encoding="utf-8")


def _joined(before: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with those of further methods."""
    refused = {**before.get("refused", {}), **facts.get("refused", {})}
    return {**before, **facts, **({"refused": refused} if refused else {})}


def of_reactions(path: Path, methods: Sequence[str] = ()) -> Part:
    """rxnfp's."""
    rows = chemistry.measured(path, methods)
    tables = {"reactions": summary(rows, OF_REACTIONS), "behind": summary(rows, BEHIND)}
    if methods:
        return {}, tables
    chance = [row for row in rows if row["method"] == chemistry.CHANCE]
    facts = {
        "made": len(reactions()),
        "right": len(chance),
        "classes": len({row["unit"] for row in chance}),
        "tokens": round(float(np.mean([row["share"] for row in chance])), 4),
    }
    return facts, tables


def of_speech(path: Path, methods: Sequence[str] = ()) -> Part:
    """Whisper's."""
    measured = hearing.measured(path, methods)
    rows = [row for row in measured if "refused" not in row]
    refused = {row["method"]: row["refused"] for row in measured if "refused" in row}
    outputs = [*map(hearing.OF_OUTPUT.format, hearing.ABOVE), hearing.LESS_SILENCE]
    facts: dict[str, Any] = {"refused": refused}
    if not methods:
        facts["words"] = sum(row["method"] == hearing.CHANCE for row in rows)
        facts["sentences"] = len(SENTENCES)
        facts["speaker"] = speaker()
    return facts, {
        "speech": summary([row for row in rows if row["method"] not in outputs], OF_SPEECH),
        "output": summary([row for row in rows if row["method"] in (*hearing.ABOVE, *outputs)], OF_SPEECH),
    }


def of_words(path: Path, methods: Sequence[str] = ()) -> Part:
    """Whisper's, of whole answers; it has methods of its own."""
    if methods:
        return {}, {}
    rows = hearing.answered(path)
    chance = [row for row in rows if row["method"] == hearing.CHANCE]
    facts = {"words": len(chance), "sentences": len({row["unit"] for row in chance})}
    return facts, {"words": summary(rows, OF_SPEECH)}


def of_drawings(path: Path, methods: Sequence[str] = ()) -> Part:
    """DECIMER's; further methods are those of few molecules."""
    measured = reading.measured(path, methods)
    rows = [row for row in measured if "refused" not in row]
    refused = {row["method"]: row["refused"] for row in measured if "refused" in row}
    if methods:
        tables = {"few": summary(rows, OF_DRAWINGS), "signed": summary(rows, ("inside", "border"))}
        return {"refused": refused}, tables
    chance = [row for row in rows if row["method"] == reading.CHANCE]
    more = {row["unit"] for row in rows if row["method"] in reading.MORE}
    facts = {
        "made": len(MOLECULES),
        "right": len({row["unit"] for row in chance}),
        "letters": sum(row["letter"] for row in chance),
        "corners": sum(not row["letter"] for row in chance),
        "few": len(more),
        "refused": refused,
    }
    letters = [row for row in rows if row["letter"]]
    corners = [row for row in rows if not row["letter"]]
    return facts, {
        "letters": summary([row for row in letters if row["method"] not in reading.MORE], OF_DRAWINGS),
        "corners": summary([row for row in corners if row["method"] not in reading.MORE], OF_DRAWINGS),
        "few": summary([row for row in letters if row["unit"] in more and row["method"] in reading.FEW], OF_DRAWINGS),
        "signed": summary(letters, ("inside", "border")),
    }


def of_programs(path: Path, methods: Sequence[str] = ()) -> Part:
    """Those that tracr compiled: a table for each figure, with a column for each program."""
    measured = programs.measured(path, methods)
    rows = [row for row in measured if "refused" not in row]
    of_each = {name: summary([r for r in rows if r["program"] == name], ("share", "auc")) for name in programs.PROGRAMS}
    tables = {
        f"programs, {figure}": {
            method: {name: table[method][figure] for name, table in of_each.items()} for method in of_each["sum"]
        }
        for figure in ("share", "auc")
    }
    return {} if methods else {"sequences": programs.SAMPLES}, tables


def of_likeness(path: Path, methods: Sequence[str] = ()) -> Part:
    """MiniLM's."""
    return _language("likeness", language.alike(path, methods), len(language.likened()), methods)


def of_capitals(path: Path, methods: Sequence[str] = ()) -> Part:
    """SmolLM2's."""
    return _language("capitals", language.next_word(path, methods), len(language.asked()), methods)


def _language(name: str, measured: Sequence[Mapping[str, Any]], made: int, methods: Sequence[str]) -> Part:
    rows = [dict(row) for row in measured if "refused" not in row]
    facts: dict[str, Any] = {"refused": {row["method"]: row["refused"] for row in measured if "refused" in row}}
    if not methods:
        facts |= {"made": made, "right": sum(row["method"] == language.CHANCE for row in rows)}
    return facts, {name: summary(rows, OF_LANGUAGE)}


PARTS: Mapping[str, tuple[Callable[[Path, Sequence[str]], Part], Callable[[Path], None] | None]] = {
    "reactions": (of_reactions, pictures.reaction),
    "speech": (of_speech, pictures.sentence),
    "words": (of_words, None),
    "drawings": (of_drawings, pictures.drawing),
    "likeness": (of_likeness, None),
    "capitals": (of_capitals, None),
    "programs": (of_programs, None),
}
"""Name → what measures it, and what draws its picture, where it has one."""


if __name__ == "__main__":
    main()
