"""An answer in words on one page: choose a word or a phrase of it, and text, picture and sound show what it rests on.

A page of a thousand answer tokens over thousands of input tokens holds millions of numbers: they are in it once, as 16-bit
integers, and a script of its own draws what is chosen. It loads nothing, and its policy lets no other script run.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from typing import Protocol, TypedDict

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from heedmap.common.printable import PAGE, said_for, visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Box, Picture
from heedmap.data.segments import Answer, Segment
from heedmap.errors import InputError
from heedmap.render.html import POLICY, background_url, css_view, document, fragment, macro, render
from heedmap.render.naming import called, headline, step
from heedmap.render.overlay import Shown, as_picture
from heedmap.render.page import Choice, picker, provenance
from heedmap.render.sample import batch_size, checked_index, sample
from heedmap.render.scale import STEPS, THEMES, Theme, scale_of
from heedmap.render.sound import Sound, wave
from heedmap.render.views import most_relevant, view
from heedmap.render.words import Word, words

LARGEST = 32_767
"""A step's greatest value, as an integer."""
APART = ("system", "template")
"""Who brings in what is no person's word: it sets no colour unless that is asked for."""


class ShownSegment(TypedDict):
    """What the page is given of a segment, with its script's ``data``; ``nothing``: why nothing is drawn of it, or empty."""

    data: Mapping[str, object]
    name: str
    called: str
    kind: str
    ground: Mapping[str, object] | None
    words: list[Word]
    roles: bool
    nothing: str


def answer_page(explanation: ExplanationData, index: int = 0, image: Shown = None, sound: Sound | None = None) -> str:
    """Sample ``index`` of an explanation with an answer as a self-contained page, with a script.

    Args:
        explanation: what to show, of :func:`heedmap.explain_answer`.
        index: the sample.
        image: as the model saw it, or a Picture that says where on it the model looked.
        sound: what the model heard, (samples,), and samples a second.

    Raises:
        InputError: the explanation is of no answer, there is no such sample, or ``image`` is no picture.
    """
    script = Markup(files("heedmap.render").joinpath("templates/answer.js").read_text(encoding="utf-8"))
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    body = _body(explanation, checked_index(index, batch_size(explanation)), image, sound)
    policy = f"{POLICY}; script-src 'sha256-{allowed}'"
    return document(fragment(body), f"heedmap: {explanation.target[index]}", script=script, policy=policy)


def answer_fragment(
    explanation: ExplanationData, index: int = 0, image: Shown = None, sound: Sound | None = None
) -> str:
    """What :func:`answer_page` shows, in a frame of its own, for notebooks."""
    page = escape(answer_page(explanation, index, image, sound))  # Markup: its line ends stay
    return str(render("frame.html", page=page, title=explanation.target[index]))


def answer_words(explanation: ExplanationData, index: int = 0) -> list[Word]:
    """The words of a sample's answer; their relevance is the mean over the answer.

    Raises:
        InputError: the explanation is of no answer, or there is no such sample.
    """
    answer = _answer(explanation)
    whole = explanation.span().segments["answer"].sample(index)
    return words(replace(whole, positions=answer.real[index : index + 1].long() - 1))


def _answer(explanation: ExplanationData) -> Answer:
    if explanation.answer is None:
        raise InputError("this explanation is of no answer; heedmap.explain_answer makes one")
    return explanation.answer


def _body(explanation: ExplanationData, index: int, image: Shown, sound: Sound | None) -> Markup:
    answer = _answer(explanation)
    said = answer_words(explanation, index)
    segments = [
        _segment(segment, explanation, index, sound)
        for segment in explanation.segments.values()
        if (segment.positions[index] >= 0).any()
    ]
    empty = [f"{shown['called']}: {shown['nothing']}" for shown in segments if shown["nothing"]]
    segments = [shown for shown in segments if not shown["nothing"]]
    _lay_grounds(segments, None if image is None else as_picture(image))
    data = {
        "steps": int(answer.real[index].sum()),
        "levels": STEPS,
        "words": [[word.text, word.tokens[0], word.tokens[-1] + 1, word.special, word.spaced] for word in said],
        "tokens": _tokens(explanation, answer, index),
        "segments": [shown["data"] for shown in segments],
        "colours": {name: _tables(theme) for name, theme in THEMES.items()},
    }
    return render(
        "answer.html",
        said=said,
        segments=segments,
        pair=any(shown["kind"] == "image" for shown in segments),
        roles=any(shown["roles"] for shown in segments),
        empty=empty,
        notes=[said_for(PAGE, note) for note in explanation.flow.notes],
        data=_script_data(data),
        provenance=provenance(explanation, 2),
    )


def _lay_grounds(segments: Sequence[ShownSegment], picture: Picture | None) -> None:
    """What lies under each segment's maps: the picture's address or, where an earlier segment has it, the number of that; its
    width and height; and where on it the maps lie.
    """
    first: dict[str, int] = {}
    for number, shown in enumerate(segments):
        own = None if picture is None or shown["kind"] != "image" else picture.of(shown["name"])
        if own is not None:
            address = background_url(own.image)
            same = first.setdefault(address, number)
            shown["ground"] = {
                "address": address if same == number else None,
                "same": same,
                "size": own.image.size,
                "place": css_view(own.geometry),
            }


def _tokens(explanation: ExplanationData, answer: Answer, index: int) -> list[dict[str, object]]:
    """Of each token of the answer: what is explained, how probable it is, and what else would have been."""
    tops = zip(answer.top_labels[index], answer.top_probabilities[index].tolist(), strict=True)
    rows = zip(
        map(step, answer.targets[index]),
        answer.probabilities[index].tolist(),
        explanation.scores[index].tolist(),
        tops,
        strict=True,
    )
    return [
        {
            "target": told,
            **({"other": visible(other)} if other else {}),
            "probability": probability,
            "score": score if np.isfinite(score) else None,
            "top": [[visible(label), odds] for label, odds in zip(labels, all_odds, strict=True)],
        }
        for (told, other), probability, score, (labels, all_odds) in rows
    ]


def _segment(segment: Segment, explanation: ExplanationData, index: int, sound: Sound | None) -> ShownSegment:
    whole = explanation.span().segments[segment.name]
    drawn = sample(whole, index)
    kind = "image" if segment.kind == "image" and segment.grid is not None else segment.kind
    text = words(whole, index) if kind == "text" else []
    parts = text or [Word(drawn.labels[i], (i,), (drawn.labels[i],), (0.0,), 0.0, False, True) for i in drawn.shown]
    apart = segment.has_role(*APART)[index].tolist()
    values = np.where(drawn.taken, np.nan_to_num(sample(segment, index).values), 0.0)
    data = {
        "name": segment.name,
        "called": called(segment.name),
        "kind": kind,
        "grid": segment.grid,
        "taken": drawn.taken.tolist() if not drawn.taken.all() else None,
        "parts": [[word.text, list(word.tokens), word.special or all(apart[i] for i in word.tokens)] for word in parts],
        **_packed(values),
    }
    if kind == "audio" and sound is not None:
        data["wave"], data["heard"] = wave(sound), len(sound[0]) / sound[1]
    alone = bool(text) and all(word.special for word in text)
    return {
        "data": data,
        "name": segment.name,
        "called": "the answer’s earlier words" if segment.name == "answer" else called(segment.name),
        "kind": kind,
        "ground": None,
        "words": text,
        "roles": any(apart),
        "nothing": "special tokens alone" if alone else "" if values.any() else "no relevance",
    }


def _packed(values: NDArray[np.float64]) -> dict[str, object]:
    """(steps, tokens) as 16-bit integers, and the greatest magnitude of each step."""
    most = np.abs(values).max(1, initial=0.0)
    whole = np.round(values / np.where(most > 0, most, 1.0)[:, None] * LARGEST).astype("<i2")
    return {"most": most.tolist(), "width": values.shape[1], "values": b64encode(whole.tobytes()).decode()}


def _tables(theme: Theme) -> dict[str, list[str]]:
    """The colours of patches that are on their own, and of those that lie on a picture."""
    scales = {"map": scale_of([0.0, 1.0]), "signed": scale_of([-1.0, 1.0])}
    return {
        name: [b64encode(scale.colours(theme, over=over).tobytes()).decode() for over in (False, True)]
        for name, scale in scales.items()
    }


def _script_data(data: Mapping[str, object]) -> Markup:
    """JSON that can stand within a script element, whatever is in it."""
    written = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


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
    """All answers as a self-contained page; maps of patches are laid on ``image``, as the model saw it."""
    return document(_fragment(answers, image, 1), "heedmap: several answers")


def answers_fragment(answers: DrawnAnswers) -> str:
    """What :func:`answers_page` shows without a picture, as one ``<div>``, for notebooks."""
    return str(_fragment(answers, None, 2))


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
