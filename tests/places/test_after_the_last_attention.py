"""What mixes tokens after the last attention, or beside it, is no part of a head: it is followed, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hand_mixers import HAND_MADE, LAYERS, LENGTH, WIDTH, Attention, Tokens, layer
from placed_models import MIXERS, WORDS, Case, apart, in_roles, label, made, number, words
from torch import Tensor, nn

import heedmap
from heedmap.errors import MixingError
from oracles import operators, scripts
from oracles.seen import seen

pytestmark = pytest.mark.filterwarnings("ignore")

CLOSE = 1e-6
CONVBERT = dict(WORDS, embedding_size=16, conv_kernel_size=3, num_hidden_layers=1)


class Labels(Tokens):
    """A few numbers of each token: ids (batch, tokens) → (batch, tokens, features)."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places[: input_ids.shape[1]]
        for module in self.layers:
            x = module(x)
        return self.head(x)


class Pooled(Labels):
    """A few numbers of the mean of all tokens."""

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids).mean(1)


class Replaced(nn.Module):
    """A convolution without a residual connection: from here on there are other tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.mixer(x.mT)).mT


class Shifted(nn.Module):
    """Half of the features are those of the token before (token shift)."""

    def __init__(self, residual: bool = True) -> None:
        super().__init__()
        self.out, self.residual = nn.Linear(WIDTH, WIDTH), residual

    def forward(self, x: Tensor) -> Tensor:
        before = nn.functional.pad(x, (0, 0, 1, -1))
        mixed = self.out(torch.cat([x[..., : WIDTH // 2], before[..., WIDTH // 2 :]], -1))
        return x + mixed if self.residual else mixed


class Recurrent(nn.Module):
    """An LSTM over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


def third(output: Tensor) -> Tensor:
    return 10 * output[:, 3, 2]


def behind(model: type[Tokens], name: str, target: Callable[[Any], Tensor], row: int) -> Case:
    """Attention, and then a mixer."""
    roles = HAND_MADE[name]
    steps = partial(scripts.without_channels, tokens=LENGTH, roles=roles, begun=False)
    return Case(lambda: model(Attention(), layer(name)), partial(words, LENGTH), target, tuple(roles), steps, row, row)


def convbert(name: str, target: Callable[[Any], Tensor], row: int) -> Case:
    steps = partial(scripts.convbert, tokens=8, heads=2)
    return Case(made(name, "ConvBertConfig", **CONVBERT), partial(words, 8), target, (), steps, row, row)


def replaced(model: type[Tokens], target: Callable[[Any], Tensor], row: int) -> Case:
    roles = {r"layers\.1\.mixer": "merge"}
    return Case(lambda: model(Attention(), Replaced()), partial(words, LENGTH), target, **in_roles(roles), row=row)


CASES = {
    "convbert": replace(MIXERS["convbert"], build=made("ConvBertModel", "ConvBertConfig", **CONVBERT)),
    "convbert, classes": convbert("ConvBertForSequenceClassification", label, 0),
    "convbert, labels": convbert("ConvBertForTokenClassification", lambda out: 10 * out.logits[:, 3, 1], 3),
    **{f"{name}, of the last token": behind(Tokens, name, number, -1) for name in LAYERS if name != "side by side"},
    **{f"{name}, of each token": behind(Labels, name, third, 3) for name in LAYERS if name != "side by side"},
    "no residual connection, of the last token": replaced(Tokens, number, -1),
    "no residual connection, of each token": replaced(Labels, third, 3),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_mixes_behind_it_is_followed(case: Case, batch: int) -> None:
    model, inputs = case.model(), case.given(batch)
    found = case.found(model, inputs, drop_self=False)
    assert apart(found, case.expected(model, inputs)) <= CLOSE


def hand(kind: type[Tokens], *layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return kind(Attention(), *layers).double().eval()


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("kind", [Tokens, Labels])
def test_a_shift_of_tokens_is_followed(kind: type[Tokens], residual: bool) -> None:
    """c_ij: what the halves of a token and of the one before it give to a row."""
    model, inputs, target = hand(kind, Shifted(residual)), words(LENGTH, 1), third if kind is Labels else number
    row, shift = 3 if kind is Labels else LENGTH - 1, model.layers[1]
    events = seen(model, inputs, target, (r"layers\.1\.out",))
    attention, out = events
    own, before = (out.given[0][0, row].clone() for _ in range(2))
    own[WIDTH // 2 :], before[: WIDTH // 2] = 0, 0
    terms = torch.zeros(1, LENGTH, LENGTH, dtype=torch.float64)
    for token, part in ((row, own), (row - 1, before)):
        terms[0, row, token] = (out.gradient[0, row] * (shift.out.weight @ part)).sum().clamp(min=0).detach()
    R = torch.eye(LENGTH).double() + operators.whole(attention.out, attention.gradient)
    expected = (terms @ R + R)[:, row] if residual else (terms @ R)[:, row] / terms.sum()
    found = heedmap.explain(model, inputs, target=target, drop_self=False)["text"].double()
    assert apart(found, expected) <= CLOSE


def test_a_recurrence_that_gives_each_token_its_row_is_refused() -> None:
    with pytest.raises(MixingError, match=r"depends on other tokens.*called at"):
        heedmap.explain(hand(Labels, Recurrent()), words(LENGTH, 1), target=third)


def test_what_was_verified_of_one_token_says_nothing_of_more() -> None:
    model, target = hand(Labels, layer("depthwise")), lambda out: 10 * out[:, 0, 2]
    inputs = words(LENGTH, 1)
    heedmap.explain(model, {"input_ids": inputs["input_ids"][:, :1]}, target=target)
    after, fresh = (
        heedmap.explain(one, inputs, target=target)["text"] for one in (model, hand(Labels, layer("depthwise")))
    )
    torch.testing.assert_close(after, fresh)
    assert float(after[0, 1]) > 0


# -- what a head does is the target's ----------------------------------------------------------------------------------


class Compared(Labels):
    """A number of each two tokens, (batch, tokens, tokens)."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = super().forward(input_ids)
        return (x[:, :, None] * x[:, None]).sum(-1) + x[:, :, None, 0]


class Ends(Labels):
    """Where an answer begins and ends: (batch, tokens) each."""

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        begin, end, *_ = super().forward(input_ids).unbind(-1)
        return begin, end


class Weighed(Labels):
    """The mean of all tokens by weights that they say themselves."""

    def forward(self, input_ids: Tensor) -> Tensor:
        x = super().forward(input_ids)
        return (x * x[..., :1].softmax(1)).sum(1)


class States(Labels):
    """The rows, and their mean."""

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        x = super().forward(input_ids)
        return {"rows": x, "mean": x.mean(1)}


ALL = tuple(range(LENGTH))
READ: dict[str, tuple[type[Tokens], Callable[[Any], Tensor], tuple[int, ...]]] = {
    "the last": (Tokens, lambda out: out[:, 2], (LENGTH - 1,)),
    "one": (Labels, third, (3,)),
    "two": (Labels, lambda out: out[:, 3, 2] - out[:, 5, 2], (3, 5)),
    "mean": (Pooled, lambda out: out[:, 2], ALL),
    "weighed": (Weighed, lambda out: out[:, 2], ALL),
    "compared": (Compared, lambda out: out[:, 1, 4], (1, 4)),
    "ends": (Ends, lambda out: out[0][:, 1] + out[1][:, 6], (1, 6)),
    "rows beside their mean": (States, lambda out: out["rows"][:, 3, 2], (3,)),
    "mean beside its rows": (States, lambda out: out["mean"][:, 2], ALL),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("length", [LENGTH, 5])
def test_rows_that_a_head_reads(name: str, length: int) -> None:
    """As many classes as tokens make no difference (5)."""
    kind, target, rows = READ[name]
    if max(rows) >= length and rows != ALL and name != "the last":
        pytest.skip("there is no such row")
    model = hand(kind, Attention())
    model.places = nn.Parameter(model.places.detach()[:length])
    flow = heedmap.explain(model, words(length, 1), target=target).flow
    assert not any("extension" in note for note in flow.notes)
    (stream,) = flow.streams
    assert stream.rows == (tuple(row for row in rows if row < length) if name != "the last" else (length - 1,),)


class Deep(Labels):
    """A few numbers of the last token's row and, beside it, of the mean of all words as they were looked up."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.both = nn.Linear(10, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        mean = self.head(self.words(input_ids).mean(1))
        return self.both(torch.cat([super().forward(input_ids)[:, -1], mean], -1))


def test_words_that_are_read_beside_all_attention_are_not_left_out() -> None:
    with pytest.raises(
        MixingError, match=r"reads rows of the tokens of 'input_ids' beside what became of them.*called at"
    ):
        heedmap.explain(hand(Deep), words(LENGTH, 1), target=number)


def test_convolutions_are_none_of_a_mean() -> None:
    """What is pooled in the end is read; a convolution before that mixes what is read anyway."""
    model = hand(Pooled, Replaced())
    flow = heedmap.explain(model, words(LENGTH, 1), target=number).flow
    assert flow.streams[0].rows == (ALL,)


class Sized(Labels):
    """A few numbers of each token, after a norm whose statistics are those of all tokens."""

    def __init__(self, norm: Callable[[Tensor], Tensor]) -> None:
        super().__init__(Attention(), Attention())
        self.norm = norm

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.places[: input_ids.shape[1]]
        for module in self.layers:
            x = module(x)
        return self.head(x + self.norm(x))


SIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "group norm": lambda x: nn.functional.group_norm(x.mT, 1, torch.ones(WIDTH).to(x) * 2, torch.ones(WIDTH).to(x)).mT,
    "groups": lambda x: nn.functional.group_norm(x.mT, 2).mT,
    "normalize": lambda x: nn.functional.normalize(x, dim=1),
}


@pytest.mark.parametrize("name", SIZED)
def test_a_norm_over_all_tokens_reads_no_more_rows(name: str) -> None:
    """Its statistics hang on all tokens; they say how large each is, and the target reads the one row that it asks."""
    torch.manual_seed(5)
    model = Sized(SIZED[name]).double().eval()
    inputs = {"input_ids": torch.randint(0, 9, (2, LENGTH))}
    found = heedmap.explain(model, inputs, target=lambda output: output[:, 3, 0], full=True)
    (stream,) = found.flow.streams
    assert stream.rows == ((3,), (3,))
    row = found.maps["text", "text"][:, 3].index_fill(1, torch.tensor([3]), 0)
    torch.testing.assert_close(found["text"], row, rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(found.scores.double(), model(**inputs)[:, 3, 0], rtol=1e-6, atol=1e-6)
