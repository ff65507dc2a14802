"""Why the paper's method loses where it loses: its parts and heedmap's own method on the validation split of the zoo's worlds.

    python bench/validation.py [--samples 100] [--docs docs]      # writes docs/validation.json

What is chosen is chosen here: the figures of docs/zoo.md and docs/results.md are of the test split, which this does not see.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import heedmap
from heedmap.zoo import evidence, samples
from heedmap.zoo.samples import MATERIALS

MODELS = ("bart-dates", "clip-shapes", "detr-shapes", "gpt-lists", "lxmert-shapes", "visualbert-shapes", "vit-shapes")
"""Those in which Libra gradients are defined at the attentions."""
METHODS = (
    "generic",
    "generic:normalize=false",
    "generic:self_in_rule_10=false",
    "raw_attention",
    "attn_lrp",
    "libra_input_x_gradient",
    "libra_generic",
    "libra_generic:normalize=false",
    "heedmap",
)


def main() -> None:
    """Measure, and write the figures of each model as soon as they are there."""
    parser = argparse.ArgumentParser(description="The study behind heedmap's own method.")
    parser.add_argument("--samples", type=int, default=100, help="of the validation split, a model")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="gets validation.json")
    given = parser.parse_args()
    for module in (samples, evidence):
        module.SPLIT = "val"  # type: ignore[attr-defined]
    figures = {}
    for name in MODELS:
        figures[name] = evidence.measure(heedmap.load(f"zoo/{name}"), MATERIALS[name], given.samples, methods=METHODS)
        data = {"format": "heedmap-evidence", "models": figures}
        (given.docs / "validation.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(name, "done", flush=True)


if __name__ == "__main__":
    main()
