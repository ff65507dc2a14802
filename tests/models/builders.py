"""One function a model: a small random one, saved to a folder with its tokenizer and processors."""

import json
from pathlib import Path

import torch
import transformers as tr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *SPECIAL,
    *("the", "a", "cat", "dog", "sat", "on", "mat", "play", "##ing", "##ed"),
    *("what", "is", "in", "this", "red", "?", "car"),
]
CORPUS = [
    "The capital of France is Paris . The capital of Italy is Rome .",
    "translate English to German : The house is wonderful . Das Haus ist wunderbar .",
    "the cat sat on the mat and the dog played",
] * 4
SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
D_SMALL = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
D_SMALL |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}


def _save(model, path: Path, *processors) -> None:
    model.eval().save_pretrained(path)
    for processor in processors:
        processor.save_pretrained(path)


def wordpiece(path: Path):
    (path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tr.BertTokenizer.from_pretrained(path)


def byte_level() -> Tokenizer:
    """GPT-2's form, with the whole byte alphabet; é and emoji are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """T5's form: SentencePiece's spaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def bert(path: Path) -> None:
    torch.manual_seed(0)
    wordpiece(path)
    names = {0: "noun", 1: "verb", 2: "other"}
    _save(
        tr.BertForSequenceClassification(bert_config(id2label=names, label2id={v: k for k, v in names.items()})), path
    )


def bert_config(**settings) -> tr.BertConfig:
    return tr.BertConfig(**SMALL, vocab_size=len(WORDS), max_position_embeddings=24, **settings)


def bert_encoder(path: Path) -> None:
    torch.manual_seed(0)
    _save(tr.BertModel(bert_config()), path, wordpiece(path))


def bert_masked(path: Path) -> None:
    torch.manual_seed(0)
    _save(tr.BertForMaskedLM(bert_config()), path, wordpiece(path))


def vit(path: Path) -> None:
    """16 × 24 pixels in 2 × 3 patches."""
    torch.manual_seed(0)
    config = tr.ViTConfig(**SMALL, image_size=(16, 24), patch_size=8, num_labels=4)
    _save(tr.ViTForImageClassification(config), path, tr.ViTImageProcessor(size={"height": 16, "width": 24}))


def vit_stretched(path: Path) -> None:
    """Made for 16 × 16 pixels, with a processor for 16 × 32."""
    torch.manual_seed(0)
    config = tr.ViTConfig(**SMALL, image_size=16, patch_size=8, num_labels=4)
    _save(tr.ViTForImageClassification(config), path, tr.ViTImageProcessor(size={"height": 16, "width": 32}))


def clip(path: Path) -> None:
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    merges = [("c", "a"), ("ca", "t</w>")]
    tokenizer = tr.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    end, start = tokenizer.eos_token_id, tokenizer.bos_token_id
    text = {
        **SMALL,
        "vocab_size": len(tokens),
        "max_position_embeddings": 20,
        "eos_token_id": end,
        "bos_token_id": start,
    }
    vision = {**SMALL, "image_size": 24, "patch_size": 8}
    image = tr.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    model = tr.CLIPModel(tr.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    _save(model, path, tr.CLIPProcessor(image_processor=image, tokenizer=tokenizer))


def vilt(path: Path) -> None:
    torch.manual_seed(0)
    size = {"image_size": 32, "patch_size": 8, "max_position_embeddings": 24, "max_image_length": -1}
    config = tr.ViltConfig(**SMALL, **size, vocab_size=len(WORDS), num_labels=5)
    image = tr.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    _save(tr.ViltForQuestionAnswering(config), path, tr.ViltProcessor(image, wordpiece(path)))


def lxmert(path: Path) -> None:
    torch.manual_seed(0)
    layers = {"l_layers": 2, "x_layers": 2, "r_layers": 2}
    config = tr.LxmertConfig(
        **SMALL, **layers, vocab_size=len(WORDS), visual_feat_dim=6, num_qa_labels=5, max_position_embeddings=24
    )
    _save(tr.LxmertForQuestionAnswering(config), path, wordpiece(path))


def visual_bert(path: Path) -> None:
    torch.manual_seed(0)
    size = {"visual_embedding_dim": 6, "max_position_embeddings": 24}
    config = tr.VisualBertConfig(**SMALL, **size, vocab_size=len(WORDS), num_labels=5)
    _save(tr.VisualBertForQuestionAnswering(config), path, wordpiece(path))


def gpt2(path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tr.PreTrainedTokenizerFast(
        tokenizer_object=byte_level(), eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    config = tr.GPT2Config(
        n_embd=16, n_head=2, n_layer=2, n_positions=48, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0
    )
    _save(tr.GPT2LMHeadModel(config), path, tokenizer)


def t5(path: Path) -> None:
    torch.manual_seed(1)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = tr.PreTrainedTokenizerFast(tokenizer_object=unigram(), **special)
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = tr.T5Config(**size, vocab_size=len(tokenizer), decoder_start_token_id=0, eos_token_id=1)
    _save(tr.T5ForConditionalGeneration(config), path, tokenizer)


def bart(path: Path) -> None:
    torch.manual_seed(0)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<unk>"}
    tokenizer = tr.PreTrainedTokenizerFast(tokenizer_object=unigram(), **special)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 1}
    config = tr.BartConfig(
        **D_SMALL, **ids, vocab_size=len(tokenizer), max_position_embeddings=80, forced_eos_token_id=1, num_labels=3
    )
    _save(tr.BartForSequenceClassification(config), path, tokenizer)


def whisper(path: Path) -> None:
    """Hears one second: 100 frames, 50 tokens."""
    torch.manual_seed(0)
    tokenizer = whisper_tokenizer()
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    config = tr.WhisperConfig(
        **D_SMALL, **ids, decoder_start_token_id=start, bos_token_id=tokenizer.eos_token_id, num_mel_bins=8,
        max_source_positions=50, max_target_positions=80, vocab_size=len(tokenizer)
    )  # fmt: skip
    model = tr.WhisperForConditionalGeneration(config)
    model.generation_config.no_timestamps_token_id = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    model.generation_config.is_multilingual = False
    _save(model, path, tr.WhisperFeatureExtractor(feature_size=8, chunk_length=1), tokenizer)


def whisper_tokenizer():
    trained = json.loads(byte_level().to_str())["model"]
    merges = [tuple(merge) for merge in trained["merges"]]
    tokenizer = tr.WhisperTokenizer(vocab=trained["vocab"], merges=merges)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"]}
    )
    return tokenizer


def wav2vec2(path: Path) -> None:
    """A token every 20 samples."""
    torch.manual_seed(0)
    config = tr.Wav2Vec2Config(
        **SMALL, conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(5, 4), num_feat_extract_layers=2, vocab_size=8,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8, num_labels=3
    )  # fmt: skip
    _save(tr.Wav2Vec2ForSequenceClassification(config), path, tr.Wav2Vec2FeatureExtractor(sampling_rate=8000))


def blip(path: Path) -> None:
    torch.manual_seed(0)
    ids = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {**SMALL, **ids, "vocab_size": len(WORDS), "max_position_embeddings": 80, "encoder_hidden_size": 16}
    vision = {**SMALL, "image_size": 16, "patch_size": 8}
    model = tr.BlipForQuestionAnswering(tr.BlipConfig(text_config=text, vision_config=vision))
    model.decoder_start_token_id = 2
    image = tr.BlipImageProcessor(size={"height": 16, "width": 16})
    _save(model, path, tr.BlipProcessor(image, wordpiece(path)))


def detr(path: Path) -> None:
    torch.manual_seed(0)
    backbone = tr.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic", out_features=["stage4"]
    )
    config = tr.DetrConfig(**D_SMALL, backbone_config=backbone, use_timm_backbone=False, num_queries=5, num_labels=3)
    image = tr.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    _save(tr.DetrForObjectDetection(config), path, image)


def llava(path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tr.PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    vision = tr.CLIPVisionConfig(**SMALL, image_size=16, patch_size=8)
    text = tr.LlamaConfig(**SMALL, vocab_size=len(tokenizer), num_key_value_heads=1)
    config = tr.LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_id, vision_feature_layer=-1)
    image = tr.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = tr.LlavaProcessor(
        image, tokenizer, patch_size=8, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1,
    )  # fmt: skip
    _save(tr.LlavaForConditionalGeneration(config), path, processor)
