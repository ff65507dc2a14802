"""Activation checkpointing that is on in eval mode too: the maps are as without, and it is on again afterwards."""

from __future__ import annotations

import threading
from typing import Any

import open_clip
import pytest
import timm
import torch
import torch.utils.checkpoint as torch_checkpoint
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction, checkpoint, checkpoint_sequential

import heedmap
from conformance.tiny_models import livened
from heedmap.attention.at_rest import run_directly
from heedmap.targets import Similarity

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")
METHODS = ("generic", "raw_attention", "transformer_attribution", "attn_lrp", "integrated_gradients")
WAYS: dict[str, dict[str, Any]] = {
    "reentrant": {"use_reentrant": True},
    "not reentrant": {"use_reentrant": False},
    "with its own contexts": {"use_reentrant": False, "preserve_rng_state": False, "debug": True},
}
IDS = torch.arange(3, 10)[None]


class Net(nn.Module):
    """A small encoder whose layers are checkpointed in a given way."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.layers = nn.Sequential(*(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True) for _ in range(2)))
        self.head, self.way, self.error = nn.Linear(16, 3), way, False

    def forward(self, input_ids: Tensor) -> Tensor:
        h = self.embedding(input_ids)
        if self.way == "sequential":
            h = checkpoint_sequential(self.layers, 2, h, use_reentrant=False)
        else:
            for layer in self.layers:
                h = checkpoint(layer, h, **WAYS[self.way]) if self.way else layer(h)
        if self.error:
            raise OSError("the model fails")
        return self.head(h[:, 0])


def net(way: str = "") -> Net:
    torch.manual_seed(0)
    return livened(Net(way))


def swapped() -> tuple[bool, bool]:
    name = "_checkpoint_without_reentrant_generator"
    return "apply" in vars(CheckpointFunction), getattr(torch_checkpoint, name).__module__ != torch_checkpoint.__name__


@pytest.mark.parametrize("way", [*WAYS, "sequential"])
@pytest.mark.parametrize("method", METHODS)
def test_the_map_is_as_without(way: str, method: str) -> None:
    wanted = heedmap.explain(net(), IDS, target=1, method=method)["text"]
    assert torch.equal(heedmap.explain(net(way), IDS, target=1, method=method)["text"], wanted)
    assert swapped() == (False, False)


def test_timm() -> None:
    model = livened(timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2))
    images = torch.randn(1, 3, 32, 32)
    wanted = [heedmap.explain(model, images, target=1, probe=p)["image"] for p in (True, False)]
    model.set_grad_checkpointing(True)
    found = [heedmap.explain(model, images, target=1, probe=p)["image"] for p in (True, False)]
    assert all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def test_open_clip() -> None:
    vision = {"image_size": 16, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8}
    text = {"context_length": 6, "vocab_size": 20, "width": 16, "heads": 2, "layers": 2}
    model = livened(open_clip.model.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text))
    inputs = {"image": torch.randn(1, 3, 16, 16), "text": torch.arange(1, 7)[None]}
    wanted = heedmap.explain(model, inputs, target=Similarity())
    model.set_grad_checkpointing(True)
    found = heedmap.explain(model, inputs, target=Similarity())
    assert all(torch.equal(found[name], wanted[name]) for name in ("image", "text"))


@pytest.mark.parametrize("way", WAYS)
def test_it_is_on_again_after_an_exception(way: str) -> None:
    model = net(way)
    model.error = True
    with pytest.raises(OSError, match="the model fails"):
        heedmap.explain(model, IDS, target=1)
    assert swapped() == (False, False)


def runs_in_training(way: str) -> int:
    """How often a checkpointed function runs in one training step: twice."""
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(1)
        return (x * 2).sin()

    checkpoint(counted, torch.ones(2, requires_grad=True), **WAYS[way]).sum().backward()
    return len(calls)


@pytest.mark.parametrize("way", WAYS)
def test_another_thread_trains_on(way: str) -> None:
    counts = []
    with run_directly(), run_directly():
        thread = threading.Thread(target=lambda: counts.append(runs_in_training(way)))
        thread.start()
        thread.join()
        counts.append(runs_in_training(way))
    counts.append(runs_in_training(way))
    assert counts == [2, 1, 2]


def test_several_threads_explain_at_once() -> None:
    wanted = heedmap.explain(net(), IDS, target=1)["text"]
    models, found = [net(way) for way in (*WAYS, "sequential")], {}

    def explained(number: int) -> None:
        found[number] = heedmap.explain(models[number], IDS, target=1)["text"]

    threads = [threading.Thread(target=explained, args=(n,)) for n in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(models)
    assert all(torch.equal(f, wanted) for f in found.values())
    assert swapped() == (False, False)
