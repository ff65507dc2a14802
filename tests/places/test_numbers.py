"""Companions of tensors are kept small, and sorted as few times as can be: what they say is what it was without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from placed_models import MERGES, MIXERS, WINDOWS, Case
from torch import Tensor
from torch.nn import functional as F

import heedmap
from heedmap.attention import companions, mixers, moves
from heedmap.attention.numbers import NOTHING, all_of, compact, distinct, runs


def numbers(*shape: int, high: int = 9) -> Tensor:
    """Random token numbers, some of no token."""
    return torch.randint(-1, high, shape)


def held(ids: Tensor) -> int:
    """How many numbers are in memory."""
    return ids.untyped_storage().nbytes() // ids.element_size()


RESHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((4, 6, 5), (24, 5)), ((4, 6, 5), (2, 2, 6, 5)), ((4, 6, 5), (4, 6, 1, 5)), ((4, 1, 6, 5), (1, 4, 30)), ((4, 6, 5), (8, 15)),
    ((4, 6, 5), (120,)), ((2, 3, 1), (1, 2, 3)), ((3, 0, 2), (0, 6)), ((), (1, 1)), ((1,), ()), ((12, 5), (3, 4, 5, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), RESHAPES)
def test_another_shape_says_the_same(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for kept in range(2 ** len(before)):
        small = numbers(*(n if kept >> axis & 1 else min(n, 1) for axis, n in enumerate(before)))
        ids = small.expand(before)
        assert torch.equal(moves.reshaped(ids, after), ids.reshape(after))
        if len(before) == 3:
            turned = ids.permute(2, 1, 0)
            assert torch.equal(moves.reshaped(turned, (before[2], -1 if 0 not in before else 0)), turned.flatten(1))


def test_another_shape_copies_no_features() -> None:
    windows = torch.arange(64).view(1, 8, 8, 1).expand(1, 8, 8, 96).view(1, 2, 4, 2, 4, 96).permute(0, 1, 3, 2, 4, 5)
    assert held(moves.reshaped(windows, (4, 16, 96))) == 64
    assert held(moves.reshaped(windows, (4, 16, 3, 32))) == 64


@pytest.mark.parametrize("call", [torch.cat, torch.stack])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_put_together_they_say_the_same(call: Callable[..., Tensor], axis: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, 4) for _ in range(3)]
    known = dict(zip(map(id, parts), (numbers(2, 1, 1), numbers(1, 3, 1), numbers(2, 3, 4)), strict=True))
    for several in (parts[:1], parts[:2], parts):
        expected = call([known[id(t)].expand(t.shape) for t in several], axis)
        for args, options in (((several, axis), {}), ((several,), {"dim": axis})):
            made = moves.TorchCall(call, args, options, None, several)
            assert torch.equal(moves.moved(made, lambda t: known[id(t)]), expected)


def test_compact_numbers_say_the_same() -> None:
    torch.manual_seed(0)
    for shape in ((3, 1, 4), (1, 1, 1), (3, 5, 1), (1, 5, 4)):
        ids = numbers(*shape).expand(3, 5, 4)
        for given in (ids, ids.clone()):
            assert torch.equal(compact(given), ids)
            assert sum(n == 0 for n in compact(given).stride()) >= shape.count(1)
    ends_alike = torch.tensor([[1, 2, 1]]).expand(2, 3)
    assert torch.equal(compact(ends_alike.clone()), ends_alike)
    assert compact(torch.zeros(0, 3).long()).shape == (0, 3)


@pytest.mark.parametrize("high", [2, 50, 2**20, 2**40])
def test_different_rows_are_those_that_torch_finds(high: int) -> None:
    torch.manual_seed(0)
    for columns in (1, 2, 3, 7, 20):
        rows = numbers(30, columns, high=high)[torch.randint(0, 30, (60,))]
        rows[:, : columns // 2] = rows[0, : columns // 2]  # told apart by the last columns only
        found, which = distinct(rows)
        assert torch.equal(found[which], rows)
        expected = rows.unique(dim=0)
        assert torch.equal(found, expected)


def test_runs_begin_where_any_of_them_changes() -> None:
    first, second = torch.tensor([[1, 1, 2, 2, 2], [3, 3, 3, 3, 3]]), torch.tensor([[5], [6]]).expand(2, 5).clone()
    second[1, 4] = 7
    assert runs(1, first, second).tolist() == [0, 2, 4]
    assert runs(0, first, second).tolist() == [0, 1]
    assert runs(1, second[:, :1].expand(2, 5)).tolist() == [0]
    assert runs(0, torch.tensor([4, 4, 5])).tolist() == [0, 2]


@pytest.mark.parametrize("shape", [(5000,), (50, 2, 70), (7, 0), (1, 9000), (3, 1, 4)])
def test_each_number_once(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ids = numbers(*shape, high=99)
    for given in (ids, ids.unsqueeze(1).expand(-1, 80, *shape[1:])):
        found = all_of(given)
        assert found.tolist() == sorted(set(ids.flatten().tolist()) - {NOTHING})


def pairs(terms: mixers.Terms) -> dict[tuple[int, int], float]:
    """The terms by their pairs, each of which is there once."""
    found = {(int(i), int(j)): float(v) for i, j, v in zip(*terms, strict=True)}
    assert len(found) == len(terms.values)
    return found


def test_terms_are_summed_by_pairs() -> None:
    torch.manual_seed(0)
    for shapes in (((4, 5, 6), (4, 5, 6)), ((4, 1, 1), (4, 5, 1)), ((1, 5, 1), (4, 1, 6)), ((1, 1, 1), (1, 1, 1))):
        rows, columns, values = numbers(*shapes[0], high=3), numbers(*shapes[1], high=3), torch.randn(4, 5, 6).double()
        expected: dict[tuple[int, int], float] = {}
        whole = (t.expand(values.shape).flatten().tolist() for t in (rows, columns, values))
        for i, j, v in zip(*whole, strict=True):
            if i >= 0 and j >= 0:
                expected[i, j] = expected.get((i, j), 0.0) + v
        found = pairs(mixers.positive(rows, columns, values))
        assert found == pytest.approx({pair: max(v, 0.0) for pair, v in expected.items()})


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "nearest": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "bilinear": lambda x: F.interpolate(x, size=(5, 9), mode="bilinear", align_corners=False),
    "bicubic": lambda x: F.interpolate(x, size=(7, 3), mode="bicubic"),
    "smaller": lambda x: F.interpolate(x, size=(2, 3), mode="area"),
    "pooled": lambda x: F.adaptive_avg_pool2d(x, (2, 4)),
}


@pytest.mark.parametrize("resize", RESIZES.values(), ids=RESIZES)
def test_resizing_gives_what_it_gives_token_by_token(resize: Callable[[Tensor], Tensor], monkeypatch: Any) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(mixers, "ENTRIES", 100)
    x = torch.randn(2, 3, 4, 6).double()
    x[1, :, 2, 3] = 0  # a token that reaches nothing
    out = resize(x)
    asked = torch.arange(48).view(2, 1, 4, 6).masked_fill(torch.rand(2, 1, 4, 6) < 0.1, NOTHING)
    asked[0, 0, 0, 1] = asked[0, 0, 0, 0]  # one token at two places
    ids = 100 + torch.arange(out[:, 0].numel()).view(2, 1, *out.shape[2:])
    gradient = torch.randn_like(out)
    given = ids.expand(out.shape), asked.expand(x.shape)
    expected: dict[tuple[int, int], float] = {}
    for terms in mixers.linear_terms(resize, x, *given)(gradient):
        expected |= pairs(terms)
    (found,) = mixers.placewise_terms(resize, x, *given)(gradient)
    assert pairs(found) == pytest.approx(expected)


@pytest.mark.parametrize("case", [*WINDOWS.values(), *MERGES.values(), *MIXERS.values()][::3])
def test_maps_are_the_same_however_small_companions_are(case: Case, monkeypatch: Any) -> None:
    maps = []
    for large in (-1, 2**60):
        monkeypatch.setattr(companions, "LARGE", large)
        maps.append(heedmap.explain(case.model(), case.given(1), target=case.target))
    for name, segment in maps[0].segments.items():
        assert torch.equal(segment.relevance, maps[1].segments[name].relevance)


@pytest.mark.parametrize(
    ("func", "args"), [(Tensor.view, (3, 4)), (Tensor.__getitem__, ((slice(None), [5, 0]),)), (Tensor.repeat, (1, 2))]
)
def test_numbers_of_ids_on_another_device_are_moved_with_them(
    func: Callable[..., Tensor], args: tuple[Any, ...]
) -> None:
    torch.manual_seed(0)
    ids, known = torch.zeros(2, 6, dtype=torch.int64, device="meta"), numbers(2, 6)
    call = moves.TorchCall(func, (ids, *args), {}, func(ids, *args), [ids])
    assert torch.equal(moves.moved(call, lambda t: known if t is ids else None), func(known, *args))
