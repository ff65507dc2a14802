"""One call of explain or inspect: record → target → gradient → method → Explanation, and what is tried where that is refused."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from heedmap.attention import features, tower
from heedmap.attention.attention import Attention
from heedmap.attention.flow import check_followed
from heedmap.attention.forward import Recording
from heedmap.attention.heads import joined
from heedmap.attention.inputs import ModelInputs, configuration, contents, named, unwrapped, without_cache
from heedmap.attention.places import not_finite
from heedmap.attention.probe import asking
from heedmap.attention.returned import sampled
from heedmap.attention.tape import Tape
from heedmap.common.memory import FREE, free_bytes, memory_bytes, ran_out, told_bytes
from heedmap.engine import narrow, one_by_one
from heedmap.engine.choosing import REFUSALS, Made, MethodCall, advised, best, first_that_can, noted, reason
from heedmap.engine.gradients import Pulled, pulled
from heedmap.engine.planning import (
    BUDGETS,
    MOST_AT_ONCE,
    Needs,
    Plan,
    carries_together,
    check_proof,
    planned,
    proof_peak,
)
from heedmap.engine.result import Recorded, assembled, origin, rows_of_each, sounds
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    InputError,
    MixingError,
    NoAttentionError,
    OptionError,
    OutOfMemoryError,
    TargetError,
    UnfollowedAttentionError,
)
from heedmap.explanation import Explanation
from heedmap.lrp.replay import ForwardCall
from heedmap.methods import METHODS
from heedmap.methods.method import MEMORY_BUDGET, Readout, TargetView, with_merges
from heedmap.methods.supported import Supported, kind_of, ranking
from heedmap.outputs import Context
from heedmap.targets import AnyTarget, Chosen, Several, Target, as_target
from heedmap.targets.target import again_of

if TYPE_CHECKING:
    from heedmap.types import Entry, Inputs, Tokenizer


Run = tuple[TargetView, Chosen]
"""What a method is given of one target, and what was chosen for it."""


class Wrapped(Protocol):
    """A model with its processor (``heedmap.Model``): it knows what targets mean and labels what is found."""

    @property
    def model(self) -> nn.Module:
        """The model itself."""

    @property
    def labels(self) -> Mapping[int, str] | None:
        """Class index → name, where they are not in ``model.config.id2label``."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, or None."""

    def resolve_target(self, target: AnyTarget, inputs: Mapping[str, object]) -> object:
        """``target`` with words replaced by tokens, and None by the model's own default."""

    def label(self, explanation: Explanation, inputs: Mapping[str, object]) -> Explanation:
        """``explanation`` with labels."""


class Engine:
    """One call of explain or inspect.

    Attributes:
        subject: the model with its processor, or None.
        batch: number of samples; 0 until it is known whether the answer rests on a part of the input.
        mixed: why the inputs are one input, though they look like several.
        memory: that the call may take; None: no bound.
        memory_budget: bytes for blocks, and for gradients of targets that are worked on at once.
        at_once: so many targets are worked on at once.
        planned: whether the model's pass was recorded, so that what follows can be cut smaller.
        least: bytes beside the model with which it could be made; 0: not known.
    """

    def __init__(
        self,
        model: nn.Module | Wrapped,
        inputs: Inputs,
        labels: Mapping[int, str] | None = None,
        probe: bool = True,
        memory_budget: int = MEMORY_BUDGET,
        segments: Mapping[str, str] | None = None,
        mixers: bool = True,
        memory: int | str | None = None,
    ) -> None:
        if isinstance(memory_budget, bool) or not isinstance(memory_budget, int) or memory_budget < 1:
            raise OptionError(f"memory_budget is {memory_budget!r}; expected a positive number of bytes")
        if memory is not None and memory_budget != MEMORY_BUDGET:
            raise OptionError(
                "memory and memory_budget are both given; memory says what blocks may take, too: leave one out"
            )
        module = model if isinstance(model, nn.Module) else getattr(model, "model", None)
        if isinstance(model, type) or not isinstance(module, nn.Module):
            given = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
            raise InputError(
                f"model is {given}; expected a torch.nn.Module, or a heedmap.Model: heedmap.load(name) makes one"
            )
        knows = all(callable(getattr(model, n, None)) for n in ("resolve_target", "label"))
        # what does not is a holder of a model, such as a pipeline
        self.subject = model if knows and not isinstance(model, nn.Module) else None
        self.model = unwrapped(module)
        if not isinstance(mixers, bool):
            raise OptionError(f"mixers is {mixers!r}; expected True or False")
        self.probe, self.memory_budget, self.mixers = probe, memory_budget, mixers
        self.memory, self.at_once = _allowed(memory, self.model), 1
        self.planned, self.least = False, 0
        self.inputs = ModelInputs.of(named(self.model, inputs), segments)
        self.batch, self.mixed = 0, ""
        config = configuration(self.model)
        self.context = Context.of(self.inputs, config, labels, self.model.forward, self.subject)

    def targets(self, wanted: AnyTarget | list[Entry]) -> list[Target]:
        """What was asked for, as targets."""
        each = (
            cast("Sequence[AnyTarget]", wanted) if isinstance(wanted, list) else [wanted]
        )  # as_target refuses all else
        return [target if isinstance(target, Several) else as_target(self._meant(target)) for target in each]

    def _meant(self, target: AnyTarget) -> object:
        return target if self.subject is None else self.subject.resolve_target(target, self.inputs)

    def each(self, targets: Sequence[Target]) -> Sequence[Target]:
        """The targets, with those that stand for several replaced by these, by what the model answers.

        Raises:
            InputError: it refuses the inputs.
            TargetError: its output has no such targets.
        """
        if not any(isinstance(target, Several) for target in targets):
            return targets
        output = narrow.answer(self.model, self.inputs)
        if isinstance(output, Exception):
            raise InputError(f"{type(self.model).__name__} refused the inputs: {output!r}") from output
        several = [t.each(output, self.context) if isinstance(t, Several) else [t] for t in targets]
        every = [as_target(self._meant(target)) for some in several for target in some]
        if not every:
            raise TargetError("the target stands for none: no position of the text is one in every sample")
        return every

    def narrowed(self, targets: Sequence[Target]) -> Iterator[tuple[Engine, Sequence[Target]]]:
        """What explains the targets: this, or where each rests on a part of the input, one on that part for each."""
        whole = narrow.whole(self.model, self.inputs, self.context)
        if whole is None or whole.mixed:
            batch = self._batch(targets)
            yield self._on(self.inputs, "" if whole is None else whole.mixed, batch), targets
            return
        for target in targets:
            part = whole.part(target, self.context)
            if part is None:
                yield self._on(self.inputs, f"the target depends on several of {whole.parts} choices"), [target]
            else:
                yield self._on(whole.narrowed(part)), [part]

    def _on(self, inputs: ModelInputs, mixed: str = "", batch: int | None = None) -> Engine:
        """The same call on these inputs; ``mixed``: why they are one input, though they look like several."""
        engine = copy(self)
        engine.inputs, engine.mixed = inputs, mixed
        engine.batch = tower.batch_size(inputs) if batch is None else batch
        engine.context = replace(self.context, inputs=inputs)
        return engine

    def _batch(self, targets: Sequence[Target]) -> int:
        """The number of samples: of inputs of unequal sizes, that of the targets' values; InputError where an input has fewer."""
        try:
            return tower.batch_size(self.inputs)
        except InputError:
            sizes = [len(self.inputs[name]) for name in contents(self.inputs)]
            batch = self._answers(targets) if sizes else 0
            if not 0 < batch <= min(sizes):
                raise
            return batch

    def _answers(self, targets: Sequence[Target]) -> int:
        """How many values the targets have on what the model answers; 0 where that is not one number."""
        output = narrow.answer(self.model, self.inputs)
        try:
            (sizes,) = {tuple(target.choose(output, self.context).values.shape) for target in targets}
            (batch,) = sizes
        except Exception:  # the model refuses the inputs, or the target, which may be anyone's, the output
            return 0
        return batch

    def settled(self) -> None:
        """The engine for an answer that rests on the whole input."""
        self.batch = tower.batch_size(self.inputs)

    def record(self, whole: bool = True) -> Recorded:
        """One forward pass, and the names of the segments of its streams; ``whole``: see :func:`tower.record`."""
        try:
            with asking(self._check_proof):
                recording = tower.record(self.model, self.inputs, self.batch, self.probe, whole, self.mixers)
        except AttentionError as error:
            if self.mixed:
                raise MixingError(f"{self.mixed}; as one input: {error}") from error
            raise
        return Recorded.of(recording)

    def _check_proof(self, tape: Tape, output: object) -> None:
        """OptionError where the proof that follows a pass takes more than the memory that is allowed."""
        if self.memory is not None:
            self.least = proof_peak(tape, output, self.model)
            check_proof(self.memory, self.least)

    def explained(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """As :meth:`explain`; where memory runs out, again with less."""
        return self.with_less(lambda engine: engine.explain(targets, asked))

    def with_less(self, make: Callable[[Engine], Made]) -> Made:
        """What ``make`` makes; where memory runs out in it, made again in smaller blocks and with fewer targets at once.

        Raises:
            OutOfMemoryError: it runs out with the smallest ones, too, or in the forward pass, which cannot be cut.
        """
        attempt, budgets = self, [budget for budget in BUDGETS if budget < self.memory_budget]
        while True:
            try:
                return make(attempt)
            except Exception as error:
                if not ran_out(error):
                    raise
                if not (attempt.planned and budgets):
                    raise OutOfMemoryError(attempt._needed(error)) from error
            gc.collect()  # the error is gone, and with it all that was on the way, but for what refers to itself
            attempt = copy(attempt)
            attempt.memory, attempt.memory_budget, attempt.planned = None, budgets.pop(0), False

    def _needed(self, error: Exception) -> str:
        """What is needed, where memory ran out."""
        what = "the model's forward pass, or the proof before the first, does not fit: what it needs is not known"
        if self.least:
            what = (
                f"at least {told_bytes(self.least)} ({self.least} bytes) are needed beside the model, with the smallest blocks "
                "and one target at a time"
            )
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"memory ran out; {what}; give fewer samples at once, a smaller input, or another device ({first[:200]})"

    def explain(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """The explanation of each target; where attention is refused, by the input's own features.

        Raises:
            AttentionError: it is refused, and the method needs it; the message names those that do not.
        """
        turned = self._turned_square(targets)
        if turned is not None:
            count = f"{self.batch} samples of as many tokens, whose batch comes second; explain them one by one"
            alike = MixingError(count)
            explanations = turned._one_by_one(targets, self.batch, alike, asked)
            if not explanations:
                raise alike
            return explanations
        try:
            return self._supported(targets, asked.full) if asked.auto else self._followed(targets, asked)
        except (*REFUSALS, InputError, TargetError) as error:
            refused = error
        needed = asked.full or (asked.method.needs_attention and not asked.auto)
        explanations = self._otherwise(targets, refused, needed or asked.auto, asked)
        if explanations:
            return explanations
        if not isinstance(refused, AttentionError):
            raise refused
        try:
            recorded, runs = self._without_attention(targets, refused)
        except HeedmapError as error:
            if needed:
                raise refused from error
            raise
        if needed:
            raise advised(refused)
        return self._best(recorded, runs) if asked.auto else self.made(recorded, runs, asked)

    def supported(self, recorded: Recorded, full: bool = False) -> list[Supported]:
        """The methods that the evidence speaks for on this flow, the best first; ``full``: those that have whole maps."""
        recording, segments = recorded
        names = [name for of_stream in segments.values() for name, _ in of_stream]
        ranked = ranking(kind_of(recording.graph, recording.live is not None), names)
        return [choice for choice in ranked if not full or METHODS[choice.name].attribute is None]

    def _supported(self, targets: Sequence[Target], full: bool) -> list[Explanation]:
        """By the best supported method, or by the next where this model cannot have it; see :func:`first_that_can`."""
        ranked = self.supported(self.record(), full)
        method, because, explanations = first_that_can(ranked, lambda asked: self._followed(targets, asked), full)
        return [noted(explanation, method, because) for explanation in explanations]

    def _turned_square(self, targets: Sequence[Target]) -> Engine | None:
        """An engine for inputs that the model takes with their batch second, where their shape does not say so."""
        if not self.inputs.is_square(self.batch) or self.inputs.turned:
            return None
        turned = self.inputs.turned_to(self.batch)
        if turned is None or one_by_one.is_batch_first(self.model, self.inputs, self.batch):
            return None
        are_samples = one_by_one.are_samples(self.model, turned, targets, self.context)
        return self._on(turned, self.mixed, self.batch) if are_samples else None

    def _otherwise(
        self, targets: Sequence[Target], refused: HeedmapError, needed: bool, asked: MethodCall
    ) -> list[Explanation]:
        """The explanations of inputs that are not batch first, or whose samples are not told apart; else none.

        Raises:
            HeedmapError: how many samples there are became clear, and what was refused then.
        """
        batch = 0 if isinstance(refused, NoAttentionError) else self._answers(targets)
        turned = self.inputs.turned_to(batch)
        if turned is not None and one_by_one.are_samples(self.model, turned, targets, self.context):
            return self._on(turned, self.mixed, batch).explain(targets, asked)
        if batch != self.batch and (not batch or one_by_one.is_batch_first(self.model, self.inputs, self.batch)):
            return []
        if batch < self.batch:
            try:
                return self._on(self.inputs, self.mixed, batch).explain(targets, asked)
            except HeedmapError as error:
                raise error from refused
        if batch > 1 and (needed or any(len(self.inputs[name]) != batch for name in contents(self.inputs))):
            return self._one_by_one(targets, batch, refused, asked)
        return []

    def _one_by_one(
        self, targets: Sequence[Target], batch: int, refused: HeedmapError, asked: MethodCall
    ) -> list[Explanation]:
        """The explanations of a batch whose samples are explained each alone; empty where that is refused too."""
        samples = one_by_one.samples(self.model, self.inputs, batch, targets, self.context)
        if samples is None:
            return []
        by_sample: list[list[Explanation]] = []
        try:
            for sample in range(batch):
                wanted = [one_by_one.Alone(samples, sample, target) for target in targets]
                by_sample.append(self._on(samples.alone(sample), self.mixed, 1).explain(wanted, asked))
                if sample == 0:  # what was chosen for the first is asked of all: a batch is of one method
                    method = METHODS.get(by_sample[0][0].method, asked.method)
                    asked = MethodCall(method, by_sample[0][0].options, asked.full)
        except OptionError:  # of the memory
            raise
        except HeedmapError:  # a sample alone is refused, too
            pass
        note = f"the samples were explained one by one, because together they are not followed: {reason(refused)}"
        whole = len(by_sample) == batch
        return [one_by_one.together(parts, note) for parts in zip(*by_sample, strict=True)] if whole else []

    def _best(self, recorded: Recorded, runs: list[Run]) -> list[Explanation]:
        """By the best of the methods that need no attention; where it finds no gradient, by the next."""
        *others, last = best()
        for method in others:
            try:
                return [noted(e, method, "") for e in self.made(recorded, runs, MethodCall.of(method))]
            except GradientError:
                continue
        return [noted(e, last, "") for e in self.made(recorded, runs, MethodCall.of(last))]

    def _without_attention(self, targets: Sequence[Target], refused: AttentionError) -> tuple[Recorded, list[Run]]:
        """One forward pass of which only the input's own features are known, and each target on it.

        Where samples share a batch with parts of their own (pictures of several in one batch), the refusal stays.
        """
        self.at_once = 1
        if any(self.inputs[name].shape[0] != self.batch for name in contents(self.inputs)):
            raise refused
        given = without_cache(self.model, self.inputs)
        given.stopped = (
            f"no attention was followed, so the relevance is that of the input's own features: {reason(refused)}"
        )
        found = features.record(self.model, given, self.batch, sounds(given))
        recording, runs = found.recording, []
        recorded, said = Recorded.of(recording), sampled(recording.output)
        for target in targets:
            with recording.tape:
                chosen = target.choose(recording.output, self.context)
            self._check(chosen.values, ())
            again = again_of(target, chosen, self.context)
            replay = ForwardCall(self.model, recording.inputs, self.batch, again, tape=found.tape, answered=said)
            names, budget = recorded.names, self.memory_budget
            run = TargetView(recording.graph, [], {}, {}, names, budget, replay=replay, parts=found.parts)
            runs.append((run, chosen))
        return recorded, runs

    def _followed(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """One forward pass; for each target a backward pass and an explanation.

        What a method that attributes to the input needs of the targets is held for all of them at once, so that they share
        its further passes; of other methods for one after the other.
        """
        method = asked.method
        if method.attribute is None:
            return self.or_of_attention(self.record(), lambda on: self._by_recording(on, targets, asked))
        if asked.full:
            raise OptionError(
                f"method {method.name!r} gives relevance to the input only; it has no whole maps (full=True)"
            )
        return self._by_recording(self.record(whole=False), targets, asked)

    def or_of_attention(self, recorded: Recorded, make: Callable[[Recorded], Made]) -> Made:
        """What is made of a recording; where that is not defined through other mixers, of one of softmax attention alone."""
        try:
            return make(recorded)
        except UnfollowedAttentionError:
            if recorded.recording.live is None:
                raise
            recorded = self.record(whole=False)
            if recorded.recording.live is not None:
                raise
        return make(recorded)

    def _by_recording(self, recorded: Recorded, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """The explanations on one recording; UnfollowedAttentionError where the method is not defined through it."""
        method, recording = asked.method, recorded.recording
        if recording.live is not None and method.attribute is not None:
            raise UnfollowedAttentionError(
                f"method {method.name!r} gives relevance to the input's features, and the model's tokens are followed by their "
                "numbers only (windows, merged tokens, other mixers)"
            )
        self.cut(recording, asked, len(targets))
        runs = self._runs(recorded, targets, asked.full)
        if method.attribute is not None:
            tower.check_features(recording.graph, method.name)
        return self.made(recorded, runs, asked)

    def _runs(self, recorded: Recorded, targets: Sequence[Target], full: bool) -> Iterator[Run]:
        """Each target on a recording, so many at once as were settled."""
        for start in range(0, len(targets), self.at_once):
            end = start + self.at_once
            yield from self._choose_all(recorded, targets[start:end], end < len(targets), full)

    def cut(self, recording: Recording, asked: MethodCall, targets: int) -> None:
        """Settle how many targets are worked on at once, and what blocks may take.

        Raises:
            OptionError: the memory that is allowed does not suffice.
        """
        self.planned = True
        if self.memory is not None or targets > 1 or self.memory_budget in BUDGETS:
            plan = self.plan(recording, asked, targets)
            self.at_once, self.memory_budget, self.least = plan.at_once, plan.budget, plan.least

    def plan(self, recording: Recording, asked: MethodCall, targets: int) -> Plan:
        """How targets are explained by a recording; errors as of :meth:`cut`."""
        graph, (method, options, full, _) = recording.graph, asked
        whole = method.name == "generic" and (full or not options["aggregate"] or not graph.is_acyclic)
        together = carries_together(asked) and recording.live is None and not whole
        needs = Needs.of(recording, self.model, whole)
        return planned(needs, graph, self.memory, self.memory_budget, targets, MOST_AT_ONCE if together else 1)

    def made(self, recorded: Recorded, runs: Iterable[Run], asked: MethodCall) -> list[Explanation]:
        """The method's explanation of each target."""
        rest, explanations = iter(runs), list[Explanation]()
        if asked.method.attribute is not None:
            listed = list(rest)
            leaves = asked.method.attribute([run for run, _ in listed], asked.options)
            return [self.told(recorded, run, asked, leaves=own) for run, own in zip(listed, leaves, strict=True)]
        while chunk := list(islice(rest, self.at_once)):
            rows = rows_of_each([run for run, _ in chunk], asked)
            explanations += [self.told(recorded, run, asked, rows=own) for run, own in zip(chunk, rows, strict=True)]
        return explanations

    def told(
        self,
        recorded: Recorded,
        run: Run,
        asked: MethodCall,
        leaves: Mapping[int, Tensor] | None = None,
        rows: dict[int, Tensor] | None = None,
    ) -> Explanation:
        """The explanation of one target, with its labels; ``leaves`` and ``rows``: see :func:`assembled`."""
        explanation = assembled(recorded, *run, asked, self.context, leaves, rows)
        explanation = replace(explanation, origin=origin(self.model, getattr(self.subject, "name", None)))
        return explanation if self.subject is None else self.subject.label(explanation, self.inputs)

    def choose(self, recorded: Recorded, target: Target, keep: bool) -> Run:
        """Evaluate the target under the recorder and pull its gradient back to the attention outputs."""
        (run,) = self._choose_all(recorded, [target], keep, full=False)
        return run

    def _choose_all(self, recorded: Recorded, targets: Sequence[Target], keep: bool, full: bool) -> Iterator[Run]:
        """The same for several targets at once: those that were computed from the same, by the same passes."""
        recording = recorded.recording
        asked = [self._asked(recording, target) for target in targets]
        done = 0
        for sources, group in groupby(asked, lambda pair: pair[1]):
            chosen = [of_target for of_target, _ in group]
            done += len(chosen)
            found = pulled(recording, sources, [c.values for c in chosen], keep or done < len(asked))
            yield from self._views(recorded, sources, chosen, found, full)

    def _asked(self, recording: Recording, target: Target) -> tuple[Chosen, frozenset[int]]:
        """What the target chooses, and what that was computed from."""
        tape = recording.tape
        with tape:
            chosen = target.choose(recording.output, self.context)
        self._check(chosen.values, tape.attentions)
        sources = recording.followed(tape.tag(chosen.values).sources)
        check_followed(tape, sources, "the target")
        tower.check_read(tape, recording.graph, sources)
        return replace(chosen, again=again_of(target, chosen, self.context)), sources

    def _views(
        self, recorded: Recorded, sources: frozenset[int], chosen: Sequence[Chosen], found: Sequence[Pulled], full: bool
    ) -> Iterator[Run]:
        """What the method is given of each target."""
        recording, tape = recorded.recording, recorded.recording.tape
        graph, attentions = recording.graph, tape.attentions
        read = frozenset[int]().union(*graph.states(sources).values())
        heads = joined(graph, attentions, read)
        for of_target, (of_calls, readouts) in zip(chosen, found, strict=True):
            assert of_target.again is not None
            again, gradients = of_target.again, heads.gradients(of_calls)
            replay = ForwardCall(self.model, recording.inputs, self.batch, again, tape.heads_first, copies=tape.copies)
            run = TargetView(
                heads.graph,
                heads.weighted(gradients),
                gradients,
                {s: Readout(heads.state(r.state), r.weights) for s, r in readouts.items()},
                recorded.names,
                self.memory_budget,
                full,
                replay if recording.live is None else None,
                recording.parts,
                heads,
            )
            run.graph = with_merges(run, of_calls)
            yield run, replace(of_target, values=of_target.values.detach())

    def _check(self, values: Tensor, attentions: Sequence[Attention]) -> None:
        """TargetError where the target is no value a sample, GradientError where one is not finite."""
        if tuple(values.shape) != (self.batch,):
            raise TargetError(
                f"the target has shape {tuple(values.shape)}; expected one value per sample, ({self.batch},)"
            )
        if not bool(torch.isfinite(values.detach()).all()):
            cause = not_finite(attentions) or "look for NaN or infinity in model or input"
            raise GradientError(f"the target is not finite: {values.tolist()}; {cause}")


def _allowed(memory: int | str | None, model: nn.Module) -> int | None:
    """What a call may take, in bytes."""
    amount = memory_bytes(memory)
    if amount != FREE:
        return amount if amount is None else int(amount)
    parameter = next(model.parameters(), None)
    return free_bytes(torch.device("cpu") if parameter is None else parameter.device)
