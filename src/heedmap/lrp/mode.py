"""The mode: while the model runs, each operation gets a backward that returns relevance.

Only what carries relevance is touched: tensors that require grad, that is, what was computed from the input's leaves.
Weights, masks and positions are constants. Operations that only move entries keep autograd's own backward, which is right
for relevance too; one that has neither a rule nor such a backward is an error.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from heedmap.attention.backward import ancestors
from heedmap.attention.operations import ADDITIONS, ASKS, SDPA, SOFTMAX, found
from heedmap.attention.places import here
from heedmap.errors import MissingRuleError
from heedmap.lrp.functions import MOVES, RULES, NoRule, node_name
from heedmap.lrp.rules import EVERYWHERE, PIXEL_CHANNELS, Libra, Rules

CONVOLUTIONS = found((torch, F), "conv1d conv2d conv3d")

IN_PLACE = {
    getattr(Tensor, f"{plain.__name__}_"): plain
    for plain in found(
        (Tensor,),
        "add sub mul div relu tanh sigmoid clamp clamp_min clamp_max exp neg pow square abs sqrt rsqrt nan_to_num",
    )
} | {
    Tensor.__iadd__: Tensor.add,
    Tensor.__isub__: Tensor.sub,
    Tensor.__imul__: Tensor.mul,
    Tensor.__itruediv__: Tensor.div,
    F.relu_: F.relu,
    torch.relu_: torch.relu,
}
"""Operations that write to their first argument → the same without."""

Args = tuple[Any, ...]
Keywords = dict[str, Any]

_ALSO = {Tensor.untyped_storage, Tensor.is_inference, Tensor._version.__get__}  # type: ignore[attr-defined]
ASKED = (ASKS | _ALSO) - {Tensor.requires_grad.__get__}  # type: ignore[attr-defined]
"""Functions that say what a tensor is like, whether or not it is a parameter: most of those that a recorder calls."""


class RelevanceMode(TorchFunctionMode):
    """Gives every operation that runs under it its relevance rule.

    Args:
        rules: which rule each operation has.
        constant: whether parameters that require grad, such as a head that the target brings along, take no relevance either.
    """

    def __init__(self, rules: Rules | Libra, constant: bool = False) -> None:
        super().__init__()
        self.rules, self.constant = rules, constant
        self._left: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._read: dict[int, tuple[weakref.ref[Tensor], int, int]] = {}

    def attention_of(self, out: Tensor) -> Tensor | None:
        """The left operand of the product that made ``out``: A of an attention's output A v."""
        entry = self._left.get(id(out))
        return None if entry is None or entry[0]() is not out else entry[1]

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: Keywords | None = None) -> Any:
        """Run ``func`` by its rule."""
        kwargs = kwargs or {}
        if func in ASKED:
            return func(*args, **kwargs)
        if self.constant:
            args, kwargs = _constant(args), {name: _constant(value) for name, value in kwargs.items()}
        if func is SDPA:
            return self._attention(*args, **kwargs)
        if func in SOFTMAX:
            return self._softmax(func, args, kwargs)
        if not any(t.requires_grad for t in tensors(args, kwargs)):
            return func(*args, **kwargs)
        if func in IN_PLACE:
            return self._in_place(IN_PLACE[func], args, kwargs)
        try:
            handler = HANDLERS.get(func, RelevanceMode._moved)
            if handler is not RelevanceMode._moved:
                self._count(args, kwargs)
                args, kwargs = _in_order(args, kwargs)
            return handler(self, func, args, kwargs)
        except MissingRuleError as error:  # harmless where the target does not depend on it
            return _without_rule(func, args, kwargs, str(error))

    def _count(self, args: Args, kwargs: Keywords) -> None:
        """Tell the rules of each tensor that is read for the second time; what was written to is another one."""
        for x in tensors(args, kwargs):
            if x.requires_grad and not x.is_leaf:
                known = self._read.get(id(x))
                again = known is not None and known[0]() is x and known[1] == x._version
                times = known[2] + 1 if known is not None and again else 1
                self._read[id(x)] = (weakref.ref(x), x._version, times)
                if times == 2:
                    self.rules.read_again(x)

    # -- what has a rule --------------------------------------------------------------------------------------------

    def _attention(
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
        """Fused attention, opened into its products and its softmax."""
        if enable_gqa:
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        scores = self._matmul(torch.matmul, (query, key.transpose(-1, -2)), {})
        hidden = None
        if is_causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            hidden = ~attn_mask if hidden is None else hidden | ~attn_mask
        added = attn_mask if attn_mask is not None and attn_mask.dtype != torch.bool else None

        def masked(raw: Tensor) -> Tensor:
            scaled = raw * factor if added is None else raw * factor + added.detach()
            return scaled if hidden is None else scaled.masked_fill(hidden, -torch.inf)

        scores = self.rules.passed(scores, masked) if scores.requires_grad else masked(scores)
        probs = self._softmax(lambda x, dim: torch.softmax(x, dim).nan_to_num(0.0), (scores, -1), {})
        return self._matmul(torch.matmul, (probs, value), {})

    def _softmax(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        x, axis = args[0] if args else kwargs["input"], kwargs["dim"] if "dim" in kwargs else args[1]
        if x.requires_grad:
            return self.rules.softmax(x, lambda t: func(t, *args[1:], **_without(kwargs, "input")), axis)
        probs = func(*args, **kwargs)
        # attention among learned tokens: it has relevance, though what it was computed from has none
        return probs.detach().requires_grad_() if probs.dim() > 2 else probs

    def _matmul(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        """A product of two tensors; einsum's equation comes first."""
        head, operands = ((), args) if isinstance(args[0], Tensor) else (args[:1], args[1:])
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        operands += tuple(kwargs[name] for name in ("other", "mat2") if name in kwargs)
        rest = _without(kwargs, "other", "mat2")
        if len(operands) != 2 or not all(isinstance(t, Tensor) for t in operands):
            raise MissingRuleError(_missing(func, f"of {len(operands)} operands"))
        a, b = operands

        def product(left: Tensor, right: Tensor) -> Tensor:
            return func(*head, left, right, **rest)

        if not (a.requires_grad or b.requires_grad):
            return product(a, b)
        if (a.requires_grad and b.requires_grad) or (a.requires_grad and a.is_leaf):
            out = self.rules.product(product, a, b)
        elif a.requires_grad:
            out = self.rules.linear(a, b, lambda t: product(t, b), product)
        else:
            out = self.rules.linear(b, a, lambda t: product(a, t), lambda t, w: product(w, t))
        self._left[id(out)] = (weakref.ref(out), a)
        return out

    def _linear(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        names = ("input", "weight", "bias")
        given = _named(names, args, kwargs)
        x, weight, bias = given["input"], given["weight"], given.get("bias")
        rest, keywords = args[3:], _without(kwargs, *names)
        if weight.requires_grad:
            raise MissingRuleError(_missing(func, "whose weights are computed from the input"))
        pixels = func in CONVOLUTIONS and x.shape[1] <= PIXEL_CHANNELS
        return self.rules.linear(
            x,
            weight,
            lambda t: func(t, weight, bias, *rest, **keywords),
            lambda t, w: func(t, w, None, *rest, **keywords),
            pixels,
        )

    def _addmm(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        names = ("input", "mat1", "mat2") if func.__name__ == "addmm" else ("input", "batch1", "batch2")
        given = _named(names, args, kwargs)
        added, a, b = (given.pop(name) for name in names)
        factors = {name: given.get(name, 1) for name in ("beta", "alpha")}
        if a.requires_grad and not b.requires_grad and not added.requires_grad:
            zero = torch.zeros_like(added)
            return self.rules.linear(a, b, lambda t: func(added, t, b, **given), lambda t, w: func(zero, t, w, **given))
        parts = ((added, factors["beta"]), (self._matmul(torch.matmul, (a, b), {}), factors["alpha"]))
        return self._sum(
            torch.add, tuple(t if f == 1 else self.rules.passed(t, lambda x, f=f: x * f) for t, f in parts), {}
        )

    def _sum(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        if func in ADDITIONS and isinstance(args[-1], (int, float)) and args[-1] == 0:  # where Python's sum begins
            return args[0].clone()
        return self._pair(self.rules.sum, func, args, kwargs)

    def _factor(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        return self._pair(self.rules.factor, func, args, kwargs)

    def _quotient(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        divisor = args[1] if len(args) > 1 else kwargs["other"]
        if isinstance(divisor, Tensor) and divisor.requires_grad:
            raise MissingRuleError(_missing(func, "by what is computed from the input (a norm is none)"))
        return self._pass(func, args, kwargs)

    def _pair(self, rule: Callable[..., Tensor], func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        other = args[1] if len(args) > 1 else kwargs["other"]
        rest, keywords = args[2:], _without(kwargs, "other")
        if not isinstance(other, Tensor):
            return self.rules.passed(args[0], lambda t: func(t, other, *rest, **keywords))
        return rule(lambda a, b: func(a, b, *rest, **keywords), args[0], other)

    def _pass(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        x, *rest = args
        if any(t.requires_grad for t in tensors(rest, kwargs)):
            raise MissingRuleError(_missing(func, "with a second argument that is computed from the input"))
        if _writes(func, args, kwargs):
            keywords = {**_without(_bound(func, args, kwargs), "input"), "inplace": False}
            return x.copy_(self.rules.activated(func, x.clone(), lambda t: func(t, **keywords)))
        return self.rules.activated(func, x, lambda t: func(t, *rest, **kwargs))

    def _layer_norm(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        given = _named(("input", "normalized_shape", "weight", "bias", "eps"), args, kwargs)
        x, axes = given["input"], tuple(range(-len(given["normalized_shape"]), 0))
        std = (x.detach().var(axes, unbiased=False, keepdim=True) + given.get("eps", 1e-5)).sqrt()
        weight, bias = given.get("weight"), given.get("bias")

        def frozen(t: Tensor) -> Tensor:
            return _affine((t - t.mean(axes, keepdim=True)) / std, weight, bias).contiguous()  # as torch's own is

        return self.rules.norm(x, lambda t: func(t, **_without(given, "input")), frozen)

    def _group_norm(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        given = _named(("input", "num_groups", "weight", "bias", "eps"), args, kwargs)
        x, groups = given["input"], given["num_groups"]
        std = (x.detach().unflatten(1, (groups, -1)).flatten(2).var(2, unbiased=False) + given.get("eps", 1e-5)).sqrt()
        each = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        weight, bias = (None if given.get(n) is None else given[n].reshape(each) for n in ("weight", "bias"))

        def frozen(t: Tensor) -> Tensor:
            parts = t.unflatten(1, (groups, -1)).flatten(2)
            normed = (parts - parts.mean(2, keepdim=True)) / std[..., None]
            return _affine(normed.reshape(t.shape), weight, bias)

        return self.rules.norm(x, lambda t: func(t, **_without(given, "input")), frozen)

    def _batch_norm(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        """In eval mode its statistics are constants already."""
        x, *rest = args

        def operation(t: Tensor) -> Tensor:
            return func(t, *rest, **kwargs)

        return self.rules.norm(x, operation, operation)

    def _reduce(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        x, *rest = args
        return self.rules.reduced(x, lambda t: func(t, *rest, **kwargs))

    def _power(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        exponent = args[1] if len(args) > 1 else kwargs["exponent"]
        if not isinstance(exponent, Tensor) and exponent < 1:  # a root, one part of a norm
            return self._size(func, args, kwargs)
        return self._pass(func, args, kwargs)

    def _size(self, func: Callable[..., Any], args: Args, kwargs: Keywords) -> Any:
        """A norm's size, by which tokens are divided: a constant."""
        with torch.no_grad():
            return func(*args, **kwargs)

    def _cosine(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        given = _named(("x1", "x2", "dim"), args, kwargs)
        axis = given.get("dim", 1)
        a, b = (
            self.rules.activated(F.normalize, t, lambda x: F.normalize(x, dim=axis))
            if t.requires_grad
            else F.normalize(t, dim=axis)
            for t in (given["x1"], given["x2"])
        )
        return self.rules.reduced(self.rules.factor(torch.mul, a, b), lambda t: t.sum(axis))

    def _gated(self, func: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else -1)
        a, b = args[0].chunk(2, axis)
        return self.rules.factor(torch.mul, a, self.rules.activated(torch.sigmoid, b, torch.sigmoid))

    def _in_place(self, plain: Callable[..., Tensor], args: Args, kwargs: Keywords) -> Tensor:
        """The same without writing, then a copy to where it was written: later reads see it, and its relevance."""
        self._count(args[:1], {})
        result = self.__torch_function__(plain, (), (args[0].clone(), *args[1:]), kwargs)
        return args[0].copy_(result)

    def _moved(self, func: Callable[..., Any], args: Args, kwargs: Keywords) -> Any:
        """An operation that has no rule, and needs none where it only moves entries."""
        result = func(*args, **kwargs)
        made = [t for t in tensors((result,)) if t.requires_grad and t.grad_fn is not None]
        if made and foreign(made, {t.grad_fn for t in tensors(args, kwargs) if t.grad_fn is not None}):
            raise MissingRuleError(_missing(func, ""))
        return result


def foreign(made: Iterable[Tensor], given: set[Any]) -> str:
    """The name of an autograd node between ``made`` and ``given`` that is neither a rule nor a move; empty: none.

    Raises:
        MissingRuleError: an operation without a rule is among them.
    """
    for node in ancestors(*made, through=lambda node: node not in given):
        if node in given:
            continue
        if isinstance(node, NoRule._backward_cls):
            raise MissingRuleError(str(getattr(node, "reason", "")))
        if not isinstance(node, NODES) and node_name(node) not in MOVES:
            return str(node.name()).rpartition("::")[2]
    return ""


def tensors(args: Iterable[Any], kwargs: Keywords | None = None) -> Iterator[Tensor]:
    """The tensors among arguments, those in lists too."""
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)
    if kwargs:
        yield from tensors(kwargs.values())


def _without_rule(func: Callable[..., Any], args: Args, kwargs: Keywords, reason: str) -> Any:
    """The result of an operation without a rule: whatever is handed down to it is an error."""
    with torch.no_grad():
        result = func(*args, **kwargs)
    given = [t for t in tensors(args, kwargs) if t.requires_grad]

    def refused(value: Any) -> Any:
        floats = isinstance(value, Tensor) and value.is_floating_point()
        return NoRule.apply(value, reason, *given) if floats else value

    if isinstance(result, (list, tuple)):
        return (list if type(result) is list else tuple)(map(refused, result))
    return refused(result)


def _affine(normed: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = normed if weight is None else normed * weight
    return scaled if bias is None else scaled + bias


def _constant(value: Any) -> Any:
    """``value``, its parameters without their gradient."""
    if type(value) in (list, tuple):
        return type(value)(_constant(v) for v in value)
    if not isinstance(value, Tensor) or not value.requires_grad:  # sooner told than whether it is a parameter
        return value
    return value.detach() if isinstance(value, Parameter) else value


def _without(kwargs: Keywords, *names: str) -> Keywords:
    return {name: value for name, value in kwargs.items() if name not in names}


def _in_order(args: Args, kwargs: Keywords) -> tuple[Args, Keywords]:
    """The arguments, what an operation reads first by its place also where it was given by name."""
    if args or "input" not in kwargs:
        return args, kwargs
    return (kwargs["input"],), _without(kwargs, "input")


def _named(names: tuple[str, ...], args: Args, kwargs: Keywords) -> Keywords:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _bound(func: Callable[..., Any], args: Args, kwargs: Keywords) -> Keywords:
    return dict(inspect.signature(func).bind(*args, **kwargs).arguments)


def _writes(func: Callable[..., Any], args: Args, kwargs: Keywords) -> bool:
    """Whether a function of torch.nn.functional was asked to write to its input.

    A method of a tensor has no such option, and no signature that Python could read (``__pow__`` stands for a built-in).
    """
    if getattr(func, "__module__", None) != F.__name__ or "inplace" not in inspect.signature(func).parameters:
        return False
    return bool(_bound(func, args, kwargs).get("inplace", False))


def _missing(func: Any, what: str) -> str:
    name, place = getattr(func, "__name__", str(func)), here()
    called = "" if place is None else f" (called at {place})"
    return (
        f"relevance propagation has no rule for {name} {what}".rstrip() + f"{called}; choose a method that needs none "
        "('generic', 'attention_gradcam', …), or an output before that operation as the target"
    )


NODES = tuple(rule._backward_cls for rule in RULES)

HANDLERS: dict[Any, Callable[[RelevanceMode, Any, Args, Keywords], Any]] = {
    function: handler
    for handler, functions in (
        (  # of one tensor that carries relevance: it passes to the tensor as it is
            RelevanceMode._pass,
            found(
                EVERYWHERE,
                "relu relu6 elu selu celu leaky_relu prelu rrelu gelu silu mish softplus softsign tanh sigmoid hardtanh "
                "hardswish hardsigmoid hardshrink logsigmoid log_sigmoid expit threshold erf exp log log_softmax square abs neg "
                "negative __neg__ clamp clamp_min clamp_max clip rms_norm instance_norm normalize local_response_norm nan_to_num",
            ),
        ),
        (  # (x, weight, bias=None, …)
            RelevanceMode._linear,
            CONVOLUTIONS | found((torch, F), "linear conv_transpose1d conv_transpose2d conv_transpose3d"),
        ),
        (RelevanceMode._addmm, found((torch, Tensor), "addmm baddbmm")),  # (bias, a, b): a product and a sum
        (
            RelevanceMode._matmul,
            found(
                (torch, Tensor),
                "matmul bmm mm mv dot __matmul__ __rmatmul__ einsum tensordot outer _grouped_mm grouped_mm",
            ),
        ),
        (RelevanceMode._sum, ADDITIONS | found((torch, Tensor), "sub subtract __sub__ __rsub__ rsub")),
        (RelevanceMode._factor, found((torch, Tensor), "mul multiply __mul__ __rmul__")),
        (RelevanceMode._quotient, found((torch, Tensor), "div divide true_divide __truediv__")),
        (  # linear in their first argument
            RelevanceMode._reduce,
            found(
                (torch, F, Tensor),
                "sum mean nanmean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d interpolate "
                "grid_sample adaptive_avg_pool3d fold",
            ),
        ),
        (RelevanceMode._layer_norm, found((torch, F), "layer_norm")),
        (RelevanceMode._group_norm, found((torch, F), "group_norm")),
        (RelevanceMode._batch_norm, found((torch, F), "batch_norm")),
        (RelevanceMode._power, found((torch, Tensor), "pow __pow__")),
        (  # sizes by which tokens are normalised: as in the identity rule for norms, no relevance falls on them
            RelevanceMode._size,
            found(EVERYWHERE, "rsqrt sqrt reciprocal var std norm vector_norm logsumexp var_mean std_mean")
            | found((torch.linalg,), "norm vector_norm"),
        ),
        (RelevanceMode._cosine, found((torch, F), "cosine_similarity")),
        (RelevanceMode._gated, found((F,), "glu")),
    )
    for function in functions
}
"""Operation → what gives it its rule."""
