"""Where in the model's source an attention is called, for messages; and where NaN first appears in the model's own pass."""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from heedmap.attention.attention import Attention, Place
from heedmap.errors import AttentionError, GradientError

_OWN = str(Path(__file__).parents[1])
_BETWEEN = (_OWN, str(Path(torch.__file__).parent))
"""Folders of what lies between the model's source and the recorder."""
_FIRST = str(Path(__file__).with_name("forward.py"))
"""Where the model is called."""


def here() -> Place | None:
    """The place of the call that is being recorded; None where no frame of a model is found."""
    found: FrameType | None = None
    methods: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _FIRST:
        code = frame.f_code
        is_own, is_between = _lies(code.co_filename)
        if not is_own and code.co_varnames[:1] == ("self",):
            methods.append(frame)
        if found is None and not is_between:
            found = frame
        frame = frame.f_back
    innermost, outermost = (_of_module(frames) for frames in (methods, reversed(methods)))
    found = found if frame is not None and found is not None else innermost and innermost[0]
    if found is None:
        return None
    inner, outer = (None if end is None else weakref.ref(end[1]) for end in (innermost, outermost))
    return Place(found.f_code.co_filename, found.f_lineno, found.f_code.co_name, inner, outer)


@cache
def _lies(file: str) -> tuple[bool, bool]:
    """Whether a file is one of heedmap's, and whether it is between the model's source and the recorder."""
    return file.startswith(_OWN), file.startswith(_BETWEEN)


def _of_module(frames: Iterable[FrameType]) -> tuple[FrameType, nn.Module] | None:
    """The first frame that is a module's own, and the module."""
    owners = ((frame, frame.f_locals.get("self")) for frame in frames)
    return next(((frame, owner) for frame, owner in owners if isinstance(owner, nn.Module)), None)


@contextmanager
def told(attentions: Sequence[Attention]) -> Iterator[None]:
    """A refusal names the place of each attention that it speaks of; where the model's own pass is not finite, it says that.

    Raises:
        GradientError: in place of a refusal, where NaN or infinity in the model's own pass is the cause.
    """
    try:
        yield
    except (AttentionError, GradientError) as error:
        cause = not_finite(attentions)
        if cause:
            raise GradientError(f"the model's own forward pass is not finite: {cause}") from error
        numbers = sorted({int(n) for n in re.findall(r"\battention (\d+)", str(error))})
        places = [f"attention {n} is called at {attentions[n].place}" for n in numbers if n < len(attentions)]
        if places:
            error.args = ("; ".join([str(error), *places]),)
        raise


def not_finite(attentions: Sequence[Attention]) -> str:
    """Where NaN or infinity first appears among what attentions read and make, and what to do; empty where it does not."""
    for attention in attentions:
        for name, tensor in (("queries", attention.query), ("keys", attention.key), ("values", attention.value)):
            if fault := _fault(tensor):
                return (
                    f"the {name} of attention {attention.index}, called at {attention.place}, hold {fault} before it "
                    "has done anything; look for it in the input, the weights, or the layers before (half precision? a mask?)"
                )
        for name, tensor in (("softmax", attention.probs), ("output", attention.out)):
            if fault := _fault(tensor):
                return (
                    f"the {name} of attention {attention.index}, called at {attention.place}, holds {fault}, though its "
                    "values hold none; look at its scores, its mask (a query that may look nowhere? the least number of another "
                    "dtype?) and its dtype"
                )
    return ""


def _fault(tensor: Tensor | None) -> str:
    """What a tensor holds that is not finite; empty: nothing."""
    if tensor is None or bool(torch.isfinite(tensor.detach()).all()):
        return ""
    return "NaN" if bool(torch.isnan(tensor.detach()).any()) else "infinity"
