"""bitsandbytes' 4-bit layers on a CPU: fresh, and after their weights were packed for a kernel without a gradient."""

from __future__ import annotations

from copy import deepcopy

import bitsandbytes as bnb
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

import heedmap
from heedmap.attention.operations import Linear

SHAPE = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TOKENS = torch.tensor([[1, 17, 5, 42, 8, 77, 2]])


def quantised() -> nn.Module:
    torch.manual_seed(3)
    model = BertForSequenceClassification(BertConfig(**SHAPE)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and "classifier" not in name:
            layer = bnb.nn.Linear4bit(module.in_features, module.out_features, compute_dtype=torch.float32)
            layer.weight = bnb.nn.Params4bit(module.weight.data.clone(), requires_grad=False, quant_type="nf4")
            layer.bias = module.bias
            model.set_submodule(name, layer.to("cpu"))
    return model


def dense(model: nn.Module) -> nn.Module:
    """The same model with the weights that the 4 bits stand for."""
    model = deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, bnb.nn.Linear4bit):
            layer = nn.Linear(module.in_features, module.out_features)
            layer.weight.data = dequantize_4bit(module.weight.data, module.weight.quant_state).float()
            layer.bias = module.bias
            model.set_submodule(name, layer)
    return model


@torch.no_grad()
def answers(model: nn.Module) -> Tensor:
    return model(TOKENS).logits


def words(model: nn.Module, method: str = "generic") -> Tensor:
    return heedmap.explain(model, {"input_ids": TOKENS}, target=1, method=method)["text"]


@pytest.mark.parametrize("method", ["generic", "rollout", "raw_attention", "input_x_gradient"])
def test_before_and_after_packing(method: str) -> None:
    """The fresh model's map is the dense one's; the owner's answers are their own; the packed model's map is as close as bfloat16 is."""
    model = quantised()
    expected, alone = words(dense(model), method), answers(deepcopy(model))
    torch.testing.assert_close(words(model, method), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(answers(model), alone, rtol=0, atol=0)
    torch.testing.assert_close(words(model, method), expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))
    torch.testing.assert_close(answers(model), alone, rtol=0, atol=0)


def test_gradient_of_a_kernel_without_one() -> None:
    """The weights are read from the kernel itself; the model may write to what it returns."""
    x, weight = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    out = Linear.apply(torch.ops.aten.matmul.default, x, weight)
    out += 1
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    wanted = 2 * (x @ weight + 1) @ weight.T
    torch.testing.assert_close(gradient, wanted)
