"""Every model of transformers, timm, torchvision and open_clip that builds small, explained and checked.

``python -m tests.sweep`` writes one line for each class to ``--out``, and of all of them ``docs/reference/models.md``.
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
from .processes import Row, swept
from .verdict import judged

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "models.md"


def main(words: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)
    wanted = subjects(arguments.library.split(","), arguments.families.split(",") if arguments.families else None)
    rows = read(arguments.out) if arguments.resume and arguments.out.exists() else []
    done = {(row["library"], row["family"], row["class"]) for row in rows}
    with arguments.out.open("a" if arguments.resume else "w", encoding="utf-8") as file:
        for row in swept([s for s in wanted if s not in done], judged):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{row['family']:28} {row['class']:48} {row['verdict']:14} {row.get('cause', '')[:70]}", flush=True)
    print(page.counts(rows))
    if arguments.write:
        arguments.write.write_text(page.written(rows), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m tests.sweep", description=(__doc__ or "").splitlines()[0])
    found.add_argument("--out", type=Path, default=Path("sweep.jsonl"), help="file of JSON lines (sweep.jsonl)")
    found.add_argument("--library", default=",".join(LIBRARIES), help="names, with commas between (all)")
    found.add_argument("--families", help="names, with commas between (all)")
    found.add_argument("--resume", action="store_true", help="keep what --out has, and do the rest")
    found.add_argument("--write", type=Path, metavar="PAGE", help=f"the page, made of all rows: {PAGE.name}")
    return found


def read(path: Path) -> list[Row]:
    """The lines of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
