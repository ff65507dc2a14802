"""Relevance of words beside reasons: by hand, and with a small random BERT."""

import json
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tr

import heedmap
from heedmap.datasets.sample import Rationale, RightAnswers, Sample
from heedmap.errors import InputError, OptionError
from heedmap.evaluate.evaluation import MethodSpec
from heedmap.evaluate.evidence import agreement, reasons, rebuilt, share_of, top_words, word_relevance, words_of_tokens
from heedmap.evaluate.experiments.rationales import Rationales
from heedmap.methods import METHODS, Method
from heedmap.methods.input_features import Leaves

PLAIN = ("the", "a", "film", "was", "with", "its", "plot", "and", "##s", "##ing", ".")
TELLING = ("superb", "dull")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PLAIN, *TELLING)
LONGEST = 32
GENERIC, CHANCE = MethodSpec("generic", "generic"), MethodSpec("random", "random")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    names = {"id2label": {0: "NEG", 1: "POS"}, "label2id": {"NEG": 0, "POS": 1}}
    config = tr.BertConfig(
        **small, vocab_size=len(VOCABULARY), max_position_embeddings=LONGEST, initializer_range=0.3, **names
    )
    tr.BertForSequenceClassification(config).eval().save_pretrained(path)
    tr.BertTokenizer.from_pretrained(path).save_pretrained(path)
    return heedmap.load(path)


@pytest.fixture
def oracle(monkeypatch):
    """A method that points at the telling words."""

    def attribute(runs, options):
        telling = runs[0].replay.inputs["input_ids"] >= VOCABULARY.index(TELLING[0])
        return [{index: telling[..., None].float() for index in Leaves(runs).features} for _ in runs]

    method = Method("oracle", "the telling words", "none", {}, {}, attribute=attribute)
    monkeypatch.setitem(METHODS, "oracle", method)
    return MethodSpec("oracle", "oracle")


def review(key, length=20, telling=5, label="POS"):
    random = np.random.default_rng(int(key))
    words = random.choice([word for word in PLAIN if "#" not in word], length).tolist()
    for place in random.choice(length, telling, replace=False):
        words[place] = str(random.choice(TELLING))
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    spans = tuple((int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True))
    told = tuple(span for word, span in zip(words, spans, strict=True) if word in TELLING)
    return Sample(key, {"text": " ".join(words)}, Rationale(label, told, spans))


# -- words -------------------------------------------------------------------------------------------------------------


def test_tokens_find_their_words():
    words = [(0, 4), (5, 12), (13, 14)]
    offsets = [(0, 0), (0, 4), (4, 8), (8, 12), (12, 14), (0, 0)]
    assert words_of_tokens(offsets, words).tolist() == [-1, 0, 1, 1, 2, -1]
    assert words_of_tokens([(3, 8)], words).tolist() == [1]
    assert words_of_tokens(offsets, []).tolist() == [-1] * 6


def test_a_words_relevance_is_that_of_its_tokens():
    owners, relevance = np.array([-1, 0, 1, 1, -1]), np.array([9.0, 1.0, 2.0, -3.0, 9.0])
    assert word_relevance(relevance, owners, 3).tolist()[:2] == [1, -1]
    assert word_relevance(relevance, owners, 3, "max").tolist()[:2] == [1, 2]
    assert np.isnan(word_relevance(relevance, owners, 3)[2])
    assert np.isnan(word_relevance(relevance, owners, 3, "max")[2])


def test_words_without_relevance_are_never_on_top():
    assert top_words(np.array([np.nan, -2.0, 5.0, np.nan, 0.0]), 0).tolist() == [2, 4, 1]


def test_figures_by_hand():
    truth = np.array([True, False, True, False, True, True])
    figures = agreement(np.array([0, 1, 2, 3]), truth, [1, 2, 10])
    assert figures[0] == pytest.approx([1, 1 / 4, 2 / 5])
    assert figures[1] == pytest.approx([1 / 2, 1 / 4, 1 / 3])
    assert figures[2] == pytest.approx([2 / 4, 2 / 4, 1 / 2])  # four words seen, two reasons beyond
    assert agreement(np.array([1, 3]), truth, [2]).tolist() == [[0, 0, 0]]
    assert agreement(np.array([], dtype=int), truth, [2]).tolist() == [[0, 0, 0]]


def test_a_perfect_order_has_the_best_f1_and_a_random_one_that_of_chance():
    drawn = np.random.default_rng(0)
    truth = np.zeros(200, dtype=bool)
    truth[drawn.choice(200, 30, replace=False)] = True
    counts = list(range(10, 90, 10))
    best = [2 * min(k, 30) / (k + 30) for k in counts]
    perfect = agreement(np.argsort(~truth, kind="stable"), truth, counts)
    assert perfect[:, 2] == pytest.approx(best)
    random = np.mean([agreement(drawn.permutation(200), truth, counts) for _ in range(300)], axis=0)
    assert random[:, 0] == pytest.approx(np.full(8, 0.15), abs=0.015)
    assert random[:, 2] == pytest.approx([2 * k * 0.15 / (k + 30) for k in counts], abs=0.015)


def test_reasons_are_words_that_spans_touch():
    assert reasons([(0, 4), (5, 9), (10, 12)], [(8, 10)]).tolist() == [False, True, False]
    assert reasons([(0, 4), (5, 9)], []).tolist() == [False, False]


def test_shares_are_rounded_up():
    order = np.arange(30)
    assert [len(share_of(order, share)) for share in (0.01, 0.05, 0.1, 0.2, 0.5)] == [1, 2, 3, 6, 15]


def test_a_text_is_rebuilt_of_its_words():
    text, words = "Well, not  bad.", [(0, 4), (4, 5), (6, 9), (11, 14), (14, 15)]
    assert rebuilt(text, words, range(5)) == text
    assert rebuilt(text, words, [0, 3, 4]) == "Well  bad."
    assert rebuilt(text, words, [3]) == "bad"
    assert rebuilt(text, words, [0, 3], {2: "quite", 3: "good"}) == "Well quite  bad"


# -- with a model ------------------------------------------------------------------------------------------------------


def test_a_perfect_method_reaches_the_best_f1_and_chance_does_not(subject, oracle):
    evaluation, samples = Rationales(counts=(2, 5, 10)), [review(str(i)) for i in range(24)]
    rows, skipped = evaluation.rows(subject, samples, [oracle, CHANCE], 0)
    assert skipped == {}
    findings = evaluation.findings(rows)
    f1, precision, recall = findings.curves[0], findings.curves[2], findings.curves[1]
    assert f1.key == "f1"
    assert f1.values["oracle"] == pytest.approx(np.tile([2 * 2 / 7, 1, 2 * 5 / 15], (24, 1)))
    assert recall.values["oracle"] == pytest.approx(np.tile([0.4, 1, 1], (24, 1)))
    chance = precision.values["random"].mean(0)
    assert chance == pytest.approx(np.full(3, 5 / 20), abs=0.12)
    first = findings.measures[0]
    every = np.arange(24)
    assert (first.key, first.samples, first.higher) == ("f1_mean", 24, True)
    assert first.statistics["oracle"](every) > 2 * first.statistics["random"](every)
    assert json.loads(json.dumps(findings.facts))["texts"] == 24
    assert evaluation.findings(iter(rows[::-1])).facts == findings.facts


def test_probabilities_are_those_of_the_rebuilt_texts(subject, oracle):
    evaluation, sample = Rationales(counts=(1,), shares=(0.25, 0.5)), review("3", telling=5)
    (row,), _ = evaluation.rows(subject, [sample], [oracle], 0)
    words = sample.inputs["text"].split()

    def probability(text):
        with torch.no_grad():
            return subject.model(**subject.inputs(text=text)).logits.softmax(-1)[0]

    whole = probability(" ".join(words))
    top = int(whole.argmax())
    told = " ".join(word for word in words if word in TELLING)
    rest = " ".join(word for word in words if word not in TELLING)
    assert row["without_top"][0] == pytest.approx(float(whole[top] - probability(rest)[top]), abs=1e-6)
    assert row["only_top"][0] == pytest.approx(float(whole[top] - probability(told)[top]), abs=1e-6)
    assert row["comprehensiveness"] == pytest.approx(np.mean(row["without_top"]))
    assert row["sufficiency"] == pytest.approx(np.mean(row["only_top"]))
    assert row["right"] == float(top == 1)


def test_words_of_other_samples_may_stand_where_words_are_taken_out(subject, oracle):
    sample, donors = review("3", telling=5), tuple(review(key, length=6) for key in ("3", "8"))
    evaluation = Rationales(counts=(1,), shares=(0.25,), remove="replace", donors=donors)
    assert evaluation.settings["donors"] == ["3", "8"]
    (row,), _ = evaluation.rows(subject, [sample], [oracle], 0)
    (again, *_), _ = evaluation.rows(subject, [sample, review("4")], [oracle], 0)
    for figure in ("comprehensiveness", "sufficiency"):  # what stands there depends on the sample and the seed alone
        assert again[figure] == pytest.approx(row[figure], abs=1e-6)
    words, others = sample.inputs["text"].split(), donors[1].inputs["text"].split()
    drawn = np.random.default_rng([0, zlib.crc32(b"3")]).integers(len(others), size=len(words))
    instead = [others[place] for place in drawn]

    def probability(gone):
        text = " ".join(other if gone(word) else word for word, other in zip(words, instead, strict=True))
        with torch.no_grad():
            return subject.model(**subject.inputs(text=text)).logits.softmax(-1)[0]

    whole = probability(lambda word: False)
    top = int(whole.argmax())
    rest, told = (probability(lambda word, told=told: (word in TELLING) is told)[top] for told in (True, False))
    assert row["without_top"][0] == pytest.approx(float(whole[top] - rest), abs=1e-6)
    assert row["only_top"][0] == pytest.approx(float(whole[top] - told), abs=1e-6)
    with pytest.raises(InputError, match="no word of another sample than 3"):
        Rationales(remove="replace", donors=donors[:1]).rows(subject, [sample], [oracle], 0)
    with pytest.raises(OptionError, match="remove is 'mask'; expected 'drop' or 'replace'"):
        Rationales(remove="mask")


def test_a_long_text_is_cut(subject, oracle):
    evaluation, sample = Rationales(counts=(80,)), review("1", length=60, telling=20)
    (row,), _ = evaluation.rows(subject, [sample], [oracle], 0)
    seen = LONGEST - 2
    told = sum(word in TELLING for word in sample.inputs["text"].split()[:seen])
    assert (row["words"], row["seen"], row["reasons"]) == (60, seen, 20)
    assert row["recall"] == pytest.approx([told / 20])
    assert row["precision"] == pytest.approx([told / seen])
    assert evaluation.findings([row]).facts["cut"] == 1


def test_a_batch_is_its_samples_one_by_one(subject):
    evaluation = Rationales(counts=(3, 6))
    samples = [review("1"), review("2", length=40), review("3", length=9, telling=2)]
    together, _ = evaluation.rows(subject, samples, [GENERIC], 5)
    alone = [evaluation.rows(subject, [one], [GENERIC], 5)[0][0] for one in samples]
    for row, other in zip(together, alone, strict=True):
        assert row["f1"] == other["f1"]
        assert row["without_top"] == pytest.approx(other["without_top"], abs=1e-5)
        assert row["only_top"] == pytest.approx(other["only_top"], abs=1e-5)


def test_the_true_label_may_be_explained(subject):
    samples = [review("1", label="POS"), review("2", label="neg")]
    own, _ = Rationales(truth=False).rows(subject, samples, [GENERIC], 0)
    true, _ = Rationales(truth=True).rows(subject, samples, [GENERIC], 0)
    assert sorted(row["right"] for row in own) == [0, 1]  # this model says one class to all
    changed = [a["without_top"] != b["without_top"] for a, b in zip(own, true, strict=True)]
    assert changed == [row["right"] == 0 for row in own]


def test_labels_of_other_names(subject):
    sample = review("1", label="good")
    rows, skipped = Rationales(truth=True).rows(subject, [sample, review("2")], [GENERIC], 0)
    assert [row["sample"] for row in rows] == ["2"]
    assert "'good' is none of the model's (neg, pos)" in skipped["1"]
    (row,), _ = Rationales(truth=True, classes={"good": 0}).rows(subject, [sample], [GENERIC], 0)
    assert row["right"] in (0, 1)
    (row,), _ = Rationales().rows(subject, [sample], [GENERIC], 0)
    assert np.isnan(row["right"])
    assert Rationales().findings([row]).facts["accuracy"] is None


def test_samples_that_are_something_else_are_skipped(subject):
    plain = Sample("9", {"text": "a film"}, RightAnswers({"POS": 1.0}))
    bare = Sample("8", {"text": "a film"}, Rationale("POS", (), ((0, 1), (2, 6))))
    rows, skipped = Rationales().rows(subject, [plain, bare], [GENERIC], 0)
    assert rows == []
    assert "RightAnswers" in skipped["9"]
    assert "at least one" in skipped["8"]


def test_models_that_do_not_fit_are_told(subject):
    Rationales().check(subject)
    for name in ("lxmert-shapes", "gpt-lists", "vit-shapes"):
        with pytest.raises(InputError, match="classifier of text alone"):
            Rationales().check(heedmap.load(f"zoo/{name}"))
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(InputError, match="only fast tokenizers"):
        Rationales().check(replace(subject, processors=replace(subject.processors, tokenizer=slow)))


def test_settings_are_checked():
    for wrong in ({"join": "mean"}, {"counts": ()}, {"counts": (0,)}, {"shares": (1.0,)}, {"shares": ()}):
        with pytest.raises(OptionError):
            Rationales(**wrong)
    assert json.loads(json.dumps(Rationales().settings))["counts"] == [10, 20, 30, 40, 50, 60, 70, 80]
