"""An answer that rests on a part of the input alone: one of several choices, or one of several texts beside a picture.

Multiple choice has ids (batch, choices, tokens) and a score for each choice, (batch, choices); a dual encoder with several texts
for a picture gives (images, texts); a detector that is asked for texts gives (batch, boxes, texts). Each score is made of one
choice (one text) alone. So the model is run once on all of it, to see which one is meant and what the others score; what is
explained is a run on that part alone, after it was seen to give the same score.

Any other target (a callable) means the part that it depends on, which its gradient tells; where it depends on several choices,
all choices of a sample are one input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import count

import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from heedmap.attention.at_rest import seed
from heedmap.attention.inputs import ModelInputs, called, check_no_cache, contents, detached, misfit
from heedmap.common.memory import ran_out
from heedmap.errors import InputError, MixingError, TargetError
from heedmap.outputs import LOGITS, Context, get, ranked
from heedmap.targets import Chosen, ClassLogit, DetectionQuery, Similarity, Target, TopPrediction, in_range, per_sample
from heedmap.targets.target import again_of

Placed = tuple[tuple[Tensor, ...], Tensor]
"""Where in a tensor of the whole answer one of a part's belongs, as an index, and what of it."""

Place = Callable[[Tensor, Tensor], Placed | None]
"""(a tensor of the whole answer, the same of a part's) → where the second belongs in the first; None: nowhere."""


@dataclass(frozen=True, eq=False)
class Whole:
    """One run on the whole input.

    Attributes:
        what: what a part is called, ``"choice"`` or ``"text"``.
        inputs: all of them.
        scores: (batch, parts), or of each box (batch, boxes, parts).
        read: an output → its scores.
        take: the part of each sample, (batch,) → the tensors of these parts.
        output: of the model, of which ``scores`` are a part.
        place: the parts of each sample, (batch,), with a tensor of the output and that of a run on these parts alone → where the
            second belongs in the first, as of a :data:`Place`.
        parts_of: a tensor of the output, and a gradient of it → the parts on which that falls, (batch, parts); None: it has none.
        exclusive: whether one part is right; False: each by itself; None: the scores are no logits.
        mixed: why no part stands for itself; empty where it does.
    """

    what: str
    inputs: ModelInputs
    scores: Tensor
    read: Callable[[object], Tensor | None]
    take: Callable[[Tensor], dict[str, Tensor]]
    output: object
    place: Callable[[Tensor, Tensor, Tensor], Placed | None]
    parts_of: Callable[[Tensor, Tensor], Tensor | None]
    exclusive: bool | None
    mixed: str = ""

    @property
    def parts(self) -> int:
        """How many there are of each sample."""
        return self.scores.shape[-1]

    def part(self, target: Target, context: Context) -> PartScore | Within | None:
        """The part that ``target`` means: its own index or label; without one the part with the highest score.

        Of any other target, the part that it depends on; None where it depends on several choices.

        Raises:
            TargetError: the target depends on several texts.
        """
        boxes = self.scores.dim() == 3
        if isinstance(target, (TopPrediction, ClassLogit)) or (isinstance(target, DetectionQuery) and boxes):
            label, query = target.label, target.query if isinstance(target, DetectionQuery) else None
        elif isinstance(target, Similarity) and target.reference is None and not boxes:
            label, query = None, None
        else:
            return self._depended_on(target, context)
        wanted = [
            None if i is None else in_range(context.index(i) if isinstance(i, str) else i, self.parts, self.what)
            for i in per_sample(label, len(self.scores), self.what)
        ]
        places = [self._best(sample, index, query) for sample, index in enumerate(wanted)]
        box, picked = torch.tensor(places, device=self.scores.device).T
        return PartScore(self, picked, box if boxes else None)

    def _depended_on(self, target: Target, context: Context) -> Within | None:
        tensors, several = tensors_of(self.output), False
        row = self.scores if self.scores.dim() == 2 else self.scores[:, 0]
        asked = torch.zeros_like(row, dtype=torch.bool)
        read = gradients(self.output, lambda output: target.choose(output, context).values)
        for number, gradient in read.items():
            parts = self.parts_of(tensors[number], gradient)
            several |= parts is None
            asked |= False if parts is None else parts.to(asked.device)
        if not several and bool((asked.sum(1) == 1).all()):
            return Within(self, asked.int().argmax(1), target, context, frozenset(read))
        if self.what == "choice":
            return None
        texts = [row.nonzero()[:, 0].tolist() for row in asked]
        raise TargetError(
            f"each sample has {self.parts} texts, of which one is explained, and this target ({type(target).__name__}) depends "
            f"{'on what the model makes beside its scores' if several else f'on texts {texts} of the samples'}; give target=None "
            f"for the most probable text, its index, 0 to {self.parts - 1}, or a target of the score of one text; or call the "
            "model with one text a sample"
        )

    def _best(self, sample: int, part: int | None, box: int | None) -> tuple[int, int]:
        """The box (0 where there are none) and the part of the highest score, among those that were asked for."""
        scores = self.scores[sample].float()
        scores = scores if scores.dim() == 2 else scores[None]
        rows = range(len(scores)) if box is None else [in_range(box, len(scores), "query")]
        columns = range(self.parts) if part is None else [part]
        best = int(scores[list(rows)][:, list(columns)].argmax())
        return rows[best // len(columns)], columns[best % len(columns)]

    def narrowed(self, part: PartScore | Within) -> ModelInputs:
        """The inputs with this part of each sample alone; without labels for a loss, which would be of the whole."""
        less = copy.copy(self.inputs)
        for name in [name for name in less if "labels" in name]:
            del less[name]
        less.update(self.take(part.picked))
        return less


@dataclass(frozen=True, eq=False)
class Within(Target):
    """Another target, of a run on the one part of each sample on which it depends.

    Attributes:
        whole: the run on all parts.
        picked: (batch,), the part of each sample.
        target: of an output for all parts.
        context: of all inputs.
        read: the tensors of that output on which the target depends, by number.
    """

    whole: Whole
    picked: Tensor
    target: Target
    context: Context
    read: frozenset[int]

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`; the other parts are as they were in the run on all.

        Raises:
            MixingError: what the target reads is something else without the other parts.
        """
        before, (spread_out, put) = tensors_of(self.whole.output), self._spread(output)
        what = self.whole.what
        if any(number not in put or differs(before[number], put[number]) for number in self.read):
            raise MixingError(
                f"what the target reads of {what} {self.picked.tolist()} is something else without the other {what}s: they "
                "influence one another, so a map of one alone would be wrong, and there is none"
            )
        chosen = self.target.choose(spread_out, self.context)
        picked = zip(chosen.words, self.picked.tolist(), strict=True)
        words = tuple(f"{word}, {what} {index} (of {self.whole.parts})" for word, index in picked)
        values = again_of(self.target, chosen, self.context)
        return replace(chosen, words=words, again=lambda output: values(self._spread(output)[0]))

    def _spread(self, output: object) -> tuple[object, dict[int, Tensor]]:
        return spread(self.whole.output, output, partial(self.whole.place, self.picked))


@dataclass(frozen=True, eq=False)
class PartScore(Target):
    """The score of one part of each sample, of a run on that part alone.

    Attributes:
        whole: the run on all parts.
        picked: (batch,), the part of each sample.
        box: (batch,), where each part has a score for each box.
    """

    whole: Whole
    picked: Tensor
    box: Tensor | None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`; probabilities and prediction are those of the run on all parts.

        Raises:
            MixingError: the score is another one without the other parts.
        """
        values = self.values(output)
        why = "the output has another shape" if values is None else self.difference(values)
        if values is None or why:
            raise MixingError(why)
        row = self.row
        name, what = partial(self._name, context), self.whole.what
        words = []
        for sample, index in enumerate(self.picked.tolist()):
            query = "" if self.box is None else f"query {int(self.box[sample])}, "
            label = "" if name(index) == f"{what} {index}" else f": {name(index)}"
            words.append(f"{query}{what} {index} (of {self.whole.parts}){label}")
        top, exclusive = row.argmax(-1), self.whole.exclusive
        odds = None if exclusive is None else ranked(row, self.picked, name, exclusive=exclusive)
        return Chosen(values, tuple(words), top, self.again, odds, tuple(map(name, top.tolist())))

    def again(self, output: object) -> Tensor:
        """The values of another output, of whatever inputs."""
        values = self.values(output)
        if values is None:
            raise TargetError(f"the output for one {self.whole.what} a sample has another shape than before")
        return values

    def values(self, output: object) -> Tensor | None:
        """(batch,): the scores of the parts; None where the output is not as it has to be for one part a sample."""
        scores, batch = self.whole.read(output), len(self.picked)
        if scores is None:
            return None
        if self.box is not None:
            fits = scores.shape == (*self.whole.scores.shape[:2], 1)
            return scores[torch.arange(batch, device=scores.device), self.box, 0] if fits else None
        if self.whole.what == "choice":
            return scores[:, 0] if scores.shape == (batch, 1) else None
        return scores.diagonal() if scores.shape == (batch, batch) else None

    @property
    def row(self) -> Tensor:
        """(batch, parts): the scores of all parts; of boxes, at the box."""
        scores = self.whole.scores
        return scores if self.box is None else scores[torch.arange(len(scores), device=scores.device), self.box]

    def difference(self, values: Tensor) -> str:
        """Why these are not the values of the run on all parts; empty where they are, but for rounding."""
        alone, among = values.detach(), self.row.gather(1, self.picked[:, None])[:, 0]
        size = self.whole.scores
        if self.box is not None:  # parts that are padding have the lowest number there is
            size = size.gather(2, self.picked[:, None, None].expand(*size.shape[:2], 1))[..., 0]
        allowed = torch.finfo(values.dtype).eps ** 0.5 * size.abs().amax(-1).double()
        if bool(((alone.double() - among.double()).abs() <= allowed).all()) or not bool(torch.isfinite(among).all()):
            return ""
        what = self.whole.what
        return (
            f"{what} {self.picked.tolist()} has the score {_told(alone)} alone, and {_told(among)} beside the other "
            f"{what}s: the {what}s influence one another, so a map of one alone would be wrong, and there is none"
        )

    def _name(self, context: Context, index: int) -> str:
        label = context.short(index)
        return f"{self.whole.what} {index}" if label == f"class {index}" else label


def whole(model: nn.Module, inputs: ModelInputs, context: Context) -> Whole | None:
    """A run on the whole input, where its answer rests on parts of it alone; None: it is to be explained as it is.

    To be called within :func:`heedmap.attention.at_rest.recording_state`.

    Raises:
        InputError: a cache of earlier tokens is given, or batches are unequal and the model refuses them.
        MixingError: several texts of a picture influence one another.
    """
    content = [inputs[name] for name in contents(inputs)]
    sizes = {value.shape[0] for value in content}
    ids = [value for value in content if not value.is_floating_point()]
    choices = {tuple(value.shape[:2]) for value in ids if value.dim() == 3}
    if not ids or 0 in sizes or not (len(sizes) == 2 or (len(sizes) == len(choices) == 1)):
        return None
    check_no_cache(inputs)
    output = answer(model, inputs)
    if len(sizes) == 2:
        if isinstance(output, Exception):
            raise InputError(_refused(model, inputs, output)) from output
        whole_run = _texts(model, inputs, context, output, sizes)
    else:
        whole_run = _choices(inputs, context, output, *choices.pop())
    if whole_run is None:
        return None
    part = whole_run.part(TopPrediction(), context)
    assert isinstance(part, PartScore)
    values = part.values(answer(model, whole_run.narrowed(part)))
    if values is None:
        return None
    why = part.difference(values)
    if why and whole_run.what == "text":
        raise MixingError(why)
    return replace(whole_run, mixed=why)


def answer(model: nn.Module, inputs: ModelInputs) -> object:
    """What the model answers; where it refuses the inputs, its exception, which has no scores."""
    seed()
    try:
        with torch.no_grad():
            return called(model, detached(inputs.given()))
    except Exception as error:
        if ran_out(error):
            raise
        return error


def _refused(model: nn.Module, inputs: ModelInputs, error: Exception) -> str:
    shapes = ", ".join(f"{name} {tuple(inputs[name].shape)}" for name in contents(inputs))
    return (
        f"the inputs have unequal batches ({shapes}), which {type(model).__name__} refuses: "
        f"{misfit(model, inputs) or repr(error)} (if sample i of each belongs together, repeat the smaller one)"
    )


def _choices(inputs: ModelInputs, context: Context, output: object, batch: int, count: int) -> Whole | None:
    read = partial(_score_of_each, context, batch)
    scores = read(output)
    if count < 2 or scores is None or scores.shape != (batch, count):
        return None
    parted = {n: v for n, v in inputs.items() if isinstance(v, Tensor) and v.shape[:2] == (batch, count)}

    def take(picked: Tensor) -> dict[str, Tensor]:
        return {n: v[torch.arange(batch, device=v.device), picked.to(v.device)][:, None] for n, v in parted.items()}

    def parts_of(tensor: Tensor, gradient: Tensor) -> Tensor | None:
        whole = tensor.shape[:2] == (batch, count) or tensor.shape[:1] == (batch * count,)
        return (gradient != 0).reshape(batch, count, -1).any(-1) if whole else None

    return Whole(
        "choice", inputs, scores.detach(), read, take, output, partial(_at_choice, count), parts_of, context.exclusive
    )


def _at_choice(count: int, picked: Tensor, whole: Tensor, part: Tensor) -> Placed | None:
    """Where one choice of each sample is in a tensor of (batch, choices, …) or of (batch · choices, …)."""
    rows, picked = torch.arange(len(picked), device=whole.device), picked.to(whole.device)
    if whole.shape[:2] == (len(rows), count) and part.shape == (len(rows), 1, *whole.shape[2:]):
        return (rows, picked), part[:, 0]
    if whole.shape[:1] == (len(rows) * count,) and part.shape == (len(rows), *whole.shape[1:]):
        return (rows * count + picked,), part
    return None


def _score_of_each(context: Context, batch: int, output: object) -> Tensor | None:
    """(batch, choices): of the logits in the output, the ones with two dimensions."""
    if isinstance(output, Tensor):
        return output if output.dim() == 2 else None
    read = context.read(output)
    names = [n for n in read if isinstance(n, str) and "logits" in n] if isinstance(read, Mapping) else []
    parts = [get(read, name) for name in (*LOGITS, *names)] if not isinstance(read, (tuple, list)) else read
    fits = (p for p in parts if isinstance(p, Tensor) and p.dim() == 2 and len(p) == batch and p.is_floating_point())
    return next(fits, None)


def _texts(model: nn.Module, inputs: ModelInputs, context: Context, output: object, sizes: set[int]) -> Whole | None:
    read = partial(_score_of_boxes if get(context.read(output), "pred_boxes") is not None else _score_of_pairs, context)
    scores = read(output)
    if scores is None or not scores.numel():
        return None
    batch, parts, boxes = len(scores), scores.shape[-1], scores.dim() == 3
    texts = batch * parts if boxes else parts
    if {batch, texts} != sizes:
        return None
    parted = {n: v for n, v in inputs.items() if isinstance(v, Tensor) and v.dim() > 0 and len(v) == texts}
    if all(parted[name].is_floating_point() for name in contents(inputs) if name in parted):
        return None

    def take(picked: Tensor) -> dict[str, Tensor]:
        rows = picked + torch.arange(batch, device=picked.device) * parts if boxes else picked
        return {n: v[rows.to(v.device)] for n, v in parted.items()}

    logits = boxes or get(context.read(output), "logits_per_image") is not None
    alone = boxes or getattr(model, "logit_bias", None) is not None  # each pair is right or wrong by itself

    def parts_of(tensor: Tensor, gradient: Tensor) -> Tensor | None:
        turned = _as_scores(tensor, scores)
        return None if turned is None else (turned(gradient) != 0).reshape(batch, -1, parts).any(1)

    exclusive = not alone if logits else None
    return Whole("text", inputs, scores.detach(), read, take, output, partial(_at_text, scores), parts_of, exclusive)


def _as_scores(tensor: Tensor, scores: Tensor) -> Callable[[Tensor], Tensor] | None:
    """What brings a tensor of the output that holds the scores to their layout; None: it holds something else."""
    if tensor.shape == scores.shape and torch.equal(tensor, scores):
        return lambda t: t
    return (
        torch.t if scores.dim() == 2 and tensor.shape == scores.shape[::-1] and torch.equal(tensor.T, scores) else None
    )


def _at_text(scores: Tensor, picked: Tensor, whole: Tensor, part: Tensor) -> Placed | None:
    """Where the score of one text of each picture is in a tensor of scores."""
    turned, rows = _as_scores(whole, scores), torch.arange(len(scores), device=scores.device)
    if turned is None:
        return None
    if scores.dim() == 3:
        return (rows[:, None], torch.arange(scores.shape[1], device=rows.device), picked[:, None]), part[..., 0]
    index = (rows, picked) if turned(whole) is whole else (picked, rows)
    return index, part.diagonal()


def _score_of_boxes(context: Context, output: object) -> Tensor | None:
    """(batch, boxes, texts)."""
    output = context.read(output)
    logits, boxes = get(output, "logits"), get(output, "pred_boxes")
    if not (isinstance(logits, Tensor) and isinstance(boxes, Tensor) and logits.dim() == 3):
        return None
    return logits if logits.shape[:2] == boxes.shape[:2] else None


def _score_of_pairs(context: Context, output: object) -> Tensor | None:
    """(images, texts): their logits, or the cosine of their embeddings."""
    output = context.read(output)
    logits = get(output, "logits_per_image")
    if isinstance(logits, Tensor):
        return logits if logits.dim() == 2 else None
    image, text = (get(output, f"{side}_features") for side in ("image", "text"))
    if image is None and isinstance(output, (tuple, list)) and len(output) >= 2:
        image, text = (features if isinstance(features, Tensor) else None for features in output[:2])
    if image is None or text is None or image.dim() != 2 or text.dim() != 2 or image.shape[1] != text.shape[1]:
        return None
    return torch.cosine_similarity(image[:, None], text[None], dim=-1)


def _told(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.tolist()) + "]"


# -- an answer on a part, in its place in the answer on the whole ------------------------------------------------------------
#
# So any target, however it reads an output, can be asked of a run on a part: the rest is as it was, and has no gradient.
# The samples of a batch that are run one by one (one_by_one.py) are put in place by it, too.


def tensors_of(output: object) -> list[Tensor]:
    """The tensors of an output, in order: their numbers are their places here."""
    tensors: list[Tensor] = []

    def keep(number: int, tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    _mapped(output, keep)
    return tensors


def _mapped(output: object, change: Callable[[int, Tensor], Tensor]) -> object:
    """The output with other tensors; ``change`` gets the number of each, and it."""
    return tree.tree_map(partial(_changed, change, count()), output)


def _changed(change: Callable[[int, Tensor], Tensor], numbers: Iterator[int], value: object) -> object:
    """A part of an output; no function within a function, which would keep the graph until garbage is looked for."""
    if isinstance(value, Tensor):
        return change(next(numbers), value)
    if is_dataclass(value) and not isinstance(value, (type, Mapping)):
        again = partial(_changed, change, numbers)
        return replace(value, **{f.name: tree.tree_map(again, getattr(value, f.name)) for f in fields(value) if f.init})
    return value


def gradients(output: object, function: Callable[[object], Tensor]) -> dict[int, Tensor]:
    """The gradient of ``function(output).sum()`` to each of the output's tensors, by number, where it is not zero."""
    begun: dict[int, Tensor] = {}

    def begin(number: int, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        begun[number] = tensor.detach().clone().requires_grad_()
        return begun[number]

    with torch.enable_grad():
        values = function(_mapped(output, begin))
        if not values.requires_grad:
            return {}
        gradients = torch.autograd.grad(values.sum(), list(begun.values()), allow_unused=True)
    return {n: g for n, g in zip(begun, gradients, strict=True) if g is not None and bool((g != 0).any())}


def spread(whole: object, part: object, place: Place) -> tuple[object, dict[int, Tensor]]:
    """``whole`` with what ``part`` has in its place, and the tensors in which there was something to put, by number."""
    of_part = tensors_of(part)
    put: dict[int, Tensor] = {}

    def with_part(number: int, tensor: Tensor) -> Tensor:
        placed = place(tensor, of_part[number]) if number < len(of_part) else None
        if placed is None or not tensor.is_floating_point():
            return tensor
        index, values = placed
        put[number] = tensor.detach().index_put(index, values)
        return put[number]

    return _mapped(whole, with_part), put


def differs(whole: Tensor, put: Tensor) -> bool:
    """Whether what was put is not what was there, but for rounding; where there was no number of a size, it may be any."""
    before, now = whole.detach().double(), put.detach().double()
    real = before.abs() < torch.finfo(whole.dtype).max / 4  # a mask's least number is no answer
    before, now = before[real], now[real]
    if not before.numel():
        return False
    return not bool((now - before).abs().amax() <= torch.finfo(whole.dtype).eps ** 0.5 * before.abs().amax())
