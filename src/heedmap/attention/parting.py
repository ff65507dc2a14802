"""Copies of tokens that go separate ways (a picture for each of several prompts): from there on they are tokens of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.blocks import BlockAttention
from heedmap.attention.placed import PlacedTape
from heedmap.attention.returned import tensors_of

READERS, DRAWS = 4, 4
"""So many tensors that read an attention are looked at, at so many of their elements."""


def parted(tape: PlacedTape, live: Iterable[int], output: Any) -> frozenset[int]:
    """The first attention, by its call, in which a token asks in several blocks that are not read together later.

    Heads in windows of their own are so read: whatever hears the token, hears all of them.

    Args:
        tape: a recording in which the outputs of attention are cut.
        live: the attentions and mixers that count.
        output: what the model returned.
    """
    for event in (tape.attentions[i] for i in sorted(live)):
        if isinstance(event, BlockAttention) and _asks_in_several(event):
            readers = islice(_readers(tape, event, output), READERS)
            if any(_is_apart(event, tensor) for tensor in readers):
                return frozenset([event.call])
    return frozenset()


def _asks_in_several(event: BlockAttention) -> bool:
    ids = event.query_ids[event.query_ids >= 0]
    return len(ids.unique()) < len(ids)


def _readers(tape: PlacedTape, event: BlockAttention, output: Any) -> Iterator[Tensor]:
    """What the model returns of an attention, and what later ones read of it."""
    (source,) = (i for i, s in enumerate(tape.sources) if s.kind == "attention" and s.attention == event.index)
    later = (t for a in tape.attentions[event.index + 1 :] for t, _ in tape.reads[a.index])
    for tensor in (*later, *tensors_of(output)):
        if tensor.requires_grad and source in tape.tag(tensor).sources:
            yield tensor


def _is_apart(event: BlockAttention, tensor: Tensor) -> bool:
    """Whether an element depends on a token in one of its blocks, and not in another."""
    ids = event.query_ids
    count = torch.zeros(int(ids.max()) + 2, dtype=torch.int64)
    blocks = count.index_add(0, ids.flatten(), torch.ones_like(ids.flatten()))
    for place in torch.randint(tensor.numel(), (DRAWS,)).tolist():
        chosen = torch.zeros_like(tensor.detach().flatten())
        chosen[place] = 1
        (gradient,) = torch.autograd.grad(
            tensor, event.out, chosen.view(tensor.shape), retain_graph=True, allow_unused=True
        )
        if gradient is None:
            continue
        heard = (event.layout.apply(gradient) != 0).any(-1).any(1).cpu()
        reached = count.index_add(0, ids.flatten(), heard.flatten().long())[:-1]
        if bool(((reached > 0) & (reached < blocks[:-1])).any()):
            return True
    return False
