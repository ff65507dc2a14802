"""DEX-AR: how each layer's own guess of a token answers to its attention, in the heads that look at the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heedmap.attention.residual import ResidualTape
from heedmap.methods.layers import for_all_rows
from heedmap.methods.method import Method, count
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.methods.spoken import Spoken, spoken, undefined
from heedmap.methods.states import Block, of_stream

if TYPE_CHECKING:
    from heedmap.attention.attention import Attention

NAME = "dex_ar"
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

    hooks = [module.register_forward_hook(keep, with_kwargs=True) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


Lens = Callable[[Tensor], Tensor]
"""A layer's own logits of its states: (batch, features) → (batch, vocabulary)."""


def lens(run: TargetView, found: Spoken, last: Float[Tensor, "batch features"], ran: list[Ran]) -> Lens:
    """The model's last norm, if it has one, and its head: the modules which make the model's logits of the last layer's states.

    Args:
        run: the target's view.
        found: its token.
        last: the last layer's states at the places that say it.
        ran: the modules that made the logits, in order.

    Raises:
        UnfollowedAttentionError: there are none.
    """
    samples = torch.arange(run.batch, device=last.device)
    wanted = found.logits[samples, found.rows].detach()
    near = 1e-3 * float(wanted.abs().max())
    heads = [n for n, r in enumerate(ran) if r.made == wanted.shape[-1] and r.given == last.shape[-1]]
    before = ran[: heads[-1]] if heads else []
    norms = [r.module for r in reversed(before) if r.given == r.made == last.shape[-1] and not [*r.module.children()]]
    for number in heads[-1:]:
        head = ran[number].module
        for norm in (*norms[:NEAR], nn.Identity()):
            if torch.allclose(head(norm(last)).detach(), wanted, rtol=1e-3, atol=near):
                return _through(norm, head)
    raise undefined(
        NAME, "no head of the model makes its logits of the last layer's states, through one norm or none", HEAD
    )


def _through(norm: nn.Module, head: nn.Module) -> Lens:
    return lambda states: head(norm(states))


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    layers, ran = count(options, "layers"), list[Ran]()
    replay = run.replay
    with torch.enable_grad():
        if replay is None:
            found = spoken(run, NAME)
        else:
            with _watched(replay.model, ran):
                found = spoken(run, NAME, ResidualTape)
        assert isinstance(found.tape, ResidualTape)
        blocks = of_stream(run, found.tape, found.stream, NAME)
        states = {index: _states(block, found) for index, block in blocks.items()}
        guess = lens(run, found, states[max(states)].detach(), ran)
        kept = sorted(blocks)[-layers:]
        looks = [_look(run, found, blocks[index], index, guess(states[index])) for index in kept]
    relevance = torch.stack(looks).sum(0)
    if not bool((relevance > 0).any(-1).all()):
        run.notes.append(f"method {NAME!r}: no head answers more to the picture than to the words before the token")
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


METHOD = Method(
    name=NAME,
    summary="how each layer's own guess of the token answers to its attention, in the heads that answer to the picture most",
    source="DEX-AR, arXiv 2603.06302; by the authors' code, see the card",
    options={"layers": 10},
    prepare=_prepare,
)
