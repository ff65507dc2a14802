"""What a model says of some inputs, held fixed: the same class, query or token of whatever it is shown afterwards."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from heedmap.attention.forward import output_of
from heedmap.common.extras import library
from heedmap.engine.explain import explain
from heedmap.errors import InputError, TargetError
from heedmap.methods.cards import CHANCE, EDGES
from heedmap.methods.method import count
from heedmap.models.inputs import standard
from heedmap.outputs import get
from heedmap.targets import AnyTarget, Function, Similarity, Target, as_target, class_logits

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from heedmap.evaluate.evaluation import MethodSpec
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.types import Given, TokenIds

LEAST = 1e-6
"""A score nearer to 0 is no measure of others."""
SIDE = 64
"""Of the grey picture that a model is tried on."""


@dataclass(frozen=True, eq=False)
class BatchAnswer:
    """What a model says of a batch.

    Attributes:
        subject: the model.
        target: takes the same place of any output for this batch; to be explained.
        places: for each sample the index of what it says in its own logits, flattened; None: the output has no classes.
        scores: the target's value for the batch as it is, (batch,).
    """

    subject: Model
    target: Target
    places: Int[Tensor, " batch"] | None
    scores: Float[Tensor, " batch"]

    def probability(self, inputs: Mapping[str, object], owners: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """How much of the answer is left for other inputs; one forward pass.

        The answer's probability; of a model without classes (pairs, embeddings) its score as a multiple of what it was.

        Args:
            inputs: with one row for each of ``owners``, changed but of the same shape.
            owners: for each row the number of the sample in the batch that it was made of.
        """
        output = output_of(self.subject.model, inputs)
        owners = owners.to(self.scores.device)
        if self.places is None:
            values = self.target.choose(output, self.subject.context(inputs)).values
            return values.float() / self.scores[owners].abs().clamp(min=LEAST)
        logits = class_logits(output, None)
        classes, places = logits.shape[-1], self.places[owners]
        rows = torch.arange(len(logits), device=logits.device)
        answer_logits = logits.reshape(len(logits), -1, classes)[rows, places // classes].float()
        return self.subject.context({}).probabilities(answer_logits)[rows, places % classes]


def held(subject: Model, inputs: Mapping[str, object], target: AnyTarget = None) -> BatchAnswer:
    """What ``subject`` says of ``inputs``, by ``target`` (as for :func:`heedmap.explain`; None: its own default).

    Raises:
        TargetError: the target does not fit the output, or is no one class of it (a region, a mask, an answer's span).
    """
    wanted = as_target(subject.resolve_target(target, inputs))
    output = output_of(subject.model, inputs)
    chosen = wanted.choose(output, subject.context(inputs))
    scores = chosen.values.detach().float()
    if chosen.again is None:
        return BatchAnswer(subject, wanted, None, scores)
    if chosen.top is None:
        raise TargetError(
            f"what is explained ({chosen.words[0]}) is no one class of the output, and how much of it is left for other inputs "
            "is not measured; give a class, an object, a token or a similarity"
        )
    logits = class_logits(output, None)
    numbers = torch.arange(logits[0].numel(), device=logits.device).reshape(logits.shape[1:]).expand(logits.shape)
    return BatchAnswer(
        subject, Function(chosen.again), chosen.again(numbers), scores
    )  # it takes numbers as it takes logits


def explained(
    subject: Model,
    inputs: Mapping[str, object],
    target: AnyTarget,
    contender: MethodSpec,
    seed: int,
    keys: Sequence[str] | None = None,
    blank: Explanation | None = None,
) -> Explanation:
    """The contender's explanation of a batch.

    Args:
        subject: the model.
        inputs: what it is called with.
        target: as for :func:`heedmap.explain`, one; None: the model's own default.
        contender: the method.
        seed: of chance, where the contender has none of its own.
        keys: of the samples, by each of which chance draws for its sample; None: one draw for the whole batch.
        blank: an explanation of inputs of the same form: what does not ask the model, edges and chance by keys, is put on its
            segments, and the model does not run.

    Raises:
        InputError: the contender is the picture's edges, and there is no picture.
        HeedmapError: the method cannot explain this.
    """
    options = _options(contender, seed)
    if contender.method == EDGES:
        blank = blank or explain(subject, inputs, target=target, method=CHANCE)
        return edge_map(blank, standard(inputs, subject.renamed))
    if contender.method != CHANCE or keys is None:
        return explain(subject, inputs, target=target, method=contender.method, **options)
    blank = blank or explain(subject, inputs, target=target, method=CHANCE, **options)
    return _drawn(blank, keys, count(options, "seed", 0))


def explained_each(
    subject: Model, inputs: Mapping[str, object], targets: list[Target], contender: MethodSpec, seed: int
) -> list[Explanation]:
    """The explanation of each target, all from the same passes; arguments and errors as for :func:`explained`."""
    if contender.method != EDGES:
        return explain(subject, inputs, target=targets, method=contender.method, **_options(contender, seed))
    known = standard(inputs, subject.renamed)
    return [edge_map(each, known) for each in explain(subject, inputs, target=targets, method=CHANCE)]


def _options(contender: MethodSpec, seed: int) -> Mapping[str, object]:
    return {"seed": seed, **contender.options} if contender.method == CHANCE else contender.options


def _drawn(explanation: Explanation, keys: Sequence[str], seed: int) -> Explanation:
    """Chance by keys: uniform numbers that depend neither on the batch nor on the padding, in each segment."""
    segments = {}
    for name, segment in explanation.segments.items():
        tokens = segment.relevance.shape[1]
        # the 1 and the 0 tell these draws from others of the seed; published figures rest on them
        rows = [np.random.default_rng((seed, zlib.crc32(key.encode()), 1, 0)).random(tokens) for key in keys]
        uniform = torch.from_numpy(np.stack(rows)).to(segment.relevance.dtype)
        segments[name] = replace(segment, relevance=uniform.where(segment.positions >= 0, 0))
    return replace(explanation, segments=segments)


# -- the picture's own edges -------------------------------------------------------------------------------------------


def sobel(picture: Float[np.ndarray, "channels rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """The length of the gradient by Sobel's filters, mean over the channels; beyond its edge the outermost pixels go on.

    Raises:
        MissingLibraryError: there is no scipy.
    """
    filtered = library("scipy.ndimage", "eval", "edges need").sobel
    down, right = (np.stack([filtered(channel, axis=axis, mode="nearest") for channel in picture]) for axis in (0, 1))
    return np.hypot(down, right).mean(0)


def edge_map(explanation: Explanation, inputs: Mapping[str, object]) -> Explanation:
    """The explanation with the edges of the picture, as the model is given it, in the place of relevance.

    By no model: methods are often no better where the truth is known (Clark et al., XAI-TRIS, 2024).
    A patch has the mean of its pixels, in float64 until the last; padding has none, nor do words and boxes: they are equal, and
    go in an order that is drawn.

    Args:
        explanation: of any method, for the segments.
        inputs: what the model was called with: ``pixel_values`` (batch, channels, rows, columns), and ``pixel_mask`` where
            pictures are padded.

    Raises:
        InputError: there is no picture, or its patches form no grid over its pixels.
    """
    pixels = get(inputs, "pixel_values")
    grid = explanation.segment("image").grid if "image" in explanation.segments else None
    if grid is None or pixels is None or pixels.dim() != 4:
        raise InputError(
            f"{EDGES} are of a picture whose patches form a grid over pixel_values (batch, channels, rows, columns); "
            f"the model has the segments {', '.join(explanation.segments)}"
        )
    segments = {}
    for name, segment in explanation.segments.items():
        relevance = torch.zeros_like(segment.relevance)
        if name == "image":
            patches = adaptive_avg_pool2d(_edges_of(pixels, get(inputs, "pixel_mask"))[:, None], grid).flatten(1)
            relevance = patches.to(relevance).where(segment.positions >= 0, 0)
        segments[name] = replace(segment, relevance=relevance)
    return replace(explanation, segments=segments, method=EDGES, options={})


def _edges_of(
    pixels: Float[Tensor, "batch channels rows columns"], mask: Bool[Tensor, "batch rows columns"] | None
) -> Float[Tensor, "batch rows columns"]:
    """Of each picture without its padding, whose border is no edge of the picture."""
    edges = torch.zeros(len(pixels), *pixels.shape[-2:], dtype=torch.float64)
    for number, picture in enumerate(pixels.detach().cpu().double().numpy()):
        real = np.ones(picture.shape[1:], dtype=bool) if mask is None else mask[number].cpu().numpy() != 0
        rows, columns = np.flatnonzero(real.any(1)), np.flatnonzero(real.any(0))
        inside = np.ix_(rows, columns)
        edges[number][inside] = torch.from_numpy(sobel(picture[:, *inside]))
    return edges


# -- inputs and outputs ------------------------------------------------------------------------------------------------


class AnySample(Protocol):
    """A sample of any kind."""

    @property
    def inputs(self) -> Mapping[str, object]:
        """What a model is asked of it, by the names of ``heedmap.Model.explain``."""


def inputs_of(
    subject: Model, samples: Sequence[AnySample], decoder_input_ids: TokenIds | None = None
) -> dict[str, Tensor]:
    """What the model is called with for samples as one batch; ``decoder_input_ids`` as for ``subject.inputs``."""
    lists = {role: [sample.inputs[role] for sample in samples] for role in samples[0].inputs}
    return subject.inputs(**as_given(lists), decoder_input_ids=decoder_input_ids)


def as_given(inputs: object) -> Given:
    """``inputs`` as ``heedmap.Model.explain`` takes them, which refuses other names itself; InputError where it is no mapping."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"the inputs are a {type(inputs).__name__}; expected a dict as subject.explain takes it")
    return cast("Given", inputs)


def tokenizer_of(subject: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that takes or says words; ModelLoadError where it has none."""
    return subject.processors.need(subject.tokenizer, "tokenizer", subject.name)


def repeated(inputs: Mapping[str, object], batch: int, owners: Tensor) -> dict[str, object]:
    """The inputs of the samples with these numbers, once for each time that a number is there."""
    return {
        name: value[owners.to(value.device)]
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == batch
        else value
        for name, value in inputs.items()
    }


def logits_of(subject: Model, inputs: Mapping[str, object]) -> Float[Tensor, "rows classes"]:
    """One forward pass of a classifier, or of a dual encoder: (pictures, texts)."""
    return class_logits(output_of(subject.model, inputs), 2).float()


def all_class_names(subject: Model, classes: int) -> dict[int, str]:
    """Class index → name, of every class: its number where the model has no name for it."""
    names = subject.class_names
    return {index: names.get(index, str(index)) for index in range(classes)}


def target_of(places: Sequence[tuple[int, ...]]) -> Target:
    """The target that takes from each sample's logits the score at its place."""
    if not places[0]:
        return Similarity()
    columns = torch.tensor(places).T

    def picked(output: object) -> torch.Tensor:
        logits = class_logits(output, None)
        rows = torch.arange(len(logits), device=logits.device)
        return logits[(rows, *columns.to(logits.device))]

    return Function(picked)


# -- pictures ----------------------------------------------------------------------------------------------------------


def seen_mask(subject: Model, mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "rows columns"]:
    """A picture's mask as it lies on the picture that the model sees, resized and cropped.

    The mask goes through the model's own image processor, white on black, so that it is resized and cropped as any
    picture is; a pixel is of the mask where it is at least half white.

    Raises:
        InputError: the model takes no image, or cuts it to pieces that are no picture any more.
    """
    from PIL import Image

    shown = subject.shown_image(Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB"))
    return np.asarray(shown)[..., 0] > 127


def tried(subject: Model) -> object:
    """The model's output for one grey picture.

    Raises:
        InputError: it takes something else beside a picture, or no picture.
    """
    from PIL import Image

    if subject.kind_row.needs != ("image",) or subject.kind_row.speaks:
        raise InputError(f"{subject.name} takes {subject.kind_row.about}; expected a model of pictures alone")
    return output_of(subject.model, subject.inputs(image=Image.new("RGB", (SIDE, SIDE), (127, 127, 127))))


def maps_of(
    subject: Model,
    inputs: Mapping[str, object],
    places: Sequence[Sequence[tuple[int, ...]]],
    contender: MethodSpec,
    seed: int,
) -> list[list[Float[np.ndarray, "rows columns"]]]:
    """For each sample the maps of its answers, over the patches of its picture.

    Samples with as many answers go together, so that all answers of a picture share the forward passes.

    Args:
        subject: the model.
        inputs: of the samples.
        places: for each sample, where in its own logits the scores are that are explained, one or more.
        contender: the method.
        seed: of chance, whose maps have each an order of its own.

    Raises:
        InputError: the patches form no grid.
        HeedmapError: the method cannot explain them.
    """
    alike: dict[int, list[int]] = {}
    for number, sample_places in enumerate(places):
        alike.setdefault(len(sample_places), []).append(number)
    maps: list[list[Float[np.ndarray, "rows columns"]]] = [[] for _ in places]
    for many, numbers in alike.items():
        targets = [target_of([places[number][turn] for number in numbers]) for turn in range(many)]
        some = repeated(inputs, len(places), torch.tensor(numbers))
        for explanation in explained_each(subject, some, targets, contender, seed):
            grids = explanation["image"].double().numpy().reshape(-1, *image_grid(explanation))
            for number, grid in zip(numbers, grids, strict=True):
                maps[number].append(grid)
    return _shuffled(maps, seed) if contender.method == CHANCE else maps


def _shuffled(maps: list[list[np.ndarray]], seed: int) -> list[list[np.ndarray]]:
    """One draw of chance for the whole batch, in another order for each map: so the published figures were measured."""
    rng = np.random.default_rng(seed)
    return [[rng.permutation(grid.ravel()).reshape(grid.shape) for grid in grids] for grids in maps]


def image_grid(explanation: Explanation) -> tuple[int, int]:
    """Rows and columns of the picture's patches; InputError where they form no grid."""
    grid = explanation.segment("image").grid
    if grid is None:
        raise InputError("the patches of the picture form no grid in this model, so no pixels belong to them")
    return grid
