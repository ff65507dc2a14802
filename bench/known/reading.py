"""DECIMER: how much of an atom's map lies where the atom is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import heedmap
from heedmap.evaluate.metrics.evidence import pointing, share
from known import decimer
from known.decimer import CELLS, START, Decimer
from known.drawn import Drawing, draw, drawn_at, inked, offsets
from known.molecules import MOLECULES
from known.rows import Row, kept, read

CHANCE, INK = "chance, of all cells", "chance, of the drawing"
"""Maps that have read nothing: even; even over the cells in which anything is drawn."""
OTHERS = "{}, of the other atoms"
"""The sum of a method's maps of the molecule's other atoms: what it shows whichever atom is said."""
AGAINST = "{}, against the runner-up"
"""What is explained is by how much the token's logit is above that of the most probable other one."""
BY_GRADIENT = ("generic", "attention_gradcam", "attention_x_gradient", "input_x_gradient")
METHODS = (*BY_GRADIENT, *map(AGAINST.format, BY_GRADIENT), "raw_attention")
SLOW = ("attn_lrp", "transformer_attribution", "occlusion")
MORE = (*("rollout", "random", "legrad", "partial_lrp", "full_lrp"), *SLOW, *map(AGAINST.format, SLOW))
"""Methods on every :data:`STEP`-th molecule: most take seconds a token."""
STEP = 10
BLIND = ("generic", "raw_attention")
"""Methods that stand beside their own :data:`OTHERS`."""
FEW = (INK, "generic", AGAINST.format("generic"), "raw_attention", *MORE)
"""The rows of the table of these molecules."""
ORDER = (CHANCE, INK, *map(OTHERS.format, BLIND), *METHODS, *MORE)
"""Of the rows of a table."""


class Reading(nn.Module):
    """DECIMER's decoder alone: its input is what the CNN has made of the drawing."""

    def __init__(self, model: Decimer) -> None:
        super().__init__()
        self.model = model

    def forward(self, cells: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return self.model.said(cells, decoder_input_ids)


def measured(path: Path) -> list[Row]:
    """The figures of every method on every atom of every molecule that is read rightly; the file is gone on with."""
    model, vocabulary = decimer.load()
    reader = Reading(model).eval()
    for name in MOLECULES:
        kept(path, name, lambda: _rows(reader, vocabulary, name, METHODS))  # noqa: B023
    for name in list(MOLECULES)[::STEP]:
        kept(path, f"{name}/more", lambda: _rows(reader, vocabulary, name, MORE))  # noqa: B023
    return figures(read(path))


def _rows(reader: Reading, vocabulary: list[str], name: str, methods: Sequence[str]) -> Iterator[Row]:
    """What is read, and the maps of its atoms by each method."""
    drawing = draw(MOLECULES[name])
    with torch.no_grad():
        cells = reader.model.cells(decimer.pixels(drawing.picture))
    tokens = decimer.read(reader.model, vocabulary, cells)
    asked = drawn_at(tokens, drawing)
    yield {"unit": name, "method": "read", "tokens": tokens, "right": asked is not None}
    for method in methods if asked else ():
        maps = maps_of(reader, vocabulary, cells, tokens, method, seed=list(MOLECULES).index(name))
        for token, atom in (asked or {}).items():
            relevance = [float(f"{value:.4g}") for value in maps[token]]
            yield {"unit": name, "method": method, "token": token, "atom": atom, "relevance": relevance}


def maps_of(
    reader: Reading, vocabulary: list[str], cells: Tensor, tokens: Sequence[str], method: str, seed: int = 0
) -> NDArray[np.float64]:
    """(tokens, 256): the map of each token of what is read, over the cells.

    Args:
        reader: the decoder.
        vocabulary: its tokens.
        cells: see :meth:`Decimer.cells`.
        tokens: what is read.
        method: of :data:`METHODS` or :data:`MORE`.
        seed: of ``random``.
    """
    ids = torch.tensor([[vocabulary.index(token) for token in (START, *tokens)]])
    name, _, against = method.partition(", ")
    options: dict[str, Any] = {"contrast": "runner-up"} if against else {"seed": seed} if name == "random" else {}
    inputs = {"cells": cells, "decoder_input_ids": ids[:, :1]}
    found = heedmap.explain_answer(reader, inputs, answer=ids[:, 1:], method=name, **options)
    return found["cells"][0].double().numpy()


def figures(rows: Sequence[Row]) -> list[Row]:
    """A row for each map, and for each map that has read nothing, of every atom."""
    drawings = {name: draw(MOLECULES[name]) for name in {row["unit"] for row in rows}}
    mapped = [{**row, "relevance": np.array(row["relevance"])} for row in rows if row["method"] != "read"]
    return [
        {"unit": row["unit"], "method": row["method"], **_figures(row, drawings[row["unit"]])}
        for row in sorted((*_unread(mapped, drawings), *mapped), key=lambda row: ORDER.index(row["method"]))
    ]


def _unread(rows: Sequence[Row], drawings: dict[str, Drawing]) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["unit"], row["method"]].append(row)
    for (unit, method), group in groups.items():
        total = np.sum([row["relevance"] for row in group], 0)
        for row in group if method in BLIND else ():
            yield {**row, "method": OTHERS.format(method), "relevance": total - row["relevance"]}
        for row in group if method == BLIND[0] else ():
            yield {**row, "method": CHANCE, "relevance": np.ones(CELLS**2)}
            yield {**row, "method": INK, "relevance": inked(drawings[unit]).astype(float)}


def _figures(row: Row, drawing: Drawing) -> dict[str, float | bool]:
    """Of the atom's own cells, of which there are four: those whose middle is less than a cell from it, by row and by column.

    ``share`` of the (positive) relevance on them; ``inside``, their relevance with its sign; ``border``, the share of the topmost
    row of cells; ``pointing``, whether the peak is one of them; ``nearest``, whether of all atoms this is nearest to the peak;
    ``distance``, of the relevance from the atom, in cells; ``letter``, whether the atom is drawn as a letter.
    """
    relevance, place = row["relevance"], drawing.atoms[row["atom"]]
    inside = (np.abs(offsets(place)) < 1).all(1).astype(float)
    distances = np.array([np.linalg.norm(offsets(atom), axis=1) for atom in drawing.atoms])
    positive = relevance.clip(0) if (relevance > 0).any() else np.ones(CELLS**2)
    peaks = relevance == relevance.max()
    return {
        "share": share(relevance, inside),
        "inside": float((relevance * inside).sum()),
        "border": share(relevance, (np.arange(CELLS**2) < CELLS).astype(float)),
        "pointing": pointing(relevance, inside),
        "nearest": float((distances[:, peaks].argmin(0) == row["atom"]).mean()),
        "distance": float((positive * distances[row["atom"]]).sum() / positive.sum()),
        "letter": drawing.molecule.GetAtomWithIdx(row["atom"]).GetSymbol() != "C",
    }
