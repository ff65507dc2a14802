"""A model with its processors: words, pictures, boxes and sounds in, labelled explanations out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, overload

from heedmap.attention.at_rest import answering
from heedmap.attention.forward import output_of
from heedmap.attention.inputs import named
from heedmap.data.picture import Picture
from heedmap.engine.explain import explain, inspect, plan
from heedmap.errors import InputError
from heedmap.models.audio import Hearing
from heedmap.models.image import AS_SEEN, NOT_GIVEN, Patch, all_seen, geometries, parted, pixels, trimmed, unprocessed
from heedmap.models.inputs import box_names, box_places, listed, placed, samples, standard, tensors
from heedmap.models.kinds import Kind, Processors
from heedmap.models.media import rgb
from heedmap.models.saying import spoken, worded
from heedmap.models.words import Speech, labelled, special_ids, token_text, unknown_words, unwritten_ids
from heedmap.outputs import Context, get, pooled
from heedmap.targets import Similarity

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from heedmap.data.flow import Flow
    from heedmap.data.picture import Geometry
    from heedmap.engine.heads import Heads
    from heedmap.engine.planning import Plan
    from heedmap.explanation import Explanation
    from heedmap.methods import Method
    from heedmap.models.predictions import Predictions
    from heedmap.targets import AnyTarget, Several
    from heedmap.types import (
        AnswerInput,
        AudioInput,
        BoxesInput,
        ContrastInput,
        Entry,
        ImageInput,
        ImageProcessor,
        OneBoxes,
        OneImage,
        OneSound,
        OneText,
        TextInput,
        TokenIds,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model that takes words, pictures, boxes and sounds as people have them. :func:`heedmap.load` makes it.

    Wherever an input is taken, one of it is one sample and a list a batch: ``text`` is a str or a (first, second) pair
    of them; ``image`` a PIL image, a path or an array (rows, columns, 3) of uint8; ``boxes`` a mapping with
    ``features`` (N, d), ``boxes`` (N, 4), x1 y1 x2 y2 from 0 to 1, and maybe ``labels``; ``audio`` a pair
    (samples, sampling_rate). What is given once beside a list is used for each sample.

    Attributes:
        name: what it was loaded from.
        model: the model itself, unmodified.
        kind_row: its row in the table of kinds.
        processors: what makes tensors of the inputs.
        parameters: names of what ``model`` is called with, as transformers calls them.
        renamed: where the model calls an input otherwise than transformers: transformers' name → its own.
        labels: class index → name, where they are not in ``model.config.id2label``.
        default_target: what ``target=None`` means for this model, where its output alone does not tell.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/vit-shapes")
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> subject.explain(image=[photo, photo], target="pink")
        Explanation(generic, batch 2, target 'class 14 (pink)', image 12×12)
    """

    name: str
    model: nn.Module
    kind_row: Kind
    processors: Processors
    parameters: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[int, str] | None = None
    default_target: AnyTarget = None

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {type(self.model).__name__}, takes {self.kind_row.about})"

    @property
    def kind(self) -> str:
        """Key of ``heedmap.MODELS``: what the model takes and gives."""
        return self.kind_row.name

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer: transformers' own, or one with its interface; None where the model has none."""
        return self.processors.tokenizer

    @property
    def config(self) -> PretrainedConfig | None:
        """The model's configuration, or None where its library has none."""
        return getattr(self.model, "config", None)

    @property
    def special_tokens(self) -> frozenset[int] | None:
        """Ids of the tokens that stand for no part of a text; None where there is no tokenizer."""
        return None if self.tokenizer is None else unwritten_ids(self.tokenizer)

    @property
    def token_text(self) -> Callable[[Sequence[int]], str] | None:
        """Ids of tokens → their text, for people; None where there is no tokenizer."""
        return None if self.tokenizer is None else partial(token_text, self.tokenizer)

    @property
    def class_names(self) -> Mapping[int, str]:
        """Class index → name; empty where the model has no names."""
        return self.context({}).labels

    def context(self, inputs: Mapping[str, object]) -> Context:
        """What is known of the model's output when it is called with ``inputs``."""
        return Context.of(inputs, self.config, None, getattr(self.model, "forward", None), self)

    def inputs(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        boxes: BoxesInput = None,
        audio: AudioInput = None,
        decoder_input_ids: TokenIds | None = None,
    ) -> dict[str, Tensor]:
        """What the model is called with, batch first, on its device and in its dtype.

        An encoder-decoder also gets what its decoder is called with: ``decoder_input_ids`` (batch, tokens) as given, or
        its start tokens and the words that it says by itself, the most probable each time. All are tensors, but for
        ``interpolate_pos_encoding``, which is True where pictures have another size than the model's own.

        Raises:
            InputError: an input is missing, not for this model, of unequal number, or in a form it cannot take.
            ModelLoadError: the model came without the processor for it.
        """
        inputs = self.asked(text, image, boxes, audio)
        return inputs | self._decoder(inputs, decoder_input_ids)

    def asked(
        self, text: TextInput = None, image: ImageInput = None, boxes: BoxesInput = None, audio: AudioInput = None
    ) -> dict[str, Tensor]:
        """What the model is asked, as tensors: as :meth:`inputs`, without what a decoder says."""
        given = {"text": text, "image": image, "boxes": boxes, "audio": audio}
        made = tensors(
            self.processors, self.name, self.config, self.parameters, samples(self.kind_row, self.name, given)
        )
        known = {self.renamed.get(name, name): value for name, value in made.items() if name in self.parameters}
        return placed(known, self.model)

    @overload
    def explain(  # type: ignore[overload-overlap]  # what stands for several targets is a target, too
        self,
        text: TextInput = ...,
        image: ImageInput = ...,
        boxes: BoxesInput = ...,
        audio: AudioInput = ...,
        *,
        target: list[Entry] | Several,
        method: str | Method = ...,
        decoder_input_ids: TokenIds | None = ...,
        **options: object,
    ) -> list[Explanation]: ...

    @overload
    def explain(
        self,
        text: TextInput = ...,
        image: ImageInput = ...,
        boxes: BoxesInput = ...,
        audio: AudioInput = ...,
        *,
        target: AnyTarget = ...,
        method: str | Method = ...,
        decoder_input_ids: TokenIds | None = ...,
        **options: object,
    ) -> Explanation: ...

    def explain(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        boxes: BoxesInput = None,
        audio: AudioInput = None,
        *,
        target: AnyTarget | list[Entry] | Several = None,
        method: str | Method = "generic",
        decoder_input_ids: TokenIds | None = None,
        **options: object,
    ) -> Explanation | list[Explanation]:
        """Which parts of the inputs a prediction rests on, with labels.

        Args:
            text: see the class; which of these four the model takes, ``heedmap.MODELS[kind]`` tells.
            image: see the class.
            boxes: see the class.
            audio: see the class.
            target: as for :func:`heedmap.explain`. Where the model speaks, a word or ``NextToken("word")`` is the token
                of that text: in a causal model the one with a space before it, unless the prompt ends in one; in an
                encoder-decoder where it says that token. An encoder-decoder's default is the first word that it says,
                that of a model that fills in masked words the masked position. Where it labels tokens, a label is
                meant where it is most probable, and ``TokenLabel("B-LOC", "paris")`` is the label of a word.
            method: a key of ``heedmap.METHODS``, a method, or ``"auto"``: see :func:`heedmap.explain`.
            decoder_input_ids: (batch, tokens), for an encoder-decoder, instead of what it says by itself.
            options: the method's own.

        Returns:
            An Explanation of the whole batch, or for a list of targets a list.

        Raises:
            InputError, ModelLoadError: see :meth:`inputs`.
            TargetError: the target does not fit, or a word is no single token.

        Examples:
            >>> import heedmap
            >>> subject = heedmap.load("zoo/gpt-lists")
            >>> found = subject.explain(text="dog red ; cat blue ? cat")
            >>> found.prediction_labels, f"{found.top.probabilities[0, 0]:.2f}"
            (('blue',), '1.00')
            >>> words = found.segments["text"].labels[0]
            >>> words[found["text"][0].argmax()]
            'blue'
        """
        inputs = self.inputs(text, image, boxes, audio, decoder_input_ids)
        result = explain(self, inputs, target=target, method=method, **options)
        if boxes is None and audio is None:
            return result
        if isinstance(result, list):
            return [self.label(explanation, inputs, boxes, audio) for explanation in result]
        return self.label(result, inputs, boxes, audio)

    def plan(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        boxes: BoxesInput = None,
        audio: AudioInput = None,
        *,
        decoder_input_ids: TokenIds | None = None,
        **wanted: object,
    ) -> Plan:
        """How :meth:`explain` would make an explanation, and what it would take; see :func:`heedmap.plan`.

        Arguments and errors are those of :meth:`explain`.
        """
        asked: Callable[..., Plan] = plan  # which checks what is wanted itself
        return asked(self, self.inputs(text, image, boxes, audio, decoder_input_ids), **wanted)

    def explain_answer(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        audio: AudioInput = None,
        *,
        answer: AnswerInput | None = None,
        contrast: ContrastInput | None = None,
        method: str | Method = "generic",
        generate: Mapping[str, object] | None = None,
        system: str | None = None,
        chat: bool | None = None,
        **options: object,
    ) -> Explanation:
        """What each token of an answer in words rests on, with labels; see :func:`heedmap.explain_answer`, also for arguments.

        Args:
            text: see the class.
            image: see the class; where the model has a chat template, a tuple of several is one sample.
            audio: see the class.
            system: the system prompt, for a model with a chat template.
            chat: whether the text is what a person says in a chat, and goes into the model's chat template with places for the
                pictures; None: where there is a template. False: the text is the prompt as it is.

        Who brought each token of the text in is told in ``segments["text"].roles``; :meth:`Explanation.without` leaves system
        prompt and template out of the scale.

        Raises:
            InputError, ModelLoadError: see :meth:`inputs`; the model answers in no words.
            HeedmapError: see :func:`heedmap.explain_answer`.

        Examples:
            >>> import heedmap
            >>> subject = heedmap.load("zoo/bart-dates")
            >>> subject.explain_answer(text="the 3rd of may 1987")
            Explanation(generic, batch 1, target "the answer '1987-05-03'", 10 steps, text 20, decoder 1, answer 10)
        """
        from heedmap.models.answer import explain_answer
        from heedmap.models.chat import roles, told

        if not self.kind_row.speaks:
            raise InputError(f"{self.name} answers in no words: it gives {self.kind_row.about}; use explain")
        told_as = told(self.processors, self.name, text, image, system, chat)
        inputs = self.asked(text if told_as is None else told_as.prompts, image, None, audio)
        asked: Callable[..., Explanation] = explain_answer  # which checks the options itself
        explanation = asked(self, inputs, answer=answer, contrast=contrast, method=method, generate=generate, **options)
        return explanation.with_roles(roles(explanation, told_as) | frames_heard(self, explanation, inputs, audio))

    def predict(
        self,
        text: OneText | None = None,
        image: OneImage | tuple[OneImage, ...] | None = None,
        boxes: OneBoxes | None = None,
        audio: OneSound | None = None,
        *,
        said: str | None = None,
    ) -> Predictions:
        """What the model answers to one sample, given as for :meth:`explain`, each answer with the target that explains it.

        Args:
            said: what an encoder-decoder should have said; None: what it says by itself.

        Raises:
            InputError, ModelLoadError: see :meth:`inputs`; or it takes fewer tokens than ``said`` has.
            TargetError: what the model gives cannot be explained without a target of its own.
        """
        from heedmap.models.predictions import predict

        inputs = self.inputs(text, image, boxes, audio)
        if said is not None and "decoder_input_ids" in inputs:
            tokenizer = self.processors.need(self.tokenizer, "tokenizer", self.name)
            inputs["decoder_input_ids"] = worded(inputs["decoder_input_ids"], said, tokenizer, self.config)
        return predict(self, inputs)

    def inspect(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        boxes: BoxesInput = None,
        audio: AudioInput = None,
        *,
        target: AnyTarget = None,
    ) -> Flow:
        """The attentions found, their streams, and the rows that the target reads; arguments as for :meth:`explain`."""
        return inspect(self, self.inputs(text, image, boxes, audio), target=target)

    def heads(
        self,
        text: TextInput = None,
        image: ImageInput = None,
        boxes: BoxesInput = None,
        audio: AudioInput = None,
        **options: object,
    ) -> Heads:
        """Every attention, head by head; arguments as for :meth:`explain`, and those of :func:`heedmap.heads`."""
        from heedmap.engine.heads import heads

        asked: Callable[..., Heads] = heads  # which checks the options itself
        return asked(self, self.inputs(text, image, boxes, audio), **options)

    def resolve_target(
        self, target: AnyTarget | list[AnyTarget], inputs: Mapping[str, object]
    ) -> AnyTarget | list[AnyTarget]:
        """``target`` with words replaced by token ids, its position filled in, and None by the model's own default.

        Args:
            target: as for :meth:`explain`.
            inputs: see :meth:`inputs`.

        Raises:
            TargetError: a word is no single token, or texts are masked at unequal positions.
        """
        masked = "MaskedLM" in type(self.model).__name__
        names = tuple(self.class_names.values())
        speech = Speech(self.tokenizer, self.kind_row.speaks, masked, inputs, names)
        if isinstance(target, list):
            return [speech.target(each) for each in target]
        return speech.target(self.default_target if target is None else target)

    def label(
        self, explanation: Explanation, inputs: Mapping[str, object], boxes: BoxesInput = None, audio: AudioInput = None
    ) -> Explanation:
        """A copy of ``explanation`` whose segments have labels: tokens, names of boxes, times; a note tells of unknown words.

        Where the sound is known, frames after its end have the role ``"padding"``, and no picture shows them.

        Args:
            explanation: of ``model``, called with ``inputs``.
            inputs: see :meth:`inputs`.
            boxes: what was given as boxes, for their names.
            audio: what was given as sound, for its length.
        """
        known = standard(inputs, self.renamed)
        hearing = Hearing(known, self.config, self.processors.audio)
        names = [box_names(sample) for sample in listed(boxes)]
        segments = labelled(hearing.laid_out(explanation.segments), known, hearing, self.tokenizer, names)
        told = explanation.flow.notes
        unknown = [note for note in unknown_words(self.tokenizer, get(known, "input_ids")) if note not in told]
        named = replace(explanation, segments=segments, flow=replace(explanation.flow, notes=(*told, *unknown)))
        return named.with_roles(frames_heard(self, named, inputs, audio))

    def compare(
        self, first: str, second: str, *, method: str | Method = "generic", pool: str = "mean", **options: object
    ) -> tuple[Explanation, Explanation]:
        """Which words of each text make the two alike, by a sentence encoder.

        Args:
            first: a text.
            second: the one that it is compared with.
            method: a key of ``heedmap.METHODS``, or a method.
            pool: ``"mean"`` of the token states, or ``"pooler"``: what is the text's embedding.
            options: the method's own.

        Returns:
            The explanations of the first and of the second text; the score of both is their cosine.

        Raises:
            InputError: the model does not take text alone.
            TargetError: the model's output has no token states.
        """

        def one(text: str, other: str) -> Explanation:
            target = Similarity(self.embedding(other, pool=pool), pool)
            return explain(self, self.inputs(text), target=target, method=method, **options)

        return one(first, second), one(second, first)

    def embedding(self, text: str | list[str], *, pool: str = "mean") -> Float[Tensor, "batch features"]:
        """Embeddings of texts: the mean of the token states without padding, or the pooler's output; no gradient.

        Raises:
            InputError: the model does not take text alone.
            TargetError: the model's output has no token states.
        """
        inputs = self.inputs(text=text)
        return pooled(output_of(self.model, inputs), self.context(inputs), pool)

    @overload
    def shown_image(self, image: list[Entry]) -> list[Image]: ...

    @overload
    def shown_image(self, image: OneImage) -> Image: ...

    def shown_image(self, image: OneImage | list[Entry]) -> Image | list[Image]:
        """The image as the model saw it, resized and cropped, so that a map of its patches lies right on it.

        Args:
            image: one, or a list: then a list, padded to one size as the model's processor pads a batch.

        Returns:
            A PIL image, RGB, of as many pixels as ``pixel_values`` has; or a list of them.

        Raises:
            InputError: the model takes no image, or cuts it to pieces that are no picture any more.
        """
        processor = self._image_processor()
        values = pixels(processor, listed(image))["pixel_values"]
        if values.dim() == 5 and values.shape[0] * values.shape[1] == len(listed(image)):
            values = values.flatten(0, 1)
        if values.dim() != 4:
            raise InputError(
                f"the image processor of {self.name} cuts an image to pieces, pixel_values {tuple(values.shape)}; "
                "there is no one image that it saw: lay the map over your own"
            )
        shown: list[Image] = [unprocessed(seen, processor) for seen in values]
        return shown if isinstance(image, list) else shown[0]

    @overload
    def geometry(self, image: list[Entry]) -> list[Geometry]: ...

    @overload
    def geometry(self, image: OneImage) -> Geometry: ...

    def geometry(self, image: OneImage | list[Entry]) -> Geometry | list[Geometry]:
        """Where on the original the model looks: the processor's resize, crop and padding, to be undone.

        It is measured, by sending pictures of coordinates of the same size through the processor.

        Args:
            image: one, or a list, which the processor may pad to one size.

        Returns:
            A :class:`~heedmap.data.picture.Geometry`, exact to about a pixel; or a list of them.

        Raises:
            InputError: the model takes no image, or its processor does more than resize, crop and pad.
        """
        of_images = geometries(self._image_processor(), [rgb(picture).size for picture in listed(image)])
        known = [geometry for geometry in of_images if geometry is not None]
        if len(known) < len(of_images):
            raise InputError(
                f"the image processor of {self.name} does more than resize, crop and pad, so there is no one box of "
                "the original that it looks at; lay the map on shown_image(…)"
            )
        made = [trimmed(geometry, self._patch) for geometry in known]
        return made if isinstance(image, list) else made[0]

    @overload
    def picture(self, image: list[Entry], boxes: BoxesInput = ...) -> list[Picture]: ...

    @overload
    def picture(self, image: OneImage | tuple[OneImage, ...] | None = ..., *, boxes: list[Entry]) -> list[Picture]: ...

    @overload
    def picture(self, image: OneImage | tuple[OneImage, ...] | None = ..., boxes: OneBoxes | None = ...) -> Picture: ...

    def picture(
        self, image: ImageInput | list[Entry] = None, boxes: BoxesInput | list[Entry] = None
    ) -> Picture | list[Picture]:
        """The original picture with where the model looked: give it to ``plot``, ``overlay`` or ``side_by_side``.

        Where the processor does more than resize, crop and pad, it is the picture as the model saw it, and says so.

        Args:
            image: one, or a list as for :meth:`explain`; a tuple of several is one sample. A model of boxes has not seen it; the
                boxes are drawn on it. Of several pictures of a sample, and of tiles that the processor cuts one into, the first
                is given, and the rest are its ``others``, in the model's order.
                None: the boxes are drawn on an empty square.
            boxes: as for :meth:`explain`; their places are drawn.

        Returns:
            A :class:`~heedmap.data.picture.Picture`; or for lists a list of them.

        Raises:
            InputError: there is neither an image nor places of boxes, the lists are of unequal length, or the model
                cuts an image to pieces.
        """
        images, places = listed(image), listed(boxes)
        count = max(len(images), len(places))
        if {len(images), len(places)} - {1, count}:
            raise InputError(
                f"there are {len(images)} images and {len(places)} sets of boxes; give one of both a sample"
            )
        if self.processors.joint is not None and boxes is None and "image" in self.kind_row.takes:
            parts = [self._parts(picture) for picture in images]
            return parts if isinstance(image, list) else parts[0]
        where = [box_places(sample) for sample in (places * count if len(places) == 1 else places)]
        if any(image is None for image in images) and any(places is None for places in where):
            raise InputError(
                "there is neither an image nor places of boxes to draw; give image=… or boxes=… with 'boxes'"
            )
        shown = self._shown(images * count if len(images) == 1 else images)
        made = [replace(picture, boxes=boxes, alone=True) for picture, boxes in zip(shown, where, strict=True)]
        return made if isinstance(image, list) or isinstance(boxes, list) else made[0]

    def _shown(self, images: list[object]) -> list[Picture]:
        """Each image with where on it the model looked."""
        if any(image is None for image in images):
            return [all_seen(None, NOT_GIVEN) for _ in images]
        if "image" not in self.kind_row.takes:
            return [all_seen(rgb(image)) for image in images]
        try:
            return [Picture(rgb(image), seen) for image, seen in zip(images, self.geometry(images), strict=True)]
        except InputError:
            return [all_seen(image, AS_SEEN) for image in self.shown_image(images)]

    def _parts(self, image: object) -> Picture:
        """A sample's pictures, or what the processor cuts them into, with where on each the model looks."""
        first, *others = (
            part
            for picture in (image if isinstance(image, tuple) else (image,))
            for part in parted(rgb(picture), self._image_processor(), self._patch, self.name)
        )
        return replace(first, others=tuple(others))

    @property
    def _patch(self) -> Patch:
        return getattr(getattr(self.config, "vision_config", self.config), "patch_size", None)

    def _image_processor(self) -> ImageProcessor:
        if "image" not in self.kind_row.takes:
            raise InputError(f"{self.name} takes no image; it takes {self.kind_row.about}")
        return self.processors.need(self.processors.image, "image", self.name)

    def _decoder(self, inputs: Mapping[str, object], given: TokenIds | None) -> dict[str, Tensor]:
        if self.kind_row.speaks != "decoder":
            if given is not None:
                raise InputError(f"{self.name} takes no decoder_input_ids: it is no encoder-decoder that speaks")
            return {}
        if given is not None:
            return placed(named(self.model, {"decoder_input_ids": given}), self.model)
        with answering(self.model):
            return spoken(self.model, inputs, special_ids(self.tokenizer))


def frames_heard(
    subject: Model, explanation: Explanation, inputs: Mapping[str, object], audio: AudioInput
) -> dict[str, tuple[str, ...]]:
    """Roles that tell which frames of sound are of the clip ``audio``, and which after its end; none where there is none."""
    if audio is None:
        return {}
    hearing = Hearing(standard(inputs, subject.renamed), subject.config, subject.processors.audio)
    return hearing.roles(explanation.segments, listed(audio))
