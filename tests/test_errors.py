"""Bad input: each is a HeedmapError that says what to do, and leaves the model as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, CLIPConfig, CLIPModel

import heedmap
from heedmap import errors
from heedmap.attention.tape import Tape
from heedmap.targets import ClassLogit, NextToken, Similarity

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = {"input_ids": torch.arange(5, 17).reshape(2, 6)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **SMALL)).train()


BAD: dict[str, tuple[type[errors.HeedmapError], Any, dict[str, Any], str]] = {
    "class out of range": (errors.TargetError, WORDS, {"target": 3}, "0 to 2"),
    "unknown label": (errors.UnknownNameError, WORDS, {"target": "cat"}, "LABEL_0"),
    "one target too few": (errors.TargetError, WORDS, {"target": ClassLogit([1])}, "batch of 2"),
    "wrong kind of target": (errors.TargetError, WORDS, {"target": NextToken()}, "dimensions"),
    "target of wrong shape": (errors.TargetError, WORDS, {"target": lambda out: out.logits}, "one value per sample"),
    "target that is no target": (errors.TargetError, WORDS, {"target": 0.5}, "expected"),
    "no targets": (errors.TargetError, WORDS, {"target": []}, "at least one"),
    "not of the output": (errors.TargetError, WORDS, {"target": lambda out: torch.ones(2)}, "no attention"),
    "detached": (errors.GradientError, WORDS, {"target": lambda out: out.logits.detach()[:, 0]}, "gradient"),
    "not finite": (errors.GradientError, WORDS, {"target": lambda out: out.logits[:, 0] / 0}, "not finite"),
    "unknown method": (errors.UnknownNameError, WORDS, {"method": "magic"}, "rollout"),
    "unknown option": (errors.OptionError, WORDS, {"colour": 1}, "start_layer"),
    "wrong option": (errors.OptionError, WORDS, {"normalize": 3}, "True or False"),
    "layer out of range": (errors.OptionError, WORDS, {"start_layer": 7}, "2 layers"),
    "unknown stream": (errors.UnknownNameError, WORDS, {"start_layer": {"sound": 1}}, "text"),
    "no memory": (errors.OptionError, WORDS, {"memory_budget": 0}, "positive"),
    "no input": (errors.InputError, {}, {}, "nothing"),
    "unknown input": (errors.InputError, {"pictures": torch.ones(1)}, {}, "input_ids"),
    "not an input": (errors.InputError, 5, {}, "dict"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input(model: nn.Module, name: str) -> None:
    error, inputs, options, words = BAD[name]
    with pytest.raises(error, match=words):
        heedmap.explain(model, inputs, **options)
    assert all(m.training for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_option_errors_are_type_errors(model: nn.Module) -> None:
    with pytest.raises(TypeError):
        heedmap.explain(model, WORDS, colour=1)


def clip() -> CLIPModel:
    text = {**SMALL, "vocab_size": 50, "eos_token_id": 49, "bos_token_id": 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config={**SMALL, "image_size": 16, "patch_size": 8})).eval()


def test_unequal_batches() -> None:
    inputs = {"input_ids": WORDS["input_ids"][:0], "pixel_values": torch.randn(1, 3, 16, 16)}
    with pytest.raises(errors.InputError, match="unequal"):
        heedmap.explain(clip(), inputs)


def test_a_missing_required_input() -> None:
    with pytest.raises(errors.InputError):
        heedmap.explain(clip(), WORDS)


def test_no_logits_and_no_target() -> None:
    from transformers import BertModel

    model = BertModel(BertConfig(vocab_size=50, **SMALL))
    with pytest.raises(errors.TargetError, match="no logits"):
        heedmap.explain(model, WORDS)
    found = heedmap.explain(model, WORDS, target=Similarity(reference=torch.ones(16)))
    assert found["text"].shape == (2, 6)


def test_inference_mode(model: nn.Module) -> None:
    with torch.inference_mode(), pytest.raises(errors.ModelStateError, match="inference_mode"):
        heedmap.explain(model, WORDS)


@pytest.mark.filterwarnings("ignore")
def test_quantised_weights_without_gradients() -> None:
    plain = BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **SMALL)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, torch.qint8)
    with pytest.raises(errors.HeedmapError):
        heedmap.explain(quantised, WORDS)


def test_a_list_of_targets_equals_one_by_one(model: nn.Module) -> None:
    together = heedmap.explain(model, WORDS, target=[0, 2])
    for target, found in zip([0, 2], together, strict=True):
        torch.testing.assert_close(found["text"], heedmap.explain(model, WORDS, target=target)["text"])
    assert not torch.equal(together[0]["text"], together[1]["text"])


def test_a_round_trip_is_equal(model: nn.Module, tmp_path: Path) -> None:
    found = heedmap.explain(model, WORDS, full=True)
    found.save(tmp_path / "map.safetensors")
    again = heedmap.Explanation.load(tmp_path / "map.safetensors")
    assert again == found
    assert again != heedmap.explain(model, WORDS)
    assert again.maps.keys() == found.maps.keys()
    assert [p.name for p in tmp_path.iterdir()] == ["map.safetensors"]


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-50]),
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("no such thing"),
    "missing": lambda p: p.unlink(),
    "other safetensors": lambda p: save_file({"a": torch.ones(1)}, p),
    "newer": lambda p: save_file(
        {"a": torch.ones(1)}, p, {"format": "heedmap-explanation", "version": "99", "json": "{}"}
    ),
    "hollow": lambda p: save_file(
        {"a": torch.ones(1)}, p, {"format": "heedmap-explanation", "version": "1", "json": json.dumps({})}
    ),
}


@pytest.mark.parametrize("name", list(DAMAGE))
def test_damaged_files(model: nn.Module, tmp_path: Path, name: str) -> None:
    path = tmp_path / "map.safetensors"
    heedmap.explain(model, WORDS).save(path)
    DAMAGE[name](path)
    with pytest.raises(errors.FileFormatError, match=r"map\.safetensors"):
        heedmap.Explanation.load(path)


IN_HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "top is a list": lambda header: header.update(top=[1]),
    "top is a word": lambda header: header.update(top="a"),
    "labels of the top are a number": lambda header: header["top"].update(labels=5),
    "a stream is a word": lambda header: header["flow"].update(streams=["a"]),
    "an attention is nothing": lambda header: header["flow"].update(attentions=[None]),
    "rows of a stream are a number": lambda header: header["flow"]["streams"][0].update(rows=5),
    "a stream without rows": lambda header: header["flow"]["streams"][0].pop("rows"),
    "a segment without labels": lambda header: header["segments"][0].pop("labels"),
    "a grid of one number": lambda header: header["segments"][0].update(grid=[5]),
    "a grid that is a number": lambda header: header["segments"][0].update(grid=5),
    "labels that are a number": lambda header: header["segments"][0].update(labels=5),
    "labels of a sample that are a number": lambda header: header["segments"][0].update(labels=[5]),
    "boundaries that are a number": lambda header: header["segments"][0].update(boundaries=5),
}
"""What a header holds by its form, but not as it was written."""


@pytest.mark.parametrize("name", list(IN_HEADERS))
def test_damaged_headers(model: nn.Module, tmp_path: Path, name: str) -> None:
    path = tmp_path / "map.safetensors"
    heedmap.explain(model, WORDS).save(path)
    with safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    header = json.loads(metadata["json"])
    IN_HEADERS[name](header)
    save_file(tensors, path, {**metadata, "json": json.dumps(header)})
    with pytest.raises(errors.FileFormatError, match=r"map\.safetensors"):
        heedmap.Explanation.load(path)


def test_threads_and_nesting(model: nn.Module) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = heedmap.explain(model, WORDS, target=0)
    random = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: heedmap.explain(model, WORDS, target=0), range(12)))
    assert all(torch.allclose(f["text"], expected["text"]) for f in found)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(m.training for m in model.modules())

    def nested(output: Any) -> torch.Tensor:
        inner = heedmap.explain(model, WORDS, target=0)
        assert torch.allclose(inner["text"], expected["text"])
        return output.logits[:, 0]

    assert torch.allclose(heedmap.explain(model, WORDS, target=nested)["text"], expected["text"])


REFUSALS = (TypeError, ValueError, AttributeError, AssertionError, KeyError)


class Refusing(nn.Module):
    """Takes no inputs at all."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        raise self.error("not these")


@pytest.mark.parametrize("error", REFUSALS)
def test_what_a_model_refuses_is_bad_input(error: type[Exception]) -> None:
    with pytest.raises(errors.InputError, match=r"Refusing refused the inputs \(input_ids \(2, 6\)\).*not these"):
        heedmap.explain(Refusing(error), WORDS)


@pytest.mark.parametrize("error", REFUSALS)
def test_a_mistake_of_the_recorder_is_not_called_bad_input(
    error: type[Exception], model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise error("heedmap's own")

    monkeypatch.setattr(Tape, "_propagate", broken)
    with pytest.raises(error, match="heedmap's own") as raised:
        heedmap.explain(model, WORDS)
    assert not isinstance(raised.value, errors.HeedmapError)
    assert all(m.training for m in model.modules())
