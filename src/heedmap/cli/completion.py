"""What a shell offers for the values of options: names from the registries, read without torch, for it has to be quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heedmap.models.names import LIBRARIES, PREFIX, shipped

GROUPS = ("fast", "ablations", "all")
"""Names for several methods at once, see ``heedmap.evaluate.evaluation``."""


def choices(*words: str) -> Callable[[str], list[str]]:
    """A completion of a few words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def models(incomplete: str) -> list[str]:
    """The zoo's models, how names of other libraries begin, and folders that begin so."""
    known = (*(PREFIX + name for name in shipped()), *LIBRARIES)
    return [name for name in known if name.startswith(incomplete)] + _folders(incomplete)


def zoo_models(incomplete: str) -> list[str]:
    """The zoo's models, without ``zoo/``."""
    return choices(*shipped())(incomplete)


def methods(incomplete: str) -> list[str]:
    """Every method."""
    from heedmap.methods.cards import CARDS

    return choices(*CARDS)(incomplete)


def map_methods(incomplete: str) -> list[str]:
    """Every method, and the name that lets the model decide."""
    return methods(incomplete) + choices("auto")(incomplete)


def contenders(incomplete: str) -> list[str]:
    """Every method, the picture's edges, and the names of several at once."""
    from heedmap.methods.cards import EDGES

    return methods(incomplete) + choices(EDGES, *GROUPS)(incomplete)


def data(incomplete: str) -> list[str]:
    """Kinds of data sets, up to the colon before the folder."""
    from heedmap.datasets.opening import READERS

    return choices(*(f"{kind}:" for kind in READERS))(incomplete)


def sources(incomplete: str) -> list[str]:
    """Kinds of data sets that a run reads, up to the colon before the path, and folders."""
    from heedmap.datasets.opening import kinds

    return choices(*(f"{kind}:" for kind in kinds()))(incomplete) + _folders(incomplete)


def _folders(incomplete: str) -> list[str]:
    """Folders as a shell offers them: hidden ones only where a dot was typed."""
    parent, _, begun = incomplete.rpartition("/")
    place = Path(f"{parent}/" if "/" in incomplete else ".")
    try:
        names = sorted(path.name for path in place.iterdir() if path.is_dir())
    except OSError:
        return []
    shown = [name for name in names if name.startswith(begun) and (begun or not name.startswith("."))]
    return [f"{incomplete[: len(incomplete) - len(begun)]}{name}/" for name in shown]
