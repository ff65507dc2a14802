import io
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heedmap.errors import InputError
from heedmap.models.media import read_audio, read_boxes, read_image


def _wav(path: Path, samples: np.ndarray, rate: int = 16000, width: int = 2, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(samples.tobytes())
    return path


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "CMYK"])
def test_any_image_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.new("RGB", (7, 5), "red").convert(mode).save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (7, 5))


def test_a_photo_taken_sideways_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (7, 5), "red").save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (5, 7)


def test_sixteen_bit_grey_keeps_its_greys(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


def _huge_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_an_image_bomb_is_refused_unread(tmp_path, side):
    (tmp_path / "a.png").write_bytes(_huge_png(side))
    with pytest.raises(InputError, match="too large an image"):
        read_image(tmp_path / "a.png")


def test_images_that_are_none(tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:200])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut", "text", "empty"):
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_image(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match=r"no image file .*missing\.png"):
        read_image(tmp_path / "missing.png")


def test_boxes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, features=np.ones((3, 8)), boxes=np.zeros((3, 4)), other=np.zeros(1))
    arrays = read_boxes(path)
    assert {name: (a.shape, a.dtype.name) for name, a in arrays.items()} == {
        "features": ((3, 8), "float32"),
        "boxes": ((3, 4), "float32"),
    }
    np.savez(path, features=np.ones((3, 8)))
    assert set(read_boxes(path)) == {"features"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"boxes": np.zeros((3, 4))}, "and has none"),
        ({"features": np.zeros(3)}, r"shape \(3,\)"),
        ({"features": np.zeros((3, 8)), "boxes": np.zeros((2, 4))}, r"expected \(3, 4\)"),
        ({"features": np.array([{}], dtype=object)}, "cannot be read"),
        ({"features": np.array([["a"]])}, "cannot be read"),
    ],
)
def test_boxes_that_are_none(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / "a.npz")


def test_box_files_that_are_none(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "c.npz").write_bytes(b"")
    for name in ("a.npy", "b.npz", "c.npz"):
        with pytest.raises(InputError, match="cannot be read"):
            read_boxes(tmp_path / name)


def test_audio(tmp_path):
    samples, rate = read_audio(_wav(tmp_path / "a.wav", np.array([0, 16384, -32768], "<i2"), rate=8000))
    assert (samples.tolist(), samples.dtype, rate) == ([0.0, 0.5, -1.0], np.float32, 8000)


def test_channels_are_mixed(tmp_path):
    samples, _ = read_audio(_wav(tmp_path / "a.wav", np.array([16384, 0, -16384, -16384], "<i2"), channels=2))
    assert samples.tolist() == [0.25, -0.5]


def test_audio_that_is_none(tmp_path):
    with pytest.raises(InputError, match="8-bit samples"):
        read_audio(_wav(tmp_path / "a.wav", np.zeros(4, np.uint8), width=1))
    with pytest.raises(InputError, match="holds no sound"):
        read_audio(_wav(tmp_path / "b.wav", np.zeros(0, "<i2")))
    (tmp_path / "c.wav").write_bytes(b"ID3 this is no wave file at all")
    (tmp_path / "d.wav").write_bytes(b"")
    for name in ("c", "d"):
        with pytest.raises(InputError, match=r"cannot be read.*expected a 16-bit PCM"):
            read_audio(tmp_path / f"{name}.wav")
    with pytest.raises(InputError, match="no audio file"):
        read_audio(tmp_path / "missing.wav")
