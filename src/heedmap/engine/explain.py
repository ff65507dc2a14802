"""explain() and inspect(): record → target → gradient → method → Explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast, overload, runtime_checkable

import torch
from torch import Tensor, nn

from heedmap.attention import tower
from heedmap.attention.at_rest import recording_state
from heedmap.attention.attention import Attention
from heedmap.attention.flow import check_followed
from heedmap.attention.forward import Recording
from heedmap.attention.heads import joined
from heedmap.attention.inputs import ModelInputs, configuration, contents, named, unwrapped
from heedmap.attention.places import not_finite
from heedmap.attention.probe import asking
from heedmap.attention.tape import Tape
from heedmap.common.memory import FREE, free_bytes, memory_bytes
from heedmap.common.printable import closest
from heedmap.common.progress import Progress, telling
from heedmap.data.flow import Flow
from heedmap.engine import narrow, one_by_one, without_attention
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
    with_less,
)
from heedmap.engine.result import Named, assembled, described, named_segments, origin, rows_of_each, stream_names
from heedmap.engine.without_attention import AUTO, REFUSALS, advised, best, reason, taken, why
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    InputError,
    MissingRuleError,
    MixingError,
    NoAttentionError,
    OptionError,
    TargetError,
    UnfollowedAttentionError,
    UnknownNameError,
)
from heedmap.explanation import Explanation
from heedmap.lrp.replay import ForwardCall
from heedmap.methods import METHODS, Method
from heedmap.methods.run import MEMORY_BUDGET, Readout, TargetView, with_merges
from heedmap.methods.supported import Supported, kind_of, ranking
from heedmap.outputs import Context
from heedmap.targets import AnyTarget, Chosen, Several, Target, as_target
from heedmap.targets.target import again_of

if TYPE_CHECKING:
    from heedmap.types import Entry, Inputs, Tokenizer

Made = TypeVar("Made")
NOT_HERE = (AttentionError, MissingRuleError, GradientError)
"""What says that a model cannot have a method; others may do."""


@runtime_checkable
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


# Any: a setting of explain, or an option that the method checks itself
@overload
def explain(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    target: list[Entry] | Several,
    method: str | Method = ...,
    **options: Any,
) -> list[Explanation]:
    """A list of targets, or one that stands for several: an explanation of each, in its order, also where there is one."""


@overload
def explain(
    model: nn.Module | Wrapped, inputs: Inputs, *, target: AnyTarget = ..., method: str | Method = ..., **options: Any
) -> Explanation:
    """One target, or None for the top prediction: its explanation."""


def explain(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    target: AnyTarget | list[Entry] = None,
    method: str | Method = "generic",
    full: bool = False,
    probe: bool = True,
    memory: int | str | None = None,
    memory_budget: int = MEMORY_BUDGET,
    labels: Mapping[int, str] | None = None,
    segments: Mapping[str, str] | None = None,
    mixers: bool = True,
    progress: Progress | None = None,
    **options: object,
) -> Explanation | list[Explanation]:
    """Which parts of its input the model's answer rests on.

    Args:
        model: any torch module, unmodified, or a ``heedmap.Model``. It is left as it was found. Where no softmax attention can be
            followed (a CNN, an LSTM), methods that need none explain it by its input's own features: words, places
            of a picture, times of a sound.
        inputs: what the model is called with: dict of keyword arguments, tuple, or one tensor; batch first. Where it is not, or
            inputs have several rows a sample, a callable's values tell how many samples there are.
        target: None (each sample's own top prediction), a class index, a label, a tensor or array of one index or one for
            each sample (``logits.argmax(-1)``), a ``heedmap.targets.Target``, or a callable(output) → (batch,) tensor. A
            list always gives one Explanation per entry, all from one forward pass, also where it is as long as the batch; so
            do ``heedmap.targets.EveryQuery()``, ``TopClasses(20)`` and ``EveryPosition()``.
            Where a sample has several choices, ids (batch, choices, tokens), or a picture several texts, the target is one
            of these (None: the one with the highest score; a callable: the one it depends on) and the relevance that of its own
            words: each is one pass more. A callable of several choices has all of them as one input.
        method: a name in ``heedmap.METHODS``, or a Method; ``"auto"``: what the evidence speaks for most on a flow of this kind
            (docs/which-method.md), or the next where the model cannot have it, with the method's own options; where no attention
            is followed ``integrated_gradients``, or ``occlusion`` where that cannot run. The explanation says which was taken, in
            ``method``, and why, in a note of its flow.
        full: also compute the whole R^{sx} matrices, ``Explanation.maps``.
        probe: prove, once per model and image size, that tokens mix in recorded attention only. False: at your own risk.
        memory: what the call may take beside the model, in bytes or such as ``"4GB"``; ``"free"``: nine tenths of what is free.
            It says how many targets are worked on at once, and whether A is whole or in which blocks; :func:`heedmap.plan`
            tells how, beforehand. It bounds the proof of a first call, too: where that would take more, the call is refused.
            None: no bound, but that of blocks.
        memory_budget: bytes that blocks of attention may take at once, where ``memory`` is not given.
        labels: class index → name, where the model's ``config.id2label`` does not say.
        segments: name of an input → name of its segment, for models that call their inputs by names of their own: then these
            inputs are content, and all others are not. None: what rows of a stream begin in, by the names of transformers.
        mixers: whether the paper's rules go on through what mixes tokens and is no softmax attention (convolutions, merged
            tokens, recurrences …), which is an extension of the paper. False: a model in which there is such is refused as one
            whose attention is not followed; the maps of all others are the same.
        progress: called with the passes that are done, and their number, by methods that take many (``integrated_gradients``,
            ``smoothgrad``, ``gradient_shap``, ``occlusion``, ``value_zeroing``); it begins again with each round of targets.
        options: the method's own.

    Returns:
        One Explanation, or a list of them for a list of targets; relevance is float32, on the CPU.

    Raises:
        HeedmapError: see ``heedmap.errors``; the message says what was given, what was expected and what to do.

    Examples:
        A model as it is, called with tensors; two classes from one forward pass:

        >>> import heedmap, torch
        >>> from transformers import ViTConfig, ViTForImageClassification
        >>> model = ViTForImageClassification(ViTConfig(num_hidden_layers=2, image_size=64, num_labels=3))
        >>> first, second = heedmap.explain(model, {"pixel_values": torch.randn(1, 3, 64, 64)}, target=[0, 1])
        >>> first["image"].shape, first.segments["image"].grid, second.target
        (torch.Size([1, 16]), (4, 4), ('class 1',))

        A model with its processor, by another method:

        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> inputs = subject.inputs(text="dog red ; cat blue ? cat")
        >>> heedmap.explain(subject, inputs, target="red", method="attn_lrp")
        Explanation(attn_lrp, batch 1, target "token 34 ('red') after position 6", text 7)
    """
    auto = method == AUTO
    if auto and options:
        raise OptionError(
            f"method {AUTO!r} chooses the method, so it takes no option ({', '.join(options)}); name the method"
        )
    recipe = METHODS["generic"] if auto else find_method(method)
    asked = MethodCall(recipe, recipe.resolve(options), full, auto)
    engine = Engine(model, inputs, labels, probe, memory_budget, segments, mixers, memory)
    targets = engine.targets(target)
    if not targets:
        raise TargetError("target is an empty list; give at least one target, or None for the top prediction")
    with recording_state(engine.model), telling(progress):
        explanations = [
            explanation
            for part, of_part in engine.narrowed(engine.each(targets))
            for explanation in part.explained(of_part, asked)
        ]
    return explanations if isinstance(target, (list, Several)) else explanations[0]


def inspect(
    model: nn.Module | Wrapped, inputs: Inputs, *, target: AnyTarget = None, probe: bool = True, mixers: bool = True
) -> Flow:
    """The attentions found, their streams, and the rows that the target reads, as a table.

    Arguments as for :func:`explain`. Where the output has no top prediction and no target is given, the rows are left out
    and a note says so.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> print(heedmap.inspect(subject, subject.inputs(text="dog red ? dog")))
        2 attentions, 1 stream
        <BLANKLINE>
        attention  kind  flow         heads  queries×keys  form  gradient
        ─────────  ────  ───────────  ─────  ────────────  ────  ────────
        0–1        self  text ← text  2      4×4           sdpa  yes
        <BLANKLINE>
        stream  tokens  segments  read by the target
        ──────  ──────  ────────  ──────────────────
        text    4       text      row 3
    """
    engine = Engine(model, inputs, None, probe, mixers=mixers)
    (wanted,) = engine.targets([target])
    with recording_state(engine.model):
        ((engine, (wanted,)),) = engine.narrowed([wanted])
        recording, segments = engine.record()
        try:
            run, _ = engine.choose(recording, segments, wanted, keep=False)
        except (TargetError, GradientError) as error:
            if target is not None:
                raise
            return described(recording, segments, None, (f"which rows are read is not known: {error}",))
        return described(recording, segments, run)


def find_method(method: str | Method) -> Method:
    """The method of this name; UnknownNameError lists the known ones."""
    if isinstance(method, Method):
        return method
    if method not in METHODS:
        raise UnknownNameError(
            f"no method {method!r}{closest(str(method), METHODS)}; known methods: {', '.join(METHODS)}"
        )
    return METHODS[method]


def first_that_can(ranked: Sequence[Supported], make: Callable[[Method], Made]) -> tuple[Method, str, Made]:
    """The first method that the model can have, why it is that one, and what is made by it.

    Raises:
        HeedmapError: it can have none; what is raised is what the paper's method, which needs the least, was refused for.
    """
    passed: list[str] = []
    causes: dict[str, HeedmapError] = {}
    for choice in ranked:
        method = METHODS[choice.name]
        try:
            return method, why(choice, passed), make(method)
        except NOT_HERE as error:
            passed.append(choice.name)
            causes[choice.name] = error
    raise causes["generic"]


class MethodCall(NamedTuple):
    """How targets are to be explained; ``auto``: by the method that the evidence speaks for, in place of this one."""

    method: Method
    options: Mapping[str, object]
    full: bool = False
    auto: bool = False


class Engine:
    """One call of explain or inspect."""

    def __init__(
        self,
        model: nn.Module | Wrapped,
        inputs: Inputs,
        labels: Mapping[int, str] | None,
        check: bool,
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
        self.check, self.memory_budget, self.mixers = check, memory_budget, mixers
        self.memory, self.at_once = _allowed(memory, self.model), 1
        self.planned, self.least = False, 0
        self.inputs = ModelInputs.of(named(self.model, inputs), segments)
        self.batch, self.mixed = 0, ""  # known when it is known whether the answer rests on a part
        names: Mapping[int, str] | None = labels if labels is not None else getattr(self.subject, "labels", None)
        config = configuration(self.model)
        self.context = Context.of(self.inputs, config, names, self.model.forward, self.subject)

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
        """The number of samples: of inputs of unequal sizes, that of the targets' values, where no input has fewer rows.

        Raises:
            InputError: an input has fewer.
        """
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

    def record(self, whole: bool = True) -> tuple[Recording, Named]:
        """One forward pass, and the names of the segments of its streams; ``whole``: see :func:`tower.record`."""
        try:
            with asking(self._check_proof):
                recording = tower.record(self.model, self.inputs, self.batch, self.check, whole, self.mixers)
        except AttentionError as error:
            if self.mixed:
                raise MixingError(f"{self.mixed}; as one input: {error}") from error
            raise
        return recording, named_segments(recording)

    def _check_proof(self, tape: Tape, output: object) -> None:
        """OptionError where the proof that follows a pass takes more than the memory that is allowed."""
        if self.memory is not None:
            self.least = proof_peak(tape, output, self.model)
            check_proof(self.memory, self.least)

    def explained(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """As :meth:`explain`; where memory runs out, again with less.

        Raises:
            OutOfMemoryError: it cannot be made smaller.
        """
        return with_less(self, lambda engine: engine.explain(targets, asked))

    def explain(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """The explanation of each target; where attention is refused, by the input's own features.

        Raises:
            AttentionError: it is refused, and the method needs it; the message names those that do not.
        """
        method, options, full, auto = asked
        turned = self._turned_square(targets)
        if turned is not None:
            count = f"{self.batch} samples of as many tokens, whose batch comes second; explain them one by one"
            alike = MixingError(count)
            explanations = turned._one_by_one(targets, self.batch, alike, asked)
            if not explanations:
                raise alike
            return explanations
        refused: HeedmapError | None = None
        because = ""
        try:
            if auto:
                method, because, explanations = self._supported(targets, full)
            else:
                explanations = self._followed(targets, asked)
        except (*REFUSALS, InputError, TargetError) as error:
            refused = error
        if refused is not None:
            needed = full or (method.needs_attention and not auto)
            explanations = self._otherwise(targets, refused, needed or auto, asked)
            if explanations:
                return explanations
            if not isinstance(refused, AttentionError):
                raise refused
            try:
                without = self._without_attention(targets, refused)
            except HeedmapError as error:
                if needed:
                    raise refused from error
                raise
            if needed:
                raise advised(refused)
            if not auto:
                return self.made(*without, method, options)
            method, explanations = self._best(*without)
        if auto:
            note = taken(method, because)
            explanations = [
                replace(explanation, flow=replace(explanation.flow, notes=(note, *explanation.flow.notes)))
                for explanation in explanations
            ]
        return explanations

    def supported(self, recording: Recording, segments: Named, full: bool = False) -> list[Supported]:
        """The methods that the evidence speaks for on this flow, the best first; ``full``: those that have whole maps."""
        names = [name for of_stream in segments.values() for name, _ in of_stream]
        ranked = ranking(kind_of(recording.graph, recording.live is not None), names)
        return [choice for choice in ranked if not full or METHODS[choice.name].attribute is None]

    def _supported(self, targets: Sequence[Target], full: bool) -> tuple[Method, str, list[Explanation]]:
        """By the best supported method, or by the next where this model cannot have it; see :func:`first_that_can`."""
        return first_that_can(
            self.supported(*self.record(), full),
            lambda method: self._followed(targets, MethodCall(method, method.resolve({}), full)),
        )

    def _turned_square(self, targets: Sequence[Target]) -> Engine | None:
        """An engine for inputs that the model takes with their batch second, where their shape does not say so."""
        if not self.inputs.is_square(self.batch) or self.inputs.turned:
            return None
        turned = self.inputs.turned_to(self.batch)
        if turned is None or one_by_one.is_batch_first(self.model, self.inputs, self.batch):
            return None
        if not one_by_one.are_samples(self.model, turned, targets, self.context):
            return None
        return self._on(turned, self.mixed, self.batch)

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
                wanted = [samples.target(sample, target) for target in targets]
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

    def _best(
        self, recording: Recording, segments: Named, runs: list[tuple[TargetView, Chosen]]
    ) -> tuple[Method, list[Explanation]]:
        """By the best of the methods that need no attention; where it finds no gradient, by the next."""
        *before, last = best()
        for method in before:
            try:
                return method, self.made(recording, segments, runs, method, method.resolve({}))
            except GradientError:
                continue
        return last, self.made(recording, segments, runs, last, last.resolve({}))

    def _without_attention(
        self, targets: Sequence[Target], refused: AttentionError
    ) -> tuple[Recording, Named, list[tuple[TargetView, Chosen]]]:
        """One forward pass of which only the input's own features are known, and each target on it."""
        self.at_once = 1
        features = without_attention.record(self.model, self.inputs, self.batch, refused)
        recording, runs = features.recording, []
        segments = named_segments(recording)
        for target in targets:
            with recording.tape:
                chosen = target.choose(recording.output, self.context)
            self._check(chosen.values, ())
            again = again_of(target, chosen, self.context)
            runs.append((without_attention.view(self.model, features, segments, again, self.memory_budget), chosen))
        return recording, segments, runs

    def _followed(self, targets: Sequence[Target], asked: MethodCall) -> list[Explanation]:
        """One forward pass; for each target a backward pass and an explanation.

        What a method that attributes to the input needs of the targets is held for all of them at once, so that they share
        its further passes; of other methods for one after the other.
        """
        method = asked.method
        if asked.full and method.attribute is not None:
            raise OptionError(
                f"method {method.name!r} gives relevance to the input only; it has no whole maps (full=True)"
            )
        whole = method.attribute is None
        recording, segments = self.record(whole)
        try:
            return self._by_recording(recording, segments, targets, asked)
        except UnfollowedAttentionError:
            if recording.live is None or not whole:
                raise
            recording, segments = self.record(whole=False)
            if recording.live is not None:
                raise
        return self._by_recording(recording, segments, targets, asked)

    def _by_recording(
        self, recording: Recording, segments: Named, targets: Sequence[Target], asked: MethodCall
    ) -> list[Explanation]:
        """The explanations on one recording.

        Raises:
            UnfollowedAttentionError: the method is not defined through what was recorded.
        """
        method = asked.method
        if recording.live is not None and method.attribute is not None:
            raise UnfollowedAttentionError(
                f"method {method.name!r} gives relevance to the input's features, and the model's tokens are followed by their "
                "numbers only (windows, merged tokens, other mixers)"
            )
        self.cut(recording, asked, len(targets))
        runs = self._runs(recording, segments, targets, asked.full)
        if method.attribute is not None:
            tower.check_features(recording.graph, method.name)
        return self.made(recording, segments, runs, method, asked.options)

    def _runs(
        self, recording: Recording, segments: Named, targets: Sequence[Target], full: bool
    ) -> Iterator[tuple[TargetView, Chosen]]:
        """Each target on a recording, so many at once as were settled."""
        rest = list(targets)
        while rest:
            some, rest = rest[: self.at_once], rest[self.at_once :]
            yield from self._choose_all(recording, segments, some, bool(rest), full)

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
        together = carries_together(method, options) and recording.live is None and not whole
        needs = Needs.of(recording, self.model, whole)
        return planned(needs, graph, self.memory, self.memory_budget, targets, MOST_AT_ONCE if together else 1)

    def made(
        self,
        recording: Recording,
        segments: Named,
        runs: Iterable[tuple[TargetView, Chosen]],
        method: Method,
        options: Mapping[str, object],
    ) -> list[Explanation]:
        """The method's explanation of each target."""
        if method.attribute is not None:
            listed = list(runs)
            leaves = method.attribute([run for run, _ in listed], options)
            return [
                self.told(recording, segments, run, method, options, leaves=of_run)
                for run, of_run in zip(listed, leaves, strict=True)
            ]
        explanations, rest = [], iter(runs)
        while chunk := list(islice(rest, self.at_once)):
            rows = rows_of_each([run for run, _ in chunk], method, options)
            explanations += [
                self.told(recording, segments, run, method, options, rows=of_run)
                for run, of_run in zip(chunk, rows, strict=True)
            ]
        return explanations

    def told(
        self,
        recording: Recording,
        segments: Named,
        run: tuple[TargetView, Chosen],
        method: Method,
        options: Mapping[str, object],
        leaves: Mapping[int, Tensor] | None = None,
        rows: dict[int, Tensor] | None = None,
    ) -> Explanation:
        """The explanation of one target, with its labels; ``leaves`` and ``rows``: see :func:`assembled`."""
        explanation = assembled(recording, segments, *run, method, options, self.context, leaves, rows)
        explanation = replace(explanation, origin=origin(self.model, getattr(self.subject, "name", None)))
        return explanation if self.subject is None else self.subject.label(explanation, self.inputs)

    def choose(self, recording: Recording, segments: Named, target: Target, keep: bool) -> tuple[TargetView, Chosen]:
        """Evaluate the target under the recorder and pull its gradient back to the attention outputs."""
        (run,) = self._choose_all(recording, segments, [target], keep, full=False)
        return run

    def _choose_all(
        self, recording: Recording, segments: Named, targets: Sequence[Target], keep: bool, full: bool
    ) -> Iterator[tuple[TargetView, Chosen]]:
        """The same for several targets at once: those that were computed from the same, by the same passes."""
        asked = [self._asked(recording, target) for target in targets]
        done = 0
        for sources, group in groupby(asked, lambda pair: pair[1]):
            chosen = [of_target for of_target, _ in group]
            done += len(chosen)
            found = pulled(recording, sources, [c.values for c in chosen], keep or done < len(asked))
            yield from self._views(recording, segments, sources, chosen, found, full)

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
        self,
        recording: Recording,
        segments: Named,
        sources: frozenset[int],
        chosen: Sequence[Chosen],
        found: Sequence[Pulled],
        full: bool,
    ) -> Iterator[tuple[TargetView, Chosen]]:
        """What the method is given of each target."""
        graph, attentions = recording.graph, recording.tape.attentions
        read = frozenset[int]().union(*graph.states(sources).values())
        heads = joined(graph, attentions, read)
        for of_target, (of_calls, readouts) in zip(chosen, found, strict=True):
            assert of_target.again is not None
            gradients = heads.gradients(of_calls)
            run = TargetView(
                heads.graph,
                heads.weighted(gradients),
                gradients,
                {s: Readout(heads.state(r.state), r.weights) for s, r in readouts.items()},
                stream_names(segments),
                self.memory_budget,
                full,
                None if recording.live is not None else self._replay(recording, of_target.again),
                recording.parts,
                heads,
            )
            run.graph = with_merges(run, of_calls)
            yield run, replace(of_target, values=of_target.values.detach())

    def _replay(self, recording: Recording, again: Callable[[object], Tensor]) -> ForwardCall:
        tape = recording.tape
        return ForwardCall(self.model, recording.inputs, self.batch, again, tape.heads_first, copies=tape.copies)

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
