"""How a model is called: the names, the content and the batch size of its inputs, and the model that a wrapper holds."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass, make_dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heedmap.attention.beginnings import Step
from heedmap.errors import InputError, ModelStateError, UnfollowedAttentionError

NO_CONTENT = (
    "mask", "position", "token_type", "labels", "past_key", "cache", "spatial_shapes", "grid_thw", "image_sizes",
    "bool_masked", "segment_ids", "language", "return_", "padding", "visual_pos", "bbox",
)  # fmt: skip
"""Parts of input names that tell the model where or what its content is, and are no content."""


LISTS = ("ids", "mask", "values", "embeds", "features")
"""Ends of the names of inputs that may be given as lists of numbers."""

KEEP = "logits_to_keep"
"""An input of language models: of how many of the last tokens they give logits. The attention is the same for all."""

LIMITS = ("max_position_embeddings", "n_positions", "max_source_positions")


def named(model: nn.Module, inputs: Any) -> dict[str, Any]:
    """``inputs`` (mapping, tuple or one tensor) by the names of the model's ``forward``.

    Raises:
        InputError: of another type, too many, or a name that ``forward`` does not have.
    """
    if isinstance(inputs, str) or (isinstance(inputs, (tuple, list)) and any(isinstance(i, str) for i in inputs)):
        raise InputError(
            "inputs is text; give what a tokenizer makes of it, or use heedmap.load(...).explain(text=...)"
        )
    if isinstance(inputs, (Tensor, np.ndarray)):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list, Mapping)) and not hasattr(inputs, "keys"):
        raise InputError(
            f"inputs is a {type(inputs).__name__}; expected what the model is called with: a dict of keyword arguments, "
            "a tuple, or one tensor"
        )
    accepted = signature(model)
    try:
        if isinstance(inputs, (tuple, list)):
            by_name = dict(accepted.bind_partial(*inputs).arguments)
            for name, parameter in accepted.parameters.items():
                if parameter.kind is parameter.VAR_POSITIONAL and name in by_name:
                    raise TypeError(f"forward takes *{name}: give a dict, or a model whose forward names its inputs")
        else:
            by_name = {str(k): inputs[k] for k in inputs}
            accepted.bind_partial(**by_name)
        return _flat(model, _worded(model, {name: _tensor(name, value) for name, value in by_name.items()}))
    except TypeError as error:
        known = ", ".join(accepted.parameters)
        raise InputError(f"the inputs do not fit {type(model).__name__}.forward({known}): {error}") from error


def _tensor(name: str, value: Any) -> Any:
    """A numpy array, or lists of numbers where tokens or features are meant, as a tensor.

    Raises:
        InputError: rows of unequal length, or no batch axis.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(value.copy())
    elif isinstance(value, list) and value and name.endswith(LISTS) and isinstance(value[0], (list, int, float)):
        try:
            value = torch.tensor(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is no table of numbers ({error}); pad its rows to one length") from error
    if isinstance(value, Tensor) and value.dim() == 1 and name.endswith("input_ids"):
        raise InputError(
            f"{name} has shape {tuple(value.shape)}; the batch comes first: give (1, {len(value)}) for one"
        )
    return value


def _worded(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """``inputs`` with the words of the decoder that transformers' models make of labels, where only these are given."""
    make = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    words = {"decoder_input_ids", "decoder_inputs_embeds"}
    if not callable(make) or not isinstance(inputs.get("labels"), Tensor) or words & inputs.keys():
        return inputs
    try:
        return inputs | {"decoder_input_ids": make(labels=inputs["labels"])}
    except (AttributeError, ValueError):  # no first token is configured: the model's forward refuses the labels itself
        return inputs


def misfit(model: nn.Module, inputs: Mapping[str, Any]) -> str | None:
    """Why a model may have failed on its tokens: an id outside its vocabulary, or more than it has positions for."""
    config = configuration(model)
    try:
        size = model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # it has none, or several
        size = None
    limit = next((n for n in (getattr(config, a, None) for a in LIMITS) if isinstance(n, int) and n > 0), None)
    for name, value in inputs.items():
        if not (isinstance(value, Tensor) and name.endswith("input_ids") and value.numel()):
            continue
        low, high = int(value.min()), int(value.max())
        if size is not None and (low < 0 or high >= size):
            wrong = low if low < 0 else high
            return f"{name} has the id {wrong}, and the vocabulary ends at {size - 1}; use the model's own tokenizer"
        if limit is not None and value.shape[-1] > limit:
            return f"{name} has {value.shape[-1]} tokens, and the model has {limit} positions; give a shorter text"
    return None


class ModelInputs(dict[str, Any]):
    """What a model is called with, by name, and which of it is content.

    Attributes:
        segments: name of an input → name of its segment, where the caller said so: all other inputs are no content.
        towers: names of inputs of which is followed only what the language model gets; see :mod:`heedmap.attention.tower`.
        stopped: why, in words.
        turned: names of inputs that are here batch first, and that the model gets with its first two axes exchanged.
        ends: steps at which they end, where that is before they meet other content; see
            :class:`~heedmap.attention.beginnings.Steps`.
    """

    segments: Mapping[str, str] | None = None
    towers: frozenset[str] = frozenset()
    turned: frozenset[str] = frozenset()
    ends: frozenset[Step] = frozenset()
    stopped: str = ""

    @classmethod
    def of(cls, inputs: Mapping[str, Any], segments: Mapping[str, str] | None = None) -> ModelInputs:
        """``inputs`` with the caller's segments.

        Raises:
            InputError: a segment is of no input, or of one that is no tensor of a batch.
        """
        made = cls(inputs)
        for name in segments or ():
            if not isinstance(made.get(name), Tensor) or made[name].dim() == 0:
                given = ", ".join(f"{k} ({type(v).__name__})" for k, v in made.items())
                raise InputError(f"segments names {name!r}, which is no tensor among the inputs: {given}")
        made.segments = segments
        return made

    def turned_to(self, batch: int) -> ModelInputs | None:
        """The same with content whose batch is its second axis batch first; None where there is none of that size."""
        named = [name for name in contents(self) if self[name].dim() > 1]
        wrong = [name for name in named if self[name].shape[0] != batch] or (named if batch > 1 else [])
        if self.turned or not wrong or any(self[name].shape[1] != batch for name in wrong):
            return None
        turned = copy.copy(self)
        turned.update({name: self[name].transpose(0, 1) for name in wrong})
        turned.turned = frozenset(wrong)
        return turned

    def is_square(self, batch: int) -> bool:
        """Whether all content has as many tokens as samples, so that its shape does not say which axis is the batch."""
        named = [self[name] for name in contents(self) if self[name].dim() > 1]
        return batch > 1 and bool(named) and all(t.shape[:2] == (batch, batch) and t.dim() < 4 for t in named)

    def given(self) -> dict[str, Any]:
        """What the model is called with."""
        return put_back(self, self.turned)


def put_back(inputs: Mapping[str, Any], turned: Collection[str]) -> dict[str, Any]:
    """The inputs as the model takes them: those of ``turned`` with their first two axes exchanged again."""
    return {name: value.transpose(0, 1) if name in turned else value for name, value in inputs.items()}


def contents(inputs: Mapping[str, Any]) -> list[str]:
    """The names of the inputs on which relevance can fall.

    Those that the caller named; else all tensors of numbers but one number a sample (lengths, a language), and what is named
    as a mask, positions and the like.
    """
    segments = getattr(inputs, "segments", None)
    if segments is not None:
        return [name for name in inputs if name in segments]
    return [name for name, value in inputs.items() if _is_content(name, value)]


def _is_content(name: str, value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dim() == 0 or value.dtype == torch.bool:
        return False
    if value.dim() == 1 and not value.is_floating_point():
        return False
    return not any(part in name for part in NO_CONTENT)


def batch_size(inputs: Mapping[str, Any], batch: int = 0) -> int:
    """The batch size of all content inputs.

    Args:
        inputs: by name.
        batch: number of samples, where it is known: each may have several rows of ids.

    Raises:
        InputError: no content tensor, an empty one, or unequal batch sizes.
    """
    sizes = {name: inputs[name].shape[0] for name in contents(inputs)}
    for name, size in sizes.items() if batch else ():
        sizes[name] = size if inputs[name].is_floating_point() or size % batch else batch
    if not sizes:
        given = ", ".join(f"{k} ({type(v).__name__})" for k, v in inputs.items()) or "nothing"
        raise InputError(f"there is no content to explain among the inputs: {given}; give input_ids, pixel_values, …")
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        given = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise InputError(
            f"the inputs have unequal (or empty) batches ({given}), and no output that tells which belong together: "
            "logits_per_image (images, texts), or boxes with logits (batch, boxes, texts); where sample i of each belongs "
            "together, repeat the smaller one"
        )
    empty = next((name for name in sizes if not inputs[name].numel()), None)
    if empty is not None:
        raise InputError(f"{empty} has shape {tuple(inputs[empty].shape)}: there is no token; give at least one")
    return next(iter(sizes.values()))


def check_required(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """InputError where ``forward`` needs an argument that is not there."""
    parameters = signature(model).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    missing = [p.name for p in parameters if p.kind in plain and p.default is p.empty and p.name not in inputs]
    if missing:
        raise InputError(
            f"{type(model).__name__} needs {', '.join(missing)}, but was given {', '.join(inputs) or 'nothing'}"
            + _advice(model, inputs)
        )


def _flat(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
    """``inputs``; InputError where all content is inside a dict: relevance is told by the name of an input."""
    for name, value in () if contents(inputs) else inputs.items():
        if isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values()):
            raise InputError(
                f"the tensors are inside {name}, and heedmap needs them by names of their own{_advice(model, value)}"
            )
    return inputs


def _advice(model: nn.Module, inputs: Mapping[str, Any]) -> str:
    """Which part of the model could be explained instead: the first whose ``forward`` has the names of all tensors."""
    wanted = {name for name, value in inputs.items() if isinstance(value, Tensor)}
    for path, module in model.named_modules():
        if wanted and wanted <= inspect.signature(module.forward).parameters.keys():
            if not path:
                return ": give that dict itself"
            return f"; its part model.get_submodule({path!r}), {type(module).__name__}, takes them: explain that"
    return ""


def check_no_cache(inputs: Mapping[str, Any]) -> None:
    """InputError where the keys and values of earlier tokens are given in place of the tokens."""
    for name, value in inputs.items():
        tokens = _cached(value)
        if tokens:
            raise InputError(
                f"{name} holds the keys and values of {tokens} earlier tokens, on which no relevance could fall; give all "
                f"tokens and no {name}"
            )


def without_cache(model: nn.Module, inputs: Mapping[str, Any]) -> ModelInputs:
    """The inputs, by which a model is asked for no cache of its states: it may write to one in place; no gradient would pass."""
    uncached = copy.copy(inputs) if isinstance(inputs, ModelInputs) else ModelInputs(inputs)
    if "use_cache" in signature(model).parameters:
        uncached.setdefault("use_cache", False)
    return uncached


def _cached(value: Any) -> int:
    """How many tokens a KV cache holds: an object of transformers, or a tuple of a (key, value, …) tuple for each layer."""
    length = getattr(value, "get_seq_length", None)
    if callable(length):
        return int(length())
    layer = next(iter(value), None) if isinstance(value, (tuple, list)) else None
    if (
        isinstance(layer, (tuple, list))
        and len(layer) >= 2
        and all(isinstance(t, Tensor) and t.dim() >= 3 for t in layer)
    ):
        return int(layer[0].shape[-2])
    return 0


def detached(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of the inputs for one run, cut from any graph of the caller's: the model may write to them."""
    return {name: _detached(value) for name, value in inputs.items()}


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if callable(getattr(value, "get_seq_length", None)):  # an empty cache
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(_detached(element) for element in value)
    return {key: _detached(entry) for key, entry in value.items()} if type(value) is dict else value


# -- the model, in what wraps it -------------------------------------------------------------------------------------


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, DataParallel and DistributedDataParallel, which only pass their inputs on.

    Also the classifier inside a CrossEncoder of sentence-transformers, which hands it a dict and gives its logits.

    Raises:
        UnfollowedAttentionError: a traced or scripted module, whose operations cannot be seen.
        ModelStateError: parameters without values, on the meta device.
    """
    while True:
        held = getattr(model, "_orig_mod", None) or _scored_by(model)
        if isinstance(held, nn.Module):
            model = held
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise UnfollowedAttentionError(
            "the model is traced or scripted (torch.jit), so its attention cannot be seen; "
            "explain the module that it was made from"
        )
    modules = named_modules(model)
    weights = ((f"{modules[m]}.{name}", p) for m in modules for name, p in m._parameters.items() if p is not None)
    empty = next((name.removeprefix(".") for name, p in weights if p.is_meta), None)
    if empty is not None and not any(hasattr(m, "_hf_hook") for m in modules):
        raise ModelStateError(
            f"parameter {empty} is on the meta device, without values; load the model's weights first"
        )
    return model


def _scored_by(model: nn.Module) -> nn.Module | None:
    """What a Sequential calls its model, where there is nothing else around it."""
    named = getattr(model, "model", None) if isinstance(model, nn.Sequential) else None
    return next((m for m in inside(model) if m is named), None)


def named_modules(model: nn.Module) -> dict[nn.Module, str]:
    """Module → name, in torch's order; torch hands each up through all modules around it, which takes many times as long."""
    names, rest = dict[nn.Module, str](), [(model, "")]
    while rest:
        module, name = rest.pop()
        if module not in names:
            names[module] = name
            parts = reversed(module._modules.items())
            rest += [(part, f"{name}.{of_part}" if name else of_part) for of_part, part in parts if part is not None]
    return names


def inside(model: nn.Module) -> Iterator[nn.Module]:
    """The model, its only child, the only child of that, and so on."""
    while True:
        yield model
        children = list(model.children())
        if len(children) != 1:
            return
        model = children[0]


def signature(model: nn.Module) -> inspect.Signature:
    """How ``forward`` is called; of a wrapper that takes ``*args``, how the model inside is."""
    for module in inside(model):
        found = inspect.signature(module.forward)
        if all(p.kind is not p.VAR_POSITIONAL for p in found.parameters.values()):
            return found
    return inspect.signature(model.forward)


def configuration(model: nn.Module) -> Any:
    """``config`` of the model, or of the one inside; None where there is none."""
    return next((m.config for m in inside(model) if getattr(m, "config", None) is not None), None)


def called(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What the model answers, with the ``logits`` of the one module in it that says words, where its output leaves them out.

    A question answerer such as BLIP's returns its loss and embeddings, and only its decoder's output has the logits.
    """
    speaker = _speaker(model)
    if speaker is None:
        return model(**inputs)
    said: list[Any] = []
    with speaker.register_forward_hook(lambda module, given, output: said.append(output)):
        output = model(**inputs)
    logits = getattr(said[-1], "logits", None) if said else None
    leaves_out = is_dataclass(output) and isinstance(output, Mapping) and output.get("logits") is None
    if logits is None or not leaves_out:
        return output
    kind: type = type(output)
    return _with_logits(kind)(**output, logits=logits)


@cache
def _with_logits(kind: type) -> type:
    """A kind of output of transformers', with one part more; all that a target reads of it is there as ever."""
    return make_dataclass(kind.__name__, [("logits", Any, None)], bases=(kind,))


def _speaker(model: nn.Module) -> nn.Module | None:
    """The only part of a model without a head for words that has one."""
    if _head(model) is not None:
        return None
    speakers = [child for child in model.children() if _head(child) is not None]
    return speakers[0] if len(speakers) == 1 else None


def _head(model: nn.Module) -> nn.Module | None:
    """What gives the logits of words, by the name that transformers has for it."""
    try:
        return model.get_output_embeddings()  # type: ignore[operator]
    except (
        AttributeError,
        NotImplementedError,
    ):  # it is none of transformers' models, or one of several kinds of token
        return None
