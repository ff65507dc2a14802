"""The recorder: a torch function mode that sees every torch call of its thread, in order.

It runs the model's own kernels unchanged and keeps, for each tensor, what it was computed from (its sources). A source
is an input, a leaf (where an input becomes rows of features: an embedding, a patch convolution) or an attention. An
attention's output has that attention as its only source: sources say which state of which stream each attention read.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from heedmap.attention import operations as ops
from heedmap.attention import places
from heedmap.attention.attention import Attention, Layout, RowTensor, versions
from heedmap.attention.beginnings import Steps
from heedmap.attention.fingerprint import Ways
from heedmap.attention.operations import FusedCall
from heedmap.attention.products import score_axes, value_axes
from heedmap.attention.tags import (
    EMPTY,
    NONE,
    Product,
    Source,
    Tag,
    is_plain,
    is_turned,
    joined,
    learned_rows,
    only_cuts,
    pointwise,
    scores,
    softmax_after,
    softmax_kind,
    turned,
    writes,
)
from heedmap.errors import AttentionError, MixingError, UnfollowedAttentionError

ONLY_INPUTS = frozenset(["input"])
INPUTS_AND_LEAVES = frozenset(["input", "leaf"])


class HastyRefusal(UnfollowedAttentionError):
    """The run was not ended: its rest would hardly have changed the refusal, and was left to the next recorder."""


class Tape(TorchFunctionMode):
    """Records the attention of everything that runs under it.

    Args:
        batch: batch size of the inputs.
        cut: make every attention's output, and every leaf, a leaf of autograd (the mixing probe).
        leaves: keep the graph from the leaves to the first attentions, to find where their rows went.
        clone: give the model copies of attention outputs, because it writes to them in place.
        copies: give attention copies of what it reads, because the model writes to that in place later (one mask for all layers).
        through: keep the graph from the inputs themselves, through all leaves (relevance propagation).
        heads_first: whether tensors with heads folded into the batch are (heads · batch, …), not (batch · heads, …).
        given: leaf, by its index among the sources → what the model gets in its place, of the same shape. Once it has them all,
            its answer is all that is wanted, and nothing more is recorded, but where there are towers or copies.
        last: how many attentions there are, where that is known: behind them a target reads few rows, others have no gradient.
        hasty: stop at the first attention of which the rows are not those of the inputs, with :class:`HastyRefusal`.
    """

    def __init__(
        self,
        batch: int,
        *,
        cut: bool = False,
        leaves: bool = False,
        clone: bool = False,
        copies: bool = False,
        through: bool = False,
        heads_first: bool = False,
        given: Mapping[int, Tensor] | None = None,
        last: int | None = None,
        hasty: bool = False,
    ) -> None:
        super().__init__()
        self.hasty, self._last = hasty, 0 if cut else last
        self.batch, self.cut, self.trace_leaves, self.clone = batch, cut, cut or leaves or through, clone
        self.copies, self._unseen = copies, list[tuple[Tensor, int]]()
        self.through, self.given, self.heads_first = through, given or {}, heads_first
        self._all_given = False
        self.sources: list[Source] = []
        self.attentions: list[Attention] = []
        self._tags: dict[int, tuple[weakref.ref[Tensor], Tag]] = {}
        self._sharing: dict[int | None, set[int]] = {}  # of a storage, the tensors that had a tag when they lay there
        self._kinds: dict[frozenset[int], frozenset[str]] = {}  # of sources
        self._form, self._extra_keys = "sdpa", 0
        self.towers: frozenset[str] = frozenset()
        self.turned = False
        self.steps = Steps()
        self.ways = Ways()
        self._ends: dict[int, tuple[Tensor, Tensor]] = {}
        self._chosen_from: list[tuple[Tensor, int]] = []  # where attention is cut, with how many attentions there were

    # -- tags -------------------------------------------------------------------------------------------------------

    def tag(self, tensor: Tensor) -> Tag:
        """What is known of ``tensor``."""
        entry = self._tags.get(id(tensor))
        return EMPTY if entry is None else entry[1]

    def set_tag(self, tensor: Tensor, tag: Tag) -> None:
        """Remember ``tag`` for as long as ``tensor`` lives."""
        self._tags[id(tensor)] = (weakref.ref(tensor, partial(_forget, self._tags, id(tensor))), tag)
        self._sharing.setdefault(_storage(tensor), set()).add(id(tensor))

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        """Register a content input; returns the tensor to give to the model."""
        if name in self.towers or not tensor.is_floating_point():
            self.sources.append(Source("tower" if name in self.towers else "input", name, says=tensor.numel()))
            self.set_tag(tensor, Tag(frozenset([len(self.sources) - 1])))
            return tensor
        return self._leaf(tensor, name, spatial=tensor.dim() > 3, first=True)

    def _leaf_of(self, tensor: Tensor, name: str, spatial: bool, first: bool, says: int) -> Tensor:
        """The leaf, which is batch first, as the model goes on with it."""
        sequence_first = self.turned and not spatial and tensor.dim() > 2 and tensor.shape[0] != self.batch
        if not sequence_first or tensor.shape[1] != self.batch:
            return self._leaf(tensor, name, spatial, first, says)
        leaf = self._leaf(tensor.transpose(0, 1), name, spatial, first, says)
        tag, tensor = self.tag(leaf), leaf.transpose(0, 1)
        self.set_tag(tensor, tag)
        return tensor

    def _leaf(self, tensor: Tensor, name: str, spatial: bool, first: bool, says: int = 0) -> Tensor:
        tensor = self._in_place_of(tensor, name)
        says = says or (tensor[0, 0].numel() if tensor.dim() > 2 and tensor.numel() else 1)
        source = Source("leaf", name, tuple(tensor.shape), spatial, first=first, says=says)
        self.sources.append(source)
        self._all_given = bool(self.given) and not (self.copies or self.towers) and max(self.given) < len(self.sources)
        if self.trace_leaves:
            goes_on = self.through and tensor.requires_grad
            source.tensor = tensor if goes_on else tensor.detach().requires_grad_()
            tensor = source.tensor.clone()
        self.set_tag(tensor, Tag(frozenset([len(self.sources) - 1])))
        return tensor

    def _in_place_of(self, tensor: Tensor, name: str) -> Tensor:
        given = self.given.get(len(self.sources), tensor)
        if given.shape != tensor.shape:
            raise AttentionError(
                f"the features of {name!r} have shape {tuple(tensor.shape)} where they had {tuple(given.shape)} before: the "
                "model does not do the same thing twice on equal input; make it deterministic"
            )
        return given

    # -- the mode ---------------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and record what it means; where the ways of the run are kept, also from where it is called."""
        kwargs = kwargs or {}
        if func in ops.ASKS:
            return func(*args, **kwargs)
        if self.ways.entered:
            self.ways.note(func, args, kwargs, sys._getframe(1))
        return self._unrecorded(func, args, kwargs) if self._all_given else self.seen(func, args, kwargs)

    def _unrecorded(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func`` as :meth:`seen` does, where nothing is asked of its result but numbers and gradients."""
        if func is ops.SDPA:
            out = FusedCall(*args, **kwargs).run()
            return out.clone() if self.clone else out
        if func is ops.MULTI_HEAD:
            return self._multi_head(args, kwargs)
        if ops.lacks_gradient(func):
            return ops.Linear.apply(func, *args)
        result = func(*args, **kwargs)
        ops.keep_layout(func, result)
        return result

    def seen(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``func``, which gives or changes tensors, and record what it means."""
        if func in ops.UNSEEN:
            return self._uncounted(func, args)
        if self.towers and self._is_inside(args, kwargs):
            return self._passed(func, args, kwargs)
        if self.towers and (func is ops.SDPA or func in ops.PRODUCTS):
            self.steps.ask(self.tag(t).step for t in _tensors(args, kwargs))
        elif self.towers:
            args, kwargs = self._towers_ended(func, args, kwargs)
        self._note_chosen(func, args)
        if func is ops.SDPA:
            args, kwargs = self._apart(args, kwargs)
            return self._fused(FusedCall(*args, **kwargs))
        if func is ops.MULTI_HEAD:
            return self._multi_head(args, kwargs)
        if func in ops.PRODUCTS:
            return self._product(func, args, kwargs)
        if ops.lacks_gradient(func):
            return self._propagate(func, args, kwargs, ops.Linear.apply(func, *args))
        is_sparse = self._last is not None and len(self.attentions) >= self._last
        if is_sparse and ops.takes_rows(func, args, kwargs):
            return self._propagate(func, args, kwargs, ops.by_rows(*args))
        result = func(*args, **kwargs)
        ops.keep_layout(func, result)
        if isinstance(result, Tensor):
            return self._propagate(func, args, kwargs, result)
        if isinstance(result, (tuple, list)):
            for item in result:
                if isinstance(item, Tensor):
                    self._propagate(func, args, kwargs, item)
        elif func in ops.WRITES_IN_PLACE:  # __setitem__ returns nothing
            self._write(args[0], self._merge(func, args, kwargs, args[0]))
        return result

    def _note_chosen(self, func: Any, args: tuple[Any, ...]) -> None:
        if self.cut and func in ops.CHOOSES_ROWS and args and isinstance(args[0], Tensor):
            self._chosen_from.append((args[0], len(self.attentions)))

    def _propagate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Tensor:
        tag = self._merge(func, args, kwargs, result)
        if tag is EMPTY:
            return result
        if func in ops.SOFTMAX:
            tag = tag._replace(softmax=softmax_kind(tag, args, kwargs, result) or tag.softmax)
            result = result.clone() if self.copies else result  # its gradient needs what it made
        if self._is_leaf(func, args, tag, result):
            first = all(self.sources[i].kind == "input" for i in tag.sources)
            tables = [
                len(t) for t in _tensors(args, kwargs) if t.is_floating_point() and t.dim() and self.tag(t) is EMPTY
            ]
            name, says = self.sources[min(tag.sources)].name, max(tables, default=0) if first else 0
            leaf = self._leaf_of(result, name, spatial=func in ops.SPATIAL, first=first, says=says)
            self.sources[-1].made_of = tag.sources
            return leaf
        if writes(func, args, result) or "out" in kwargs:
            self._write(result, tag)
        else:
            self.set_tag(result, tag)
        return result

    def _is_leaf(self, func: Any, args: tuple[Any, ...], tag: Tag, result: Tensor) -> bool:
        """Whether this is where an input becomes rows of features: its first features, or a backbone's next ones."""
        if not tag.sources:
            return False
        kinds = self._kinds.get(tag.sources)
        if kinds is None:
            kinds = self._kinds[tag.sources] = frozenset(self.sources[i].kind for i in tag.sources)
        if kinds == ONLY_INPUTS:
            return result.is_floating_point()
        makes = func in ops.SPATIAL and kinds <= INPUTS_AND_LEAVES and result.is_floating_point()
        return makes and not pointwise(args, result) and not only_cuts(func, args, result)

    def _merge(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Tag:
        tensors = _tensors(args[:1] if func in ops.LIKE_ANOTHER else args, kwargs)
        tags = [known[1] for t in tensors if (known := self._tags.get(id(t))) is not None and known[1] is not EMPTY]
        if not tags:
            return EMPTY
        sources = tags[0].sources.union(*[t.sources for t in tags[1:]]) if len(tags) > 1 else tags[0].sources
        if func not in ops.CONCATENATES and all([is_plain(tag) for tag in tags]):
            return Tag(sources) if len(tags) > 1 else tags[0]
        found = [(t, self.tag(t)) for t in tensors]
        learned = NONE
        if func in ops.CONCATENATES or any(t.learned != NONE for t in tags):
            learned = learned_rows(func, args, kwargs, found, result)
        if not any(t.products or t.softmax for t in tags):
            return Tag(sources, learned=learned) if len(tags) > 1 or tags[0].learned != learned else tags[0]
        products: tuple[Product, ...] = ()
        if func not in ops.ENDS_PRODUCT:
            products = tuple(dict.fromkeys(p for t in tags for p in t.products))[:8]
        if func in ops.CONCATENATES:
            products = (
                joined([tag.products for t, tag in found if t.dim() == result.dim()], args, kwargs, result) or products
            )
        softmax = softmax_after(func, args, kwargs, found, result)
        scores_turned = not softmax and func in ops.PERMUTES_ATTENTION and is_turned(found[0][0], result)
        if scores_turned or (softmax == "whole" and any(t.softmax == "turned" for t in tags)):
            products = turned(products)
        return Tag(sources, products, softmax, learned)

    def _write(self, tensor: Tensor, tag: Tag) -> None:
        """``tensor`` was written to in place: it, its base and all views of the same memory carry the union."""
        storage = _storage(tensor)
        for key in list(self._sharing.get(storage, ())):
            reference, old = self._tags.get(key, (lambda: None, EMPTY))
            other = reference()
            if other is not None and other is not tensor and _storage(other) == storage is not None:
                self.set_tag(other, Tag(old.sources | tag.sources, old.products, old.softmax and "derived"))
        old = self.tag(tensor)
        self.set_tag(tensor, tag._replace(sources=old.sources | tag.sources))
        base = tensor._base
        if base is not None and self.tag(base) is EMPTY:
            self.set_tag(base, Tag(tag.sources))

    # -- attention --------------------------------------------------------------------------------------------------

    def _fused(self, call: FusedCall) -> Tensor:
        out, query = call.run(), call.query
        tags = [self.tag(t) for t in call[:3]]
        if self._in_tower(tags):
            return self._carried(out, tags)
        problem = self._misfit(query)
        if problem:
            return self._misfits(out, tags, problem)
        layout = Layout(None, self.batch, self.heads_first)
        heads_query, heads_key, heads_value = (layout.apply(t) for t in call[:3])
        skip, keys = _keys(heads_key.shape[2] - self._extra_keys, heads_query.shape[2], tags[2].learned)
        rows = slice(skip, skip + keys)
        sides = {"queries": heads_query, "keys": heads_key[:, :, rows], "values": heads_value[:, :, rows]}
        return self._record(
            Attention(
                index=len(self.attentions),
                form=self._form,
                out=out,
                layout=layout,
                value=heads_value,
                keys=keys,
                query=heads_query,
                key=heads_key,
                mask=None if call.attn_mask is None else self._mask(call.attn_mask, query),
                causal=call.is_causal,
                scale=call.factor,
                query_sources=tags[0].sources,
                value_sources=tags[2].sources,
                sides={name: RowTensor(t, 0, 2) for name, t in sides.items()} if self.trace_leaves else {},
                skip=skip,
            )
        )

    def _mask(self, mask: Tensor, query: Tensor) -> Tensor:
        if mask.dim() == 3 and query.dim() == 3 and mask.shape[0] not in (1, self.batch):
            return Layout(None, self.batch, self.heads_first).apply(mask)
        return mask.unsqueeze(1) if mask.dim() == 3 and query.dim() == 3 else mask

    def _multi_head(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = ops.MultiHeadCall.bind(args, kwargs)
        with self:
            query, key, value, mask = call.projected()
            self._form, self._extra_keys = "mha", call.extra_keys
            try:
                out = ops.SDPA(query, key, value, mask)
            finally:
                self._form, self._extra_keys = "sdpa", 0
            return call.finished(out), call.weights(query, key, mask)

    def _product(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = self._apart(args, kwargs)
        result = func(*args, **kwargs)
        operands = list(_tensors(args, kwargs))
        if len(operands) < 2 or (func is ops.EINSUM and len(operands) != 2):
            return self._propagate(func, args, kwargs, result)
        left, right = operands[-2:]
        tags = [self.tag(left), self.tag(right)]
        if self._in_tower(tags):
            return self._carried(result, tags)
        if tags[0].softmax == "whole" and not tags[0].products and _pools(left, tags):
            return self._propagate(func, args, kwargs, result)  # pooling: a weighted mean, not asked by any token
        if tags[0].softmax == "whole" and not tags[1].softmax and left.dim() > 2 and right.dim() > 2:
            return self._inline(func, args, left, right, result)
        if any(t.softmax for t in tags) and all(t.sources for t in tags):
            return self._unfollowed(result, tags, "the softmax is changed, transposed or summed before it meets values")
        self._tag_product(func, args, (left, right), tags, result)
        return result

    def _tag_product(
        self, func: Any, args: tuple[Any, ...], operands: tuple[Tensor, Tensor], tags: list[Tag], result: Tensor
    ) -> None:
        sources = tags[0].sources | tags[1].sources
        inherited = tuple(dict.fromkeys(tags[0].products + tags[1].products))[:8]
        sides: tuple[RowTensor | None, RowTensor | None] = (None, None)
        if self.trace_leaves:
            axes = score_axes(args[0], result.dim()) if func is ops.EINSUM else ((0, -2), (0, -1))
            if axes:
                first, second = (RowTensor(t, *a, self.heads_first) for t, a in zip(operands, axes, strict=True))
                sides = first, second
        left, right = (t.detach() for t in operands)
        product = Product(*sides, tags[0].sources, tags[1].sources, (left, right))
        self.set_tag(result, Tag(sources, (*inherited, product)))

    def _inline(self, func: Any, args: tuple[Any, ...], probs: Tensor, value: Tensor, out: Tensor) -> Tensor:
        tag, value_tag = self.tag(probs), self.tag(value)
        axes = value_axes(args[0], out.dim()) if func is ops.EINSUM else (None, None, None)
        if axes is None:
            return self._unfollowed(out, [tag, value_tag], f"einsum {args[0]!r} is no product A v")
        problem = self._misfit(probs if axes[0] is None else probs.permute(axes[0]))
        if problem:
            return self._misfits(out, [tag, value_tag], problem)
        layouts = [Layout(a, self.batch, self.heads_first) for a in axes]
        heads_probs, heads_value = layouts[0].apply(probs), layouts[1].apply(value)
        product = scores(tag.products)
        skip, keys = _keys(heads_value.shape[2], heads_probs.shape[2], NONE if axes[1] else value_tag.learned)
        sides = {"values": RowTensor(heads_value[:, :, skip : skip + keys], 0, 2)} if self.trace_leaves else {}
        if self.trace_leaves and product is not None:
            asked = None if product.key is None else product.key.rows(skip, keys)
            sides |= {n: s for n, s in (("queries", product.query), ("keys", asked)) if s is not None}
        return self._record(
            Attention(
                index=len(self.attentions),
                form="softmax",
                out=out,
                layout=layouts[2],
                value=heads_value,
                keys=keys,
                skip=skip,
                probs=heads_probs,
                probs_layout=layouts[0],
                scored=None if product is None else product.operands,
                query_sources=tag.sources if product is None else product.query_sources,
                value_sources=value_tag.sources,
                sides=sides,
            )
        )

    def _misfit(self, tensor: Tensor) -> str:
        """Why attention of this tensor cannot be laid out as (batch, heads, rows, …); empty where it can."""
        if tensor.is_nested:
            return "nested tensors are used"
        if tensor.dim() == 4 and tensor.shape[0] == self.batch:
            return ""
        if tensor.dim() == 3 and tensor.shape[0] % self.batch == 0:
            return ""
        if tensor.dim() == 2 and self.batch == 1:
            return ""
        return (
            f"its queries have shape {tuple(tensor.shape)} where the inputs have batch size {self.batch}: "
            "windows or parts of the input are folded into the batch, or the inputs are not batch first"
        )

    def _misfits(self, out: Tensor, tags: Iterable[Tag], problem: str) -> Tensor:
        if self.hasty:
            raise HastyRefusal(f"an attention cannot be followed: {problem}")
        return self._unfollowed(out, tags, problem)

    # -- towers -----------------------------------------------------------------------------------------------------

    def _in_tower(self, tags: Iterable[Tag]) -> bool:
        """Whether nothing of this was computed from what is followed."""
        return bool(self.towers) and all(self.sources[i].kind == "tower" for tag in tags for i in tag.sources)

    def _is_inside(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        tags = [self.tag(t) for t in _tensors(args, kwargs)]
        return bool(_sources(tags)) and self._in_tower(tags)

    def _passed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A step inside a tower: seen by no other mode, it only hands on where its results come from, or ends the tower."""
        with torch._C.DisableTorchFunction():
            result = func(*args, **kwargs)
        tags = [self.tag(t) for t in _tensors(args, kwargs)]
        tag, steps, ends = Tag(_sources(tags)), [tag.step for tag in tags], dict[int, Tensor]()
        for made in _tensors(args[:1] if func in ops.WRITES_IN_PLACE else (result,)):
            tag = tag._replace(step=self.steps.made(tag.sources, steps))
            if writes(func, args, made) or "out" in kwargs:
                self._write(made, tag)
            else:
                self.set_tag(made, tag)
            if tag.step in self.steps.ends and made.is_floating_point():
                ends[id(made)] = self._end_of_tower(made)
        return _replaced(result, ends)

    def _carried(self, out: Tensor, tags: Iterable[Tag]) -> Tensor:
        if sources := _sources(tags):
            self.set_tag(out, Tag(sources))
        return out

    def _towers_ended(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The arguments, where a tower's tokens meet what is followed with the tokens as a leaf."""
        features = [t for t in _tensors(args, kwargs) if t.is_floating_point() and self.tag(t).sources]
        from_towers = [t for t in features if self._in_tower([self.tag(t)])]
        if not from_towers or all(self._is_plain(t) for t in features):
            return args, kwargs
        written = kwargs.get("out", args[0] if args and writes(func, args, args[0]) else None)
        ends = {id(t): self._end_of_tower(t) for t in from_towers if t is not written and t.dim() > 1}
        return _replaced(args, ends), _replaced(kwargs, ends)

    def _is_plain(self, tensor: Tensor) -> bool:
        """Whether a tensor comes from towers, and ids that are not yet features, only."""
        return all(self.sources[i].kind in ("tower", "input") for i in self.tag(tensor).sources)

    def _end_of_tower(self, tensor: Tensor) -> Tensor:
        """The tensor as a leaf of (batch, rows, features): as many rows for each sample, which is proved later."""
        if id(tensor) in self._ends:
            return self._ends[id(tensor)][1]
        rows = tensor.numel() // max(1, tensor.shape[-1])
        name = max((self.sources[i] for i in self.tag(tensor).sources), key=lambda source: source.says).name
        if rows % self.batch:
            raise MixingError(
                f"the {rows} tokens that the model makes of {name!r} are not as many for each of {self.batch} samples, so they "
                "cannot be told apart; explain the samples one by one"
            )
        leaf = self._leaf(tensor.detach().reshape(self.batch, -1, tensor.shape[-1]), name, spatial=False, first=True)
        self.sources[-1].tower = True
        tag, leaf = self.tag(leaf), leaf.reshape(tensor.shape)
        self.set_tag(leaf, tag)
        self._ends[id(tensor)] = tensor, leaf
        return leaf

    def _record(self, attention: Attention) -> Tensor:
        self.sources.append(Source("attention", attention.form, attention=attention.index))
        self.attentions.append(attention)
        attention.place = places.here()
        attention.read = versions(attention.rebuilt_from)
        given = attention.out
        if self.cut or not given.requires_grad:
            attention.out = given.detach().requires_grad_()
            given = attention.out.clone()
        elif self.clone:
            given = given.clone()
        attention.given, attention.version = (given if self.cut or given is attention.out else None), given._version
        self.set_tag(given, Tag(frozenset([len(self.sources) - 1])))
        return given

    def pulled_from(self) -> Iterator[Tensor]:
        """What a proof pulls back: all that attention reads."""
        return (side.tensor for attention in self.attentions for side in attention.sides.values())

    def chosen_from(self) -> Iterator[Tensor]:
        """What rows were taken from, if any were, and no attention read thereafter; each once."""
        for tensor, count in self._chosen_from:
            last = max((i for i in self.tag(tensor).sources if self.sources[i].kind == "attention"), default=None)
            later = (of for a in self.attentions[count:] for of in (a.query_sources, a.value_sources))
            if last is not None and not any(last in of for of in later):
                yield tensor
        self._chosen_from.clear()

    def _unfollowed(self, out: Tensor, tags: Iterable[Tag], reason: str) -> Tensor:
        self.sources.append(Source("unfollowed", reason, place=places.here()))
        self.set_tag(out, Tag(_sources(tags) | {len(self.sources) - 1}))
        return out

    @property
    def written_in_place(self) -> bool:
        """Whether the model wrote to an attention's output in place."""
        return any(a.given is not None and a.given._version != a.version for a in self.attentions)

    @property
    def overwritten(self) -> Attention | None:
        """The first attention of which the model wrote, after the call, to what it reads: A would be rebuilt of other numbers."""
        changed = {t.untyped_storage()._cdata for t, version in self._unseen if t._version != version}
        for attention in self.attentions:
            for tensor, version in attention.read:
                if tensor._version != version or (changed and tensor.untyped_storage()._cdata in changed):
                    return attention
        return None

    def check_kept(self) -> None:
        """MixingError where the model wrote to what an attention read, though that was a copy."""
        if (attention := self.overwritten) is not None:
            raise MixingError(
                f"the model writes in place to what attention {attention.index}, called at {attention.place}, read, after the "
                "call: its A would be made of other numbers than the model's, so there is no map; write to a copy in the model"
            )

    def _apart(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """What attention is given; where the model writes to it later, copies."""
        if not self.copies:
            return args, kwargs
        copies = {id(t): self._copy(t) for t in _tensors(args, kwargs)}
        return _replaced(args, copies), _replaced(kwargs, copies)

    def _copy(self, tensor: Tensor) -> Tensor:
        """A tensor of the same numbers, of which the same is known."""
        once = tensor
        for axis, stride in enumerate(tensor.stride()):
            once = once if stride or not tensor.shape[axis] else once.narrow(axis, 0, 1)
        copy = once.clone().expand(tensor.shape)
        self.set_tag(copy, self.tag(tensor))
        return copy

    def _uncounted(self, func: Any, args: tuple[Any, ...]) -> Tensor:
        """A tensor's memory with versions of its own (``Tensor.data``), which are looked at when the run ends."""
        alias: Tensor = func(*args)
        storage = alias.untyped_storage()._cdata
        if any(t.untyped_storage()._cdata == storage for a in self.attentions for t, _ in a.read):
            self._unseen.append((alias, alias._version))
        return self._propagate(func, args, {}, alias)


def _forget(tags: dict[int, Any], key: int, _: object) -> None:
    tags.pop(key, None)


# -- helpers ------------------------------------------------------------------------------------------------------


def _sources(tags: Iterable[Tag]) -> frozenset[int]:
    return frozenset[int]().union(*(tag.sources for tag in tags))


def _storage(tensor: Tensor) -> int | None:
    """Which memory a tensor lies in; None: it has none of its own (sparse)."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def _replaced(value: Any, by: Mapping[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return by.get(id(value), value)
    if type(value) in (list, tuple):
        return type(value)(_replaced(v, by) for v in value)
    return {k: _replaced(v, by) for k, v in value.items()} if type(value) is dict else value


def _pools(weights: Tensor, tags: list[Tag]) -> bool:
    """Whether these weights are for one mean, or for a few means of the tokens that say them."""
    of_own = tags[0].sources == tags[1].sources and weights.shape[-2:-1] != weights.shape[-1:]
    return weights.dim() == 2 or weights.shape[-2] == 1 or of_own


def _keys(columns: int, queries: int, learned: tuple[int, int]) -> tuple[int, int]:
    """Where the keys begin and how many there are, without learned ones that stand beside the tokens that ask themselves."""
    fits = columns != queries and columns - sum(learned) == queries
    return (learned[0], queries) if fits else (0, columns)


_NO_TENSORS = {int, float, bool, str, type(None), slice, torch.dtype, torch.device}
"""Of most arguments: to ask these classes whether they are tensors takes longer than to look here."""


def _tensors(args: Iterable[Any], kwargs: dict[str, Any] | None = None) -> list[Tensor]:
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if type(value) in _NO_TENSORS:
            continue
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found
