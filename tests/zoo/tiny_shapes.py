"""Small random models of the zoo's vision classes, with its labels; biased so that some of what they say is right."""

from pathlib import Path

import torch
import transformers as tr

from heedmap.zoo.tasks import SPECIAL, word_tokenizer
from heedmap.zoo.world import ANSWERS, COLOURS, FEATURES, SHAPES, VOCABULARY

SIDE = 96
WORDS = (*VOCABULARY, ",", "?")
SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
TEXT = {**SMALL, "vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 40}
SQUARE = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def named(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}


def vit():
    """Says yes to every label."""
    looks = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    model = tr.ViTForImageClassification(tr.ViTConfig(**SMALL, image_size=SIDE, patch_size=16, **named(looks)))
    torch.nn.init.constant_(model.classifier.bias, 9.0)
    return model, tr.ViTImageProcessor(**SQUARE)


def detr():
    """Says that every query has found something, with boxes of a third of the side in the middle."""
    backbone = tr.ResNetConfig(
        layer_type="basic", out_features=["stage1"], embedding_size=8, hidden_sizes=[8], depths=[1]
    )
    ends = {
        f"{end}_{what}": value
        for end in ("encoder", "decoder")
        for what, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = tr.DetrConfig(backbone_config=backbone, d_model=16, num_queries=3, **ends, **named(SHAPES))
    model = tr.DetrForObjectDetection(config)
    torch.nn.init.constant_(model.class_labels_classifier.bias[-1:], -9.0)
    torch.nn.init.normal_(model.class_labels_classifier.weight, std=5.0)
    return model, tr.DetrImageProcessor(**SQUARE, do_pad=False)


def clip():
    vision = {**SMALL, "image_size": SIDE, "patch_size": 16}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = tr.CLIPModel(tr.CLIPConfig(text_config={**TEXT, **ids}, vision_config=vision, projection_dim=8))
    image = tr.CLIPImageProcessor(**SQUARE, do_center_crop=False)
    return model, image, word_tokenizer(WORDS)


def visualbert():
    """Answers every question with yes."""
    config = tr.VisualBertConfig(**TEXT, visual_embedding_dim=FEATURES + 4, **named(ANSWERS))
    model = tr.VisualBertForQuestionAnswering(config)
    torch.nn.init.constant_(model.cls.bias[1:2], 9.0)
    return model, word_tokenizer(WORDS)


def lxmert():
    """Answers every question with yes."""
    layers = {"l_layers": 1, "x_layers": 2, "r_layers": 1}
    config = tr.LxmertConfig(
        **{**TEXT, **layers}, visual_feat_dim=FEATURES, num_qa_labels=len(ANSWERS), **named(ANSWERS)
    )
    model = tr.LxmertForQuestionAnswering(config)
    torch.nn.init.constant_(model.answer_head.logit_fc[-1].bias[1:2], 9.0)
    return model, word_tokenizer(WORDS)


MODELS = {
    "vit-shapes": vit,
    "detr-shapes": detr,
    "clip-shapes": clip,
    "visualbert-shapes": visualbert,
    "lxmert-shapes": lxmert,
}


def save(name: str, folder: Path) -> Path:
    """The model and its processors in a folder of its own."""
    torch.manual_seed(0)
    for part in MODELS[name]():
        (part.eval() if hasattr(part, "eval") else part).save_pretrained(folder / name)
    return folder / name
