"""The ViT's task: what it learns from, and how it is scored."""

import torch

from heedmap.zoo.tasks import labels
from heedmap.zoo.tasks.labels import LABELS
from heedmap.zoo.tasks.pictures import scenes

SETTINGS = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"patches": 1.0, "outlines": 1.0},
}


def test_batches_are_windows_of_one_stream():
    whole, part = labels.batch(0, "train", 4, 5), labels.batch(0, "train", 6, 2)
    assert all(torch.equal(part[name], whole[name][2:4]) for name in whole)


def test_a_batch_tells_what_pictures_and_patches_show():
    made = labels.batch(0, "val", 0, 8)
    for row, scene in enumerate(scenes(0, "val", 0, 8)):
        there = {name for name, yes in zip(LABELS, made["labels"][row], strict=True) if yes}
        assert there == {name for one in scene.objects for name in (one.shape, one.colour)}
        assert (made["patches"][row].sum(1) == 2 * made["shown"][row]).all()
        assert (made["patches"][row].amax(0) <= made["labels"][row]).all()


def test_the_second_stage_goes_on_without_what_draws():
    torch.manual_seed(0)
    first = labels.model(SETTINGS, None).train()
    made = labels.batch(0, "train", 0, 4)
    labels.loss(first, made).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    second = labels.model({**SETTINGS, "patches": 0.0, "outlines": 0.0}, first)
    assert set(first.state_dict()) - set(second.state_dict()) == {"outlines.weight", "outlines.bias"}
    assert labels.loss(second, made).isfinite()


def test_scores_of_one_who_says_no():
    model = labels.model(SETTINGS, None).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(-1)
        found = labels.scores(model, 0, "val", 20)
    assert found["accuracy"] == found["always-no"]
    assert found["f1"] == found["exact"] == 0
