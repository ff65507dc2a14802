"""The recorder that follows a model, and the language model's own map where none follows its tower of pictures or sounds.

Then what the tower makes is tokens among the words, and from there on the language model is followed as any other: the tokens
become leaves where they join the words. That they have rows of their own, and which, is proved as for all leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention import inputs as given
from heedmap.attention import placing
from heedmap.attention.attention import Attention
from heedmap.attention.fingerprint import key_of, proved
from heedmap.attention.flow import AskedTowerError, Graph
from heedmap.attention.forward import Recording
from heedmap.attention.forward import record as record_whole
from heedmap.attention.inputs import ModelInputs, contents
from heedmap.attention.returned import UnsteadyError
from heedmap.attention.tape import HastyRefusal, Tape
from heedmap.common.memory import ran_out
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    InputError,
    MixingError,
    NoAttentionError,
    OptionError,
    UnfollowedAttentionError,
)

WORDS = ("input_ids", "decoder_input_ids")
"""Inputs that are a language model's own words, where there are other ids beside them."""

REFUSALS = (UnfollowedAttentionError, MixingError, GradientError, NoAttentionError)


def batch_size(inputs: Mapping[str, Any]) -> int:
    """The batch size of all content; where it is unequal, of the words beside which there is other content.

    Raises:
        InputError: see :func:`heedmap.attention.inputs.batch_size`; there are no words, or nothing else.
    """
    try:
        return given.batch_size(inputs)
    except InputError:
        words = _words(inputs)
        if not words or len(words) == len(contents(inputs)):
            raise
        return given.batch_size({name: inputs[name] for name in words})


def record(
    model: nn.Module, inputs: ModelInputs, batch: int, check: bool = True, whole: bool = True, mixers: bool = True
) -> Recording:
    """The whole model's forward pass; where no recorder follows it, of its words and the tokens that join them.

    Args:
        model: the module.
        inputs: what it is called with.
        batch: see :func:`batch_size`.
        check: whether it is to be proved that tokens mix nowhere else.
        whole: whether the second recorder comes before the language model's own map; else after it, for methods that are
            not defined through what only the second one follows.
        mixers: whether the second recorder may follow what mixes tokens and is no softmax attention.

    Raises:
        AttentionError, GradientError, InputError: see :func:`heedmap.attention.forward.record`; of the whole model.
    """
    refused, known = _refusal(inputs, batch), proved(model)
    kind, told = ("the first recorder refuses", key_of(inputs, batch, check)), _told(inputs)
    if whole and known.get(kind) == told:
        recording = _by_numbers(model, inputs, batch, check, mixers, None, known)
        if isinstance(recording, Recording):
            return recording
        known = proved(model)
    if refused is None:
        try:
            return record_whole(
                model, inputs, batch, check, known, hasty=whole and mixers and len(contents(inputs)) == 1
            )
        except REFUSALS as error:
            refused = error
            clear_frames(error.__traceback__)  # which hold what was made until then
    if whole:
        known = proved(model)
        recording = _by_numbers(model, inputs, batch, check, mixers, refused, known)
        if isinstance(recording, Recording):
            known[kind] = told
            return recording
        if isinstance(refused, HastyRefusal):
            try:
                return record_whole(model, inputs, batch, check)
            except REFUSALS as error:
                refused = error
        return _own(model, inputs, batch, check, _with_place(refused, recording))
    try:
        return _own(model, inputs, batch, check, refused)
    except OptionError:
        raise
    except HeedmapError:
        recording = _by_numbers(model, inputs, batch, check, mixers, refused)
        if not isinstance(recording, Recording):
            raise
        return recording


def _told(inputs: Mapping[str, Any]) -> Any:
    """All that two inputs of one kind may differ in, but their content: the shapes, and what masks and positions say."""
    content = contents(inputs)
    tensors = {name: t for name, t in inputs.items() if isinstance(t, Tensor)}
    return tuple((name, t.shape, None if name in content else _bytes(t)) for name, t in tensors.items())


def _bytes(tensor: Tensor) -> int:
    return hash(tensor.detach().flatten().cpu().contiguous().view(torch.uint8).numpy().tobytes())


def _refusal(inputs: ModelInputs, batch: int) -> HeedmapError | None:
    """Why the first recorder cannot be asked: the inputs are of unequal batches."""
    try:
        given.batch_size(inputs, batch)
    except InputError as error:
        return error
    return None


def _by_numbers(
    model: nn.Module,
    inputs: ModelInputs,
    batch: int,
    check: bool,
    mixers: bool,
    refused: HeedmapError | None,
    known: dict[Any, Any] | None = None,
) -> Recording | Exception | None:
    """By the second recorder, which follows windows, merged tokens and mixers; or why it refuses, too.

    Where mixers are not wanted, and it has some, None, and ``refused`` says so.

    It takes companions of tensors through whatever the model calls: where one of these calls means something else for numbers
    than for tokens, it fails, and that is a refusal as well.
    """
    try:
        found = placing.record(model, inputs, batch, check, known)
    except (UnsteadyError, OptionError):  # the latter: the proof would take more than it may
        raise
    except (HeedmapError, RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if ran_out(error):
            raise
        return error
    if mixers or not found.mixers:
        return found
    if refused is not None:
        refused.args = (f"{refused}; {_unwanted(found.mixers[0])}",)
    return None


def _unwanted(mixer: Attention) -> str:
    what = (
        "is no softmax attention" if mixer.mixes or mixer.form == "linear" else "has no residual connection around it"
    )
    return (
        f"what mixes tokens at {mixer.place} {what}, and is followed by an extension of the paper's rules only, which "
        "mixers=False turns off: leave it out"
    )


def _with_place(refused: HeedmapError, error: Exception | None) -> HeedmapError:
    """The refusal with the cause of the recorder that follows more, before its own, where that names a place.

    What the first recorder refuses may be what the second one follows (windows); what that one refuses no recorder follows.
    """
    said, own = str(error), str(refused)
    if not isinstance(error, (AttentionError, GradientError)) or "called at " not in said:
        return refused
    cause = re.split(r"[,;:]? (?:so )?a map would be wrong", said)[0]
    if cause in own:
        return refused
    places = [place for place in re.findall(r"attention \d+ is called at [^;]+", said) if place not in cause]
    told = [own, cause, *places] if isinstance(refused, NoAttentionError) else [cause, *places, own]
    refused.args = ("; ".join(told),)
    return refused


def _own(model: nn.Module, inputs: ModelInputs, batch: int, check: bool, refused: HeedmapError) -> Recording:
    """Of words and the tokens that join them alone; ``refused``, or why not these, where that is none."""
    less = _without_towers(inputs, refused, batch)
    if less is None:
        raise refused
    try:
        recording = _record_less(model, less, batch, check)
    except OptionError:
        raise
    except HeedmapError as error:
        if less.ends or (isinstance(refused, InputError) and isinstance(error, MixingError)):
            raise
        raise _with_place(refused, error) from error
    if not any(recording.graph.sources[leaf].tower for s in recording.graph.streams for leaf in s.leaves):
        raise refused
    return recording


def _record_less(model: nn.Module, less: ModelInputs, batch: int, check: bool) -> Recording:
    """Once more, where words ask for keys and values made of a tower's tokens, with these tokens as leaves."""
    try:
        return record_whole(model, less, batch, check)
    except AskedTowerError as error:
        if not error.ends:
            raise
        less.ends = error.ends
    return record_whole(model, less, batch, check)


def check_read(tape: Tape, graph: Graph, sources: frozenset[int]) -> None:
    """UnfollowedAttentionError where the target reads a tower's tokens beside all streams that it reads."""
    read = frozenset[int]().union(*(a.query_sources | a.value_sources for a in tape.attentions))
    for index in sorted((sources - read) | graph.read_beside(sources)):
        if tape.sources[index].tower:
            raise UnfollowedAttentionError(
                f"the target reads what the model made of {tape.sources[index].name!r} beside the attention; that is not "
                "followed, so a map would be wrong, and there is none"
            )


def check_features(graph: Graph, method: str) -> None:
    """AttentionError where a tower's features join at several layers: a method of the input would see the first only."""
    joining = set[int]().union(*(s.leaves for s in graph.streams))
    late = next((s.name for i, s in enumerate(graph.sources) if s.tower and i not in joining), None)
    if late is not None:
        raise AttentionError(
            f"method {method!r} gives relevance to the features of the input, but those made of {late!r} join the language model "
            "in several layers, of which it would see the first only; choose a method that works on attention ('generic', …)"
        )


def _words(inputs: Mapping[str, Any]) -> list[str]:
    ids = [name for name in contents(inputs) if inputs[name].dim() == 2 and not inputs[name].is_floating_point()]
    return [name for name in ids if name in WORDS] or ids


def _without_towers(inputs: ModelInputs, refused: Exception, batch: int) -> ModelInputs | None:
    words = _words(inputs)
    towers = [name for name in contents(inputs) if name not in words]
    if not words or not any(inputs[name].is_floating_point() for name in towers):
        return None
    less = ModelInputs(inputs)
    less.segments, less.towers = inputs.segments, frozenset(towers)
    less.stopped = (
        f"this map stops at the tokens that the model makes of {', '.join(towers)}: they are taken as they are, and what made "
        f"them is not followed, because {_reason(inputs, towers, refused, batch)}"
    )
    return less


def _reason(inputs: Mapping[str, Tensor], towers: list[str], refused: Exception, batch: int) -> str:
    unequal = [name for name in towers if inputs[name].shape[0] != batch]
    if isinstance(refused, InputError):
        shapes = ", ".join(f"{name} {tuple(inputs[name].shape)}" for name in unequal)
        return f"the parts of all pictures or sounds are one batch of their own there ({shapes} for {batch} samples)"
    return re.split(r"[,;:]? (?:so )?a map would be wrong", str(refused))[0]
