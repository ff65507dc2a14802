"""DECIMER: how much of an atom's map lies where the atom is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import heedmap
from heedmap.errors import UnfollowedAttentionError
from heedmap.evaluate.evidence import pointing, share
from known import decimer
from known.decimer import CELLS, START, Decimer
from known.drawn import Drawing, draw, drawn_at, inked, offsets
from known.molecules import MOLECULES
from known.rows import Row, kept, read, refused

CHANCE, INK = "chance, of all cells", "chance, of the drawing"
"""Maps that have read nothing: even; even over the cells in which anything is drawn."""
OTHERS = "{}, of the other atoms"
"""The sum of a method's maps of the molecule's other atoms: what it shows whichever atom is said."""
AGAINST = "{}, against the runner-up"
"""What is explained is by how much the token's logit is above that of the most probable other one."""
BY_GRADIENT = ("generic", "attention_gradcam", "attention_x_gradient", "input_x_gradient")
METHODS = (*BY_GRADIENT, *map(AGAINST.format, BY_GRADIENT), "raw_attention")
RULES = ("attn_lrp", "transformer_attribution")
REFUSED = ("token_tm", "value_zeroing")
"""Methods that say themselves that they are not defined here."""
LATER = ("grad_eclip", "libra_generic", "libra_input_x_gradient", "attcat", "fullgrad_plus", "heedmap")
MORE = (
    *("rollout", "random", "legrad", "partial_lrp", "full_lrp"),
    *RULES,
    *map(AGAINST.format, RULES),
    *LATER,
    *REFUSED,
)
"""Methods on the letters of :data:`CHOSEN`, token by token: most take a pass or two for each."""
CHOSEN = tuple(MOLECULES)[::10]
BLIND = ("generic", "raw_attention")
"""Methods that stand beside their own :data:`OTHERS`."""
FEW = (INK, "generic", AGAINST.format("generic"), "raw_attention", *MORE)
"""The rows of the table of :data:`CHOSEN`."""
ORDER = (CHANCE, INK, *map(OTHERS.format, BLIND), *METHODS, *MORE)
"""Of the rows of a table."""


class Reading(nn.Module):
    """DECIMER's decoder alone: its input is what the CNN has made of the drawing."""

    def __init__(self, model: Decimer) -> None:
        super().__init__()
        self.model = model

    def forward(self, cells: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return self.model.said(cells, decoder_input_ids)


def measured(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """The figures of every method on every atom of every molecule that is read rightly; the file is gone on with.

    ``methods``: of these of :data:`MORE` alone, on :data:`CHOSEN`.
    """
    model, vocabulary = decimer.load()
    reader = Reading(model).eval()
    for name in () if methods else MOLECULES:
        kept(path, name, lambda: _rows(reader, vocabulary, name))  # noqa: B023
    for name in CHOSEN:
        for method in methods or MORE:
            if any(row["method"] == method and "refused" in row for row in read(path)):
                continue  # the model refuses it, whatever it reads
            kept(path, f"{name}/{method}", lambda: _more(reader, vocabulary, name, read(path), method))  # noqa: B023
    rows = [row for row in read(path) if not methods or row["method"] in methods]
    return [*figures([row for row in rows if "refused" not in row]), *(row for row in rows if "refused" in row)]


def _rows(reader: Reading, vocabulary: list[str], name: str) -> Iterator[Row]:
    """What is read, and the maps of its atoms by :data:`METHODS`."""
    drawing = draw(MOLECULES[name])
    cells = _cells(reader, drawing)
    tokens = decimer.read(reader.model, vocabulary, cells)
    asked = drawn_at(tokens, drawing)
    yield {"unit": name, "method": "read", "tokens": tokens, "right": asked is not None}
    for method in METHODS if asked else ():
        maps = maps_of(reader, vocabulary, cells, tokens, method)
        yield from (_row(name, method, token, atom, maps[token]) for token, atom in (asked or {}).items())


def _more(reader: Reading, vocabulary: list[str], name: str, rows: Sequence[Row], method: str) -> Iterator[Row]:
    """The maps of the letters of what is read, by a method of :data:`MORE`."""
    drawing = draw(MOLECULES[name])
    known = (row["tokens"] for row in rows if (row["unit"], row["method"]) == (name, "read"))
    cells = _cells(reader, drawing)
    tokens = next(known, None)
    if tokens is None:
        tokens = decimer.read(reader.model, vocabulary, cells)
        yield {"unit": name, "method": "read", "tokens": tokens, "right": drawn_at(tokens, drawing) is not None}
    asked = {t: atom for t, atom in (drawn_at(tokens, drawing) or {}).items() if _is_letter(drawing, atom)}
    if asked:
        try:
            maps = maps_alone(reader, vocabulary, cells, tokens, list(asked), method, seed=list(MOLECULES).index(name))
        except UnfollowedAttentionError as error:
            yield refused(method, error)
            return
        yield from (_row(name, method, token, asked[token], each) for token, each in zip(asked, maps, strict=True))


def _row(name: str, method: str, token: int, atom: int, relevance: NDArray[np.float64]) -> Row:
    rounded = [float(f"{value:.4g}") for value in relevance]
    return {"unit": name, "method": method, "token": token, "atom": atom, "relevance": rounded}


def _cells(reader: Reading, drawing: Drawing) -> Tensor:
    with torch.no_grad():
        return reader.model.cells(decimer.pixels(drawing.picture))


def _is_letter(drawing: Drawing, atom: int) -> bool:
    return bool(drawing.molecule.GetAtomWithIdx(atom).GetSymbol() != "C")


def maps_of(
    reader: Reading, vocabulary: list[str], cells: Tensor, tokens: Sequence[str], method: str
) -> NDArray[np.float64]:
    """(tokens, 256): the map of each token of what is read, over the cells, from one pass.

    Args:
        reader: the decoder.
        vocabulary: its tokens.
        cells: see :meth:`Decimer.cells`.
        tokens: what is read.
        method: of :data:`METHODS`.
    """
    ids = torch.tensor([[vocabulary.index(token) for token in (START, *tokens)]])
    name, _, against = method.partition(", ")
    inputs = {"cells": cells, "decoder_input_ids": ids[:, :1]}
    contrast = "runner-up" if against else None
    found = heedmap.explain_answer(reader, inputs, answer=ids[:, 1:], method=name, contrast=contrast)
    return found["cells"][0].double().numpy()


def maps_alone(
    reader: Reading,
    vocabulary: list[str],
    cells: Tensor,
    tokens: Sequence[str],
    asked: Sequence[int],
    method: str,
    seed: int = 0,
) -> list[NDArray[np.float64]]:
    """The maps of some tokens, which are those of :func:`maps_of`, each as a target of its own.

    Args:
        reader, vocabulary, cells, tokens: see :func:`maps_of`.
        asked: numbers of the tokens.
        method: of :data:`METHODS` or :data:`MORE`.
        seed: of ``random``.
    """
    ids = torch.tensor([[vocabulary.index(token) for token in (START, *tokens)]])
    name, _, against = method.partition(", ")
    inputs = {"cells": cells, "decoder_input_ids": ids[:, :-1]}
    with torch.no_grad():
        others = reader(**inputs)[0].scatter(1, ids[0, 1:, None], -torch.inf).argmax(-1)

    def value(token: int, output: Tensor) -> Tensor:
        y = output[:, token, ids[0, token + 1]]
        return y - output[:, token, others[token]] if against else y

    options = {"seed": seed} if name == "random" else {}
    targets = [partial(value, token) for token in asked]
    found = heedmap.explain(reader, inputs, target=targets, method=name, **options)
    return [each["cells"][0].double().numpy() for each in found]


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
        "letter": _is_letter(drawing, row["atom"]),
    }
