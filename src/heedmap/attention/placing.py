"""A recording by token numbers, of models whose tokens the first recorder cannot follow, and its proof.

Where tokens begin is found in several runs, each of which says more of it. In the last one it is proved that tokens mix in what
was recorded only; the verdict is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from heedmap.attention.attention import Attention
from heedmap.attention.backward import noises, pulled
from heedmap.attention.beginnings import Begun
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.companions import Pair
from heedmap.attention.fingerprint import Ways, of_inputs, proved
from heedmap.attention.flow import Graph, check_followed, verify_same
from heedmap.attention.forward import Recording, call, ends_of
from heedmap.attention.inputs import check_no_cache, without_cache
from heedmap.attention.mixers import Mixer
from heedmap.attention.numbers import Ids, each
from heedmap.attention.pictures import segments
from heedmap.attention.placed import PlacedTape
from heedmap.attention.placed_flow import Builder, read_through
from heedmap.attention.places import told
from heedmap.attention.probe import ADVICE, ask
from heedmap.attention.returned import Read, check, check_same, orders, sampled
from heedmap.attention.scanning import Regions, ScanningTape
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan, TokenRows
from heedmap.common.memory import ran_out
from heedmap.errors import AttentionError, GradientError, MixingError, NoAttentionError

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
    passed, _ = _passed(model, inputs, batch, True)
    return passed.builder.tape, passed.output


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
    """A run in which the tokens begin where they should: what is known of it, what the model returned, and its regions."""

    builder: Builder
    output: Any
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
    (builder, output, regions), begun = _passed(model, inputs, batch, check)
    tape = builder.tape
    if check:
        ask(tape, output)
    with told(tape.attentions):
        _check_answers(builder)
        if check:
            prove(builder)
            check_returned(builder, inputs)
    for source in tape.sources:  # the verdict outlives the run; its tensors need not
        source.tensor = None
    return Proof(begun, builder.graph, regions, tape.ways, sampled(output))


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
    if tape.has_regions:
        regions = _looked_for(model, inputs, batch, begun)
    if any(regions):
        del tape, output
        tape, output = _run(model, inputs, batch, begun, cut=True, regions=regions)
    with told(tape.attentions):
        builder = Builder(tape, output)
        try:
            builder.build()
            more = frozenset(builder.ancestors) - begun.tokens
            builder.check_answers()
        except NoAttentionError:
            more = tape.firsts - begun.tokens
            if not more:
                raise
        except MixingError:
            if not builder.renewed:
                raise
    if not more and not builder.renewed:
        apart = parted(builder) if check else frozenset[int]()
        if apart <= begun.parted:
            return Passed(builder, output, regions), begun
        return None, begun._replace(parted=begun.parted | apart)
    return None, begun._replace(tokens=begun.tokens | more, renewed=begun.renewed | builder.renewed)


def _check_answers(builder: Builder) -> None:
    """UnfollowedAttentionError where nothing that the model returns is without an attention that could not be followed.

    NoAttentionError where nothing of it reads an attention or a mixer.
    """
    tape = builder.tape
    answers = [tags for t in builder.answers if (tags := tape.tag(t).sources)]
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
    builder.answers.clear()  # the recording keeps the builder: the graph above the attentions is to go with its output
    parts, live = segments(builder, inputs), frozenset(builder.live)
    return Recording(tape, builder.graph, parts, output, inputs, live, builder.read_by_target, builder.before)


def _run(
    model: nn.Module,
    inputs: Mapping[str, Any],
    batch: int,
    begun: Begun,
    cut: bool = False,
    regions: Regions | None = None,
) -> tuple[ScanningTape, Any]:
    tape = ScanningTape(batch, cut=cut, begun=begun, regions=regions)
    return tape, call(model, inputs, tape, noted=True)


# -- copies that go separate ways -------------------------------------------------------------------------------------


READERS, DRAWS = 4, 4
"""So many tensors that read an attention are looked at, at so many of their elements."""


def parted(builder: Builder) -> frozenset[int]:
    """The first attention, by its call, in which a token asks in several blocks that are not read together later.

    Heads in windows of their own are so read: whatever hears the token, hears all of them. The outputs of attention are cut.
    """
    for event in (builder.tape.attentions[i] for i in sorted(builder.live)):
        if isinstance(event, BlockAttention) and _asks_in_several(event):
            readers = islice(_readers(builder, event), READERS)
            if any(_is_apart(event, tensor) for tensor in readers):
                return frozenset([event.call])
    return frozenset()


def _asks_in_several(event: BlockAttention) -> bool:
    ids = event.query_ids[event.query_ids >= 0]
    return len(ids.unique()) < len(ids)


def _readers(builder: Builder, event: BlockAttention) -> Iterator[Tensor]:
    """What the model returns of an attention, and what later ones read of it."""
    tape = builder.tape
    (source,) = (i for i, s in enumerate(tape.sources) if s.kind == "attention" and s.attention == event.index)
    later = (t for a in tape.attentions[event.index + 1 :] for t, _ in tape.reads[a.index])
    for tensor in (*later, *builder.answers):
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


# -- the proof --------------------------------------------------------------------------------------------------------


def prove(builder: Builder) -> None:
    """Half of all tokens get a random cotangent where they are read; pulled back, it must vanish at all others.

    Raises:
        MixingError: tokens mix outside of what was recorded.
    """
    tape = builder.tape
    events = [a for a in tape.attentions if a.index in builder.live]
    merging = [a for a in events if isinstance(a, Mixer) and a.into is not None]
    _check_padding(builder, events)
    reached = set[str]()
    for group, together in ((events, False), (merging, True)):
        reads = [(a.index, t, ids) for a in group if together or a not in merging for t, ids in tape.reads[a.index]]
        reads = [r for r in reads if r[1].requires_grad]
        if reads:
            chosen = _halves(builder, merging if together else [])
            for half in (chosen, ~chosen):
                reason = _leak(builder, reads, half, reached)
                if reason is not None:
                    raise _mixing(builder, reads, half, reason)
    _check_reached(builder, reached)


def check_returned(builder: Builder, inputs: Mapping[str, Any]) -> None:
    """MixingError where tokens mix in what is not recorded after the last attention or mixer."""
    tape, parts = builder.tape, segments(builder, inputs)
    sources = frozenset[int]().union(*(tape.tag(t).sources for t in builder.answers))
    unfollowed = read_through(tape, sources, builder.live) - builder.live
    pooled = [t for index in unfollowed for t, _ in tape.reads.get(index, [])]
    returned = [*builder.answers, *pooled, *tape.chosen_from()]
    check(returned, partial(_reads, builder, parts), ADVICE, tape.batch, tape.turned)


def _reads(builder: Builder, parts: Mapping[int, Sequence[InputSpan]], tensor: Tensor) -> Iterator[Read]:
    """The streams that a tensor is computed from; none of weights, of matrices of two tokens each, of what is not followed."""
    tape, graph = builder.tape, builder.graph
    sources = builder.sources(tape.tag(tensor).sources)
    if isinstance(tape.known(tensor), Pair) or any(tape.sources[i].kind == "unfollowed" for i in sources):
        return
    try:
        states = graph.readouts(sources)
    except MixingError:  # a target that reads this is refused
        return
    if tape.tag(tensor).softmax and tensor.shape[-1] in {graph.streams[index].tokens for index in states}:
        return  # weights of tokens, which sum to one
    for index, state in states.items():
        stream = graph.streams[index]
        ends = [
            TokenRows(f"attention {a.index}", a.out, a.touched) for a in ends_of(tape.attentions, stream, state, True)
        ]
        yield Read(ends, builder.before(index, state), orders(stream.tokens, parts.get(index, [])), {})


def _check_padding(builder: Builder, events: Sequence[Attention]) -> None:
    """MixingError where what is asked with any weight, as no token (padding), hears tokens: what it passes on would be lost."""
    padded = [(a, out) for a in events if (out := builder.tape.padded.get(a.index)) is not None]
    held = [pair for a, out in padded for pair in _of_padding(builder.tape, a, out)]
    if not held:
        return
    outs = [tensor for _, tensor, _ in _ends(builder)]
    gradients = torch.autograd.grad(
        [t for t, _ in held], outs, [g for _, g in held], retain_graph=True, allow_unused=True
    )
    if any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients):
        raise MixingError(f"tokens of which it is not known where they began (learned, padding) hear others: {ADVICE}")


def _of_padding(tape: PlacedTape, event: Attention, out: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What an attention reads, with a gradient of its tokens' output, at what is no token."""
    assert isinstance(event, BlockAttention)
    reads = [(t, ids.expand(t.shape) < 0) for t, ids in tape.reads[event.index] if t.requires_grad]
    cotangent = torch.randn_like(out) * (event.ids.expand(out.shape) >= 0).to(out.device)
    gradients = torch.autograd.grad(out, [t for t, _ in reads], cotangent, retain_graph=True, allow_unused=True)
    for (t, padding), gradient in zip(reads, gradients, strict=True):
        if gradient is not None and bool(padding.any()):
            yield t, gradient * padding.to(t.device)


def _ends(builder: Builder) -> list[tuple[str, Tensor, Ids]]:
    """All to which a gradient is pulled back: outputs of what is recorded and leaves, with their names and companions."""
    tape = builder.tape
    events = [a for a in tape.attentions if a.index in builder.live and isinstance(a, (Mixer, BlockAttention))]
    sources = [(s.name, s.tensor, tape.leaf_ids[i]) for i, s in enumerate(tape.sources) if i in tape.leaf_ids]
    found = [(f"attention {a.index}", a.out, a.ids) for a in events]
    return found + [(repr(name), tensor, ids) for name, tensor, ids in sources if tensor is not None]


def _check_reached(builder: Builder, reached: set[str]) -> None:
    """GradientError where what a state ends with has no gradient from those that read it, or a stream none from its beginning."""
    tape = builder.tape
    for edge in builder.graph.edges:
        is_grid = tape.attentions[edge.attention].mixes  # what a grid is made of: given
        for state in (frozenset() if is_grid else edge.query_state, edge.value_state):
            if state and f"attention {max(state)}" not in reached:
                raise GradientError(
                    f"no gradient passes to attention {max(state)} from those that read it (weights or a gate of zero, quantised "
                    f"weights, torch.no_grad or detach in the model): {ADVICE}"
                )
    for stream in builder.graph.streams:
        names = sorted({tape.sources[i].name for i in stream.leaves})
        if names and not any(repr(name) in reached for name in names):
            raise GradientError(
                f"no gradient passes from {', '.join(names)} to the first attention that reads it: {ADVICE}"
            )


def _mixing(builder: Builder, reads: list[tuple[int, Tensor, Ids]], half: Tensor, reason: str) -> MixingError:
    """The error, which says where the tokens mix if one read alone shows that."""
    attentions = builder.tape.attentions
    for index, t, ids in reads:
        own = _leak(builder, [(index, t, ids)], half, set())
        if own is not None:
            what = "mixer" if isinstance(attentions[index], Mixer) else "attention"
            return MixingError(f"what {what} {index}, called at {attentions[index].place}, reads {own}: {ADVICE}")
    return MixingError(f"tokens {reason}: {ADVICE}")


def _halves(builder: Builder, merging: list[Mixer]) -> Tensor:
    """For each number whether it is chosen; tokens that go into one row together."""
    numbers = builder.numbers
    chosen = torch.rand(len(numbers.owner) + 1) < 0.5
    new, old = numbers.renewed
    chosen[new] = chosen[old]
    for mixer in reversed(merging):
        tokens, rows = mixer.merged(numbers)
        chosen[tokens] = chosen[rows]
    return chosen


def _leak(builder: Builder, reads: list[tuple[int, Tensor, Ids]], chosen: Tensor, reached: set[str]) -> str | None:
    """What a read depends on beside the tokens that are chosen; ``reached`` gets the names of all that it depends on."""

    def of(ids: Ids) -> Tensor:
        return each(lambda n: chosen[builder.numbers.first(n)] & (n >= 0), ids)

    def vector(noise: Tensor, ids: Ids) -> Tensor:
        return noise * of(ids.expand(noise.shape)).to(noise.device)

    def held(ids: Ids, gradient: Tensor) -> tuple[bool, bool]:
        """Whether there is any, and whether some of it is of what was not chosen."""
        depends = gradient != 0
        if not bool(depends.any()):
            return False, False
        return True, bool(depends.logical_and_(~of(ids.expand(gradient.shape)).to(depends.device)).any())

    outs, tensors = _ends(builder), [t for _, t, _ in reads]
    vectors = [partial(vector, noise, ids) for noise, (_, _, ids) in zip(noises(tensors), reads, strict=True)]
    try:
        found = pulled(tensors, vectors, [t for _, t, _ in outs], [partial(held, ids) for _, _, ids in outs])
    except RuntimeError as error:
        if ran_out(error):
            raise
        raise GradientError(
            f"no gradient passes through what the model computes, so nothing can be proved: {error}"
        ) from error
    for (name, _, _), (depends, leaks) in zip(outs, (pair or (False, False) for pair in found), strict=True):
        if depends:
            reached.add(name)
        if leaks:
            return f"depends on other tokens of {name}, outside of what was recorded"
    return None
