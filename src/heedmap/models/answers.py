"""Several answers of a model to one input, each with its explanation, all from one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.errors import InputError, OptionError

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor

    from heedmap.data.picture import Picture
    from heedmap.explanation import Explanation
    from heedmap.methods import Method
    from heedmap.models.model import Model
    from heedmap.render.sound import Sound
    from heedmap.types import AudioInput, BoxesInput, ImageInput, TextInput, TokenIds

INFERRED = "inferred"
"""As ``heedmap.outputs.INFERRED``, which torch comes with."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to one input, and what each answer rests on.

    ``answers["text"]`` is (answers, tokens), float32: the relevance of a segment, one row an answer.

    Attributes:
        names: of the answers, such as the tokens that a decoder says.
        explanations: one an answer, of a batch of one.
        boxes: where each answer lies, x1 y1 x2 y2 from 0 to 1; empty where answers have no place.
        joined: whether the answers are the tokens of one text.
        text: that they are, with its spaces; empty where they are not joined.

    Examples:
        >>> import heedmap
        >>> said = heedmap.alignment(heedmap.load("zoo/bart-dates"), text="the 3rd of may 1987")
        >>> said
        Answers(1, 9, 8, 7, -, 0, 5, -, 0, 3; text, decoder, answer)
        >>> said.explanations[6].target
        ("'5', token 6 of the answer",)
    """

    names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    boxes: tuple[Box, ...] = ()
    joined: bool = False
    text: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Float[Tensor, "answers tokens"]:
        import torch

        return torch.cat([explanation[name] for explanation in self.explanations])

    def __repr__(self) -> str:
        return f"Answers({', '.join(self.names)}; {', '.join(self.explanations[0].segments)})"

    def to_html(self, image: Image | None = None) -> str:
        """All answers as one self-contained HTML page: choose one, see its map.

        Args:
            image: PIL, as the model saw it (``Model.shown_image``), to lay maps of patches on.
        """
        from heedmap.render.answer_page import answers_page

        return answers_page(self, image)

    def plot(self, image: Image | Picture | None = None, sound: Sound | None = None, **options: object) -> Figure:
        """A matplotlib figure: of words a matrix, a row an answer; of a picture a small map for each answer, with its box.

        Args:
            image: PIL, as the model saw it; or ``Model.picture``'s, of the original.
            sound: what the model heard, (samples,), and samples a second: its wave lies below the rows of its frames.
            options: ``theme``, ``alpha``, ``mute``, ``cmap``, ``width``, ``dpi``, ``title``, as for :meth:`Explanation.plot`.

        Raises:
            OptionError: no such option, or a value that it cannot have.
            UnknownNameError: no such theme.
        """
        from heedmap.render.files import check_options
        from heedmap.render.matrices import answers_rows, plot_rows

        draw: Callable[..., Figure] = plot_rows
        check_options(draw, options, "a figure")
        return draw(answers_rows(self), image, sound, **options)

    def _repr_html_(self) -> str:
        from heedmap.render.answer_page import answers_fragment

        return answers_fragment(self)


def alignment(
    subject: Model,
    *,
    text: TextInput = None,
    image: ImageInput = None,
    boxes: BoxesInput = None,
    audio: AudioInput = None,
    decoder_input_ids: TokenIds | None = None,
    method: str | Method = "generic",
    **options: object,
) -> Answers:
    """What each token that a model says rests on: the steps of :func:`heedmap.explain_answer`, each as an explanation of its own.

    Args:
        subject: ``heedmap.load(…)`` of a model that says words.
        text: one sample, as for ``subject.explain``.
        image: as there.
        boxes: as there.
        audio: as there.
        decoder_input_ids: (1, tokens), for other words than an encoder-decoder's own.
        method: a key of ``heedmap.METHODS``, or a method.
        options: the method's own.

    Raises:
        InputError: the model does not say a text, or what is given is a batch, or it says nothing.

    Examples:
        >>> import heedmap
        >>> said = heedmap.alignment(heedmap.load("zoo/bart-dates"), text="the 3rd of may 1987")
        >>> "".join(said.names), said["text"].shape
        ('1987-05-03', torch.Size([10, 20]))
    """
    from heedmap.attention.tower import batch_size
    from heedmap.models.answer import explain_answer
    from heedmap.models.model import frames_heard

    if not subject.kind_row.speaks:
        raise InputError(f"{subject.name} says no text; alignment is for models that do")
    inputs = subject.asked(text, image, boxes, audio)
    samples = batch_size(inputs)
    if samples != 1:
        raise InputError(f"there are {samples} samples; give one sample")
    asked: Callable[..., Explanation] = explain_answer  # which checks the options itself
    found = asked(subject, inputs, answer=decoder_input_ids, method=method, **options)
    found = found.with_roles(frames_heard(subject, found, inputs, audio))
    assert found.answer is not None
    names = found.segments["answer"].labels or (tuple(map(str, found.answer.tokens[0].tolist())),)
    steps = tuple(map(found.step, range(len(found.answer))))
    return Answers(names[0], steps, joined=True, text=found.answer.text[0])


def detections(
    subject: Model,
    *,
    text: TextInput = None,
    image: ImageInput = None,
    boxes: BoxesInput = None,
    audio: AudioInput = None,
    threshold: float = 0.5,
    most: int = 20,
    no_object: int | str | None = INFERRED,
    method: str | Method = "generic",
    **options: object,
) -> Answers:
    """What each object that a detector finds rests on, with its box, from one forward pass more.

    Args:
        subject: ``heedmap.load(…)`` of a detector with object queries, such as DETR.
        text: one sample, as for ``subject.explain``.
        image: as there.
        boxes: as there.
        audio: as there.
        threshold: an object is kept from this probability on, 0 to 1.
        most: so many are kept at most, the most probable ones.
        no_object: as for ``targets.DetectionQuery``: index of the "no object" class; None: the model has none; by default
            inferred.
        method: a key of ``heedmap.METHODS``, or a method.
        options: the method's own.

    Raises:
        InputError: the model finds no boxes, what is given is a batch, or nothing is as probable as ``threshold``.
        OptionError: ``threshold`` or ``most`` is out of range.

    Examples:
        >>> import heedmap
        >>> photo = heedmap.zoo_sample("detr-shapes").picture
        >>> found = heedmap.detections(heedmap.load("zoo/detr-shapes"), image=photo)
        >>> found, found["image"].shape
        (Answers(ring 100%, heart 99%, star 99%; image, queries), torch.Size([3, 144]))
        >>> [round(edge, 2) for edge in found.boxes[0]]
        [0.05, 0.25, 0.25, 0.45]
    """
    from heedmap.attention.forward import output_of
    from heedmap.engine.explain import explain
    from heedmap.models.predictions import found_objects

    if not 0 <= threshold <= 1 or most < 1:
        raise OptionError(f"threshold={threshold} and most={most}; expected a probability, 0 to 1, and at least 1")
    inputs = subject.inputs(text, image, boxes, audio)
    objects = found_objects(output_of(subject.model, inputs), subject.context(inputs), no_object)
    kept = [
        (prediction, prediction.probability or 0.0, prediction.box)
        for prediction in objects
        if (prediction.probability or 0.0) >= threshold
    ][:most]
    if not kept:
        raise InputError(f"no object is as probable as {threshold}; the most probable has {objects[0].probability:.3g}")
    targets = [prediction.target for prediction, _, _ in kept]
    explanations = explain(subject, inputs, target=targets, method=method, **options)
    called = tuple(f"{prediction.label} {probability:.0%}" for prediction, probability, _ in kept)
    return Answers(called, tuple(explanations), tuple(box for _, _, box in kept if box is not None))
