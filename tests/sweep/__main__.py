"""Every model of transformers, timm, torchvision and open_clip that builds small, explained and checked.

``python -m tests.sweep --write docs/reference/models.md`` writes one line for each class to ``--out``, and of all of them the page.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from . import page
from .libraries import LIBRARIES, subjects
from .processes import Row, Subject, swept
from .verdict import judged


def main(words: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)
    wanted = subjects(arguments.library.split(","), arguments.families.split(",") if arguments.families else None)
    kept = read(arguments.out) if (arguments.resume or arguments.again) and arguments.out.exists() else []
    rows = {subject_of(row): row for row in kept}
    with arguments.out.open("a" if rows else "w", encoding="utf-8") as file:
        for row in swept([s for s in wanted if arguments.again or s not in rows], judged):
            rows[subject_of(row)] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{row['family']:28} {row['class']:48} {row['verdict']:14} {row.get('cause', '')[:70]}", flush=True)
    print(page.counts(list(rows.values())))
    if arguments.write:
        arguments.write.write_text(page.written(list(rows.values())), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m tests.sweep", description=(__doc__ or "").splitlines()[0])
    found.add_argument("--out", type=Path, default=Path("sweep.jsonl"), help="file of JSON lines (sweep.jsonl)")
    found.add_argument("--library", default=",".join(LIBRARIES), help="names, with commas between (all)")
    found.add_argument("--families", help="names, with commas between (all)")
    found.add_argument("--resume", action="store_true", help="keep what --out has, and do the rest")
    found.add_argument("--again", action="store_true", help="keep what --out has, and do what is named anew")
    found.add_argument(
        "--write", type=Path, metavar="PAGE", help="docs/reference/models.md, made of all that --out has"
    )
    return found


def read(path: Path) -> list[Row]:
    """The lines of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def subject_of(row: Row) -> Subject:
    """What a line is of."""
    return Subject(row["library"], row["family"], row["class"])


if __name__ == "__main__":
    main()
