"""The fields in which a person gives something to a model; those that it does not take are hidden."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from heedmap.web.form_inputs import FormValues, OfferedSample, Takes, offered

if TYPE_CHECKING:
    from gradio import Dropdown
    from gradio.blocks import Block
    from gradio.components import Component
    from gradio.data_classes import FileData, ListFiles
    from PIL.Image import Image

Field = TypeVar("Field", bound="Component")
FieldValues: TypeAlias = tuple[int | None, str | None, str | None, str | None, str | None, str | None, str | None]
"""Of :attr:`Fields.inputs` but the model's."""
Update = dict[str, object]
"""What changes of a field, as ``gradio.update`` gives it."""
PICTURE = {"label": "Picture", "type": "filepath", "sources": ["upload", "clipboard"], "elem_id": "image"}
SOUND = {"label": "Sound: a 16-bit .wav file", "type": "filepath", "sources": ["upload"], "elem_id": "audio"}


class Fields:
    """The fields, each made once, in Gradio.

    Args:
        gr: Gradio.
        model: the list of models.
        takes: what the one that is chosen takes.
        number: of the sample that is chosen; None: none.
    """

    def __init__(self, gr: ModuleType, model: Dropdown, takes: Takes, number: int | None) -> None:
        self.gr, self.model = gr, model
        roles = takes.roles
        self.number = gr.Dropdown(listed(model.value), value=number, label="Sample", visible=False)
        self.text = gr.Textbox(label="Text", lines=2, max_lines=8, visible="text" in roles, elem_id="text")
        self.second = gr.Textbox(label="Second text, of a pair", max_lines=8, visible=takes.pair, elem_id="second")
        self.image = as_uploaded(gr, gr.Image)(format="png", height=220, visible=_seen(takes), **PICTURE)
        self.audio = as_uploaded(gr, gr.Audio)(editable=False, visible="audio" in roles, **SOUND)
        with gr.Accordion("More to give", open=False, visible=_more(takes), elem_id="more") as self.more:
            self.said = gr.Textbox(
                label="What it should have said, instead of its own words", visible=takes.said, elem_id="said"
            )
            self.boxes = as_uploaded(gr, gr.File)(
                label="Boxes of the picture: an .npz with features and boxes",
                file_types=[".npz"],
                visible="boxes" in roles,
                elem_id="boxes",
            )

    @property
    def inputs(self) -> list[Component]:
        """What :func:`given` takes, after the model."""
        return [self.model, self.number, self.text, self.second, self.said, self.image, self.audio, self.boxes]

    @property
    def of_row(self) -> list[Component]:
        """What :func:`values_of` fills."""
        return self.inputs[1:]

    @property
    def outputs(self) -> list[Block]:
        """What :meth:`emptied` fills."""
        return [*self.of_row, self.more]

    def emptied(self, model: str, takes: Takes) -> tuple[Update, ...]:
        """All fields empty, for another model; those that it does not take hidden."""
        update, roles = self.gr.update, takes.roles
        return (
            update(choices=listed(model), value=None),
            update(value="", visible="text" in roles),
            update(value="", visible=takes.pair),
            update(value="", visible=takes.said),
            update(value=None, visible=_seen(takes)),
            update(value=None, visible="audio" in roles),
            update(value=None, visible="boxes" in roles),
            update(visible=_more(takes), open=False),
        )

    def filled(self, material: OfferedSample | None) -> tuple[str | Image | None, ...]:
        """What a sample, or that there is none, puts into the fields :attr:`of_sample`."""
        if material is None:
            return "", "", "", None, None
        return material.text or "", "", "", material.picture, None

    @property
    def of_sample(self) -> list[Component]:
        """Text, second text, what should have been said, picture and boxes."""
        return [self.text, self.second, self.said, self.image, self.boxes]


def edit_fields(gr: ModuleType, takes: Takes) -> tuple[Update, ...]:
    """The fields of an edit, empty, for a model; those that it cannot use are hidden: a word, what it becomes, a region."""
    text, image = "text" in takes.roles, "image" in takes.roles
    return gr.update(value="", visible=text), gr.update(value="", visible=text), gr.update(value="", visible=image)


def given(*values: *FieldValues) -> FormValues:
    """The values of :attr:`Fields.inputs` but the model's."""
    number, text, second, said, image, audio, boxes = values
    return FormValues(text, second, said, image, audio, boxes, number)


def values_of(row: FormValues) -> FieldValues:
    """The inverse of :func:`given`."""
    return row.number, row.text, row.second, row.said, row.image, row.audio, row.boxes


def listed(model: str) -> list[tuple[str, int]]:
    """What the samples of a model are called → their numbers."""
    return [(name, number) for number, name in offered(model).items()]


def _seen(takes: Takes) -> bool:
    return "image" in takes.roles or "boxes" in takes.roles


def _more(takes: Takes) -> bool:
    return takes.said or "boxes" in takes.roles


def as_uploaded(gr: ModuleType, field: type[Field]) -> type[Field]:
    """``field``, a class of Gradio's, with the file, or files, left as they are, and never fetched from another server.

    A class, since Gradio makes a field anew for each person for whom it changes; made past Gradio's metaclass, which writes
    a file beside the module of each class that it sees.
    """

    async def moved(self: Component, path: str | Path | None) -> str | None:
        if "://" in str(path):
            raise gr.Error("a file is uploaded, not fetched from an address")
        return await field.async_move_resource_to_block_cache(self, path)

    def preprocess(self: Component, payload: FileData | ListFiles | None) -> str | list[str] | None:
        if payload is None:
            return None
        return [str(Path(file.path)) for file in payload.root] if hasattr(payload, "root") else str(Path(payload.path))

    members = {"async_move_resource_to_block_cache": moved, "preprocess": preprocess, "__module__": field.__module__}
    return ABCMeta.__new__(type(field), field.__name__, (field,), members)
