import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import heedmap
from heedmap.engine.explain import explain
from heedmap.errors import InputError, ModelLoadError
from heedmap.models import MODELS, Subject, load, loader
from heedmap.models.kinds import KINDS, kind_of

KIND_OF = {
    "bert": "text",
    "bert_encoder": "text",
    "bert_masked": "text",
    "bart": "text",
    "vit": "image",
    "detr": "image",
    "wav2vec2": "audio",
    "clip": "image-text",
    "vilt": "image-text",
    "lxmert": "boxes-text",
    "visual_bert": "boxes-text",
    "gpt2": "causal",
    "llava": "multimodal-causal",
    "t5": "text-to-text",
    "whisper": "speech-to-text",
    "blip": "image-text-to-text",
}


@pytest.mark.parametrize("name", KIND_OF)
def test_the_kind_follows_from_the_forward_pass(folder, name):
    subject = load(folder(name))
    assert subject.kind == KIND_OF[name]
    assert not subject.model.training
    assert subject.name == str(folder(name))


def test_the_registry_has_one_line_for_each_kind():
    assert list(MODELS) == [kind.name for kind in KINDS]
    assert heedmap.MODELS is MODELS
    assert heedmap.load is load
    assert heedmap.Subject is Subject


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(ModelLoadError) as caught:
        kind_of(("tables", "graphs"), False)
    assert "tables, graphs" in str(caught.value)
    assert all(name in str(caught.value) for name in MODELS)


def test_importing_it_imports_neither_torch_nor_transformers():
    code = "import sys, heedmap.models; print({'torch', 'transformers', 'timm', 'open_clip'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_dtype_and_device_reach_the_inputs(folder):
    subject = load(folder("vit"), dtype="bfloat16", device="cpu")
    assert subject.model.dtype == torch.bfloat16
    assert subject.inputs(image=np.zeros((20, 30, 3), np.uint8))["pixel_values"].dtype == torch.bfloat16
    assert load(folder("vit"), dtype=torch.float64).model.dtype == torch.float64


def test_no_device_is_asked_for_where_none_is_named(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch, "empty", lambda *sizes, **options: asked.append(options) or torch.zeros(*sizes, **options)
    )
    loader._check_device(None)
    assert asked == []
    loader._check_device("cpu")
    assert asked == [{"device": "cpu"}]


@pytest.mark.parametrize("dtype", ["float31", "int8", "Tensor", 16])
def test_a_dtype_that_is_none(folder, dtype):
    with pytest.raises(ModelLoadError, match="expected float32"):
        load(folder("vit"), dtype=dtype)


def test_a_folder_with_vocab_txt_alone(folder):
    subject = load(folder("bert"))
    assert not (folder("bert") / "tokenizer.json").exists()
    assert subject.inputs(text="the cat")["input_ids"].shape == (1, 4)


def test_a_folder_without_tokenizer_loads_and_says_what_is_missing(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder("bert") / name, tmp_path / name)
    subject = load(tmp_path)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json \(or vocab\.txt.*heedmap\.explain\(subject\.model"):
        subject.inputs(text="the cat")
    explanation = explain(subject, {"input_ids": torch.tensor([[2, 5, 3]])})
    assert explanation.segments["text"].labels is None


def test_a_folder_without_image_processor(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder("vit") / name, tmp_path / name)
    with pytest.raises(ModelLoadError, match=r"image processor.*preprocessor_config\.json"):
        load(tmp_path).inputs(image=np.zeros((8, 8, 3), np.uint8))


class Characters:
    """The least that a tokenizer must do."""

    def __call__(self, texts, padding=False, return_tensors=None):
        return {"input_ids": torch.tensor([[5 + "abc".index(letter) for letter in text] for text in texts])}

    def convert_ids_to_tokens(self, ids):
        return ["##" + "abc"[i - 5] for i in ids]


def test_a_tokenizer_of_ones_own(folder):
    subject = load(folder("bert"), tokenizer=Characters())
    assert subject.inputs(text=["abc", "cba"])["input_ids"].tolist() == [[5, 6, 7], [7, 6, 5]]
    assert subject.explain(text="cab").segments["text"].labels == (("c", "a", "b"),)


def test_no_config_but_architectures_means_the_bare_model(folder, tmp_path):
    shutil.copytree(folder("bert_encoder"), tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    del settings["architectures"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert type(load(tmp_path).model).__name__ == "BertModel"


def test_an_architecture_that_transformers_has_not(folder, tmp_path):
    shutil.copytree(folder("bert"), tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForTelepathy"]}))
    with pytest.raises(ModelLoadError, match=r"'BertForTelepathy'.*trust_remote_code"):
        load(tmp_path)


def test_weights_that_are_missing_are_told(folder, tmp_path):
    shutil.copytree(folder("bert_encoder"), tmp_path, dirs_exist_ok=True)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForSequenceClassification"]}))
    with pytest.warns(UserWarning, match=r"2 parameters, which are random.*classifier\.bias, classifier\.weight"):
        load(tmp_path)


def test_damaged_weights(folder, tmp_path):
    shutil.copytree(folder("bert"), tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(tmp_path)


def test_a_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load(tmp_path)


def test_a_folder_that_holds_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(ModelLoadError, match=r"no config\.json \(it has: notes\.txt\)"):
        load(tmp_path)
    with pytest.raises(ModelLoadError, match="is a file"):
        load(tmp_path / "notes.txt")
    with pytest.raises(ModelLoadError, match="there is no folder"):
        load(tmp_path / "elsewhere")
    with pytest.raises(ModelLoadError, match="there is no file"):
        load(tmp_path / "model.gguf")


@pytest.mark.parametrize("name", ["", "./here", "a/b/c/d"])
def test_names_that_can_only_be_folders(name):
    with pytest.raises(ModelLoadError, match="there is no folder"):
        load(name)


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "nobody/model/file.gguf"])
def test_a_hub_that_cannot_be_reached(name):
    with pytest.raises(ModelLoadError, match="no such folder, and the hub has no such model or cannot be reached"):
        load(name)


def test_an_unknown_zoo_model_lists_the_known_ones():
    with pytest.raises(ModelLoadError, match=r"no model zoo/nothing in heedmap's zoo; it has: "):
        load("zoo/nothing")


@pytest.mark.parametrize(
    ("name", "module"), [("timm/vit_tiny_patch16_224", "timm"), ("open_clip/ViT-B-32", "open_clip")]
)
def test_libraries_that_are_missing_name_the_extra(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelLoadError, match=rf"pip install '\.\[{module}\]'"):
        load(name)


@pytest.mark.parametrize("name", ["timm/vit_tinny_patch16_224", "open_clip/ViT-B-31"])
def test_libraries_list_names_near_an_unknown_one(name):
    with pytest.raises(ModelLoadError, match=r"near it: .*(vit_tiny_patch16_224|ViT-B-32)"):
        load(name)


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_libraries_whose_weights_cannot_be_fetched(monkeypatch, library):
    def refuse(*args, **settings):
        raise OSError("no way out")

    module = pytest.importorskip(library)
    monkeypatch.setattr(module, "create_model" if library == "timm" else "create_model_from_pretrained", refuse)
    name = {"timm": "timm/vit_tiny_patch16_224", "open_clip": "open_clip/ViT-B-32"}[library]
    with pytest.raises(ModelLoadError, match=r"cannot be fetched.*no way out"):
        load(name)


def test_weights_that_open_clip_has_not():
    with pytest.raises(ModelLoadError, match=r"no weights 'mine' for ViT-B-32; it has openai"):
        load("open_clip/ViT-B-32/mine")


def test_a_subject_can_be_given_other_parts(folder):
    subject = load(folder("bert"))
    bare = dataclasses.replace(subject, processors=dataclasses.replace(subject.processors, tokenizer=None))
    with pytest.raises(ModelLoadError, match="no tokenizer"):
        bare.inputs(text="the cat")
    assert isinstance(subject.config, type(subject.model.config))


def test_unsuited_inputs_are_told_with_what_the_model_takes(folder):
    with pytest.raises(InputError, match=r"text was given, but .* takes image; leave text out"):
        load(folder("vit")).inputs(text="a cat")
    with pytest.raises(InputError, match=r"no image was given, and .* takes text and image; give image="):
        load(folder("vilt")).inputs(text="what is this?")
    with pytest.raises(InputError, match="2 × text, 3 × image"):
        load(folder("clip")).inputs(text=["a", "b"], image=[np.zeros((9, 9, 3), np.uint8)] * 3)
    with pytest.raises(InputError, match="no text was given"):
        load(folder("bert")).inputs(text=[])
    with pytest.raises(InputError, match="no encoder-decoder"):
        load(folder("bert")).inputs(text="the cat", decoder_input_ids=torch.zeros(1, 1))
