"""What an explanation will take: how much memory and time, and how it is cut so that it takes no more than it may.

Memory is counted, not guessed: of a forward pass that was recorded, all that its graph and the recorded attentions hold. What
comes on top of it (gradients, blocks of A, relevance) follows from their sizes. Time is that of a plain forward pass on this
machine, times factors that were fitted (``bench/cost.py``, ``docs/scale.md``). What memory does not suffice for all the same, the
engine (``Engine.with_less``) tries again with less: :data:`BUDGETS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, device, nn

from heedmap.attention.attention import Attention
from heedmap.attention.backward import ancestors
from heedmap.attention.flow import Graph
from heedmap.attention.forward import Recording
from heedmap.attention.tape import Tape
from heedmap.common.memory import told_bytes
from heedmap.engine.choosing import MethodCall
from heedmap.engine.gradients import is_small
from heedmap.engine.narrow import tensors_of
from heedmap.errors import OptionError
from heedmap.methods.method import BLOCK, block_rows, dense_bytes

COUNTED = ("generic", "raw_attention", "rollout", "attention_gradcam")
"""Methods whose cost is known."""
MOST_AT_ONCE = 8
"""So many targets share a backward pass and what is made of A, at most."""
BUDGETS = (3 * BLOCK, 1)
"""Bytes for blocks, with which a call is tried again: no Ā whole; then one row and one target at a time."""
ABOVE = 3
"""Tensors as large as the largest one that is kept, which a backward pass has beside the gradients."""
SLACK = 1.05
"""What an allocator takes more than it is asked for."""
SLACK_OF_PROOF = 1.1
"""The same of a proof, whose rows are gathered from gradients in many small pieces."""

BASE, BACKWARD, REBUILD, OVERHEAD = 1.69, 0.97, 0.73, 1.9e-3
"""Of a call: forward passes; for each target, forward passes, and products by which A and its gradient are made, at the speed of
the forward pass; and seconds for each attention and target."""


@dataclass(frozen=True)
class Plan:
    """How an explanation is made, and what it takes. All amounts are bytes.

    Attributes:
        memory: that the call may take beside the model; None: no bound was given.
        peak: that it takes at most, beside the model and the inputs, the proof of a first call included.
        least: with which it could be made, with the smallest blocks and one target at a time, the proof included.
        kept: that the recorded forward pass keeps for the backward pass.
        gradients: of one target at all attention outputs.
        blocks: of A, its gradient and Ā at once.
        dense: whether every Ā is kept whole; False: it is made in blocks of rows, again for each use.
        rows: of the largest attention that are made at once.
        targets: how many there are.
        at_once: so many of them share what is made of A, and where the model is small a backward pass.
        tokens: of each stream.
        seconds: an estimate of the whole; None: not known, where the method runs the model more often or what is followed is no
            plain attention.
        forward_seconds: of a plain forward pass, as it was measured; None: it was not.
        budget: of :func:`heedmap.explain`'s ``memory_budget``, what it means.
        notes: what is not counted.
        proof: what the proof of a first call takes at most; 0: it was made already.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> plan = heedmap.plan(subject, subject.inputs(text="dog red ; cat blue ? cat"), memory="64MB")
        >>> plan.dense, plan.at_once, plan.peak < 2**20 < plan.memory
        (True, 1, True)
    """

    memory: int | None
    peak: int
    least: int
    kept: int
    gradients: int
    blocks: int
    dense: bool
    rows: int
    targets: int
    at_once: int
    tokens: tuple[int, ...]
    budget: int
    seconds: float | None = None
    forward_seconds: float | None = None
    notes: tuple[str, ...] = ()
    proof: int = 0

    def __str__(self) -> str:
        allowed = "" if self.memory is None else f" of {told_bytes(self.memory)}"
        whole = "whole" if self.dense else f"in blocks of {self.rows} {'row' if self.rows == 1 else 'rows'}"
        lines = [
            ("tokens", " and ".join(map(str, self.tokens))),
            ("targets", f"{self.targets}, {self.at_once} at once" if self.targets > 1 else "1"),
            ("memory", f"at most {told_bytes(self.peak)}{allowed} beside the model; {told_bytes(self.least)} would do"),
            ("", f"{told_bytes(self.kept)} the forward pass, {told_bytes(self.gradients)} gradients of a target"),
            ("Ā", f"{whole}, {told_bytes(self.blocks)}"),
        ]
        if self.seconds is not None and self.forward_seconds is not None:
            told = f"about {told_seconds(self.seconds)}; a forward pass takes {told_seconds(self.forward_seconds)}"
            lines.append(("time", told))
        if self.proof:
            lines.append(("proof", f"at most {told_bytes(self.proof)} of it, in a first call, before the explanation"))
        lines += [("note", note) for note in self.notes]
        return "\n".join(f"{name:8} {text}" for name, text in lines)


@dataclass(frozen=True)
class Needs:
    """What a recording needs, in bytes; see :class:`Plan`.

    Attributes:
        kept, gradients: as there.
        held: by the recorded attentions, which stay when the graph is gone.
        largest: the largest tensor that is kept.
        whole: of relevance matrices of one target, where the method needs them whole.
        batched: whether a backward pass is of several targets at once.
        attentions: the recorded ones, without other mixers.
    """

    kept: int
    held: int
    gradients: int
    largest: int
    whole: int
    batched: bool
    attentions: tuple[Attention, ...]

    @classmethod
    def of(cls, recording: Recording, model: nn.Module, whole: bool) -> Needs:
        """Of a recording of this model; ``whole``: whether the method needs matrices."""
        attentions = recording.tape.attentions
        of_tape = _beside(model, (t for a in attentions for t in _tensors_of(a)))
        kept = _beside(model, saved(tensors_of(recording.output))) | of_tape
        return cls(
            kept=sum(kept.values()),
            held=sum(of_tape.values()),
            gradients=sum(a.out.numel() * a.out.element_size() for a in attentions),
            largest=max(kept.values(), default=0),
            whole=matrices(recording.graph, attentions) if whole else 0,
            batched=is_small(recording),
            attentions=tuple(a for a in attentions if not a.mixes and a.queries),
        )

    def blocks(self, at_once: int, budget: int) -> int:
        """Of A, its gradient and Ā, with a budget for blocks."""
        parts = (
            block_rows(a, budget) * a.row * a.dtype.itemsize * (3 * a.heads + at_once - 1) for a in self.attentions
        )
        dense = at_once * dense_bytes(self.attentions)
        if dense > budget:
            return max(parts, default=0)
        largest = max((a.cells * a.dtype.itemsize for a in self.attentions), default=0)
        return max(parts, default=0) + dense + at_once * largest

    def peak(self, targets: int, at_once: int, budget: int) -> int:
        """Of the whole call."""
        above = self.largest * ABOVE * (at_once if self.batched else 1)
        made = self.blocks(at_once, budget) + at_once * self.whole
        if targets > 1:
            return int(SLACK * (self.kept + at_once * self.gradients + max(above, made)))
        return int(SLACK * (self.gradients + max(self.kept + above, self.held + made)))

    def fitting(self, memory: int, targets: int, most: int) -> tuple[int, int]:
        """How many targets at once, and the budget for blocks, so that the call takes no more than ``memory``.

        Raises:
            OptionError: one target with the smallest blocks takes more.
        """
        fits = (n for n in range(most, 0, -1) if self.peak(targets, n, 1) <= memory)
        at_once = next(fits, None)
        if at_once is None:
            least = self.peak(targets, 1, 1)
            raise OptionError(
                f"memory is {told_bytes(memory)}, and at least {told_bytes(least)} ({least} bytes) are needed beside the model, "
                f"with the smallest blocks and one target at a time, of which the forward pass keeps {told_bytes(self.kept)}; "
                "give more, fewer samples at once, or a smaller input"
            )
        budgets = [
            max(3 * BLOCK, at_once * dense_bytes(self.attentions)),
            *(3 * BLOCK >> shift for shift in range(24)),
            1,
        ]
        return at_once, next(budget for budget in budgets if self.peak(targets, at_once, budget) <= memory)


def proof_peak(tape: Tape, output: object, model: nn.Module) -> int:
    """Bytes that the proof takes at most which follows a pass with its attention outputs cut out of the graph.

    That is what the pass has made, and one vector; all others and the gradients come one after the other
    (:func:`heedmap.attention.backward.pulled`).
    """
    read = list(tape.pulled_from())
    leaves = [source.tensor for source in tape.sources if source.tensor is not None]
    recorded = [value for a in tape.attentions for value in vars(a).values() if isinstance(value, Tensor)]
    kept = _beside(model, [*saved([*read, *leaves, *tensors_of(output)]), *recorded])
    noise = max((t.numel() * t.element_size() for t in read), default=0)
    return int(SLACK_OF_PROOF * (sum(kept.values()) + noise + ABOVE * max(kept.values(), default=0)))


def check_proof(memory: int, needed: int) -> None:
    """OptionError where a proof needs more than it may take."""
    if needed > memory:
        raise OptionError(
            f"memory is {told_bytes(memory)}, and at least {told_bytes(needed)} ({needed} bytes) are needed beside the model, by "
            "the proof, before a first call, that tokens mix in what is followed only; give more, fewer samples at once, or a "
            "smaller input"
        )


def planned(needs: Needs, graph: Graph, memory: int | None, budget: int, targets: int, most: int) -> Plan:
    """The plan of a call, by what its recording needs.

    Args:
        needs, graph: of the recording.
        memory: that it may take; None: as much as it takes.
        budget: for blocks, where no memory is given.
        targets: how many there are.
        most: so many of them may be carried at once.

    Raises:
        OptionError: the memory does not suffice; the message says what does.
    """
    most = max(1, min(most, targets))
    if memory is None:
        at_once = max(1, min(most, budget // max(1, needs.gradients)))
    else:
        at_once, budget = needs.fitting(memory, targets, most)
    return Plan(
        memory=memory,
        peak=needs.peak(targets, at_once, budget),
        least=needs.peak(targets, 1, 1),
        kept=needs.kept,
        gradients=needs.gradients,
        blocks=needs.blocks(at_once, budget),
        dense=at_once * dense_bytes(needs.attentions) <= budget,
        rows=min((block_rows(a, budget) for a in needs.attentions), default=0),
        targets=targets,
        at_once=at_once,
        tokens=tuple(stream.tokens for stream in graph.streams),
        budget=budget,
    )


def seconds(forward: float, operations: float, attentions: Iterable[Attention], targets: int) -> float:
    """How long a call takes, by the seconds and the floating-point operations of a plain forward pass."""
    base, backward, rebuild, overhead = terms(forward, operations, attentions, targets)
    return BASE * base + BACKWARD * backward + REBUILD * rebuild + OVERHEAD * overhead


def terms(
    forward: float, operations: float, attentions: Iterable[Attention], targets: int
) -> tuple[float, float, float, float]:
    """What the four factors of :func:`seconds` are of."""
    listed = list(attentions)
    products = sum(2.0 * a.cells * a.heads * (_depth(a) + a.value.shape[-1]) for a in listed)
    return forward, targets * forward, targets * forward * products / max(1.0, operations), float(targets * len(listed))


def _depth(attention: Attention) -> int:
    return attention.value.shape[-1] if attention.query is None else attention.query.shape[-1]


def carries_together(asked: MethodCall) -> bool:
    """Whether the method's rows of several targets can be made at once: it needs of them no more than Ā."""
    options = asked.options
    return asked.method.name == "generic" and bool(options["aggregate"]) and options["cam"] == "gradient"


def by_rules(options: Mapping[str, object]) -> bool:
    """Whether the model is run again for each target, by the rules of relevance propagation."""
    return "rules" in options and options.get("cam", "lrp") == "lrp"


def is_counted(asked: MethodCall) -> bool:
    """Whether one forward pass and a backward pass a target are all that the method takes, so that its cost is known."""
    return asked.method.name in COUNTED and not by_rules(asked.options)


def matrices(graph: Graph, attentions: list[Attention]) -> int:
    """Bytes of relevance matrices of one target, where all of them are whole (co-attention, whole maps)."""
    total = 0
    for edge in graph.edges:
        attention, rows = attentions[edge.attention], graph.streams[edge.stream].tokens
        heard = {edge.source, edge.stream} | set(graph.reachable_from[edge.source])
        columns = sum(2 * graph.streams[x].tokens for x in heard) + graph.streams[edge.source].tokens
        total += attention.batch * rows * columns * attention.dtype.itemsize
    return total


def saved(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """The tensors themselves, and all that the graph they are part of keeps for a backward pass."""
    made = list(tensors)
    yield from made
    for node in ancestors(*made):
        names = [name for name in dir(node) if name.startswith("_saved_") or name == "saved_tensors"]
        for kept in map(partial(_kept, node), names):
            yield from (
                part for part in (kept if isinstance(kept, (tuple, list)) else (kept,)) if isinstance(part, Tensor)
            )


def _kept(node: object, name: str) -> object:
    try:
        return getattr(node, name)
    except RuntimeError:  # freed, or written to since
        return None


def _tensors_of(attention: Attention) -> Iterator[Tensor]:
    for name in ("out", "value", "query", "key", "mask", "probs"):
        tensor = getattr(attention, name)
        if tensor is not None:
            yield tensor


def _beside(model: nn.Module, tensors: Iterable[Tensor]) -> dict[tuple[device, int], int]:
    """The storages of tensors that are none of the model's own, with their bytes."""
    own = {_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
    return {key: t.untyped_storage().nbytes() for t in tensors if (key := _key(t)) not in own}


def _key(tensor: Tensor) -> tuple[device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()


def told_seconds(amount: float) -> str:
    """For people: ``0.21 s``, ``3 min``, ``1.2 h``.

    Examples:
        >>> told_seconds(0.2121), told_seconds(190), told_seconds(4200)
        ('0.21 s', '3 min', '1.2 h')
    """
    if amount < 100:
        return f"{amount:.2g} s"
    return f"{amount / 60:.0f} min" if amount < 3600 else f"{amount / 3600:.1f} h"
