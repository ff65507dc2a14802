"""What must hold of any map: the same under eager attention, of each sample alone, and without padding.

Each check is a distance, or in words why it cannot be made: where the model's own answers differ, nothing is said of the map.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import heedmap

from . import tables as T
from .build import Built
from .inputs import Inputs, plain, primary, target
from .truth import eager, fused

LOOSE = 1e-4
"""Agreement in float32; what misses it is computed once more in float64."""
CUT = 2
"""How many words the padded sample is shorter."""


class Other(Exception):
    """A check that cannot be made; the reason."""


def distances(subject: Built, found: heedmap.Explanation, names: Iterable[str]) -> dict[str, float | str]:
    """Of each of these checks its distance, or why it is not made; ``found``: the subject's map."""
    said: dict[str, float | str] = {}
    for name in names:
        try:
            distance = CHECKS[name](subject, found)
            if distance > LOOSE:
                with Doubled():
                    distance = CHECKS[name](*in_double(subject))
            said[name] = distance
        except Other as reason:
            said[name] = str(reason)
        except Exception as error:
            said[name] = f"{type(error).__name__}: {str(error)[:200]}"
    return said


class Doubled(TorchFunctionMode):
    """Double precision also where a model asks for single (SAM 2's pyramid)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = [torch.float64 if a is torch.float32 else a for a in args]
        return func(*args, **{k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()})


def in_double(subject: Built) -> tuple[Built, heedmap.Explanation]:
    """The subject in double precision, and its map."""
    exact = doubled(subject)
    return exact, explained(exact, exact.inputs, exact.target)


def explained(
    subject: Built, inputs: Inputs, wanted: Callable[[Any], Tensor], model: Any = None
) -> heedmap.Explanation:
    """The map, from a fixed seed."""
    torch.manual_seed(3)
    return heedmap.explain(subject.model if model is None else model, inputs, target=wanted)


def under_eager(subject: Built, found: heedmap.Explanation) -> float:
    """Distance of the map from that under eager attention."""
    if not fused(subject.model):
        raise Other("eager is the default")
    other = eager(subject.model)
    mine, theirs = (primary(plain(model, subject.inputs, subject.target)) for model in (subject.model, other))
    if apart(mine, theirs) > 1e-3:
        raise Other("another function")
    return between(found, explained(subject, subject.inputs, subject.target, other))


def one_by_one(subject: Built, found: heedmap.Explanation) -> float:
    """Distance of a batch's maps from those of its samples alone."""
    if any(len(v) != T.BATCH for v in subject.inputs.values()):
        raise Other("inputs that are not one a sample")
    alone = functools.partial(target, batch=1) if subject.target is target else subject.target
    scores = subject.target(plain(subject.model, subject.inputs, subject.target))
    apart_by = []
    for sample in range(T.BATCH):
        part = {k: v[sample : sample + 1] for k, v in subject.inputs.items()}
        agree(scores[sample], alone(plain(subject.model, part, alone)))
        apart_by.append(between(explained(subject, part, alone), found, slice(sample, sample + 1)))
    return max(apart_by)


def without_padding(subject: Built, _: heedmap.Explanation) -> float:
    """Distance of the map of words that are padded from that of the words alone, of the batch's last sample."""
    padded, short = padding(subject.inputs)
    length = padded["input_ids"].shape[1]
    alone = functools.partial(target, batch=1)

    def read(output: Any) -> Tensor:
        value = primary(output)
        if value.dim() > 2 and value.shape[1] == length:
            return target({"logits": torch.stack([value[0], value[-1].roll(CUT, 0)])})
        return target(output)

    mine = plain(subject.model, padded, read)
    agree(read(mine)[-1], alone(plain(subject.model, short, alone)))
    return unpadded(explained(subject, padded, read), explained(subject, short, alone))


CHECKS: dict[str, Callable[[Built, heedmap.Explanation], float]] = {
    "eager": under_eager,
    "batch": one_by_one,
    "padding": without_padding,
}


def padding(inputs: Inputs) -> tuple[Inputs, Inputs]:
    """The inputs with padding at the end of the last sample, and that sample without."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if ids is None or mask is None or ids.dim() != 2 or any(len(v) != T.BATCH for v in inputs.values()):
        raise Other("no mask of words")
    padded = {k: v.clone() for k, v in inputs.items()}
    padded["input_ids"][-1, -CUT - 1] = ids[-1, -1]  # the end that some models look for
    padded["input_ids"][-1, -CUT:] = T.MISSING["pad_token_id"]
    padded["attention_mask"][-1, -CUT:] = 0
    words = {k for k, v in padded.items() if v.shape[:2] == ids.shape}
    return padded, {k: v[-1:, :-CUT] if k in words else v[-1:] for k, v in padded.items()}


def unpadded(padded: heedmap.Explanation, short: heedmap.Explanation) -> float:
    """Distance of the last sample's maps, which are 0 where there is padding."""
    found = []
    for name, segment in short.segments.items():
        row, wanted = padded[name][-1:], segment.relevance
        if row.shape[-1] == wanted.shape[-1] + CUT:
            wanted = torch.nn.functional.pad(wanted, (0, CUT))
        found.append(apart(row, wanted))
    return max(found)


def agree(mine: Tensor, other: Tensor) -> None:
    """Other, where the model's own answers differ."""
    if float((mine - other).abs().max()) > 1e-3 * max(1.0, float(mine.abs().max())):
        raise Other("the model's own answer is another")


def between(one: heedmap.Explanation, other: heedmap.Explanation, samples: slice = slice(None)) -> float:
    """The largest difference of two explanations' segments; infinite where they have other segments."""
    if one.segments.keys() != other.segments.keys():
        return float("inf")
    return max(apart(one[name], other[name][samples]) for name in one.segments)


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference over the larger maximum."""
    a, b = a.detach().double(), b.detach().double()
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / max(float(a.abs().max()), float(b.abs().max()), 1e-9))


def doubled(subject: Built) -> Built:
    """The model and its inputs in double precision."""
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in subject.inputs.items()}
    return Built(copy.deepcopy(subject.model).double(), inputs, subject.target)


# -- what the model does -----------------------------------------------------------------------------------------------


def attends(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    """Whether a softmax over tokens weighs others: fused, or a softmax that is multiplied with a matrix."""
    with torch.no_grad(), Softmaxes() as seen:
        model(**inputs)
    return seen.met


class Softmaxes(TorchFunctionMode):
    """Follows what a softmax gave, as long as its numbers stay as many or are cut, up to a product of matrices."""

    FUSED = ("scaled_dot_product_attention", "multi_head_attention_forward", "_transformer_encoder_layer_fwd")
    PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__")
    POINTWISE = ("mul", "__mul__", "linear", "conv2d", "topk", "sum", "mean", "argmax")

    def __init__(self) -> None:
        super().__init__()
        self.met, self.kept = False, dict[int, Tensor]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        flat = [a for arg in args for a in (arg if isinstance(arg, (tuple, list)) else [arg]) if isinstance(a, Tensor)]
        follows = any(self.kept.get(id(a)) is a for a in flat)
        self.met |= name in self.FUSED or (follows and name in self.PRODUCTS)
        if isinstance(result, Tensor) and (
            (name == "softmax" and result.dim() > 2) or (follows and name not in self.POINTWISE + self.PRODUCTS)
        ):
            self.kept[id(result)] = result
        return result
