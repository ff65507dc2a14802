"""What a person calls: explain() and inspect(), and plan(), which tells what an explanation would take before it is made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import nn

from heedmap.attention import forward, placing
from heedmap.attention.at_rest import recording_state
from heedmap.attention.inputs import detached
from heedmap.common.progress import Progress, telling
from heedmap.data.flow import Flow
from heedmap.engine.choosing import MethodCall
from heedmap.engine.engine import Engine, Wrapped
from heedmap.engine.planning import Plan, check_proof, is_counted, proof_peak, seconds
from heedmap.engine.result import described
from heedmap.errors import GradientError, TargetError
from heedmap.explanation import Explanation
from heedmap.methods import Method
from heedmap.methods.method import MEMORY_BUDGET
from heedmap.targets import AnyTarget, Several

if TYPE_CHECKING:
    from heedmap.types import Entry, Inputs


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
    asked = MethodCall.of(method, options, full)
    engine = Engine(model, inputs, labels, probe, memory_budget, segments, mixers, memory)
    targets = engine.targets(target)
    if not targets:
        raise TargetError("target is an empty list; give at least one target, or None for the top prediction")
    with recording_state(engine.model), telling(progress):
        parts = engine.narrowed(engine.each(targets))
        explanations = [found for part, of_part in parts for found in part.explained(of_part, asked)]
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
        recorded = engine.record()
        try:
            run, _ = engine.choose(recorded, wanted, keep=False)
        except (TargetError, GradientError) as error:
            if target is not None:
                raise
            return described(recorded, None, (f"which rows are read is not known: {error}",))
        return described(recorded, run)


TIMED = 3
"""So many forward passes are timed; the quickest one counts."""
PROOF = "a first call also proves where tokens mix, which takes a few forward passes more"
NUMBERS = "the model's tokens are followed by their numbers (windows, merged tokens, other mixers); that is not counted"
MORE = "what this method does beside one forward pass and a backward pass a target is not counted"


def plan(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    target: AnyTarget | list[Entry] = None,
    method: str | Method = "generic",
    full: bool = False,
    memory: int | str | None = None,
    memory_budget: int = MEMORY_BUDGET,
    labels: Mapping[int, str] | None = None,
    segments: Mapping[str, str] | None = None,
    mixers: bool = True,
    **options: object,
) -> Plan:
    """How :func:`heedmap.explain` would make an explanation, how much memory it would take, and about how long.

    The model runs a few times, forward. No target is pulled back and nothing is proved; to find where tokens are, the recorder
    pulls back through what lies before the first attention.

    Args:
        model: as for :func:`heedmap.explain`, and so on for all others.
        inputs: as there.
        target: as there.
        method: as there.
        full: as there.
        memory: as there.
        memory_budget: as there.
        labels: as there.
        segments: as there.
        mixers: as there.
        options: as there.

    Returns:
        The plan, by which an explanation of the same is made.

    Raises:
        OptionError: the memory does not suffice for the smallest blocks, or for the proof of a first call; the message says
            what does.
        AttentionError: the model's attention is not followed, so there is nothing to plan.
        HeedmapError: as for :func:`heedmap.explain`.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/vit-shapes")
        >>> inputs = subject.inputs(image=heedmap.zoo_sample("vit-shapes").picture)
        >>> plan = heedmap.plan(subject, inputs, target=heedmap.targets.TopClasses(10), memory="100MB")
        >>> plan.targets, plan.at_once, plan.tokens, plan.peak <= plan.memory
        (10, 8, (145,), True)
    """
    asked = MethodCall.of(method, options, full)
    engine = Engine(model, inputs, labels, False, memory_budget, segments, mixers, memory)
    with recording_state(engine.model):
        parts = list(engine.narrowed(engine.each(engine.targets(target))))
        engine, targets = parts[0]
        recorded = engine.record(whole=asked.method.attribute is None)
        if asked.auto:
            asked = MethodCall.of(engine.supported(recorded, full)[0].name, full=full)
        recording = recorded.recording
        with recording.tape:
            for of_target in targets:
                of_target.choose(recording.output, engine.context)
        made = engine.plan(recording, asked, len(targets))
        attentions, plain = recording.tape.attentions, recording.live is None
        given = recording.inputs
        del recording, recorded
        passed = (forward if plain else placing).to_prove(engine.model, given, engine.batch)
        proof = 0 if passed is None else proof_peak(passed[0], passed[1], engine.model)
        del passed
        if engine.memory is not None:
            check_proof(engine.memory, proof)
        forward_seconds, operations = _timed(engine.model, engine.inputs.given())
    counted = is_counted(asked)
    notes = (PROOF, *(() if counted else (MORE,)), *(() if plain else (NUMBERS,)))
    return replace(
        made,
        peak=max(made.peak, proof),
        least=max(made.least, proof),
        targets=sum(len(of_part) for _, of_part in parts),
        seconds=len(parts) * seconds(forward_seconds, operations, attentions, len(targets))
        if plain and counted
        else None,
        forward_seconds=forward_seconds,
        notes=notes,
        proof=proof,
    )


def _timed(model: nn.Module, inputs: Mapping[str, object]) -> tuple[float, float]:
    """Seconds of a plain forward pass, and its operations."""
    from torch.utils.flop_counter import FlopCounterMode  # heavy to import, and a plan's alone

    taken = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(**detached(inputs))
        for _ in range(TIMED):
            given, began = detached(inputs), time.perf_counter()
            model(**given)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return min(taken), float(counter.get_total_flops())
