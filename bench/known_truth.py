"""Maps of models with real weights against what is known to be true: ``python bench/known_truth.py --out docs``.

Writes ``known-truth.json``, ``known-truth.md`` and two pictures in ``img``. It takes about two hours on one thread; what is
measured is kept in ``--work``, and a run that stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from known import chemistry, findings, hearing, pictures
from known.page import page
from known.rows import Row
from known.summary import Table, summary
from known.templates import reactions

OF_REACTIONS = ("share", "atoms", "group", "pointing", "auc")
BEHIND = ("signs", "unsigned", "empty")
"""What the text of the page tells beside the table of reactions."""
OF_SPEECH = ("share", "pointing", "centre", "peak")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, such as docs")
    parser.add_argument("--work", type=Path, default=Path(".cache/known-truth"), help="what is measured so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    reacted = chemistry.measured(arguments.work / "reactions.jsonl")
    heard = hearing.measured(arguments.work / "speech.jsonl")
    write(arguments.out, reacted, heard)
    pictures.reaction(arguments.out / "img" / "known-reaction.png")
    pictures.sentence(arguments.out / "img" / "known-speech.png")


def write(out: Path, reacted: Sequence[Row], heard: Sequence[Row]) -> None:
    """The figures as JSON and as a page."""
    outputs = [*map(hearing.OF_OUTPUT.format, hearing.ABOVE), hearing.LESS_SILENCE]
    tables: dict[str, Table] = {
        "reactions": summary(reacted, OF_REACTIONS),
        "behind": summary(reacted, BEHIND),
        "speech": summary([row for row in heard if row["method"] not in outputs], OF_SPEECH),
        "output": summary([row for row in heard if row["method"] in (*hearing.ABOVE, *outputs)], OF_SPEECH),
    }
    facts = counts(reacted, heard)
    text = page(tables, facts, findings.told(tables))
    (out / "known-truth.md").write_text(text, encoding="utf-8")
    (out / "known-truth.json").write_text(json.dumps({**facts, "tables": tables}, indent=1) + "\n", encoding="utf-8")


def counts(reacted: Sequence[Row], heard: Sequence[Row]) -> Mapping[str, Any]:
    """How much was measured."""
    chance = [row for row in reacted if row["method"] == chemistry.CHANCE]
    words = [row for row in heard if row["method"] == hearing.CHANCE]
    return {
        "reactions": {
            "made": len(reactions()),
            "right": len(chance),
            "classes": len({row["unit"] for row in chance}),
            "tokens": round(float(np.mean([row["share"] for row in chance])), 4),
        },
        "speech": {"words": len(words)},
    }


if __name__ == "__main__":
    main()
