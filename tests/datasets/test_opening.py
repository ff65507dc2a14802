"""Opening any data set by its kind."""

import subprocess
import sys
from importlib import import_module

import pytest
from PIL import Image

from heedmap.datasets.opening import READERS, open_data
from heedmap.errors import InputError, OptionError, UnknownNameError
from heedmap.zoo.world import write_coco, write_vqa


def test_the_kinds():
    assert list(READERS) == ["vqa", "coco", "imagenet-segmentation", "folder", "easy-vqa", "eraser", "parquet"]
    for about, module, name in READERS.values():
        assert about
        assert callable(getattr(import_module(f"heedmap.datasets.{module}"), name))


def test_opening_by_name(tmp_path):
    write_vqa(tmp_path, "val", 2)
    write_coco(tmp_path, "val", 2)
    vqa, coco = open_data("vqa", tmp_path, split="val"), open_data("coco", tmp_path)
    assert (vqa.description["kind"], coco.description["kind"]) == ("vqa", "coco")
    assert len(vqa) == len(vqa.keys) > len(coco) == 2


def test_an_unknown_kind(tmp_path):
    with pytest.raises(
        UnknownNameError, match="'voc'; known are vqa, coco, imagenet-segmentation, folder, easy-vqa, eraser, parquet"
    ):
        open_data("voc", tmp_path)


@pytest.mark.parametrize("kind", READERS)
def test_an_unknown_option(tmp_path, kind):
    with pytest.raises(OptionError, match=f"{kind} has no option colour; it has "):
        open_data(kind, tmp_path, colour="red")


@pytest.mark.parametrize("kind", READERS)
def test_no_data_there(tmp_path, kind):
    with pytest.raises(InputError, match="there is no"):
        open_data(kind, tmp_path / "no")
    with pytest.raises(InputError, match="there is no"):
        open_data(kind, tmp_path)


def test_no_sample_that_can_be_used(tmp_path):
    write_coco(tmp_path, "val", 2)
    for path in (tmp_path / "val2014").iterdir():
        path.unlink()
    with pytest.raises(
        InputError, match=r"no sample that can be used: 2 were left out, such as 0 \(COCO_val2014_0+\.jpg"
    ):
        open_data("coco", tmp_path)


def test_opening_imports_no_heavy_library(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "cat" / "a.png")
    code = (
        "import sys; from heedmap.datasets.opening import open_data; "
        f"print(len(open_data('folder', {str(tmp_path)!r})), "
        "[n for n in ('torch', 'h5py', 'pyarrow', 'pycocotools') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "1 []"
