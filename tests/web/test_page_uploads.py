"""What people upload: read as the command line reads it, and refused in words, whatever it claims to be."""

from __future__ import annotations

import struct
import time
import wave
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import heedmap
from heedmap.errors import InputError
from heedmap.models.media import read_audio, read_boxes, read_image
from heedmap.render.files import to_data
from heedmap.web import uploads
from heedmap.web.form_inputs import FormValues, offered, sample
from heedmap.web.handlers import Handlers
from heedmap.web.method_options import Way
from heedmap.web.models import Models
from heedmap.web.uploads import Limits
from models import builders

GENERIC = Way("generic", {})


# -- pictures ---------------------------------------------------------------------------------------------------------


def _forms(folder: Path) -> dict[str, Path]:
    """Pictures that need care: turned, animated, see-through, of 16 bits, for print, of a palette, black and white."""
    side = np.arange(12 * 8, dtype=np.uint8).reshape(8, 12)
    grey = Image.fromarray(side)
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.convert("RGB").save(folder / "turned.jpg", exif=turned)
    grey.save(folder / "moving.gif", save_all=True, append_images=[grey.rotate(90)])
    Image.merge("RGBA", [grey] * 4).save(folder / "clear.png")
    Image.fromarray(side.astype(np.uint16) * 600).save(folder / "deep.png")
    grey.save(folder / "grey.webp", lossless=True)
    grey.convert("CMYK").save(folder / "print.jpg")
    grey.convert("P").save(folder / "palette.png", transparency=3)
    grey.convert("1").save(folder / "bits.tif")
    grey.save(folder / "moving.webp", save_all=True, append_images=[grey.rotate(90)])
    return {path.name: path for path in folder.iterdir()}


FORMS = (
    *("turned.jpg", "moving.gif", "moving.webp", "clear.png", "deep.png"),
    *("grey.webp", "print.jpg", "palette.png", "bits.tif"),
)


@pytest.mark.parametrize("name", FORMS)
def test_pictures_are_read_as_the_command_line_reads_them(name: str, tmp_path: Path) -> None:
    path = _forms(tmp_path)[name]
    found = uploads.picture(path, Limits())
    assert found is not None
    assert found.mode == "RGB"
    assert found.size == ((8, 12) if name == "turned.jpg" else (12, 8))
    assert np.array_equal(np.asarray(found), np.asarray(read_image(path)))


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "wide.png"
    Image.new("1", (6_000, 4_000)).save(path)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"6000 × 4000 pixels, 24\.0 million"):
        uploads.picture(path, Limits())


def _png(width: int, height: int) -> bytes:
    """A file that claims these sides and holds next to nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(64))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ((20_000, 20_000), "cannot be read|400.0 million|too large"),
        ((200_000, 200_000), "cannot be read|too large"),
        ((30_000, 1), "sides up to 20,000"),
        ((0, 0), "cannot be read"),
        ((0, 50), "cannot be read"),
        ((50, 40), "cannot be read"),
    ],
)
def test_what_a_picture_claims_is_checked(sides: tuple[int, int], words: str, tmp_path: Path) -> None:
    path = tmp_path / "claims.png"
    path.write_bytes(_png(*sides))
    began = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        uploads.picture(path, Limits())
    assert str(tmp_path) not in str(caught.value)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("model", "size"), [("zoo/vit-shapes", (1, 1)), ("zoo/detr-shapes", (2000, 1)), ("zoo/detr-shapes", (1, 2000))]
)
def test_odd_sides_are_explained(model: str, size: tuple[int, int], tmp_path: Path, handlers: Handlers) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", size, (200, 30, 40)).save(path)
    found = handlers.predict(model, FormValues(image=str(path)))
    result = handlers.explain(found, 0, [GENERIC])
    assert "<img" in result.html()
    assert result.file(".png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture_is_told_without_a_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret-folder.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match="the picture cannot be read") as caught:
        uploads.picture(path, Limits())
    assert "secret-folder" not in str(caught.value)


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(1001))
    with pytest.raises(InputError, match="MB; the page takes"):
        uploads.picture(path, Limits(bytes=1000))


def test_the_limit_is_the_one_that_is_told(tmp_path: Path) -> None:
    assert "Files up to 10 MB" in str(Limits())
    path = tmp_path / "large.png"
    path.write_bytes(bytes(10_000_000))
    with pytest.raises(InputError, match="the picture cannot be read"):
        uploads.picture(path, Limits())


# -- sounds -----------------------------------------------------------------------------------------------------------


def _wav(path: Path, seconds: float = 0.5, *, rate: int = 16_000, width: int = 2, channels: int = 1) -> Path:
    count = int(seconds * rate)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        tone = np.sin(np.arange(count * channels) / 7) * 9000
        sound.writeframes(tone.astype("<i2").tobytes() if width == 2 else bytes(count * channels * width))
    return path


def test_a_sound_is_read_as_the_command_line_reads_it(tmp_path: Path) -> None:
    path = _wav(tmp_path / "a.wav", channels=2)
    found = uploads.sound(path, Limits())
    assert found is not None
    samples, rate = read_audio(path)
    assert (len(found[0]), found[1]) == (8_000, 16_000)
    assert np.array_equal(found[0], samples)
    assert rate == 16_000
    assert uploads.sound(None, Limits()) is None


def _bad_sounds(folder: Path) -> dict[str, Path]:
    _wav(folder / "long.wav", 61, rate=1_000)
    _wav(folder / "narrow.wav", width=1)
    _wav(folder / "empty.wav", 0)
    (folder / "text.wav").write_bytes(b"no sound")
    (folder / "nothing.wav").write_bytes(b"")
    whole = _wav(folder / "whole.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[:30])
    lies = bytearray(whole)
    lies[40:44] = struct.pack("<I", 0x7FFFFFFF)  # of the bytes that follow
    (folder / "lies.wav").write_bytes(bytes(lies))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("long.wav", r"lasts 61\.0 s; the page takes up to 60 s"),
        ("narrow.wav", "8-bit samples; expected a 16-bit"),
        ("empty.wav", "holds no sound"),
        ("text.wav", "cannot be read"),
        ("nothing.wav", "cannot be read"),
        ("cut.wav", "cannot be read"),
        ("lies.wav", "lasts"),
    ],
)
def test_what_is_no_sound_or_too_long_is_told_without_a_path(name: str, words: str, tmp_path: Path) -> None:
    path = _bad_sounds(tmp_path)[name]
    with pytest.raises(InputError, match=words) as caught:
        uploads.sound(path, Limits())
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(InputError, match="MB; the page takes"):
        uploads.sound(_wav(tmp_path / "many.wav"), Limits(bytes=1000))


def test_a_model_that_listens_is_asked_and_explained(tmp_path: Path) -> None:
    folder = tmp_path / "whisper"
    folder.mkdir()
    builders.whisper(folder)
    handlers = Handlers(Models([str(folder)]))
    assert handlers.takes(str(folder)).roles == ("audio",)
    path = _wav(tmp_path / "tone.wav")
    found = handlers.predict(str(folder), FormValues(audio=str(path)))
    (explanation,) = handlers.explain(found, 0, [GENERIC]).explanations
    assert explanation.segments["audio"].relevance.shape == (1, 50)
    direct = heedmap.load(str(folder)).explain(audio=read_audio(path), target=found.predictions[0].target)
    assert to_data(explanation)["segments"] == to_data(direct)["segments"]
    with pytest.raises(InputError, match="takes up to 1 s"):
        handlers.predict(str(folder), FormValues(audio=str(_wav(tmp_path / "long.wav", 2))))
    with pytest.raises(InputError, match="no audio was given"):
        handlers.predict(str(folder), FormValues("words"))


# -- boxes ------------------------------------------------------------------------------------------------------------


def _boxes(model: str) -> dict[str, Any]:
    given = sample(model, next(iter(offered(model)))).boxes
    assert given is not None
    return {name: np.asarray(given[name], np.float32) for name in ("features", "boxes")}


@pytest.mark.parametrize("model", ["zoo/lxmert-shapes", "zoo/visualbert-shapes"])
@pytest.mark.parametrize("seen", [True, False])
def test_own_boxes_are_asked_about(model: str, seen: bool, tmp_path: Path, handlers: Handlers) -> None:
    path, picture = tmp_path / "boxes.npz", tmp_path / "scene.png"
    np.savez(path, **_boxes(model))
    Image.new("RGB", (90, 60), (10, 200, 30)).save(picture)
    given = FormValues("which shape does the red object have?", boxes=str(path), image=str(picture) if seen else None)
    found = handlers.predict(model, given)
    result = handlers.explain(found, 0, [GENERIC])
    direct = heedmap.load(model).explain(text=given.text, boxes=read_boxes(path), target=found.predictions[0].target)
    assert to_data(result.explanations[0])["segments"] == to_data(direct)["segments"]
    assert result.picture is not None
    assert result.picture.image.getpixel((0, 0)) == ((10, 200, 30) if seen else (128, 128, 128))
    assert 'data-start="boxes:0"' in result.html()


def test_own_boxes_win_over_those_of_a_sample(tmp_path: Path, handlers: Handlers) -> None:
    model = "zoo/lxmert-shapes"
    path = tmp_path / "few.npz"
    np.savez(path, **{name: array[:3] for name, array in _boxes(model).items()})
    found = handlers.predict(model, FormValues("is there a ring?", boxes=str(path), number=next(iter(offered(model)))))
    assert found.boxes is not None
    assert len(found.boxes["features"]) == 3


def _npy(shape: tuple[int, ...], data: bytes = b"", kind: str = "<f4") -> bytes:
    file = BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def _archive(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)


@pytest.fixture(scope="module")
def bad_boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boxes")
    np.savez(folder / "objects.npz", features=np.array([{"a": 1}], dtype=object))
    np.savez(folder / "flat.npz", features=np.zeros(5))
    np.savez(folder / "other.npz", words=np.zeros((2, 2)))
    np.savez(folder / "letters.npz", features=np.array([["a", "b"]]))
    np.savez(folder / "unequal.npz", features=np.zeros((3, 4)), boxes=np.zeros((2, 4)))
    np.savez_compressed(folder / "bomb.npz", features=np.zeros((20_000, 800), np.float32))
    _archive(folder / "claims.npz", features=_npy((10**6, 10**6), bytes(16)))
    _archive(folder / "cut.npz", features=_npy((4, 4), bytes(8)))
    _archive(folder / "text.npz", features=b"no array")
    (folder / "zip.npz").write_bytes(b"no archive")
    (folder / "nothing.npz").write_bytes(b"")
    whole = folder / "other.npz"
    (folder / "half.npz").write_bytes(whole.read_bytes()[:-40])
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("objects.npz", "cannot be read"),
        ("flat.npz", r"needs an array 'features' of shape \(N, d\)"),
        ("other.npz", "has none"),
        ("letters.npz", "cannot be read"),
        ("unequal.npz", "one a feature"),
        ("bomb.npz", r"64\.0 MB; the page takes up to 50 MB"),
        ("claims.npz", "give fewer boxes"),
        ("cut.npz", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("zip.npz", "cannot be read"),
        ("nothing.npz", "cannot be read"),
        ("half.npz", "cannot be read"),
    ],
)
def test_what_are_no_boxes_is_told_without_a_path(name: str, words: str, bad_boxes: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        uploads.boxes(bad_boxes / name, Limits())
    assert str(bad_boxes) not in str(caught.value)
