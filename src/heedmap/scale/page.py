"""A run as a page: what was predicted how often, and the maps of the most and the least certain rows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from heedmap.errors import HeedmapError
from heedmap.render.html import document, render
from heedmap.render.naming import headline
from heedmap.render.page import option_words, prediction_words
from heedmap.render.views import Beside, view
from heedmap.scale.worker import read

if TYPE_CHECKING:
    from heedmap.data.picture import Picture
    from heedmap.datasets.rows import RowSource
    from heedmap.explanation import Explanation
    from heedmap.models.model import Model
    from heedmap.scale.opened import Run

SHOWN = 6
"""Rows of each group."""
LISTED = 50
"""Predictions, and rows that could not be explained."""
LONGEST_SIDE = 480
"""Of a picture, in pixels."""


def run_page(run: Run, source: RowSource, subject: Model) -> str:
    """A page that loads nothing.

    Args:
        run: all of its rows.
        source: the data, for the pictures under the maps.
        subject: the model, which knows where on a picture it looked.
    """
    explained = run.config["explained"]
    errors, predictions = run.errors, run.predictions
    title = f"{run.config['model']['name']} by {explained['method']}"
    known = run.most_certain(SHOWN)
    groups = [("Most certain", known), ("Least certain", run.least_certain(SHOWN))]
    if not len(known):
        groups = [("The first rows", run.where()[:SHOWN])]
    body = render(
        "run.html",
        title=title,
        entries={
            "rows": f"{len(run):,}" + (f", {len(errors):,} of them could not be explained" if errors else ""),
            "data": str(run.config["data"].get("kind", "")),
            "options": option_words(explained["options"]),
        },
        predictions=list(islice(predictions.items(), LISTED)),
        more=max(0, len(predictions) - LISTED),
        groups=[
            {"title": name, "rows": [_row(rows, n, source, subject) for n in range(len(rows))]} for name, rows in groups
        ],
        errors=list(islice(errors.items(), LISTED)),
        bad=len(errors),
    )
    return document(body, f"heedmap: {title}", "wide")


def _row(run: Run, place: int, source: RowSource, subject: Model) -> dict[str, object]:
    explanation, number = run[place], int(run.rows[place])
    drawn = explanation if explanation.answer is None else explanation.span()
    picture, note = _picture(drawn, source, subject, number)
    answer = explanation.answer
    return {
        "number": number,
        "key": run.key(place),
        "certainty": run.certainty(place),
        "prediction": prediction_words(explanation, 0) if answer is None else answer.text[0],
        "target": headline(explanation, 0),
        "note": note,
        "figures": [view(segment).figure(segment, beside=Beside(image=picture)) for segment in drawn.segments.values()],
    }


def _picture(explanation: Explanation, source: RowSource, subject: Model, number: int) -> tuple[Picture | None, str]:
    """The row's own picture, to lay its map on; and why there is none where there should be one."""
    if all(segment.grid is None for segment in explanation.segments.values()):
        return None, ""
    try:
        inputs = read(source[number])
        return subject.picture(inputs["image"], inputs.get("boxes")).fitted(1, LONGEST_SIDE), ""
    except (HeedmapError, OSError, KeyError) as error:
        return None, f"drawn without the picture: {error}"
