"""What a person changes of an input on the page."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from heedmap.errors import InputError
from heedmap.models.edits import painted, reworded
from heedmap.web.form_inputs import ReceivedInputs
from heedmap.web.uploads import Limits


@dataclass(frozen=True)
class EditForm:
    """As it comes from the page.

    Attributes:
        old, new: a word of the text, and what it becomes; ``new`` empty: it is taken out.
        region: left, upper, right and lower edge of what is painted over, in percent of the picture.
    """

    old: str = ""
    new: str = ""
    region: str = ""

    def of(self, received: ReceivedInputs, limits: Limits) -> ReceivedInputs:
        """The input, edited.

        Raises:
            InputError: nothing is edited, or what is not there.
        """
        old, new = limits.text(self.old) or "", limits.text(self.new) or ""
        if not old.strip() and not self.region.strip():
            raise InputError("nothing is changed; write a word of the text, or a region of the picture to paint over")
        if old.strip():
            if received.text is None:
                raise InputError(f"there is no text in which {old!r} could be changed; give a text first")
            received = replace(received, text=_reworded(received.text, old.strip(), new.strip()))
        if not self.region.strip():
            return received
        if received.image is None:
            raise InputError("the model sees no picture that could be painted over; change a word of the text")
        image = painted(received.image, region(self.region))
        return replace(received, image=image, scene=image)


def region(text: str) -> tuple[float, ...]:
    """Four percentages as shares; InputError where they are none."""
    numbers = re.split(r"[\s,;]+", text.strip())
    if len(numbers) != 4 or not all(re.fullmatch(r"\d{1,3}(\.\d{1,6})?", number, re.ASCII) for number in numbers):
        raise InputError(
            f"the region is {text[:60]!r}; expected four percentages: its left, upper, right and lower edge, such as "
            "0 0 50 50 for the upper left quarter"
        )
    return tuple(float(number) / 100 for number in numbers)


def _reworded(text: str | tuple[str, str], old: str, new: str) -> str | tuple[str, str]:
    """Of a pair in whichever of the two texts has the word; an InputError of the first where none has."""
    if isinstance(text, str):
        return reworded(text, old, new)
    found = [re.search(rf"(?<!\w){re.escape(old)}(?!\w)", part) is not None for part in text]
    if not any(found):
        return reworded(text[0], old, new), text[1]
    first, second = (reworded(part, old, new) if has else part for part, has in zip(text, found, strict=True))
    return first, second
