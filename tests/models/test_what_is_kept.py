"""What an explanation keeps besides relevance: probabilities, boundaries and origin; and files of before there were any."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import heedmap


@pytest.fixture(scope="module")
def explained():
    return heedmap.load("zoo/gpt-lists").explain(text=["dog red ; cat blue ? cat", "dog red ; cat blue ? dog"])


def test_probabilities_are_the_models(explained):
    subject = heedmap.load("zoo/gpt-lists")
    inputs = subject.inputs(text=["dog red ; cat blue ? cat", "dog red ; cat blue ? dog"])
    with torch.no_grad():
        expected = subject.model(**inputs).logits[:, -1].softmax(-1)
    assert torch.allclose(explained.top.probabilities, expected.topk(5).values, atol=1e-6)
    assert torch.allclose(explained.top.target, expected.max(-1).values, atol=1e-6)
    assert [row[0] for row in explained.top.labels] == ["blue", "red"]
    assert explained.top.function == "softmax"
    assert explained.prediction_labels == ("blue", "red")


def test_several_labels_have_a_probability_each():
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**settings, image_size=32, num_labels=3, problem_type="multi_label_classification")
    model = ViTForImageClassification(config).eval()
    found = heedmap.explain(model, {"pixel_values": torch.randn(1, 3, 32, 32)}, target=2)
    logits = found.scores
    assert found.top.function == "sigmoid"
    assert torch.allclose(found.top.target, logits.sigmoid(), atol=1e-6)


def test_origin_tells_model_and_versions_and_is_not_compared(explained):
    from dataclasses import replace

    assert explained.origin["model"] == "zoo/gpt-lists"
    assert (
        explained.origin["torch"] == torch.__version__.split("+")[0] or explained.origin["torch"] == torch.__version__
    )
    assert replace(explained, origin={}) == explained


def test_all_of_it_is_in_the_file(explained, tmp_path):
    explained.save(tmp_path / "e.safetensors")
    again = heedmap.Explanation.load(tmp_path / "e.safetensors")
    assert again == explained
    assert again.top.labels == explained.top.labels
    assert again.origin == explained.origin
    assert again.segments["text"].boundaries == explained.segments["text"].boundaries == ("wwwwwww", "wwwwwww")


def test_files_of_before_can_be_read(explained, tmp_path):
    explained.save(tmp_path / "e.safetensors")
    with safe_open(str(tmp_path / "e.safetensors"), framework="pt") as handle:
        meta = handle.metadata()
        tensors = {k: handle.get_tensor(k) for k in handle.keys() if not k.startswith("top/")}  # noqa: SIM118
    data = json.loads(meta["json"])
    del data["top"], data["origin"]
    for segment in data["segments"]:
        del segment["boundaries"]
    save_file(tensors, tmp_path / "old.safetensors", metadata={**meta, "json": json.dumps(data)})
    old = heedmap.Explanation.load(tmp_path / "old.safetensors")
    assert (old.top, dict(old.origin), old.segments["text"].boundaries) == (None, {}, None)
    assert torch.equal(old["text"], explained["text"])
    assert "probability" not in old.to_html()
