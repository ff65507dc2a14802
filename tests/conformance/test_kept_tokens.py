"""Modules that go on with some of their tokens, as people write them: carried on where it is proved, refused elsewhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_models import livened
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError

DIM, HEADS, TOKENS = 24, 3, 6


class Attend(nn.Module):
    """Attention with a residual connection; ``ask`` asks ``asked``."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(DIM, DIM), nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, DIM)

    def forward(self, ask: Tensor, asked: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (self.q(ask), *self.kv(asked).chunk(2, -1)))
        return ask + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Base(nn.Module):
    """Word embeddings, three attentions, a classifier of the first token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, DIM), nn.Linear(DIM, 4)
        self.layers = nn.ModuleList(Attend() for _ in range(3))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, x)
        return self.head(x[:, 0])


class LastRow(Base):
    """The same, but the last layer computes only the row that is read."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for layer in self.layers[:-1]:
            x = layer(x, x)
        return self.head(self.layers[-1](x[:, :1], x)[:, 0])


class Dropped(Base):
    """Goes on with every second token."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.layers[0](x, x)[:, ::2]
        for layer in self.layers[1:]:
            x = layer(x, x)
        return self.head(x[:, 0])


class Masked(Base):
    """The same by a mask: the other tokens are seen by nobody after the first layer."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.layers[0](x, x)
        for layer in self.layers[1:]:
            x = x + (layer(x, x[:, ::2]) - x) * (torch.arange(TOKENS) % 2 == 0)[:, None]
        return self.head(x[:, 0])


class Merged(Base):
    """Pairs of tokens become one."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.layers[0](x, x).unflatten(1, (-1, 2)).mean(2)
        for layer in self.layers[1:]:
            x = layer(x, x)
        return self.head(x[:, 0])


class Doubled(Base):
    """Every token goes on twice."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.layers[0](x, x).repeat(1, 2, 1)
        for layer in self.layers[1:]:
            x = layer(x, x)
        return self.head(x[:, 0])


class Global(Base):
    """The first token is added to all others between two attentions."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, x)
            x = x + 0.1 * x[:, :1]
        return self.head(x[:, 0])


class Swapped(Base):
    """The same number of tokens, in another order."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        x = self.layers[0](x, x).flip(1)
        for layer in self.layers[1:]:
            x = layer(x, x)
        return self.head(x[:, 0])


class LastRead(Base):
    """The last token is read."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x, x)
        return self.head(x[:, -1])


def made(kind: type[Base]) -> Base:
    torch.manual_seed(3)
    return livened(kind()).double()


IDS = torch.randint(0, 50, (3, TOKENS), generator=torch.Generator().manual_seed(1))


def test_a_last_layer_of_one_row_changes_nothing() -> None:
    whole, one = (heedmap.explain(made(kind), IDS, target=2) for kind in (Base, LastRow))
    torch.testing.assert_close(one.scores, whole.scores)
    torch.testing.assert_close(one["text"], whole["text"], rtol=1e-5, atol=1e-8)
    assert set(one.segments) == {"text"}


def test_tokens_that_are_left_behind_are_explained() -> None:
    dropped = heedmap.explain(made(Dropped), IDS, target=2, full=True)
    masked = heedmap.explain(made(Masked), IDS, target=2)
    torch.testing.assert_close(dropped.scores, masked.scores)
    assert dropped["text"].shape == (3, TOKENS)
    assert bool((dropped["text"][:, 1::2] > 0).any(1).all())  # they were heard in the first layer
    torch.testing.assert_close(dropped["text"], masked["text"], rtol=1e-5, atol=1e-8)
    kept = dropped.maps["kept", "kept"]
    first = dropped.maps["text", "text"]
    torch.testing.assert_close(dropped.maps["kept", "text"], kept @ first[:, ::2], rtol=1e-5, atol=1e-8)


def test_tokens_that_go_on_twice_are_explained() -> None:
    """Copies are tokens of their own, R_new = M R with one 1 in each row; by hand, with autograd's gradients of A."""
    model = made(Doubled).double()
    found = heedmap.explain(model, IDS, target=2, drop_self=False)
    x, probabilities = model.embed(IDS), []
    for number, layer in enumerate(model.layers):
        x = x.repeat(1, 2, 1) if number == 1 else x
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (layer.q(x), *layer.kv(x).chunk(2, -1)))
        probabilities.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1))
        x = x + layer.out((probabilities[-1] @ v).transpose(1, 2).flatten(2))
    gradients = torch.autograd.grad(model.head(x[:, 0])[:, 2].sum(), probabilities)
    first, *later = ((A * g).clamp(min=0).mean(1).detach() for A, g in zip(probabilities, gradients, strict=True))
    R = (torch.eye(TOKENS) + first).repeat(1, 2, 1)
    for cam in later:
        R = R + cam @ R
    torch.testing.assert_close(found["text"].double(), R[:, 0], rtol=1e-6, atol=1e-6)


def test_tokens_that_mix_are_refused() -> None:
    with pytest.raises(AttentionError, match="attention"):
        heedmap.explain(made(Global), IDS, target=2)


def test_tokens_that_change_places_are_followed() -> None:
    """Where the last token is read in place of the first, in the order that the others turned around."""
    swapped, last = (heedmap.explain(made(kind), IDS, target=2) for kind in (Swapped, LastRead))
    torch.testing.assert_close(swapped.scores, last.scores)
    torch.testing.assert_close(swapped["text"], last["text"], rtol=1e-5, atol=1e-8)


def test_merged_tokens_are_followed() -> None:
    """Each row of two tokens is their weighted mean: R of the merged stream has rows that sum as they do there."""
    found = heedmap.explain(made(Merged), IDS, target=2, full=True)
    merged = found.maps["kept", "kept"]
    assert merged.shape[1] == TOKENS // 2
    torch.testing.assert_close(
        found.maps["kept", "text"].sum(-1) >= merged.sum(-1) - 1e-6, torch.ones(3, TOKENS // 2).bool()
    )


def test_what_is_refused_is_refused_with_any_seed() -> None:
    """One token that reaches all others is seen whichever half of them the probe looks at."""
    for tokens in range(2, 12):
        with pytest.raises(AttentionError):
            heedmap.explain(made(Global), torch.randint(0, 50, (1, tokens)), target=2)
