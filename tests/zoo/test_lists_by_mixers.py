"""The lists of pairs for models that mix tokens by more than attention: what they learn from, and that their maps find it."""

import pytest
import torch

import heedmap
from heedmap.errors import AttentionError, UnknownNameError
from heedmap.zoo.lists import QUESTIONS, list_sample, questions, training_text
from heedmap.zoo.material import right_ones
from heedmap.zoo.samples import MATERIALS
from heedmap.zoo.tasks import labelled, recurrent

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
CONVBERT = {**SMALL, "embedding_size": 16, "conv_kernel_size": 3}
BAMBA = {
    "family": "bamba",
    **SMALL,
    **{"attn_layer_indices": [1], "num_key_value_heads": 2, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4},
    "mamba_chunk_size": 8,
}
MAMBA = {
    **{"family": "mamba2", "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "num_heads": 4, "head_dim": 8},
    **{"n_groups": 1, "chunk_size": 8},
}
BY_MIXERS = ("convbert-lists", "bamba-lists", "mamba-lists")


def test_the_first_question_is_the_samples_own():
    sample = list_sample(0, "train", 3)
    (key, value), *more = questions(sample)
    assert sample.text.endswith(f"? {key}")
    assert value == sample.answer
    assert len(more) == QUESTIONS - 1
    assert training_text(sample) == f"{sample.text} {value}" + "".join(f" ? {k} {v}" for k, v in more)


@pytest.mark.parametrize("split", ["train", "val"])
def test_each_key_is_labelled_with_its_value_and_nothing_else_is(split):
    made = labelled.batch(0, split, 2, 6)
    for row, index in enumerate(range(2, 8)):
        values = dict(list_sample(0, split, index).pairs)
        words = labelled.tokenizer().convert_ids_to_tokens(made["input_ids"][row].tolist())
        labels = [None if number < 0 else labelled.LABELS[number] for number in made["labels"][row].tolist()]
        assert labels == [None if word == "<pad>" else values.get(word, "O") for word in words]
        assert words.count("?") == (QUESTIONS if split == "train" else 1)


def test_the_answer_stands_in_the_list_alone():
    made = labelled.batch(0, "train", 0, 8)
    for row in range(8):
        words = labelled.tokenizer().convert_ids_to_tokens(made["input_ids"][row].tolist())
        assert words.count(list_sample(0, "train", row).answer) == 1


@pytest.mark.parametrize(("task", "settings"), [(labelled, CONVBERT), (recurrent, BAMBA), (recurrent, MAMBA)])
def test_every_weight_learns_and_scores_are_shares(task, settings):
    torch.manual_seed(0)
    model = task.model(settings, None).train()
    task.loss(model, task.batch(0, "train", 0, 4)).backward()
    blind = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert blind == []
    with torch.no_grad():
        found = task.scores(model.eval(), 0, "val", 20)
    assert all(0 <= share <= 1 for share in found.values())
    assert "accuracy" in found


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"no family is called 'rwkv'; known families: bamba, mamba2"):
        recurrent.model({**BAMBA, "family": "rwkv"}, None)


def test_scores_are_of_the_word_that_is_asked_for(monkeypatch):
    def logits(model, made):
        labels = made["labels"].clamp(min=0)
        last = made["attention_mask"].sum(1, keepdim=True) - 1
        wrong = (
            torch.zeros_like(labels).scatter(1, last, 1) if model == "wrong at the end" else torch.zeros_like(labels)
        )
        return torch.nn.functional.one_hot((labels + wrong) % len(labelled.LABELS), len(labelled.LABELS)).float()

    monkeypatch.setattr(labelled, "_logits", logits)
    assert labelled.scores("right", 0, "val", 30) == {"accuracy": 1.0, "exact": 1.0}
    assert labelled.scores("wrong at the end", 0, "val", 30) == {"accuracy": 0.0, "exact": 0.0}


@pytest.mark.parametrize("name", BY_MIXERS)
def test_the_map_finds_the_pair_that_was_asked_for(name):
    """By the extension of the paper's rules: without it there is none."""
    subject, material = heedmap.load(f"zoo/{name}"), MATERIALS[name]
    batch = right_ones(subject, material, [material.make(index) for index in range(8)])
    assert len(batch.samples) == 8
    (target,) = batch.targets()
    found = heedmap.explain(subject, batch.inputs, target=target)["text"]
    inside = []
    for row, sample in zip(found, batch.samples, strict=True):
        truth = sample.truth
        assert int(row.argmax()) in (truth.key, truth.value)
        inside.append(float(row[[truth.key, truth.value]].sum() / row.sum()))
    assert sum(inside) / len(inside) > 0.6
    with pytest.raises(AttentionError, match="mixers=False turns off"):
        heedmap.explain(subject, batch.inputs, target=target, mixers=False)
