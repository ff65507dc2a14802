"""Queries that are copies of one token of the row: from there on each is a token of its own; against dense matrices in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError
from oracles import operators as ops
from oracles.seen import Event, seen
from oracles.streams import Relevance

CLOSE, WIDTH, HEADS, SEEN, COPIES = 1e-6, 8, 2, 7, 6


class Attention(nn.Module):
    """Of rows to others, with a residual connection; the queries have places."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm, self.fused = nn.LayerNorm(WIDTH), fused

    def forward(self, x: Tensor, places: Tensor, others: Tensor) -> Tensor:
        return self.norm(x + self.mixed(x, places, others))

    def mixed(self, x: Tensor, places: Tensor, others: Tensor) -> Tensor:
        q, k, v = self.q(x + places), self.k(others), self.v(others)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = torch.softmax(q @ k.mT / (WIDTH / HEADS) ** 0.5, -1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "expand": lambda t: t.expand(-1, COPIES, -1),
    "repeat": lambda t: t.repeat(1, COPIES, 1),
    "repeat_interleave": lambda t: t.repeat_interleave(COPIES, 1),
    "cat": lambda t: torch.cat([t] * COPIES, 1),
    "stack": lambda t: torch.stack([t[:, 0]] * COPIES, 1),
    "index": lambda t: t[:, torch.zeros(COPIES, dtype=torch.long)],
    "folded into the batch": lambda t: t[:, 0].repeat_interleave(COPIES, 0).unflatten(0, (-1, COPIES)),
    "a grid": lambda t: t[:, :, None].expand(-1, 2, 3, -1).flatten(1, 2),
    "a grid, side by side": lambda t: t.expand(-1, 2, -1)[:, :, None].expand(-1, -1, 3, -1).flatten(1, 2),
    "added": lambda t: t + torch.zeros(COPIES, WIDTH, dtype=t.dtype),
}


class Asking(nn.Module):
    """Copies of a task's token ask each other, then rows of numbers."""

    def __init__(self, way: str, fused: bool = False, layers: int = 2) -> None:
        super().__init__()
        self.task, self.rows, self.head = nn.Linear(3, WIDTH), nn.Linear(4, WIDTH), nn.Linear(WIDTH, 5)
        self.places = nn.Parameter(torch.randn(COPIES, WIDTH))
        self.layers = nn.ModuleList([Attention(fused) for _ in range(2 * layers)])
        self.way = way

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        others, x = self.rows(rows), WAYS[self.way](self.task(task))
        for own, cross in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = own(x, self.places, x + self.places)
            x = cross(x, self.places, others)
        return self.head(x)


def target(output: Tensor) -> Tensor:
    """A number of one of the copies."""
    return 10 * output[:, 2, 3]


def given(batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "rows": torch.randn(batch, SEEN, 4, generator=generator).double(),
        "task": torch.randn(batch, 1, 3, generator=generator).double(),
    }


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().double().eval()


def cam(event: Event, sample: int) -> Tensor:
    assert event.out is not None
    assert event.gradient is not None
    return ops.whole(event.out, event.gradient)[sample]


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Each relevance, relative to the largest."""
    assert float(wanted.abs().max()) > 1e-3
    torch.testing.assert_close(found.double(), wanted, rtol=CLOSE, atol=CLOSE * float(wanted.max()))


def expected(events: list[Event], sample: int) -> Relevance:
    found = Relevance()
    found.begin("task", 1)
    found.begin("rows", SEEN)
    found.begin("copies", COPIES, "task", torch.ones(COPIES, 1).double())
    for own, cross in zip(events[::2], events[1::2], strict=True):
        found.ask("copies", "copies", cam(own, sample))
        found.ask("copies", "rows", cam(cross, sample))
    return found


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_copies_of_one_token_ask_each_for_itself(way: str, fused: bool) -> None:
    found = heedmap.explain(built(lambda: Asking(way, fused)), given(), target=target, drop_self=False)
    events = seen(built(lambda: Asking(way)), given(), target, ())
    for n in range(2):
        R = expected(events, n).R
        assert_close(found["rows"][n], R["copies", "rows"][2])
        assert_close(found["task"][n], R["copies", "task"][2])


class Beside(Asking):
    """The token stands beside its copies, which have asked each other before."""

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        others, token = self.rows(rows), self.task(task)
        x = token.repeat(1, COPIES - 1, 1)
        x = self.layers[0](x, self.places[1:], x + self.places[1:])
        x = torch.cat([x, token], 1)
        x = self.layers[1](x, self.places, others)
        x = self.layers[2](x, self.places, x + self.places)
        return self.head(self.layers[3](x, self.places, others))


@pytest.mark.parametrize("row", [2, COPIES - 1])
def test_the_token_beside_its_copies(row: int) -> None:
    def asked(output: Tensor) -> Tensor:
        return 10 * output[:, row, 3]

    model = built(lambda: Beside("repeat"))
    found = heedmap.explain(model, given(), target=asked, drop_self=False)
    events = seen(model, given(), asked, ())
    for n in range(2):
        known = Relevance()
        known.begin("task", 1)
        known.begin("rows", SEEN)
        known.begin("copies", COPIES - 1, "task", torch.ones(COPIES - 1, 1).double())
        known.ask("copies", "copies", cam(events[0], n))
        whole = torch.eye(COPIES).double()
        known.begin("all", COPIES, "copies", whole[:, :-1])
        known.take("all", "task", whole[:, -1:])
        for event, other in zip(events[1:], ("rows", "all", "rows"), strict=True):
            known.ask("all", other, cam(event, n))
        assert_close(found["rows"][n], known.R["all", "rows"][row])
        assert_close(found["task"][n], known.R["all", "task"][row])


class TwoSteps(Asking):
    """Two copies ask each other and the rows; each of them is then copied three times, and so do these."""

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        others, x = self.rows(rows), self.task(task).expand(-1, 2, -1)
        x = self.layers[0](x, self.places[:2], x + self.places[:2])
        x = self.layers[1](x, self.places[:2], others).repeat_interleave(3, 1)
        x = self.layers[2](x, self.places, x + self.places)
        return self.head(self.layers[3](x, self.places, others))


def test_copies_of_copies() -> None:
    model = built(lambda: TwoSteps("repeat"))
    found = heedmap.explain(model, given(), target=target, drop_self=False)
    events = seen(model, given(), target, ())
    for n in range(2):
        known = Relevance()
        known.begin("task", 1)
        known.begin("rows", SEEN)
        known.begin("two", 2, "task", torch.ones(2, 1).double())
        known.ask("two", "two", cam(events[0], n))
        known.ask("two", "rows", cam(events[1], n))
        known.begin("six", COPIES, "two", torch.eye(2).repeat_interleave(3, 0).double())
        known.ask("six", "six", cam(events[2], n))
        known.ask("six", "rows", cam(events[3], n))
        assert_close(found["rows"][n], known.R["six", "rows"][2])
        assert_close(found["task"][n], known.R["six", "task"][2])


class Uncopied(Asking):
    """What the copies hear is added to the token itself."""

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        others, token = self.rows(rows), self.task(task)
        copies = token.expand(-1, COPIES, -1)
        x = token + self.layers[0].mixed(copies, self.places, copies + self.places)
        return self.head(self.layers[1](x, self.places, others))


def test_what_copies_hear_is_added_to_the_token_itself() -> None:
    model = built(lambda: Uncopied("expand"))
    found = heedmap.explain(model, given(), target=target, drop_self=False)
    events = seen(model, given(), target, ())
    for n in range(2):
        R = expected(events, n).R
        assert_close(found["rows"][n], R["copies", "rows"][2])
        assert_close(found["task"][n], R["copies", "task"][2])


class Asked(Asking):
    """Copies that are asked only: they ask nothing, and stay one token."""

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        x, asked = self.rows(rows), self.task(task).repeat(1, COPIES, 1) + self.places
        for own, cross in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = own(x, self.places[:1], x)
            x = cross(x, self.places[:1], asked)
        return self.head(x)


def test_copies_that_ask_nothing_stay_one_token() -> None:
    model = built(lambda: Asked("repeat"))
    found = heedmap.explain(model, given(), target=target, drop_self=False)
    events = seen(model, given(), target, ())
    for n in range(2):
        known = Relevance()
        known.begin("task", 1)
        known.begin("rows", SEEN)
        for own, cross in zip(events[::2], events[1::2], strict=True):
            known.ask("rows", "rows", cam(own, n))
            known.ask("rows", "task", cam(cross, n).sum(1, keepdim=True))
        assert_close(found["rows"][n], known.R["rows", "rows"][2])
        assert_close(found["task"][n], known.R["rows", "task"][2])


class Again(Asking):
    """Only some of the tokens stand there twice: which of them is which is not told."""

    def forward(self, rows: Tensor, task: Tensor) -> Tensor:
        others, x = self.task(task), self.rows(rows)[:, [0, 1, 1, 2, 3, 4]]
        for own, cross in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = own(x, self.places, x + self.places)
            x = cross(x, self.places, others)
        return self.head(x)


def test_tokens_of_which_some_are_copies_are_refused() -> None:
    with pytest.raises(AttentionError, match="token 1 reaches several rows"):
        heedmap.explain(built(lambda: Again("repeat")), given(), target=target)


@pytest.mark.parametrize("build", [lambda: Asking("expand"), lambda: Beside("repeat"), lambda: TwoSteps("repeat")])
def test_rows_are_those_of_the_full_map_and_samples_do_not_depend_on_each_other(build: Callable[[], nn.Module]) -> None:
    model = built(build)
    found = heedmap.explain(model, given(), target=target)
    full = heedmap.explain(model, given(), target=target, full=True)
    for n in range(2):
        alone = heedmap.explain(model, {name: value[n : n + 1] for name, value in given().items()}, target=target)
        for segment in ("rows", "task"):
            torch.testing.assert_close(found[segment], full[segment])
            torch.testing.assert_close(found[segment][n], alone[segment][0])
