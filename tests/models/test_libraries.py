from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.evaluate.evaluation import EvaluationPlan, contenders, run
from heedmap.evaluate.experiments.perturbation import Perturbation
from heedmap.evaluate.experiments.sanity import Sanity
from heedmap.models.loader import open_clip_subject, timm_subject


def noise(rows=40, columns=60):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def vit():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    size = {"img_size": (32, 48), "depth": 2, "embed_dim": 24, "num_heads": 2}
    return timm_subject("timm/here", timm.create_model("vit_tiny_patch16_224", pretrained=False, **size).eval())


@pytest.fixture(scope="module")
def clip():
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    model = open_clip.model.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text).eval()
    transform = open_clip.transform.image_transform(32, is_train=False, mean=(0.5,) * 3, std=(0.25,) * 3)
    model.visual.image_mean, model.visual.image_std = (0.5,) * 3, (0.25,) * 3
    return open_clip_subject("open_clip/here", model, transform, open_clip.SimpleTokenizer(context_length=20))


def test_a_timm_model_at_its_own_size_with_its_own_labels(vit):
    explanation = vit.explain(image=noise())
    assert explanation.segments["image"].grid == (2, 3)
    assert vit.kind == "image"
    assert len(vit.labels) == 1000
    assert explanation.prediction_labels[0] == vit.labels[int(explanation.prediction)]
    fish = "goldfish, Carassius auratus"
    assert vit.explain(image=noise(), target=fish).target == (f"class 1 ({fish})",)


def test_what_a_timm_model_saw(vit):
    image = noise(32, 48)
    expected = vit.processors.image.transform(image)
    shown = vit.shown_image(image)
    assert shown.size == (48, 32)
    assert torch.equal(vit.inputs(image=image)["x"][0], expected)
    again = vit.processors.image.transform(shown)
    assert again.shape == expected.shape


def test_an_open_clip_pair(clip):
    explanation = clip.explain(text=["a café dog 😀", "a cat"], image=[noise(), noise(50, 50)])
    assert explanation.target == ("similarity of image 0 and text 0", "similarity of image 1 and text 1")
    assert explanation.segments["image"].grid == (2, 2)
    words = ("<start_of_text>", "a", "café", "dog", "😀", "<end_of_text>")
    assert explanation.segments["text"].labels[0] == (*words, *["<pad>"] * 14)
    assert explanation.segments["text"].labels[1][:4] == ("<start_of_text>", "a", "cat", "<end_of_text>")


def test_what_an_open_clip_model_saw(clip):
    image = noise(32, 48)
    assert np.array_equal(np.asarray(clip.shown_image(image)), np.asarray(image)[:, 8:40])


class Fish:
    """A data set of three pictures."""

    keys = ("a", "b", "c")
    problems: ClassVar[dict[str, str]] = {}
    description: ClassVar[dict[str, str]] = {"kind": "fish"}

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        picture = Image.fromarray(np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8))
        return Sample(self.keys[index], {"image": picture}, RightAnswers({"goldfish, Carassius auratus": 1.0}))


@pytest.mark.parametrize("evaluation", [Perturbation("vit", ("image",)), Perturbation("tenths", ("image",)), Sanity()])
def test_inputs_of_other_names_are_evaluated(vit, evaluation, tmp_path):
    asked = contenders(["generic", "edges"], crossed=False, pictures=True)
    found = run(EvaluationPlan(evaluation, vit, Fish(), asked, 3), tmp_path / "run")
    assert {measure["samples"] for measure in found["measures"]} == {3}
    assert (found["skipped"]["count"], found["refused"]) == (0, {})
    assert all({row["method"] for row in measure["rows"]} == {"generic", "edges"} for measure in found["measures"])
