"""What becomes of one class: explained and held against the oracle, refused, wrong, or crashed."""

from __future__ import annotations

import re
import time
import traceback
import warnings

import torch
from torch import Tensor

import heedmap
from heedmap.errors import HeedmapError

from . import tables as T
from .build import Built, NotBuilt
from .checks import LOOSE, apart, attends, distances, doubled, explained
from .inputs import plain, primary
from .libraries import LIBRARIES
from .processes import Row, Subject
from .truth import Expected, NoOracle, eager, expected

EXACT, ROUNDING = 1e-5, 5e-5
"""Agreement in float64, of what misses it in float32; how far rounding may move a model's own answer."""
DIFFERENT = {
    "eager": "fused and eager attention differ",
    "batch": "a batch differs from its samples",
    "padding": "padding changes the map",
}


APART = "tokens also mix in what is no softmax attention"
"""Of a flow's notes, that of what moves or mixes tokens beside attention."""
OUT_OF_MEMORY = "can't allocate memory"
EXPLAINED = ("agrees", "fused = eager", "explained")
_CHECKED: set[tuple[str, ...]] = set()
"""Libraries, families and checks that were made of one of their classes, in this process."""


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
        row["softmax"] = attends(model.model, model.inputs)
        row.update(outcome(model, subject))
        if row["verdict"] not in EXPLAINED or first(subject, "auto"):
            row.update(automatic(model))
        _CHECKED.update((*subject[:2], name) for name in DIFFERENT if isinstance(row.get(name), float))
        if row.get("auto"):
            _CHECKED.add((*subject[:2], "auto"))
    if row["verdict"] == "CRASH" and OUT_OF_MEMORY in f"{row.get('error')} {row.get('auto_error')}":
        row |= {"verdict": "timeout", "cause": "over the memory of one class"}
    return {**row, "seconds": round(time.monotonic() - start, 2)}


def first(subject: Subject, check: str) -> bool:
    """Whether no class of the family was checked so."""
    return (*subject[:2], check) not in _CHECKED


def automatic(subject: Built) -> Row:
    """Which method ``auto`` takes; what is wrong with what it gives."""
    torch.manual_seed(3)
    try:
        found = heedmap.explain(subject.model, subject.inputs, target=subject.target, method="auto")
    except HeedmapError as error:
        return {"auto": None, "auto_error": f"{type(error).__name__}: {str(error)[:400]}"}
    except Exception as error:
        return {
            "auto": None,
            "auto_error": f"{type(error).__name__}: {error!s:.400}",
            "verdict": "CRASH",
            "cause": "auto",
        }
    finite = all(bool(s.relevance.isfinite().all()) for s in found.segments.values())
    return {"auto": found.method} if finite else {"auto": None, "auto_error": "numbers that are not finite"}


def outcome(subject: Built, named: Subject) -> Row:
    """The verdict on a model that runs; what takes long is checked once in a family."""
    before = primary(plain(subject.model, subject.inputs, subject.target))
    still = torch.equal(before, primary(plain(subject.model, subject.inputs, subject.target)))
    try:
        found = explained(subject, subject.inputs, subject.target)
    except HeedmapError as error:
        words = str(error)
        return {"verdict": "refused", "cause": cause(words), "error": f"{type(error).__name__}: {words[:400]}"}
    except Exception as error:
        return {"verdict": "CRASH", "cause": type(error).__name__, "error": str(error)[:400], "frames": frames(error)}
    if still and not torch.equal(before, primary(plain(subject.model, subject.inputs, subject.target))):
        return {"verdict": "WRONG", "cause": "the model answers otherwise than before"}
    row: Row = {"part": part(found), "notes": list(found.flow.notes), **held(subject, found)}
    names = [name for name in DIFFERENT if name == "eager" or first(named, name)]
    return checked(subject, {**row, **(distances(subject, found, names) if still else {"random": True})})


def part(found: heedmap.Explanation) -> str:
    """Whether the map is of the whole model, or of its language part."""
    return "language" if any("this map stops at the tokens" in note for note in found.flow.notes) else "whole"


def checked(subject: Built, row: Row) -> Row:
    """The line, its verdict by the checks too."""
    made = {name: row[name] for name in ("distance", *DIFFERENT) if isinstance(row.get(name), float)}
    differing = [DIFFERENT[name] for name in DIFFERENT if made.get(name, 0) > LOOSE]
    if differing:
        row = {**row, "verdict": "WRONG", "cause": differing[0]}
    if row["verdict"] == "WRONG" and {"distance", "eager"} & made.keys() and by_rounding(subject) > ROUNDING:
        return {**row, "verdict": "explained", "cause": "rounding moves the answer itself"}
    if row["verdict"] == "explained" and "eager" in made:
        return {**row, "verdict": "fused = eager"}
    return row


def by_rounding(subject: Built) -> float:
    """How far the same model's answer under eager attention is: of a model that rounding does not move, some 1e-6."""
    one, other = (primary(plain(m, subject.inputs, subject.target)) for m in (subject.model, eager(subject.model)))
    return apart(one, other)


# -- the oracle ---------------------------------------------------------------------------------------------------------


def held(subject: Built, found: heedmap.Explanation) -> Row:
    """Agreement with the oracle, in float32 or, where that misses, in float64."""
    try:
        stops = part(found) == "language"
        distance = against(found, expectation(subject, stops))
        if distance > LOOSE:
            exact = doubled(subject)
            distance = against(explained(exact, exact.inputs, exact.target), expectation(exact, stops))
            return {"verdict": "agrees" if distance <= EXACT else "WRONG", "cause": "oracle", "distance": distance}
        return {"verdict": "agrees", "cause": "oracle", "distance": distance}
    except NoOracle as error:
        return {"verdict": "explained", "cause": str(error)}
    except Missed as error:
        return {"verdict": "WRONG", "cause": str(error)}
    except Exception as error:
        return {"verdict": "explained", "cause": f"the oracle fails: {type(error).__name__} {short(str(error))}"}


def expectation(subject: Built, stops: bool = False) -> list[Expected]:
    """What the oracle says, where eager attention is the same function."""
    model, inputs, wanted = subject.model, subject.inputs, subject.target
    mine, other = primary(plain(model, inputs, wanted)), primary(plain(eager(model), inputs, wanted))
    if not torch.equal(mine, primary(plain(model, inputs, wanted, seed=4))):
        raise NoOracle("the model draws at random")
    if apart(mine, other) > 1e-3:
        raise NoOracle("under eager attention the model is another function")
    return expected(model, inputs, wanted, stops=stops)


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
    if wanted.heads and not {a.heads for a in of} <= wanted.heads and any(APART in note for note in found.flow.notes):
        raise NoOracle("heads of one attention hear other tokens than its other heads")
    asked = {a.source for a in of if a.stream == stream.name} - {
        stream.name
    }  # of what these took in no map is returned
    rows = {stream.name: wanted.own} | dict.fromkeys(asked, wanted.asked)
    pairs = [(s, rows.get(s.stream)) for s in found.segments.values()]
    return [apart(s.relevance, placed(s, row)) for s, row in pairs if row is not None]


def placed(segment: heedmap.Segment, row: Tensor) -> Tensor:
    """The row at the segment's positions; 0 where the model did not take a token in."""
    places = segment.positions
    return torch.where(places < 0, 0, row.gather(1, places.clamp(min=0)))


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
