"""Weights become random block by block, from the output down, and come back to the bit."""

import pytest
import torch

import heedmap
from heedmap.evaluate.answer import inputs_of
from heedmap.evaluate.trial import blocks, cascade
from heedmap.zoo.samples import MATERIALS

MODELS = sorted(MATERIALS)


def prepared(name):
    subject = heedmap.load(f"zoo/{name}")
    return subject, inputs_of(subject, [MATERIALS[name].make(0)])


def state(model):
    return {name: (p.detach().clone(), p.requires_grad, p.grad, p._version) for name, p in model.named_parameters()}


def assert_same(model, before, training):
    for name, p in model.named_parameters():
        value, requires, gradient, version = before[name]
        assert torch.equal(p.detach().view(torch.int32), value.view(torch.int32)), name
        assert (p.requires_grad, p._version) == (requires, version)
        assert p.grad is gradient
    assert [m.training for m in model.modules()] == training


@pytest.mark.parametrize("name", MODELS)
def test_blocks_hold_every_weight_once(name):
    subject, inputs = prepared(name)
    found = blocks(subject, inputs, 4)
    assert len(found) == 4
    names = [parameter for block in found for parameter in block.parameters]
    assert sorted(names) == sorted(name for name, _ in subject.model.named_parameters())
    assert len(blocks(subject, inputs, 1)) == 1


def test_blocks_go_from_the_output_to_the_input():
    first, *_, last = blocks(*prepared("vit-shapes"), 20)
    assert first.parameters == ("classifier.weight", "classifier.bias")
    assert "vit.embeddings.cls_token" in last.parameters
    layers = [block.name for block in blocks(*prepared("gpt-lists"), 20)]
    assert layers == ["lm_head", "model.norm", "model.layers.1", "model.layers.0", "model.embed_tokens"]


def test_looking_for_blocks_leaves_no_hook():
    subject, inputs = prepared("gpt-lists")
    blocks(subject, inputs, 3)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in subject.model.modules())


@pytest.mark.parametrize("name", ["vit-shapes", "bart-dates", "lxmert-shapes"])
def test_weights_come_back(name):
    subject, inputs = prepared(name)
    model = subject.model
    first = next(model.parameters())
    first.requires_grad_(False)
    list(model.parameters())[1].grad = torch.ones_like(list(model.parameters())[1])
    next(iter(model.children())).train()
    before, training = state(model), [m.training for m in model.modules()]
    order = blocks(subject, inputs, 3)
    with cascade(model, order, 0) as steps:
        for _ in steps:
            pass
        changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n][0])]
        assert len(changed) > len(before) / 2  # constant ones do not change
        for n, p in model.named_parameters():
            assert torch.equal(p.detach().flatten().sort().values, before[n][0].flatten().sort().values)
    assert_same(model, before, training)


def test_weights_come_back_after_an_exception_and_an_early_end():
    subject, inputs = prepared("gpt-lists")
    before, training = state(subject.model), [m.training for m in subject.model.modules()]
    order = blocks(subject, inputs, 4)
    with pytest.raises(ZeroDivisionError), cascade(subject.model, order, 0) as steps:
        _ = next(steps).parameters and 1 / 0
    assert_same(subject.model, before, training)


def test_a_block_is_random_from_its_step_on():
    subject, inputs = prepared("gpt-lists")
    before = state(subject.model)
    order = blocks(subject, inputs, 10)
    with cascade(subject.model, order, 0) as steps:
        for number, block in enumerate(steps):
            assert block is order[number]
            weights = dict(subject.model.named_parameters())
            matrices = {n for n, p in weights.items() if p.dim() == 2}
            done = {n for one in order[: number + 1] for n in one.parameters} & matrices
            assert {n for n in matrices if not torch.equal(weights[n], before[n][0])} == done


def test_the_seed_decides():
    subject, inputs = prepared("gpt-lists")
    order = blocks(subject, inputs, 1)

    def drawn(seed):
        with cascade(subject.model, order, seed) as steps:
            list(steps)
            return subject.model.lm_head.weight.detach().clone()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
