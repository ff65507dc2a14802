"""A token that a model says of a picture among its words: TAM of its logits at every place, DEX-AR of each layer's own guess."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from heedmap.attention.inputs import KEEP
from heedmap.attention.residual import ResidualTape
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan
from heedmap.errors import OptionError, TargetError
from heedmap.lrp.replay import ForwardCall
from heedmap.methods.layers import for_all_rows
from heedmap.methods.method import Method, RelevanceRows, TargetView, count, undefined
from heedmap.methods.states import BY_NUMBERS, Block, of_stream
from heedmap.outputs import class_logits

if TYPE_CHECKING:
    from heedmap.attention.attention import Attention


IDS = "input_ids"
NEEDS = "it needs a token that the model says, among the words before it the tokens of a picture, and a logit of each of them"


@dataclass(frozen=True, eq=False)
class Spoken:
    """A token that a model says of a picture among its words.

    Attributes:
        stream: the stream of both.
        tape: the recorder of the pass.
        logits: (batch, tokens, vocabulary), attached to the graph.
        wanted: (batch, vocabulary): the target is their product with the logits of its row; 1 for a token, -1 for another one
            that it is set against.
        rows: (batch,): the place that says the token.
        pictures: the picture's tokens, as they stand in the stream.
        shown: (batch, tokens): which places are of a picture.
        words: (batch, tokens): which places of words the token's place may look at.
        ids: (batch, tokens): of each word its token; -1: none.
    """

    stream: int
    tape: Tape
    logits: Float[Tensor, "batch tokens vocabulary"]
    wanted: Float[Tensor, "batch vocabulary"]
    rows: Int[Tensor, " batch"]
    pictures: Sequence[InputSpan]
    shown: Bool[Tensor, "batch tokens"]
    words: Bool[Tensor, "batch tokens"]
    ids: Int[Tensor, "batch tokens"]


def spoken(run: TargetView, method: str, recorder: Callable[..., Tape] = Tape) -> Spoken:
    """What the target is of, by one more pass under a recorder; ``method``: for messages.

    Raises:
        UnfollowedAttentionError: there is no picture among the words, no logit at each place, or the target is no token's logit
            and no difference of two.
    """
    if run.replay is None:
        raise undefined(method, BY_NUMBERS, NEEDS)
    if len(run.readouts) != 1:
        raise undefined(method, f"the target reads {len(run.readouts)} streams of tokens", NEEDS)
    ((stream, readout),) = run.readouts.items()
    spans = run.parts.get(stream, ())
    pictures = [span for span in spans if _is_picture(run, span)]
    if not pictures:
        raise undefined(method, f"among the tokens of {run.names[stream]!r} stands no picture", NEEDS)
    tape, output, values = _passed(run.replay, recorder)
    logits = _logits(run, stream, output, method)
    wanted, rows = _direction(logits, values, method)
    if not torch.equal(readout.weights[:, 0].argmax(-1), rows):
        raise undefined(method, "the places of the logits are not those of the tokens", NEEDS)
    tokens = run.graph.streams[stream].tokens
    shown = _places(pictures, tokens)
    words = _places([span for span in spans if span not in pictures], tokens) & run.visible(stream) & ~shown
    places = torch.arange(tokens, device=rows.device)
    return Spoken(
        stream,
        tape,
        logits,
        wanted,
        rows,
        pictures,
        shown & run.visible(stream),
        words & (places <= rows[:, None]),
        _ids(run, spans, tokens),
    )


def _is_picture(run: TargetView, span: InputSpan) -> bool:
    """Whether these tokens are a picture's: patches, or what a tower made of pixels."""
    source = run.graph.sources[span.leaf]
    return span.kind_hint == "image" or (source.tower and source.name.startswith("pixel"))


def _passed(replay: ForwardCall, recorder: Callable[..., Tape]) -> tuple[Tape, object, Tensor]:
    """The recorder of a pass that gives logits at every place, the output, and the target's values."""
    inputs = copy(replay.inputs)
    if isinstance(inputs, dict):
        inputs.pop(KEEP, None)
    tape = recorder(replay.batch, heads_first=replay.heads_first)
    with torch.enable_grad():
        return tape, *replace(replay, inputs=inputs).valued(tape)


def _logits(run: TargetView, stream: int, output: object, method: str) -> Tensor:
    try:
        logits = class_logits(output, 3)
    except TargetError as error:
        raise undefined(method, str(error).partition(";")[0], NEEDS) from error
    tokens = run.graph.streams[stream].tokens
    if logits.shape[1] != tokens:
        raise undefined(method, f"the logits have {logits.shape[1]} places, and the stream {tokens} tokens", NEEDS)
    return logits


def _direction(logits: Tensor, values: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """The tokens whose logits the target is made of, and the place of these."""
    gradient = None
    if values.requires_grad and logits.requires_grad:
        (gradient,) = torch.autograd.grad(values, logits, torch.ones_like(values), True, allow_unused=True)
    if gradient is None:
        raise undefined(method, "the target is not made of the logits", NEEDS)
    read = (gradient != 0).any(-1)
    wanted = gradient.sum(1)
    made = (gradient * logits.detach()).sum((1, 2))
    linear = torch.allclose(made, values.detach(), rtol=1e-3, atol=1e-3 * float(logits.detach().abs().max()))
    if not bool((read.sum(1) == 1).all()) or not linear or bool(((wanted != 0).sum(1) > 2).any()):
        raise undefined(method, "the target is not the logit of one token, nor that less another token's", NEEDS)
    return wanted, read.int().argmax(1)


def _places(spans: Sequence[InputSpan], tokens: int) -> Bool[Tensor, "batch tokens"]:
    """Which places of a stream these tokens are at."""
    each = []
    for span in spans:
        at = torch.zeros(len(span.positions), tokens + 1, dtype=torch.bool, device=span.positions.device)
        each.append(at.scatter(1, span.positions.masked_fill(span.positions < 0, tokens), True)[:, :tokens])
    return torch.stack(each).any(0) if each else torch.zeros(1, tokens, dtype=torch.bool)


def _ids(run: TargetView, spans: Sequence[InputSpan], tokens: int) -> Int[Tensor, "batch tokens"]:
    """The token at each place of a word; -1: none, or only its features were given."""
    assert run.replay is not None
    given = run.replay.inputs.get(IDS)
    ids = torch.full((run.batch, tokens + 1), -1, device=run.attentions[0].value.device)
    for span in spans:
        if span.name == IDS and isinstance(given, Tensor) and given.shape == span.positions.shape:
            ids.scatter_(1, span.positions.masked_fill(span.positions < 0, tokens), given.to(ids))
    return ids[:, :tokens]


WINDOW = 3
"""Rows and columns of the filter."""


def filtered(picture: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The rank-Gaussian filter: of each window of 3×3 its sorted values, weighted by their distance from the median's rank.

    The weights are exp(−d² / 2σ²), σ the window's standard deviation over its mean; where σ is 0, the median. Windows at the
    border see the picture mirrored.
    """
    pad = [WINDOW // 2 if size > WINDOW // 2 else 0 for size in picture.shape]
    edge = F.pad(picture[None, None], (pad[1], pad[1], pad[0], pad[0]), mode="reflect")[0, 0]
    windows = edge.unfold(0, 1 + 2 * pad[0], 1).unfold(1, 1 + 2 * pad[1], 1).flatten(2).sort(-1).values
    size = windows.shape[-1]
    ranks = torch.arange(size, dtype=picture.dtype, device=picture.device) - size // 2
    mean = windows.mean(-1, keepdim=True)
    spread = windows.std(-1, correction=0, keepdim=True) / torch.where(mean > 0, mean, 1.0)
    weights = torch.exp(-ranks.square() / (2 * spread.square()).clamp(min=torch.finfo(picture.dtype).tiny))
    return (windows * weights / weights.sum(-1, keepdim=True)).sum(-1).masked_fill(mean[..., 0] <= 0, 0.0)


def without(own: Float[Tensor, " tokens"], others: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """A map less another one, scaled so that the squares of what is left are least, where that is above 0."""
    size = others.square().sum()
    scale = torch.where(size > 0, (own * others).sum() / torch.where(size > 0, size, 1.0), 0.0)
    return (own - scale * others).clamp(min=0)


def _grid(run: TargetView, span: InputSpan, options: Mapping[str, object]) -> tuple[int, int] | None:
    """Rows and columns of a picture's tokens; of a square number of them that nothing tells more of, as many of both."""
    tokens = span.positions.shape[1]
    grid = options["grid"]
    if grid is not None:
        rows, columns = grid if isinstance(grid, Iterable) else (0, 0)
        if rows * columns != tokens:
            raise OptionError(f"grid is {grid!r}, and the picture has {tokens} tokens")
        return rows, columns
    if span.grid is not None:
        return span.grid
    tensor, side = run.graph.sources[span.leaf].tensor, isqrt(tokens)
    whole = tensor is not None and tensor.shape[:2] == (run.batch, tokens)
    told = f"{side} rows and columns; grid=(rows, columns) says others" if whole and side**2 == tokens else ""
    note = f"method 'tam': how the picture's {tokens} tokens lie is not known"
    run.notes.append(f"{note}; they are taken as {told}" if told else f"{note}, so they are not filtered")
    return (side, side) if told else None


def _said(found: Spoken, sample: int, place: int, first: bool) -> int:
    """The token of which a word's own map is: itself; of the first one, what the model says there."""
    return int(found.logits[sample, place].argmax()) if first else int(found.ids[sample, place])


def _of_sample(run: TargetView, found: Spoken, sample: int, options: Mapping[str, object]) -> Float[Tensor, " tokens"]:
    """The relevance of each token of the stream."""
    dtype = run.attentions[0].dtype
    logits, wanted = found.logits[sample].detach().to(dtype), found.wanted[sample].to(dtype)
    activations = (logits @ wanted).clamp(min=0)
    shown = found.shown[sample].nonzero()[:, 0]
    later = found.words[sample].nonzero()[:, 0]
    words: Int[Tensor, " words"] = later[later > shown.max()] if len(shown) else later
    own = activations[shown]
    token = int(wanted.argmax())
    others = [
        (place, _said(found, sample, place, number == 0))
        for number, place in enumerate(words.tolist())
        if int(found.ids[sample, place]) != token
    ]
    if others and options["interference"]:
        places, tokens = (torch.tensor(column, device=logits.device) for column in zip(*others, strict=True))
        weights = activations[places]
        maps = logits[shown][:, tokens].clamp(min=0)
        own = without(own, maps @ (weights / (weights.sum() + 1e-8)))
    before = words[words != int(found.rows[sample])]
    together = torch.cat([own, activations[before]])
    least, span = together.min(), together.max() - together.min()
    together = torch.where(span > 0, (together - least) / torch.where(span > 0, span, 1.0), 0.0)
    relevance = torch.zeros_like(activations)
    relevance[shown], relevance[before] = together[: len(shown)], together[len(shown) :]
    return relevance


def _tam(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    found = spoken(run, "tam")
    relevance = torch.stack([_of_sample(run, found, sample, options) for sample in range(run.batch)])
    for span in found.pictures:
        grid = _grid(run, span, options) if options["filter"] else None
        if grid is None:
            continue
        places = span.positions.to(relevance.device)
        for sample in range(run.batch):
            if bool((places[sample] >= 0).all()):
                picture = relevance[sample, places[sample]].reshape(grid)
                relevance[sample, places[sample]] = filtered(picture).flatten()
    return for_all_rows(run, [(found.stream, found.stream, relevance)])


TAM = Method(
    name="tam",
    summary="where in a picture the model would say the token too, less what earlier words would make of it",
    source="Li et al., Token Activation Map, ICCV 2025, arXiv 2506.23270; by the authors' public code",
    options={"interference": True, "filter": True, "grid": None},
    prepare=_tam,
)


HEAD = "it needs the model's last norm and its head, as modules which alone make the logits of the last layer's states"
NEAR = 4
"""So many modules before the head are looked at for the last norm."""


class Ran(NamedTuple):
    """A module that ran: the number of features that it was given first, and that it gave."""

    module: nn.Module
    given: int
    made: int


@contextmanager
def _watched(model: nn.Module, ran: list[Ran]) -> Iterator[None]:
    """Modules that are given a tensor first and give one are written down as they end."""

    def keep(module: nn.Module, given: tuple[object, ...], keywords: dict[str, object], made: object) -> None:
        first = next((value for value in (*given, *keywords.values()) if isinstance(value, Tensor)), None)
        if first is not None and isinstance(made, Tensor) and first.dim() and made.dim():
            ran.append(Ran(module, first.shape[-1], made.shape[-1]))

    with ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(keep, with_kwargs=True))
        yield


def lens(run: TargetView, found: Spoken, last: Float[Tensor, "batch features"], ran: list[Ran]) -> nn.Module:
    """The model's last norm, if it has one, and its head: the modules which make the model's logits of the last layer's states.

    Args:
        run: the target's view.
        found: its token.
        last: the last layer's states at the places that say it.
        ran: the modules that made the logits, in order.

    Returns:
        What makes a layer's own logits of its states: (batch, features) → (batch, vocabulary).

    Raises:
        UnfollowedAttentionError: there are none.
    """
    samples = torch.arange(run.batch, device=last.device)
    wanted = found.logits[samples, found.rows].detach()
    near = 1e-3 * float(wanted.abs().max())
    heads = [n for n, r in enumerate(ran) if r.made == wanted.shape[-1] and r.given == last.shape[-1]]
    if heads:
        head, before = ran[heads[-1]].module, reversed(ran[: heads[-1]])
        norms = [r.module for r in before if r.given == r.made == last.shape[-1] and not [*r.module.children()]]
        for norm in (*norms[:NEAR], nn.Identity()):
            both = nn.Sequential(norm, head)
            if torch.allclose(both(last).detach(), wanted, rtol=1e-3, atol=near):
                return both
    raise undefined(
        "dex_ar", "no head of the model makes its logits of the last layer's states, through one norm or none", HEAD
    )


def _dex_ar(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    layers, ran = count(options, "layers"), list[Ran]()
    with torch.enable_grad():
        with nullcontext() if run.replay is None else _watched(run.replay.model, ran):
            found = spoken(run, "dex_ar", ResidualTape)
        assert isinstance(found.tape, ResidualTape)
        blocks = of_stream(run, found.tape, found.stream, "dex_ar")
        states = {index: _states(block, found) for index, block in blocks.items()}
        guess = lens(run, found, states[max(states)].detach(), ran)
        kept = sorted(blocks)[-layers:]
        looks = [_look(run, found, blocks[index], index, guess(states[index])) for index in kept]
    relevance = torch.stack(looks).sum(0)
    if not bool((relevance > 0).any(-1).all()):
        run.notes.append("method 'dex_ar': no head answers more to the picture than to the words before the token")
    return for_all_rows(run, [(found.stream, found.stream, relevance)])


def _states(block: Block, found: Spoken) -> Float[Tensor, "batch features"]:
    """What a block hands on at the places that say the token."""
    last = (block.around, *block.after)[-1]
    return last.result[torch.arange(len(found.rows), device=found.rows.device), found.rows]


def _look(
    run: TargetView, found: Spoken, block: Block, index: int, logits: Float[Tensor, "batch vocabulary"]
) -> Float[Tensor, "batch tokens"]:
    """Σ_h w_h (∂s/∂A_h)⁺ at the row that says the token, s the layer's own score of it; w_h = (max of picture − of words)⁺."""
    score = (logits * found.wanted.detach()).sum()
    (pulled,) = torch.autograd.grad(score, block.attention.out, retain_graph=True)
    attention, gradient = run.attentions[index], block.attention.layout.apply(pulled)
    positive = torch.stack([_row(attention, gradient, sample, int(row)) for sample, row in enumerate(found.rows)])
    of_picture, of_words = (_most(positive, where) for where in (found.shown, found.words))
    weights = (of_picture - of_words).clamp(min=0)
    return (weights * positive * (found.shown | found.words)[:, None]).sum(1)


def _row(attention: Attention, gradient: Tensor, sample: int, row: int) -> Float[Tensor, "heads keys"]:
    """(∂s/∂A)⁺ of one row of a sample, where it may look."""
    rows = slice(row, row + 1)
    seen = attention.probabilities(rows)[sample, :, 0] > 0
    return attention.gradient(gradient, rows)[sample, :, 0].clamp(min=0) * seen


def _most(values: Float[Tensor, "batch heads keys"], where: Tensor) -> Float[Tensor, "batch heads 1"]:
    """The largest of some keys; 0 where there are none."""
    return values.masked_fill(~where[:, None], 0.0).amax(-1, keepdim=True)


DEX_AR = Method(
    name="dex_ar",
    summary="how each layer's own guess of the token answers to its attention, in the heads that answer to the picture most",
    source="DEX-AR, arXiv 2603.06302; by the authors' code, see the card",
    options={"layers": 10},
    prepare=_dex_ar,
)
