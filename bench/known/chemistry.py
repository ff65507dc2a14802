"""rxnfp: how much of a map lies on the reaction centre."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import heedmap
from heedmap import Subject
from heedmap.evaluate.evidence import pointing, share
from heedmap.packaged import fetch
from known.reactions import centre, unmarked
from known.rows import Row, kept, read
from known.templates import ATOM_OR_BOND, reactions, with_oxygen

CHANCE = "chance"


def measured(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """The figures of these methods (none: of all, and of chance) on every reaction that the model classifies rightly.

    The file is gone on with.
    """
    rxnfp = heedmap.load(fetch("rxnfp"))
    for number, (name, reaction) in enumerate(reactions()):
        if classified(rxnfp, reaction) == name:
            for method in methods or (CHANCE, *heedmap.METHODS):
                kept(path, f"{number}/{method}", lambda: [_row(rxnfp, name, reaction, method, number)])  # noqa: B023
    return [figures(row, rxnfp) for row in read(path) if not methods or row["method"] in methods]


def classified(rxnfp: Subject, reaction: str) -> str:
    """The class that the model gives a marked reaction."""
    with torch.no_grad():
        logits = rxnfp.model(**rxnfp.inputs(text=unmarked(reaction))).logits
    return rxnfp.model.config.id2label[int(logits.argmax())]


def _row(rxnfp: Subject, name: str, reaction: str, method: str, number: int) -> Row:
    relevance = relevance_of(rxnfp, reaction, method, number)
    return {"unit": name, "reaction": reaction, "method": method, "relevance": [float(f"{v:.5g}") for v in relevance]}


def figures(row: Row, rxnfp: Subject) -> Row:
    """The row with its figures.

    ``atoms`` is the share inside among tokens that are atoms and bonds; ``group`` that of :func:`with_oxygen`; ``signs`` the
    share on tokens that are neither; ``unsigned`` the ROC-AUC of the absolute values; ``empty`` whether nothing is positive.
    """
    relevance, pieces = np.array(row["relevance"]), rxnfp.tokenizer.tokenize(unmarked(row["reaction"]))
    truth, group = _truth(row["reaction"], rxnfp), _truth(with_oxygen(row["reaction"]), rxnfp)
    chemical = np.array([ATOM_OR_BOND.fullmatch(piece) is not None for piece in pieces])
    return {
        **row,
        "share": share(relevance, truth),
        "atoms": share(relevance[chemical], truth[chemical]),
        "group": share(relevance, group),
        "pointing": pointing(relevance, truth),
        "auc": float(roc_auc_score(truth, relevance)),
        "signs": share(relevance, ~chemical),
        "unsigned": float(roc_auc_score(truth, np.abs(relevance))),
        "empty": float(not (relevance > 0).any()),
    }


def _truth(reaction: str, rxnfp: Subject) -> NDArray[np.float64]:
    return np.array(centre(reaction, rxnfp.tokenizer))[1:-1].astype(float)


def relevance_of(rxnfp: Subject, reaction: str, method: str, number: int = 0) -> NDArray[np.float64]:
    """The map of a marked reaction, of its own tokens; [CLS] and [SEP] are no part of the reaction."""
    if method == CHANCE:
        return np.ones(len(rxnfp.tokenizer.tokenize(unmarked(reaction))))
    options = {"seed": number} if method == "random" else {}
    return rxnfp.explain(text=unmarked(reaction), method=method, **options)["text"][0].double().numpy()[1:-1]
