"""Which random numbers a sample is made of."""

from __future__ import annotations

import numpy as np

from heedmap.errors import InputError, UnknownNameError

SPLITS = {"train": 200_000, "val": 5_000, "test": 5_000}
"""Number of samples by split. Each split has random numbers of its own, so that no two share a sample."""

PURPOSES = ("scene", "captions", "distractors", "questions", "regions")
"""What random numbers are for; each purpose has its own, so that asking does not change the picture."""


def generator(seed: int, split: str, index: int, purpose: str, number: int = 0) -> np.random.Generator:
    """The random numbers of one sample for one purpose, the same at every call.

    Args:
        seed: of the world, 0 or more.
        split: a key of :data:`SPLITS`.
        index: of the sample, 0 or more.
        purpose: one of :data:`PURPOSES`.
        number: which of several draws.

    Raises:
        UnknownNameError: no such split.
        InputError: a seed, index or number that is no whole number of 0 or more.
    """
    check_split(split)
    for name, value in (("seed", seed), ("index", index), ("number", number)):
        check_whole(name, value)
    key = [int(seed), list(SPLITS).index(split), int(index), PURPOSES.index(purpose), int(number)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def check_split(split: str) -> None:
    """UnknownNameError where ``split`` is no split; the message lists the known ones."""
    if split not in SPLITS:
        raise UnknownNameError(f"no split is called {split!r}; known splits: {', '.join(SPLITS)}")


def check_whole(name: str, value: object) -> None:
    """InputError where ``value``, called ``name``, is no whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"{name} is {value!r}; it must be a whole number, 0 or more")
