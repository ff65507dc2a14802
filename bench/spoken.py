"""Why TAM is at chance on zoo/idefics-shapes: what the states at the picture's tokens tell, layer by layer, and to which head.

    python bench/spoken.py [--samples 150]

For each word of a right answer that names an object: the ROC-AUC of its logit at the picture's tokens, of the tokens that show
that object among all. Once by the model's own norm and head (at the last layer this is TAM's (z_j[t])⁺ before anything is taken
from it), once by a head that ridge regression on as many samples of the validation split taught what each token shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

import heedmap
from heedmap import Subject
from heedmap.evaluate.evidence import patch_evidence
from heedmap.evaluate.statistics import interval
from heedmap.zoo import samples as zoo_samples
from heedmap.zoo.material import right_ones
from heedmap.zoo.samples import GRID, TELLING

MODEL = "zoo/idefics-shapes"
RIDGE = 10.0
"""Added to the diagonal of the states' second moments, which are sums over some thousand tokens."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The picture's tokens of one sample.

    Attributes:
        states: (layers, tokens, features), what each layer hands on; the last after its norm, as the head reads it.
        asked: token id → for each of the picture's tokens the share of it that shows the object which the token names.
    """

    states: NDArray[np.float64]
    asked: list[tuple[int, NDArray[np.float64]]]


def seen(subject: Subject, split: str, count: int) -> Iterator[Seen]:
    """The right answers among the first samples of a split."""
    zoo_samples.SPLIT = split
    picture = subject.config.image_token_id
    for start in range(0, count, 25):
        batch = right_ones(subject, TELLING, [TELLING.make(index) for index in range(start, min(start + 25, count))])
        with torch.no_grad():
            ended = subject.model(**batch.inputs, output_hidden_states=True).hidden_states
        for row, known in enumerate(batch.asked):
            places = batch.inputs["input_ids"][row] == picture
            states = torch.stack([layer[row, places] for layer in ended]).double().numpy()
            masks = [(one.place[1], one.evidence.mask) for one in known]
            yield Seen(states, [(token, patch_evidence(mask, GRID)) for token, mask in masks if mask is not None])


def by_own_head(subject: Subject, layer: int) -> Any:
    """States → logits, by the model's norm (the last layer's states have been through it) and head."""
    language, head = subject.model.model.text_model, subject.model.lm_head

    def logits(states: NDArray[np.float64]) -> NDArray[np.float64]:
        x = torch.from_numpy(states).float()
        with torch.no_grad():
            return head(x if layer == -1 else language.norm(x)).double().numpy()

    return logits


def by_taught_head(known: Sequence[Seen], layer: int, vocabulary: int) -> Any:
    """The same by ridge regression of what each token shows on its states."""
    x = np.concatenate([each.states[layer] for each in known])
    mean = x.mean(0)
    shows = np.zeros((len(x), vocabulary))
    first = 0
    for each in known:
        for token, share in each.asked:
            shows[first : first + len(share), token] = np.maximum(shows[first : first + len(share), token], share)
        first += each.states.shape[1]
    x = x - mean
    weight = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ shows)
    return lambda states: (states - mean) @ weight


def auc(values: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """Of the tokens that show the object, even in part, among all."""
    inside = share > 0
    ranks, count = rankdata(values), inside.sum()
    return float((ranks[inside].sum() - count * (count + 1) / 2) / (count * (~inside).sum()))


def measured(logits: Any, layer: int, samples: Sequence[Seen]) -> NDArray[np.float64]:
    """A figure for each sample, the mean of its words."""
    return np.array(
        [np.mean([auc(logits(each.states[layer])[:, token], share) for token, share in each.asked]) for each in samples]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=150, help="of each split")
    count = parser.parse_args().samples
    torch.set_num_threads(1)
    subject = heedmap.load(MODEL)
    known, samples = list(seen(subject, "val", count)), list(seen(subject, "test", count))
    print(f"{len(samples)} of {count} samples of the test split, {sum(len(s.asked) for s in samples)} words; ROC-AUC:")
    layers = len(samples[0].states)
    for layer in range(layers):
        last = layer == layers - 1
        heads = {
            "own head": by_own_head(subject, -1 if last else layer),
            "taught head": by_taught_head(known, layer, subject.model.lm_head.out_features),
        }
        for name, logits in heads.items():
            mean, low, high = interval(measured(logits, layer, samples))
            print(f"after layer {layer}{' and the norm' if last else ''}, {name}: {mean:.3f} ({low:.3f}–{high:.3f})")


if __name__ == "__main__":
    main()
