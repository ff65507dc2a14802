"""The relevance of every token of an answer, from one forward pass in which the whole answer is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from heedmap.attention.at_rest import recording_state
from heedmap.attention.backward import Pulls
from heedmap.attention.forward import rows_of_one
from heedmap.attention.inputs import KEEP, signature, unwrapped
from heedmap.common.progress import Progress
from heedmap.data.segments import Segment
from heedmap.engine.choosing import MethodCall, first_that_can, noted
from heedmap.engine.engine import Engine, Run
from heedmap.engine.gradients import checked_gradients, mean_readouts
from heedmap.engine.planning import MOST_AT_ONCE, by_rules, carries_together
from heedmap.engine.result import Recorded, cut, rows_of_view
from heedmap.errors import AttentionError, MixingError, OptionError, TargetError
from heedmap.explanation import Explanation
from heedmap.methods import Method
from heedmap.methods.method import Readout, view_of_several
from heedmap.outputs import MOST, Context, class_logits
from heedmap.targets import Chosen, Target

if TYPE_CHECKING:
    from heedmap.engine.engine import Wrapped

SETTINGS = ("probe", "memory", "memory_budget", "labels", "segments", "mixers")
"""Options of :func:`heedmap.explain` that are no method's."""


@dataclass(frozen=True, eq=False)
class SaidTokens:
    """The tokens of an answer, and where the model says them.

    Attributes:
        tokens: (batch, steps), int64: ids; -1 after the end of a sample's answer.
        rows: (batch, steps), int64: the token of the input that says each, from 0; -1 after the end.
        length: number of tokens of the input among which these rows are; an output may have rows before them, or only the last.
        others: (batch, steps), int64: the token that each is set against; -1: none.
    """

    tokens: Int[Tensor, "batch steps"]
    rows: Int[Tensor, "batch steps"]
    length: int
    others: Int[Tensor, "batch steps"] | None = None

    @property
    def told(self) -> Bool[Tensor, "batch steps"]:
        """Which steps have a map: no token after the end, none that is set against itself."""
        same = torch.zeros_like(self.tokens, dtype=torch.bool) if self.others is None else self.others == self.tokens
        return (self.tokens >= 0) & ~same

    def part(self, start: int, end: int, length: int) -> SaidTokens:
        """The steps from ``start`` to before ``end``, of an input of ``length`` tokens."""
        others = None if self.others is None else self.others[:, start:end]
        return SaidTokens(self.tokens[:, start:end], self.rows[:, start:end], length, others)

    def step(self, number: int) -> Step:
        """The target of one step. A sample without a map there has the target of its last step before, to be left out."""
        whole = self.all_steps()
        other = None if whole.other is None else whole.other[:, number]
        return Step(whole.token[:, number], whole.row[:, number], self.length, other)

    def all_steps(self) -> Step:
        """The targets of all steps at once, (batch, steps)."""
        last = (self.tokens >= 0).sum(1, keepdim=True) - 1
        here = torch.minimum(torch.arange(self.tokens.shape[1]).expand_as(self.tokens), last)
        others = None if self.others is None else self.others.masked_fill(~self.told, -1).gather(1, here)
        return Step(self.tokens.gather(1, here), self.rows.gather(1, here), self.length, others)


@dataclass(frozen=True, eq=False)
class Step(Target):
    """The logit of each sample's token at its row, less that of another token where there is one.

    Attributes:
        token: (batch,), ids; of several steps (batch, steps).
        row: the token of the input that says it, in the same shape.
        length: see :class:`SaidTokens`.
        other: ids in the same shape, -1: none; None: none for all.
    """

    token: Tensor
    row: Tensor
    length: int
    other: Tensor | None = None

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        values = partial(self.values, context)
        return Chosen(values(output), tuple(f"token {i}" for i in self.token.tolist()), again=values)

    def values(self, context: Context, output: object) -> Tensor:
        """Of another output, in the shape of ``token``."""
        logits = class_logits(context.read(output), 3)
        rows = logits_at(logits, self.row.reshape(len(self.row), -1), self.length)

        def of(tokens: Tensor) -> Tensor:
            picked = tokens.to(rows.device).reshape(len(rows), -1, 1)
            return rows.gather(-1, picked.clamp(min=0))[..., 0].reshape(tokens.shape)

        if self.other is None:
            return of(self.token)
        return of(self.token) - of(self.other).masked_fill(self.other.to(rows.device) < 0, 0.0)


@dataclass(frozen=True, eq=False)
class Stepwise:
    """The relevance of every step.

    Attributes:
        first: the explanation of the first step, whose segments have all tokens of the input.
        relevance: by segment, (batch, steps, tokens), float32, on the CPU.
        scores: (batch, steps), float32.
        probabilities: (batch, steps), float32, of the tokens.
        best: (batch, steps, tokens), int64, the most probable tokens at each step.
        best_probabilities: (batch, steps, tokens), float32.
    """

    first: Explanation
    relevance: Mapping[str, Float[Tensor, "batch steps tokens"]]
    scores: Float[Tensor, "batch steps"]
    probabilities: Float[Tensor, "batch steps"]
    best: Int[Tensor, "batch steps tokens"]
    best_probabilities: Float[Tensor, "batch steps tokens"]


def explain_steps(
    model: nn.Module | Wrapped,
    inputs: Mapping[str, object],
    said: SaidTokens,
    *,
    method: str | Method = "generic",
    progress: Progress = lambda done, of: None,
    **options: object,
) -> Stepwise:
    """The relevance of every token of ``said``, from one forward pass.

    Args:
        model: as for :func:`heedmap.explain`.
        inputs: what the model is called with, the answer included.
        said: the answer.
        method: as for :func:`heedmap.explain`.
        progress: see :data:`Progress`.
        options: as for :func:`heedmap.explain`; no ``full``.

    Raises:
        OptionError: whole maps are asked for.
        HeedmapError: as for :func:`heedmap.explain`.
    """
    if options.get("full"):
        raise OptionError(
            "full=True keeps whole maps, which an answer has none of for all its steps; explain one token"
        )
    settings: dict[str, Any] = {name: options.pop(name) for name in SETTINGS if name in options}
    asked = MethodCall.of(method, options)
    engine = Engine(model, of_last(model, inputs, said), **settings)
    with recording_state(engine.model):
        engine.settled()
        if asked.auto:
            return engine.with_less(lambda attempt: _best_supported(attempt, said, asked, progress))
        return engine.with_less(lambda attempt: _Steps(attempt, said, asked, progress).explained())


def _best_supported(engine: Engine, said: SaidTokens, auto: MethodCall, progress: Progress) -> Stepwise:
    """By the method that the evidence speaks for most, or by the next where the model cannot have it."""
    try:
        ranked = engine.supported(engine.record())
    except AttentionError:
        return _Steps(engine, said, auto, progress).one_by_one()
    method, because, found = first_that_can(ranked, lambda call: _Steps(engine, said, call, progress).explained())
    return replace(found, first=noted(found.first, method, because))


def of_last(model: nn.Module | Wrapped, inputs: Mapping[str, object], said: SaidTokens) -> dict[str, object]:
    """The inputs, by which a model that can be asked so gives no logits before the first token of the answer."""
    module = unwrapped(model if isinstance(model, nn.Module) else model.model)
    first = int(said.rows[:, 0].min())
    return {**inputs, KEEP: said.length - first} if KEEP in signature(module).parameters else dict(inputs)


class _Steps:
    """One call of explain_steps."""

    def __init__(self, engine: Engine, said: SaidTokens, asked: MethodCall, progress: Progress) -> None:
        self.engine, self.said, self.asked = engine, said, asked
        self.tell, self.count = progress, said.tokens.shape[1]
        self.seen: tuple[Tensor, Tensor, Tensor] | None = None

    def explained(self) -> Stepwise:
        """Every step, with what is common to them done once where the method lets it."""
        if self.asked.method.attribute is not None:
            return self.one_by_one()
        try:
            recorded = self.engine.record()
        except AttentionError:
            return self.one_by_one()
        return self.engine.or_of_attention(recorded, self._by_recording)

    def one_by_one(self) -> Stepwise:
        """Each step as a target of its own, of one forward pass."""
        return self._stacked(self.engine.explain([_Seen(self, n) for n in range(self.count)], self.asked))

    def _by_recording(self, recorded: Recorded) -> Stepwise:
        """Every step on one recording."""
        engine, recording = self.engine, recorded.recording
        engine.cut(recording, self.asked, self.count)
        run = engine.choose(recorded, _Seen(self, 0), keep=True)
        if recording.live is None and len(run[0].readouts) == 1 and not by_rules(self.asked.options):
            return _Shared(self, recorded, run).explained()
        runs = (engine.choose(recorded, _Seen(self, n), keep=n + 1 < self.count) for n in range(self.count))
        return self._stacked(engine.made(recorded, runs, self.asked))

    def _stacked(self, found: Sequence[Explanation]) -> Stepwise:
        relevance = {name: torch.stack([one[name] for one in found], 1) for name in found[0].segments}
        return self.found(found[0], relevance, torch.stack([one.scores for one in found], 1))

    def found(self, first: Explanation, relevance: Mapping[str, Tensor], scores: Tensor) -> Stepwise:
        """The result, without what has no map."""
        assert self.seen is not None
        told = self.said.told
        maps = {name: rows.masked_fill(~told[:, :, None], 0.0) for name, rows in relevance.items()}
        return Stepwise(first, maps, scores.masked_fill(~told, 0.0), *self.seen)


@dataclass(frozen=True, eq=False)
class _Seen(Target):
    """A step; the first one also looks at how probable all tokens are."""

    steps: _Steps
    number: int

    def choose(self, output: object, context: Context) -> Chosen:
        if self.steps.seen is None:
            logits = class_logits(context.read(output), 3).detach()
            self.steps.seen = probable(logits, self.steps.said)
        elif self.number:
            self.steps.tell(self.number, self.steps.count)
        return self.steps.said.step(self.number).choose(output, context)


class _Shared:
    """All steps of an answer from one recording, whose target reads one stream."""

    def __init__(self, steps: _Steps, recorded: Recorded, run: Run) -> None:
        self.steps, self.recorded, (self.run, self.chosen) = steps, recorded, run
        (self.stream, readout), *_ = self.run.readouts.items()
        self.state = readout.state
        self.attentions = recorded.recording.tape.attentions

    def explained(self) -> Stepwise:
        steps = self.steps
        first = steps.engine.told(self.recorded, (self.run, self.chosen), steps.asked)
        values, pulls = self._pulls()
        relevance = {
            n: s.relevance.new_zeros(len(s.relevance), steps.count, s.tokens) for n, s in first.segments.items()
        }
        every, size = range(steps.count), self._at_once()
        for start in every[::size]:
            chunk = every[start : start + size]
            maps = self._maps(chunk, pulls)
            for n, own in zip(chunk, maps, strict=True):
                for name, segment in own.items():
                    relevance[name][:, n] = segment.relevance
            steps.tell(chunk[-1] + 1, steps.count)
        return steps.found(first, relevance, values.float().cpu())

    def _pulls(self) -> tuple[Tensor, Pulls]:
        engine, said = self.steps.engine, self.steps.said
        recording, whole = self.recorded.recording, said.all_steps()
        logits = class_logits(engine.context.read(recording.output), 3)
        values = whole.values(engine.context, recording.output)
        places = whole.row + logits.shape[1] - said.length
        recording.output = None  # what the pulls do not need of its graph is freed
        return values.detach(), Pulls(logits, values, places, [a.out for a in self.attentions])

    def _at_once(self) -> int:
        """So many steps as the memory given, or else twice the budget, has room for; one, for methods that need more than Ā."""
        engine, size = self.steps.engine, sum(a.out.numel() * a.out.element_size() for a in self.attentions)
        if engine.memory is not None:
            return engine.at_once
        if not carries_together(self.steps.asked):
            return 1
        return max(1, min(MOST_AT_ONCE, 2 * self.run.memory_budget // max(1, size)))

    def _maps(self, chunk: Sequence[int], pulls: Pulls) -> list[dict[str, Segment]]:
        """The segments of each step."""
        gradients, readouts = zip(*(self._read(n, pulls) for n in chunk), strict=True)
        if len(chunk) == 1:
            assert self.run.replay is not None
            values = partial(self.steps.said.step(chunk[0]).values, self.steps.engine.context)
            replay = replace(self.run.replay, value=values)  # to be run again for what this step says
            view = replace(self.run, gradients=gradients[0], readouts=readouts[0], replay=replay)
        else:
            view = view_of_several(self.run, gradients, readouts)
        return [cut(self.recorded, of_step) for of_step in rows_of_view(view, len(chunk), self.steps.asked)]

    def _read(self, step: int, pulls: Pulls) -> tuple[Mapping[int, Tensor], Mapping[int, Readout]]:
        """∂y/∂o of each attention, and what the step reads."""
        if not step:  # pulled when the target was chosen
            gradients, readouts = self.run.gradients, self.run.readouts
            self.run = replace(self.run, gradients={})
            self._check_causal(gradients, step)
            return gradients, readouts
        found = checked_gradients(self.attentions, pulls.at(step))
        rows = rows_of_one({self.stream: self.state}, found)
        self._check_causal(found, step)
        heads = self.run.heads
        assert heads is not None
        return heads.gradients(found), mean_readouts(rows, self.attentions[0].dtype)

    def _check_causal(self, gradients: Mapping[int, Tensor], step: int) -> None:
        """MixingError where a token of the answer draws from what comes after the row that says it."""
        first = gradients.get(min(self.state))
        if first is None:
            return
        rows = self.steps.said.step(step).row.to(first.device) + first.shape[2] - self.steps.said.length
        later = torch.arange(first.shape[2], device=first.device) > rows[:, None]
        if bool((first * later[:, None, :, None]).any()):
            raise MixingError(
                "what the model says at a place depends on the tokens after it, so it cannot be given its whole answer at once: "
                "a map would be of other tokens than it had; explain one token after the other"
            )


def probable(logits: Float[Tensor, "batch places vocabulary"], said: SaidTokens) -> tuple[Tensor, Tensor, Tensor]:
    """How probable each token of the answer is, the most probable ones at its place, and how probable these are."""
    rows = logits_at(logits, said.all_steps().row, said.length)
    odds = rows.float().softmax(-1)
    own = odds.gather(-1, said.tokens.clamp(min=0).to(odds.device)[..., None])[..., 0].cpu()
    best = odds.topk(min(MOST, odds.shape[-1]), -1)
    return own.masked_fill(said.tokens < 0, 0.0), best.indices.cpu(), best.values.cpu()


def logits_at(
    logits: Float[Tensor, "batch places vocabulary"], rows: Int[Tensor, "batch steps"], length: int
) -> Float[Tensor, "batch steps vocabulary"]:
    """The logits at rows of the input's tokens.

    An output may have places of a picture before those of the tokens, or places of the last tokens alone.

    Raises:
        TargetError: there are none for one of these rows.
    """
    places = rows + logits.shape[1] - length
    if bool((places < 0).any()):
        raise TargetError(
            f"the logits have {logits.shape[1]} places for {length} tokens, so those of the answer are not known; give a model "
            "that answers at each token"
        )
    samples = torch.arange(len(logits), device=logits.device)[:, None]
    return logits[samples, places.to(logits.device)]
