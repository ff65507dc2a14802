"""The second recorder, for models that the first one refuses: it knows for each element of a tensor which token it is of.

So attention may run on windows, chunks, frames, tiles, or anything else that is folded into other axes, tokens may be merged,
and convolutions, poolings and fixed matrices between attentions are recorded as mixers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import blocks, mixers, moves, places
from heedmap.attention import operations as ops
from heedmap.attention.attending import AttendingTape
from heedmap.attention.companions import Lost, Pair, Summed
from heedmap.attention.mixing import again
from heedmap.attention.numbers import NOTHING, Ids
from heedmap.attention.tape import _tensors


class PlacedTape(AttendingTape):
    """Records attention, in blocks or not, and mixers, with the tokens that they ask and are asked.

    Args:
        tokens: leaves, by their index among the sources, after which convolutions are mixers; else those before the first
            attention belong to what its tokens begin with.
    """

    # -- the mode ---------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, and record what it means for tokens."""
        kwargs = kwargs or {}
        if func is ops.SDPA or func is ops.MULTI_HEAD:
            return super().__torch_function__(func, types, args, kwargs)
        followed = any(self.known(t) is not None for t in _tensors(args, kwargs))
        count = len(self.sources)
        is_product = func in ops.PRODUCTS or moves.name_of(func) in ("linear", "addmm", "addbmm")
        if followed and is_product:
            return self._multiplied(func, types, args, kwargs)
        if self.cut and followed and moves.name_of(func) in moves.STATISTICS:
            given = moves.STATISTICS[moves.name_of(func)](*args, **kwargs)
            self.set_tag(given, self.tag(args[0]))
            self.set_known(given, self.known(args[0]))
            func, args, kwargs = torch.clone, (given,), {}
        result = super().__torch_function__(func, types, args, kwargs)
        if len(self.sources) > count and self.sources[-1].kind == "leaf":
            self._begin(result, args, kwargs)
            return result
        return self._after(func, args, kwargs, result) if followed else result

    def _after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        name = moves.name_of(func)
        try:
            mixer = self._mixed(func, name, args, kwargs, result)
            if mixer is not None:
                return mixer
            found = self._placed(func, name, args, kwargs, result)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
            found = Lost(name, places.here())
        self._keep(name, args, result, found)
        return result

    def _keep(self, name: str, args: tuple[Any, ...], result: Any, found: Any) -> None:
        if name == "__setitem__":
            self.set_known(args[0], found)
        elif isinstance(result, Tensor):
            self.set_known(result, found)
        elif isinstance(result, (tuple, list)):
            alike = (
                isinstance(found, (tuple, list)) and not isinstance(found, (Pair, Lost)) and len(found) == len(result)
            )
            for i, item in enumerate(result):
                if isinstance(item, Tensor):
                    self.set_known(item, found[i] if alike else found)

    # -- products ---------------------------------------------------------------------------------------------------

    def _multiplied(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = moves.name_of(func)
        result = func(*args, **kwargs)
        pair, letters = factors(func, name, args, kwargs)
        known = [self.known(t) for t in pair]
        lost = next((k for k in known if isinstance(k, Lost)), None)
        if letters is None or lost is not None:
            return self._unknown(func, args, kwargs, result, pair, lost or Lost(name, places.here()))
        if any(isinstance(k, Summed) for k in known):
            return self._linear(func, args, kwargs, result, pair, letters)
        if isinstance(known[0], Pair) != isinstance(known[1], Pair) and None not in known:
            turned = isinstance(known[1], Pair)
            probs, value = (pair[1], pair[0]) if turned else (pair[0], pair[1])
            a, b, out = (letters[1], letters[0], letters[2]) if turned else letters
            return self._weighted(func, args, kwargs, result, probs, value, (a, b, out))
        self._propagate(func, args, kwargs, result)
        try:
            return self._combined(func, name, args, kwargs, result, pair, letters)
        except (RuntimeError, IndexError, TypeError, ValueError):
            return self._unknown(func, args, kwargs, result, pair, Lost(name, places.here()))

    def _combined(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        pair: list[Tensor],
        letters: tuple[str, str, str],
    ) -> Tensor:
        """Scores of two tokens each, or rows times what is no token."""
        a, b, out = letters
        sizes = dict(zip(a + b, (*pair[0].shape, *pair[1].shape), strict=True))
        sizes |= dict(zip(out, result.shape, strict=True))
        summed = [c for c in a if c in b and c not in out]
        known = [self.known(t) for t in pair]
        given = [(t, k, has) for t, k, has in zip(pair, known, (a, b), strict=True) if k is not None]

        def placed(ids: Ids, tensor: Tensor, has: str) -> Ids | None:
            whole = ids.expand(tensor.shape)
            gone = [i for i, c in enumerate(has) if c not in out]
            return blocks.in_order(whole, has, out, sizes) if self._is_constant(whole, gone) else None

        if len(given) == 1:
            tensor, one_known, has = given[0]
            if isinstance(one_known, Pair):
                one, other = (placed(x, tensor, has) for x in (one_known.one, one_known.other))
                kept = one if other is None else other if one is None else one_known._replace(one=one, other=other)
                self.set_known(result, Lost(name, places.here()) if kept is None else kept)
                return result
            assert isinstance(one_known, Tensor)
            here = placed(one_known, tensor, has)
            if here is None:
                return self._summed(func, args, kwargs, result, tensor, one_known, has, letters)
            self.set_known(result, here)
            return result
        ids = [k for k in known if isinstance(k, Tensor)]
        if len(ids) == 2:
            both = [placed(k, t, has) for k, t, has in zip(ids, pair, (a, b), strict=True)]
            sides = tuple(zip(pair, ids, strict=True))
            if both[0] is not None and both[1] is not None and summed:
                self.set_known(result, Pair(both[0], both[1], sides))
                return result
            if both[0] is None and both[1] is None and len(summed) == 1:
                self.set_known(result, Summed(((pair[0], ids[0], a), (pair[1], ids[1], b)), out))
                return result
            if both.count(None) == 1 and summed:
                return self._weighted_sum(func, args, kwargs, result, pair, letters, ids, weights=1 - both.index(None))
        return self._unknown(func, args, kwargs, result, pair, Lost(name, places.here()))

    def _weighted_sum(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        pair: list[Tensor],
        letters: tuple[str, str, str],
        ids: list[Ids],
        weights: int,
    ) -> Tensor:
        """Tokens weighted by what one token says (dynamic convolution): an attention of that token."""
        tensor, own, (a, b, out) = pair[weights], ids[weights], letters
        whole = own.expand(tensor.shape)
        self.set_known(tensor, Pair(whole, torch.full_like(whole, NOTHING), ((tensor, own),), True))
        names = (a, b, out) if weights == 0 else (b, a, out)
        made = self._weighted(func, args, kwargs, result, tensor, pair[1 - weights], names)
        self.set_known(tensor, own)
        return made

    def _linear(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        pair: list[Tensor],
        letters: tuple[str, str, str],
    ) -> Tensor:
        """q (kᵀ v): attention without softmax, A = q kᵀ."""
        where = [isinstance(self.known(t), Summed) for t in pair].index(True)
        known, query, ids = self.known(pair[where]), pair[1 - where], self.ids(pair[1 - where])
        lost = Lost(moves.name_of(func), places.here())
        assert isinstance(known, Summed)
        has, asks, out = letters[where], letters[1 - where], letters[2]
        summed = [c for c in has if c in asks and c not in out]
        if len(summed) != 1 or ids is None:
            return self._unknown(func, args, kwargs, result, pair, lost)
        renamed = dict(zip(known.axes, has, strict=True))
        depth = known.axes[has.index(summed[0])]
        key, value = sorted(known.factors, key=lambda f: depth not in f[2])
        (token,) = [c for c in key[2] if c in value[2] and c not in known.axes]
        (feature,) = [c for c in value[2] if c in known.axes and c not in key[2]]
        lead = [c for c in out if c in has and c in asks]
        (row,) = [c for c in out if c in asks and c not in has]
        sizes = dict(zip(out, result.shape, strict=True))

        def laid(tensor: Tensor, axes: str, last: str) -> Tensor:
            named = "".join(renamed.get(c, "T" if c == token else c) for c in axes)
            return blocks.in_order(tensor, named, f"{''.join(lead)}T{renamed[last]}", sizes)

        k, v = laid(key[0], key[2], depth), laid(value[0], value[2], feature)
        q = blocks.in_order(query, asks, f"{''.join(lead)}{row}{summed[0]}", sizes)
        q_ids = blocks.in_order(ids.expand(query.shape), asks, f"{''.join(lead)}{row}{summed[0]}", sizes)[..., 0]
        v_ids = laid(value[1].expand(value[0].shape), value[2], feature)[..., 0]
        axes = tuple(out.index(c) for c in (*lead, row, renamed[feature]))
        tags = [self.tag(query), self.tag(value[0])]
        sides = [(query, ids), key[:2], value[:2]]
        return self._attend("linear", result, axes, q_ids, v_ids, v, tags, sides, True, query=q, key=k)

    def _unknown(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        operands: list[Tensor],
        lost: Lost,
    ) -> Tensor:
        """A product that is lost; where both operands are made of tokens it may be an attention, which is not followed."""
        tags = [self.tag(t) for t in operands]
        if all(t.sources for t in tags):
            return self._lost(result, tags, lost)
        self._propagate(func, args, kwargs, result)
        self.set_known(result, lost)
        return result

    def _summed(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        tensor: Tensor,
        ids: Ids,
        has: str,
        letters: tuple[str, str, str],
    ) -> Tensor:
        """A fixed matrix over tokens: tokens of one row are merged, or all are mixed."""
        out = letters[2]
        whole, kept = self.numbers.first(ids).expand(tensor.shape), [i for i, c in enumerate(has) if c in out]
        gone = [i for i, c in enumerate(has) if c not in out]
        made = [i for i, c in enumerate(out) if c not in has]
        run = partial(again, func, args, kwargs, tensor)
        rows = self.numbers.first(whole.permute(*kept, *gone).flatten(len(kept)))
        flat = rows.reshape(-1, rows.shape[-1])
        distinct, which = flat.unique(dim=0, return_inverse=True)
        samples = self.numbers.of_sample(distinct.amax(1))
        to = [kept.index(has.index(c)) for c in out if c in has]
        shape = [result.shape[i] if c in has else 1 for i, c in enumerate(out)]
        if len(distinct) > len(samples.unique()) or self.batch == len(
            flat
        ):  # each place has tokens of its own: merging
            made_rows = self._fresh(torch.where(distinct.amax(1) < 0, NOTHING, torch.arange(len(distinct))), samples)
            fresh = made_rows[which].reshape(rows.shape[:-1])
            ids_out = fresh.permute(to).reshape(shape).expand(result.shape)
            back = fresh.permute([kept.index(i) for i in sorted(kept)])
            for axis in sorted(gone):
                back = back.unsqueeze(axis)
            into = back.expand(tensor.shape)
            pairs = torch.stack([into.reshape(-1), self.numbers.first(whole).reshape(-1)]).unique(dim=1)[1]
            once = len(pairs[pairs >= 0].unique()) == int((pairs >= 0).sum())
            terms = mixers.merge_terms(run, tensor, into, whole)
            return self._mixer(result, tensor, whole, ids_out, terms, into=into if once else None)
        lead = samples[which].reshape(rows.shape[:-1]).permute(to).reshape(shape)
        marks = torch.arange(int(torch.tensor([result.shape[i] for i in made]).prod())).reshape(
            [result.shape[i] if i in made else 1 for i in range(len(out))]
        )
        code = lead * (int(marks.max()) + 1) + marks
        fresh = self._fresh(code, lead.expand(code.shape)).expand(result.shape)
        return self._mixer(result, tensor, whole, fresh, mixers.linear_terms(run, tensor, fresh, whole))

    def _weighted(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        probs: Tensor,
        value: Tensor,
        letters: tuple[str, str, str],
    ) -> Tensor:
        """A v, in blocks."""
        a, b, out = letters
        known, value_ids = self.known(probs), self.ids(value)
        tags = [self.tag(probs), self.tag(value)]
        summed = [c for c in a if c in b and c not in out]
        asks = [c for c in a if c in out and c not in b]
        features = [c for c in b if c in out and c not in a]
        lead = [c for c in out if c not in asks and c not in features]
        assert isinstance(known, Pair)
        if len(asks) > 1:  # blocks of queries that ask the same keys
            asks, lead = asks[-1:], [c for c in out if c in lead or c in asks[:-1]]
        if len(summed) != 1 or len(features) > 1 or value_ids is None:
            return self._unfollowed(result, tags, f"the product {a},{b}->{out} is no A v that is known")
        key, query, feature = summed[0], "".join(asks), "".join(features)
        sizes = dict(zip(out, result.shape, strict=True)) | {key: probs.shape[a.index(key)]}
        ones = {c: 1 for c in "QF"}
        query, feature = query or "Q", feature or "F"
        sizes |= ones
        to = "".join(lead)
        A = blocks.in_order(probs, a, f"{to}{query}{key}", sizes)
        v = blocks.in_order(value, b, f"{to}{key}{feature}", sizes)
        one, other = (
            blocks.in_order(x.expand(probs.shape), a, f"{to}{query}{key}", sizes) for x in (known.one, known.other)
        )
        v_ids = blocks.in_order(value_ids.expand(value.shape), b, f"{to}{key}{feature}", sizes)
        axes = tuple(
            out.index(c) for c in (*lead, *([query] if query in out else []), *([feature] if feature in out else []))
        )
        q_ids = _along(self.numbers.first(one), -1)
        if q_ids is None:
            one, other = other, one
            q_ids = _along(self.numbers.first(one), -1)
        k_ids = v_ids.select(-1, 0) if self._is_constant(v_ids, [v_ids.dim() - 1]) else None
        if q_ids is None or k_ids is None:
            return self._unfollowed(result, tags, "its rows are not of one token each")
        sides = [*known.sides, (value, value_ids)]
        return self._attend(
            "softmax" if known.softmax else "linear",
            result,
            axes,
            q_ids,
            k_ids,
            v,
            tags,
            sides,
            query in out and feature in out,
            probs=A,
        )


def factors(
    func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Tensor], tuple[str, str, str] | None]:
    """The two factors of a product, and the letters of their axes and of the result's; None where these are not known."""
    operands = [t for t in _tensors(args, kwargs)]
    pair = operands[:2] if name == "linear" else operands[-2:]
    if name == "linear" and len(pair) == 2:
        lead = "".join(map(chr, range(0x3B1, 0x3B1 + pair[0].dim() - 1)))
        whole = pair[1].dim() == 2
        return pair, (f"{lead}k", "nk" if whole else "k", f"{lead}n" if whole else lead)
    if len(pair) != 2 or name == "tensordot" or (func is ops.EINSUM and len(operands) != 2):
        return pair, None
    if func is ops.EINSUM:
        return pair, blocks.labels(args[0], *pair)
    pair = [pair[1], pair[0]] if name == "__rmatmul__" else pair
    return pair, blocks.of_matmul(*pair)


def _along(ids: Ids, axis: int) -> Ids | None:
    """The one number along an axis, where there is no other beside nothing."""
    top = ids.amax(axis, keepdim=True)
    return top.squeeze(axis) if bool(((ids == top) | (ids < 0)).all()) else None
