"""What the page does when something is clicked, without knowing the page: what can be done, and which of one person's requests,
that run side by side, is still waited for."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias, TypeVar

from heedmap.common.printable import PAGE, said_for, visible
from heedmap.common.progress import Progress
from heedmap.data.picture import Picture
from heedmap.engine.explain import explain, inspect
from heedmap.errors import HeedmapError, InputError
from heedmap.explanation import Explanation
from heedmap.models.answer import explain_answer
from heedmap.models.edits import Effect, compared, plain
from heedmap.models.model import Model, frames_heard
from heedmap.models.predictions import Prediction, Predictions
from heedmap.render.overlay import MOST_SIDE
from heedmap.render.sound import Sound
from heedmap.render.views import Beside
from heedmap.types import OneBoxes
from heedmap.web.form_inputs import (
    AnswersTable,
    EditForm,
    FormValues,
    ReceivedInputs,
    TableRow,
    Takes,
    read,
    rows_of,
    takes,
)
from heedmap.web.method_options import MOST_TOKENS, Start, Way, check_starts, from_token, within
from heedmap.web.models import Models, Tell, go_on, untold, wanted_while
from heedmap.web.parts import framed, objects
from heedmap.web.results import Column, Columns, Result, both_odds, same_answer
from heedmap.web.uploads import Limits

LOG = logging.getLogger(__name__)
CHANGED = (
    "The same answer is explained before and after. The first two maps of one part of the input share one scale; the change has "
    "its own, around 0: red is relevance gained, blue lost."
)
TWO_MODELS = "Each map has a scale of its own: numbers of two models are not of one kind."
UNEXPECTED = "something went wrong inside heedmap; what it was stands in the server's log"

Found = TypeVar("Found")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, eq=False)
class Exchange:
    """What a model was asked and what it answered: one person's own, until the next question. Pictures are kept small.

    Attributes:
        model: its name.
        boxes: that were given, as for ``subject.explain``; None: none.
        predictions: its answers.
        picture: to lay maps on; None: there is none.
        sound: what was heard; None: nothing.
        given: what a person gave, to be read again.
    """

    model: str
    boxes: OneBoxes | None
    predictions: Predictions
    picture: Picture | None
    sound: Sound | None = None
    given: FormValues | ReceivedInputs = field(default_factory=FormValues)

    def __deepcopy__(self, memo: object) -> Exchange:
        """Itself, since it never changes; Gradio copies what a person's session begins with."""
        return self

    def received(self, limits: Limits) -> ReceivedInputs:
        """What was given, as it was asked."""
        return self.given if isinstance(self.given, ReceivedInputs) else read(self.model, self.given, limits)

    def choice(self, number: int | None) -> Prediction:
        """The answer of this number, from 0; InputError where there is none."""
        choices = self.predictions
        if number is None or not 0 <= number < len(choices):
            raise InputError("choose one of the model's answers first; then it can be explained")
        return choices[number]


Asked: TypeAlias = Exchange | None
"""What was asked; None: nothing yet, or it is forgotten."""


class Turn:
    """What one person's page is about.

    A question begins where a model is chosen, a sample or a row is pressed, or the model is asked; while a model is being
    chosen, no other begins. What ends when a newer question has begun is not shown, nor is a map when a newer one was asked for;
    a model that is still at it is stopped. Each method gives None for what is not to be shown.
    """

    def __init__(self) -> None:
        self._model: object = None
        self._pressed: object = None
        self._question: object = None
        self._map: object = None
        self._is_asking = False
        self._asked: Callable[[], Asked] = lambda: None

    def __deepcopy__(self, memo: object) -> Turn:
        """A new one: Gradio copies what a person's session begins with."""
        return Turn()

    def open(self, asked: Exchange) -> Exchange | None:
        """The page was loaded with this question on it; None where another one has begun since."""
        if self._question is not None:
            return None
        self._asked = weakref.ref(asked)
        return asked

    def choose(self, work: Callable[[], Outcome]) -> Outcome | None:
        """Of another model."""
        mine = self._model = self._begun()
        self._is_asking = True
        try:
            with wanted_while(lambda: self._model is mine):
                outcome = work()
        finally:
            newest = self._model is mine
            if newest:
                self._model, self._is_asking = None, False
        return outcome if newest else None

    def press(self) -> bool:
        """A sample or a row was pressed; whether it is a question, which :meth:`ask_pressed` asks."""
        self._pressed = object()
        if self._model is not None:
            return False
        self._pressed = self._begun()
        return True

    @property
    def goes_on(self) -> bool:
        """Whether nothing has begun since the last press."""
        return self._model is None and (self._pressed is None or self._question is self._pressed)

    def ask_pressed(self, work: Callable[[], tuple[Asked, Outcome]]) -> Outcome | None:
        """What was pressed; ``work`` gives what was asked, and the outcome."""
        pressed = self._pressed
        return self._answered(pressed, work) if self.goes_on else None

    def ask(self, work: Callable[[], tuple[Asked, Outcome]]) -> Outcome | None:
        """The model; see :meth:`ask_pressed`."""
        if self._model is not None:
            return None
        return self._answered(self._begun(), work)

    def is_about(self, asked: Asked) -> bool:
        """Whether the page shows the answers to this question."""
        return asked is not None and asked is self._asked()

    def explain(self, asked: Asked, work: Callable[[Asked], Outcome]) -> Outcome | None:
        """``work(asked)``; of a question that is not the page's, since the server has forgotten it, ``work(None)``.

        While the model is being asked, nothing: its answers are about to come.
        """
        if self._is_asking:
            return None
        mine = self._map = object()
        question = self._question

        def is_wanted() -> bool:
            return self._map is mine and self._question is question

        with wanted_while(is_wanted):
            outcome = work(asked if self.is_about(asked) else None)
        return outcome if is_wanted() else None

    def _begun(self) -> object:
        mine = self._question = object()
        self._is_asking, self._asked = False, lambda: None
        return mine

    def _answered(self, mine: object, work: Callable[[], tuple[Asked, Outcome]]) -> Outcome | None:
        self._is_asking = True
        with wanted_while(lambda: self._question is mine):
            asked, outcome = work()
        if self._question is not mine:
            return None
        self._is_asking = False
        if asked is not None:
            self._asked = weakref.ref(asked)
        return outcome


@dataclass(frozen=True)
class Handlers:
    """What can be done, each by one function, with models that can be asked for, within limits of what is given; all raise a
    HeedmapError that says what is wrong.
    """

    models: Models
    limits: Limits = field(default_factory=Limits)

    def takes(self, model: str, tell: Tell = untold) -> Takes:
        """What a model can be given; it is loaded for that."""
        return self.models.use(model, takes, tell)

    def predict(self, model: str, given: FormValues | ReceivedInputs, tell: Tell = untold) -> Exchange:
        """Ask the model of this name what is given; ``tell`` is called with what is being done."""
        received = given if isinstance(given, ReceivedInputs) else read(model, given, self.limits)

        def work(subject: Model) -> Exchange:
            tell("asking the model")
            _check_given(subject, received)
            kept = received.of(subject.kind_row.takes)
            answers = subject.predict(kept.text, kept.image, kept.boxes, kept.audio, said=kept.said)
            return Exchange(model, kept.boxes, answers, _picture(subject, received), kept.audio, given)

        return self.models.use(model, work, tell)

    def explain(
        self, asked: Asked, number: int | None, ways: Sequence[Way], begin: Start | None = None, tell: Tell = untold
    ) -> Result:
        """Explain the answer of this number, from 0, in one way, or in two to be compared.

        ``begin``: tokens to explain from; None: from the answer itself. ``tell``: see :meth:`predict`.
        """
        if asked is None:
            raise InputError("ask the model first; then its answers can be explained")
        choice = asked.choice(number)
        if begin is not None:
            for way in ways:
                check_starts(way.method)

        def work(subject: Model) -> tuple[Explanation, ...]:
            return tuple(_explanation(subject, asked, choice, way, begin, tell) for way in ways)

        explanations = self.models.use(asked.model, work, tell)
        beside = Beside(objects(asked.picture, asked.predictions.answers, number), asked.sound)
        return Result(explanations, framed(asked.picture, choice), begin is not None, beside)

    def answer(
        self, asked: Asked, way: Way, against: str | Mapping[str, str] | None = None, tell: Tell = untold
    ) -> Result:
        """Explain every word of what a model said, or should have said, set against other words or not.

        ``against`` is as ``contrast`` of :func:`heedmap.explain_answer`.
        """
        if asked is None:
            raise InputError("ask the model first; then its answer can be explained")
        question = dict(asked.predictions.inputs)
        said = question.pop("decoder_input_ids", None)

        def work(subject: Model) -> Explanation:
            progress = _telling(tell, f"explaining every word by {way.method}")
            explained: Callable[..., Explanation] = explain_answer  # Way.options are the method's own
            explanation = explained(
                subject,
                question,
                answer=said,
                contrast=against,
                method=way.method,
                progress=progress,
                **way.options,
            )
            return explanation.with_roles(frames_heard(subject, explanation, question, asked.sound))

        return Result((self.models.use(asked.model, work, tell),), asked.picture, beside=Beside(sound=asked.sound))

    def change(self, asked: Asked, number: int | None, way: Way, edit: EditForm, tell: Tell = untold) -> Columns:
        """What changes in the answers and in the map of one of them where the input is edited; see :meth:`explain`."""
        if asked is None:
            raise InputError("ask the model first; then its input can be changed")
        choice = asked.choice(number)
        received = edit.of(asked.received(self.limits), self.limits)
        again = self.predict(asked.model, received, tell)

        def work(subject: Model) -> Effect:
            before, after = asked.predictions, again.predictions
            options = {**way.options, "progress": _telling(tell, f"explaining both by {way.method}")}
            return compared(subject, before, after, choice, None, asked.boxes, way.method, options, asked.sound)

        effect = self.models.use(asked.model, work, tell)
        columns = (
            Column("before", effect.before, framed(asked.picture, choice)),
            Column("after", effect.after, again.picture),
            Column("change", effect.change, again.picture, alone=True),
        )
        return Columns(columns, CHANGED, ("before", "after"), effect.answers)

    def models_beside(self, asked: Asked, number: int | None, way: Way, other: str, tell: Tell = untold) -> Columns:
        """The same input, and the answer of the same name, by a second model; see :meth:`explain`."""
        if asked is None:
            raise InputError("ask the model first; then another can be asked the same")
        if other == asked.model:
            raise InputError(f"{other} is the model that was asked; choose another to set beside it")
        choice, received = asked.choice(number), asked.received(self.limits)
        mine, theirs = self.takes(asked.model, tell).roles, self.takes(other, tell).roles
        if set(mine) != set(theirs):
            raise InputError(
                f"{asked.model} takes {' and '.join(mine)}, and {other} takes {' and '.join(theirs)}; choose two models "
                "that take the same"
            )
        again = self.predict(other, received, tell)
        same = same_answer(choice, again.predictions)

        def explained(exchange: Exchange, answer: Prediction) -> Explanation:
            work = partial(_explanation, asked=exchange, choice=answer, way=way, begin=None, tell=tell)
            return self.models.use(exchange.model, work, tell)

        first, second = explained(asked, choice), explained(again, same)
        columns = (
            Column(asked.model, first, framed(asked.picture, choice), alone=True),
            Column(other, second, framed(again.picture, same), alone=True),
        )
        return Columns(columns, TWO_MODELS, (asked.model, other), both_odds(asked.predictions, again.predictions))

    def table(self, model: str, given: FormValues, files: Sequence[str], tell: Tell = untold) -> AnswersTable:
        """What a model says of each sample of the files at some paths; an error of one stands in its row.

        ``given`` is taken where a row does not say it; ``tell``: see :meth:`predict`.
        """
        rows = []
        samples = rows_of(files, given, self.takes(model, tell), self.limits)
        until = time.monotonic() + self.limits.seconds
        for count, row in enumerate(samples, 1):
            if time.monotonic() > until:
                rows.append(replace(row, error=f"not asked: the {self.limits.seconds:g} s of a request are over"))
                continue
            tell(f"asking the model: sample {count} of {len(samples)}")
            asked, error = attempt(partial(self.predict, model, row.given))
            rows.append(replace(row, error=error) if asked is None else _answered_row(row, asked.predictions[0]))
        return AnswersTable(model, tuple(rows))


def _answered_row(row: TableRow, first: Prediction) -> TableRow:
    return replace(row, answer=visible(plain(first.label)), probability=first.probability)


def attempt(work: Callable[[], Found]) -> tuple[Found | None, str]:
    """What ``work`` gives and ``""``; or None and a message. Nothing goes past this but the end of the process."""
    try:
        return work(), ""
    except HeedmapError as error:
        return None, said_for(PAGE, str(error))
    except Exception:
        LOG.exception("a request failed")
        return None, UNEXPECTED


def _telling(tell: Tell, doing: str) -> Progress:
    """Tells what is being done, if somebody still waits for it; and then how far it is."""
    go_on()
    tell(doing)
    return lambda done, of: tell(doing, done, of)


def _explanation(
    subject: Model, asked: Exchange, choice: Prediction, way: Way, begin: Start | None, tell: Tell
) -> Explanation:
    progress = _telling(tell, f"explaining by {way.method}")
    inputs = asked.predictions.inputs_of(choice)
    if begin is not None and not within(inspect(subject, inputs, target=choice.target)):
        raise InputError(f"the input is too long to explain from a token: at most {MOST_TOKENS:,} tokens; give less")
    explanation = explain(
        subject,
        inputs,
        target=choice.target,
        method=way.method,
        full=begin is not None,
        progress=progress,
        **way.options,
    )
    told = asked.boxes is not None or asked.sound is not None
    named = subject.label(explanation, inputs, asked.boxes, asked.sound) if told else explanation
    return named if begin is None else from_token(named, begin)


def _check_given(subject: Model, received: ReceivedInputs) -> None:
    """InputError that says what to do on this page; of all else the model itself says what is missing."""
    if "boxes" in subject.kind_row.needs and received.boxes is None:
        raise InputError(
            f"{subject.name} reads boxes of a picture: pick one of its samples, whose text can be changed, or give a "
            "file of boxes"
        )


def _picture(subject: Model, received: ReceivedInputs) -> Picture | None:
    """Small enough to be kept; None where there is none, or the model cuts it to pieces."""
    boxes, image = received.boxes, received.image
    if "boxes" in subject.kind_row.takes:
        image = received.scene
        if boxes is None or "boxes" not in boxes:
            return None
    elif image is None or "image" not in subject.kind_row.takes:
        return None
    try:
        return subject.picture(image, boxes if "boxes" in subject.kind_row.takes else None).fitted(1, MOST_SIDE)
    except InputError:
        return None
