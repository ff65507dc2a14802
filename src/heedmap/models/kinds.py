"""What differs between kinds of models, as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from heedmap.errors import ModelLoadError


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        name: key of :data:`MODELS`.
        needs: what an explanation cannot do without, of ``"text"``, ``"image"``, ``"boxes"``, ``"audio"``.
        optional: what may be given besides.
        speaks: ``""`` (classes, boxes, embeddings), ``"next"`` (the next token) or ``"decoder"`` (an encoder-decoder).
        about: what it takes and gives, for people.
    """

    name: str
    needs: tuple[str, ...]
    optional: tuple[str, ...]
    speaks: str
    about: str

    @property
    def takes(self) -> tuple[str, ...]:
        """All that may be given."""
        return (*self.needs, *self.optional)


KINDS = (
    Kind("text", ("text",), (), "", "text, or a (first, second) pair of texts → class, embedding, masked word"),
    Kind("image", ("image",), (), "", "image → class, boxes, features"),
    Kind("audio", ("audio",), (), "", "audio, (samples, rate) → class, features"),
    Kind("image-text", ("text", "image"), (), "", "text and image → answer, similarity, boxes"),
    Kind("boxes-text", ("text", "boxes"), (), "", "text and the features of object boxes → answer"),
    Kind("audio-text", ("text", "audio"), (), "", "text and audio → similarity"),
    Kind("causal", ("text",), (), "next", "text → next token"),
    Kind("multimodal-causal", ("text",), ("image", "audio"), "next", "text, with image or audio → next token"),
    Kind("text-to-text", ("text",), (), "decoder", "text → text, generated first, then explained"),
    Kind("image-to-text", ("image",), (), "decoder", "image → text, generated first, then explained"),
    Kind("speech-to-text", ("audio",), (), "decoder", "audio, (samples, rate) → text, generated, then explained"),
    Kind("image-text-to-text", ("text", "image"), (), "decoder", "text and image → text, generated, then explained"),
)

MODELS: Mapping[str, str] = {kind.name: kind.about for kind in KINDS}
"""The kinds of models that :func:`heedmap.load` knows: name → what they take and give."""

ROLES = {
    "input_ids": "text",
    "pixel_values": "image",
    "visual_feats": "boxes",
    "visual_embeds": "boxes",
    "input_features": "audio",
    "input_values": "audio",
}
"""Parameter of a model's ``forward`` → what a person gives for it."""

LONGEST_PADDING = ("siglip", "siglip2")
"""Model types trained on texts that were always padded to the full length."""


def kind_of(parameters: Collection[str], generates: bool) -> Kind:
    """The kind of a model with these ``forward`` parameters.

    Raises:
        ModelLoadError: none fits; the message lists the known kinds.
    """
    roles = {role for parameter, role in ROLES.items() if parameter in parameters}
    speaks = ("decoder" if "decoder_input_ids" in parameters else "next") if generates else ""
    for kind in KINDS:
        if speaks == kind.speaks and set(kind.needs) <= roles <= set(kind.takes):
            return kind
    known = "; ".join(f"{name}: {about}" for name, about in MODELS.items())
    raise ModelLoadError(
        f"no known kind of model has a forward pass of {', '.join(parameters)}; the known kinds are {known}. "
        "heedmap.explain(model, tensors) takes the model itself, with the tensors that it is called with"
    )
