"""Several explanations from one pass: of all that a model answers to one input, or of several inputs of one size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from heedmap.errors import InputError, OptionError

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from torch import Tensor

    from heedmap.data.picture import Box, Picture
    from heedmap.explanation import Explanation
    from heedmap.methods import Method
    from heedmap.models.model import Model
    from heedmap.render.sound import Sound
    from heedmap.types import AudioInput, BoxesInput, ImageInput, OneBoxes, OneSound, TextInput, TokenIds

INFERRED = "inferred"
"""As ``heedmap.outputs.INFERRED``, which torch comes with."""


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

    Inputs (one sample), method and options are as for ``subject.explain``.

    Args:
        subject: ``heedmap.load(…)`` of a model that says words.
        decoder_input_ids: (1, tokens), for other words than an encoder-decoder's own.

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

    Inputs (one sample), method and options are as for ``subject.explain``.

    Args:
        subject: ``heedmap.load(…)`` of a detector with object queries, such as DETR.
        threshold: an object is kept from this probability on, 0 to 1.
        most: so many are kept at most, the most probable ones.
        no_object: as for ``targets.DetectionQuery``: index of the "no object" class; None: the model has none; by default
            inferred.

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
    kept = [found for found in objects if (found.probability or 0.0) >= threshold][:most]
    if not kept:
        raise InputError(f"no object is as probable as {threshold}; the most probable has {objects[0].probability:.3g}")
    explanations = explain(subject, inputs, target=[found.target for found in kept], method=method, **options)
    called = tuple(f"{found.label} {found.probability or 0.0:.0%}" for found in kept)
    return Answers(called, tuple(explanations), tuple(found.box for found in kept if found.box is not None))


# -- several inputs -------------------------------------------------------------------------------------------------
# No input is padded for the sake of another, so a map is the same as alone.


class Made(Protocol):
    """An input that was made into what a model is called with: ``tensors``, a batch of one; empty where it could not be."""

    @property
    def tensors(self) -> Mapping[str, object]:
        """What the model is called with."""


AnyMade = TypeVar("AnyMade", bound=Made)


def alike(items: Sequence[AnyMade], most: int, beside: Callable[[AnyMade], Hashable]) -> Iterator[list[AnyMade]]:
    """Inputs of one size that can go through the model together, ``most`` at a time; what cannot be part of a batch alone.

    Args:
        items: the inputs.
        most: of a group.
        beside: what else has to be equal in a group, such as the target.
    """
    groups: dict[Hashable, list[AnyMade]] = {}
    for item in items:
        size = _common_shape(item.tensors) if item.tensors else None
        groups.setdefault((size or id(item), beside(item)), []).append(item)
    for group in groups.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))


def explained(
    subject: Model,
    batches: Sequence[Mapping[str, object]],
    boxes: Sequence[OneBoxes] = (),
    sounds: Sequence[OneSound] = (),
    **wanted: object,
) -> list[Explanation]:
    """An explanation of each of several inputs of one size, batches of one, from one call.

    ``boxes`` and ``sounds`` are of each input, for their names and lengths, or none; the rest is for :func:`heedmap.explain`.
    """
    from heedmap.engine.explain import explain

    asked: Callable[..., Explanation] = explain  # which checks what is wanted itself
    tensors = together(batches)
    made = asked(subject, tensors, **wanted)
    if boxes or sounds:
        made = subject.label(made, tensors, list(boxes) or None, list(sounds) or None)
    return [made.sample(number) for number in range(len(batches))]


def _common_shape(tensors: Mapping[str, object]) -> tuple[object, ...] | None:
    """What two inputs have in common that can be one batch; None: this one cannot be part of any."""
    import torch

    shapes: list[object] = []
    for name, value in sorted(tensors.items()):
        if not isinstance(value, torch.Tensor):
            shapes.append((name, repr(value)))
        elif value.dim() and len(value) == 1:
            shapes.append((name, tuple(value.shape), value.dtype))
        else:
            return None
    return tuple(shapes)


def together(batches: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Batches of one as one batch."""
    import torch

    first = batches[0]
    return {
        name: torch.cat([part for batch in batches if isinstance(part := batch[name], torch.Tensor)])
        if isinstance(value, torch.Tensor) and len(batches) > 1
        else value
        for name, value in first.items()
    }
