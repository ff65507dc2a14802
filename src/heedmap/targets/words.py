"""Targets at a place of a text or of sound: its next token, the label of one token, an answer from one token to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import (
    Context,
    background,
    class_logits,
    get,
    labels_tokens,
    of_shape,
    place_name,
    ranked,
    real_places,
    spells_sound,
)
from heedmap.targets.classes import at_place, class_index, given_or_top
from heedmap.targets.target import Chosen, OneOrEach, Target, at, in_range, per_sample


@dataclass(frozen=True)
class NextToken(Target):
    """The logit of a token at one position of a decoder or a causal model, logits (batch, positions, vocabulary).

    Attributes:
        token: token id; None: the top token there. A sequence gives each sample its own.
        position: the position that predicts it, from 0; negative from the last real token (-1, the default). Of a model that
            labels tokens it is the token, see :class:`TokenLabel`; -1 is the one where the label is most probable.
        decode: token id → text, to name it.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> target = heedmap.targets.NextToken("red")
        >>> subject.explain(text="dog red ; cat blue ? cat", target=target).target
        ("token 34 ('red') after position 6",)
    """

    token: OneOrEach = None
    position: int = -1
    decode: Callable[[int], str] | None = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        if labels_tokens(logits, context):
            return TokenLabel(self.token, None if self.position == -1 else self.position).choose(output, context)
        position = self.position_in(logits, context)
        row = at(logits, position)
        top = row.detach().argmax(-1)
        picked = given_or_top(per_sample(self.token, len(logits), "token"), top, lambda token: self._token(token, row))
        words = tuple(
            f"token {self.token_name(i)} after position {p}"
            for i, p in zip(picked.tolist(), position.tolist(), strict=True)
        )
        values = partial(at_place, context, position, picked)
        odds = ranked(row, picked, self.decode or "token {}".format)
        names = None if self.decode is None else tuple(map(self.decode, top.tolist()))
        return Chosen(values(output), words, top, values, odds, names)

    def token_name(self, index: int) -> str:
        """``34 ('red')``, or ``34`` where nothing decodes it."""
        return str(index) if self.decode is None else f"{index} ({self.decode(index)!r})"

    @staticmethod
    def _token(token: int | str, row: Tensor) -> int:
        if isinstance(token, str):
            raise TargetError(f"NextToken takes token ids, not {token!r}; ask the tokenizer for the id of this text")
        return in_range(token, row.shape[-1], "token")

    def position_in(self, logits: Tensor, context: Context) -> Tensor:
        """The position of each sample, (batch,), from 0, in logits (batch, positions, vocabulary)."""
        batch, length = logits.shape[:2]
        mask = context.inputs.get("decoder_attention_mask")
        if mask is None and context.inputs.get("decoder_input_ids") is None:
            mask = context.inputs.get("attention_mask")
        if self.position >= 0 or not isinstance(mask, Tensor) or mask.shape != (batch, length):
            return torch.full((batch,), in_range(self.position, length, "position"), device=logits.device)
        places = torch.arange(length, device=logits.device)
        real = mask.to(logits.device) != 0
        order = torch.where(real, places, -1).sort(-1).values  # the real places, in order, are the last entries
        position = order[:, in_range(self.position, length, "position")]
        if bool((position < 0).any()):
            raise TargetError(f"position {self.position} lies before the first real token of a sample")
        return position


@dataclass(frozen=True)
class TokenLabel(Target):
    """The logit of a label at one token (or frame of sound), from logits of shape (batch, tokens, labels).

    Of a model that labels tokens (names, parts of speech), or one that spells sound (CTC). Where no token is given, padding
    and special tokens ([CLS], [SEP]) are left out: those of ``attention_mask``, and of the tokenizer, ``special_tokens_mask``
    or the configuration, where these are there; a model called with tensors alone may have no way to tell [SEP].

    Attributes:
        label: label index or name; None: the most probable one at the token. A sequence gives each sample its own.
        token: number of the token, from 0; negative from the last real one; for a ``heedmap.Model`` also a word of the
            text, which is its first token. A sequence gives each sample its own. None: where the label is most probable;
            without a label the surest of those whose label is not "O" (background; for sound, the blank), and where all
            are "O" the most probable other label.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertForTokenClassification
        >>> model = BertForTokenClassification(BertConfig(hidden_size=24, num_hidden_layers=1, num_labels=3))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.TokenLabel(2, token=3)
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('class 2 at token 3',)
    """

    label: OneOrEach = None
    token: OneOrEach = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        logits = class_logits(context.read(output), 3)
        batch, tokens, classes = logits.shape
        labels = [
            None if c is None else class_index(c, classes, context) for c in per_sample(self.label, batch, "label")
        ]
        places: list[int] = []
        real = real_places(context, batch, tokens)
        scores = logits.detach().float().cpu()
        probabilities = context.probabilities(scores)
        sound = spells_sound(logits, context)
        called = partial(letter, context) if sound else context.short
        told = ~background(context, classes, frames=sound)
        for i, token in enumerate(per_sample(self.token, batch, "token")):
            shares = probabilities[i]
            where = _surest(shares, real[i], told, labels[i]) if token is None else self._place(token, real[i])
            if labels[i] is None:
                labels[i] = int((shares[where].masked_fill(~told, -1) if token is None else shares[where]).argmax())
            places.append(where)
        place, label = (torch.tensor(side, device=logits.device) for side in (places, labels))
        row = at(logits, place)
        top = row.detach().argmax(-1)
        words = tuple(
            f"{called(c)} at {place_name(context, i, p, p, tokens)}"
            for i, (c, p) in enumerate(zip(label.tolist(), places, strict=True))
        )
        values = partial(at_place, context, place, label)
        odds = ranked(row, label, called, exclusive=context.exclusive)
        return Chosen(values(output), words, top, values, odds, tuple(map(called, top.tolist())))

    @staticmethod
    def _place(token: int | str, real: Tensor) -> int:
        if isinstance(token, str):
            raise TargetError(f"TokenLabel(token={token!r}): a word needs a heedmap.Model; give the token's number")
        if token >= 0:
            return in_range(token, len(real), "token")
        places = real.nonzero()[:, 0].tolist()
        return int(places[in_range(token, len(places), "token")])


def labelled(logits: Float[Tensor, "batch tokens labels"], context: Context) -> list[list[tuple[int, int, float]]]:
    """For each sample its real tokens whose top label is not "O": number, label, probability."""
    scores = logits.detach().float().cpu()
    best = context.probabilities(scores).max(-1)
    told = ~background(context, logits.shape[-1], frames=spells_sound(logits, context))
    present = real_places(context, *logits.shape[:2]) & told[best.indices]
    return [
        [(p, int(best.indices[i, p]), float(best.values[i, p])) for p in row.nonzero()[:, 0].tolist()]
        for i, row in enumerate(present)
    ]


def _surest(probabilities: Tensor, real: Tensor, told: Tensor, wanted: int | None) -> int:
    """The real place where label ``wanted`` is most probable; without it, the place surest of its own label among those of
    which that is ``told``, and where there are none, the place with the most probable label of these."""
    if wanted is not None:
        score = probabilities[:, wanted]
    else:
        score = probabilities.masked_fill(~told, -1).amax(-1)
        score = score + told[probabilities.argmax(-1)]
    return int(score.masked_fill(~real, -2).argmax())


@dataclass(frozen=True)
class AnswerSpan(Target):
    """The answer of extractive question answering: the start logit of its first token and the end logit of its last, summed.

    From ``start_logits`` and ``end_logits``, (batch, tokens). Without numbers it is the best span of each sample: start not
    after end, neither in padding nor on a special token (see :class:`TokenLabel`), and in the second text where
    ``token_type_ids`` tell the two apart.

    Attributes:
        start: number of the first token, from 0; None: the best.
        end: number of the last token; None: the best.

    Examples:
        >>> import heedmap, torch
        >>> from transformers import BertConfig, BertForQuestionAnswering
        >>> model = BertForQuestionAnswering(BertConfig(hidden_size=24, num_hidden_layers=1))
        >>> ids = torch.tensor([[101, 7, 8, 9, 102]])
        >>> target = heedmap.targets.AnswerSpan(start=2, end=3)
        >>> heedmap.explain(model, {"input_ids": ids}, target=target).target
        ('answer at tokens 2 to 3',)
    """

    start: int | None = None
    end: int | None = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        starts, ends = _span_logits(context.read(output))
        batch, tokens = starts.shape
        real = self._allowed(context, batch, tokens)
        first, last = real.clone(), real.clone()
        for given, allowed in ((self.start, first), (self.end, last)):
            if given is not None:
                allowed[:] = torch.arange(tokens) == in_range(given, tokens, "token")
        sums = (starts.detach()[:, :, None] + ends.detach()[:, None]).float().cpu()
        valid = (first[:, :, None] & last[:, None]).triu()
        if not bool(valid.flatten(1).any(-1).all()):
            raise TargetError(f"no span from token {self.start} to {self.end}: give a start not after the end")
        best = sums.masked_fill(~valid, -torch.inf).flatten(1).argmax(-1)
        pairs = [(place // tokens, place % tokens) for place in best.tolist()]
        start, end = (torch.tensor(side, device=starts.device) for side in zip(*pairs, strict=True))
        words = tuple(f"answer at {place_name(context, i, *pair, tokens)}" for i, pair in enumerate(pairs))
        values = partial(_of_span, context, start, end)
        return Chosen(values(output), words, again=values)

    @staticmethod
    def _allowed(context: Context, batch: int, tokens: int) -> Tensor:
        real = real_places(context, batch, tokens)
        types = of_shape(context.inputs, "token_type_ids", batch, tokens)
        if types is None:
            return real
        second = real & (types.cpu() == 1)
        return torch.where(second.any(-1, keepdim=True), second, real)


def _span_logits(output: object) -> tuple[Tensor, Tensor]:
    starts, ends = get(output, "start_logits"), get(output, "end_logits")
    if not (
        isinstance(starts, Tensor) and isinstance(ends, Tensor) and starts.shape == ends.shape and starts.dim() == 2
    ):
        raise TargetError("AnswerSpan needs start_logits and end_logits, (batch, tokens), in the output")
    return starts, ends


def _of_span(context: Context, start: Tensor, end: Tensor, output: object) -> Tensor:
    starts, ends = _span_logits(context.read(output))
    return (starts.gather(1, start[:, None]) + ends.gather(1, end[:, None]))[:, 0]


def letter(context: Context, index: int) -> str:
    """The text of a token that sound is spelled with, where there is a tokenizer."""
    return context.short(index) if context.text is None else context.text([index])
