"""The reader of easy-VQA, on pictures drawn here: what a sample holds, where its evidence is, and what damage says."""

import json

import numpy as np
import pytest
from PIL import Image

import drawn_shapes
from heedmap.datasets import easy_vqa
from heedmap.datasets.easy_vqa import ANSWERS, EasyVqa, kind_of
from heedmap.datasets.sample import RightAnswers
from heedmap.errors import FileFormatError, InputError, SampleError


@pytest.fixture
def folder(tmp_path):
    easy_vqa._read.cache_clear()
    return drawn_shapes.write(tmp_path)


def test_a_sample_is_a_question_with_boxes_and_its_answer(folder):
    reader = EasyVqa(folder)
    assert len(reader) == len(reader.keys) == 5
    assert reader.description["samples"] == 5
    sample = reader[1]
    assert sample.key == "test-1"
    assert sample.inputs["text"] == "what color is the shape?"
    assert sample.truth == RightAnswers({"red": 1.0}, ANSWERS.index("red"))
    assert set(sample.inputs) == {"text", "boxes"}


def test_the_boxes_are_the_picture_in_pieces(folder):
    boxes = EasyVqa(folder)[3].inputs["boxes"]
    whole = np.zeros((64, 64, 3))
    for piece, (left, top, right, bottom) in zip(boxes["features"], boxes["boxes"] * 64, strict=True):
        whole[int(top) : int(bottom), int(left) : int(right)] = piece.reshape(8, 8, 3)
    assert np.array_equal(np.round(255 - whole * 255), np.asarray(drawn_shapes.draw("circle")))
    assert boxes["labels"][10] == "row 2 column 3"


@pytest.mark.parametrize(("index", "shape"), [(0, "rectangle"), (3, "circle"), (4, "triangle")])
def test_the_evidence_is_what_the_shape_covers(folder, index, shape):
    left, top, right, bottom = drawn_shapes.PLACES[shape]
    evidence = EasyVqa(folder).evidence(index).reshape(8, 8)
    rows, columns = np.nonzero(evidence)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top // 8, bottom // 8, left // 8, right // 8)
    alike = (np.asarray(drawn_shapes.draw(shape)) == drawn_shapes.COLOURS[shape]).all(2)
    assert evidence.sum() * 64 == alike.sum()


def test_pixels_of_a_smooth_edge_belong_to_what_they_are_more_like():
    picture = np.full((64, 64, 3), 240, np.uint8)
    picture[8:16, 8:16] = (0, 0, 255)
    picture[8:16, 16], picture[8:16, 7] = (200, 200, 243), (40, 40, 252)
    inside = easy_vqa.drawn(picture)
    assert inside[8:16, 7:16].all()
    assert inside.sum() == 72


def test_kinds_of_questions():
    kinds = [kind_of(text, answer) for text, answer, _ in drawn_shapes.QUESTIONS]
    assert kinds == ["what shape", "what colour", "shape or not", "colour or not", "what shape"]


def test_an_unknown_split_lists_the_known_ones(folder):
    with pytest.raises(InputError, match="no split 'val'; it has: train, test"):
        EasyVqa(folder, "val")


def test_a_folder_without_questions_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no .*questions\.json; give the folder"):
        EasyVqa(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [("[[1, 2]]", "not a list of"), ("{", "not a list of"), ('[["why?", "because", 0]]', "answers because")],
)
def test_a_damaged_file_of_questions_is_told(folder, content, said):
    (folder / "test" / "questions.json").write_text(content)
    with pytest.raises(FileFormatError, match=said):
        EasyVqa(folder)


def test_a_picture_that_cannot_be_used_is_a_bad_sample(folder):
    images = folder / "test" / "images"
    (images / "0.png").write_bytes(b"no picture")
    (images / "1.png").unlink()
    Image.new("RGB", (32, 64)).save(images / "2.png")
    reader = EasyVqa(folder)
    for index, said in ((0, "cannot be read"), (2, "cannot be read"), (4, "32 × 64 pixels")):
        with pytest.raises(SampleError, match=said):
            reader[index]


def test_words_and_answers_hold_all_that_is_asked():
    asked = {word for text, _, _ in drawn_shapes.QUESTIONS for word in text.rstrip("?").split()}
    assert asked <= set(easy_vqa.WORDS)
    assert len(set(easy_vqa.WORDS)) == len(easy_vqa.WORDS)
    assert json.loads(json.dumps(ANSWERS)) == list(ANSWERS)
    assert len(ANSWERS) == 13
