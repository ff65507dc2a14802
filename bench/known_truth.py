"""Maps of models with real weights against what is known to be true: ``python bench/known_truth.py --out docs``.

Writes ``known-truth.json``, ``known-truth.md`` and two pictures in ``img``. It takes about two hours on one thread; what is
measured is kept in ``--work``, and a run that stopped goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from known import chemistry, hearing


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, such as docs")
    parser.add_argument("--work", type=Path, default=Path(".cache/known-truth"), help="what is measured so far")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    chemistry.measured(arguments.work / "reactions.jsonl")
    hearing.measured(arguments.work / "speech.jsonl")


if __name__ == "__main__":
    main()
