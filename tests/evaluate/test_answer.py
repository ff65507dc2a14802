"""Chance draws for each sample by its key; and a model that answers is left as it was found."""

import zlib

import numpy as np
import pytest
import torch

import heedmap
from heedmap.attention.forward import output_of
from heedmap.evaluate.answer import explained, maps_of, target_of, tried
from heedmap.evaluate.evaluation import contender
from heedmap.evaluate.experiments.detection import Detection
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.experiments.segmentation import Segmentation
from heedmap.zoo.dataset import answered, shown
from heedmap.zoo.material import right_ones
from heedmap.zoo.samples import MATERIALS

RANDOM = contender("random")


@pytest.fixture(scope="module")
def lists():
    return heedmap.load("zoo/gpt-lists")


def drawn(subject, texts, keys, one=RANDOM, seed=0):
    return explained(subject, subject.inputs(text=texts), 0, one, seed, keys)


def test_chance_depends_on_the_key_alone(lists):
    long, short = "dog red ; cat blue ; sun green ? cat", "dog red ? dog"
    both = drawn(lists, [long, short], ["a", "b"])["text"]
    alone = drawn(lists, [short], ["b"])["text"]
    assert both[1, : alone.shape[1]].tolist() == alone[0].tolist()
    assert drawn(lists, [long, long], ["a", "b"])["text"].unique(dim=0).shape[0] == 2
    assert drawn(lists, [long, long], ["a", "a"])["text"].unique(dim=0).shape[0] == 1


def test_chance_is_what_the_published_figures_were_measured_with(lists):
    relevance = drawn(lists, ["dog red ? dog"], ["17"], seed=5)["text"][0]
    expected = np.random.default_rng([5, zlib.crc32(b"17"), 1]).random(len(relevance))
    assert relevance.tolist() == torch.from_numpy(expected).float().tolist()


def test_seeds_have_draws_of_their_own(lists):
    first = drawn(lists, ["dog red ? dog"], ["a"])
    assert not torch.equal(first["text"], drawn(lists, ["dog red ? dog"], ["a"], seed=1)["text"])
    own = drawn(lists, ["dog red ? dog"], ["a"], contender("random:seed=1"))["text"]
    assert torch.equal(own, drawn(lists, ["dog red ? dog"], ["a"], seed=1)["text"])


def test_without_keys_it_is_the_method_itself(lists):
    inputs = lists.inputs(text="dog red ? dog")
    own = heedmap.explain(lists.model, inputs, target=0, method="random", seed=3)
    assert torch.equal(explained(lists, inputs, 0, RANDOM, 3)["text"], own["text"])


def test_each_map_of_a_picture_has_a_draw_of_its_own():
    subject = heedmap.load("zoo/vit-shapes")
    images = [MATERIALS["vit-shapes"].make(number).inputs["image"] for number in range(3)]
    places = [[(0,), (1,)], [(2,)], [(0,), (3,)]]
    maps = maps_of(subject, subject.inputs(image=images), places, RANDOM, 0)
    assert [len(own) for own in maps] == [2, 1, 2]
    assert len({grid.tobytes() for own in maps for grid in own}) == 5


# -- the model is left as it was found -------------------------------------------------------------------------------


def state(model):
    modes = [module.training for module in model.modules()]
    grads = [(weight.requires_grad, weight.grad is None) for weight in model.parameters()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    return modes, grads, hooks, torch.get_rng_state().tolist(), torch.is_grad_enabled()


def rows_of(evaluation, subject, reader):
    return lambda: evaluation.rows(subject, [reader[number] for number in range(2)], [contender("raw_attention")], 0)


def half_trained(name):
    """A model some of whose parts are in training mode, and the first weight of which is frozen."""
    subject = heedmap.load(name)
    for number, module in enumerate(subject.model.modules()):
        module.training = number % 2 == 0
    next(subject.model.parameters()).requires_grad_(False)
    return subject


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("zoo/vit-shapes", lambda subject: rows_of(Segmentation("mean", "found"), subject, shown(subject))),
        ("zoo/vit-shapes", lambda subject: rows_of(Perturbation.of(subject), subject, answered(subject))),
        ("zoo/vit-shapes", lambda subject: lambda: tried(subject)),
        ("zoo/detr-shapes", lambda subject: rows_of(Detection(), subject, shown(subject))),
        (
            "zoo/clip-shapes",
            lambda subject: lambda: right_ones(subject, MATERIALS["clip-shapes"], [MATERIALS["clip-shapes"].make(0)]),
        ),
    ],
)
def test_a_model_is_left_as_it_was_found(name, made):
    subject = half_trained(name)
    use, before = made(subject), state(subject.model)
    first, second = use(), use()
    assert state(subject.model) == before
    if isinstance(first, tuple):
        assert str(first) == str(second)  # no dropout


def test_a_target_takes_the_score_at_its_place():
    subject = heedmap.load("zoo/vit-shapes")
    inputs = subject.inputs(image=[MATERIALS["vit-shapes"].make(number).inputs["image"] for number in range(2)])
    found = explained(subject, inputs, target_of([(1,), (4,)]), contender("raw_attention"), 0)
    logits = output_of(subject.model, inputs).logits
    assert found.scores.tolist() == pytest.approx([float(logits[0, 1]), float(logits[1, 4])], abs=1e-5)
