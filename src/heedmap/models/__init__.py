"""Models with their processors: words, pictures, boxes and sounds in, labelled explanations out."""

from heedmap.models.kinds import MODELS
from heedmap.models.loader import load
from heedmap.models.model import Model

Subject = Model

__all__ = ["MODELS", "Model", "Subject", "load"]
