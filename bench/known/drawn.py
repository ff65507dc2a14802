"""Drawings of molecules by RDKit, which knows where each atom is drawn; and which token of a SMILES is which atom."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D

from known.decimer import CELLS, SIDE


@dataclass(frozen=True, eq=False)
class Drawing:
    """A molecule, drawn.

    Attributes:
        picture: of 512 by 512 pixels, black on white.
        molecule: RDKit's.
        atoms: (atoms, 2): column and row of each atom, in cells; the middle of the first cell is at 0.5.
    """

    picture: Image.Image
    molecule: Chem.Mol
    atoms: NDArray[np.float64]


def draw(smiles: str) -> Drawing:
    """The drawing of a SMILES."""
    molecule = Chem.MolFromSmiles(smiles)
    canvas = rdMolDraw2D.MolDraw2DCairo(SIDE, SIDE)
    canvas.drawOptions().useBWAtomPalette()
    canvas.drawOptions().prepareMolsBeforeDrawing = False
    canvas.DrawMolecule(rdMolDraw2D.PrepareMolForDrawing(molecule))
    canvas.FinishDrawing()
    points = [canvas.GetDrawCoords(atom) for atom in range(molecule.GetNumAtoms())]
    picture = Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB")
    return Drawing(picture, molecule, np.array([(p.x, p.y) for p in points]) * CELLS / SIDE)


def atoms_said(tokens: Sequence[str]) -> list[int]:
    """The numbers of the tokens that are atoms; of an atom in brackets it is the element's."""
    found, inside, named = [], False, False
    for number, token in enumerate(tokens):
        if token in "[]":
            inside, named = token == "[", False
        elif token.isalpha() and not (inside and named):
            found.append(number)
            named = True
    return found


def drawn_at(tokens: Sequence[str], drawing: Drawing) -> dict[int, int] | None:
    """Number of a token that is an atom → that atom of the drawing; None: another molecule is read, or none.

    Where a symmetry of the molecule exchanges atoms (both sides of a ring), it cannot be known which of them a token is: these
    are left out. Stereochemistry does not count.
    """
    with rdBase.BlockLogs():
        said = Chem.MolFromSmiles("".join(tokens))
    places = atoms_said(tokens)
    if said is None or said.GetNumAtoms() != len(places) or _flat(said) != _flat(drawing.molecule):
        return None
    ranks = list(Chem.CanonicalRankAtoms(drawing.molecule, breakTies=False))
    matched = zip(places, drawing.molecule.GetSubstructMatch(said), strict=True)
    return {place: atom for place, atom in matched if ranks.count(ranks[atom]) == 1}


def _flat(molecule: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(molecule, isomericSmiles=False))


def inked(drawing: Drawing) -> NDArray[np.bool_]:
    """(256,): the cells in which anything is drawn."""
    dark = np.asarray(drawing.picture.convert("L")) < 128
    side = SIDE // CELLS
    return dark.reshape(CELLS, side, CELLS, side).any(axis=(1, 3)).ravel()


def offsets(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """(256, 2): how far the middle of each cell is from a place, in cells, by columns and rows."""
    rows, columns = np.divmod(np.arange(CELLS**2), CELLS)
    return np.stack([columns, rows], 1) + 0.5 - place
