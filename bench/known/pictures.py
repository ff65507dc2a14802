"""The pictures of the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray
from PIL.ImageFilter import MinFilter

import heedmap
from heedmap.packaged import fetch
from known import chemistry, decimer, hearing, reading
from known.drawn import draw, drawn_at
from known.molecules import MOLECULES
from known.reactions import centre, unmarked
from known.speech import SENTENCES
from known.templates import reactions

REACTION = 15
"""The number of the reaction that is drawn: a Suzuki coupling."""
SENTENCE = 0
SHOWN = ("generic", "raw_attention", "rollout", "attn_lrp", "transformer_attribution", "attention_x_gradient")
HEARD = ("generic", "attention_x_gradient")
MOLECULE = "aspirin"
READ = ("raw_attention", "generic", reading.AGAINST.format("generic"))
TRUE = "#1a7f37"
DOTS = 110


def reaction(path: Path) -> None:
    """A reaction under several methods: a row each, the tokens of the centre framed."""
    _, marked = reactions()[REACTION]
    rxnfp = heedmap.load(fetch("rxnfp"))
    tokens = rxnfp.tokenizer.tokenize(unmarked(marked))
    inside = centre(marked, rxnfp.tokenizer)[1:-1]
    figure = Figure(figsize=(11, 0.34 * len(SHOWN) + 0.5), layout="constrained")
    axes = figure.subplots()
    maps = np.array([_scaled(chemistry.relevance_of(rxnfp, marked, method)) for method in SHOWN])
    axes.imshow(maps, cmap="Reds", aspect="auto", vmin=0, vmax=1)
    axes.set_xticks(range(len(tokens)), tokens, fontsize=7, family="monospace")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(SHOWN)), SHOWN, fontsize=8)
    for place in np.flatnonzero(inside):
        axes.add_patch(Rectangle((place - 0.5, -0.5), 1, len(SHOWN), fill=False, edgecolor=TRUE, linewidth=1.2))
    _save(figure, [axes], path)


def sentence(path: Path) -> None:
    """A sentence under two methods: a row a word, over time; the true time of each word framed."""
    whisper = heedmap.load(fetch("whisper-base"))
    said = hearing.heard(whisper, SENTENCE, SENTENCES[SENTENCE], every=True)
    assert said is not None
    figure = Figure(figsize=(5.5 * len(HEARD), 2.6), layout="constrained")
    panels = figure.subplots(1, len(HEARD), sharey=True)
    last = int((said.end + 0.5) / hearing.FRAME)
    for axes, method in zip(panels, HEARD, strict=True):
        maps = [_scaled(hearing.map_of(whisper, said, word, method)[:last]) for word in said.words]
        axes.imshow(maps, cmap="Reds", aspect="auto", extent=(0, last * hearing.FRAME, len(maps) - 0.5, -0.5))
        for row, word in enumerate(said.words):
            frame = Rectangle(
                (word.begin, row - 0.5), word.end - word.begin, 1, fill=False, edgecolor=TRUE, linewidth=1.2
            )
            axes.add_patch(frame)
        axes.set_yticks(range(len(said.words)), [word.text for word in said.words], fontsize=8)
        axes.set_xlabel("seconds", fontsize=8)
        axes.set_title(method, fontsize=9)
        axes.tick_params(labelsize=8)
    _save(figure, panels, path)


def drawing(path: Path) -> None:
    """A drawing under several methods: a row each, a panel for each atom that is said, the atom in a ring."""
    model, vocabulary = decimer.load()
    reader, shown = reading.Reading(model).eval(), draw(MOLECULES[MOLECULE])
    with torch.no_grad():
        cells = model.cells(decimer.pixels(shown.picture))
    tokens = decimer.read(model, vocabulary, cells)
    atoms = drawn_at(tokens, shown)
    assert atoms is not None
    figure = Figure(figsize=(13, 0.95 * len(READ) + 0.25), layout="constrained")
    panels = figure.subplots(len(READ), len(atoms), gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    ink = np.zeros((decimer.SIDE, decimer.SIDE, 4))
    ink[..., 3] = 1 - np.asarray(shown.picture.convert("L").filter(MinFilter(5))) / 255  # seen also when small
    for row, method in zip(panels, READ, strict=True):
        maps = reading.maps_of(reader, vocabulary, cells, tokens, method)
        row[0].set_ylabel(method.replace(", ", ",\n"), fontsize=6)
        for axes, (token, atom) in zip(row, atoms.items(), strict=True):
            grid = _scaled(maps[token]).reshape(decimer.CELLS, decimer.CELLS)
            extent = (0, decimer.CELLS, decimer.CELLS, 0)
            axes.imshow(grid, cmap="Reds", vmin=0, vmax=1, extent=extent)
            axes.imshow(ink, extent=extent, alpha=0.5)
            axes.add_patch(Circle(shown.atoms[atom], 1.1, fill=False, edgecolor=TRUE, linewidth=1.2))
            axes.set(xticks=[], yticks=[])
    for axes, token in zip(panels[0], atoms, strict=True):
        axes.set_title(tokens[token], fontsize=9, family="monospace")
    _save(figure, panels.ravel(), path)


def _scaled(relevance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positive relevance as shares of the greatest."""
    positive = relevance.clip(0)
    return positive / (positive.max() or 1)


def _save(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    for axes in panels:
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS, metadata={"Software": None})
