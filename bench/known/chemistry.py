"""rxnfp: how much of a map lies on the reaction centre."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import heedmap
from heedmap import Subject
from heedmap.evaluate.evidence import pointing, share
from heedmap.packaged import fetch
from known.reactions import centre, unmarked
from known.rows import Row, kept, read
from known.templates import reactions

CHANCE = "chance"


def measured(path: Path) -> list[Row]:
    """The figures of every method on every reaction that the model classifies rightly; the file is gone on with."""
    rxnfp = heedmap.load(fetch("rxnfp"))
    for number, (name, reaction) in enumerate(reactions()):
        if classified(rxnfp, reaction) == name:
            for method in (CHANCE, *heedmap.METHODS):
                kept(path, f"{number}/{method}", lambda: _rows(rxnfp, name, reaction, method, number))  # noqa: B023
    return read(path)


def classified(rxnfp: Subject, reaction: str) -> str:
    """The class that the model gives a marked reaction."""
    with torch.no_grad():
        logits = rxnfp.model(**rxnfp.inputs(text=unmarked(reaction))).logits
    return rxnfp.model.config.id2label[int(logits.argmax())]


def _rows(rxnfp: Subject, name: str, reaction: str, method: str, number: int) -> Iterator[Row]:
    truth = np.array(centre(reaction, rxnfp.tokenizer))[1:-1].astype(float)
    relevance = np.ones_like(truth) if method == CHANCE else relevance_of(rxnfp, reaction, method, number)
    figures = {
        "share": share(relevance, truth),
        "pointing": pointing(relevance, truth),
        "auc": float(roc_auc_score(truth, relevance)),
    }
    yield {"unit": name, "method": method, **figures, "empty": float(not (relevance > 0).any())}


def relevance_of(rxnfp: Subject, reaction: str, method: str, number: int = 0) -> Any:
    """The map of a marked reaction, of its own tokens; [CLS] and [SEP] are no part of the reaction."""
    options = {"seed": number} if method == "random" else {}
    return rxnfp.explain(text=unmarked(reaction), method=method, **options)["text"][0].double().numpy()[1:-1]
