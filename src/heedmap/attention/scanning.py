"""The recorder's part for what mixes tokens step by step: scans, recurrences, chunks (see :mod:`heedmap.attention.scans`).

A first run finds the tensors that are results of a region, and which of what goes into it are its values
(:mod:`heedmap.attention.scans`); in the runs after it these are recorded as mixers where they are made.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor

from heedmap.attention import moves, places
from heedmap.attention import operations as ops
from heedmap.attention.backward import ancestors
from heedmap.attention.beginnings import Begun
from heedmap.attention.companions import CONVOLUTIONS, MOVED, Known, Lost, Pair, Summed
from heedmap.attention.mixers import LINEAR, POOLS, AsItIs
from heedmap.attention.moves import TorchCall
from heedmap.attention.numbers import NOTHING, Ids
from heedmap.attention.placed import PlacedTape
from heedmap.attention.products import in_order, multiplied
from heedmap.attention.scans import (
    Entry,
    Key,
    Mixed,
    Node,
    Pieces,
    Scan,
    Values,
    filled,
    heads_of,
    later,
    meet,
    result_of,
    values_of,
    with_own,
)
from heedmap.attention.tags import EMPTY, Source, Tag
from heedmap.attention.tape import _replaced, _tensors
from heedmap.common.memory import ran_out


class Regions(NamedTuple):
    """The regions of a run.

    Attributes:
        results: number of the call whose result is that of a region → its values.
        readouts: numbers of the calls at which regions begin that go on into answers alone: a model's head, that compares tokens.
    """

    results: Mapping[int, Values] = MappingProxyType({})
    readouts: frozenset[int] = frozenset()


Labels = tuple[Ids, Ids | None]
"""Of a result's elements the row that they are of; of a matrix of two tokens, also the column."""

ADDS = {"add", "__add__", "__radd__", "__iadd__", "add_", "sub", "__sub__", "__rsub__", "__isub__", "sub_"}
ACCUMULATES = {"cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"}
CHOSEN = {"__getitem__", "index_select"}
"""Functions that choose among weights (experts): what is chosen is of no token, whoever chose it."""
MOVES = {*MOVED, *moves.SAME} - {"fold"}
"""Functions that leave elements what they are."""
FRAMES = 3
RECORDED = ops.PRODUCTS | ops.UNSEEN | {ops.SDPA, ops.MULTI_HEAD}
"""Functions that are recorded also where nothing is known of what they take."""


class ScanningTape(PlacedTape):
    """A recorder that knows regions.

    Args:
        regions: as they were found; None: they are looked for, which needs the graph of the whole model (``cut=False``).
    """

    def __init__(self, batch: int, *, cut: bool, begun: Begun, regions: Regions | None) -> None:
        super().__init__(batch, cut=cut, begun=begun)
        self.regions, self._results = regions, dict[int, Values]()
        self._first_calls, self._going_on = dict[int, int](), set[int]()
        self._calls, self._pieces, self._entered, self._over = 0, Pieces(), 0, False

    def __enter__(self) -> Self:
        """As any mode; also anew within itself, for the parts of a fused attention."""
        self._entered += 1
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Once the model has answered, what is computed of its answer, a target, is no region of it."""
        self._entered -= 1
        self._over = self._entered == 0
        super().__exit__(*error)

    @property
    def _looks(self) -> bool:
        return self.regions is None and not self.cut

    @property
    def has_regions(self) -> bool:
        """Whether tokens were mixed in a region."""
        return bool(self._first_calls)

    def found(self) -> Regions:
        """The regions of the run, after it."""
        going_on = self._pieces.first(self._going_on)
        heads = [call for piece, call in self._first_calls.items() if not self._pieces.first([piece]) & going_on]
        return Regions(self._results, frozenset(heads))

    def seen(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func``, and record what it means for tokens and regions."""
        call = TorchCall(func, args, kwargs, None, _tensors(args, kwargs))
        name = call.name
        if self._over:
            return self._outside(call)
        self._calls += 1
        if _creates(name):
            return func(*args, **kwargs)
        if self._is_unknown(call):
            result = func(*args, **kwargs)
            ops.keep_layout(func, result)
            return self._of_none(replace(call, result=result))
        if self._is_read(call) or (self._looks and name in ADDS):
            self._ended(call)
        if ops.writes_in_place(func) and self._is_new(args):
            self.set_known(args[0], _nothing(args[0]))  # of no token until it is written to
        operands = [self.known(t) for t in _data(call)]
        is_lost = any(isinstance(k, (Lost, Summed)) for k in operands)
        if (any(isinstance(k, Mixed) for k in operands) and not is_lost) or self._accumulates(call):
            return self._step(call)
        followed = any(k is not None for k in operands)
        result = self._outside(call)
        if name in CHOSEN and not followed and not self.tag(args[0]).sources:
            for t in _tensors((result,)):
                if isinstance(self.known(t), Lost):
                    self.set_tag(t, EMPTY)
        if is_lost or not followed:
            return result
        made = args[0] if name == "__setitem__" else result
        loses = any(isinstance(self.known(t), Lost) for t in _tensors((made,)))
        again = loses and (name in ("__setitem__", "copy_") or not ops.writes_in_place(func))
        return self._step(call) if again else result

    def _is_unknown(self, call: TorchCall) -> bool:
        """Whether nothing is known of what a function takes (weights, masks), and it is none that is recorded nevertheless."""
        if call.func in RECORDED or ops.lacks_gradient(call.func):
            return False
        return not any([id(t) in self._tags or t in self._known for t in call.tensors])

    def _outside(self, call: TorchCall) -> Any:
        """Run a function as no step of a region: where it takes what one has mixed, that is lost."""
        for t in _data(call):
            if isinstance(k := self.known(t), Mixed):
                self.set_known(t, self._lost_in(k))
        return super().seen(call.func, call.args, call.kwargs)

    if TYPE_CHECKING:

        def known(self, tensor: Tensor) -> Known | Mixed | None:  # type: ignore[override]
            """Its companion or companions; within a region, that of its rows."""

    def _is_new(self, args: tuple[Any, ...]) -> bool:
        """Whether what is written to has held nothing of tokens, and now will."""
        first = args[0] if args else None
        if not isinstance(first, Tensor) or not first.is_floating_point() or self.known(first) is not None:
            return False
        return any(self.known(t) is not None for t in _tensors(args))

    def _is_read(self, call: TorchCall) -> bool:
        """Whether the function is an attention or a mixer by itself."""
        if call.name in CONVOLUTIONS:
            given = call.bound("input", "weight")
            x, weight = given["input"], given["weight"]
            return not (all(n == 1 for n in weight.shape[2:]) and x.dim() == weight.dim())
        return call.func is ops.SDPA or call.func is ops.MULTI_HEAD or call.name in POOLS or call.name in LINEAR

    def _accumulates(self, call: TorchCall) -> bool:
        """Whether the function sums up tokens one after the other."""
        if call.name not in ACCUMULATES or not isinstance(ids := self.known(call.args[0]), Tensor):
            return False
        x = call.args[0]
        return not self._is_constant(ids.expand(x.shape), call.reduced_axes(x))

    def _lost_in(self, mixed: Mixed) -> Lost:
        first = next(n for n in mixed.node.before() if n.mixes)
        return Lost(first.kind or "a function that mixes them", places.here())

    # -- a step -----------------------------------------------------------------------------------------------------

    def _step(self, call: TorchCall) -> Any:
        """Run a function on copies of what goes into the region, and record it as a step."""
        func, name, args, kwargs, writes = call.func, call.name, call.args, call.kwargs, ops.writes_in_place(call.func)
        self._note_chosen(func, args)
        operands = _data(call)
        before = {id(t): k for t in operands if (k := self._within(t)) is not None}
        copies = self._copied(operands, writes)
        entries = self._entries(operands, copies, before, writes)
        by = {i: c for i, c in copies.items() if not (writes and i == id(args[0]))}
        result = func(*_replaced(args, by), **_replaced(kwargs, by))
        if name == "__setitem__":
            self._write(args[0], self._merge(func, args, kwargs, args[0]))
        made = args[0] if writes else result
        if not any(isinstance(t, Tensor) for t in _flat(made)):
            return result
        labels, mixes = self._labelled(replace(call, result=made), before)
        parents = tuple(dict.fromkeys(k.node for k in before.values() if isinstance(k, Mixed)))
        mixes |= name in ADDS and len(parents) > 1  # two terms of one sum
        kind = "write" if writes else "add" if name in ADDS else "move" if name in MOVES else ""
        out: list[Any] = []
        for i, (t, pair) in enumerate(zip(_flat(made), labels, strict=True)):
            if isinstance(t, Tensor) and not writes and not any(t is o for o in operands):
                self._propagate(func, args, kwargs, t)
            if not isinstance(t, Tensor) or not (t.is_floating_point() or t.is_complex()):
                out.append(t)
                continue
            heads, kept = self._heads(call, pair, before), t if self._looks else None
            pieces, begins = self._pieces_of(parents, mixes, name, t)
            order = self._calls, i
            node = Node(order, parents, entries, mixes or begins, kind, pair[0], pieces, heads, kept)
            out.append(self._made(t, node, pair))
        if writes:
            return result
        return out[0] if isinstance(result, Tensor) else type(result)(out)

    def _within(self, tensor: Tensor) -> Any:
        """What is known of a tensor; a product of a token with itself is of that token."""
        known = self.known(tensor)
        if isinstance(known, Pair) and torch.equal(
            *map(self.numbers.first, torch.broadcast_tensors(known.one, known.other))
        ):
            return known.one
        return known

    def _made(self, t: Tensor, node: Node, labels: Labels) -> Tensor:
        """What a step made, as the model goes on with it: where it is a region's result, that is recorded."""
        values = None if self.regions is None else self.regions.results.get(self._calls)
        if values is not None:
            return self._rewritten(t, node, values) if node.kind == "write" else self._scan(t, node, values)
        self.set_known(t, Mixed(*labels, node))  # type: ignore[arg-type]
        return t

    def _heads(self, call: TorchCall, labels: Labels, before: Mapping[int, Any]) -> int | None:
        """Of weights of two tokens, summing to one, that a step takes or makes, the number of heads; None: there are none."""
        pairs: list[Labels] = [(k.one, k.other) for k in before.values() if isinstance(k, Pair) and k.softmax]
        sums_to_one = call.name == "softmax" or call.name in moves.DIVIDES
        if sums_to_one and labels[1] is not None and isinstance(before.get(id(call.args[0])), Mixed):
            pairs.append(labels)
        return max((_along_no_token(*pair) for pair in pairs), default=None)

    def _pieces_of(self, parents: Sequence[Node], mixes: bool, name: str, t: Tensor) -> tuple[frozenset[int], bool]:
        """The pieces of mixing that a step is made of, one where it mixes them; and whether one begins with it."""
        pieces = self._pieces.first(p for n in parents for p in n.pieces)
        if not pieces:
            return frozenset([self._begin_region(name, t)]), True
        return (frozenset([self._pieces.joined(pieces)]) if mixes else pieces), False

    def _begin_region(self, name: str, t: Tensor) -> int:
        """A new piece of mixing, which is not followed before its result is found, unless it goes on into answers alone."""
        piece = self._pieces.new()
        self._first_calls[piece] = self._calls
        if self.regions is None or self._calls not in self.regions.readouts:
            self.sources.append(Source("unfollowed", f"tokens are mixed by {name}", place=places.here()))
            self.set_tag(t, Tag(self.tag(t).sources | {len(self.sources) - 1}))
        return piece

    def _copied(self, operands: Sequence[Tensor], writes: bool) -> dict[int, Tensor]:
        """Copies of the operands of tokens that come from outside; of one that is written to, its content is copied."""
        found = {}
        for i, t in enumerate(operands):
            known = self.known(t)
            if not isinstance(known, (Tensor, Pair)) or not (t.is_floating_point() or t.is_complex()):
                continue
            with torch._C.DisableTorchFunction():
                copy = t.clone()
                if writes and i == 0:
                    t.copy_(copy)
            found[id(t)] = copy
        return found

    def _entries(
        self, operands: Sequence[Tensor], copies: dict[int, Tensor], before: Mapping[int, Any], writes: bool
    ) -> tuple[Entry, ...]:
        key, found = _place(), []
        for i, t in enumerate(operands):
            if id(t) in copies:
                known = before[id(t)]
                given = copies[id(t)] if writes and i == 0 else t
                ids = known.expand(t.shape) if isinstance(known, Tensor) else None
                pair = self.known(t)
                read = pair.sides if isinstance(pair, Pair) else ((given, known),)
                found.append(Entry((*key, i), copies[id(t)], given, ids, read, self.tag(t).sources))
        return tuple(found)

    # -- rows -------------------------------------------------------------------------------------------------------

    def _labelled(self, call: TorchCall, before: Mapping[int, Any]) -> tuple[list[Labels], bool]:
        """For each result the rows that its elements are of; and whether different tokens meet: where in doubt they do."""
        try:
            if call.name in MOVES or call.name == "__setitem__":
                return self._moved(call, before), False
            if isinstance(call.result, Tensor) and (call.func in ops.PRODUCTS or call.name == "linear"):
                return self._multiplied_rows(call, before)
            if isinstance(call.result, Tensor) and call.name in moves.REDUCES:
                return self._reduced_rows(call, before)
            if isinstance(call.result, Tensor):
                return self._met_rows(call, before)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
            if ran_out(error):
                raise
        return [(_nothing(t), None) for t in _flat(call.result)], True

    def _moved(self, call: TorchCall, before: Mapping[int, Any]) -> list[Labels]:
        results = _flat(call.result)

        def run(which: int) -> list[Any]:
            of = partial(_side, before, which)
            if call.name == "__setitem__":
                return [self._set(call.args, of)]
            if call.name in moves.SAME:
                return [next((i for t in _tensors(call.args[:1]) if (i := of(t)) is not None), _nothing(results[0]))]
            return _flat(moves.moved(call, of))

        one = run(0)
        are_two = any(isinstance(k, (Pair, Mixed)) and k.other is not None for k in before.values())
        other = run(1) if are_two else [None] * len(one)
        return [
            (a.expand(t.shape) if isinstance(t, Tensor) else a, b) for a, b, t in zip(one, other, results, strict=True)
        ]

    def _multiplied_rows(self, call: TorchCall, before: Mapping[int, Any]) -> tuple[list[Labels], bool]:
        product = multiplied(call)
        letters = product.letters
        if not letters[0]:
            return [(_nothing(call.result), None)], True
        outer, inner, sums = list[Ids](), list[Ids](), False
        for t, has in zip(product.pair, letters[:2], strict=True):
            gone = [i for i, c in enumerate(has) if c not in letters[2]]
            for ids in _sides(before, t):
                if not self._is_constant(ids, gone):
                    sums = True
                elif bool((ids >= 0).any()):
                    rows = in_order(ids, has, letters[2], product.sizes)
                    (inner if isinstance(before[id(t)], Mixed) else outer).append(rows)
        return self._folded(outer, inner, call.result, sums)

    def _reduced_rows(self, call: TorchCall, before: Mapping[int, Any]) -> tuple[list[Labels], bool]:
        x = call.tensors[0]
        axes, sides = call.reduced_axes(x), _sides(before, x)
        kept = [i for i in sides if self._is_constant(i, axes)]
        rows = [moves.reduced(i, axes, call.result.dim() == x.dim()) for i in kept]
        return self._folded([], rows, call.result, len(kept) < len(sides))

    def _met_rows(self, call: TorchCall, before: Mapping[int, Any]) -> tuple[list[Labels], bool]:
        operands = [t for t in call.tensors if id(t) in before]
        fits = [t for t in operands if moves.broadcasts([t], call.result)]
        unknown = call.name in ACCUMULATES or len(fits) < len(operands)
        outer, inner = list[Ids](), list[Ids]()
        for t in fits[-1:] if unknown else fits:  # rows are where they were in what has this shape
            rows = [ids.expand(call.result.shape) for ids in _sides(before, t)]
            (inner if isinstance(before[id(t)], Mixed) else outer).extend(rows)
        first, then = (outer, inner) if self._is_turn(outer) else (inner, outer)
        return self._folded(first, then, call.result, unknown)

    def _is_turn(self, ids: list[Ids]) -> bool:
        """Whether what comes from outside is of one token a sample: a turn of a loop over them."""
        real = [self.numbers.first(i[i >= 0].unique()) for i in ids]
        return all(len(r) <= self.batch for r in real)

    def _folded(self, first: list[Ids], then: list[Ids], result: Tensor, mixes: bool) -> tuple[list[Labels], bool]:
        """The rows of those that come first, filled from the others; of a matrix of two tokens also those of its columns."""
        one, other = None, None
        for group in (first, then):
            rows = None
            for ids in (i.expand(result.shape) for i in group):
                differ = rows is not None and meet(self.numbers, rows, ids)
                if rows is not None and differ and _crosses(rows, ids):
                    other = ids if other is None else other
                else:
                    rows = ids if rows is None else later(rows, ids) if differ else filled(rows, ids)
                mixes |= differ
            if rows is not None and one is not None and meet(self.numbers, one, rows):
                mixes, other = True, rows if other is None and _crosses(one, rows) else other
            one = rows if one is None else one if rows is None else filled(one, rows)
        one = _nothing(result) if one is None else one
        return [(one, other)], mixes

    # -- the end of a region ----------------------------------------------------------------------------------------

    def _ended(self, call: TorchCall) -> None:
        """Where tokens go on that a region was made of, or another mixer reads what it made, it has ended."""
        mixed = [(t, k) for t in call.tensors if isinstance(k := self.known(t), Mixed)]
        if not mixed or not self._looks:
            return
        others = [t for t in call.tensors if isinstance(self.known(t), Tensor)]
        if call.name in ADDS and len(mixed) == 1 and not others:
            return
        self._going_on.update(p for _, k in mixed for p in k.node.pieces)
        if call.name in ADDS and (len(mixed) > 1 or len(others) > 1 or not self._goes_on(others[0], mixed[0][1].node)):
            return
        for tensor, known in mixed:
            self._end(tensor, known)

    def _goes_on(self, tensor: Tensor, node: Node) -> bool:
        """Whether all that went into the region before its last mixing was computed from this very tensor."""
        nodes = node.before()
        last = max(n.order for n in nodes if n.mixes)
        entries = {e.key: e.given for n in nodes if n.order <= last for e in n.entries}
        begun = _as_it_was(tensor)
        return bool(begun) and all(_is_made_of(t, begun) for t in entries.values() if t.requires_grad)

    def _end(self, tensor: Tensor, known: Mixed) -> None:
        nodes = known.node.before()
        results = []
        for piece in sorted(self._pieces.first(p for n in nodes for p in n.pieces)):
            node = result_of(nodes, piece, self._pieces)
            node = None if node is None else with_own(node, nodes)
            keys = None if node is None else self._values(node, piece)
            if keys is None or node is None or not bool((known.one >= 0).any()):
                self.set_known(tensor, self._lost_in(known))
                return
            results.append((node.order[0], keys))
        self._results |= dict(results)
        sources = frozenset[int]()
        for _ in results:
            self.sources.append(Source("attention", "scan", attention=len(self.attentions)))
            sources |= {len(self.sources) - 1}
            self.attentions.append(self._event(tensor, known.node, Values()))
        self.set_known(tensor, self._fresh(self.numbers.first(known.one)))
        rest = frozenset(i for n in nodes for e in n.entries for i in e.sources)
        self.set_tag(tensor, Tag(sources | rest))

    def _values(self, node: Node, piece: int) -> Values | None:
        own = [n for n in node.before() if piece in self._pieces.first(n.pieces)]
        heads = {n.heads for n in own if n.heads is not None}
        if heads and (node.result is None or heads != heads_of(node.result, node.labels)):
            return None
        return values_of(node, [e for n in own for e in n.entries], self.numbers)

    def _event(self, out: Tensor, node: Node, values: Values) -> Scan:
        entries = [e for n in node.before() for e in n.entries]
        taken = tuple((e.tensor, e.ids) for e in entries if e.key in values.taken and e.ids is not None)
        sources = frozenset[int]().union(*(e.sources for e in entries if e.key in values.read))
        asked = torch.cat([torch.zeros(0, dtype=torch.int64), *(ids.reshape(-1).unique() for _, ids in taken)]).unique()
        return Scan(
            index=len(self.attentions), form="mixer", out=out, layout=AsItIs(), value=self._like(out), keys=0,  # type: ignore[arg-type]
            value_sources=sources, asked=asked, made=out, entries=taken, sizes=(self.batch, 0, 0),
        )  # fmt: skip

    def _like(self, out: Tensor) -> Tensor:
        """Of the model's dtype, where the scan is computed in another."""
        dtypes = [s.tensor.dtype for s in self.sources if s.kind == "leaf" and s.tensor is not None]
        return out.new_zeros(0, dtype=reduce(torch.promote_types, dtypes, out.dtype))

    def _rewritten(self, out: Tensor, node: Node, values: Values) -> Tensor:
        """Record the result of a region, a tensor that the model has written to."""
        given = self._scan(out.clone(), node, values)
        out.copy_(given)
        return self._alike(out, given)

    def _scan(self, out: Tensor, node: Node, values: Values) -> Tensor:
        """Record the result of a region."""
        event = self._event(out, node, values)
        event.ids = self._fresh(self.numbers.first(node.labels))
        self.reads[event.index] = [r for n in node.before() for e in n.entries for r in e.read]
        given = self._record(event)
        self.set_known(given, event.ids)
        return given


# -- helpers ------------------------------------------------------------------------------------------------------------


def _data(call: TorchCall) -> Sequence[Tensor]:
    """The operands, without those that lend their type or their shape alone."""
    return _tensors(call.args[:1]) if call.func in ops.LIKE_ANOTHER else call.tensors


def _creates(name: str) -> bool:
    """Whether the function makes a tensor of nothing but another's shape, or counts."""
    return name in moves.COUNTS or name.startswith("new_") or name.endswith("_like") or name == "size"


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _nothing(t: Any) -> Ids:
    shape = t.shape if isinstance(t, Tensor) else ()
    return torch.full((1,) * len(shape), NOTHING).expand(shape)


def _sides(before: Mapping[int, Any], tensor: Tensor) -> list[Ids]:
    found = (_side(before, which, tensor) for which in (0, 1))
    return [ids.expand(tensor.shape) for ids in found if ids is not None]


def _side(before: Mapping[int, Any], which: int, tensor: Tensor) -> Ids | None:
    known = before.get(id(tensor))
    if isinstance(known, Tensor):
        return known if which == 0 else None
    if isinstance(known, (Pair, Mixed)):
        return known.other if which else known.one
    return None


def _along_no_token(one: Ids, other: Ids | None) -> int:
    """How many numbers of a matrix of two tokens are of the same two: its heads."""
    sides = [one] if other is None else [one, other]
    shape = torch.broadcast_shapes(*(side.shape for side in sides))
    axes = [i for i in range(len(shape)) if all(moves.is_constant_along(side.expand(shape), [i]) for side in sides)]
    return math.prod(shape[i] for i in axes)


def _crosses(a: Ids, b: Ids) -> bool:
    """Whether two companions are those of the rows and of the columns of a matrix."""
    axes = [{i for i in range(x.dim()) if not moves.is_constant_along(x, [i])} for x in (a, b)]
    return bool(axes[0] - axes[1]) and bool(axes[1] - axes[0])


def _as_it_was(tensor: Tensor) -> set[Any]:
    """The steps of the graph that made a tensor's content: those that only copy or cast it, and the one before them."""
    found, at = list[Any](), tensor.grad_fn
    while at is not None and at.name() != "torch::autograd::AccumulateGrad":
        found.append(at)
        copies = at.name() in ("ToCopyBackward0", "CloneBackward0", "AliasBackward0")
        at = at.next_functions[0][0] if copies else None
    return set(found)


def _is_made_of(tensor: Tensor, steps: set[Any]) -> bool:
    """Whether a tensor was computed from what one of these steps of the graph made."""
    least = min(step._sequence_nr() for step in steps)
    return any(node in steps for node in ancestors(tensor, through=lambda node: node._sequence_nr() >= least))


def _place() -> Key:
    """The innermost calls of the model's source."""
    found: list[object] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(found) < FRAMES:
        if not frame.f_code.co_filename.startswith(places._BETWEEN):
            found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)
