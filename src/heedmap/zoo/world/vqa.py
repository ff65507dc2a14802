"""The world as VQA v2 has it: pictures, questions and annotations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from heedmap.zoo.world.coco import annotation_id, info
from heedmap.zoo.world.files import SUBSETS, Progress, checked_world, remove, write_json, write_pictures
from heedmap.zoo.world.questions import Question, ask
from heedmap.zoo.world.scene import Scene

ANNOTATORS = 10
"""Answers a question; here they are all the same."""

ANSWER_TYPES = {"existence": "yes/no", "relation": "yes/no", "count": "number", "colour": "other", "shape": "other"}
"""VQA v2's type of answer by kind of question."""


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

    The pictures are those of :func:`~heedmap.zoo.world.coco.write_coco`; both may share a folder. ``question_type`` is
    the kind of question. Beyond VQA v2, an annotation has ``evidence``: ``objects`` (ids of COCO annotations) and
    ``words`` (first character and first one beyond). The JSON files come last.

    Args:
        folder: gets ``train2014/COCO_train2014_*.jpg``, ``v2_OpenEnded_mscoco_train2014_questions.json`` and
            ``v2_mscoco_train2014_annotations.json`` (``val2014``, ``test2015``); is made where it is missing.
        split: "train", "val" or "test".
        count: of scenes, 1 to the number of the split.
        seed, side: of the world, as in :class:`~heedmap.zoo.world.world.Shapes`.
        progress: called with the number of scenes written and ``count``.

    Returns:
        The paths of the questions and of the annotations.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range, or the folder cannot be written to.
    """
    world = checked_world(split, count, seed, side)
    subset = SUBSETS[split]
    paths = (
        Path(folder) / f"v2_OpenEnded_mscoco_{subset}_questions.json",
        Path(folder) / f"v2_mscoco_{subset}_annotations.json",
    )
    for path in paths:
        remove(path)
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for scene in write_pictures(Path(folder), world, progress):
        for number, question in enumerate(ask(scene)):
            questions.append({**_ids(scene, number), "question": question.text})
            annotations.append({**_ids(scene, number), **_annotation(scene, question)})
    head = {"info": info(seed), "data_type": "mscoco", "data_subtype": subset}
    write_json(paths[0], {**head, "task_type": "Open-Ended", "questions": questions})
    write_json(paths[1], {**head, "annotations": annotations})
    return paths


def _ids(scene: Scene, number: int) -> dict[str, int]:
    return {"image_id": scene.index, "question_id": 1000 * scene.index + number}


def _annotation(scene: Scene, question: Question) -> dict[str, Any]:
    answer = {"answer": question.answer, "answer_confidence": "yes"}
    return {
        "question_type": question.kind,
        "answer_type": ANSWER_TYPES[question.kind],
        "multiple_choice_answer": question.answer,
        "answers": [{"answer_id": number, **answer} for number in range(1, ANNOTATORS + 1)],
        "evidence": {
            "objects": [annotation_id(scene.index, number) for number in question.objects],
            "words": [[word.start, word.end] for word in question.words],
        },
    }
