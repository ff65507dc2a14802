"""Laws of maps through windows, merged tokens and mixers, on models of several libraries."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from refused import FOLLOWED
from test_conformance import state
from test_refused import stirred
from torch import Tensor, nn

import heedmap

pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def built(name: str) -> nn.Module:
    """What was proved of a model, by the first test that asks it, holds for the others."""
    torch.manual_seed(0)
    model: nn.Module = stirred(FOLLOWED[name].build().eval()).double()
    return model


def inputs(name: str, samples: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(1)
    given = [FOLLOWED[name].inputs() for _ in range(samples)]
    found = {key: torch.cat([one[key] for one in given]) for key in given[0]}
    return {key: value.double() if value.is_floating_point() else value for key, value in found.items()}


def target(output: object) -> Tensor:
    """One number of what the model answers first; of an answer for each token, of the last one."""
    answer = output if isinstance(output, Tensor) else output["logits"]  # type: ignore[index]
    answer = answer[:, -1] if answer.dim() == 3 else answer
    return answer.flatten(1)[:, 3]


ALONE: dict[str, heedmap.Explanation] = {}


def alone(name: str) -> heedmap.Explanation:
    """Of one sample, made by the first test that has it."""
    if name not in ALONE:
        ALONE[name] = heedmap.explain(built(name), inputs(name), target=target)
    return ALONE[name]


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_model_is_left_as_found(name: str) -> None:
    model, given = built(name), inputs(name)
    before = state(model)
    explanation = ALONE[name] = heedmap.explain(model, given, target=target)
    after = state(model)
    own = {"versions", "hooks"}  # ConViT fills a buffer of its own, transformers installs hooks of its own
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert all(bool(torch.isfinite(s.relevance).all()) for s in explanation.segments.values())
    assert sum(float(s.relevance.sum()) for s in explanation.segments.values()) > 0


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_batch_is_its_samples_one_by_one(name: str) -> None:
    model, given = built(name), inputs(name, 2)
    together = heedmap.explain(model, given, target=target)
    second = heedmap.explain(model, {k: v[1:] for k, v in given.items()}, target=target)
    for i, found in enumerate((alone(name), second)):
        for key, segment in found.segments.items():
            expected, scale = segment.relevance[0], float(segment.relevance.abs().max()) or 1.0
            torch.testing.assert_close(together[key][i], expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["swin", "convbert", "conformer", "convit", "mamba2"])
def test_blocks_are_the_whole(name: str) -> None:
    model, given = built(name), inputs(name)
    whole, blocks = (heedmap.explain(model, given, target=target, memory_budget=size) for size in (2**30, 1))
    for key in whole.segments:
        torch.testing.assert_close(blocks[key], whole[key], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["convbert", "conformer", "pvtv2", "deformable-detr", "mamba", "mamba2"])
def test_rows_are_those_of_the_whole_maps(name: str) -> None:
    """By rows, nothing of the size of a map is kept; with ``full`` all maps are."""
    rows, full = alone(name), heedmap.explain(built(name), inputs(name), target=target, full=True)
    for key in rows.segments:
        torch.testing.assert_close(full[key], rows[key], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("move", [lambda x: x.flip(0), lambda x: x])
def test_samples_may_change_places(move: Callable[[Tensor], Tensor]) -> None:
    model, given = built("swin"), inputs("swin", 3)
    found = heedmap.explain(model, given, target=target)
    moved = heedmap.explain(model, {k: move(v) for k, v in given.items()}, target=target)
    torch.testing.assert_close(moved["image"], move(found["image"]), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["rollout", "raw_attention", "attention_x_gradient", "legrad"])
def test_other_methods_on_windows(method: str) -> None:
    """Without convolutions all attention methods have what they need; where there are some, they say what is missing."""
    found = heedmap.explain(built("swin"), inputs("swin"), target=target, method=method)
    assert found["image"].shape == (1, 28 * 28)
    assert float(found["image"].abs().sum()) > 0


@pytest.mark.parametrize("method", ["rollout", "partial_lrp", "attention_gradcam"])
def test_methods_that_are_not_defined_say_so(method: str) -> None:
    with pytest.raises(heedmap.errors.AttentionError, match=r"no map|not defined|no attention"):
        heedmap.explain(built("conformer"), inputs("conformer"), target=target, method=method)
