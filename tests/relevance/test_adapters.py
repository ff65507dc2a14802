"""Adapters (PEFT): the map of the model as it is now, by the names of the model inside."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

import heedmap

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50}
WORDS = torch.randint(5, 45, (2, 7), generator=torch.Generator().manual_seed(0))
INPUTS = {"input_ids": WORDS, "attention_mask": torch.ones_like(WORDS)}


def adapted() -> Any:
    torch.manual_seed(0)
    names = {"id2label": {0: "neg", 1: "pos"}, "label2id": {"neg": 0, "pos": 1}}
    bert = BertForSequenceClassification(BertConfig(**SIZES, **names))
    model = get_peft_model(bert, LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]), "one")
    model.add_adapter("two", LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "key"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


def explained(model: nn.Module, inputs: Any = INPUTS, **options: Any) -> Tensor:
    return heedmap.explain(model, inputs, **options)["text"]


def test_every_state_of_the_adapters_has_its_own_map() -> None:
    model, maps = adapted(), []
    for adapter in ("one", "two", "one"):
        model.set_adapter(adapter)
        maps.append(explained(model, target="pos"))
        torch.testing.assert_close(maps[-1], explained(copy.deepcopy(model), target="pos"))
    assert torch.equal(maps[0], maps[2])
    assert not torch.allclose(maps[0], maps[1], rtol=1e-2)
    with model.disable_adapter():
        bare = explained(model, target="pos")
    assert not torch.allclose(bare, maps[0], rtol=1e-2)
    merged = model.merge_and_unload()
    torch.testing.assert_close(explained(merged, target="pos"), maps[0], rtol=1e-3, atol=1e-6)


def test_labels_and_inputs_are_those_of_the_model_inside() -> None:
    model = adapted()
    found = heedmap.explain(model, INPUTS)
    assert set(found.prediction_labels or ()) <= {"neg", "pos"}
    for inputs in (WORDS, (WORDS,)):
        torch.testing.assert_close(explained(model, inputs, target=1), explained(model, target="pos"))


@pytest.mark.parametrize("kind", [PrefixTuningConfig, PromptTuningConfig])
def test_virtual_tokens(kind: Any) -> None:
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2, pad_token_id=0)).eval()
    model = get_peft_model(llama, kind(task_type="CAUSAL_LM", num_virtual_tokens=3)).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    maps = []
    for kernel in ("sdpa", "eager"):
        llama.set_attn_implementation(kernel)
        found = heedmap.explain(model, INPUTS)
        assert found["text"].shape == WORDS.shape
        maps.append(found["text"])
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-3, atol=1e-6)
    alone = {name: value[:1] for name, value in INPUTS.items()}
    torch.testing.assert_close(explained(model, alone), maps[1][:1], rtol=1e-3, atol=1e-6)
