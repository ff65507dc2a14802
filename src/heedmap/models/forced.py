"""One pass in which a model is given the whole answer: its tokens after those of the prompt, each row saying the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.attention.inputs import signature
from heedmap.errors import InputError
from heedmap.outputs import get

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor, nn

PLACES = ("max_target_positions", "max_position_embeddings", "n_positions")
"""What configurations call the number of a decoder's places."""


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

    @property
    def start(self) -> int:
        """The number of tokens with which the first step is said, of the sample that has most."""
        return int(self.rows[:, 0].max()) + 1

    def length(self, steps: int) -> int:
        """The number of tokens that the first steps are said after."""
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
    import torch

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
    columns = {name: _joined(prompts, spans, [list(said[:-1]) for said in answers], None)}
    for other, value in grown.items():
        more = [[value[sample, -1]] * (len(said) - 1) for sample, said in enumerate(answers)]
        columns[other] = _joined(value[:, :-1], spans, more, 0)
    lengths = {end - start + len(said) for (start, end), said in zip(spans, answers, strict=True)}
    if len(lengths) == 1 and min(start == 0 and end == prompts.shape[1] for start, end in spans) and mask is None:
        columns.pop(mask_name(name), None)
    return Forced({**inputs, **columns}, name, prompt, answer, rows, tokens, columns)


def left_padded(inputs: Mapping[str, object], model: nn.Module, config: object) -> dict[str, object]:
    """Prompts that the model itself goes on, padded on their left, as ``generate`` needs it; told by ``attention_mask``.

    Without a mask, tokens that are padding by the configuration are taken for it, as ``generate`` does too.
    """
    import torch

    ids, pad = get(inputs, "input_ids"), getattr(config, "pad_token_id", None)
    mask = get(inputs, "attention_mask")
    ends = getattr(config, "eos_token_id", None)
    if ids is None or "decoder_input_ids" in signature(model).parameters:
        return dict(inputs)
    if (
        mask is None
        and pad is not None
        and pad not in (ends if isinstance(ends, list) else [ends])
        and bool((ids == pad).any())
    ):
        mask = (ids != pad).long()
        inputs = {**inputs, "attention_mask": mask}
    if mask is None or mask.shape != ids.shape or bool((mask[:, -1] != 0).all()):
        return dict(inputs)
    behind = [ids.shape[1] - _span(row)[1] for row in (mask != 0).tolist()]
    rolled = {}
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape == ids.shape:
            rolled[name] = torch.stack([row.roll(by) for row, by in zip(value, behind, strict=True)])
    return {**inputs, **rolled}


def mask_name(name: str) -> str:
    """The mask of these ids."""
    return name.replace("input_ids", "attention_mask")


def places_of(config: object, name: str) -> int | None:
    """How many tokens the model that goes on these ids has places for; None: its configuration does not say."""
    text = getattr(config, "text_config", config)
    configs = (text,) if name == "input_ids" else (getattr(config, "decoder", config), text)
    limits = (getattr(part, limit, None) for part in configs for limit in PLACES)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


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


def _joined(
    values: Tensor, spans: Sequence[tuple[int, int]], more: Sequence[Sequence[int | Tensor]], filled: int | None
) -> Tensor:
    """Each sample's own values, then ``more``, then padding: ``filled``, or None: the last value again."""
    import torch

    rows = [
        torch.cat([values[sample, start:end], values.new_tensor(more[sample])])
        for sample, (start, end) in enumerate(spans)
    ]
    longest = max(map(len, rows))
    pads = [row[-1:] if filled is None else row.new_tensor([filled]) for row in rows]
    return torch.stack([torch.cat([row, pad.expand(longest - len(row))]) for row, pad in zip(rows, pads, strict=True)])
