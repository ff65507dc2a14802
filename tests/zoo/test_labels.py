"""The tasks of the ViT and of the Swin: what they learn from, and how they are scored."""

import pytest
import torch

from heedmap.zoo.tasks import labels, scenes, windows
from heedmap.zoo.tasks.labels import LABELS

GUIDED = {"patches": 1.0, "outlines": 1.0}
SETTINGS = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
    **GUIDED,
}
SWIN = {
    **{
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 6,
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.0,
    },
    **GUIDED,
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


@pytest.mark.parametrize(
    ("task", "settings", "heads"),
    [
        (labels, SETTINGS, {"outlines.weight", "outlines.bias"}),
        (windows, SWIN, {f"{head}.{kind}" for head in GUIDED for kind in ("weight", "bias")}),
    ],
)
def test_the_second_stage_goes_on_without_what_draws(task, settings, heads):
    torch.manual_seed(0)
    first = task.model(settings, None).train()
    made = task.batch(0, "train", 0, 4)
    task.loss(first, made).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())
    second = task.model({**settings, "patches": 0.0, "outlines": 0.0}, first)
    assert set(first.state_dict()) - set(second.state_dict()) == heads
    whole = torch.nn.functional.binary_cross_entropy_with_logits(second(made["pixel_values"]).logits, made["labels"])
    torch.testing.assert_close(task.loss(second, made), whole)


def test_a_head_of_the_swin_begins_with_its_neighbour():
    """Each token of a window reads, before all others, the one that its head is for; at the border there is none."""
    torch.manual_seed(0)
    block = windows.model(SWIN, None).swin.encoder.layers[1].blocks[1]
    bias = block.attention.relative_position_bias()[0]
    for head, (down, right) in enumerate(windows.AROUND[4:]):
        for row, column in ((2, 2), (1, 4), (4, 1)):
            assert bias[head, row * 6 + column].argmax() == (row + down) * 6 + column + right


def test_the_swin_has_windows_smaller_than_its_maps_and_shifts_them():
    seen = [
        (stage.blocks[0].input_resolution[0], block.window_size, block.shift_size)
        for stage in windows.model(SWIN, None).swin.encoder.layers
        for block in stage.blocks
    ]
    assert seen == [(24, 6, 0), (24, 6, 3), (12, 6, 0), (12, 6, 3)]


def test_scores_of_one_who_says_no():
    model = labels.model(SETTINGS, None).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(-1)
        found = labels.scores(model, 0, "val", 20)
    assert found["accuracy"] == found["always-no"]
    assert found["f1"] == found["exact"] == 0
