"""The recorder's part for what mixes tokens and is no attention: see :mod:`heedmap.attention.mixers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import mixers, moves
from heedmap.attention.companions import CONVOLUTIONS, CompanionTape, is_pointwise, reduced_axes
from heedmap.attention.mixers import AsItIs, Mixer, Terms
from heedmap.attention.numbers import NOTHING, Ids, all_of

POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d"}
LINEAR = {
    "interpolate", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "conv_transpose1d", "conv_transpose2d", "fft_fft",
    "fft_fft2", "grid_sample", "fft_fftn", "fft_rfft", "fft_rfft2", "upsample", "fold",
}  # fmt: skip
"""Functions that mix tokens and are linear, whose structure is found token by token."""


PLACEWISE = {"interpolate": (3, 4, 5), "upsample": (3, 4, 5), "adaptive_avg_pool1d": (3,), "adaptive_avg_pool2d": (4,)}
"""Of those, the ones that do the same in all channels, and the axes of a batch of maps."""


class MixingTape(CompanionTape):
    """A recorder that knows mixers."""

    def _mixer(
        self,
        out: Tensor,
        x: Tensor,
        asked: Ids,
        ids: Ids,
        terms: Callable[[Tensor], Iterator[Terms]],
        into: Ids | None = None,
        asks: frozenset[int] = frozenset(),
        copies: bool = False,
    ) -> Tensor:
        mixer = Mixer(
            index=len(self.attentions), form="mixer", out=out, layout=AsItIs(), value=x.detach(), keys=0,  # type: ignore[arg-type]
            query_sources=asks, value_sources=self.tag(x).sources, ids=ids, asked=asked.expand(x.shape), terms=terms,
            into=into, sizes=(self.batch, 0, 0), copies=copies,
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
        if not isinstance(known, Tensor) or (name == "fold" and moves.folds_apart(args, kwargs)):
            return None
        ids = self.numbers.first(known).expand(x.shape)
        if name in moves.MERGES:
            axes = reduced_axes(name, args, kwargs, x)
            return None if self._is_constant(ids, axes) else self._merged(func, args, kwargs, result, x, ids, axes)
        if name in CONVOLUTIONS and is_pointwise(args, kwargs, result):
            return None
        if name not in LINEAR and not self._is_constant(ids, [1]) and not self._stands_beside(name, args, kwargs, ids):
            return None
        if name == "grid_sample":
            return self._sampled(args, kwargs, result, x, ids)
        return self._convolved(func, name, args, kwargs, result, x, ids)

    def _largest(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, x: Tensor) -> Any:
        """The largest of several tokens, feature by feature."""
        known, axes = self.known(x), reduced_axes("max", args, kwargs, x)
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

    def _stands_beside(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], ids: Ids) -> bool:
        """Whether all channels of a convolution go together, some of them of other tokens than others."""
        if name not in CONVOLUTIONS:
            return False
        weight = args[1] if len(args) > 1 else kwargs["weight"]
        parts = [all_of(ids[:, own]).unique() for own in mixers.alike(ids)]
        return bool(weight.shape[1] == ids.shape[1]) and len(torch.cat(parts).unique()) == sum(map(len, parts))

    def _convolved(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, x: Tensor, ids: Ids
    ) -> Tensor | None:
        if name in LINEAR and name.startswith("fft"):
            same = self.numbers.first(ids)
            lead = self.numbers.of_sample(same)
            fresh = self._fresh(same, lead)
            return self._mixer(
                result, x, ids, fresh, mixers.linear_terms(partial(again, func, args, kwargs, x), x, fresh, ids)
            )
        which, lead = self._of_tokens(ids)
        places_of = range(2, result.dim())  # an axis of features may stand among those of places
        sizes = [
            1 if x.shape[a] == result.shape[a] and self._is_constant(ids, [a]) else result.shape[a] for a in places_of
        ]
        shape = (len(lead), 1, *sizes)
        fresh = self.numbers.new(lead.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), "mixer")
        fresh = fresh[which].expand(result.shape)
        if name in CONVOLUTIONS:
            bound = (
                dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, strict=False))
                | kwargs
            )
            windows = mixers.conv_windows(
                x, bound["weight"], bound.get("stride", 1), bound.get("padding", 0), bound.get("dilation", 1)
            )
            fresh = self._of_some(fresh, windows, ids)
            terms = mixers.conv_terms(
                x, bound["weight"], bound.get("groups", 1), windows, fresh, ids, len(which) // len(lead)
            )
            if not self._is_constant(ids, [1]):
                terms = mixers.beside_terms(x, bound["weight"], windows, fresh, ids)
        elif name in POOLS:
            windows, count = mixers.pooling(name, args, kwargs, x, result)
            fresh = self._of_some(fresh, windows, ids)
            terms = mixers.pool_terms(x, result, count, windows, fresh, ids)
        else:
            alike = x.dim() in PLACEWISE.get(name, ()) and self._is_constant(ids, [1])
            of = mixers.placewise_terms if alike else mixers.linear_terms
            terms = of(partial(again, func, args, kwargs, x), x, fresh, ids)
        return self._mixer(result, x, ids, fresh, terms)

    def _of_some(self, fresh: Ids, windows: mixers.Windows, ids: Ids) -> Ids:
        """The new tokens, where there are any in their windows; what is made of padding alone is padding."""
        read = ids[:, :1] if self._is_constant(ids, [1]) else ids.amax(1, keepdim=True)
        if bool((read >= 0).all()):
            return fresh
        return fresh.masked_fill((windows.of(read, NOTHING) < 0).all(-1), NOTHING)

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
        terms = mixers.merge_terms(partial(again, func, args, kwargs, x), x, fresh.expand(x.shape), ids)
        return self._mixer(result, x, ids, out.expand(result.shape), terms, into=fresh.expand(x.shape))


# -- helpers ------------------------------------------------------------------------------------------------------


def again(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], old: Tensor, new: Tensor) -> Tensor:
    """The same call with another tensor."""

    def swapped(value: Any) -> Any:
        if value is old:
            return new
        if isinstance(value, Tensor):
            return value.detach()
        return type(value)(swapped(v) for v in value) if type(value) in (list, tuple) else value

    found: Tensor = func(*swapped(args), **{k: swapped(v) for k, v in kwargs.items()})
    return found
