"""A decoder that asks its own words and an encoder's in one softmax, against eqs. 5, 6, 7 and 10, entry by entry, in float64."""

import numpy as np
import pytest
import torch
from hand_mixers import HEADS, WIDTH, Attention
from torch import Tensor, nn

import heedmap
from oracles.rules import average_heads, rule_10
from oracles.seen import seen

CLOSE, ASKED, OWN = 1e-6, 6, 4


class Joined(Attention):
    """Attention to the tokens themselves and to others."""

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        q, k, v = self.qkv(torch.cat([self.norm(x), others], 1)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q[:, :, : x.shape[1]] @ k.mT / 8**0.5, -1) @ v
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Both(nn.Module):
    """An encoder and a decoder of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, WIDTH), nn.Parameter(torch.randn(ASKED, WIDTH))
        self.encoder, self.decoder = nn.ModuleList([Attention(), Attention()]), nn.ModuleList([Joined(), Joined()])
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
        asked = self.words(input_ids) + self.places
        for layer in self.encoder:
            asked = layer(asked)
        x = self.words(decoder_input_ids) + self.places[:OWN]
        for layer in self.decoder:
            x = layer(x, asked)
        return self.head(torch.tanh(x))


def target(output: Tensor) -> Tensor:
    """A number of the last row."""
    return 10 * output[:, -1, 3]


@pytest.mark.parametrize("full", [False, True])
def test_own_and_other_keys_in_one_softmax(full: bool) -> None:
    torch.manual_seed(0)
    model = Both().double().eval()
    inputs = {"input_ids": torch.randint(30, (2, ASKED)), "decoder_input_ids": torch.randint(30, (2, OWN))}
    found = heedmap.explain(model, inputs, target=target, drop_self=False, full=full)
    events = seen(model, inputs, target, ())
    for n in range(2):
        cams = [average_heads(*(t[n].detach().numpy() for t in (event.out, event.gradient))) for event in events]
        R_ee, R_dd, R_de = np.eye(ASKED), np.eye(OWN), np.zeros((OWN, ASKED))
        for cam in cams[:2]:
            R_ee = R_ee + cam @ R_ee
        for cam in cams[2:]:
            own, other = cam[:, :OWN], cam[:, OWN:]
            R_de = R_de + own @ R_de + rule_10(other, R_dd, R_ee)
            R_dd = R_dd + own @ R_dd
        for name, row in (("text", R_de[-1]), ("decoder", R_dd[-1])):
            assert np.abs(found[name][n].double().numpy() - row).max() <= CLOSE * np.abs(row).max()
