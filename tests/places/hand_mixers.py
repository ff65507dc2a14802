"""Small models written by hand: attention, a mixer with a residual connection, attention, a number of the last token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, HEADS, LENGTH = 16, 2, 8


class Attention(nn.Module):
    """Softmax attention with a residual connection, (batch, tokens, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixed(x)

    def mixed(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Alone(Attention):
    """The same without a residual connection."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(x)


class Mixing(nn.Module):
    """Mixers along the tokens, one after the other with a bend between them, and a residual connection."""

    def __init__(self, *mixers: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mixers = nn.ModuleList(mixers)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.norm(x).mT
        for number, mixer in enumerate(self.mixers):
            mixed = mixer(torch.relu(mixed) if number else mixed)
        return x + self.out(torch.tanh(mixed.mT))


class LinearAttention(nn.Module):
    """φ(q) (φ(k)ᵀ v), (batch, features, tokens)."""

    groups = HEADS

    def forward(self, v: Tensor, q: Tensor, k: Tensor) -> Tensor:
        mixed = q @ (k.mT @ v.unflatten(1, (HEADS, -1)).mT)
        return mixed.mT.flatten(1, 2)


class LinearMixing(nn.Module):
    """Attention without softmax, and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.mixer = LinearAttention()
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        q, k = (torch.relu(t).unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k))
        return x + self.out(self.mixer(v.mT, q, k).mT)


class Gated(nn.Module):
    """A depthwise convolution that is multiplied with the stream: a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mixer(x.mT).mT


class Squeezed(nn.Module):
    """A depthwise convolution, multiplied with weights of its channels that the mean of all tokens says (squeeze and excitation)."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.excite = nn.Sequential(nn.Conv1d(WIDTH, 4, 1), nn.ReLU(), nn.Conv1d(4, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixer(x.mT)
        return x + (mixed * self.excite(mixed.mean(-1, keepdim=True))).mT


class Scaled(nn.Module):
    """A depthwise convolution, divided by how large its channels are over all tokens (the scale of a time series)."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixer(x.mT)
        return x + (mixed / torch.sqrt((mixed**2).sum(-1, keepdim=True) / LENGTH + 0.1)).mT


class Beside(nn.Module):
    """Tokens side by side in the channels with what a convolution made of them, and a convolution of both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.second = nn.Conv1d(2 * WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        made = torch.relu(self.first(x.mT))
        return x + torch.tanh(self.second(torch.cat([x.mT, made], 1))).mT


class Channels(nn.Module):
    """Channels that look at channels, by products over all tokens (cross-covariance attention): each token is mapped by itself."""

    parts = 4

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.warmth = nn.Parameter(torch.rand(self.parts, 1, 1) + 2)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.mT.unflatten(1, (self.parts, -1)) for t in self.qkv(self.norm(x)).chunk(3, -1))
        q, k = nn.functional.normalize(q, dim=-1), k / k.norm(dim=-1, keepdim=True)
        mixed = torch.softmax(q @ k.mT * self.warmth, -1) @ v
        return x + self.out(mixed.flatten(1, 2).mT)


class Tokens(nn.Module):
    """Words, layers, and a few numbers of the last token: ids (batch, tokens) → (batch, features)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.words = nn.Embedding(30, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH) / 3)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, -1])


def convolution(groups: int = WIDTH, inputs: int = WIDTH, outputs: int = WIDTH, size: int = 3) -> nn.Module:
    return nn.Conv1d(inputs, outputs, size, padding=size // 2, groups=groups)


class Causal(nn.Conv1d):
    """A depthwise convolution that reads no token behind its own."""

    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH, 4, padding=3, groups=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :LENGTH]


def layer(name: str) -> nn.Module:
    """The mixer of this name."""
    if name == "depthwise":
        return Mixing(convolution())
    if name == "causal":
        return Mixing(Causal())
    if name == "full convolution":
        return Mixing(convolution(1))
    if name == "grouped":
        return Mixing(convolution(4))
    if name == "two convolutions":
        return Mixing(convolution(1, WIDTH, 24), convolution(1, 24, WIDTH))
    if name == "strided keys":
        return Mixing(nn.Conv1d(WIDTH, WIDTH, 2, 2), nn.Linear(LENGTH // 2, LENGTH))
    if name == "average":
        return Mixing(nn.AvgPool1d(3, 1, 1, count_include_pad=False))
    if name == "maximum":
        return Mixing(nn.MaxPool1d(3, 1, 1))
    if name == "matrix":
        return Mixing(nn.Linear(LENGTH, LENGTH))
    if name == "perceptron":
        return Mixing(nn.Linear(LENGTH, 6), nn.Linear(6, LENGTH))
    if name == "linear attention":
        return LinearMixing()
    if name == "gate":
        return Gated()
    if name == "squeeze and excitation":
        return Squeezed()
    if name == "scale":
        return Scaled()
    if name == "channels":
        return Channels()
    if name == "side by side":
        return Beside()
    raise KeyError(name)


ONE = {r"mixers\.0|mixer": "update"}
TWO = {r"mixers\.0": "keys", r"mixers\.1": "update"}
LAYERS = {
    "depthwise": ONE,
    "causal": ONE,
    "full convolution": ONE,
    "grouped": ONE,
    "two convolutions": TWO,
    "strided keys": TWO,
    "average": ONE,
    "maximum": ONE,
    "matrix": ONE,
    "perceptron": TWO,
    "linear attention": ONE,
    "gate": ONE,
    "squeeze and excitation": ONE,
    "scale": ONE,
    "channels": {},
}
WITHOUT = ("depthwise", "matrix", "perceptron", "linear attention")
BEFORE = {"also before: depthwise": {r"layers\.[02]\.mixers\.0": "update"}}
HAND_MADE = LAYERS | BEFORE | {f"no attention: {name}": LAYERS[name] for name in WITHOUT}
"""The roles of the modules of each model, see ``oracles.scripts.by_roles``."""


def hand_made(name: str) -> nn.Module:
    """The model of this name."""
    if name == "alone":
        return Tokens(Attention(), layer("depthwise"), Alone(), Attention(), Alone())
    place, _, alone = name.rpartition(": ")
    if place == "also before":
        return Tokens(layer(alone), Attention(), layer(alone), Attention())
    if place == "no attention":
        return Tokens(layer(alone), layer(alone), layer(alone))
    return Tokens(Attention(), layer(name), Attention())


class Switched(nn.Module):
    """Attention, a convolution along the tokens where ``mixes``, attention in ``windows`` or not, a number of the last token."""

    def __init__(self, mixes: bool = True, windows: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(9, WIDTH)
        self.before, self.after = Attention(), Attention()
        self.mixing = Mixing(nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH))
        self.head = nn.Linear(WIDTH, 2)
        self.mixes, self.windows = mixes, windows
        self.double().eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.before(self.words(input_ids))
        x = self.mixing(x) if self.has_mixing(input_ids) else x
        windows = x.reshape(len(x) * self.windows, -1, WIDTH)
        out: Tensor = self.head(self.after(windows).reshape(x.shape)[:, -1])
        return out

    def has_mixing(self, input_ids: Tensor) -> bool:
        """Whether the convolution takes part."""
        return self.mixes
