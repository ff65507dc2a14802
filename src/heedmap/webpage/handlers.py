"""What the page does when something is clicked, without knowing the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from heedmap.errors import HeedmapError, InputError, UnknownNameError
from heedmap.webpage.frames import MOST, with_frames
from heedmap.webpage.limits import Limits
from heedmap.webpage.material import sample
from heedmap.webpage.models import Models, Tell, check_time
from heedmap.webpage.predictions import Choice, Predictions, predictions
from heedmap.webpage.results import Result

if TYPE_CHECKING:
    from heedmap.explanation import Explanation
    from heedmap.geometry import Picture

LOG = logging.getLogger(__name__)
UNEXPECTED = "something went wrong inside heedmap; what it was stands in the server's log"

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model was asked and what it answered: one person's own, until the next question.

    Attributes:
        model: its name.
        given: ``text``, ``image``, ``boxes``, as for ``subject.explain``.
        predictions: its answers.
        picture: to lay maps on; None: there is none.
    """

    model: str
    given: Mapping[str, Any]
    predictions: Predictions
    picture: Picture | None

    def choice(self, number: int | None) -> Choice:
        """The answer of this number, from 0; InputError where there is none."""
        choices = self.predictions.choices
        if number is None or not 0 <= number < len(choices):
            raise InputError("choose one of the model's answers first; then it can be explained")
        return choices[number]


@dataclass(frozen=True)
class Handlers:
    """What can be done, each by one function; all raise a HeedmapError that says what is wrong.

    Attributes:
        models: that can be asked for.
        limits: of what is given.
    """

    models: Models
    limits: Limits = field(default_factory=Limits)

    def predict(
        self, model: str, number: int | None, text: str | None, path: str | None, tell: Tell = lambda _: None
    ) -> Asked:
        """Ask a model.

        Args:
            model: its name.
            number: of the zoo's sample whose boxes are given; the text and the picture are those on the page.
            text: what it reads.
            path: of the file that was uploaded.
            tell: is called with what is being done.
        """
        text, image = self.limits.text(text), self.limits.picture(path)
        material = None if number is None else sample(model, number)
        boxes = None if material is None else material.boxes
        if boxes is not None and material is not None:
            image = material.picture  # the boxes are of this picture; the model does not see it

        def work(subject: Any) -> Asked:
            tell("asking the model")
            takes = subject.kind_row.takes
            _check_given(subject, boxes)
            given = {"text": text, "image": image, "boxes": boxes}
            kept = {role: value for role, value in given.items() if role in takes}
            found = predictions(subject, **kept)
            return Asked(model, kept, found, _picture(subject, image, boxes))

        return self.models.use(model, work, tell)

    def explain(self, asked: Asked | None, number: int | None, method: str, tell: Tell = lambda _: None) -> Result:
        """Explain one of the answers by a method."""
        return self._explained(asked, number, [method], tell)

    def compare(
        self, asked: Asked | None, number: int | None, first: str, second: str, tell: Tell = lambda _: None
    ) -> Result:
        """Explain one of the answers by two methods."""
        return self._explained(asked, number, [first, second], tell)

    def _explained(self, asked: Asked | None, number: int | None, methods: Sequence[str], tell: Tell) -> Result:
        if asked is None:
            raise InputError("ask the model first; then its answers can be explained")
        choice = asked.choice(number)
        _check_methods(methods)

        def work(subject: Any) -> tuple[Explanation, ...]:
            return tuple(_explanation(subject, asked, choice, method, tell) for method in methods)

        found = self.models.use(asked.model, work, tell)
        return Result(found, None if asked.picture is None else with_frames(asked.picture, [choice]))


def attempt(work: Callable[[], Found]) -> tuple[Found | None, str]:
    """What ``work`` gives and ``""``; or None and a message. Nothing goes past this but the end of the process."""
    try:
        return work(), ""
    except HeedmapError as error:
        return None, str(error)
    except Exception:
        LOG.exception("a request failed")
        return None, UNEXPECTED


def _explanation(subject: Any, asked: Asked, choice: Choice, method: str, tell: Tell) -> Explanation:
    from heedmap.engine import explain

    check_time()
    tell(f"explaining by {method}")
    inputs = asked.predictions.inputs_of(choice)
    found = explain(subject, inputs, target=choice.target, method=method)
    boxes = asked.given.get("boxes")
    return found if boxes is None else subject.finish(found, inputs, boxes)


def _check_given(subject: Any, boxes: Any) -> None:
    needs = subject.kind_row.needs
    if "boxes" in needs and boxes is None:
        raise InputError(f"{subject.name} reads boxes of a picture: pick one of its samples; its text can be changed")
    if "audio" in needs:
        raise InputError(f"{subject.name} listens to sound, which this page does not take: heedmap explain … --audio")


def _check_methods(methods: Sequence[str]) -> None:
    from heedmap.methods import METHODS

    for method in methods:
        if method not in METHODS:
            raise UnknownNameError(f"no method {method!r}; known methods: {', '.join(METHODS)}")


def _picture(subject: Any, image: Any, boxes: Mapping[str, Any] | None) -> Picture | None:
    """Small enough to be kept; None where there is none, or the model cuts it to pieces."""
    if boxes is None and (image is None or "image" not in subject.kind_row.takes):
        return None
    try:
        return subject.picture(image, boxes).fitted(1, MOST)
    except InputError:
        return None
