"""Box features that a detector found beforehand, by image id.

Whatever the file, an image's features are read when they are asked for; opening reads where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from heedmap.datasets.disk import FilePath, needed_file
from heedmap.datasets.features.boxes import Features, read_names
from heedmap.datasets.features.stores import H5Features, NpzFeatures, TsvFeatures
from heedmap.errors import InputError

__all__ = ["Features", "open_features"]

FORMATS: dict[str, Callable[[Path, Sequence[str] | None], Features]] = {
    ".tsv": TsvFeatures,
    ".h5": H5Features,
    ".hdf5": H5Features,
}


def open_features(path: FilePath, names: FilePath | None = None) -> Features:
    """Open box features.

    Args:
        path: a ``.tsv`` as BUTD or LXMERT share theirs, an HDF5 file, or a folder of ``.npz`` files.
        names: text file with the names of the object classes, one a line, for ``labels``.

    Raises:
        InputError: no such file, or of another kind.
        FileFormatError: it is not what it should be.
        MissingLibraryError: HDF5 without h5py.
    """
    path = Path(path)
    vocabulary = None if names is None else read_names(needed_file(names, "object names"))
    if path.is_dir():
        return NpzFeatures(path, vocabulary)
    needed_file(path, "box features")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}; expected {', '.join(FORMATS)} or a folder of .npz files")
    return FORMATS[path.suffix.lower()](path, vocabulary)
