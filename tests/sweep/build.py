"""A tiny model of any class of transformers, and inputs that it runs on, found by trying."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import tables as T
from .exceptions import CONFIGS
from .inputs import Inputs, candidates, plain, target


class NotBuilt(Exception):
    """The class could not be built small, or no inputs were found that it runs on."""


@dataclass
class Built:
    """A small model with inputs that it runs on, and the number that is explained."""

    model: nn.Module
    inputs: Inputs
    target: Callable[[Any], Tensor] = target


def families() -> dict[str, list[str]]:
    """Family → its classes, by transformers' own tables; a class of several families is that one's whose name it has."""
    from transformers.models.auto import configuration_auto, modeling_auto

    of_class: dict[str, set[str]] = {}
    for table in sorted(n for n in dir(modeling_auto) if n.startswith("MODEL_") and n.endswith("_MAPPING_NAMES")):
        for family, names in getattr(modeling_auto, table).items():
            for name in [names] if isinstance(names, str) else names:
                of_class.setdefault(name, set()).add(family)
    found: dict[str, list[str]] = {name: [] for name in configuration_auto.CONFIG_MAPPING_NAMES}
    for name, known in sorted(of_class.items()):
        family = max(sorted(known), key=lambda f: alike(f.replace("_", ""), name.lower()))
        if family in found:
            found[family].append(name)
    return {family: names for family, names in found.items() if names}


def alike(one: str, other: str) -> int:
    """How many first letters two names share."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def built(family: str, name: str, seconds: float = 4) -> Built:
    """The class, tiny, with inputs; the first recipe whose plain forward pass runs, within about ``seconds`` of processor time."""
    import transformers

    kind = getattr(transformers, name, None)
    if kind is None:
        raise NotBuilt("its libraries are not installed")
    reasons, end = [], time.process_time() + seconds
    for recipe in T.RECIPES:
        try:
            model = recipe_model(family, kind, recipe)
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {error}")
            continue
        for inputs in candidates(model, family, hurried=lambda: time.process_time() > end):
            try:
                plain(model, inputs)
                return Built(model, inputs)
            except Exception as error:
                reasons.append(f"{type(error).__name__}: {error}")
    raise NotBuilt(reasons[0] if reasons else "no inputs by the names of its forward pass")


def recipe_model(family: str, kind: Any, recipe: Mapping[str, Any]) -> nn.Module:
    """The class by one recipe, and by what is known of it or its family."""
    known = CONFIGS.get(kind.__name__, CONFIGS.get(family, {}))
    return tiny(kind, small(kind.config_class, {**T.SMALL, **T.PICTURE, **recipe}, known))


def small(kind: Any, table: Mapping[str, Any], own: Mapping[str, Any] | None = None, given: Any = None) -> Any:
    """A config of this kind, its attributes replaced by name.

    ``own``: values of its attributes, nested as they are; ``given``: the config as another one holds it.
    """
    default, own = vars(kind()), own or {}
    base = default if given is None else vars(given)
    values = {k: v for k, v in own.items() if not isinstance(v, dict) or not hasattr(base.get(k), "to_dict")}
    missing = {**T.MISSING, **table.get("missing", {})}
    for name in (spec.name for spec in dataclasses.fields(kind) if spec.name not in values):
        value = base.get(name)
        if hasattr(value, "to_dict"):
            values[name] = small_part(value, table, own.get(name, {}))
        elif name in own:
            values[name] = own[name]
        elif value is None and name in missing:
            values[name] = missing[name]
        elif (replaced := smaller(name, value, table)) != default.get(name):
            values[name.removeprefix("_") if name.startswith("_out_") else name] = replaced
    if "out_indices" in own:
        values["out_features"], values["out_indices"] = None, own["out_indices"]
    if table.get("kinds") and "layer_types" not in own:
        values.update(layers_of_each_kind(kind, base))
    return with_small_tokens(made(kind, values), own, table)


def layers_of_each_kind(kind: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    """One layer of each kind that the model has, where its configuration lists them."""
    types = base.get("layer_types")
    if "layer_types" not in {spec.name for spec in dataclasses.fields(kind)} or not types:
        return {}
    several = list(dict.fromkeys(types))
    several = several * 2 if len(several) == 1 else several
    return {"layer_types": several, "num_hidden_layers": len(several)}


def made(kind: Any, values: dict[str, Any]) -> Any:
    """The config; of a backbone that has lost the layers it should give, as many layers as it should give."""
    try:
        return kind(**values)
    except ValueError:
        features = values.get("out_features") or ()
        if not features or "num_hidden_layers" not in values:
            raise
        count = len(features)
        return kind(
            **{**values, "out_features": None, "out_indices": [*range(1, count + 1)], "num_hidden_layers": count}
        )


def small_part(given: Any, table: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """A config within another: of its own kind, or what stands instead of it."""
    from transformers import CONFIG_MAPPING

    kind, values = T.INSTEAD.get(given.model_type, (None, {}))
    kind = own.get("model_type", kind)
    if kind:
        return small(CONFIG_MAPPING[kind], {**table, **values}, {k: v for k, v in own.items() if k != "model_type"})
    return small(type(given), table, own, given)


def with_small_tokens(config: Any, own: Mapping[str, Any], table: Mapping[str, Any]) -> Any:
    """The config with ids of special tokens that its vocabulary has, and the sections of its positions."""
    held = vars(config)
    for number, key in enumerate(sorted(k for k in held if k.endswith(("_token_id", "_token_index")) and k not in own)):
        if isinstance(held[key], int) and not 0 <= held[key] < T.FIRST_SPECIAL:
            setattr(config, key, T.FIRST_SPECIAL + number % (T.VOCABULARY - T.FIRST_SPECIAL))
    if "rope_type" in (held.get("rope_parameters") or {}):
        config.rope_parameters.update(table.get("rope", T.ROPE))
    return config


def smaller(name: str, value: Any, table: Mapping[str, Any]) -> Any:
    """``value`` of the attribute ``name``, as the table has it; lists keep their length."""
    size = table.get(name)
    if name in T.EXACT and name in table:
        return size
    if name.endswith(("_token_id", "_token_index")) or size is None or value is None or isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, int) for v in value):
        if size == "doubling":
            return [16 * 2**i for i in range(len(value))]
        return [min(v, size) if name.endswith("_channels") else size for v in value]
    return size if isinstance(value, int) and isinstance(size, int) and value > size else value


def tiny(kind: Any, config: Any) -> nn.Module:
    """The model, random weights, where it is small."""
    with torch.device("meta"):
        count = sum(p.numel() for p in kind(config).parameters())
    if count > T.LARGEST:
        raise NotBuilt(f"too large: {count} parameters")
    torch.manual_seed(7)
    model = kind(config)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    return enlivened(model)


def enlivened(model: nn.Module) -> nn.Module:
    """Weights so large that attention is not uniform and tokens matter; gates and norms that are all but closed are open."""
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or name.endswith("bias"):
            continue
        if parameter.dim() < 2:
            if float(parameter.detach().abs().max()) < 0.1:
                nn.init.normal_(parameter, 1, 0.3)
        elif (spread := float(parameter.detach().std(correction=0))) > 0:
            parameter.data.mul_(1.3 * parameter[0].numel() ** -0.5 / spread)
        else:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()
