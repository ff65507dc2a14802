"""Several steps of an answer as one target's view: each step is a sample of a batch as large as the steps times the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.flow import Graph
from heedmap.methods.run import Readout, TargetView, dense_bytes
from heedmap.relevance.chain import AnyMatrix, Matrix
from heedmap.relevance.rules import average_heads


@dataclass(eq=False)
class StepsView(TargetView):
    """The view of several steps, for methods that need no more than Ā: A is made once for all of them.

    Attributes:
        each: the gradients of each step; ``gradients`` are those of the first. Of readouts the first axis is (steps · samples),
            steps first.
    """

    each: Sequence[Mapping[int, Tensor]] = ()

    @property
    def batch(self) -> int:
        """Steps times samples."""
        return len(self.each) * self.attentions[0].batch

    def cam(self, index: int) -> AnyMatrix:
        """Ā (eq. 5) of an attention, (steps · samples, queries, keys)."""
        attention, gradients = self.attentions[index], [of_step[index] for of_step in self.each]
        attended = self.matrix(attention, attention.probabilities)
        assert isinstance(attended, Matrix)
        return replace(
            attended,
            block=lambda rows: _block(attention, gradients, rows),
            keep=dense_bytes(self.attentions) * len(self.each) <= self.memory_budget,
        )


def _block(attention: Attention, gradients: Sequence[Tensor], rows: slice) -> Tensor:
    """Some rows of Ā for each step; where these look at nothing after themselves, it is not computed."""
    seen = _up_to(attention, rows)
    probs = seen.probabilities(rows)
    cams = torch.cat([average_heads(probs, seen.gradient(gradient, rows)) for gradient in gradients])
    return F.pad(cams, (0, attention.keys - seen.keys))


def _up_to(attention: Attention, rows: slice) -> Attention:
    """The attention to its first keys, where these rows may look at no others."""
    key, mask, end = attention.key, attention.mask, rows.stop
    if end is None or key is None or attention.skip or not end < attention.keys == key.shape[2]:
        return attention
    if not (attention.causal and mask is None) and not _hidden(mask, rows, attention.keys):
        return attention
    cut = None if mask is None else mask[..., :end]
    return replace(attention, key=key[:, :, :end], value=attention.value[:, :, :end], keys=end, mask=cut)


def _hidden(mask: Tensor | None, rows: slice, keys: int) -> bool:
    """Whether a mask hides all after these rows from them."""
    if mask is None or mask.dtype != torch.bool or mask.shape[-1] != keys or mask.shape[-2] == 1:
        return False
    return not bool(mask[..., rows, rows.stop :].any())


def several(
    run: TargetView, gradients: Sequence[Mapping[int, Tensor]], readouts: Sequence[Mapping[int, Readout]]
) -> StepsView:
    """The view of several steps, of which ``run`` is one: of each its gradients by attention, and its readouts by stream."""
    first = readouts[0]
    return StepsView(
        _repeated(run.graph, len(gradients)),
        run.attentions,
        gradients[0],
        {s: Readout(first[s].state, torch.cat([of_step[s].weights for of_step in readouts])) for s in first},
        run.names,
        run.memory_budget,
        parts=run.parts,
        heads=run.heads,
        each=gradients,
    )


def _repeated(graph: Graph, steps: int) -> Graph:
    """The graph, of which the places of tokens that streams took in are those of each step's samples."""
    streams = []
    for stream in graph.streams:
        joins = {
            index: replace(join, places=None if join.places is None else join.places.repeat(steps, 1))
            for index, join in stream.joins.items()
        }
        streams.append(replace(stream, joins=joins))
    return Graph(streams, graph.edges, graph.sources)
