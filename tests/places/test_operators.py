"""The oracles of operators against themselves and against plain formulas."""

import pytest
import torch
from placed_models import MERGES, MIXERS, PLAIN, WINDOWS, Case
from torch import nn
from transformers.models.swin.modeling_swin import window_partition

from oracles import operators as ops
from oracles import scripts
from oracles.operators import Step
from oracles.seen import Event, seen


def test_one_window_is_plain_attention() -> None:
    A, gradient = torch.rand(2, 3, 9, 9).double(), torch.randn(2, 3, 9, 9).double()
    tokens = scripts.windows(3, 3, 3, 0)
    assert torch.equal(ops.blocks(A, gradient, tokens, tokens, 9, 9), (A * gradient).clamp(min=0).mean(1))


def test_pairs_that_meet_twice_add_and_padding_is_dropped() -> None:
    A, gradient = torch.ones(2, 1, 2, 2).double(), torch.ones(2, 1, 2, 2).double()
    tokens = torch.tensor([[0, 1], [0, -1]])
    assert ops.blocks(A, gradient, tokens, tokens, 3, 3).tolist() == [[[2, 1, 0], [1, 1, 0], [0, 0, 0]]]


@pytest.mark.parametrize(("size", "window", "shift"), [((6, 6), 3, 1), ((7, 10), 3, 1), ((5, 8), 4, 2), ((9, 9), 3, 0)])
def test_windows_are_those_of_the_model(size: tuple[int, int], window: int, shift: int) -> None:
    numbers = torch.arange(1, 1 + size[0] * size[1]).view(1, *size, 1)
    padded = nn.functional.pad(numbers, (0, 0, 0, -size[1] % window, 0, -size[0] % window))
    shifted = torch.roll(padded, (-shift, -shift), (1, 2))
    assert torch.equal(scripts.windows(*size, window, shift), window_partition(shifted, window).flatten(1) - 1)


def test_merging_groups_of_one_is_the_identity() -> None:
    x, gradient = torch.randn(2, 5, 4).double(), torch.randn(2, 5, 6).double()
    M = ops.normalised(*ops.concatenated(torch.randn(6, 4).double(), x, gradient, torch.arange(5)[:, None], 5))
    assert torch.equal(M, torch.eye(5).double().expand(2, -1, -1))


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (5, 7)])
def test_concatenation_and_convolution_merge_alike(size: tuple[int, int]) -> None:
    count = size[0] * size[1]
    new = [(n + 1) // 2 for n in size]
    weight = torch.randn(3, 4, 2, 2).double()
    x, gradient = torch.randn(2, 4, *size).double(), torch.randn(2, 3, *new).double()
    padded = nn.functional.pad(x, (0, size[1] % 2, 0, size[0] % 2))
    parts = torch.cat([padded[:, :, i::2, j::2] for j in range(2) for i in range(2)], 1)
    joined = torch.cat([weight[:, :, i, j] for j in range(2) for i in range(2)], 1)
    found = ops.concatenated(joined, parts.flatten(2).mT, gradient.flatten(2).mT, scripts.quarters(*size), count)

    def convolved(part: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(nn.functional.pad(part, (0, size[1] % 2, 0, size[0] % 2)), weight, stride=2)

    torch.testing.assert_close(found[0], ops.linear(convolved, x, gradient))
    assert torch.equal(found[1], ops.reaching(lambda p: convolved(p).abs(), x))


def test_a_matrix_over_tokens() -> None:
    mix = nn.Linear(7, 5).double()
    x, gradient = torch.randn(2, 3, 7).double(), torch.randn(2, 3, 5).double()
    expected = (torch.einsum("bci,bcj->bij", gradient, x) * mix.weight.detach()).clamp(min=0)
    torch.testing.assert_close(ops.linear(mix, x, gradient), expected)


def test_attention_as_a_mixer_linear_in_its_values() -> None:
    A, v, gradient = torch.rand(2, 3, 5, 5).double(), torch.randn(2, 3, 5, 4).double(), torch.randn(2, 3, 5, 4).double()

    def attend(values: torch.Tensor) -> torch.Tensor:
        return (A @ values.unflatten(1, (3, 4)).mT).mT.flatten(1, 2)

    found = ops.linear(attend, v.mT.flatten(1, 2), gradient.mT.flatten(1, 2), 3)
    torch.testing.assert_close(found, ops.whole(A, gradient @ v.mT))


def test_a_row_of_zeros_is_uniform_over_what_goes_in() -> None:
    cam, reach = torch.tensor([[[0.0, 3, 1], [0, 0, 0]]]), torch.tensor([[True, True, True], [True, False, True]])
    assert ops.normalised(cam, reach).tolist() == [[[0, 0.75, 0.25], [0.5, 0, 0.5]]]


def test_steps() -> None:
    torch.manual_seed(0)
    first, second, merge = torch.rand(1, 4, 4), torch.rand(1, 3, 2), torch.rand(1, 2, 4)
    first, second, merge = first.double(), second.double(), merge.double()
    keys = torch.rand(1, 2, 3).double()
    R = torch.eye(4).double() + first
    joined = torch.zeros(1, 3, 5).double()
    joined[:, 0, 0] = 1
    joined[:, 1:, 1:] = merge @ R
    steps = [Step(first), Step(base=merge), Step(joined=1), Step(second, keys=keys)]
    torch.testing.assert_close(ops.chained(steps, 1, 4), joined + second @ keys @ joined)


CASES = PLAIN | WINDOWS | MERGES | MIXERS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_tokens_contribute_is_what_came_out(case: Case) -> None:
    events = seen(case.eager(case.model()), case.given(1), case.target, case.paths)

    for event in events:
        if event.module is None:
            assert ((event.out.sum(-1) - 1).abs() < 1e-9).all() or event.out.shape[-1] == 1
        elif isinstance(event.module, (nn.Conv1d, nn.Conv2d, nn.AvgPool1d, nn.MaxPool1d)):
            accounted(event)


def accounted(event: Event) -> None:
    """Σ_j c_ij and the constants are the output."""
    mix, x = scripts.frozen(event)
    with torch.no_grad():
        constant = mix(torch.zeros_like(x))
        parts = sum(mix(ops.alone(x, j)) - constant for j in range(x.flatten(2).shape[-1]))
    torch.testing.assert_close(parts + constant, event.out.detach())
