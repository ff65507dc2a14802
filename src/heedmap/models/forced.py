"""One pass in which a model is given the whole answer, each row saying the next token; a long one in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from heedmap.attention.inputs import signature
from heedmap.common.progress import Progress
from heedmap.engine.stepwise import SaidTokens, Stepwise
from heedmap.errors import AttentionError, InputError
from heedmap.models.saying import mask_name, places_of
from heedmap.outputs import get

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Forced:
    """What the model is called with, and where prompt and answer are in it.

    Padding is at the end: whatever side the prompts were padded on, each text begins at place 0, as it does alone.

    Attributes:
        inputs: of the forward pass.
        name: of the ids among the inputs.
        prompt: (batch, prompt tokens), int64: where each token of the prompts as given is among the ids; -1: padding.
        answer: (batch, steps), int64: where each token of the answer is; -1: it is not among them, being the last, or ended.
        rows: (batch, steps), int64: the token after which each is said; -1 after the end.
        tokens: (batch, steps), int64: the answer; -1 after the end.
        columns: those of the inputs that have a value for each token.
    """

    inputs: dict[str, object]
    name: str
    prompt: Int[Tensor, "batch prompt"]
    answer: Int[Tensor, "batch steps"]
    rows: Int[Tensor, "batch steps"]
    tokens: Int[Tensor, "batch steps"]
    columns: dict[str, Tensor]

    def length(self, steps: int) -> int:
        """The number of tokens that the first steps are said after, of the sample that has most."""
        return int(self.rows[:, :steps].max()) + 1

    def up_to(self, length: int) -> dict[str, object]:
        """The inputs with so many tokens."""
        return self.inputs | {name: value[:, :length] for name, value in self.columns.items()}


def forced(
    inputs: Mapping[str, object],
    name: str,
    prompts: Int[Tensor, "batch prompt"],
    answers: Sequence[Sequence[int]],
    grown: Mapping[str, Tensor],
) -> Forced:
    """The inputs with answers after their prompts.

    Args:
        inputs: what ``generate`` is called with.
        name: of the ids that the answer goes on: ``"input_ids"`` or ``"decoder_input_ids"``.
        prompts: these ids, as the model itself begins.
        answers: for each sample the tokens that follow, one or more.
        grown: the inputs that have a value for each token of the prompt, with one more of a token that is said.
    """
    mask = grown.get(mask_name(name))
    spans = [_span(row) for row in (torch.ones_like(prompts) if mask is None else mask[:, :-1] != 0).tolist()]
    steps = max(map(len, answers))
    prompt, answer = torch.full(prompts.shape, -1), torch.full((len(answers), steps), -1)
    rows, tokens = answer.clone(), answer.clone()
    for sample, ((start, end), said) in enumerate(zip(spans, answers, strict=True)):
        prompt[sample, start:end] = torch.arange(end - start)
        tokens[sample, : len(said)] = torch.tensor(said)
        rows[sample, : len(said)] = torch.arange(len(said)) + end - start - 1
        answer[sample, : len(said) - 1] = rows[sample, 1 : len(said)]
    columns = {name: _padded(prompts, spans, [list(said[:-1]) for said in answers], None)}
    for other, value in grown.items():
        more = [[value[sample, -1]] * (len(said) - 1) for sample, said in enumerate(answers)]
        columns[other] = _padded(value[:, :-1], spans, more, 0)
    return Forced({**inputs, **columns}, name, prompt, answer, rows, tokens, columns)


def left_padded(inputs: Mapping[str, object], model: nn.Module, config: object) -> dict[str, object]:
    """Prompts that the model itself goes on, padded on their left, as ``generate`` needs it; told by ``attention_mask``.

    Without a mask, tokens that are padding by the configuration are taken for it, as ``generate`` does too.
    """
    ids, mask = get(inputs, "input_ids"), get(inputs, "attention_mask")
    if ids is None or "decoder_input_ids" in signature(model).parameters:
        return dict(inputs)
    pad, ends = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    words = ends if isinstance(ends, list) else [ends]
    if mask is None and pad is not None and pad not in words and bool((ids == pad).any()):
        mask = (ids != pad).long()
        inputs = {**inputs, "attention_mask": mask}
    if mask is None or mask.shape != ids.shape or bool((mask[:, -1] != 0).all()):
        return dict(inputs)
    behind = [ids.shape[1] - _span(row)[1] for row in (mask != 0).tolist()]
    return {
        name: torch.stack([row.roll(by) for row, by in zip(value, behind, strict=True)])
        if isinstance(value, torch.Tensor) and value.shape == ids.shape
        else value
        for name, value in inputs.items()
    }


def check_places(forced: Forced, config: object) -> None:
    """InputError where prompt and answer have more tokens than the model has places for."""
    places, length = places_of(config, forced.name), forced.columns[forced.name].shape[1]
    if places is not None and length > places:
        what, advice = "prompt and answer have", "shorten the prompt, or explain"
        if forced.name != "input_ids":
            what, advice = "the answer, with what the decoder begins with, has", "explain"
        most = max(0, places - int(forced.prompt.max()))
        raise InputError(
            f"{what} {length} tokens and the model takes {places}; {advice} {most} tokens of the answer at most: "
            "its beginning, by answer=, or generate={'max_new_tokens': …}"
        )


def _span(real: Sequence[bool]) -> tuple[int, int]:
    """From the first token that is no padding to after the last."""
    places = [place for place, here in enumerate(real) if here]
    if not places:
        raise InputError("a prompt is all padding: its attention mask is 0 everywhere; give it at least one token")
    return places[0], places[-1] + 1


def _padded(
    values: Tensor, spans: Sequence[tuple[int, int]], more: Sequence[Sequence[int | Tensor]], filled: int | None
) -> Tensor:
    """Each sample's own values, then ``more``, then padding: ``filled``, or None: the last value again."""
    rows = [
        torch.cat([values[sample, start:end], values.new_tensor(more[sample])])
        for sample, (start, end) in enumerate(spans)
    ]
    longest = max(map(len, rows))
    pads = [row[-1:] if filled is None else row.new_tensor([filled]) for row in rows]
    return torch.stack([torch.cat([row, pad.expand(longest - len(row))]) for row, pad in zip(rows, pads, strict=True)])


PASSES = 8
"""As much as so many steps cost the forward pass of a part, and what is done once in it."""


def in_parts(
    whole: Forced,
    said: SaidTokens,
    progress: Progress,
    explained: Callable[[Mapping[str, object], SaidTokens, Progress], Stepwise],
) -> Stepwise:
    """The steps of a whole answer, part by part; ``explained``: :func:`heedmap.engine.stepwise.explain_steps` of one part."""
    steps, shortest = said.tokens.shape[1], int((said.tokens >= 0).sum(1).min())
    ends = part_ends(whole.length(1), steps) if whole.name == "input_ids" else [steps]
    ends = [*(end for end in ends[:-1] if end < shortest), steps]  # each sample says something in each part
    explained_parts: list[Stepwise] = []
    spans = list(zip([0, *ends], ends, strict=False))
    for start, end in reversed(spans):  # what is proved of the longest holds for all
        length = whole.length(end)

        def tell(done: int, _: int, before: int = steps - end) -> None:
            progress(before + done, steps)

        explained_parts.insert(0, explained(whole.up_to(length), said.part(start, end, length), tell))
    return explained_parts[0] if len(explained_parts) == 1 else joined_parts(explained_parts)


def part_ends(prompt: int, steps: int) -> list[int]:
    """After which steps the parts end, so that the least is computed: a step costs as much as its pass has tokens."""

    def cost(ends: Sequence[int]) -> int:
        return sum((end - start + PASSES) * (prompt + end) for start, end in zip([0, *ends], ends, strict=False))

    def equal(count: int) -> list[int]:
        return [steps * (n + 1) // count for n in range(count)]

    return min(map(equal, range(1, max(2, steps // PASSES + 1))), key=cost)


def joined_parts(explained_parts: Sequence[Stepwise]) -> Stepwise:
    """The steps of all parts, over the tokens of the last one.

    Raises:
        AttentionError: ``auto`` chose other methods for other parts.
    """
    methods = sorted({part.first.method for part in explained_parts})
    if len(methods) > 1:
        raise AttentionError(
            f"parts of the answer can have {' or '.join(methods)} only, so the choice is not one; name a method"
        )
    tokens = {name: relevance.shape[2] for name, relevance in explained_parts[-1].relevance.items()}

    def over_all(name: str) -> Tensor:
        of_parts = (part.relevance[name] for part in explained_parts)
        return torch.cat([F.pad(rows, (0, tokens[name] - rows.shape[2])) for rows in of_parts], 1)

    names = ("scores", "probabilities", "best", "best_probabilities")
    of_steps: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in explained_parts], 1) for name in names}
    return replace(explained_parts[-1], relevance={name: over_all(name) for name in tokens}, **of_steps)
