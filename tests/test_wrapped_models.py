"""Models in wrappers, and inputs as people have them: the same map as the model inside, or words that say what is wrong."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import heedmap
from heedmap.errors import HeedmapError, InputError

IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=20, id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1},
    )  # fmt: skip
    return BertForSequenceClassification(config).eval()


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs).logits


def compiled_in_place(model):
    model = copy.deepcopy(model)
    model.compile()
    return model


def compiled_part(model):
    model = copy.deepcopy(model)
    model.bert = torch.compile(model.bert)
    return model


def compiled_forward(model):
    model = copy.deepcopy(model)
    model.forward = torch.compile(model.forward)
    return model


WRAPPERS = [
    nn.DataParallel,
    torch.compile,
    Logits,
    lambda m: SimpleNamespace(model=m),
    compiled_in_place,
    compiled_part,
]


@pytest.mark.parametrize("wrap", [*WRAPPERS, compiled_forward])
@pytest.mark.parametrize("inputs", [{"input_ids": IDS}, IDS, (IDS,)])
def test_a_wrapped_model_has_the_map_and_the_labels_of_the_model_inside(model, wrap, inputs):
    want = heedmap.explain(model, IDS, target="pos")
    found = heedmap.explain(wrap(model), inputs, target="pos")
    assert torch.equal(found["text"], want["text"])


@pytest.mark.parametrize("inputs", [IDS.numpy(), {"input_ids": IDS.tolist()}, {"input_ids": IDS.numpy()}])
def test_arrays_and_lists_are_tensors(model, inputs):
    assert torch.equal(heedmap.explain(model, inputs)["text"], heedmap.explain(model, IDS)["text"])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("a text", "inputs is text"),
        (["a text"], "inputs is text"),
        ({"input_ids": [3, 4]}, "the batch comes first"),
        ({"input_ids": [[3, 4], [5]]}, "pad its rows"),
        ({"input_ids": IDS[0]}, "the batch comes first"),
        ({"input_ids": IDS[:, :0]}, "there is no token"),
        ({"input_ids": IDS + 44}, "the id 54, and the vocabulary ends at 49"),
        ({"input_ids": torch.ones(1, 30, dtype=torch.long)}, "30 tokens, and the model has 20 positions"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(model, inputs, words):
    with pytest.raises(InputError, match=words):
        heedmap.explain(model, inputs)


def test_models_that_cannot_be_explained_are_refused_in_words(model):
    with pytest.raises(InputError, match="the class BertForSequenceClassification"):
        heedmap.explain(BertForSequenceClassification, IDS)
    with pytest.raises(InputError, match=r"heedmap\.load"):
        heedmap.explain("some/name", IDS)
    with pytest.raises(HeedmapError, match="meta device"):
        heedmap.explain(copy.deepcopy(model).to("meta"), IDS)


class Bag(nn.Module):
    """Takes its tensors in a dict, as a SentenceTransformer does."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, features):
        return self.inside(**features)


def test_tensors_inside_a_dict_are_told_where_they_belong(model):
    for inputs in ({"features": {"input_ids": IDS}}, ({"input_ids": IDS},)):
        with pytest.raises(InputError, match=r"get_submodule\('inside'\), BertForSequenceClassification, takes them"):
            heedmap.explain(Bag(model), inputs)


class Scorer(nn.Sequential):
    """Hands its dict to the classifier inside and gives its logits, as a CrossEncoder does."""

    @property
    def model(self):
        return self[0].inside


class Rescaled(Scorer):
    """Makes something else of the logits."""

    @property
    def model(self):
        return self[0][0].inside


def test_a_scorer_around_a_classifier_is_that_classifier(model):
    wanted = heedmap.explain(model, IDS, target="pos")
    for inputs in (IDS, {"input_ids": IDS, "modality": "text"}):
        found = heedmap.explain(Scorer(Bag(model)), inputs, target="pos")
        assert torch.equal(found["text"], wanted["text"])
        assert found.target == wanted.target == ("class 1 (pos)",) * 2
    with pytest.raises(InputError, match=r"inside input, .* of their own: give that dict itself"):
        heedmap.explain(Scorer(Bag(model)), {"input": {"input_ids": IDS}})
    with pytest.raises(InputError, match=r"get_submodule\('0\.0\.inside'\), BertForSequenceClassification, takes them"):
        heedmap.explain(Rescaled(nn.Sequential(Bag(model), nn.Linear(2, 2))), {"input": {"input_ids": IDS}})


def test_cross_encoder(model, tmp_path):
    sentences = pytest.importorskip("sentence_transformers")
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "anna", "lives", "in", "paris", "works", "at", "acme"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    encoder = sentences.CrossEncoder(str(tmp_path), device="cpu")
    inputs = encoder.preprocess([("anna lives in paris", "anna works at acme")])
    found = heedmap.explain(encoder, inputs, target="pos")
    wanted = heedmap.explain(model, {n: v for n, v in inputs.items() if n != "modality"}, target="pos")
    assert found.target == ("class 1 (pos)",)
    torch.testing.assert_close(found["text"], wanted["text"])


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::DeprecationWarning")
def test_a_traced_model_is_refused_in_words():
    traced = torch.jit.trace(nn.Sequential(nn.Linear(4, 4)), torch.zeros(1, 4))
    with pytest.raises(HeedmapError, match=r"traced or scripted.*explain the module that it was made from"):
        heedmap.explain(traced, torch.zeros(1, 4))


def test_distributed_data_parallel(model, tmp_path):
    import torch.distributed

    wanted = heedmap.explain(model, IDS, target="pos")["text"]
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        assert torch.equal(heedmap.explain(wrapped, IDS, target="pos")["text"], wanted)
        assert all(p.requires_grad for p in wrapped.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_under_autocast_it_is_the_same_map_in_half_precision(model):
    want = heedmap.explain(model, IDS, target="pos")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = heedmap.explain(model, IDS, target="pos")
        assert model(IDS).logits.dtype == torch.bfloat16
    assert found["text"].dtype == torch.float32
    assert not torch.equal(found["text"], want["text"])
    torch.testing.assert_close(found["text"], want["text"], rtol=0.1, atol=0.05 * float(want["text"].abs().max()))
