"""What becomes of one class: explained and held against the oracle, refused, wrong, or crashed."""

from __future__ import annotations

import copy
import re
import time
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import heedmap
from heedmap.errors import HeedmapError

from . import tables as T
from .build import Built, NotBuilt
from .inputs import Inputs, plain, primary, target
from .libraries import LIBRARIES
from .processes import Row, Subject
from .truth import Expected, NoOracle, eager, expected

LOOSE, EXACT, ROUNDING = 1e-4, 1e-5, 5e-5
"""Agreement in float32; what misses it is computed once more in float64, and held to the second."""


class Missed(Exception):
    """Fewer attentions were recorded than the model has."""


def judged(subject: Subject) -> Row:
    """The line of one class."""
    start, row = time.monotonic(), subject.row()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = LIBRARIES[subject.library].built(subject.family, subject.name)
        except NotBuilt as error:
            return {**row, "verdict": "not built", "cause": short(str(error))}
        row["inputs"] = {k: list(v.shape) for k, v in model.inputs.items()}
        row.update(outcome(model))
    return {**row, "seconds": round(time.monotonic() - start, 2)}


def outcome(subject: Built) -> Row:
    """The verdict on a model that runs."""
    before = primary(plain(subject.model, subject.inputs))
    still = torch.equal(before, primary(plain(subject.model, subject.inputs)))
    torch.manual_seed(3)
    try:
        found = heedmap.explain(subject.model, subject.inputs, target=target)
    except HeedmapError as error:
        return {
            "verdict": "refused",
            "cause": cause(str(error)),
            "error": f"{type(error).__name__}: {str(error)[:400]}",
        }
    except Exception as error:
        return {"verdict": "CRASH", "cause": type(error).__name__, "error": str(error)[:400], "frames": frames(error)}
    if still and not torch.equal(before, primary(plain(subject.model, subject.inputs))):
        return {"verdict": "WRONG", "cause": "the model answers otherwise than before"}
    checked = {**held(subject, found), "eager": same_under_eager(subject, found)}
    if isinstance(checked["eager"], float) and checked["eager"] > LOOSE:
        checked = {**checked, "verdict": "WRONG", "cause": "fused and eager attention differ"}
    elif checked["verdict"] == "explained" and isinstance(checked["eager"], float):
        checked["verdict"] = "fused = eager"
    if checked["verdict"] == "WRONG" and "distance" in checked and by_rounding(subject) > ROUNDING:
        checked.update(verdict="explained", cause="rounding moves the answer itself")
    return checked if still else {**checked, "random": True}


def by_rounding(subject: Built) -> float:
    """How far the same model's answer under eager attention is: of a model that rounding does not move, some 1e-6."""
    one, other = (primary(plain(model, subject.inputs)) for model in (subject.model, eager(subject.model)))
    return apart(one, other)


# -- the oracle ---------------------------------------------------------------------------------------------------------


def held(subject: Built, found: heedmap.Explanation) -> Row:
    """Agreement with the oracle, in float32 or, where that misses, in float64."""
    try:
        stops = any("this map stops at the tokens" in note for note in found.flow.notes)
        distance = against(found, expectation(subject.model, subject.inputs, stops))
        if distance > LOOSE:
            exact = Built(copy.deepcopy(subject.model).double(), doubled(subject.inputs))
            again = heedmap.explain(exact.model, exact.inputs, target=target)
            distance = against(again, expectation(exact.model, exact.inputs, stops))
            return {"verdict": "agrees" if distance <= EXACT else "WRONG", "cause": "oracle", "distance": distance}
        return {"verdict": "agrees", "cause": "oracle", "distance": distance}
    except NoOracle as error:
        return {"verdict": "explained", "cause": str(error)}
    except Missed as error:
        return {"verdict": "WRONG", "cause": str(error)}
    except Exception as error:
        return {"verdict": "explained", "cause": f"the oracle fails: {type(error).__name__} {short(str(error))}"}


def expectation(model: nn.Module, inputs: Inputs, stops: bool = False) -> list[Expected]:
    """What the oracle says, where eager attention is the same function."""
    mine, other = primary(plain(model, inputs)), primary(plain(eager(model), inputs))
    if not torch.equal(mine, primary(plain(model, inputs, seed=4))):
        raise NoOracle("the model draws at random")
    if apart(mine, other) > 1e-3:
        raise NoOracle("under eager attention the model is another function")
    return expected(model, inputs, target, stops=stops)


def against(found: heedmap.Explanation, wanted: list[Expected]) -> float:
    """The largest distance of a segment from what it should be."""
    distances = [d for one in wanted for d in of_stream(found, one, len(wanted) > 1)]
    if not distances:
        raise NoOracle("no segment lies in a stream whose maps are returned")
    return max(distances)


def of_stream(found: heedmap.Explanation, wanted: Expected, several: bool) -> list[float]:
    """Distances of the segments of the stream that this group of maps is of."""
    streams = [s for s in found.flow.streams if s.rows is not None and s.tokens == wanted.own.shape[1]]
    if len(streams) != 1:
        raise NoOracle("no stream, or more than one, has as many tokens as the returned maps")
    (stream,) = streams
    of = [a for a in found.flow.attentions if a.stream == stream.name or (wanted.asked is not None and not several)]
    if len(of) > wanted.maps or (wanted.asked is None and any(a.source != stream.name for a in of)):
        raise NoOracle(f"{wanted.maps} of {len(of)} maps are returned")
    if len(of) < wanted.maps:
        raise Missed(f"{wanted.maps} maps are returned, {len(of)} recorded")
    pairs = [(s, wanted.own if s.stream == stream.name else wanted.asked) for s in found.segments.values()]
    return [apart(s.relevance, placed(s, row)) for s, row in pairs if row is not None]


def placed(segment: heedmap.Segment, row: Tensor) -> Tensor:
    """The row at the segment's positions; 0 where the model did not take a token in."""
    places = segment.positions
    return torch.where(places < 0, 0, row.gather(1, places.clamp(min=0)))


def same_under_eager(subject: Built, found: heedmap.Explanation) -> float | str:
    """Distance of the explanation from that under eager attention; or why there is none."""
    if getattr(subject.model.config, "_attn_implementation", "eager") in ("eager", None):
        return "eager is the default"
    other = eager(subject.model)
    try:
        if apart(primary(plain(subject.model, subject.inputs)), primary(plain(other, subject.inputs))) > 1e-3:
            return "another function"
        torch.manual_seed(3)
        again = heedmap.explain(other, subject.inputs, target=target)
        if (distance := between(found, again)) <= LOOSE:
            return distance
        model, inputs = copy.deepcopy(subject.model).double(), doubled(subject.inputs)
        return between(
            heedmap.explain(model, inputs, target=target), heedmap.explain(eager(model), inputs, target=target)
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def between(one: heedmap.Explanation, other: heedmap.Explanation) -> float:
    """The largest difference of two explanations' segments; infinite where they have other segments."""
    if one.segments.keys() != other.segments.keys():
        return float("inf")
    return max(apart(one[name], other[name]) for name in one.segments)


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference over the larger maximum."""
    a, b = a.detach().double(), b.detach().double()
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / max(float(a.abs().max()), float(b.abs().max()), 1e-9))


def doubled(inputs: Mapping[str, Any]) -> Inputs:
    """The inputs with floats in double precision."""
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


# -- words --------------------------------------------------------------------------------------------------------------


def cause(words: str) -> str:
    """Of a refusal, by its message."""
    return next((name for name, part in T.CAUSES if part in words), short(words))


def short(words: str) -> str:
    """The first words of a message, without numbers: what alike errors share."""
    return " ".join(re.sub(r"[\d'\"\[\](),]+", " ", words).split()[:9])


def frames(error: BaseException) -> list[str]:
    """Where an error came from: the last lines of heedmap's own, and the last of all."""
    lines = traceback.extract_tb(error.__traceback__)
    own = [f"{f.filename.split('/src/')[-1]}:{f.lineno} {f.name}" for f in lines if "/heedmap/" in f.filename]
    return [*own[-3:], f"{lines[-1].filename.split('site-packages/')[-1]}:{lines[-1].lineno} {lines[-1].name}"]
