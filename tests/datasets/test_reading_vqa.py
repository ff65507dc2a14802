"""VQA v2: soft scores by hand, round trips with our own writer, and files that are not as they should be."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from heedmap.datasets.sample import RightAnswers
from heedmap.datasets.vqa import CONTRACTIONS, normalised, open_vqa, soft_scores
from heedmap.errors import FileFormatError, InputError, OptionError, SampleError
from heedmap.zoo.world import Shapes, ask, write_vqa


@pytest.mark.parametrize(
    ("said", "compared"),
    [
        ("A dog", "dog"),
        ("The Empire State Building", "empire state building"),
        ("two", "2"),
        ("None", "0"),
        ("ten cats", "10 cats"),
        ("eleven", "eleven"),
        ("dont know", "don't know"),
        ("couldn'tve", "couldn't've"),
        ("twas", "'twas"),
        ("lets go", "lets go"),
        ("dog's", "dog's"),
        ("10:30", "10:30"),
        ("2.5", "2.5"),
        ("Mr. Smith", "mr smith"),
        ("yes!", "yes"),
        ("yes ,no", "yes no"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("100,978", "100978"),
        ("red, white", "red white"),
        ("on\nthe\ttable", "on table"),
        ("the", ""),
        ("", ""),
    ],
)
def test_answers_are_compared_as_officially(said, compared):
    assert normalised(said) == compared


def test_contractions_are_completed_once():
    assert len(CONTRACTIONS) > 100
    assert CONTRACTIONS["yall'll"] == CONTRACTIONS["y'allll"] == "y'all'll"
    assert all("'" in word for word in CONTRACTIONS.values())


@pytest.mark.parametrize("count", range(1, 10))
def test_the_official_score_by_hand(count):
    others = [f"other {n}" for n in range(10 - count)]
    expected = {1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1.0)
    scores = soft_scores(["dog"] * count + others)
    assert scores["dog"] == pytest.approx(expected)
    assert scores["other 0"] == pytest.approx(0.3)


def _leave_one_out(answers: list[str], answer: str) -> float:
    parts = []
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        parts.append(min(1, sum(other == answer for other in others) / 3))
    return sum(parts) / len(parts)


@pytest.mark.parametrize("seed", range(20))
def test_the_official_score_written_out(seed):
    draw = np.random.default_rng(seed)
    answers = [str(word) for word in draw.choice(["dog", "cat", "cow", "pig"], int(draw.integers(2, 15)))]
    for answer, score in soft_scores(answers).items():
        assert score == pytest.approx(_leave_one_out(answers, answer))


def test_other_scores():
    answers = ["dog", "dog", "cat"]
    assert soft_scores(answers, "thirds") == {"dog": pytest.approx(2 / 3), "cat": pytest.approx(1 / 3)}
    assert soft_scores(answers, "any") == {"dog": 1, "cat": 1}
    assert soft_scores(["dog"]) == {}


def test_what_all_say_is_right_as_it_is_written_too():
    assert soft_scores(["two"] * 10) == {"2": 1, "two": 1}
    assert soft_scores(["Two"] * 5 + ["2"] * 5) == {"2": 1}
    assert soft_scores(["the"] * 5 + ["a"] * 5) == {}


def test_round_trip(tmp_path):
    write_vqa(tmp_path, "val", 6)
    reader = open_vqa(tmp_path)
    asked = [
        (scene, number, question) for scene in Shapes("val", length=6) for number, question in enumerate(ask(scene))
    ]
    assert len(reader) == len(asked)
    assert reader.problems == {}
    for sample, (scene, number, question) in zip(reader, asked, strict=True):
        assert sample.key == str(1000 * scene.index + number)
        assert sample.inputs["text"] == question.text
        assert np.abs(np.asarray(sample.inputs["image"]).astype(int) - scene.image).mean() < 4
        assert isinstance(sample.truth, RightAnswers)
        assert sample.truth.scores == {question.answer: 1.0}


def test_the_description_does_not_depend_on_where_the_data_lie(tmp_path):
    for place in ("here", "there"):
        write_vqa(tmp_path / place, "val", 2)
    here, there = (open_vqa(tmp_path / place).description for place in ("here", "there"))
    assert here == there
    assert json.loads(json.dumps(here)) == here
    assert str(tmp_path) not in json.dumps(here)
    names = [file["name"] for file in here["files"]]
    assert names == ["v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"]
    assert here["files"][0]["bytes"] == (tmp_path / "here" / names[0]).stat().st_size
    assert here["samples"] == len(open_vqa(tmp_path / "here"))


def test_the_split_decides(tmp_path):
    write_vqa(tmp_path, "val", 2)
    write_vqa(tmp_path, "train", 1)
    with pytest.raises(InputError, match=r"train2014, val2014; choose one by split="):
        open_vqa(tmp_path)
    assert open_vqa(tmp_path, split="val").keys == open_vqa(tmp_path, split="val2014").keys
    assert len(open_vqa(tmp_path, split="train")) < len(open_vqa(tmp_path, split="val"))
    with pytest.raises(InputError, match=r"no v2_OpenEnded_mscoco_test_questions\.json .*train2014, val2014"):
        open_vqa(tmp_path, split="test")


def test_the_other_files_follow_from_the_questions(tmp_path):
    questions, _ = write_vqa(tmp_path, "val", 1)
    write_vqa(tmp_path, "train", 1)
    assert open_vqa(tmp_path, questions=questions).description == open_vqa(tmp_path, split="val").description
    other = questions.rename(tmp_path / "mine.json")
    with pytest.raises(InputError, match=r"no folder of pictures at .*mine; give its path"):
        open_vqa(tmp_path, questions=other)


@pytest.mark.parametrize("which", ["questions", "annotations", "images", "features"])
def test_a_path_that_leads_nowhere(tmp_path, which):
    write_vqa(tmp_path, "val", 1)
    with pytest.raises(InputError, match=r"there is no (file|folder) of"):
        open_vqa(tmp_path, **{which: tmp_path / "no.tsv"})


def test_files_that_are_missing(tmp_path):
    with pytest.raises(InputError, match="no folder of the data set"):
        open_vqa(tmp_path / "no")
    with pytest.raises(InputError, match=r"no v2_OpenEnded_mscoco_\*_questions\.json"):
        open_vqa(tmp_path)
    questions, annotations = write_vqa(tmp_path, "val", 1)
    annotations.unlink()
    with pytest.raises(InputError, match="no file of annotations"):
        open_vqa(tmp_path)
    with pytest.raises(OptionError, match="official, thirds, any"):
        open_vqa(tmp_path, scoring="best")
    questions.write_text("{")
    with pytest.raises(InputError, match="no file of annotations"):
        open_vqa(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds a list"),
        ("{}", "has no list 'questions' but nothing"),
        ('{"questions": 3, "info": 1}', "has no list 'questions' but questions, info"),
        ("[" * 100_000, "is no JSON"),
        ("\xff", "is no JSON"),
    ],
)
def test_questions_that_are_none(tmp_path, text, message):
    questions, _ = write_vqa(tmp_path, "val", 1)
    questions.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=message):
        open_vqa(tmp_path)


def _write(folder, questions, annotations):
    (folder / "q.json").write_text(json.dumps({"questions": questions}))
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("L", (1, 1), 9).save(folder / "pictures" / "COCO_val2014_000000000001.png")
    return {"questions": folder / "q.json", "annotations": folder / "a.json", "images": folder / "pictures"}


def _question(number, image=1, text="what is it?"):
    return {"question_id": number, "image_id": image, "question": text}


def _annotation(number, answers):
    rows = [{"answer": answer, "answer_id": n, "answer_confidence": "yes"} for n, answer in enumerate(answers, 1)]
    return {"question_id": number, "image_id": 1, "answers": rows}


def test_what_cannot_be_used_is_listed(tmp_path):
    questions = [
        _question(1),
        _question(2, image=7),
        _question(3),
        _question(4),
        _question(5, text=" "),
        {"image_id": 1},
        "odd",
        _question(1),
        {"question_id": 8, "question": "where?"},
        _question(9),
        _question(10),
    ]
    annotations = [
        *(_annotation(n, ["dog"] * 10) for n in (1, 2, 5)),
        _annotation(3, []),
        _annotation(9, ["dog"]),
        _annotation(10, [3, None]),
        "odd",
    ]
    reader = open_vqa(tmp_path, **_write(tmp_path, questions, annotations))
    assert reader.keys == ["1"]
    assert reader[0].inputs["image"].size == (1, 1)
    assert reader.problems == {
        "2": "image 7 is not in pictures",
        "3": "no answer in its annotation",
        "4": "no annotation",
        "5": "no question, or no image_id",
        "row 5": "no question_id",
        "row 6": "no question_id",
        "1 (row 7)": "its id was there before",
        "8": "no question, or no image_id",
        "9": "a single answer, which the official score makes 0; choose scoring='any'",
        "10": "no answer in its annotation",
    }


def test_a_single_answer_may_be_right(tmp_path):
    paths = _write(tmp_path, [_question(1)], [_annotation(1, ["A dog"])])
    reader = open_vqa(tmp_path, **paths, scoring="any")
    assert reader[0].truth.scores == {"dog": 1.0, "A dog": 1.0}


def test_samples_that_turn_out_to_be_unusable(tmp_path):
    paths = _write(
        tmp_path, [_question(1), _question(2, 2)], [_annotation(1, ["a", "the"]), _annotation(2, ["x"] * 10)]
    )
    (tmp_path / "pictures" / "COCO_val2014_000000000002.jpg").write_bytes(b"\xff\xd8\xff no photo")
    reader = open_vqa(tmp_path, **paths)
    with pytest.raises(SampleError, match="question 1: no answer is left"):
        reader[0]
    with pytest.raises(SampleError, match=r"COCO_val2014_000000000002\.jpg cannot be read as an image"):
        reader[1]
    with pytest.raises(IndexError):
        reader[2]


def _encoded(array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def test_boxes_instead_of_pictures(tmp_path):
    paths = _write(
        tmp_path, [_question(1), _question(2, 2), _question(3, 3)], [_annotation(n, ["x"] * 10) for n in (1, 2, 3)]
    )
    features, boxes = np.arange(6, dtype="<f4").reshape(2, 3), np.array([[0, 0, 5, 10], [5, 5, 10, 20]], "<f4")
    line = f"COCO_val2014_000000000001\t10\t20\t2\t{_encoded(boxes)}\t{_encoded(features)}\n"
    (tmp_path / "boxes.tsv").write_text(line + "COCO_val2014_000000000003\t10\n")
    pictures = paths.pop("images")
    reader = open_vqa(tmp_path, **paths, features=tmp_path / "boxes.tsv")
    assert reader.keys == ["1"]
    assert set(reader[0].inputs) == {"text", "boxes"}
    np.testing.assert_array_equal(reader[0].inputs["boxes"]["features"], features)
    np.testing.assert_allclose(reader[0].inputs["boxes"]["boxes"], [[0, 0, 0.5, 0.5], [0.5, 0.25, 1, 1]])
    assert reader.problems == {
        "2": "image 2 has no box features: there are none of it",
        "3": "image 3 has no box features: line 2 has 2 columns; expected 6",
    }
    assert reader.description["features"]["files"][0]["name"] == "boxes.tsv"
    both = open_vqa(tmp_path, **paths, images=pictures, features=tmp_path / "boxes.tsv")
    assert set(both[0].inputs) == {"text", "boxes", "image"}
