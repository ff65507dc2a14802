"""A target that is a token which the model says: its logits at every place, and where pictures and words stand among these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heedmap.attention.at_rest import seed
from heedmap.attention.forward import call
from heedmap.attention.inputs import KEEP
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan
from heedmap.errors import TargetError, UnfollowedAttentionError
from heedmap.lrp.replay import ForwardCall
from heedmap.methods.run import TargetView
from heedmap.methods.states import BY_NUMBERS
from heedmap.outputs import class_logits

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


def undefined(method: str, why: str, needs: str) -> UnfollowedAttentionError:
    """The error that a model cannot have a method."""
    return UnfollowedAttentionError(
        f"method {method!r} is not defined here: {why}; {needs}, so there is no map; choose 'generic', or another of "
        "heedmap.METHODS"
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
    seed()
    with torch.enable_grad():
        output = call(replay.model, inputs, tape)
        with tape:
            values = replay.value(output)
    return tape, output, values


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
