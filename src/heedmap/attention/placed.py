"""The second recorder, for models that the first one refuses: it knows for each element of a tensor which token it is of.

So attention may run on windows, chunks, frames, tiles, or anything else that is folded into other axes, tokens may be merged,
and convolutions, poolings and fixed matrices between attentions are recorded as mixers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import mixers, moves, places
from heedmap.attention import operations as ops
from heedmap.attention.backward import reached
from heedmap.attention.blocks import AttendingTape, BlockAttention, BlockLayout
from heedmap.attention.companions import GivenWeights, Lost, Pair, Summed
from heedmap.attention.moves import TorchCall
from heedmap.attention.numbers import NOTHING, Ids, all_of, distinct, once, runs
from heedmap.attention.products import Multiplied, in_order, multiplied, of_convolution, roles
from heedmap.attention.tags import Tag
from heedmap.attention.tape import _replaced, _tensors
from heedmap.common.memory import ran_out


class PlacedTape(AttendingTape):
    """Records attention, in blocks or not, and mixers, with the tokens that they ask and are asked."""

    # -- the mode ---------------------------------------------------------------------------------------------------

    def seen(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func``, and record what it means for tokens."""
        name = moves.name_of(func)
        if func is ops.SDPA or func is ops.MULTI_HEAD:
            return super().seen(func, args, kwargs)
        operands = list(_tensors(args, kwargs))
        args = self._without_given(func, args)
        followed = any(self.known(t) is not None for t in _tensors(args, kwargs))
        count = len(self.sources)
        is_product = func in ops.PRODUCTS or name in ("linear", "addmm", "addbmm")
        if followed and is_product:
            return self._multiplied(func, args, kwargs)
        if followed and name in moves.MEETS:
            args = self._spread(func, args)
        if followed and name in moves.STATISTICS:
            given = moves.STATISTICS[name](self._given, *args, **kwargs)
            func, args, kwargs = torch.clone, (self._alike(given, args[0]),), {}
        if name in moves.DIVIDES and len(args) > 1 and self._is_sum_of_weights(args[1]):
            args = (args[0], self._as_given(args[1]), *args[2:])
        if name in moves.SCALES:
            args = self._without_normaliser(args)
        result = super().seen(func, args, kwargs)
        number = self.copied.call(name, operands, result)
        call = TorchCall(func, args, kwargs, result, _tensors(args, kwargs))
        if len(self.sources) > count and self.sources[-1].kind == "leaf":
            self._begin(call)
            return result
        return self._own_copies(number, operands, self._after(call)) if followed else self._of_none(call)

    def _spread(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Where copies of one token meet several others, each copy as what a mixer makes of it for the token that it meets."""
        pair = [(t, k) for t in args[:2] if isinstance(t, Tensor) and isinstance(k := self.known(t), Tensor)]
        if len(pair) < 2 or not moves.broadcasts(t for t, _ in pair):
            return args
        first, second = torch.broadcast_tensors(*(k.expand(t.shape) for t, k in pair))
        if self.numbers.joined(first, second) is not None:
            return args
        if not ops.writes_in_place(func) and self.numbers.is_copied(first, second):
            return (self._copied_to(args[0], first, second), *args[1:])
        if self.numbers.is_copied(second, first):
            return (args[0], self._copied_to(args[1], second, first), *args[2:])
        return args

    def _copied_to(self, copies: Tensor, of: Ids, to: Ids) -> Tensor:
        """The copies of tokens, each a row of its own."""
        self.shared |= {i for i in self._words if self._is_one_a_sample(i, of)}
        whole, rows = copies.expand(of.shape), self._fresh(self.numbers.first(to))
        self.set_tag(whole, self.tag(copies))
        terms = mixers.merge_terms(torch.clone, whole, rows, of)
        return self._mixer(whole.clone(), whole, of, rows, terms, copies=True)

    def _own_copies(self, number: int | None, operands: Sequence[Tensor], result: Any) -> Any:
        """The result of a call; where its copies of tokens are tokens of their own, each as what a mixer makes of its token."""
        if number is None or (ids := self.ids(result)) is None or not result.is_floating_point():
            return result
        largest = max((t.numel() for t in operands if self.ids(t) is not None), default=0)
        if self.cut and result.requires_grad and result.numel() > largest:
            self.copied.keep(number, result)
        whole = self.numbers.first(ids).expand(result.shape)
        places = self.copied.places(number, whole)
        if places is None:
            return result
        token, place = once(whole, places)
        code = (token * (int(place.max()) + 1) + place).masked_fill(token < 0, NOTHING)
        rows = self._fresh(code, self.numbers.of_sample(token)).expand(result.shape)
        return self._mixer(result.clone(), result, whole, rows, mixers.merge_terms(torch.clone, result, rows, whole))

    def _is_one_a_sample(self, leaf: int, ids: Ids) -> bool:
        """Whether these are tokens of a leaf that has no more than one for each sample (a language, a frequency)."""
        own, tokens = all_of(self.leaf_ids[leaf]), self.numbers.first(all_of(ids))
        return len(own) <= self.batch and bool(torch.isin(self.numbers.first(own), tokens).any())

    def _is_sum_of_weights(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self._sums

    def _without_normaliser(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The factors, where one is made of sums of the very weights of the attention that is the other: that one is as it is."""
        for i, j in ((0, 1), (1, 0)):
            if len(args) > 1 and self._is_sum_of_weights(args[i]) and isinstance(args[j], Tensor):
                reads = [self.reads.get(s.attention, []) for n in self.tag(args[j]).sources for s in [self.sources[n]]]
                sides = self._sums.get(args[i])
                if sides and reads and all(sides <= {id(t) for t, _ in read} for read in reads):
                    return (*args[:i], self._as_given(args[i]), *args[i + 1 :])
        return args

    def _given(self, weights: Tensor) -> Tensor:
        """Weights for one use in which they are taken as they are."""
        if self.cut:
            return weights.detach()
        self.as_given.append(weights.view_as(weights))
        return self.as_given[-1]

    def _as_given(self, weights: Tensor) -> Tensor:
        """What weights are divided by, as it is: in a proof no gradient passes through it."""
        return self._alike(self._given(weights), weights)

    def _without_given(self, func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, where weights and gates that multiply tokens are as they are: of no token, and in a proof a constant."""
        name, tensors = moves.name_of(func), _tensors(args)
        scales = name in moves.SCALES_OR_DIVIDES
        if not (scales or func in ops.PRODUCTS) or not any(self.ids(t) is not None for t in tensors):
            return args

        def is_given(tensor: Tensor) -> bool:
            return isinstance(self.known(tensor), GivenWeights) or (scales and self._is_gate_of(name, tensor, args))

        by = {id(tensor): self._given(tensor) for tensor in tensors if is_given(tensor)}
        return tuple(_replaced(list(args), by)) if by else args

    def _is_gate_of(self, name: str, gate: Tensor, args: tuple[Any, ...]) -> bool:
        """Whether a pooled token says weights, or a divisor, for more tokens of the same input, of which it is none."""
        divides = name in moves.DIVIDES and gate is args[-1]  # a deviation, a mean of sizes
        ids = self.ids(gate) if divides or gate in self._gates else None
        others = [(t, i) for t in _tensors(args) if t is not gate and (i := self.ids(t)) is not None]
        if ids is None or len(others) != 1:
            return False
        few, many = (all_of(self.numbers.first(i)).unique() for i in (ids, others[0][1]))
        pooled = len(few) < len(many) and not bool(torch.isin(few, many).any())
        return pooled and self._inputs_of(gate) <= self._inputs_of(others[0][0])

    def _inputs_of(self, tensor: Tensor) -> set[str]:
        """The names of the inputs that a tensor was made of."""

        def read(index: int) -> frozenset[int]:
            made = [self.attentions[a] for a in self.attentions_of([index])]
            return frozenset[int]().union(*(a.query_sources | a.value_sources for a in made))

        seen = (self.sources[i] for i in reached(self.tag(tensor).sources, read))
        return {source.name for source in seen if source.kind in ("input", "leaf")}

    def _mark_gate(self, call: TorchCall) -> None:
        """Remember weights, and what only moves or scales them."""
        name, result = call.name, call.result
        if not self._gates and name not in moves.GATES:
            return
        of = [t for t in call.tensors if self.known(t) is not None]
        keeps = name in moves.SAME or name in moves.DATA or name in moves.SCALES_OR_DIVIDES
        kept = keeps and of and all(t in self._gates for t in of)
        if isinstance(result, Tensor) and (name in moves.GATES or kept):
            self._gates[result] = True

    def _mark_sum(self, call: TorchCall) -> None:
        """Remember sums of weights over keys, and what is made of these alone, with the queries and keys of the weights."""
        result, sums = call.result, call.name in moves.REDUCES
        if not self._sums and not sums:
            return
        of = [(t, known) for t in call.tensors if (known := self.known(t)) is not None]
        pairs = [known for _, known in of if sums and isinstance(known, Pair)]
        if not isinstance(result, Tensor) or not of or not (pairs or all(self._is_sum_of_weights(t) for t, _ in of)):
            return
        before = [sides for t, _ in of if (sides := self._sums.get(t)) is not None]
        self._sums[result] = frozenset(id(t) for known in pairs for t, _ in known.sides).union(*before)

    def _after(self, call: TorchCall) -> Any:
        """The result of a function of tokens, as the model goes on with it; what is known of it is remembered."""
        self._mark_sum(call)
        self._mark_gate(call)
        try:
            mixer = self._side_by_side(call)
            mixer = self._mixed(call) if mixer is None else mixer
            if mixer is not None:
                return mixer
            found = self._placed(call)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError) as error:
            if ran_out(error):
                raise
            found = Lost(call.name, places.here())
        self._keep(call, found)
        return call.result

    def _keep(self, call: TorchCall, found: Any) -> None:
        """Remember what was found of a result, or of each of several."""
        result = call.result
        if call.name == "__setitem__":
            self.set_known(call.args[0], found)
        elif isinstance(result, Tensor):
            self.set_known(result, found)
        elif isinstance(result, (tuple, list)):
            for_all = isinstance(found, (Pair, Lost, Summed, GivenWeights))
            alike = isinstance(found, (tuple, list)) and not for_all and len(found) == len(result)
            for i, item in enumerate(result):
                if isinstance(item, Tensor):
                    tells = isinstance(found, GivenWeights) and not item.is_floating_point()
                    self.set_known(item, found[i] if alike else None if tells else found)

    # -- products ---------------------------------------------------------------------------------------------------

    def _multiplied(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = self._apart(args, kwargs)
        result = func(*args, **kwargs)
        call = multiplied(TorchCall(func, args, kwargs, result, _tensors(args, kwargs)))
        if self._begins(call):
            return self._rows_begun(call)
        known = [self.known(t) for t in call.pair]
        lost = next((k for k in known if isinstance(k, Lost)), None)
        if not call.letters[0] or lost is not None:
            return self._unknown(call, lost)
        if any(isinstance(k, Summed) for k in known):
            return self._linear(call)
        if isinstance(known[0], Pair) != isinstance(known[1], Pair) and None not in known:
            return self._weighted(call.turned if isinstance(known[1], Pair) else call)
        self._propagate(func, args, kwargs, result)
        try:
            return self._combined(call)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            if ran_out(error):
                raise
            return self._unknown(call)

    def _begins(self, call: Multiplied) -> bool:
        """Whether this is the first linear map of rows in which numbers of a series stand side by side: its rows are tokens."""
        if call.result.dim() < 3 or call.summed != [call.letters[0][-1:]] or self.tag(call.pair[1]).sources:
            return False
        x, ids = call.pair[0], self.known(call.pair[0])
        whole = ids.expand(x.shape) if isinstance(ids, Tensor) else None
        of_one = whole is not None and self._is_constant(whole, [x.dim() - 1])
        if whole is not None and of_one and not self._is_cut(x, whole):
            return False
        return self.is_of_series(self.tag(x).sources, x)

    def _is_cut(self, x: Tensor, ids: Ids) -> bool:
        """Whether an input's rows were cut into several each (a box into its corners), and not copied."""
        shapes = [self.shapes.get(self.sources[i].name) for i in self.tag(x).sources]
        given = {math.prod(shape) for shape in shapes if shape is not None}
        if not any(size <= x.numel() for size in given):
            return False
        rows = ids.select(-1, 0)
        rows = rows[rows >= 0]
        return len(rows) * x.shape[-1] in given and len(self.numbers.first(rows).unique()) < len(rows)

    def _rows_begun(self, call: Multiplied) -> Tensor:
        """The rows as a leaf; those that the model put beside them (padding) are learned."""
        sources = self.tag(call.pair[0]).sources
        name = self.sources[min(sources)].name
        leaf = self._leaf_of(call.result, name, spatial=False, first=True, says=0)
        lead = self._lead(len(leaf))
        if lead is None:
            self.set_known(leaf, Lost("a series of which the samples are not known", places.here()))
            return leaf
        shape = (*leaf.shape[:-1], 1)
        lead = lead.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
        before = self.ids(call.pair[0])
        ids = self.numbers.new(lead, "leaf")
        if before is not None and not bool((given := (before >= 0).any(-1, keepdim=True)).all()):
            ids = torch.where(given, ids, self.numbers.new(lead.masked_fill(given, NOTHING), "learned"))
        self.leaf_ids[len(self.sources) - 1] = ids
        self.set_known(leaf, ids.expand(leaf.shape))
        return leaf

    def _side_by_side(self, call: TorchCall) -> Tensor | None:
        """Of a convolution of single places the result, where tokens stand side by side in the channels; else None."""
        if not self.joins_tokens(call):
            return None
        x, weight = call.args[:2]
        letters = of_convolution(x)
        return self._summed(
            Multiplied(call.func, call.args, call.kwargs, call.result, call.tensors, (x, weight), letters)
        )

    def _combined(self, call: Multiplied) -> Tensor:
        """Scores of two tokens each, or rows times what is no token."""
        given = [i for i, t in enumerate(call.pair) if self.known(t) is not None]
        if len(given) == 1:
            return self._by_constants(call if given == [0] else call.turned)
        ids = [self.known(t) for t in call.pair]
        if not call.summed or not all(isinstance(k, Tensor) for k in ids):
            return self._unknown(call)
        kept = [self._kept(call, i) for i in range(2)]
        if kept[0] is not None and kept[1] is not None:
            self.set_known(call.result, Pair(kept[0], kept[1], tuple(zip(call.pair, ids, strict=True))))  # type: ignore[arg-type]
            return call.result
        if kept == [None, None] and len(call.summed) == 1:
            factors = tuple(zip(call.pair, ids, call.letters, strict=False))
            self.set_known(call.result, Summed(factors, call.letters[2]))  # type: ignore[arg-type]
            return call.result
        if None in kept and kept != [None, None]:
            return self._weighted_sum(call if kept[0] is not None else call.turned)
        return self._unknown(call)

    def _kept(self, call: Multiplied, side: int, part: Ids | None = None) -> Ids | None:
        """The companion of the result by one of the pair; None where the product sums over its tokens."""
        tensor, has, out = call.pair[side], call.letters[side], call.letters[2]
        whole = self._whole(tensor) if part is None else part.expand(tensor.shape)
        gone = [i for i, c in enumerate(has) if c not in out]
        return in_order(whole, has, out, call.sizes) if self._is_constant(whole, gone) else None

    def _by_constants(self, call: Multiplied) -> Tensor:
        """The first of the pair is of tokens, the second of none."""
        known = self.known(call.pair[0])
        if isinstance(known, Pair):
            one, other = (self._kept(call, 0, x) for x in (known.one, known.other))
            if known.softmax and (one is None) != (other is None):
                return self._weighted(call)
            kept = one if other is None else other if one is None else known._replace(one=one, other=other)
            self.set_known(call.result, Lost(call.name, places.here()) if kept is None else kept)
            return call.result
        ids = self._kept(call, 0)
        if ids is None:
            return self._summed(call)
        self.set_known(call.result, ids)
        return call.result

    def _weighted_sum(self, call: Multiplied) -> Tensor:
        """Tokens weighted by what one token, of the first of the pair, says (dynamic convolution): an attention of that token."""
        tensor = call.pair[0]
        ids, whole = self.known(tensor), self._whole(tensor)
        self.set_known(tensor, Pair(whole, torch.full_like(whole, NOTHING), ((tensor, whole),), True))
        made = self._weighted(call)
        self.set_known(tensor, ids)
        return made

    def _linear(self, call: Multiplied) -> Tensor:
        """q (kᵀ v): attention without softmax, A = q kᵀ."""
        call = call if isinstance(self.known(call.pair[0]), Summed) else call.turned
        (has, asks, out), query = call.letters, call.pair[1]
        known, ids = self.known(call.pair[0]), self.ids(query)
        assert isinstance(known, Summed)
        if len(call.summed) != 1 or ids is None or known.changed:
            return self._unknown(call)
        (summed,) = call.summed
        renamed = dict(zip(known.axes, has, strict=True))
        depth = known.axes[has.index(summed)]
        key, value = sorted(known.factors, key=lambda f: depth not in f[2])
        (token,) = [c for c in key[2] if c in value[2] and c not in known.axes]
        (feature,) = [c for c in value[2] if c in known.axes and c not in key[2]]
        lead = "".join(c for c in out if c in has and c in asks)
        (row,) = [c for c in out if c in asks and c not in has]
        sizes = dict(zip(out, call.result.shape, strict=True))

        def laid(tensor: Tensor, axes: str, last: str) -> Tensor:
            named = "".join(renamed.get(c, "T" if c == token else c) for c in axes)
            return in_order(tensor, named, f"{lead}T{renamed[last]}", sizes)

        rows = f"{lead}{row}{summed}"
        attention = BlockAttention(
            index=len(self.attentions),
            form="linear",
            out=call.result,
            layout=BlockLayout(tuple(out.index(c) for c in (*lead, row, renamed[feature]))),
            value=laid(value[0], value[2], feature),
            keys=0,
            query=in_order(query, asks, rows, sizes),
            key=laid(key[0], key[2], depth),
            query_ids=in_order(ids.expand(query.shape), asks, rows, sizes)[..., 0],
            key_ids=laid(value[1].expand(value[0].shape), value[2], feature)[..., 0],
        )
        return self._attend(attention, [self.tag(query), self.tag(value[0])], [(query, ids), key[:2], value[:2]])

    def _unknown(self, call: Multiplied, lost: Lost | None = None) -> Tensor:
        """A product that is lost; where both operands are made of tokens it may be an attention, which is not followed."""
        lost = lost or Lost(call.name, places.here())
        tags = [self.tag(t) for t in call.pair]
        if all(t.sources for t in tags):
            return self._lost(call.result, tags, lost)
        self._propagate(call.func, call.args, call.kwargs, call.result)
        self.set_known(call.result, lost)
        return call.result

    def _summed(self, call: Multiplied) -> Tensor:
        """A fixed matrix over the tokens of the first of the pair: tokens of one row are merged, or all are mixed."""
        tensor, (has, _, out) = call.pair[0], call.letters
        whole = self.numbers.first(self._whole(tensor))
        kept, gone = ([i for i, c in enumerate(has) if (c in out) == stays] for stays in (True, False))
        rows = self.numbers.first(whole.permute(*kept, *gone).flatten(len(kept)))
        rows = rows.index_select(-1, runs(-1, rows))
        groups, which = distinct(rows.reshape(-1, rows.shape[-1]))
        samples = self.numbers.of_sample(groups.amax(1))
        to = [kept.index(has.index(c)) for c in out if c in has]
        shape = [call.result.shape[i] if c in has else 1 for i, c in enumerate(out)]

        def laid(found: Tensor) -> Tensor:
            return found.permute(to).reshape(shape)

        merged = len(groups) > len(samples.unique()) or self.batch == which.numel()
        if merged:  # each place has tokens of its own
            made = self._fresh(torch.where(groups.amax(1) < 0, NOTHING, torch.arange(len(groups))), samples)
            fresh = made[which].reshape(rows.shape[:-1])
            pairs = distinct(torch.stack([fresh.unsqueeze(-1).expand(rows.shape), rows], -1).flatten(0, -2))[0]
            tokens = pairs[pairs[:, 1] >= 0, 1]
            return self._merge_of(call, whole, fresh, laid(fresh), gone, len(tokens.unique()) == len(tokens))
        return self._matrix_of(call, whole, laid(samples[which].reshape(rows.shape[:-1])))

    def _merge_of(self, call: Multiplied, whole: Ids, fresh: Ids, ids: Ids, gone: list[int], once: bool) -> Tensor:
        """Tokens of one row, along the axes ``gone``, become the token ``fresh``; ``once``: each of them one only."""
        tensor = call.pair[0]
        back = fresh
        for axis in gone:
            back = back.unsqueeze(axis)
        into = back.expand(tensor.shape)
        terms = mixers.merge_terms(partial(call.again, tensor), tensor, into, whole)
        ids = ids.expand(call.result.shape)
        return self._mixer(call.result, tensor, whole, ids, terms, into=into if once else None)

    def _matrix_of(self, call: Multiplied, whole: Ids, lead: Tensor) -> Tensor:
        """All tokens of the samples ``lead`` are mixed into new ones along the axes that they had not."""
        (has, _, out), shape, tensor = call.letters, call.result.shape, call.pair[0]
        made = [n if c not in has else 1 for c, n in zip(out, shape, strict=True)]
        marks = torch.arange(torch.Size(made).numel()).reshape(made)
        code = lead * marks.numel() + marks
        fresh = self._fresh(code, lead.expand(code.shape)).expand(shape)
        terms = mixers.linear_terms(partial(call.again, tensor), tensor, fresh, whole)
        return self._mixer(call.result, tensor, whole, fresh, terms)

    def _weighted(self, call: Multiplied) -> Tensor:
        """A v, in blocks; the first of the pair is A."""
        (probs, value), (a, b, out) = call.pair, call.letters
        known, value_ids = self.known(probs), self.ids(value)
        assert isinstance(known, Pair)
        tags = [self.tag(probs), self.tag(value)]
        role = roles(call.letters)
        if role is None:
            return self._unfollowed(call.result, tags, f"the product {a},{b}->{out} is no A v that is known")
        if not role.row or not role.feature:
            return self._unfollowed(call.result, tags, "it has one query, or one feature, without an axis")
        of_probs, of_value = f"{role.lead}{role.row}{role.key}", f"{role.lead}{role.key}{role.feature}"
        pair = [in_order(x.expand(probs.shape), a, of_probs, call.sizes) for x in (known.one, known.other)]
        queries = next((q for x in pair if (q := _along(self.numbers.first(x), -1)) is not None), None)
        if value_ids is None:  # learned: they stand for the tokens whose keys stand beside them
            keys = next((k for x in pair if (k := _along(self.numbers.first(x), -2)) is not None), None)
        else:
            whole = in_order(value_ids.expand(value.shape), b, of_value, call.sizes)
            keys = whole.select(-1, 0) if self._is_constant(whole, [whole.dim() - 1]) else None
        if queries is None or keys is None:
            return self._unfollowed(call.result, tags, "its rows are not of one token each")
        attention = BlockAttention(
            index=len(self.attentions),
            form="softmax" if known.softmax else "linear",
            out=call.result,
            layout=BlockLayout(role.order(out)),
            value=in_order(value, b, of_value, call.sizes),
            keys=0,
            probs=in_order(probs, a, of_probs, call.sizes),
            scored=tuple(t for t, _ in known.sides) or None,
            query_ids=queries,
            key_ids=keys,
        )
        sides = [*known.sides, *([] if value_ids is None else [(value, value_ids)])]
        return self._attend(attention, [self._of_queries(tags[0], known, queries), tags[1]], sides)

    def _of_queries(self, tag: Tag, known: Pair, queries: Ids) -> Tag:
        """The tag of weights, without what only the other side of their product was computed from."""
        asks, asked = frozenset[int](), frozenset[int]()
        tokens = all_of(self.numbers.first(queries))
        for side, ids in known.sides:
            own = bool(torch.isin(all_of(self.numbers.first(ids)), tokens).any())
            asks, asked = asks | (self.tag(side).sources if own else frozenset()), asked | self.tag(side).sources
        return tag._replace(sources=tag.sources - (asked - asks)) if asks else tag


def _along(ids: Ids, axis: int) -> Ids | None:
    """The one number along an axis, where there is no other beside nothing."""
    top = ids.amax(axis, keepdim=True)
    return top.squeeze(axis) if bool(((ids == top) | (ids < 0)).all()) else None
