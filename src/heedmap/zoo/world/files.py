"""Writing scenes to disk as a COCO and as a VQA v2 data set: a whole file or none, and what lists the others last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from heedmap.common.files import write_atomically
from heedmap.errors import InputError
from heedmap.zoo.world.making import Shapes
from heedmap.zoo.world.scene import SHAPES, SPLITS, Object, Scene, check_split, check_whole
from heedmap.zoo.world.texts import Question, ask

SUBSETS = {"train": "train2014", "val": "val2014", "test": "test2015"}
"""What COCO and VQA v2 call the splits."""

LARGEST_COUNT = 10
"""An object's annotation id is this times the image's id, plus the object's number, plus 1."""

ANNOTATORS = 10
"""Answers a question; here they are all the same."""

ANSWER_TYPES = {"existence": "yes/no", "relation": "yes/no", "count": "number", "colour": "other", "shape": "other"}
"""VQA v2's type of answer by kind of question."""

Progress = Callable[[int, int], None]
"""Called with the number of scenes written and the number in all, after each."""


def write_coco(
    folder: str | os.PathLike[str],
    split: str,
    count: int,
    *,
    seed: int = 0,
    side: int = 96,
    progress: Progress | None = None,
) -> Path:
    """Write the first ``count`` scenes of a split as a COCO data set; categories are the shapes.

    An annotation also has ``colour`` and ``size``. Its mask is in COCO's uncompressed run lengths. An image's id is the
    scene's index. The pictures come first, the JSON last: where it is there, all is there. They are JPEG files of quality
    95 without colour subsampling: close to the scene's, not equal.

    Args:
        folder: gets ``train2014/COCO_train2014_*.jpg`` and ``annotations/instances_train2014.json`` (``val2014``,
            ``test2015``); is made where it is missing.
        split: "train", "val" or "test".
        count: 1 to the number of scenes of the split.
        seed, side: of the world, as in :class:`~heedmap.zoo.world.making.Shapes`.
        progress: called with the number of scenes written and ``count``.

    Returns:
        The path of the JSON file.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range, or the folder cannot be written to.
    """
    world = _checked_world(split, count, seed, side)
    path = Path(folder) / "annotations" / f"instances_{SUBSETS[split]}.json"
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for scene in _pictured(Path(folder), world, progress, [path]):
        size = {"width": scene.side, "height": scene.side}
        images.append({"id": scene.index, "file_name": _image_name(split, scene.index), **size})
        annotations += [_annotation(scene.index, number, o) for number, o in enumerate(scene.objects)]
    categories = [{"id": number, "name": shape, "supercategory": "shape"} for number, shape in enumerate(SHAPES, 1)]
    _write_json(path, {**_head(seed), "categories": categories, "images": images, "annotations": annotations})
    return path


def write_vqa(
    folder: str | os.PathLike[str],
    split: str,
    count: int,
    *,
    seed: int = 0,
    side: int = 96,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Write the first ``count`` scenes of a split, and the questions about them, as a VQA v2 data set.

    The pictures are those of :func:`write_coco`; both may share a folder. ``question_type`` is the kind of question.
    Beyond VQA v2, an annotation has ``evidence``: ``objects`` (ids of COCO annotations) and ``words`` (first character and
    first one beyond). The JSON files come last.

    Args:
        folder: gets ``train2014/COCO_train2014_*.jpg``, ``v2_OpenEnded_mscoco_train2014_questions.json`` and
            ``v2_mscoco_train2014_annotations.json`` (``val2014``, ``test2015``); is made where it is missing.
        split, count, seed, side, progress: as for :func:`write_coco`.

    Returns:
        The paths of the questions and of the annotations.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range, or the folder cannot be written to.
    """
    world = _checked_world(split, count, seed, side)
    subset = SUBSETS[split]
    asked = Path(folder) / f"v2_OpenEnded_mscoco_{subset}_questions.json"
    answered = Path(folder) / f"v2_mscoco_{subset}_annotations.json"
    questions: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for scene in _pictured(Path(folder), world, progress, [asked, answered]):
        for number, question in enumerate(ask(scene)):
            ids = {"image_id": scene.index, "question_id": 1000 * scene.index + number}
            questions.append({**ids, "question": question.text})
            annotations.append({**ids, **_answered(scene, question)})
    head = {**_head(seed), "data_type": "mscoco", "data_subtype": subset}
    _write_json(asked, {**head, "task_type": "Open-Ended", "questions": questions})
    _write_json(answered, {**head, "annotations": annotations})
    return asked, answered


def _checked_world(split: str, count: int, seed: int, side: int) -> Shapes:
    """The first ``count`` scenes of a split; UnknownNameError or InputError where there are no such."""
    check_split(split)
    check_whole("count", count)
    if not 1 <= count <= SPLITS[split]:
        raise InputError(f"count is {count}; {split} has 1 to {SPLITS[split]} scenes to write")
    return Shapes(split, seed=seed, side=side, length=count)


def _pictured(folder: Path, world: Shapes, progress: Progress | None, lists: Sequence[Path]) -> Iterator[Scene]:
    """Remove the files that list the others, write each scene's picture into the subset's folder, and yield it after that."""
    from PIL import Image

    for path in lists:
        with _told(f"cannot replace {path}", "choose another folder"):
            path.unlink(missing_ok=True)
    for done, scene in enumerate(world, 1):
        buffer = BytesIO()
        Image.fromarray(scene.image).save(buffer, "JPEG", quality=95, subsampling=0)
        _write(folder / SUBSETS[world.split] / _image_name(world.split, scene.index), buffer.getvalue())
        yield scene
        if progress is not None:
            progress(done, len(world))


def _image_name(split: str, index: int) -> str:
    """As COCO and VQA v2 name theirs; the image's id is the scene's index."""
    return f"COCO_{SUBSETS[split]}_{index:012d}.jpg"


def _write_json(path: Path, data: Mapping[str, object]) -> None:
    _write(path, json.dumps(data, allow_nan=False, separators=(",", ":")).encode())


def _write(path: Path, data: bytes) -> None:
    with _told(f"cannot write {path}", "choose a folder to write to"):
        write_atomically(path, data)


@contextmanager
def _told(failed: str, advice: str) -> Iterator[None]:
    """InputError with the reason, where the system refuses."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{failed}: {error.strerror or error}; {advice}") from error


def _head(seed: int) -> dict[str, object]:
    """What a data set's file says of itself."""
    return {"info": {"description": "heedmap's shapes world", "version": "1", "seed": int(seed)}}


def _annotation(index: int, number: int, o: Object) -> dict[str, object]:
    x1, y1, x2, y2 = o.box
    return {
        "id": _annotation_id(index, number),
        "image_id": index,
        "category_id": SHAPES.index(o.shape) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(o.mask.sum()),
        "segmentation": run_lengths(o.mask),
        "iscrowd": 0,
        "colour": o.colour,
        "size": o.size,
    }


def _annotation_id(index: int, number: int) -> int:
    return LARGEST_COUNT * index + number + 1


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: of false and true in turn, column by column, false first (perhaps 0)."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    return {"counts": [0, *counts] if pixels[0] else counts, "size": list(mask.shape)}


def _answered(scene: Scene, question: Question) -> dict[str, object]:
    answer = {"answer": question.answer, "answer_confidence": "yes"}
    return {
        "question_type": question.kind,
        "answer_type": ANSWER_TYPES[question.kind],
        "multiple_choice_answer": question.answer,
        "answers": [{"answer_id": number, **answer} for number in range(1, ANNOTATORS + 1)],
        "evidence": {
            "objects": [_annotation_id(scene.index, number) for number in question.objects],
            "words": [[word.start, word.end] for word in question.words],
        },
    }
