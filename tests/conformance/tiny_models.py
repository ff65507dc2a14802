"""One table of tiny, random models of real classes: how to build each, what it is called with, what attention it has.

``self`` and ``cross`` count its attentions by what the architecture says, not by what the recorder finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
WORDS = 7
BATCH = 2
FEW: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
}
"""Laws hold for any number of passes."""


@dataclass(frozen=True)
class Case:
    """One model of the table.

    Attributes:
        build: makes the model, random weights.
        inputs: makes a batch of two samples.
        attentions: {(stream, source): count}, as the architecture has them.
        segments: names → number of tokens, as the inputs have them.
        target: None, or what to explain where the output has no top prediction.
        pad: the inputs that grow by padding tokens: name → value to pad with; the mask is padded with 0.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    attentions: dict[tuple[str, str], int]
    segments: dict[str, int]
    target: Any = None
    pad: dict[str, int] = field(default_factory=dict)
    grid: tuple[int, int] | None = None
    bf16: bool = True


def hf(name: str, config: str | None = None, **options: Any) -> Callable[[], nn.Module]:
    """A transformers class with a tiny random config."""

    def build() -> nn.Module:
        import transformers

        cls = getattr(transformers, name)
        return cls(getattr(transformers, config)(**options) if config else cls.config_class(**options))

    return build


LAYERS = 2
"""Of most models: a first and a last one, which carry on what the other made."""
THREE = {"num_hidden_layers": 3}
"""With one in the middle: of one model of words, one of pictures, one that writes and one that does so about pictures."""
SMALL = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 40, "num_labels": 5}
VISION = {**SMALL, "image_size": 32, "patch_size": 8, "num_labels": 5}
WIDE = {**VISION, "image_size": (16, 32)}


def livened(model: nn.Module) -> nn.Module:
    """Weights large enough that attention is not uniform and tokens matter."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=1.3 * module.weight.shape[1] ** -0.5)
    for name, parameter in model.named_parameters():
        if name.endswith("in_proj_weight"):
            nn.init.normal_(parameter, std=1.3 * parameter.shape[1] ** -0.5)
    return model.eval()


def ids(batch: int = BATCH, length: int = WORDS, low: int = 5, high: int = 45) -> Tensor:
    return torch.randint(low, high, (batch, length))


def text(length: int = WORDS) -> Inputs:
    return {"input_ids": ids(length=length), "attention_mask": torch.ones(BATCH, length, dtype=torch.long)}


def pixels(height: int = 32, width: int = 32) -> Inputs:
    return {"pixel_values": torch.randn(BATCH, 3, height, width)}


def clip_configs() -> dict[str, Any]:
    return {
        "text_config": {
            **SMALL,
            "vocab_size": 50,
            "max_position_embeddings": 40,
            "eos_token_id": 49,
            "bos_token_id": 48,
        },
        "vision_config": {**SMALL, "image_size": 32, "patch_size": 8},
        "projection_dim": 16,
    }


def with_eos(inputs: Inputs, eos: int = 49) -> Inputs:
    inputs["input_ids"][:, -1] = eos
    return inputs


def boxes(name: str, mask: bool = True) -> Inputs:
    found = {name: torch.randn(BATCH, 5, 12)}
    if mask:
        found["visual_attention_mask"] = torch.ones(BATCH, 5, dtype=torch.long)
    return found


def visualbert() -> Inputs:
    return {**text(), **boxes("visual_embeds"), "visual_token_type_ids": torch.ones(BATCH, 5, dtype=torch.long)}


def lxmert() -> Inputs:
    return {**text(), **boxes("visual_feats"), "visual_pos": torch.rand(BATCH, 5, 4)}


def seq2seq() -> Inputs:
    return {**text(), "decoder_input_ids": ids(length=4)}


def resnet(**options: Any) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"], **options,
    )  # fmt: skip


def detr(name: str, config: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return hf(
            name, config, use_timm_backbone=False, backbone=None, backbone_config=resnet(), use_pretrained_backbone=False,
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=6, num_labels=5,
        )()  # fmt: skip

    return build


def detection() -> Inputs:
    return {**pixels(64, 96), "pixel_mask": torch.ones(BATCH, 64, 96, dtype=torch.long)}


def blip_vqa() -> Inputs:
    words = ids(length=3)
    return {**text(), **pixels(), "decoder_input_ids": words, "labels": words}


def blip(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        config = {
            "text_config": {**small, "encoder_hidden_size": 32, "vocab_size": 50, "max_position_embeddings": 40,
                            "bos_token_id": 46, "sep_token_id": 47, "pad_token_id": 0, "eos_token_id": 47},
            "vision_config": {**small, "image_size": 32, "patch_size": 8},
            "image_text_hidden_size": 16,
            "projection_dim": 16,
        }  # fmt: skip
        return hf(name, "BlipConfig", **config)()

    return build


def answer(output: Any) -> Tensor:
    """Minus the loss of the answer, for each sample: the one thing that BLIP's VQA head returns of its decoder."""
    return -output.loss.expand(len(output.last_hidden_state))


class HandWritten(nn.Module):
    """A two-layer transformer as people write it: one qkv projection, einsum, mean pooling, patches by reshape."""

    def __init__(self, dim: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.embed, self.heads = nn.Linear(3 * 8 * 8, dim), heads
        self.position = nn.Parameter(torch.randn(1, 8, dim))
        self.qkv = nn.ModuleList(nn.Linear(dim, 3 * dim) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))
        self.head = nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = x.reshape(batch, 3, height // 8, 8, width // 8, 8).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = self.embed(x) + self.position
        for qkv, out in zip(self.qkv, self.out, strict=True):
            q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in qkv(x).chunk(3, -1))
            scores = torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5
            x = x + out(torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).flatten(2))
        return self.head(x.mean(1))


class Translator(nn.Module):
    """nn.Transformer between embeddings, batch first or not."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(50, 32)
        self.body = nn.Transformer(32, 4, 2, 2, 48, batch_first=batch_first)
        self.head = nn.Linear(32, 50)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        source, target = self.embed(input_ids), self.embed(decoder_input_ids)
        if not self.batch_first:
            source, target = source.transpose(0, 1), target.transpose(0, 1)
        causal = nn.Transformer.generate_square_subsequent_mask(decoder_input_ids.shape[1], dtype=source.dtype)
        out = self.body(
            source, target, tgt_mask=causal, src_key_padding_mask=padding_mask, memory_key_padding_mask=padding_mask
        )
        return self.head(out if self.batch_first else out.transpose(0, 1))


class Encoder(nn.Module):
    """nn.TransformerEncoder, whose fast path is one fused call in eval mode without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
        self.body = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=True)
        self.head = nn.Linear(32, 5)

    def forward(self, input_ids: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return self.head(self.body(self.embed(input_ids), src_key_padding_mask=padding_mask)[:, 0])


def timm_vit() -> nn.Module:
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224", img_size=(32, 48), patch_size=8, embed_dim=32, depth=LAYERS, num_heads=4, num_classes=5
    )


def open_clip_model() -> nn.Module:
    import open_clip

    return open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 8},
        text_cfg={"context_length": 10, "vocab_size": 50, "width": 32, "heads": 4, "layers": 3},
    )


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, LAYERS, 4, 32, 48, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model


def whisper() -> nn.Module:
    return hf(
        "WhisperForConditionalGeneration", "WhisperConfig", vocab_size=50, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=8,
        max_source_positions=10, max_target_positions=12, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )()  # fmt: skip


def encoder_only(layers: int, name: str = "text") -> dict[tuple[str, str], int]:
    return {(name, name): layers}


def encoder_decoder(layers: int, name: str = "text") -> dict[tuple[str, str], int]:
    return {(name, name): layers, ("decoder", "decoder"): layers, ("decoder", name): layers}


SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
CAUSAL = {
    **SMALL,
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
AMONG_WORDS = ("tam", "dex_ar")
"""Methods of pictures among words."""
PAD = {"input_ids": 0, "attention_mask": 0}
WORD_SEGMENTS = {"text": WORDS}


def vision_language(count: int, image_token: int = 49) -> Callable[[], Inputs]:
    """Words before and after a picture's tokens, in the first sample one less before them."""

    def make() -> Inputs:
        rows = [[7, 8, *[image_token] * count, 9, 10, 11], [12, *[image_token] * count, 13, 14, 15, 16]]
        words = torch.tensor(rows)
        return {"input_ids": words, "attention_mask": torch.ones_like(words), **pixels()}

    return make


def with_types(inputs: Inputs) -> Inputs:
    return {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}


def llava() -> Callable[[], nn.Module]:
    vision = {**SMALL, **THREE, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 8}
    language = {**CAUSAL, **THREE, "model_type": "llama", "num_key_value_heads": 2}
    return hf("LlavaForConditionalGeneration", "LlavaConfig", vision_config=vision, text_config=language, image_token_id=49,
              image_seq_length=16)  # fmt: skip


def paligemma() -> Callable[[], nn.Module]:
    vision = {**SMALL, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 32}
    language = {**CAUSAL, "model_type": "gemma", "num_key_value_heads": 1, "head_dim": 8}
    return hf("PaliGemmaForConditionalGeneration", "PaliGemmaConfig", vision_config=vision, text_config=language,
              image_token_id=49, projection_dim=32)  # fmt: skip


CASES: dict[str, Case] = {
    "bert": Case(hf("BertForSequenceClassification", **{**TEXT, **THREE}), text, encoder_only(3), WORD_SEGMENTS, pad=PAD),
    "roberta": Case(hf("RobertaForSequenceClassification", pad_token_id=1, **TEXT), text, encoder_only(LAYERS), WORD_SEGMENTS,
                    pad={"input_ids": 1, "attention_mask": 0}),
    "albert": Case(hf("AlbertForSequenceClassification", embedding_size=16, **TEXT), text, encoder_only(LAYERS), WORD_SEGMENTS,
                   pad=PAD),
    "distilbert": Case(hf("DistilBertForSequenceClassification", dim=32, n_layers=LAYERS, n_heads=4, hidden_dim=48, vocab_size=50,
                          max_position_embeddings=40, num_labels=5), text, encoder_only(LAYERS), WORD_SEGMENTS, pad=PAD),
    "electra": Case(hf("ElectraForSequenceClassification", embedding_size=16, **TEXT), text, encoder_only(LAYERS), WORD_SEGMENTS,
                    pad=PAD),
    "squeezebert": Case(hf("SqueezeBertForSequenceClassification", embedding_size=32, **TEXT), text, encoder_only(LAYERS),
                        WORD_SEGMENTS, pad=PAD),
    "deberta-v2": Case(hf("DebertaV2ForSequenceClassification", relative_attention=True, pos_att_type=["p2c", "c2p"],
                          position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True, **TEXT), text, encoder_only(LAYERS),
                       WORD_SEGMENTS, pad=PAD),
    "vit": Case(hf("ViTForImageClassification", **{**WIDE, **THREE}), lambda: pixels(16, 32), encoder_only(3, "image"), {"image": 8},
                grid=(2, 4)),
    "deit": Case(hf("DeiTForImageClassificationWithTeacher", **VISION), pixels, encoder_only(LAYERS, "image"), {"image": 16},
                 grid=(4, 4)),
    "dinov2-registers": Case(hf("Dinov2WithRegistersForImageClassification", num_register_tokens=3, hidden_size=32,
                                num_hidden_layers=LAYERS, num_attention_heads=4, image_size=32, patch_size=8, num_labels=5),
                             lambda: pixels(24, 40), encoder_only(LAYERS, "image"), {"image": 15}, grid=(3, 5)),
    "beit": Case(hf("BeitForImageClassification", use_relative_position_bias=True, **VISION), pixels,
                 encoder_only(LAYERS, "image"), {"image": 16}, grid=(4, 4)),
    "clip": Case(lambda: hf("CLIPModel", "CLIPConfig", **clip_configs())(), lambda: with_eos({**text(), **pixels()}),
                 {("text", "text"): LAYERS, ("image", "image"): LAYERS}, {"text": WORDS, "image": 16}, grid=(4, 4),
                 pad={"input_ids": 49, "attention_mask": 0}),
    "siglip": Case(lambda: hf("SiglipModel", "SiglipConfig", text_config={**SMALL, "vocab_size": 50, "max_position_embeddings": 40,
                              "projection_size": 32}, vision_config={**SMALL, "image_size": 32, "patch_size": 8})(),
                   lambda: {**text(), **pixels()},
                   {("text", "text"): LAYERS, ("image", "image"): LAYERS, ("queries", "image"): 1}, {"text": WORDS, "image": 16},
                   grid=(4, 4)),
    "visualbert": Case(hf("VisualBertForQuestionAnswering", visual_embedding_dim=12, **TEXT), visualbert,
                       {("text+boxes", "text+boxes"): LAYERS}, {"text": WORDS, "boxes": 5},
                       pad={"visual_embeds": 0, "visual_attention_mask": 0, "visual_token_type_ids": 1}),
    "vilt": Case(hf("ViltForQuestionAnswering", image_size=32, patch_size=8, max_image_length=-1, modality_type_vocab_size=2,
                    **TEXT), lambda: {**text(), **pixels(), "pixel_mask": torch.ones(BATCH, 32, 32, dtype=torch.long)},
                 {("text+image", "text+image"): LAYERS}, {"text": WORDS, "image": 16}, grid=(4, 4), pad=PAD),
    "lxmert": Case(hf("LxmertForQuestionAnswering", hidden_size=32, num_attention_heads=4, intermediate_size=48, vocab_size=50,
                      l_layers=2, r_layers=1, x_layers=2, visual_feat_dim=12, num_qa_labels=5, max_position_embeddings=40),
                   lxmert, {("text", "text"): 4, ("boxes", "boxes"): 3, ("text", "boxes"): 2, ("boxes", "text"): 2},
                   {"text": WORDS, "boxes": 5}, pad=PAD),
    "blip-retrieval": Case(blip("BlipForImageTextRetrieval"), lambda: {**text(), **pixels()},
                           {("image", "image"): 2, ("text", "text"): 2, ("text", "image"): 2}, {"text": WORDS, "image": 16},
                           grid=(4, 4), pad=PAD),
    # no padding here: the scores of BLIP's VQA model themselves change with it
    "blip-vqa": Case(blip("BlipForQuestionAnswering"), blip_vqa,
                     {("image", "image"): 2, ("text", "text"): 2, ("text", "image"): 2, ("decoder", "decoder"): 2,
                      ("decoder", "text"): 2}, {"text": WORDS, "image": 16, "decoder": 3}, grid=(4, 4),
                     target=answer),
    "bart": Case(hf("BartForConditionalGeneration", **SEQ2SEQ), seq2seq, encoder_decoder(2), {"text": WORDS, "decoder": 4},
                 pad=PAD),
    "bart-classifier": Case(hf("BartForSequenceClassification", num_labels=5, **SEQ2SEQ),
                            lambda: with_eos(text(), 2), encoder_decoder(2), {"text": WORDS, "decoder": WORDS}),
    "t5": Case(hf("T5ForConditionalGeneration", d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=50,
                  decoder_start_token_id=0), seq2seq, encoder_decoder(2), {"text": WORDS, "decoder": 4}, pad=PAD),
    "marian": Case(hf("MarianMTModel", **SEQ2SEQ), seq2seq, encoder_decoder(2), {"text": WORDS, "decoder": 4}, pad=PAD),
    "whisper": Case(whisper, lambda: {"input_features": torch.randn(BATCH, 8, 20), "decoder_input_ids": ids(length=4)},
                    encoder_decoder(2, "audio"), {"audio": 10, "decoder": 4}),
    "detr": Case(detr("DetrForObjectDetection", "DetrConfig"), detection,
                 {("image", "image"): 2, ("queries", "queries"): 2, ("queries", "image"): 2}, {"image": 6, "queries": 6},
                 grid=(2, 3)),
    "conditional-detr": Case(detr("ConditionalDetrForObjectDetection", "ConditionalDetrConfig"), detection,
                             {("image", "image"): 2, ("queries", "queries"): 2, ("queries", "image"): 2},
                             {"image": 6, "queries": 6}, grid=(2, 3)),
    "llama": Case(hf("LlamaForCausalLM", num_key_value_heads=2, **{**CAUSAL, **THREE}), text, encoder_only(3), WORD_SEGMENTS, pad=PAD),
    "gpt2": Case(hf("GPT2LMHeadModel", n_embd=32, n_layer=LAYERS, n_head=4, vocab_size=50, n_positions=40, bos_token_id=1,
                    eos_token_id=2), text, encoder_only(LAYERS), WORD_SEGMENTS, pad=PAD),
    "qwen2": Case(hf("Qwen2ForCausalLM", num_key_value_heads=2, **CAUSAL), text, encoder_only(LAYERS), WORD_SEGMENTS, pad=PAD),
    "gemma": Case(hf("GemmaForCausalLM", num_key_value_heads=1, head_dim=8, **CAUSAL), text, encoder_only(LAYERS), WORD_SEGMENTS,
                  pad=PAD),
    "gemma2-softcap": Case(hf("Gemma2ForCausalLM", num_key_value_heads=2, head_dim=8, attn_logit_softcapping=2.0,
                              query_pre_attn_scalar=8, attn_implementation="eager", **CAUSAL), text, encoder_only(LAYERS),
                           WORD_SEGMENTS, pad=PAD),
    "gpt-oss-sinks": Case(hf("GptOssForCausalLM", num_key_value_heads=2, head_dim=8, num_local_experts=2,
                             num_experts_per_tok=1, **CAUSAL), text, encoder_only(LAYERS), WORD_SEGMENTS, pad=PAD),
    "llava": Case(llava(), vision_language(16), {("image_encoder", "image_encoder"): 3, ("text+image", "text+image"): 3},
                  {"text": 21, "image": 16, "image_encoder": 16}, grid=(4, 4), pad=PAD),
    # its tower's pooling head runs too, for nobody
    "paligemma": Case(paligemma(), lambda: with_types(vision_language(16)()),
                      {("image_encoder", "image_encoder"): LAYERS, ("queries", "image_encoder"): 1,
                       ("text+image", "text+image"): LAYERS},
                      {"text": 21, "image": 16, "image_encoder": 16}, grid=(4, 4), pad={**PAD, "token_type_ids": 0}),
    "timm-vit": Case(timm_vit, lambda: {"x": torch.randn(BATCH, 3, 32, 48)}, encoder_only(LAYERS, "image"), {"image": 24},
                     grid=(4, 6)),
    "open-clip": Case(open_clip_model, lambda: {"image": torch.randn(BATCH, 3, 32, 32), "text": ids(length=10)},
                      {("image", "image"): 2, ("text", "text"): 3}, {"image": 16, "text": 10}, grid=(4, 4), target="pairs"),
    "torchvision-vit": Case(torchvision_vit, lambda: {"x": torch.randn(BATCH, 3, 32, 32)}, encoder_only(LAYERS, "image"),
                            {"image": 16}, grid=(4, 4)),
    "nn.Transformer": Case(lambda: Translator(True), lambda: {"input_ids": ids(), "decoder_input_ids": ids(length=4)},
                           encoder_decoder(2), {"text": WORDS, "decoder": 4}),
    "nn.Transformer-seq-first": Case(lambda: Translator(False), lambda: {"input_ids": ids(), "decoder_input_ids": ids(length=4)},
                                     encoder_decoder(2), {"text": WORDS, "decoder": 4}),
    "nn.TransformerEncoder": Case(Encoder, lambda: {"input_ids": ids(), "padding_mask": torch.zeros(BATCH, WORDS, dtype=torch.bool)},
                                  encoder_only(LAYERS), WORD_SEGMENTS, pad={"input_ids": 0, "padding_mask": True}),
    "hand-written": Case(HandWritten, lambda: {"x": torch.randn(BATCH, 3, 16, 32)}, encoder_only(2, "image"), {"image": 8},
                         grid=(2, 4)),
}  # fmt: skip
