"""What is known of each tensor: which token each of its elements is of, and how that goes through torch's functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention import moves, places
from heedmap.attention import operations as ops
from heedmap.attention.attention import Attention, Place
from heedmap.attention.backward import reached
from heedmap.attention.beginnings import Begun, Copies, LearnedRows
from heedmap.attention.moves import TorchCall
from heedmap.attention.numbers import (
    LARGE,
    NOTHING,
    Ids,
    Numbers,
    OfTensors,
    all_of,
    compact,
    distinct,
    once,
    stored,
)
from heedmap.attention.tags import EMPTY, Source, Tag
from heedmap.attention.tape import Tape, _tensors


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

    def __str__(self) -> str:
        return f"{self.function}, called at {self.place}" if self.place else self.function


class Summed(NamedTuple):
    """A product over all tokens, kᵀ v: its two factors with their axes' letters, and those of the product.

    ``changed``: whether it was scaled or shifted since, so that the factors no longer say what it is.
    """

    factors: tuple[tuple[Tensor, Ids, str], tuple[Tensor, Ids, str]]
    axes: str
    changed: bool = False


class GivenWeights(NamedTuple):
    """Weights or statistics that all tokens of a sample say together, by this function: for what they multiply they are given."""

    function: str


Known = Ids | Pair | Summed | GivenWeights | Lost

CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
MOVED = {*moves.DATA, *moves.LISTS, *moves.ADDS_AT, "pad", "fold"}
"""Functions that only bring elements to other places: run on companions as they are."""


class CompanionTape(Tape):
    """A recorder that knows the companion of each tensor.

    Attributes:
        begun: where tokens begin.
        shared: leaves that were found to be properties of tokens.
    """

    def __init__(self, batch: int, *, cut: bool, begun: Begun) -> None:
        super().__init__(batch, cut=cut, leaves=True, clone=True, copies=begun.copies)
        self.begun = begun
        self._parents: dict[int, frozenset[int]] = {}
        self._words: set[int] = set()
        self.numbers = Numbers(batch)
        self.learned = LearnedRows(batch, begun.learned)
        self.learned_ids: dict[int, Ids] = {}
        self.shared: set[int] = set()
        self.copied = Copies(begun.copied)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.leaf_ids: dict[int, Ids] = {}
        self.padded: dict[int, Tensor] = {}  # outputs of attentions that ask what is no token
        self.reads: dict[int, list[tuple[Tensor, Ids]]] = {}
        self._known = OfTensors[Known]()
        self._sums = OfTensors[frozenset[int]]()  # of weights over keys, and what these are of
        self._gates = OfTensors[bool]()
        self.as_given: list[Tensor] = []  # weights where they multiply tokens, unless attention is cut

    # -- what is known of a tensor ----------------------------------------------------------------------------------

    def pulled_from(self) -> Iterator[Tensor]:
        """What a proof pulls back: all that attention and mixers read."""
        return (tensor for read in self.reads.values() for tensor, _ in read)

    def known(self, tensor: Tensor) -> Known | None:
        """Its companion or companions; None: no token. What was computed from tokens, one does not know how, is lost.

        What only comparisons and counts tell of tokens (their places, a mask) passes no gradient on, and is no token.
        """
        known = self._known.get(tensor)
        if known is not None:
            return known
        made = tensor.is_floating_point() and tensor.requires_grad and self.tag(tensor).sources
        return Lost("a function that is not known", None) if made else None

    def ids(self, tensor: Tensor) -> Ids | None:
        """Its companion; of a matrix of pairs, None."""
        known = self.known(tensor)
        return known if isinstance(known, Tensor) else None

    def set_known(self, tensor: Tensor, known: Known | None) -> None:
        """Remember it for as long as the tensor lives."""
        if known is None:
            self._known.forget(tensor)
            return
        if isinstance(known, Tensor) and stored(known) > LARGE:
            known = compact(known)
        self._known[tensor] = known

    def _whole(self, tensor: Tensor) -> Ids:
        """Its companion, which it has, in its shape."""
        ids = self.ids(tensor)
        assert ids is not None
        return ids.expand(tensor.shape)

    def _alike(self, tensor: Tensor, other: Tensor) -> Tensor:
        """The tensor, of which the same is known as of another."""
        self.set_tag(tensor, self.tag(other))
        self.set_known(tensor, self.known(other))
        return tensor

    def _copy(self, tensor: Tensor) -> Tensor:
        return self._alike(super()._copy(tensor), tensor)

    def watch(self, name: str, tensor: Tensor) -> Tensor:
        """See :meth:`Tape.watch`."""
        count, given = len(self.sources), super().watch(name, tensor)
        self.shapes[name] = tuple(tensor.shape)
        if len(self.sources) > count and tensor.dim():
            is_leaf = self.sources[-1].kind == "leaf"
            shape = self._leaf_shape(tensor, self.sources[-1].spatial) if is_leaf else tuple(tensor.shape)
            ids = self.numbers.of_samples(self._owners(tensor.shape[0]), shape, "leaf")
            self.set_known(given, ids.expand(given.shape))
            if is_leaf:
                self.leaf_ids[len(self.sources) - 1] = ids
        return given

    def _owners(self, size: int) -> Tensor:
        """The sample of each entry of an input's first axis; where pictures are packed, not known yet."""
        if self.batch == 1 or size == self.batch:
            return torch.arange(self.batch).expand(size)
        return self.numbers.unknown(size)

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
        if words or self.begun.tokens & tag.sources:
            return False
        if any(self.sources[i].kind not in ("input", "leaf") for i in tag.sources):
            return False
        begun = [s for i in tag.sources if (s := self.sources[i]).kind == "leaf"]
        if func is F.unfold and any(s.shape != self.shapes.get(s.name) for s in begun):
            return False  # it only moves tokens that a convolution began
        call = TorchCall(func, args, {}, result, ())
        return self.joins_tokens(call) or super()._is_leaf(func, args, tag, result)

    def joins_tokens(self, call: TorchCall) -> bool:
        """Whether this is a convolution of single places in whose channels tokens stand side by side."""
        if call.name not in CONVOLUTIONS or len(call.args) < 2 or not is_pointwise(call):
            return False
        x, weight = call.args[:2]
        ids = self.ids(x)
        whole = weight.shape[1] == x.shape[1]  # no groups
        return ids is not None and whole and not self._is_constant(ids.expand(x.shape), [1])

    def made_of(self, leaf: int) -> set[int]:
        """The leaves before a leaf."""
        return set(reached(self._parents.get(leaf, ()), lambda before: self._parents.get(before, ())))

    def attentions_of(self, sources: Iterable[int]) -> set[int]:
        """The attentions and mixers among sources."""
        return {s.attention for i in sources if (s := self.sources[i]).kind == "attention"}

    def sources_of(self, attentions: Collection[int]) -> frozenset[int]:
        """The sources that attentions and mixers are."""
        return frozenset(i for i, s in enumerate(self.sources) if s.kind == "attention" and s.attention in attentions)

    def is_of_series(self, sources: frozenset[int], x: Tensor) -> bool:
        """Whether all that ``x`` is made of are inputs as they were given, numbers or rows of numbers, and no attention."""

        def mixers(index: int) -> list[Attention]:
            return [a for i in self.attentions_of([index]) if (a := self.attentions[i]).mixes]

        seen = set(reached(sources, lambda i: frozenset[int]().union(*(mixer.value_sources for mixer in mixers(i)))))
        made = [s for i in seen if (s := self.sources[i]).kind not in ("input", "unfollowed") and not mixers(i)]
        rows = all(s.kind == "leaf" and s.shape == self.shapes.get(s.name) and _are_rows(s, x) for s in made)
        return bool(made) and rows and not self.begun.tokens & seen

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

    def _begin(self, call: TorchCall) -> None:
        """A new leaf: words keep the numbers of their ids; places of a convolution are new tokens of the same sample."""
        index, result = len(self.sources) - 1, call.result
        source = self.sources[index]
        known = [k for t in call.tensors if isinstance(k := self.known(t), Tensor)]
        if index in self.begun.properties or (known and not any(bool((k >= 0).any()) for k in known)):
            source.tensor = None  # ids that the model made (places, counted by it): they only tell of tokens
            self.set_tag(result, EMPTY)
            return
        of = frozenset[int]().union(*(self.tag(t).sources for t in call.tensors))
        self._parents[index] = frozenset(i for i in of if self.sources[i].kind == "leaf")
        before = next(iter(known), None)
        if before is not None and not source.spatial and tuple(before.shape) == tuple(result.shape[:-1]):
            ids = self._with_added(self._words_of(before)).unsqueeze(-1)
            self._words.add(index)
        elif before is not None and not source.spatial and before.shape[:-1] == result.shape[:-1]:
            ids = before.narrow(-1, 0, 1)
        else:
            shape = self._leaf_shape(result, source.spatial)
            lead, which = self._lead(result.shape[0]), torch.arange(result.shape[0])
            if before is not None and before.dim() and before.shape[0] == result.shape[0]:
                lead = self.numbers.of_sample(before.reshape(len(before), -1).amax(1))
                # of pixels, frames are not told apart
                if any(not self._is_given(leaf) for leaf in self._parents[index]):
                    which, lead = self._of_tokens(before)
            if lead is None:
                self.set_known(result, Lost("a leaf of which the samples are not known", places.here()))
                return
            ids = self.numbers.of_samples(lead, (len(lead), *shape[1:]), "leaf")[which]
        self.leaf_ids[index] = ids
        self.set_known(result, ids.expand(result.shape))

    def _share(self, ids: Ids) -> None:
        """Note the leaves whose tokens these are, or have become without standing there themselves: they are properties."""
        became, there = self.numbers.first(all_of(ids)), self.numbers.space[all_of(ids)].unique()
        for leaf, own in self.leaf_ids.items():
            numbers = all_of(own)
            apart = not bool(torch.isin(self.numbers.space[numbers], there).any())
            if apart and bool(torch.isin(self.numbers.first(numbers), became).any()):
                self.shared.add(leaf)

    def _words_of(self, ids: Ids) -> Ids:
        """The tokens of embedded ids; where those were read before (a decoder that is given its encoder's words), other ones."""
        return self.numbers.new(self.numbers.of_sample(ids), "leaf") if self.numbers.are_used(ids) else ids

    def _with_added(self, ids: Ids) -> Ids:
        """Of words, (batch, words), with numbers for those that the model put beside them (padding, a start)."""
        samples = self.numbers.of_sample(ids)
        if ids.dim() != 2 or bool((ids >= 0).all()):
            return ids
        own = samples.amax(-1, keepdim=True).expand(ids.shape)
        return torch.where(ids < 0, self.numbers.new(own.masked_fill(ids >= 0, NOTHING), "learned"), ids)

    # -- through functions ------------------------------------------------------------------------------------------

    def _placed(self, call: TorchCall) -> Any:
        """The companion of a result, or those of several."""
        tensors = _tensors(call.args[:1], call.kwargs) if call.func in ops.LIKE_ANOTHER else call.tensors
        of = [(t, k) for t in tensors if (k := self.known(t)) is not None]
        known = [k for _, k in of]
        lost = next((k for k in known if isinstance(k, Lost)), None)
        if lost is not None:
            return lost
        pairs = [k for k in known if isinstance(k, Pair)]
        if any(isinstance(k, (Summed, GivenWeights)) for k in known):
            return self._together(call.name, known)
        if pairs and call.name in moves.LARGEST and not any(isinstance(a, Tensor) for a in call.args[1:]):
            return self._largest_score(call, of[0][0], pairs[0])
        return self._pairs(call, pairs) if pairs else self._rows(call, self.ids)

    def _pairs(self, call: TorchCall, pairs: list[Pair]) -> Any:
        """Of a result that is made of matrices of two tokens."""
        one, other = (self._rows(call, partial(self._part, which)) for which in ("one", "other"))
        sides = tuple(dict.fromkeys(s for p in pairs for s in p.sides))
        softmax = call.name == "softmax" or any(p.softmax for p in pairs)

        def both(a: Any, b: Any) -> Known | None:
            if isinstance(a, Lost) or isinstance(b, Lost) or a is None or b is None:
                return a if isinstance(a, Lost) else b if isinstance(b, Lost) else None
            return Pair(a, b, sides, softmax)

        if call.name in moves.REDUCES and isinstance(call.result, Tensor):
            kept = [x for x in (one, other) if not isinstance(x, Lost)]
            return both(one, other) if len(kept) == 2 else kept[0] if kept else one
        if isinstance(one, (tuple, list)):
            return [both(a, b) for a, b in zip(one, other, strict=True)]
        return both(one, other)

    def _together(self, name: str, known: list[Known]) -> Known:
        """What a function makes of a product over all tokens, or of weights that they say together."""
        if all(isinstance(k, GivenWeights) for k in known):
            return known[0]
        scores = [k for k in known if isinstance(k, Pair)]
        if len(scores) == 1 and len(scores) + sum(isinstance(k, GivenWeights) for k in known) == len(known):
            return scores[0] if name in moves.MEETS or name in moves.DIVIDES else Lost(name, places.here())
        if len(known) > 1 or not isinstance(known[0], Summed):
            return Lost(name, places.here())
        if name in moves.SAME:
            return known[0]
        return GivenWeights(name) if name in moves.GATES else known[0]._replace(changed=True)

    def _largest_score(self, call: TorchCall, scores: Tensor, known: Pair) -> Any:
        """The largest scores, of the tokens of the one side, or of all together: scores are less these before a softmax."""
        values = call.result if isinstance(call.result, Tensor) else call.result[0]
        everywhere = len(call.args) + len(call.kwargs) == 1
        axes = list(range(scores.dim())) if everywhere else call.reduced_axes(scores)
        whole = [self.numbers.first(ids.expand(scores.shape)) for ids in (known.one, known.other)]
        tops = [(ids, ids.amax(axes, keepdim=True)) for ids in whole]
        kept = [top for ids, top in tops if bool(((ids == top) | (ids < 0)).all())]  # beside padding
        kept = [top if values.dim() == scores.dim() else moves.reduced(top, axes, keep=False) for top in kept]
        found = known if len(kept) == 2 else kept[0] if kept else GivenWeights(call.name)
        return found if isinstance(call.result, Tensor) else [found, None]

    def _part(self, which: str, tensor: Tensor) -> Ids | None:
        known = self.known(tensor)
        return getattr(known, which) if isinstance(known, Pair) else None

    def _rows(self, call: TorchCall, of: moves.Of) -> Any:
        """The tokens of a result, where ``of`` gives those of a tensor that is taken."""
        name, args, result = call.name, call.args, call.result
        if name in moves.SAME and isinstance(result, Tensor):
            return _first(args[:1], call.kwargs, of)
        if name.startswith("new_") or name.endswith("_like"):
            return None
        if name == "glu":
            return self._gated(call, of)
        if name == "__setitem__":
            return self._set(args, of)
        if name in ("cat", "concat", "concatenate"):
            self._learned(call)
        if name in ("gather", "take_along_dim") and args and of(args[0]) is None:  # tokens are looked up in a table
            return _first(args[1:], call.kwargs, of)
        if name == "masked_scatter":
            return _scattered(args, of)
        if name == "where" and len(args) == 3:
            call = replace(call, args=self._with_put_in(args))
        if name in MOVED:
            return moves.moved(call, of)
        if name in moves.CHOOSES and isinstance(result, tuple) and len(result) == 2:
            return self._chosen(call, of)
        if not isinstance(result, Tensor):
            return Lost(name, places.here())
        followed = [(t, i) for t in call.tensors if (i := of(t)) is not None]
        return self._computed(call, followed) if followed else None

    def _with_put_in(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of ``torch.where``, with the tokens in the place of learned rows that are put into them."""
        pair = [t for t in args[1:] if isinstance(t, Tensor)]
        tokens = [t for t in pair if not self._is_put_in(t)]
        return (args[0], tokens[0], tokens[0]) if len(pair) == 2 and len(tokens) == 1 else args

    def _is_put_in(self, rows: Tensor) -> bool:
        """Whether these are learned rows: put in the place of tokens they are these tokens'."""
        ids = self.known(rows)
        return _is_learned(rows) and (ids is None or (isinstance(ids, Tensor) and not bool((ids >= 0).any())))

    def _gated(self, call: TorchCall, of: moves.Of) -> Known:
        """Of one half of the features, gated by the other."""
        given = call.bound("input", "dim")
        axis, whole = given.get("dim", -1), moves.whole(given["input"], of)
        if of(given["input"]) is None or not self._is_constant(whole, [axis % whole.dim()]):
            return Lost("glu", places.here())
        return whole.narrow(axis, 0, call.result.shape[axis])

    def _computed(self, call: TorchCall, followed: list[tuple[Tensor, Ids]]) -> Known | None:
        """Of what is computed of tokens, and not only moved."""
        name, result, (tensor, ids) = call.name, call.result, followed[0]
        if name in moves.REDUCES:
            return self._reduced(call, tensor, ids.expand(tensor.shape))
        if name in CONVOLUTIONS and is_pointwise(call):
            each = self._is_constant(ids, [1])
            return ids.narrow(1, 0, 1).expand(result.shape) if each else Lost(name, places.here())
        if moves.broadcasts((t for t, _ in followed), result):
            return self._met(followed, result, name)
        rows = result.dim() == tensor.dim() and result.shape[:-1] == tensor.shape[:-1]
        if rows and self._is_constant(ids, [ids.dim() - 1]):
            return ids.expand(tensor.shape).narrow(-1, 0, 1).expand(result.shape)
        return Lost(name, places.here()) if result.is_floating_point() or result.is_complex() else None

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
        if isinstance(value, Tensor) and self._is_put_in(value):
            return base
        where = moves.on_cpu(args[1])
        base[where] = moves.whole(value, of) if isinstance(value, Tensor) and value.dim() else NOTHING
        return base

    def _learned(self, call: TorchCall) -> None:
        """Tokens that no input made, put beside others (a class token): they have numbers of their own from here."""
        given = call.bound("tensors", "dim")
        tensors = [t for t in given["tensors"] if t.dim()]
        like = next((t for t in tensors if self.ids(t) is not None and not self._is_learned(t)), None)
        if like is None or like.dim() < 2:
            return
        ids = self.ids(like)
        assert ids is not None
        rows = self.numbers.first(ids.expand(like.shape))
        axis = given.get("dim", 0) % ids.dim()
        features = [a for a in range(ids.dim()) if rows.shape[a] > 1 and self._is_constant(rows, [a])]
        if axis in features or not features:
            return
        rows = moves.reduced(rows, features, keep=True)
        samples = self.numbers.of_sample(rows)
        own = samples.amax(axis, keepdim=True)
        # beside heads, or among samples, there is no token
        if len(all_of(rows)) < int((rows >= 0).sum()) or bool(((samples != own) & (samples >= 0)).any()):
            return
        begun = list[Tensor]()
        for t in tensors:
            if (
                (self.known(t) is None or self._is_learned(t))
                and t.dim() == ids.dim()
                and t.is_floating_point()
                and (_says(t) or self.learned.of(t) is not None)
            ):
                shape = [1 if a in features else n for a, n in enumerate(t.shape)]
                if [n for a, n in enumerate(own.shape) if a != axis] == [n for a, n in enumerate(shape) if a != axis]:
                    self.set_known(t, self.numbers.new(own.expand(shape), "learned").expand(t.shape))
                    begun.append(t)
        self.learned.meet(begun)

    def _of_none(self, call: TorchCall) -> Any:
        """The result of a function of what no input made: where it is learned rows that are tokens, they have numbers."""
        result = call.result
        if not isinstance(result, Tensor) or not result.is_floating_point() or self.tag(result).sources:
            return result
        if self.learned.begins(call.name, call.tensors, result):
            ids = self.numbers.of_samples(torch.arange(self.batch), (*result.shape[:2], 1), "latent")
            self.learned_ids[len(self.sources)] = ids
            self.sources.append(Source("learned", call.name, tuple(result.shape)))
            self.set_tag(result, Tag(frozenset([len(self.sources) - 1])))
            self.set_known(result, ids.expand(result.shape))
        return result

    def _is_learned(self, tensor: Tensor) -> bool:
        """Whether it is of learned tokens only, before any attention: which sample's they are does not matter yet."""
        ids = self.ids(tensor)
        if ids is None or self.attentions or bool((ids < 0).any()):
            return False
        return all(self.numbers.made[int(s)] == "learned" for s in self.numbers.space[self.numbers.first(ids)].unique())

    def _chosen(self, call: TorchCall, of: moves.Of) -> Any:
        """Values that were chosen along an axis are of the tokens that they were taken from."""
        args, index = call.args, call.result[1]
        ids = of(args[0])
        if ids is None:
            return None
        default = args[2] if isinstance(call.result, torch.return_types.topk) and len(args) > 2 else -1
        if not isinstance(call.result, torch.return_types.topk) and len(args) > 1 and not isinstance(args[1], bool):
            default = args[1]
        axis, kept = int(call.kwargs.get("dim", default)), index.dim() == args[0].dim()
        found = ids.expand(args[0].shape).take_along_dim((index if kept else index.unsqueeze(axis)).cpu(), axis)
        return [found if kept else found.squeeze(axis), None]

    def _reduced(self, call: TorchCall, tensor: Tensor, ids: Ids) -> Known | None:
        """Of what a function over some axes of a tensor gives, whose companion is ``ids``."""
        axes = call.reduced_axes(tensor)
        if not self._is_constant(ids, axes):
            return GivenWeights(call.name) if call.name in moves.SPREADS else Lost(call.name, places.here())
        return moves.reduced(ids, axes, call.result.dim() == tensor.dim())

    def _is_constant(self, ids: Ids, axes: list[int]) -> bool:
        """Whether all elements along these axes are of one token."""
        return moves.is_constant_along(ids, axes) or moves.is_constant_along(self.numbers.first(ids), axes)

    def _of_tokens(self, ids: Ids) -> tuple[Tensor, Tensor]:
        """Of a batch, which entry is of which tokens, (entries,): heads may be folded into it; and the sample of each."""
        rows = self.numbers.first(once(ids)[0].flatten(1)) if ids.dim() > 1 else ids[:, None]
        which = distinct(rows)[1].expand(len(ids))
        samples = self.numbers.of_sample(rows.amax(1)).expand(len(ids))
        return which, samples.new_zeros(int(which.max()) + 1).scatter_(0, which, samples)

    def _fresh(self, code: Tensor, lead: Tensor | None = None) -> Ids:
        """A new number for each different entry of ``code``, of the sample that ``lead`` says; of tokens, of theirs."""
        lead = self.numbers.of_sample(code) if lead is None else lead
        values, index = code.unique(return_inverse=True)
        sample = torch.zeros_like(values).scatter_(0, index.reshape(-1), lead.reshape(-1))
        new = self.numbers.new(torch.where(values < 0, NOTHING, sample), "mixer")
        return new[index]


def _are_rows(source: Source, x: Tensor) -> bool:
    """Whether an input is rows of numbers; one of more than three axes (points of several prompts) where it is read as such."""
    alike = len(source.shape) == x.dim() and source.shape[1] == x.shape[1] and source.shape[-1] == x.shape[-1]
    return not source.spatial or alike


def _says(tensor: Tensor) -> bool:
    """Whether it is more than zeros that fill a place."""
    return _is_learned(tensor) or bool(tensor.detach().any())


def _is_learned(tensor: Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter) or isinstance(tensor._base, torch.nn.Parameter)


def is_pointwise(call: TorchCall) -> bool:
    """Whether a convolution works place by place."""
    given = call.bound("input", "weight")
    return all(n == 1 for n in given["weight"].shape[2:]) and given["input"].shape[2:] == call.result.shape[2:]


def _first(args: tuple[Any, ...], kwargs: dict[str, Any], of: moves.Of) -> Ids | None:
    """The companion of the first tensor that has one."""
    return next((ids for tensor in _tensors(args, kwargs) if (ids := of(tensor)) is not None), None)


def _scattered(args: tuple[Any, ...], of: moves.Of) -> Ids:
    """Of a tensor into which those of another were put, in their order, wherever a mask is."""
    base = moves.whole(args[0], of).clone()
    mask = args[1].cpu().expand(base.shape)
    base[mask] = moves.whole(args[2], of).reshape(-1)[: int(mask.sum())]
    return base
