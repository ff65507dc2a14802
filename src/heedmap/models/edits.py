"""An input that is changed a little, and the model asked again: what changes in its answers, and in the map of one of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedmap.common.printable import visible
from heedmap.engine.explain import explain
from heedmap.errors import InputError
from heedmap.models.predictions import Prediction, Predictions
from heedmap.outputs import get
from heedmap.targets import NextToken, TokenLabel

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.targets import AnyTarget
    from heedmap.types import AudioInput, BoxesInput, Given

Region = Sequence[int | float]
"""x1 y1 x2 y2 of a picture: whole numbers are pixels, numbers with a point shares."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What an edit does.

    Attributes:
        before, after: the explanations of one answer, of the input as it was and as it is.
        answers: name of an answer → its probability before and after; None: it was not among those that are told.
    """

    before: Explanation
    after: Explanation
    answers: Mapping[str, tuple[float | None, float | None]]

    @property
    def change(self) -> Explanation:
        """See :meth:`heedmap.Explanation.difference`."""
        return self.before.difference(self.after)


def reworded(text: str, old: str, new: str) -> str:
    """``text`` with each whole word ``old`` replaced by ``new``; by nothing where that is empty.

    Raises:
        InputError: there is no such word, or no text is left.

    Examples:
        >>> reworded("dog red ; cat blue ? cat", "blue", "green")
        'dog red ; cat green ? cat'
    """
    pattern = rf"(?<!\w){re.escape(old)}(?!\w)"
    if not old.strip() or not re.search(pattern, text):
        raise InputError(f"the text has no word {old!r}, so there is nothing to change; it is: {text}")
    changed = re.sub(pattern, lambda _: new, text)
    if not new:
        changed = re.sub(r" {2,}", " ", changed).strip()
    if not changed.strip():
        raise InputError("the edit leaves no text; leave at least one word")
    return changed


def painted(image: Image, region: Region) -> Image:
    """A copy of ``image`` with ``region`` painted over in the picture's mean colour, as occlusion paints.

    Raises:
        InputError: no region, or none of the picture.

    Examples:
        >>> from PIL import Image
        >>> painted(Image.new("RGB", (4, 4), "red"), (0.0, 0.0, 0.5, 0.5)).getpixel((0, 0))
        (255, 0, 0)
    """
    from PIL import ImageStat

    picture = image.convert("RGB")
    box = _pixels(region, picture.size)
    red, green, blue = (round(channel) for channel in ImageStat.Stat(picture).mean)
    picture = picture.copy()
    picture.paste((red, green, blue), box)
    return picture


def effect(
    subject: Model,
    first: Given,
    second: Given,
    answer: int = 0,
    target: AnyTarget = None,
    method: str = "generic",
    **options: object,
) -> Effect:
    """Ask a model before and after an edit, and explain the same answer both times.

    ``first`` and ``second`` are inputs of one sample, as it was and edited. ``answer`` is the number of one of the answers before
    the edit, which is explained, unless a target is given. Target, method and options are as for ``subject.explain``.

    Raises:
        InputError: nothing was changed; or the answer is at the place of a token, and the edit moves tokens.
    """
    if all(_same(first.get(role), second.get(role)) for role in {**first, **second}):
        raise InputError("the edit changes nothing; change a word of the text, or paint over a region of the picture")
    asked: Callable[..., Predictions] = subject.predict  # which sees to it that this is one sample
    before, after = asked(**first), asked(**second)
    return compared(
        subject, before, after, before[answer], target, first.get("boxes"), method, options, first.get("audio")
    )


def compared(
    subject: Model,
    before: Predictions,
    after: Predictions,
    choice: Prediction,
    target: AnyTarget,
    boxes: BoxesInput,
    method: str,
    options: Mapping[str, object],
    audio: AudioInput = None,
) -> Effect:
    """:func:`effect` of a model that was asked: ``choice`` is one of the answers ``before``; ``boxes``, ``audio``: as given."""
    if target is not None:
        choice = Prediction("", target)
    first, second = before.inputs_of(choice), after.inputs_of(choice)
    if "decoder_input_ids" in first:  # one answer, also where it would say another now
        second["decoder_input_ids"] = first["decoder_input_ids"]
    _check_place(choice.target, first, second)

    def explained(inputs: Mapping[str, object]) -> Explanation:
        made = explain(subject, inputs, target=choice.target, method=method, **options)
        return subject.label(made, inputs, boxes, audio)

    old, new = explained(first), explained(second)
    return Effect(old, new, _answers(before, after, choice, (old, new)))


def _answers(
    before: Predictions, after: Predictions, choice: Prediction, maps: Sequence[Explanation]
) -> dict[str, tuple[float | None, float | None]]:
    """The answer that is explained first; then all that are told before or after."""
    chosen: tuple[float | None, ...] = tuple(None if m.top is None else float(m.top.target[0]) for m in maps)
    told: dict[str, tuple[float | None, float | None]] = {_name(choice): (chosen[0], chosen[1])} if choice.label else {}
    listed = [{_key(p): p for p in answers if p.said is None} for answers in (before, after)]
    rest = [
        (_name(prediction), tuple(p[key].probability if key in p else None for p in listed))
        for key, prediction in {**listed[1], **listed[0]}.items()
        if key != _key(choice) or not choice.label
    ]
    for name, (old, new) in sorted(rest, key=lambda row: -max(p or 0.0 for p in row[1])):
        told[f"{name} (another)" if name in told else name] = (old, new)
    return told


def plain(label: str) -> str:
    """What an answer is called, without its number in a list and without the query of an object."""
    return re.sub(r"^\d+: |, object query \d+$", "", label)


def _name(prediction: Prediction) -> str:
    return visible(prediction.label).strip() or "␣"


def _key(prediction: Prediction) -> str:
    """The same for the same answer: of objects and tokens not their number in the list."""
    return prediction.label if prediction.target is None else repr(prediction.target)


def _same(first: object, second: object) -> bool:
    return first is second or (isinstance(first, str) and first == second)


def _check_place(target: AnyTarget, first: Mapping[str, object], second: Mapping[str, object]) -> None:
    placed = isinstance(target, TokenLabel) or (isinstance(target, NextToken) and target.position >= 0)
    ids = get(first, "input_ids"), get(second, "input_ids")
    if not placed or "decoder_input_ids" in first or ids[0] is None or ids[1] is None:
        return
    counts = ids[0].shape[1], ids[1].shape[1]
    if counts[0] != counts[1]:
        raise InputError(
            f"the text had {counts[0]} tokens and has {counts[1]} after the edit, and what is explained is said at a "
            "token's place: change a word for one of as many tokens"
        )


def _pixels(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """``region`` in pixels, at least one wide and high."""
    told = ", ".join(f"{edge:g}" for edge in region)
    if len(region) != 4:
        raise InputError(f"the region is ({told}); expected x1, y1, x2, y2: its left, upper, right and lower edge")
    shares = any(isinstance(edge, float) for edge in region)
    ends = (1.0, 1.0) if shares else size
    x1, y1, x2, y2 = region
    if not (0 <= x1 < x2 <= ends[0] and 0 <= y1 < y2 <= ends[1]):
        known = "shares from 0 to 1" if shares else f"pixels up to {size[0]}, {size[1]}"
        raise InputError(f"the region ({told}) is not within the picture; expected x1 < x2 and y1 < y2, {known}")
    wide, high = size if shares else (1, 1)
    left, top = min(int(x1 * wide), size[0] - 1), min(int(y1 * high), size[1] - 1)
    return left, top, max(left + 1, round(x2 * wide)), max(top + 1, round(y2 * high))
