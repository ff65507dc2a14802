"""Every model class of transformers that builds small, explained and held against an oracle.

``python bench/sweep.py --out sweep.jsonl`` writes one line for each class, and prints a table; ``--resume`` goes on.
About half an hour on one core. The oracle (``breadth/truth.py``) uses nothing of heedmap.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))

import torch

from breadth.build import families
from breadth.verdict import Row, judged

SECONDS, TOGETHER = 60, 100
"""What one class may take; how many classes share a process."""


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--families", help="names, with commas between; all by default")
    parser.add_argument("--resume", action="store_true", help="keep what --out has, and do the rest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = families()
    if arguments.families:
        wanted = {name: wanted[name] for name in arguments.families.split(",")}
    rows = read(arguments.out) if arguments.resume and arguments.out.exists() else []
    done = {row["class"] for row in rows}
    with arguments.out.open("a" if arguments.resume else "w", encoding="utf-8") as file:
        for row in swept({f: [n for n in names if n not in done] for f, names in wanted.items()}):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{row['family']:28} {row['class']:48} {row['verdict']:14} {row.get('cause', '')[:70]}", flush=True)
    print(summary([row for row in rows if row["family"] in wanted]))


def read(path: Path) -> list[Row]:
    """The lines of an earlier run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def swept(wanted: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """A line for each class; in processes of a few families' classes, so that none can end the sweep."""
    left = [(family, name) for family, names in wanted.items() for name in names]
    while left:
        done = 0
        for row in of_process(left[:TOGETHER]):
            yield row
            done += 1
        left = left[done:]


def of_process(classes: Sequence[tuple[str, str]]) -> Iterator[Row]:
    """Lines of one process: all of ``classes``, or as many as come before it dies or one takes too long."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(classes, there), daemon=True)
    worker.start()
    there.close()
    try:
        for family, name in classes:
            row: Row = {"family": family, "class": name, "verdict": "timeout", "cause": f"over {SECONDS} s"}
            if not here.poll(SECONDS):
                yield row
                return
            try:
                yield here.recv()
            except EOFError:
                worker.join()
                yield {**row, "verdict": "died", "cause": f"exit code {worker.exitcode}"}
                return
    finally:
        worker.kill()
        worker.join()
        here.close()


def work(classes: Sequence[tuple[str, str]], there: Connection) -> None:
    """In the process: each class, and its line sent back."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for family, name in classes:
            try:
                row: Row = judged(family, name)
            except Exception as error:
                row = {"family": family, "class": name, "verdict": "not built", "cause": f"sweep: {error!r:.200}"}
            there.send(row)


def summary(rows: Sequence[Row]) -> str:
    """Counts by verdict and cause, as a Markdown table."""
    ran = [row for row in rows if row["verdict"] not in ("not built", "timeout", "died")]
    lines = [
        f"\n{count(ran)} built and ran; {count([r for r in rows if r not in ran])} did not.\n",
        "| verdict | cause | classes, families |",
        "|---|---|---|",
    ]
    kinds = Counter((row["verdict"], row.get("cause", "")) for row in rows if row["verdict"] != "not built")
    for verdict in sorted({v for v, _ in kinds}):
        lines.append(f"| **{verdict}** | | {count([r for r in rows if r['verdict'] == verdict])} |")
        for (own, cause), _ in kinds.most_common():
            if own == verdict:
                some = [r for r in rows if (r["verdict"], r.get("cause", "")) == (own, cause)]
                lines.append(f"| | {cause} | {count(some)} |")
    return "\n".join(lines)


def count(rows: Sequence[Mapping[str, Any]]) -> str:
    """``3 classes of 2 families``."""
    return f"{len(rows)} classes of {len({row['family'] for row in rows})} families"


if __name__ == "__main__":
    main()
