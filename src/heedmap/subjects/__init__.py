"""Models with their processors: words, pictures, boxes and sounds in, labelled explanations out."""

from heedmap.subjects.loader import load
from heedmap.subjects.subject import Subject
from heedmap.subjects.table import MODELS

__all__ = ["MODELS", "Subject", "load"]
