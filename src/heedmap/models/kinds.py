"""What differs between kinds of models, as data, and the processors that each kind uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from heedmap.errors import ModelLoadError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from heedmap.types import FeatureExtractor, ImageProcessor, JointProcessor, Tokenizer


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


@dataclass(frozen=True)
class Piece:
    """One processor: for which input it is, which class of transformers loads it, and from which file."""

    role: str
    loader: str
    title: str
    file: str


Processor = TypeVar("Processor")
PIECES = {
    "tokenizer": Piece("text", "AutoTokenizer", "tokenizer", "tokenizer.json (or vocab.txt, or spiece.model)"),
    "image": Piece("image", "AutoImageProcessor", "image processor", "preprocessor_config.json"),
    "audio": Piece("audio", "AutoFeatureExtractor", "feature extractor", "preprocessor_config.json"),
    "joint": Piece("", "AutoProcessor", "processor of text with other inputs", "processor_config.json"),
}
PLACEHOLDERS = ("image_token_id", "image_token_index", "audio_token_id", "audio_token_index")
"""Settings of models in which the tokens of an image or a sound stand among the words."""


@dataclass(frozen=True)
class Processors:
    """What turns words, pictures and sounds into tensors; None: the model has none, and ``problems`` says why.

    Attributes:
        tokenizer: any callable with the interface of transformers' tokenizers: ``tokenizer(texts, padding=…,
            return_tensors="pt")`` gives a mapping with ``input_ids``, and ``convert_ids_to_tokens(ids)`` the tokens.
        image: ``image(images, return_tensors="pt")`` gives ``pixel_values``.
        audio: a feature extractor with a ``sampling_rate``; gives ``input_features`` or ``input_values``.
        joint: for models in which image or audio tokens stand among the words: places them.
        problems: name of a processor → why there is none.
    """

    tokenizer: Tokenizer | None = None
    image: ImageProcessor | None = None
    audio: FeatureExtractor | None = None
    joint: JointProcessor | None = None
    problems: Mapping[str, str] = field(default_factory=dict)

    def need(self, processor: Processor | None, name: str, source: str) -> Processor:
        """``processor``, the one of these called ``name``, of the model loaded from ``source``.

        Raises:
            ModelLoadError: there is none; the message names the missing file.
        """
        if processor is not None:
            return processor
        piece = PIECES[name]
        why = f" ({self.problems[name]})" if name in self.problems else ""
        raise ModelLoadError(
            f"{source} has no {piece.title}{why}; expected {piece.file} beside its config.json. "
            "Add that file, or go without it: heedmap.explain(subject.model, tensors)"
        )


def load_processors(
    source: str, kind: Kind, config: PretrainedConfig, given: Tokenizer | None, options: Mapping[str, object]
) -> Processors:
    """The processors that a model of ``kind`` uses, from the folder or hub id ``source``.

    ``given``: a tokenizer to use instead of the one found there; ``options``: of ``from_pretrained``.
    """
    processors: dict[str, Any] = {} if given is None else {"tokenizer": given}
    problems: dict[str, str] = {}
    for name in _wanted(kind, config):
        if name not in processors:
            processors[name] = _attempt(name, source, options, problems)
    joint_tokenizer = getattr(processors.get("joint"), "tokenizer", None)
    for tokenizer in (joint_tokenizer, None if given is not None else processors.get("tokenizer")):
        if tokenizer is not None:
            _ready_for_batches(tokenizer, kind)
    return Processors(**processors, problems=problems)


def _wanted(kind: Kind, config: PretrainedConfig) -> list[str]:
    roles = {*kind.takes, *(("text",) if kind.speaks else ())}
    names = [name for name, piece in PIECES.items() if piece.role in roles]
    mixed = len(roles) > 1 and any(getattr(config, name, None) is not None for name in PLACEHOLDERS)
    return [*names, "joint"] if mixed else names


def _attempt(name: str, source: str, options: Mapping[str, object], problems: dict[str, str]) -> object:
    import transformers

    try:
        processor = getattr(transformers, PIECES[name].loader).from_pretrained(source, **options)
    except Exception as error:  # a model without one still loads; what went wrong is told when it is needed
        problems[name] = str(error).strip().split("\n")[0]
        return None
    if name == "tokenizer" and len(processor) <= len(set(processor.all_special_ids)):
        return None  # there was no vocabulary: transformers then makes a tokenizer of special tokens alone
    return processor


def _ready_for_batches(tokenizer: PreTrainedTokenizerBase, kind: Kind) -> None:
    if kind.speaks == "next":
        tokenizer.padding_side = "right"  # so that positions count from the first word without being told
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
