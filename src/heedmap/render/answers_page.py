"""Several answers on one page: choose one, see its map; a text that rests on a text also as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from heedmap.render.html import document, fragment, macro, render
from heedmap.render.naming import called, headline
from heedmap.render.page import provenance
from heedmap.render.picker import Choice, picker
from heedmap.render.scale import scale_of
from heedmap.render.views import most_relevant, view

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.explanation_data import ExplanationData, Segment

Box = tuple[float, float, float, float]
MOST_CELLS = 20_000
ROW_NOTE = (
    "each row is one answer, coloured from 0 to its own largest value, which stands at its end: different answers are "
    "different scores, so colours compare within a row only"
)


class DrawnAnswers(Protocol):
    """What is drawn: see :class:`heedmap.models.answers.Answers`."""

    @property
    def names(self) -> Sequence[str]:
        """Of the answers."""

    @property
    def explanations(self) -> Sequence[ExplanationData]:
        """One an answer, of a batch of one."""

    @property
    def boxes(self) -> Sequence[Box]:
        """Where each answer lies, or none."""

    @property
    def joined(self) -> bool:
        """Whether the answers are the tokens of one text."""

    @property
    def text(self) -> str:
        """The text that they are the tokens of."""

    def __len__(self) -> int: ...


def answers_page(answers: DrawnAnswers, image: Image.Image | None = None) -> str:
    """All answers as a self-contained page.

    Args:
        answers: what to show.
        image: as the model saw it, to lay maps of patches on.
    """
    return document(_fragment(answers, image, 1), "heedmap: several answers")


def answers_fragment(answers: DrawnAnswers, image: Image.Image | None = None, *, level: int = 2) -> str:
    """What :func:`answers_page` shows, as one ``<div>``, for notebooks; ``level`` of its heading."""
    return str(_fragment(answers, image, level))


def _fragment(answers: DrawnAnswers, image: Image.Image | None, level: int) -> Markup:
    first = answers.explanations[0]
    matrices = [_matrix(answers, name) for name in first.segments if name not in ("decoder", "answer")]
    choices = [_choice(answers, n, image is not None) for n in range(len(answers))]
    entries = {
        "answers": answers.text or ", ".join(answers.names),
        "method": first.method,
        "model": first.origin.get("model", "not told"),
    }
    body = render(
        "answers.html",
        level=level,
        count=len(answers),
        entries=entries,
        matrices=[matrix for matrix in matrices if matrix],
        row_note=ROW_NOTE,
        picker=picker("Choose an answer", choices, 0),
        provenance=provenance(first, level + 1),
    )
    return fragment(body, image)


def _matrix(answers: DrawnAnswers, name: str) -> dict[str, object]:
    """The answers' relevance of the words of a text, a row an answer; nothing where it is no text, or too large."""
    segments = [explanation.segments[name] for explanation in answers.explanations if name in explanation]
    texts = [view(segment).words(segment) for segment in segments]
    if not answers.joined or not any(texts) or len(texts[0]) * len(answers) > MOST_CELLS:
        return {}
    scales = [scale_of(word.value for word in text) for text in texts]
    return {"name": name, "heads": texts[0], "rows": list(zip(answers.names, texts, scales, strict=True))}


def _choice(answers: DrawnAnswers, n: int, seen: bool) -> Choice:
    explanation = answers.explanations[n]
    outline = answers.boxes[n] if answers.boxes else None
    told = f"{headline(explanation, 0)}, score {float(explanation.scores[0]):.6g}"
    maps = [_map(segment, seen, outline) for segment in explanation.segments.values()]
    return Choice(answers.names[n], macro("segments.answer", told, [panel for panel in maps if panel]))


def _map(segment: Segment, seen: bool, outline: Box | None) -> dict[str, object]:
    """What a choice shows of a segment; nothing where all of it is 0, or special tokens alone."""
    used, patches, text = view(segment).scale(segment), view(segment).patches, view(segment).words(segment)
    if used.empty or (text and all(word.special for word in text)):
        return {}
    about = f"{called(segment.name)}: {used.about()}; most relevant: {most_relevant(segment)}"
    body = view(segment).panel(segment, 0, used, seen, outline)
    return {"body": body, "scale": used, "about": about, "patches": patches}
