"""The second recorder, for models that the first one refuses: it knows for each element of a tensor which token it is of.

So attention may run on windows, chunks, frames, tiles, or anything else that is folded into other axes, tokens may be merged,
and convolutions, poolings and fixed matrices between attentions are recorded as mixers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention import blocks, mixers, moves, places
from heedmap.attention import operations as ops
from heedmap.attention.attention import Place
from heedmap.attention.blocks import BlockAttention, BlockLayout
from heedmap.attention.mixers import AsItIs, Mixer, Terms
from heedmap.attention.numbers import NOTHING, Ids, Numbers
from heedmap.attention.tags import Tag
from heedmap.attention.tape import Tape, _forget, _tensors


class Pair(NamedTuple):
    """Companions of a matrix of two tokens each (scores, A): of the one and of the other; and what it is a product of."""

    one: Ids
    other: Ids
    sides: tuple[tuple[Tensor, Ids], ...] = ()
    softmax: bool = False


class Lost(NamedTuple):
    """The tensor mixes tokens in a way that is not followed: by which function, and where."""

    function: str
    place: Place | None


class Summed(NamedTuple):
    """A product over all tokens, kᵀ v: its two factors with their axes' letters, and those of the product."""

    factors: tuple[tuple[Tensor, Ids, str], tuple[Tensor, Ids, str]]
    axes: str


Known = Ids | Pair | Summed | Lost

CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"}
AVERAGE, MAXIMUM = ("ceil_mode", "count_include_pad"), ("dilation", "ceil_mode")
LINEAR = {
    "interpolate", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "cumsum", "conv_transpose1d", "conv_transpose2d", "fft_fft",
    "fft_fft2", "grid_sample", "fft_fftn", "fft_rfft", "fft_rfft2", "upsample", "fold",
}  # fmt: skip
"""Functions that mix tokens and are linear, whose structure is found token by token."""


class PlacedTape(Tape):
    """Records attention, in blocks or not, and mixers, with the tokens that they ask and are asked.

    Args:
        tokens: leaves, by their index among the sources, after which convolutions are mixers; else those before the first
            attention belong to what its tokens begin with.
    """

    def __init__(self, batch: int, *, cut: bool = False, tokens: frozenset[int] = frozenset()) -> None:
        super().__init__(batch, cut=cut, leaves=True, clone=True)
        self.tokens = tokens
        self._parents: dict[int, frozenset[int]] = {}
        self._words: set[int] = set()
        self.numbers = Numbers(batch)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.leaf_ids: dict[int, Ids] = {}
        self.reads: dict[int, list[tuple[Tensor, Ids]]] = {}
        self._known: dict[int, tuple[weakref.ref[Tensor], Known]] = {}

    # -- what is known of a tensor ----------------------------------------------------------------------------------

    def known(self, tensor: Tensor) -> Known | None:
        """Its companion or companions; None: no token. What was computed from tokens, one does not know how, is lost."""
        entry = self._known.get(id(tensor))
        if entry is not None:
            return entry[1]
        made = tensor.is_floating_point() and self.tag(tensor).sources
        return Lost("a function that is not known", None) if made else None

    def ids(self, tensor: Tensor) -> Ids | None:
        """Its companion; of a matrix of pairs, None."""
        known = self.known(tensor)
        return known if isinstance(known, Tensor) else None

    def set_known(self, tensor: Tensor, known: Known | None) -> None:
        """Remember it for as long as the tensor lives."""
        if known is None:
            self._known.pop(id(tensor), None)
            return
        self._known[id(tensor)] = (weakref.ref(tensor, partial(_forget, self._known, id(tensor))), known)

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        """See :meth:`Tape.watch`."""
        count, given = len(self.sources), super().watch(name, tensor)
        self.shapes[name] = tuple(tensor.shape)
        if len(self.sources) > count and tensor.dim():
            lead = self._lead(tensor.shape[0])
            is_leaf = self.sources[-1].kind == "leaf"
            shape = self._leaf_shape(tensor, self.sources[-1].spatial) if is_leaf else tuple(tensor.shape)
            if lead is not None:
                ids = self.numbers.new(lead.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), "leaf")
                self.set_known(given, ids.expand(given.shape))
                if is_leaf:
                    self.leaf_ids[len(self.sources) - 1] = ids
        return given

    def _lead(self, size: int) -> Tensor | None:
        """The sample of each entry of a first axis."""
        if size % self.batch:
            return None
        return torch.arange(self.batch).repeat_interleave(size // self.batch)

    def _leaf_shape(self, tensor: Tensor, spatial: bool) -> tuple[int, ...]:
        if spatial:
            return (tensor.shape[0], 1, *tensor.shape[2:])
        return (*tensor.shape[:-1], 1) if tensor.dim() > 1 else tuple(tensor.shape)

    def _is_leaf(self, func: Any, args: tuple[Any, ...], tag: Tag, result: Tensor) -> bool:
        words = any(i in self._words for i in tag.sources)
        if func is F.grid_sample and self.known(args[1]) is not None:  # deformable attention
            return False
        return not words and not self.tokens & tag.sources and super()._is_leaf(func, args, tag, result)

    def made_of(self, leaf: int) -> set[int]:
        """The leaves before a leaf."""
        parents = self._parents.get(leaf, frozenset())
        return set(parents).union(*(self.made_of(p) for p in parents))

    @property
    def firsts(self) -> frozenset[int]:
        """The first features of each input: leaves that no other features lie before."""
        return frozenset(
            i for i in self.leaf_ids if all(self._is_given(p) for p in self.made_of(i)) and not self._is_given(i)
        )

    def _is_given(self, leaf: int) -> bool:
        """Whether a leaf is an input as it was given, of pixels or of samples of sound."""
        source = self.sources[leaf]
        return source.shape == self.shapes.get(source.name) and any(leaf in p for p in self._parents.values())

    def _begin(self, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A new leaf: words keep the numbers of their ids; places of a convolution are new tokens of the same sample."""
        index = len(self.sources) - 1
        source = self.sources[index]
        of = frozenset[int]().union(*(self.tag(t).sources for t in _tensors(args, kwargs)))
        self._parents[index] = frozenset(i for i in of if self.sources[i].kind == "leaf")
        before = next((k for t in _tensors(args, kwargs) if isinstance(k := self.known(t), Tensor)), None)
        if before is not None and not source.spatial and tuple(before.shape) == tuple(result.shape[:-1]):
            ids = before.unsqueeze(-1)
            self._words.add(index)
        elif before is not None and not source.spatial and before.shape[:-1] == result.shape[:-1]:
            ids = before.narrow(-1, 0, 1)
        else:
            shape = self._leaf_shape(result, source.spatial)
            lead = self._lead(result.shape[0])
            if before is not None and before.dim() and before.shape[0] == result.shape[0]:
                lead = self.numbers.of_sample(before.reshape(len(before), -1).amax(1))
            if lead is None:
                self.set_known(result, Lost("a leaf of which the samples are not known", places.here()))
                return
            ids = self.numbers.new(lead.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), "leaf")
        self.leaf_ids[index] = ids
        self.set_known(result, ids.expand(result.shape))

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

    # -- companions -------------------------------------------------------------------------------------------------

    def _placed(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        tensors = [(t, k) for t in _tensors(args, kwargs) if (k := self.known(t)) is not None]
        lost = next((k for _, k in tensors if isinstance(k, Lost)), None)
        if lost is not None:
            return lost
        if any(isinstance(k, Summed) for _, k in tensors):
            return tensors[0][1] if name in moves.SAME else Lost(name, places.here())
        pairs = [k for _, k in tensors if isinstance(k, Pair)]
        if not pairs:
            return self._rows(func, name, args, kwargs, result, self.ids)
        one, other = (
            self._rows(func, name, args, kwargs, result, partial(self._part, which)) for which in ("one", "other")
        )
        sides = tuple(dict.fromkeys(s for p in pairs for s in p.sides))
        softmax = name == "softmax" or any(p.softmax for p in pairs)

        def both(a: Any, b: Any) -> Known | None:
            if isinstance(a, Lost) or isinstance(b, Lost) or a is None or b is None:
                return a if isinstance(a, Lost) else b if isinstance(b, Lost) else None
            return Pair(a, b, sides, softmax)

        if name in moves.REDUCES and isinstance(result, Tensor):
            kept = [x for x in (one, other) if not isinstance(x, Lost)]
            return both(one, other) if len(kept) == 2 else kept[0] if kept else one
        if isinstance(one, (tuple, list)):
            return [both(a, b) for a, b in zip(one, other, strict=True)]
        return both(one, other)

    def _part(self, which: str, tensor: Tensor) -> Ids | None:
        known = self.known(tensor)
        return getattr(known, which) if isinstance(known, Pair) else None

    def _rows(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, of: moves.Of
    ) -> Any:
        if name in moves.SAME and isinstance(result, Tensor):
            return next((i for t in _tensors(args, kwargs) if (i := of(t)) is not None), None)
        if name.startswith("new_") or name.endswith("_like"):
            return None
        if name == "glu":
            ids, axis = of(args[0]), kwargs.get("dim", args[1] if len(args) > 1 else -1)
            whole = moves.whole(args[0], of)
            if ids is None or not self._is_constant(whole, [axis % whole.dim()]):
                return Lost(name, places.here())
            return whole.narrow(axis, 0, result.shape[axis])
        if name in ("__setitem__",):
            return self._set(args, of)
        if name in ("cat", "concat", "concatenate"):
            self._learned(args, kwargs)
        if name == "masked_scatter":
            base = moves.whole(args[0], of).clone()
            mask = args[1].cpu().expand(base.shape)
            base[mask] = moves.whole(args[2], of).reshape(-1)[: int(mask.sum())]
            return base
        if (
            name == "repeat_interleave"
            or name in moves.DATA
            or name in moves.LISTS
            or name == "pad"
            or name in moves.ADDS_AT
        ):
            return moves.moved(func, _on_cpu(args), _on_cpu(kwargs), of)
        if name in moves.CHOOSES and isinstance(result, tuple) and len(result) == 2:
            return self._chosen(args, kwargs, result, of)
        if not isinstance(result, Tensor):
            return Lost(name, places.here())
        followed = [(t, i) for t in _tensors(args, kwargs) if (i := of(t)) is not None]
        if not followed:
            return None
        if name in moves.REDUCES:
            return self._reduced(name, args, kwargs, result, *followed[0])
        if name in CONVOLUTIONS and ops and _is_pointwise(args, kwargs, result):
            ids = followed[0][1]
            return (
                ids.narrow(1, 0, 1).expand(result.shape) if self._is_constant(ids, [1]) else Lost(name, places.here())
            )
        if _elementwise(followed, result):
            return self._met(followed, result, name)
        tensor, ids = followed[0]
        if (
            result.dim() == tensor.dim()
            and result.shape[:-1] == tensor.shape[:-1]
            and self._is_constant(ids, [ids.dim() - 1])
        ):
            return ids.expand(tensor.shape).narrow(-1, 0, 1).expand(result.shape)
        if result.is_floating_point() or result.is_complex():
            return Lost(name, places.here())
        return None

    def _met(self, followed: list[tuple[Tensor, Ids]], result: Tensor, name: str) -> Known | None:
        found: Ids | None = None
        for tensor, ids in followed:
            here = ids.expand(tensor.shape)
            here = here if tensor.shape == result.shape else here.expand(result.shape)
            found = here if found is None else self.numbers.joined(found, here)
            if found is None:
                return Lost(name, places.here())
        return found

    def _set(self, args: tuple[Any, ...], of: moves.Of) -> Known | None:
        base = moves.whole(args[0], of).clone()
        value = args[2]
        where = _on_cpu(args[1])
        base[where] = moves.whole(value, of) if isinstance(value, Tensor) and value.dim() else NOTHING
        return base

    def _learned(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tokens that no input made, put beside others (a class token): they have numbers of their own from here."""
        tensors = [t for t in (args[0] if args else kwargs["tensors"]) if t.dim()]
        like = next((t for t in tensors if self.ids(t) is not None and not self._is_learned(t)), None)
        if like is None or like.dim() < 3:
            return
        ids = self.ids(like)
        assert ids is not None
        axis = kwargs.get("dim", args[1] if len(args) > 1 else 0) % ids.dim()
        rows = ids.expand(like.shape)
        if axis == ids.dim() - 1 or not self._is_constant(rows, [ids.dim() - 1]):
            return
        first = self.numbers.first(rows.narrow(-1, 0, 1))
        real = first[first >= 0]
        if len(real.unique()) < len(real):  # heads: what stands beside them is no token
            return
        samples = self.numbers.of_sample(rows.narrow(-1, 0, 1)).amax(axis, keepdim=True)
        for t in tensors:
            if (
                (self.known(t) is None or self._is_learned(t))
                and t.dim() == ids.dim()
                and t.is_floating_point()
                and _says(t)
            ):
                shape = [*t.shape[:-1], 1]
                if [n for i, n in enumerate(samples.shape) if i != axis] == [
                    n for i, n in enumerate(shape) if i != axis
                ]:
                    self.set_known(t, self.numbers.new(samples.expand(shape), "learned").expand(t.shape))

    def _is_learned(self, tensor: Tensor) -> bool:
        """Whether it is of learned tokens only, before any attention: which sample's they are does not matter yet."""
        ids = self.ids(tensor)
        if ids is None or self.attentions or bool((ids < 0).any()):
            return False
        return all(self.numbers.made[int(s)] == "learned" for s in self.numbers.space[self.numbers.first(ids)].unique())

    def _chosen(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, of: moves.Of) -> Any:
        """Values that were chosen along an axis are of the tokens that they were taken from."""
        ids = of(args[0])
        if ids is None:
            return None
        default = args[2] if isinstance(result, torch.return_types.topk) and len(args) > 2 else -1
        if not isinstance(result, torch.return_types.topk) and len(args) > 1 and not isinstance(args[1], bool):
            default = args[1]
        axis, kept = int(kwargs.get("dim", default)), result[1].dim() == args[0].dim()
        index = result[1].cpu() if kept else result[1].cpu().unsqueeze(axis)
        found = ids.expand(args[0].shape).take_along_dim(index, axis)
        return [found if kept else found.squeeze(axis), None]

    def _reduced(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, tensor: Tensor, ids: Ids
    ) -> Known | None:
        axes = _reduced_axes(name, args, kwargs, tensor)
        ids = ids.expand(tensor.shape)
        if not self._is_constant(ids, axes):
            return Lost(name, places.here())
        return moves.reduced(ids, axes, result.dim() == tensor.dim())

    def _is_constant(self, ids: Ids, axes: list[int]) -> bool:
        """Whether all elements along these axes are of one token."""
        return moves.is_constant_along(ids, axes) or moves.is_constant_along(self.numbers.first(ids), axes)

    # -- products ---------------------------------------------------------------------------------------------------

    def _multiplied(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = moves.name_of(func)
        result = func(*args, **kwargs)
        operands = [t for t in _tensors(args, kwargs)]
        pair = operands[:2] if name == "linear" else operands[-2:]
        if name == "linear" and len(pair) == 2:
            lead = "".join(map(chr, range(0x3B1, 0x3B1 + pair[0].dim() - 1)))
            letters: tuple[str, str, str] | None = (
                f"{lead}k",
                "nk" if pair[1].dim() == 2 else "k",
                f"{lead}n" if pair[1].dim() == 2 else lead,
            )
        elif len(pair) != 2 or name == "tensordot" or (func is ops.EINSUM and len(operands) != 2):
            letters = None
        elif func is ops.EINSUM:
            letters = blocks.labels(args[0], *pair)
        elif name == "__rmatmul__":
            pair = [pair[1], pair[0]]
            letters = blocks.of_matmul(*pair)
        else:
            letters = blocks.of_matmul(*pair)
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
        run = partial(_again, func, args, kwargs, tensor)
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

    def _fresh(self, code: Tensor, lead: Tensor) -> Ids:
        """A new number for each different entry of ``code``, of the sample that ``lead`` says."""
        values, index = code.unique(return_inverse=True)
        sample = torch.zeros_like(values).scatter_(0, index.reshape(-1), lead.reshape(-1))
        new = self.numbers.new(torch.where(values < 0, NOTHING, sample), "mixer")
        return new[index]

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
        o = blocks.in_order(result, out, f"{to}{query}{feature}", sizes)
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
            like=o,
        )

    # -- attention and mixers ---------------------------------------------------------------------------------------

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        keywords: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa} if enable_gqa else {"scale": scale}
        out = ops.SDPA(query, key, value, attn_mask, 0.0, is_causal, **keywords)
        tags = [self.tag(t) for t in (query, key, value)]
        lost = next((k for t in (query, key, value) if isinstance(k := self.known(t), Lost)), None)
        if lost is not None:
            return self._lost(out, tags, lost)
        found = [self.ids(t) for t in (query, key, value)]
        if query.is_nested or query.dim() < 3:
            return self._unfollowed(out, tags, "its tensors have no batch")
        if all(i is None for i in found):
            learned = self._learned_rows(query)
            found = [
                learned,
                learned if key.shape[-2] == query.shape[-2] else None,
                learned if key.shape[-2] == query.shape[-2] else None,
            ]
        elif found[0] is None:
            found[0] = self._learned_rows(query)
        found[1] = found[2] if found[1] is None else found[1]
        found[2] = found[1] if found[2] is None else found[2]
        if any(i is None for i in found):
            return self._unfollowed(out, tags, "its queries, keys or values are of no token")
        sides = [(t, i) for t, i in zip((query, key, value), found, strict=True)]
        lead = out.shape[:-2]
        rows = []
        for t, i in sides:
            i = i.expand(t.shape)  # type: ignore[union-attr]
            if not self._is_constant(i, [i.dim() - 1]):
                return self._unfollowed(out, tags, "its rows are not of one token each")
            rows.append(_repeated(i[..., :1], lead)[..., 0])
        q_ids, _, v_ids = rows
        q, k, v = (_repeated(t, lead) for t in (query, key, value))
        mask = (
            None
            if attn_mask is None
            else attn_mask.expand(*lead, *attn_mask.shape[-2:])
            if attn_mask.dim() > 1
            else attn_mask
        )
        axes = tuple(range(out.dim()))
        return self._attend(
            self._form, out, axes, q_ids, v_ids, v, tags, sides, True, query=q, key=k, mask=mask, causal=is_causal,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
        )  # fmt: skip

    def _learned_rows(self, query: Tensor) -> Ids | None:
        if query.shape[0] != self.batch:
            return None
        lead = torch.arange(self.batch).reshape(-1, *[1] * (query.dim() - 1))
        shape = (self.batch, *[1] * (query.dim() - 3), query.shape[-2], 1)
        return self.numbers.new(lead.expand(shape), "learned").expand(query.shape)

    def _attend(
        self,
        form: str,
        out: Tensor,
        axes: tuple[int, ...],
        q_ids: Ids,
        k_ids: Ids,
        value: Tensor,
        tags: list[Tag],
        sides: Any,
        plain: bool,
        probs: Tensor | None = None,
        query: Tensor | None = None,
        key: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        scale: float = 1.0,
        like: Tensor | None = None,
    ) -> Tensor:
        if not plain:
            return self._unfollowed(out, tags, "it has one query, or one feature, without an axis")
        q_flat, k_flat = q_ids.reshape(-1, q_ids.shape[-1]), k_ids.reshape(-1, k_ids.shape[-1])
        samples = torch.cat([self.numbers.of_sample(q_flat), self.numbers.of_sample(k_flat)], 1)
        if bool((samples.amax(1, keepdim=True).expand_as(samples)[samples >= 0] != samples[samples >= 0]).any()):
            return self._unfollowed(out, tags, "tokens of several samples meet in it; explain them one by one")
        q_first, k_first = self.numbers.first(q_flat), self.numbers.first(k_flat)
        if blocks.twice(q_first):
            return self._unfollowed(out, tags, "a token asks in it twice (tokens that go on as copies of themselves)")
        order = blocks.grouped(q_first, k_first)
        if order is None:
            return self._unfollowed(out, tags, "it has not the same heads for all tokens")

        def laid(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.reshape(-1, *t.shape[-2:])[order.to(t.device)]

        attention = BlockAttention(
            index=len(self.attentions),
            form=form,
            out=out,
            layout=BlockLayout(axes, order),  # type: ignore[arg-type]
            value=laid(value),  # type: ignore[arg-type]
            keys=0,
            query=laid(query),
            key=laid(key),
            mask=laid(mask),
            causal=causal,
            scale=scale,
            probs=laid(probs),
            query_sources=frozenset().union(*(t.sources for t in tags[:1])),
            value_sources=tags[-1].sources,
            query_ids=q_flat[order[:, 0]],
            key_ids=k_flat[order[:, 0]],
        )
        self.reads[attention.index] = list(sides)
        given = self._record(attention)
        inverse = [axes.index(i) for i in range(len(axes))]
        if any(self.numbers.made[int(s)] == "mixer" for s in self.numbers.space[q_first[q_first >= 0]].unique()):
            q_ids = self._fresh(q_first, self.numbers.of_sample(q_first)).reshape(q_ids.shape)
            attention.row_ids = q_ids.reshape(q_flat.shape)[order[:, 0]]
        attention.ids = q_ids.unsqueeze(-1).expand(*q_ids.shape, out.shape[axes[-1]]).permute(inverse)
        self.set_known(given, attention.ids)
        return given

    def _lost(self, out: Tensor, tags: list[Tag], lost: Lost) -> Tensor:
        return self._unfollowed(out, tags, f"its tokens were mixed before by {lost.function}, at {lost.place}")

    def _mixer(
        self,
        out: Tensor,
        x: Tensor,
        asked: Ids,
        ids: Ids,
        terms: Callable[[Tensor], Iterator[Terms]],
        into: Ids | None = None,
        asks: frozenset[int] = frozenset(),
    ) -> Tensor:
        mixer = Mixer(
            index=len(self.attentions), form="mixer", out=out, layout=AsItIs(), value=x.detach(), keys=0,  # type: ignore[arg-type]
            query_sources=asks, value_sources=self.tag(x).sources, ids=ids, asked=asked.expand(x.shape), terms=terms,
            into=into, sizes=(self.batch, 0, 0),
        )  # fmt: skip
        self.reads[mixer.index] = [(x, mixer.asked)]
        given = self._record(mixer)
        self.set_known(given, ids)
        return given

    def _mixed(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Tensor | None:
        """The result as that of a mixer; None where the function is none."""
        kind = name if name in CONVOLUTIONS or name in POOLS or name in LINEAR or name in moves.MERGES else ""
        x = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("input")
        if name in ("max", "min") and isinstance(result, tuple) and isinstance(x, Tensor):
            return self._largest(func, args, kwargs, result, x)
        if (
            not kind
            or not isinstance(result, Tensor)
            or not isinstance(x, Tensor)
            or (not result.is_floating_point() and not result.is_complex())
        ):
            return None
        known = self.known(x)
        if not isinstance(known, Tensor):
            return None
        ids = self.numbers.first(known).expand(x.shape)
        if name in moves.MERGES:
            axes = _reduced_axes(name, args, kwargs, x)
            return None if self._is_constant(ids, axes) else self._merged(func, args, kwargs, result, x, ids, axes)
        if name in CONVOLUTIONS and _is_pointwise(args, kwargs, result):
            return None
        if name not in LINEAR and not self._is_constant(ids, [1]):
            return None
        if name == "grid_sample":
            return self._sampled(args, kwargs, result, x, ids)
        return self._convolved(func, name, args, kwargs, result, x, ids)

    def _largest(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, x: Tensor) -> Any:
        """The largest of several tokens, feature by feature."""
        known, axes = self.known(x), _reduced_axes("max", args, kwargs, x)
        if not isinstance(known, Tensor) or self._is_constant(known.expand(x.shape), axes):
            return None

        def values(*args: Any, **kwargs: Any) -> Tensor:
            found: Tensor = func(*args, **kwargs)[0]
            return found

        made = self._merged(values, args, kwargs, result[0], x, self.numbers.first(known).expand(x.shape), axes)
        return None if made is None else type(result)((made, result[1]))

    def _sampled(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, x: Tensor, ids: Ids
    ) -> Tensor | None:
        """Deformable attention: each query looks at points of its own; what it finds there is of that query."""
        given = dict(zip(("input", "grid", "mode", "padding_mode", "align_corners"), args, strict=False)) | kwargs
        grid, mode, pads = given["grid"], given.get("mode", "bilinear"), given.get("padding_mode", "zeros")
        asks = self.known(grid)
        if not isinstance(asks, Tensor) or x.dim() != 4 or mode != "bilinear" or pads == "reflection":
            return None
        rows = asks.expand(grid.shape)[..., 0].unsqueeze(1).expand(result.shape)
        terms = mixers.sampled_terms(x, grid, pads == "border", bool(given.get("align_corners")), rows, ids)
        return self._mixer(result, x, ids, rows, terms, asks=self.tag(grid).sources)

    def _convolved(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, x: Tensor, ids: Ids
    ) -> Tensor | None:
        if name in LINEAR and (name.startswith("fft") or name == "cumsum"):
            same = self.numbers.first(ids)
            lead = self.numbers.of_sample(same)
            fresh = self._fresh(same, lead)
            return self._mixer(
                result, x, ids, fresh, mixers.linear_terms(partial(_again, func, args, kwargs, x), x, fresh, ids)
            )
        lead = self.numbers.of_sample(ids.reshape(len(ids), -1).amax(1))
        places_of = range(2, result.dim())  # an axis of features may stand among those of places
        sizes = [
            1 if x.shape[a] == result.shape[a] and self._is_constant(ids, [a]) else result.shape[a] for a in places_of
        ]
        shape = (result.shape[0], 1, *sizes)
        fresh = self.numbers.new(lead.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), "mixer").expand(result.shape)
        if name in CONVOLUTIONS:
            bound = (
                dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
                | kwargs
            )
            windows = mixers.conv_windows(
                x, bound["weight"], bound.get("stride", 1), bound.get("padding", 0), bound.get("dilation", 1)
            )
            terms = mixers.conv_terms(x, bound["weight"], bound.get("groups", 1), windows, fresh, ids)
        elif name in POOLS:
            bound = (
                dict(
                    zip(
                        (
                            "input",
                            "kernel_size",
                            "stride",
                            "padding",
                            *(AVERAGE if name.startswith("avg") else MAXIMUM),
                        ),
                        args,
                        strict=False,
                    )
                )
                | kwargs
            )
            dims = x.dim() - 2
            size, stride = mixers._all(bound["kernel_size"], dims), bound.get("stride")
            pads = mixers._all(bound.get("padding", 0), dims)
            windows = mixers.Windows(
                size, size if stride is None else mixers._all(stride, dims), pads, pads, (1,) * dims
            )
            padded = bool(bound.get("count_include_pad", True))
            terms = mixers.pool_terms(x, result, name.startswith("max"), padded, windows, fresh, ids)
        else:
            terms = mixers.linear_terms(partial(_again, func, args, kwargs, x), x, fresh, ids)
        return self._mixer(result, x, ids, fresh, terms)

    def _merged(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
        x: Tensor,
        ids: Ids,
        axes: list[int],
    ) -> Tensor | None:
        """A mean, sum or maximum over tokens."""
        kept = ids.amax(axes, keepdim=True)
        others = [a for a in range(ids.dim()) if a not in axes]
        features = [a for a in others if self._is_constant(ids, [a])]
        code = kept
        for axis in features:
            code = code.narrow(axis, 0, 1)
        marks = self.numbers.first(code)
        if len(marks[marks >= 0].unique()) < int((marks >= 0).sum()):
            return None
        fresh = self._fresh(marks, self.numbers.of_sample(marks)).expand(kept.shape)
        out = fresh if result.dim() == x.dim() else moves.reduced(fresh, axes, keep=False)
        terms = mixers.merge_terms(partial(_again, func, args, kwargs, x), x, fresh.expand(x.shape), ids)
        return self._mixer(result, x, ids, out.expand(result.shape), terms, into=fresh.expand(x.shape))


# -- helpers ------------------------------------------------------------------------------------------------------


def _again(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], old: Tensor, new: Tensor) -> Tensor:
    """The same call with another tensor."""

    def swapped(value: Any) -> Any:
        if value is old:
            return new
        if isinstance(value, Tensor):
            return value.detach()
        return type(value)(swapped(v) for v in value) if type(value) in (list, tuple) else value

    found: Tensor = func(*swapped(args), **{k: swapped(v) for k, v in kwargs.items()})
    return found


def _says(tensor: Tensor) -> bool:
    """Whether it is more than zeros that fill a place."""
    learned = isinstance(tensor, torch.nn.Parameter) or isinstance(tensor._base, torch.nn.Parameter)
    return learned or bool(tensor.detach().any())


def _along(ids: Ids, axis: int) -> Ids | None:
    """The one number along an axis, where there is no other beside nothing."""
    top = ids.amax(axis, keepdim=True)
    return top.squeeze(axis) if bool(((ids == top) | (ids < 0)).all()) else None


def _elementwise(followed: list[tuple[Tensor, Ids]], result: Tensor) -> bool:
    try:
        return all(torch.broadcast_shapes(t.shape, result.shape) == result.shape for t, _ in followed)
    except RuntimeError:
        return False


def _is_pointwise(args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> bool:
    x, weight = (args[0] if args else kwargs["input"]), (args[1] if len(args) > 1 else kwargs["weight"])
    return all(n == 1 for n in weight.shape[2:]) and x.shape[2:] == result.shape[2:]


def _reduced_axes(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor) -> list[int]:
    if name in ("norm", "std", "var") and len(args) > 1 and "dim" not in kwargs:
        args = (args[0], *args[2:3]) if name == "norm" else args
    return moves.axes_of(args, kwargs, tensor.dim())


def _repeated(tensor: Tensor, lead: tuple[int, ...]) -> Tensor:
    """With the leading axes of the queries: fewer heads of keys are heads of several queries."""
    if tensor.dim() - 2 == len(lead) and tensor.dim() > 2 and tensor.shape[-3] not in (1, lead[-1]):
        tensor = tensor.repeat_interleave(lead[-1] // tensor.shape[-3], -3)
    return tensor.expand(*lead, *tensor.shape[-2:])


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu() if not value.is_floating_point() and not value.is_complex() else value
    if type(value) in (list, tuple):
        return type(value)(_on_cpu(v) for v in value)
    return {k: _on_cpu(v) for k, v in value.items()} if type(value) is dict else value
