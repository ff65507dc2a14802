"""Speech whose words have known times: eSpeak NG, from the package espeakng-loader, says them one by one.

eSpeak NG remembers what it has said: a word said again is some samples longer or shorter, and espeak_Terminate does not make it
forget. So each word is said by a library of its own, a copy that has said nothing yet, and a word always sounds the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from heedmap.errors import MissingLibraryError

RATE = 22050
LOUD = 300
"""Of 32768: less is silence."""

SYNCHRONOUS, CHARS_UTF8, SPEED, WORDS_A_MINUTE = 2, 1, 1, 130
"""Of speak_lib.h."""

SENTENCES = (
    "Yesterday I bought seven red apples",
    "Nobody wanted to answer my question",
    "She opened a window this morning",
    "Every student needs good books",
    "His father works in a hospital",
    "Music makes people very happy",
    "Doctors say that sugar is dangerous",
    "A doctor gave him some medicine",
    "A museum opens every Sunday afternoon",
    "My brother lives near a river",
    "Heavy rain flooded a small village",
    "Our teacher often speaks French",
    "Her sister plays music very well",
    "You should never drive without glasses",
    "We need more water and food",
    "He wrote a letter to Paris",
    "Seven people died in a fire",
    "This computer costs too much money",
    "Snow covered every road last winter",
    "Our house has a green garden",
)
"""Of some sixty that were tried, twenty that Whisper base writes down rightly: "the", said alone, it takes for "a"."""

Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Sentence:
    """A sound file, and for each word when it begins and ends, in seconds."""

    path: Path
    times: dict[str, tuple[float, float]]

    @property
    def end(self) -> float:
        """When the last word ends, in seconds."""
        return max(end for _, end in self.times.values())


def say(words: str, path: Path, gaps: Sequence[float] = (0.12,), lead: float = 0.3) -> Sentence:
    """``words``, no two alike, one after another in a 16-bit ``.wav`` file.

    Args:
        words: to be said.
        path: of the file.
        gaps: seconds after each word; over and over where there are fewer than words.
        lead: seconds before the first.

    Raises:
        MissingLibraryError: there is no espeakng-loader.
    """
    parts, times, now = [silence(lead)], {}, lead
    for word, gap in zip(words.split(), cycle(gaps), strict=False):
        sound = spoken(word)
        times[word] = (now, now + len(sound) / RATE)
        parts += [sound, silence(gap)]
        now += (len(sound) + len(parts[-1])) / RATE
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.concatenate(parts).tobytes())
    return Sentence(path, times)


def silence(seconds: float) -> np.ndarray:
    """Samples of it."""
    return np.zeros(round(seconds * RATE), "<i2")


@cache
def spoken(text: str) -> np.ndarray:
    """What eSpeak NG says, int16 samples at ``RATE``, without the silence before and after."""
    parts: list[np.ndarray] = []

    def keep(samples: Any, count: int, _: Any) -> int:
        if count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library, callback, data = _new(), Callback(keep), text.encode() + b"\0"
    library.espeak_SetSynthCallback(callback)
    assert library.espeak_Synth(data, len(data), 0, 0, 0, CHARS_UTF8, None, None) == 0
    library.espeak_Terminate()
    samples = np.concatenate(parts)
    loud = np.flatnonzero(np.abs(samples.astype(int)) > LOUD)
    return samples[loud[0] : loud[-1] + 1]


def speaker() -> dict[str, str]:
    """Which eSpeak NG it is: the package's version, and a digest of how it says every word of :data:`SENTENCES`."""
    digest = hashlib.sha256()
    for word in " ".join(SENTENCES).split():
        digest.update(spoken(word).tobytes())
    return {"espeakng-loader": version("espeakng-loader"), "sha256": digest.hexdigest()}


def _new() -> Any:
    """The library as it is before it has said anything: what is loaded from another file has memory of its own."""
    try:
        import espeakng_loader as loader
    except ImportError as error:
        raise MissingLibraryError("the speech is made by espeakng-loader; pip install -e '.[dev]'") from error
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps a library's file while it is loaded
        library = ctypes.CDLL(shutil.copy(loader.get_library_path(), folder))
    assert library.espeak_Initialize(SYNCHRONOUS, 0, loader.get_data_path().encode(), 0) == RATE
    assert library.espeak_SetVoiceByName(b"en-us") == 0
    library.espeak_SetParameter(SPEED, WORDS_A_MINUTE, 0)
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return library
