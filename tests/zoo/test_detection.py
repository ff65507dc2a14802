"""The tasks of DETR and Deformable DETR: what they learn from, how they are scored, and where the shipped model looks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

import heedmap
from heedmap.outputs import Context
from heedmap.targets import DetectionQuery
from heedmap.zoo.recipes import ZOO
from heedmap.zoo.samples import DETECTION, shown_by
from heedmap.zoo.tasks import SIDE, cells, deformable, detection, pixel_values, scenes
from heedmap.zoo.tasks.detection import CELLS, NOTHING, STRIDE, average_precision, centred
from heedmap.zoo.world import SHAPES, Shapes

SETTINGS = {
    "backbone": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1]},
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 12},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
}


DEFORMABLE = {
    **ZOO["deformable-shapes"].stages[0].settings,
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
}


@pytest.fixture(scope="module")
def begun():
    torch.manual_seed(0)
    return deformable.model(DEFORMABLE, None).train()


def perfect(scene):
    labels = torch.tensor([SHAPES.index(one.shape) for one in scene.objects])
    return scene, torch.full((len(labels),), 0.9), labels, torch.stack([centred(o.box) * SIDE for o in scene.objects])


def test_the_image_processor_gives_what_the_training_had():
    scene = scenes(0, "test", 0, 1)[0]
    (processor,) = detection.processors()
    found = processor(images=scene.image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, pixel_values([scene]), atol=1e-5, rtol=0)


def test_batches_are_windows_of_one_stream():
    whole, part = detection.batch(0, "train", 4, 5), detection.batch(0, "train", 6, 2)
    assert all(torch.equal(part[name], whole[name][2:4]) for name in whole)


def test_a_batch_tells_boxes_shapes_and_cells():
    made = detection.batch(0, "val", 0, 6)
    for row, scene in enumerate(scenes(0, "val", 0, 6)):
        amount = len(scene.objects)
        assert (made["shapes"][row] != NOTHING).sum() == amount
        for place, one in enumerate(scene.objects):
            x, y, width, height = (made["boxes"][row, place] * SIDE).tolist()
            assert (x - width / 2, y - height / 2, x + width / 2, y + height / 2) == pytest.approx(one.box, abs=1e-4)
            for cell in (made["cells"][row] == place).nonzero().flatten().tolist():
                top, left = cell // CELLS * STRIDE, cell % CELLS * STRIDE
                assert one.mask[top : top + STRIDE, left : left + STRIDE].mean() >= 0.25


def test_perfect_detections_have_full_scores():
    """Also where a scene has several objects of a shape."""
    found = [perfect(scene) for scene in scenes(0, "val", 0, 40)]
    assert any(len(set(labels.tolist())) < len(labels) for _, _, labels, _ in found)
    assert average_precision(found) == pytest.approx({"ap50": 1, "ap": 1, "precision": 1, "recall": 1})


def test_wrong_and_double_detections_cost():
    scene, sure, labels, boxes = perfect(scenes(0, "val", 0, 1)[0])
    twice = (scene, torch.cat([sure, sure - 0.1]), labels.repeat(2), boxes.repeat(2, 1))
    assert average_precision([twice])["precision"] == pytest.approx(0.5)
    unsure = (scene, sure - 0.5, labels, boxes)
    assert average_precision([unsure])["recall"] == 0
    assert average_precision([(scene, sure, (labels + 1) % len(SHAPES), boxes * 0.1)])["ap50"] == 0


def test_both_stages_learn_and_the_second_goes_on_from_the_first():
    torch.manual_seed(0)
    first = cells.model(SETTINGS, None).train()
    made = cells.batch(0, "train", 0, 4)
    cells.loss(first, made).backward()
    assert all(p.grad is not None for n, p in first.named_parameters() if "encoder.layers" in n or "backbone" in n)
    second = detection.model(SETTINGS, first)
    assert torch.equal(second.state_dict()["class_labels_classifier.weight"], first.class_labels_classifier.weight)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in second.modules())
    detection.loss(second, made).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in second.parameters())


def test_deformable_queries_begin_at_places_of_a_grid(begun):
    with torch.no_grad():
        found = begun(torch.zeros(1, 3, SIDE, SIDE)).init_reference_points[0]
    wanted = [
        ((column + 0.5) / CELLS, (row + 0.5) / CELLS)
        for row, column in (divmod(cell, CELLS) for cell in detection.places(16))
    ]
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-2, rtol=0)
    assert len(set(wanted)) == 16


def test_deformable_learns_from_all_its_parts_and_begins_with_the_backbone_of_the_shipped_detr(begun):
    deformable.loss(begun, deformable.batch(0, "train", 0, 4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in begun.parameters())
    pixels = pixel_values(scenes(0, "val", 0, 1))
    shipped = heedmap.load("zoo/detr-shapes").model.model.backbone.model
    with torch.no_grad():
        torch.testing.assert_close(begun.model.backbone.model(pixels), shipped(pixels))


def test_cells_that_say_what_they_show_cost_nothing():
    """The cells' loss reads boxes from the middle of each cell, as a query's are read from its reference point."""
    made = deformable.batch(0, "val", 0, 6)
    shown = made["cells"] != NOTHING
    owners = made["cells"].clamp(min=0)
    rows = torch.arange(6)[:, None]
    shapes = torch.nn.functional.one_hot(made["shapes"][rows, owners], len(SHAPES)) * shown[..., None]
    middle = torch.tensor([[(c % CELLS + 0.5) / CELLS, (c // CELLS + 0.5) / CELLS] for c in range(CELLS**2)]).logit()
    boxes = made["boxes"][rows, owners].clamp(1e-4).logit() - torch.nn.functional.pad(middle, (0, 2))

    right = SimpleNamespace(class_embed=[lambda _: shapes * 40.0 - 20], bbox_embed=[lambda boxes: boxes])
    wrong = SimpleNamespace(class_embed=[lambda _: shapes.roll(1, -1) * 40.0 - 20], bbox_embed=right.bbox_embed)
    assert deformable.cell_loss(right, boxes, made) < 1e-3
    assert deformable.cell_loss(wrong, boxes, made) > 1
    assert deformable.cell_loss(right, boxes + 1, made) > 0.5


@pytest.mark.parametrize("none", [True, False], ids=["softmax with no object", "a yes or no for each shape"])
def test_what_was_found_rightly_is_read_by_the_kind_of_head(none):
    """The first query finds the object rightly, the second too but is not sure, the third is wrong."""
    sample = DETECTION.make(0)
    one = sample.truth.objects[0]
    labels = dict(enumerate(SHAPES))
    logits = torch.full((1, 3, len(SHAPES) + none), -9.0)
    logits[0, :, len(SHAPES) :] = 1.0
    logits[0, [0, 1], SHAPES.index(one.shape)] = torch.tensor((4.0, -1.0))
    logits[0, 2, SHAPES.index(next(shape for shape in SHAPES if not shown_by(sample.truth, shape)))] = 4.0
    output = SimpleNamespace(logits=logits, pred_boxes=centred(one.box).expand(1, 3, 4))
    subject = SimpleNamespace(name="one", class_names=labels, context=lambda _: Context(labels=labels))
    (asked,) = DETECTION.ask(subject, sample, output, 0)
    assert asked.place == (0, SHAPES.index(one.shape))


def test_the_shipped_model_looks_at_the_object_that_it_names():
    subject = heedmap.load("zoo/detr-shapes")
    shares, areas = [], []
    for scene in Shapes("test", length=8):
        with torch.no_grad():
            output = subject.model(**subject.inputs(image=scene.image))
        likely, shape = output.logits[0].softmax(-1)[:, :-1].max(-1)
        query = int(likely.argmax())
        centre = (output.pred_boxes[0, query, :2] * SIDE).numpy()
        alike = [o for o in scene.objects if o.shape == SHAPES[shape[query]]]
        nearest = min(alike, key=lambda o: float(np.abs(np.array(o.centre) - centre).sum()))
        mask = avg_pool2d(torch.from_numpy(nearest.mask).float()[None, None], STRIDE).flatten()
        found = subject.explain(image=scene.image, target=DetectionQuery(query=query))["image"][0]
        shares.append(float((found * mask).sum() / found.sum()))
        areas.append(float(mask.mean()))
    assert np.mean(shares) > 3 * np.mean(areas)
