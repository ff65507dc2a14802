"""Models in which no attention is followed: what a method that needs none explains them by, and which methods these are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from torch import Tensor, nn

from heedmap.attention import features
from heedmap.attention.features import FeatureRecording
from heedmap.attention.inputs import ModelInputs, contents, without_cache
from heedmap.attention.returned import sampled
from heedmap.data.explanation import TOOK
from heedmap.engine.result import Named, sounds, stream_names
from heedmap.errors import AttentionError, MixingError, NoAttentionError, UnfollowedAttentionError
from heedmap.lrp.replay import ForwardCall
from heedmap.methods import METHODS, Method
from heedmap.methods.run import TargetView
from heedmap.methods.supported import Supported

REFUSALS = (NoAttentionError, UnfollowedAttentionError, MixingError)
"""What says of a model that its attention, if it has any, gives no map."""

AUTO = "auto"
"""The name for: what the evidence speaks for (:mod:`heedmap.methods.supported`), else the first of :data:`BEST`."""

BEST = ("integrated_gradients", "occlusion")
"""What ``auto`` takes where no attention is followed: the first that can run, by the figures of the documentation.

On pictures integrated gradients are far before occlusion (ViT: average precision of a segmentation 0.68 and 0.40; the same order
when pixels are taken away). On words occlusion is as good or better, but takes a pass for each of them; it needs no gradient.
"""

WITHOUT_ATTENTION = (*BEST, "input_x_gradient", "smoothgrad", "gradient_shap")
"""The methods that a refusal names. Those of rules may lack one, and ``random`` explains nothing."""

LIBRARIES = {"integrated_gradients": "captum"}


def best() -> list[Method]:
    """The methods of :data:`BEST` whose libraries are there."""
    return [METHODS[name] for name in BEST if find_spec(LIBRARIES.get(name, "heedmap")) is not None]


def record(model: nn.Module, inputs: ModelInputs, batch: int, refused: AttentionError) -> FeatureRecording:
    """A forward pass whose inputs say why no attention was followed; see :func:`heedmap.attention.features.record`.

    Where samples share a batch with parts of their own (pictures of several in one batch), the refusal stays.
    """
    if any(inputs[name].shape[0] != batch for name in contents(inputs)):
        raise refused
    noted = without_cache(model, inputs)
    noted.stopped = (
        f"no attention was followed, so the relevance is that of the input's own features: {reason(refused)}"
    )
    return features.record(model, noted, batch, sounds(noted))


def view(
    model: nn.Module, found: FeatureRecording, named: Named, again: Callable[[object], Tensor], memory_budget: int
) -> TargetView:
    """What a method that needs no attention is given."""
    recording = found.recording
    said = sampled(recording.output)
    replay = ForwardCall(model, recording.inputs, recording.tape.batch, again, tape=found.tape, answered=said)
    return TargetView(recording.graph, [], {}, {}, stream_names(named), memory_budget, replay=replay, parts=found.parts)


def reason(refused: Exception) -> str:
    """The refusal's cause, without what follows from it."""
    return re.split(r"[,;:]? (?:so )?a map would be wrong|; ", str(refused))[0]


def advised(refused: AttentionError) -> AttentionError:
    """The refusal, which names the methods that explain the model nevertheless."""
    names = ", ".join(map(repr, WITHOUT_ATTENTION))
    refused.args = (f"{refused}; methods that need no attention explain this model: method={names}, or 'auto'",)
    return refused


def why(choice: Supported, passed: Sequence[str]) -> str:
    """Why ``auto`` took a method; ``passed``: those that stand before it, and that the model cannot have."""
    if not passed:
        return choice.words
    names = ", ".join(map(repr, passed))
    return f"{choice.words}; {names}, which {'stands' if len(passed) == 1 else 'stand'} before it, cannot be had here"


def taken(method: Method, because: str) -> str:
    """Which method ``auto`` took and why, for people; why attention was refused (``because`` is empty), another note says."""
    return f"{TOOK}{method.name!r}, because {because or 'it is the best of those that need no attention'}"
