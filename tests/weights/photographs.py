"""Real photographs, and a class probe on DINOv2's features of them: the paper's question needs a class to ask about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BitImageProcessor, Dinov2Config, Dinov2ForImageClassification, Dinov2Model

PHOTOGRAPHS = {
    "cat": "chelsea",
    "astronaut": "astronaut",
    "coffee": "coffee",
    "rocket": "rocket",
    "motorcycle": "stereo_motorcycle",
}
"""Class → name in skimage.data."""
RIDGE = 0.1


def photograph(name: str) -> Image.Image:
    """The photograph of the class ``name``."""
    from skimage import data

    pixels = getattr(data, PHOTOGRAPHS[name])()
    return Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels).convert("RGB")


def side_by_side(left: str, right: str) -> Image.Image:
    """The middles of two photographs, in the halves of a square of 448 pixels."""
    both = Image.new("RGB", (448, 448))
    for place, name in ((0, left), (224, right)):
        image = photograph(name)
        side = min(image.size)
        x, y = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((x, y, x + side, y + side)).resize((448, 448))
        both.paste(square.crop((112, 0, 336, 448)), (place, 0))
    return both


def build_probe(backbone: Path, folder: Path, crops: int = 8) -> None:
    """Write a Dinov2ForImageClassification whose classes are the photographs, told from [CLS] by ridge regression.

    Each photograph is seen in so many ``crops``.
    """
    processor = BitImageProcessor.from_pretrained(backbone)
    model = Dinov2Model.from_pretrained(backbone).eval()
    features, classes = _features(model, processor, crops)
    names = dict(enumerate(PHOTOGRAPHS))
    config = Dinov2Config.from_pretrained(backbone, id2label=names, label2id={n: i for i, n in names.items()})
    probe = Dinov2ForImageClassification(config)
    probe.dinov2.load_state_dict(model.state_dict())
    _fit(probe.classifier, features, classes)
    probe.save_pretrained(folder)
    processor.save_pretrained(folder)


def _features(model: Dinov2Model, processor: BitImageProcessor, crops: int) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = [crop for number, name in enumerate(PHOTOGRAPHS) for crop in _crops(photograph(name), number, crops)]
    with torch.no_grad():
        states = model(**processor(pictures, return_tensors="pt")).last_hidden_state
    return states[:, 0].double(), torch.arange(len(PHOTOGRAPHS)).repeat_interleave(crops)


def _crops(image: Image.Image, seed: int, count: int) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        side = draw.uniform(0.5, 1) * min(image.size)
        x, y = draw.uniform(0, image.width - side), draw.uniform(0, image.height - side)
        crop = image.crop((int(x), int(y), int(x + side), int(y + side)))
        found.append(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else crop)
    return found


def _fit(classifier: torch.nn.Linear, features: torch.Tensor, classes: torch.Tensor) -> None:
    """Weights on [CLS] only: the classifier also reads the patches' mean, which would make every patch a readout."""
    wanted = torch.eye(len(PHOTOGRAPHS), dtype=features.dtype)[classes]
    centred = features - features.mean(0)
    kernel = centred @ centred.T
    ridge = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=kernel.dtype)
    weights = centred.T @ torch.linalg.solve(kernel + ridge, wanted - wanted.mean(0))
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.weight[:, : features.shape[1]] = weights.T
        classifier.bias.copy_(wanted.mean(0) - features.mean(0) @ weights)
