"""Every attention of a model, head by head: what people look at before they ask what an answer rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heedmap.attention.at_rest import recording_state
from heedmap.attention.blocks import BlockAttention
from heedmap.common.memory import told_bytes
from heedmap.data.flow import AttentionInfo
from heedmap.engine.choosing import MethodCall
from heedmap.engine.engine import Engine, Wrapped
from heedmap.errors import InputError, OptionError
from heedmap.methods.method import MEMORY_BUDGET, TargetView
from heedmap.render.naming import called, headline
from heedmap.render.sample import sample
from heedmap.targets import AnyTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from heedmap.explanation import Explanation
    from heedmap.types import Inputs

WEIGHTS = ("attention", "relevance")
"""What is shown of a head: A; or, for the target, (∂y/∂A ⊙ A)⁺, whose mean over heads is Ā (eq. 5)."""


@dataclass(frozen=True, eq=False)
class AttentionHeads:
    """The heads of one attention, of one sample.

    Attributes:
        info: which attention it is.
        weights: (heads, queries, keys), float32; of one whose heads are in windows their mean alone, (1, queries, keys).
        averaged: whether it is the mean.

    Examples:
        >>> import heedmap
        >>> heads = heedmap.load("zoo/gpt-lists").heads(text="dog red ? dog")
        >>> heads[0].flow, heads[0].favourites, heads[0].mean.shape
        ('text ← text', [0, 0], torch.Size([4, 4]))
    """

    info: AttentionInfo
    weights: Float[Tensor, "heads queries keys"]
    averaged: bool = False

    @property
    def flow(self) -> str:
        """Which stream asks which, for people."""
        return f"{_stream(self.info.stream)} ← {_stream(self.info.source)}"

    @property
    def mean(self) -> Float[Tensor, "queries keys"]:
        """The mean over heads."""
        return self.weights.mean(0)

    @property
    def spread(self) -> Float[Tensor, " heads"]:
        """On how many keys a query of each head looks, in the mean: exp of the entropy of its row; 0 where no row is."""
        rows = self.weights.double()
        sums = rows.sum(-1)
        shares = rows / sums[..., None].clamp(min=1e-300)
        counts = torch.special.entr(shares).sum(-1).exp() * (sums > 0)
        return (counts.sum(-1) / (sums > 0).sum(-1).clamp(min=1)).float()

    @property
    def favourites(self) -> list[int]:
        """Of each head, the key that gets most of all queries."""
        return [int(key) for key in self.weights.sum(1).argmax(-1)]


@dataclass(frozen=True, eq=False)
class Heads:
    """Attentions of a model on one input, head by head, in the order in which they run.

    ``heads[3]`` is attention 3, as ``heedmap inspect`` numbers them.

    Attributes:
        attentions: those that were asked for.
        tokens: of each stream, what its tokens are called.
        target: what is explained, as people say it.
        weights: ``"attention"`` or ``"relevance"``.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> heads = heedmap.heads(subject, subject.inputs(text="dog red ? dog"))
        >>> heads, heads[1].weights.shape
        (Heads(attention 0, 1 of "red (> 99.9 %), the next word"; attention), torch.Size([2, 4, 4]))
        >>> heads.tokens["text"]
        ('dog', 'red', '?', 'dog')
        >>> [round(value, 2) for value in heads.rollout()[3].tolist()]
        [0.17, 0.42, 0.13, 0.28]
    """

    attentions: tuple[AttentionHeads, ...]
    tokens: Mapping[str, tuple[str, ...]]
    target: str
    weights: str

    def __getitem__(self, number: int) -> AttentionHeads:
        for attention in self.attentions:
            if attention.info.index == number:
                return attention
        known = ", ".join(str(attention.info.index) for attention in self.attentions)
        raise OptionError(f"no attention {number!r} here; there are {known}")

    def __len__(self) -> int:
        return len(self.attentions)

    def __repr__(self) -> str:
        numbers = ", ".join(str(attention.info.index) for attention in self.attentions)
        return f'Heads(attention {numbers} of "{self.target}"; {self.weights})'

    @property
    def told(self) -> str:
        """What the numbers are, for people."""
        if self.weights == "attention":
            return "attention weights"
        return f"what each attention gives to “{self.target}”: (∂y/∂A ⊙ A)⁺"

    def rollout(self, first: int | None = None, last: int | None = None) -> Float[Tensor, "tokens tokens"]:
        """The product of (M + I), rows normalised, M the mean over heads, of self-attentions of one stream.

        Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv 2005.00928.

        Args:
            first: number of the first attention of the range; by default the first that is here.
            last: of the last, which is in the range too; by default the last that is here.

        Raises:
            OptionError: there is none in the range, or not all are self-attentions of one stream.
        """
        numbers = [attention.info.index for attention in self.attentions]
        low, high = numbers[0] if first is None else first, numbers[-1] if last is None else last
        chosen = [attention for attention in self.attentions if low <= attention.info.index <= high]
        streams = {(attention.info.stream, attention.info.source) for attention in chosen}
        if len(streams) != 1 or len(set(next(iter(streams)))) != 1:
            flows = ", ".join(sorted(f"{stream} ← {source}" for stream, source in streams)) or "none"
            raise OptionError(
                f"a rollout of attentions {low} to {high} is not defined ({flows}); give a range of self-attentions of one stream"
            )
        return reduce(lambda below, attention: _with_identity(attention.mean) @ below, chosen, _eye(chosen[0].mean))

    def plot(
        self, attention: int | None = None, *, rollout: tuple[int, int] | None = None, **options: object
    ) -> Figure:
        """A figure: all heads of all attentions, small; or of one attention its mean, with its tokens, and its heads.

        Args:
            attention: number of the one.
            rollout: first and last attention; their :meth:`rollout` instead.
            options: ``theme``, ``cmap``, ``width``, ``dpi``, ``title``, as for :meth:`Explanation.plot`.

        Raises:
            OptionError: no such attention or option, both are given, or a value that an option cannot have.
            UnknownNameError: no such theme.
        """
        from heedmap.render.files import check_options
        from heedmap.render.matrices import DrawnMatrix, HeadRows, plot_heads

        if attention is not None and rollout is not None:
            raise OptionError("attention and rollout are both given; give one")
        draw: Callable[..., Figure] = plot_heads
        check_options(draw, options, "a figure of heads")
        if rollout is not None:
            matrix = self.rollout(*rollout)
            names = self.tokens[next(a for a in self.attentions if a.info.index >= rollout[0]).info.stream]
            shown = DrawnMatrix(f"rollout of attentions {rollout[0]} to {rollout[1]}", matrix.numpy(), names, names)
            return draw(shown, self.told, **options)
        if attention is None:
            rows = [(f"{each.info.index} {each.flow}", each.weights.numpy()) for each in self.attentions]
            return draw(HeadRows(rows), self.told, **options)
        chosen = self[attention]
        asks, asked = self.tokens[chosen.info.stream], self.tokens[chosen.info.source]
        name = f"attention {attention}, {chosen.flow}, mean over heads"
        heads = () if chosen.averaged else tuple(chosen.weights.numpy())
        return draw(DrawnMatrix(name, chosen.mean.numpy(), asks, asked, heads), self.told, **options)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON data, without the matrices: of each head the key that gets most, and on how many keys a query looks."""
        return {
            "target": self.target,
            "weights": self.weights,
            "tokens": {name: list(tokens) for name, tokens in self.tokens.items()},
            "attentions": [self._summary(attention) for attention in self.attentions],
        }

    def _summary(self, attention: AttentionHeads) -> dict[str, object]:
        info, names = attention.info, self.tokens[attention.info.source]
        heads = [
            {"head": None if attention.averaged else head, "most": names[key], "spread": round(spread, 4)}
            for head, (key, spread) in enumerate(zip(attention.favourites, attention.spread.tolist(), strict=True))
        ]
        return {"attention": info.index, "stream": info.stream, "source": info.source, "heads": heads}


def heads(
    model: nn.Module | Wrapped,
    inputs: Inputs,
    *,
    target: AnyTarget = None,
    weights: str = "attention",
    attentions: Sequence[int] | None = None,
    labels: Mapping[int, str] | None = None,
    memory_budget: int = MEMORY_BUDGET,
) -> Heads:
    """Every attention of a model on one input, head by head, rebuilt from an unmodified model under fused attention.

    Args:
        model: as for :func:`heedmap.explain`.
        inputs: one sample.
        target: what (∂y/∂A ⊙ A)⁺ is of, and what is told of; by default the model's own prediction.
        weights: ``"attention"``: A; ``"relevance"``: (∂y/∂A ⊙ A)⁺, whose mean over heads is Ā (Chefer, Gur, Wolf 2021, eq. 5).
        attentions: numbers of those that are wanted, as :func:`heedmap.inspect` lists them; by default all.
        labels: names of classes.
        memory_budget: bytes that the matrices may take.

    Raises:
        InputError: several samples.
        OptionError: no such attention or weights, or they take more than ``memory_budget``.
        HeedmapError: as of :func:`heedmap.explain`.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/bart-dates")
        >>> heads = heedmap.heads(subject, subject.inputs(text="3 may 1987"), attentions=[0, 5], weights="relevance")
        >>> [(attention.info.stream, attention.info.source) for attention in heads.attentions]
        [('text', 'text'), ('decoder', 'text')]
    """
    if weights not in WEIGHTS:
        raise OptionError(f"weights is {weights!r}; expected one of {', '.join(map(repr, WEIGHTS))}")
    engine = Engine(model, inputs, labels, True)
    with recording_state(engine.model):
        (narrowed, (wanted,)), *_ = engine.narrowed(engine.targets([target]))
        if narrowed.batch != 1:
            raise InputError(f"there are {narrowed.batch} samples; give one")
        recorded = narrowed.record()
        run = narrowed.choose(recorded, wanted, keep=False)
        (explanation,) = narrowed.made(recorded, [run], MethodCall.of("generic"))
        with torch.no_grad():
            found = _heads(run[0], explanation, weights, attentions, memory_budget)
    tokens = {stream.name: _tokens(explanation, stream.name, stream.tokens) for stream in explanation.flow.streams}
    return Heads(found, tokens, headline(explanation, 0), weights)


def _heads(
    run: TargetView, explanation: Explanation, weights: str, wanted: Sequence[int] | None, budget: int
) -> tuple[AttentionHeads, ...]:
    every = weights == "relevance"
    listed = {i.index: i for i in explanation.flow.attentions if every or not run.attentions[i.index].mixes}
    if not listed:
        raise OptionError(
            "tokens mix in no softmax attention here, and nothing else has attention weights; weights='relevance' shows what "
            "each mixer gives to the target"
        )
    numbers = list(listed) if wanted is None else list(wanted)
    for number in numbers:
        if number not in listed:
            raise OptionError(f"no attention {number!r} of this model; it has {', '.join(map(str, listed))}")
    size = sum(
        (1 if _is_averaged(run, n) else listed[n].heads) * listed[n].queries * listed[n].keys * 4 for n in numbers
    )
    if size > budget:
        raise OptionError(
            f"the heads of {len(numbers)} attentions take {told_bytes(size)}, more than the {told_bytes(budget)} of "
            "memory_budget; name fewer attentions, give a shorter input, or a larger budget"
        )
    return tuple(_one(run, listed[number], weights) for number in sorted(set(numbers)))


def _is_averaged(run: TargetView, number: int) -> bool:
    return isinstance(run.attentions[number], BlockAttention) or run.attentions[number].mixes


def _one(run: TargetView, info: AttentionInfo, weights: str) -> AttentionHeads:
    attention, gradient = run.attentions[info.index], run.gradients.get(info.index)
    if _is_averaged(run, info.index):
        matrix = (run.mean_probabilities if weights == "attention" else run.cam)(info.index)
        mean = matrix.right(_eye(attention.value.new_zeros(info.keys, info.keys, dtype=attention.dtype))[None])
        return AttentionHeads(info, mean.float().cpu(), averaged=True)
    shown = attention.probabilities(slice(None))[0]
    if weights == "relevance":
        shown = torch.zeros_like(shown) if gradient is None else (shown * attention.gradient(gradient)[0]).clamp(min=0)
    return AttentionHeads(info, shown.float().cpu())


def _tokens(explanation: Explanation, stream: str, count: int) -> tuple[str, ...]:
    """What the tokens of a stream are called: by their segments; others by their number."""
    names = [str(number) for number in range(count)]
    for segment in explanation.segments.values():
        if segment.stream == stream:
            for place, name in zip(segment.positions[0].tolist(), sample(segment).labels, strict=False):
                names[place] = name if place >= 0 else names[place]
    return tuple(names)


def _stream(name: str) -> str:
    return "+".join(map(called, name.split("+")))


def _eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _with_identity(matrix: Tensor) -> Tensor:
    """M + I, its rows summing to 1."""
    added = matrix + _eye(matrix)
    return added / added.sum(-1, keepdim=True)
