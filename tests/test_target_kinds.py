"""What a target means is told by the logits, the names of labels and the inputs: for every kind of head."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertTokenizerFast,
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
)

import heedmap
from heedmap.cli.inputs import parse_target
from heedmap.errors import TargetError
from heedmap.models.answers import detections
from heedmap.models.predictions import found_objects
from heedmap.outputs import Context, fields_of, no_object
from heedmap.targets import AnswerSpan, ClassLogit, DetectionQuery, NextToken, TokenLabel

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 40}
NAMES = {0: "O", 1: "B-PER", 2: "B-LOC"}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "anna",
    "lives",
    "in",
    "paris",
    "and",
    "works",
    "at",
    "acme",
    ".",
]


def _named(names):
    return {"id2label": dict(names), "label2id": {name: index for index, name in names.items()}}


def _made(kind, config):
    """With weights large enough that answers differ."""
    torch.manual_seed(1)
    model = kind(config).eval()
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    return model


def _ids(batch=1, length=7):
    torch.manual_seed(2)
    return torch.randint(5, 45, (batch, length))


def _same(found, wanted):
    assert found.segments.keys() == wanted.segments.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in found.segments)
    assert torch.allclose(found.scores, wanted.scores, atol=1e-6)


# -- detectors -----------------------------------------------------------------------------------------------------


def _detector(kind, config, names):
    shapes = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in
             (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
    backbone = {
        "use_timm_backbone": False,
        "backbone": None,
        "backbone_config": shapes,
        "use_pretrained_backbone": False,
    }
    return _made(kind, config(**sizes, **backbone, d_model=16, num_queries=5, **_named(dict(enumerate(names)))))


@pytest.fixture(scope="module")
def picture():
    torch.manual_seed(3)
    return {"pixel_values": torch.randn(1, 3, 64, 64), "pixel_mask": torch.ones(1, 64, 64, dtype=torch.long)}


@pytest.mark.parametrize("names", [("car", "dog", "person"), ("face",)])
def test_a_detector_with_as_many_logits_as_names_has_no_class_for_no_object(picture, names):
    model = _detector(ConditionalDetrForObjectDetection, ConditionalDetrConfig, names)
    head = next(m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(names))
    head.bias.data[-1] += 5
    with torch.no_grad():
        output = model(**picture)
    query, label = divmod(int(output.logits[0].sigmoid().flatten().argmax()), len(names))
    found = heedmap.explain(model, picture)
    assert label == len(names) - 1
    assert found.target == (f"query {query}, class {label} ({names[-1]})",)
    assert found.top.function == "sigmoid"
    assert found.prediction_labels == (names[-1],)
    _same(found, heedmap.explain(model, picture, target=lambda output: output.logits[:, query, label]))
    surest = found_objects(output, Context.of(picture, model.config))[0].target
    assert (surest.query, surest.label) == (query, label)


def test_a_detector_with_one_logit_more_than_names_has_no_object_last(picture):
    model = _detector(DetrForObjectDetection, DetrConfig, ("car", "dog"))
    head = next(m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 3)
    head.bias.data[-1] += 5
    found, wanted = (heedmap.explain(model, picture, target=DetectionQuery(no_object=n)) for n in ("inferred", -1))
    assert found.target == wanted.target
    assert found.prediction_labels[0] in ("car", "dog")
    assert found.top.labels[0][0] == "no object"
    assert heedmap.explain(model, picture, target=DetectionQuery(no_object=None)).top.function == "sigmoid"


@pytest.mark.parametrize(
    ("logits", "labels", "configured", "inputs", "index"),
    [
        (4, 3, None, (), 3),
        (3, 3, None, (), None),
        (92, 0, 91, (), 91),
        (92, 5, 91, (), 91),
        (5, 0, 5, (), None),
        (3, 2, 2, ("input_ids",), None),
    ],
)
def test_no_object_by_names_then_by_the_configuration(logits, labels, configured, inputs, index):
    class Config:
        num_labels = configured

    names = {number: f"LABEL_{number}" for number in range(labels)}
    context = Context(dict.fromkeys(inputs), names, config=Config)
    assert no_object(torch.zeros(1, 2, logits), context) == index


def test_no_object_among_the_names_is_no_object():
    assert no_object(torch.zeros(1, 2, 3), Context(labels={0: "cat", 1: "dog", 2: "no object"})) == 2


def test_a_head_that_fits_no_names_is_refused_in_words():
    with pytest.raises(TargetError, match="7 logits a query and 2 names"):
        no_object(torch.zeros(1, 2, 7), Context(labels={0: "cat", 1: "dog"}))


def test_detections_take_the_inferred_head():
    subject = heedmap.load("zoo/detr-shapes")
    from heedmap.zoo.samples import MATERIALS

    image = MATERIALS["detr-shapes"].make(MATERIALS["detr-shapes"].shown).inputs["image"]
    assert detections(subject, image=image).names == detections(subject, image=image, no_object=-1).names


# -- labels of tokens ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagger():
    return _made(BertForTokenClassification, BertConfig(**TEXT, **_named(NAMES)))


def _at(place, label):
    return lambda output: output.logits[:, place, label]


def test_the_default_is_the_surest_label_that_is_not_o_among_real_tokens(tagger):
    inputs = {"input_ids": _ids(2, 9), "attention_mask": torch.tensor([[1] * 9, [1] * 4 + [0] * 5])}
    found = heedmap.explain(tagger, inputs)
    with torch.no_grad():
        odds = tagger(**inputs).logits.softmax(-1)
    for sample, real in enumerate((9, 4)):
        own = odds[sample, :real].max(-1)
        score = torch.where(own.indices == 0, 0, own.values)
        assert (own.indices != 0).any()
        place = int(score.argmax())
        assert found.target[sample] == f"{NAMES[int(own.indices[place])]} at token {place}"
        assert found.prediction_labels[sample] == NAMES[int(own.indices[place])]


def test_where_all_are_o_the_most_probable_other_label_is_explained(tagger):
    inputs = {"input_ids": _ids()}
    bias = tagger.classifier.bias.data.clone()
    tagger.classifier.bias.data[0] += 50
    try:
        found = heedmap.explain(tagger, inputs)
        with torch.no_grad():
            place, label = divmod(int(tagger(**inputs).logits[0].softmax(-1)[:, 1:].flatten().argmax()), 2)
    finally:
        tagger.classifier.bias.data.copy_(bias)
    assert found.target == (f"{NAMES[label + 1]} at token {place}",)
    assert found.prediction_labels == ("O",)


@pytest.mark.parametrize("target", ["B-LOC", 2, torch.tensor(2), TokenLabel("B-LOC"), NextToken(2)])
def test_a_label_is_meant_where_it_is_most_probable(tagger, target):
    inputs = {"input_ids": _ids()}
    with torch.no_grad():
        place = int(tagger(**inputs).logits[0].softmax(-1)[:, 2].argmax())
    found = heedmap.explain(tagger, inputs, target=target)
    assert found.target == (f"B-LOC at token {place}",)
    _same(found, heedmap.explain(tagger, inputs, target=_at(place, 2)))


def test_a_label_at_a_token_that_is_named(tagger):
    inputs = {"input_ids": _ids(2), "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
    found = heedmap.explain(tagger, inputs, target=TokenLabel(("B-PER", None), (2, -1)))
    with torch.no_grad():
        label = int(tagger(**inputs).logits[1, 4].argmax())
    assert found.target == ("B-PER at token 2", f"{NAMES[label]} at token 4")
    with pytest.raises(TargetError, match="token 7 is out of range: there are 7"):
        heedmap.explain(tagger, inputs, target=TokenLabel(0, 7))
    with pytest.raises(TargetError, match=r"a word needs a heedmap\.Model"):
        heedmap.explain(tagger, inputs, target=TokenLabel(0, "paris"))


def test_special_tokens_of_the_configuration_are_left_out():
    config = BertConfig(**TEXT, **_named({0: "A", 1: "B"}), pad_token_id=0, bos_token_id=2, eos_token_id=3)
    model = _made(BertForTokenClassification, config)
    inputs = {"input_ids": torch.tensor([[2, 7, 3, 0]])}
    assert heedmap.explain(model, inputs).target[0].endswith("at token 1")
    plain = Context.of({"special_tokens_mask": torch.tensor([[0, 1, 1, 1]]), **inputs}, None, {0: "A", 1: "B"})
    assert TokenLabel().choose(torch.zeros(1, 4, 2), plain).words == ("A at token 0",)


def test_a_causal_model_still_says_tokens():
    model = _made(LlamaForCausalLM, LlamaConfig(**TEXT, num_key_value_heads=2))
    assert heedmap.explain(model, _ids()).target[0].endswith("after position 6")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tagger")
    (path / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    sizes = {**TEXT, "vocab_size": len(WORDS)}
    _made(BertForTokenClassification, BertConfig(**sizes, **_named(NAMES))).save_pretrained(path)
    return path


def test_a_subject_takes_words_and_leaves_special_tokens_out(folder):
    subject = heedmap.load(folder)
    text = "anna lives in paris"
    inputs = subject.inputs(text=text)
    default = subject.explain(text=text).target[0]
    assert default.split(" (")[1].rstrip(")") in text.split()
    found = subject.explain(text=text, target=TokenLabel("B-LOC", "paris"))
    assert found.target == ("B-LOC at token 4 (paris)",)
    _same(found, heedmap.explain(subject, inputs, target=_at(4, 2)))
    for given in ("word:paris:B-LOC", "word:#4:B-LOC", "position:4:B-LOC"):
        assert subject.explain(text=text, target=parse_target(given)).target == found.target
    several = subject.explain(text=[text, "paris and anna"], target=TokenLabel(None, "paris"))
    assert [words.split(" at ")[1] for words in several.target] == ["token 4 (paris)", "token 1 (paris)"]
    with pytest.raises(TargetError, match="'acme' is not in the text"):
        subject.explain(text=text, target=TokenLabel(0, "acme"))


def test_the_page_lists_the_labelled_words(folder):
    subject = heedmap.load(folder)
    with torch.no_grad():
        tops = subject.model(**subject.inputs(text="anna lives in paris")).logits[0].argmax(-1)[1:-1].tolist()
    found = subject.predict("anna lives in paris")
    named = [choice for choice in found if choice.target is not None]
    assert len(named) == sum(top != 0 for top in tops)
    for choice in named:
        words = subject.explain(text="anna lives in paris", target=choice.target).target[0]
        assert choice.label == "{1}: {0}".format(*words.split(" at "))


# -- letters of sound ----------------------------------------------------------------------------------------------


def test_ctc_explains_the_surest_frame_that_is_not_blank():
    sizes = {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2}
    config = Wav2Vec2Config(
        **SMALL, **sizes, vocab_size=12, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0
    )
    model = _made(Wav2Vec2ForCTC, config)
    torch.manual_seed(0)
    inputs = {"input_values": torch.randn(2, 400), "attention_mask": torch.tensor([[1] * 400, [1] * 200 + [0] * 200])}
    with torch.no_grad():
        best = model(**inputs).logits.softmax(-1).max(-1)
    found = heedmap.explain(model, inputs)
    for sample, last in enumerate((len(best.values[0]), len(best.values[0]) // 2)):
        place = int(torch.where(best.indices == 0, 0, best.values)[sample, :last].argmax())
        assert found.target[sample] == f"class {int(best.indices[sample, place])} at frame {place}"


def test_letters_have_their_names_where_there_is_a_tokenizer():
    class Config:
        vocab_size = 3
        pad_token_id = 0

    logits = torch.tensor([[[9.0, 0, 0], [0, 0, 4]]])
    context = Context({"input_values": None}, config=Config, text=lambda ids: "-ab"[ids[0]])
    assert TokenLabel().choose(logits, context).words == ("b at frame 1",)


# -- answers of two ends, values, tuples ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    return _made(BertForQuestionAnswering, BertConfig(**TEXT))


def test_the_default_of_a_reader_is_its_best_span(reader):
    inputs = {"input_ids": _ids(2), "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2])}
    with torch.no_grad():
        output = reader(**inputs)
    spans = []
    for sample, real in enumerate((7, 5)):
        pairs = [(s, e) for s in range(real) for e in range(s, real)]
        spans.append(
            max(pairs, key=lambda p: float(output.start_logits[sample, p[0]] + output.end_logits[sample, p[1]]))
        )
    first, last = (torch.tensor(side) for side in zip(*spans, strict=True))

    def sums(output):
        rows = torch.arange(2)
        return output.start_logits[rows, first] + output.end_logits[rows, last]

    found = heedmap.explain(reader, inputs)
    told = [f"tokens {s} to {e}" if s != e else f"token {s}" for s, e in spans]
    assert found.target == tuple(f"answer at {words}" for words in told)
    _same(found, heedmap.explain(reader, inputs, target=sums))
    assert heedmap.explain(reader, inputs, target=AnswerSpan(1, 3)).target == ("answer at tokens 1 to 3",) * 2
    with pytest.raises(TargetError, match="a start not after the end"):
        heedmap.explain(reader, inputs, target=AnswerSpan(3, 1))


def test_the_answer_lies_in_the_second_text(reader):
    inputs = {"input_ids": _ids(), "token_type_ids": torch.tensor([[0, 0, 0, 0, 1, 1, 1]])}
    words = heedmap.explain(reader, inputs).target[0]
    assert all(int(n) >= 4 for n in words.split() if n.isdigit())


def test_the_output_of_a_regression_is_its_value():
    model = _made(BertForSequenceClassification, BertConfig(**TEXT, num_labels=1))
    found = heedmap.explain(model, _ids())
    assert found.target == ("value of the output",)
    assert found.prediction is None
    assert found.top is None
    _same(found, heedmap.explain(model, _ids(), target=lambda output: output.logits[:, 0]))


@pytest.mark.parametrize("labels", [False, True])
def test_tuples_are_read_by_what_the_model_says_it_returns(tagger, reader, picture, labels):
    detr = _detector(DetrForObjectDetection, DetrConfig, ("car", "dog"))
    sorts = BertForSequenceClassification(BertConfig(**TEXT, num_labels=3)).eval()
    cases = [(tagger, {"input_ids": _ids()}, {"labels": torch.zeros(1, 7, dtype=torch.long)})]
    cases += [(sorts, {"input_ids": _ids()}, {"labels": torch.tensor([1])})]
    cases += [
        (reader, {"input_ids": _ids()}, {"start_positions": torch.tensor([1]), "end_positions": torch.tensor([2])})
    ]
    cases += [] if labels else [(detr, picture, {})]
    for model, inputs, extra in cases:
        inputs = {**inputs, **extra} if labels else inputs
        found = heedmap.explain(model, {**inputs, "return_dict": False})
        wanted = heedmap.explain(model, inputs)
        assert found.target == wanted.target
        _same(found, wanted)


def test_a_tuple_of_an_own_module_is_read_by_shapes_or_refused():
    names = {0: "a", 1: "b", 2: "c"}
    loss, logits, states = torch.tensor(1.0), torch.zeros(2, 3), torch.zeros(2, 5, 8)
    assert Context(labels=names).read((loss, logits, states))["logits"] is logits
    unclear = Context().read((torch.zeros(2, 3), torch.zeros(2, 4)))
    with pytest.raises(TargetError, match=r"a tuple of 2 \(\(2, 3\), \(2, 4\)\), and which of them the logits are"):
        ClassLogit().choose(unclear, Context())
    assert fields_of(lambda x: x) == ()


def test_two_embeddings_of_a_picture_and_a_text_are_compared():
    image, text = torch.randn(2, 4), torch.randn(2, 4)
    context = Context({"image": None, "text": None})
    wanted = torch.cosine_similarity(image, text, dim=-1)
    for output in ((image, text, torch.tensor(3.0)), {"image_features": image, "text_features": text, "logits": None}):
        chosen = heedmap.targets.TopPrediction().choose(output, context)
        assert chosen.words[1] == "similarity of image 1 and text 1"
        assert torch.equal(chosen.values, wanted)


# -- how classes are given -----------------------------------------------------------------------------------------


def test_numbers_of_other_libraries_are_classes():
    model = _made(BertForSequenceClassification, BertConfig(**TEXT, num_labels=4))
    one, two = {"input_ids": _ids()}, {"input_ids": _ids(2)}
    for given in (torch.tensor(1), np.int64(1), np.array([1]), torch.tensor([1])):
        assert heedmap.explain(model, one, target=given).target == ("class 1",)
    with torch.no_grad():
        top = model(**two).logits.argmax(-1)
    for given in (top, top.numpy(), tuple(top.tolist())):
        assert heedmap.explain(model, two, target=given).target == tuple(f"class {i}" for i in top.tolist())
    several = heedmap.explain(model, two, target=[0, 3])
    assert [found.target for found in several] == [("class 0",) * 2, ("class 3",) * 2]


@pytest.mark.parametrize("given", [torch.tensor([0.5]), np.array([True]), torch.zeros(2, 2, dtype=torch.long)])
def test_other_tensors_are_no_classes(given):
    with pytest.raises(TargetError, match="one integer, or one for each sample"):
        heedmap.targets.as_target(given)


def test_what_a_list_means_is_said_where_it_is_given_inside_a_list():
    with pytest.raises(TargetError, match="one explanation for each of its entries"):
        heedmap.targets.as_target([0, 1])


class _Packed(nn.Module):
    """Its logits are in a list, as of a model with several heads."""

    def __init__(self):
        super().__init__()
        self.model = _made(ViTForImageClassification, ViTConfig(image_size=16, patch_size=8, num_labels=3, **SMALL))

    def forward(self, pixel_values):
        logits = self.model(pixel_values).logits
        return {"logits": [logits, -logits]}


def test_a_part_of_the_output_that_is_no_tensor_is_told():
    with pytest.raises(TargetError, match="the logits of the output are a list, no tensor"):
        heedmap.explain(_Packed(), {"pixel_values": torch.randn(1, 3, 16, 16)})
    found = heedmap.explain(
        _Packed(), {"pixel_values": torch.randn(1, 3, 16, 16)}, target=lambda out: out["logits"][1][:, 0]
    )
    assert found["image"].shape == (1, 4)
