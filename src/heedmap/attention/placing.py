"""A recording by token numbers, of models whose tokens the first recorder cannot follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from heedmap.attention.copying import Copies, Own
from heedmap.attention.fingerprint import Ways, of_inputs, proved
from heedmap.attention.flow import Graph, check_followed, verify_same
from heedmap.attention.forward import Recording, call
from heedmap.attention.inputs import check_no_cache, without_cache
from heedmap.attention.learned import LearnedRows
from heedmap.attention.parting import parted
from heedmap.attention.placed_flow import Builder, check_returned, prove
from heedmap.attention.places import told
from heedmap.attention.probe import ask
from heedmap.attention.returned import check_same, sampled, tensors_of
from heedmap.attention.scanning import Regions, ScanningTape
from heedmap.attention.tape import Tape
from heedmap.errors import AttentionError, MixingError, NoAttentionError

ROUNDS = 6
"""How often the beginnings of tokens may be chosen anew."""


def record(
    model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool = True, known: dict[Any, Any] | None = None
) -> Recording:
    """Run the model under the second recorder; the first time, for this kind of input, also prove what it found.

    To be called within :func:`heedmap.attention.at_rest.recording_state`; for the arguments see
    :func:`heedmap.attention.forward.record`.

    Raises:
        AttentionError: see its subclasses.
    """
    check_no_cache(inputs)
    known = proved(model) if known is None else known
    inputs = without_cache(model, inputs)
    key = _key(inputs, batch, check)
    before: Proof | None = known.get(key)
    if before is not None:
        try:
            regions = _looked_for(model, inputs, batch, before.begun) if any(before.regions) else before.regions
            recording = _recorded(model, inputs, batch, before._replace(regions=regions))
            if recording.tape.ways.known(before.ways):
                return recording
        except AttentionError:  # this run is not like the one that was proved
            pass
    proof = _proved(model, inputs, batch, check)
    recording = _recorded(model, inputs, batch, proof)
    check_same(proof.answered, recording.output)
    known[key] = proof
    proof.ways.also(recording.tape.ways)
    if before is not None:
        proof.ways.also(before.ways)
    return recording


def _key(inputs: Mapping[str, Any], batch: int, check: bool) -> Any:
    """What a proof is kept for."""
    return ("by numbers", batch > 1, check, of_inputs(inputs), getattr(inputs, "turned", None))


def to_prove(model: nn.Module, inputs: Mapping[str, Any], batch: int) -> tuple[Tape, Any] | None:
    """The pass that is proved, and its output; None where there is a proof."""
    if _key(inputs, batch, True) in proved(model):
        return None
    return _passed(model, inputs, batch, True)[0][:2]


class Begun(NamedTuple):
    """Where tokens begin.

    Attributes:
        tokens: see :class:`~heedmap.attention.placed.PlacedTape`.
        learned: see :class:`~heedmap.attention.learned.LearnedRows`.
        properties: see :class:`~heedmap.attention.companions.CompanionTape`.
        renewed: see :class:`~heedmap.attention.attending.AttendingTape`.
        parted: see there.
        copied: see :class:`~heedmap.attention.copying.Copies`.
        copies: see :class:`~heedmap.attention.tape.Tape`.
    """

    tokens: frozenset[int] = frozenset()
    learned: frozenset[int] = frozenset()
    properties: frozenset[int] = frozenset()
    renewed: frozenset[int] = frozenset()
    parted: frozenset[int] = frozenset()
    copied: Own = frozenset()
    copies: bool = False


class Proof(NamedTuple):
    """What was proved, for a kind of input: where tokens begin, the flow, regions, the code that ran, what the model said."""

    begun: Begun
    graph: Graph
    regions: Regions
    ways: Ways
    answered: Sequence[Tensor]


def _looked_for(model: nn.Module, inputs: Mapping[str, Any], batch: int, begun: Begun) -> Regions:
    """The regions of a run of this length."""
    return _run(model, inputs, batch, begun)[0].found()


class Passed(NamedTuple):
    """A run in which the tokens begin where they should: its recording and output, what is known of it, and its regions."""

    tape: ScanningTape
    output: Any
    builder: Builder
    graph: Graph
    regions: Regions


def _passed(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool) -> tuple[Passed, Begun]:
    """The run that is to be proved, and where tokens begin in it."""
    begun = Begun()
    for _ in range(ROUNDS):
        passed, begun = _tried(model, inputs, batch, begun, check)
        if passed is not None:
            return passed, begun
    raise NoAttentionError("where the tokens begin was not found: each choice makes others begin elsewhere")


def _proved(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool) -> Proof:
    """Where tokens begin, the flow, and the regions, after which nothing else mixes tokens."""
    (tape, output, builder, graph, regions), begun = _passed(model, inputs, batch, check)
    if check:
        ask(tape, output)
    with told(tape.attentions):
        _check_answers(tape, builder, output)
        if check:
            prove(tape, builder)
            check_returned(tape, builder, output, inputs)
    for source in tape.sources:  # the verdict outlives the run; its tensors need not
        source.tensor = None
    return Proof(begun, graph, regions, tape.ways, sampled(output))


def _tried(
    model: nn.Module, inputs: Mapping[str, Any], batch: int, begun: Begun, check: bool
) -> tuple[Passed | None, Begun]:
    """A run in which tokens begin where ``begun`` says; or None, and where they are to begin in the next one."""
    regions, more = Regions(), frozenset[int]()
    tape, output = _run(model, inputs, batch, begun, cut=True, regions=regions)
    if tape.overwritten is not None and not begun.copies:
        del tape, output  # and with them the graph, before there is another one
        begun = begun._replace(copies=True)
        tape, output = _run(model, inputs, batch, begun, cut=True, regions=regions)
    tape.check_kept()
    if tape.learned.met or tape.shared:
        learned, properties = begun.learned | tape.learned.met, begun.properties | tape.shared
        return None, begun._replace(tokens=frozenset(), learned=learned, properties=properties)
    if not tape.copied.found <= begun.copied:
        copied = begun.copied | tape.copied.found
        return None, begun._replace(tokens=frozenset(), properties=frozenset(), copied=copied)
    if tape.begun:
        regions = _looked_for(model, inputs, batch, begun)
    if any(regions):
        del tape, output
        tape, output = _run(model, inputs, batch, begun, cut=True, regions=regions)
    with told(tape.attentions):
        builder = Builder(tape, output)
        try:
            graph, more = builder.build(), frozenset(builder.ancestors) - begun.tokens
            builder.check_answers(tape.tag(t).sources for t in tensors_of(output))
        except NoAttentionError:
            more = tape.firsts - begun.tokens
            if not more:
                raise
        except MixingError:
            if not builder.renewed:
                raise
    if not more and not builder.renewed:
        apart = parted(tape, builder.live, output) if check else frozenset[int]()
        if apart <= begun.parted:
            return Passed(tape, output, builder, graph, regions), begun
        return None, begun._replace(parted=begun.parted | apart)
    return None, begun._replace(tokens=begun.tokens | more, renewed=begun.renewed | builder.renewed)


def _check_answers(tape: ScanningTape, builder: Builder, output: Any) -> None:
    """UnfollowedAttentionError where nothing that the model returns is without an attention that could not be followed.

    NoAttentionError where nothing of it reads an attention or a mixer.
    """
    answers = [tags for t in tensors_of(output) if (tags := tape.tag(t).sources)]
    bad = [[i for i in tags if tape.sources[i].kind == "unfollowed"] for tags in answers]
    if answers and all(bad):
        check_followed(tape, frozenset(bad[0]), "the model")
    if answers and not any(builder.graph.states(builder.sources(tags)) for tags in answers):
        raise NoAttentionError("nothing that the model returns reads what was seen to mix tokens")


def _recorded(model: nn.Module, inputs: Mapping[str, Any], batch: int, proof: Proof) -> Recording:
    tape, output = _run(model, inputs, batch, proof.begun, regions=proof.regions)
    tape.check_kept()
    builder = Builder(tape, output)
    verify_same(proof.graph, builder.build())
    tape.reads.clear()
    return Recording(
        tape,
        builder.graph,
        builder.parts(inputs),
        output,
        inputs,
        frozenset(builder.live),
        builder.read_by_target,
        builder.before,
    )


def _run(
    model: nn.Module,
    inputs: Mapping[str, Any],
    batch: int,
    begun: Begun,
    cut: bool = False,
    regions: Regions | None = None,
) -> tuple[ScanningTape, Any]:
    tape = ScanningTape(batch, cut=cut, tokens=begun.tokens, regions=regions)
    tape.learned, tape.properties = LearnedRows(batch, begun.learned), begun.properties
    tape.copied = Copies(begun.copied)
    tape.renewed, tape.parted, tape.copies = begun.renewed, begun.parted, begun.copies
    return tape, call(model, inputs, tape, noted=True)
