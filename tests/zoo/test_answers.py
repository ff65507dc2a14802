"""The task of questions about boxes: the same data each time, words that its tokenizer knows, and both families."""

import pytest
import torch
from transformers import AutoTokenizer

import heedmap
from heedmap.errors import UnknownNameError
from heedmap.zoo.tasks import answers
from heedmap.zoo.world import ANSWERS, KINDS, VOCABULARY

SIZES = {
    "visualbert": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "lxmert": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "l_layers": 1,
        "r_layers": 1,
        "x_layers": 1,
    },
}


def built(family):
    torch.manual_seed(0)
    return answers.model({"family": family, **SIZES[family]}, None)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_batch_is_made_of_its_arguments_alone(split):
    first = answers.batch(3, split, 4, 8)
    answers.scene_asked.cache_clear()
    answers.batch(3, split, 9, 2)
    second = answers.batch(3, split, 4, 8)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_sample_of_a_test_has_a_scene_of_its_own_and_the_kinds_come_in_turn():
    made = [answers.sample(0, "test", index) for index in range(100)]
    assert len({id(scene) for scene, _ in made}) == 100
    assert sum(question.kind == KINDS[index % 5] for index, (_, question) in enumerate(made)) >= 75


def test_a_scene_is_asked_anew_after_the_pool_has_gone_by(monkeypatch):
    monkeypatch.setattr(answers, "POOL", 2)
    first, again = (answers.sample(0, "train", 4 + 10 * turn) for turn in (0, 1))
    assert first[0] is again[0]
    assert first[1] is first[0].rounds[0][4]
    assert again[1] is first[0].rounds[1][4]


def test_the_looks_are_of_the_boxes():
    scene, _ = answers.sample(0, "test", 0)
    true = scene.looks[scene.looks.any(1)]
    assert 1 <= len(true) <= 5
    assert true.min() >= 1


def test_the_tokenizer_knows_every_word_and_is_loaded_again(tmp_path):
    for processor in answers.processors():
        processor.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    ids = loaded(" ".join(VOCABULARY) + "?")["input_ids"]
    assert loaded.convert_ids_to_tokens(ids) == ["[CLS]", *VOCABULARY, "?", "[SEP]"]
    assert loaded.unk_token_id not in answers.batch(0, "val", 0, 50)["input_ids"]


@pytest.mark.parametrize("family", SIZES)
def test_loss_and_scores_of_either_family(family):
    model = built(family)
    assert answers.loss(model, answers.batch(0, "train", 0, 5)).isfinite()
    with torch.no_grad():
        found = answers.scores(model.eval(), 0, "val", 10)
    assert set(found) <= {"accuracy", *(f"accuracy/{kind}" for kind in KINDS)}
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize("family", SIZES)
def test_heedmap_gives_a_model_what_it_was_trained_on(family, tmp_path):
    model = built(family).eval()
    model.save_pretrained(tmp_path)
    answers.tokenizer().save_pretrained(tmp_path)
    scene, question = answers.sample(0, "test", 2)
    features = scene.features
    if family == "visualbert":
        features = torch.cat([torch.from_numpy(scene.features), torch.from_numpy(scene.positions)], 1)
    boxes = {"features": features, "boxes": scene.positions}
    found = heedmap.load(str(tmp_path)).explain(text=question.text, boxes=boxes)
    with torch.no_grad():
        expected = answers._outputs(model, answers.batch(0, "test", 2, 1))[0].argmax()
    assert ANSWERS[expected] in str(found.target)


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="known families: visualbert, lxmert"):
        answers.model({"family": "bart"}, None)
