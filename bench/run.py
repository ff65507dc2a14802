"""Ratios in one run: heedmap against the floor and against the usual recipe.

    python bench/run.py [--pairs N] [NAME …]
    # names: vit-224 vit-384 vit-224x8 vit-l-384 bert-512 clip-b32 t5-base lxmert-base llama-4096 classes-20 detr-1 detr-20
    #        detr-100 swin-224 rtdetr-640 deformable-640 scans small memory held curve
    #        first proofs packages methods

floor: one forward and one backward to the attention outputs, kept by the plainest patch of the fused kernel.
recipe: eager attention, one backward through everything into the parameters, dense R (for DETR once per query).
Random weights do: time does not depend on them.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap
from heedmap.methods.cards import CARDS
from heedmap.targets import DetectionQuery, NextToken, TopClasses

PAIRS = 7
"""So many pairs are taken in turns, unless ``--pairs`` says another number."""

SCANS = {
    "NemotronHModel": "nemotron_h",
    "ZambaModel": "zamba",
    "Zamba2Model": "zamba2",
    "BailingHybridModel": "bailing_hybrid",
    "TimesFm2_5Model": "timesfm2_5",
}
"""Models with state-space layers, recurrences or series, and their families."""


def timed(function: Callable[[], Any], repeats: int = 5) -> float:
    """Median seconds, after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Spread(NamedTuple):
    """Ratios of pairs that were taken in turns."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:5.2f} ({self.least:.2f} to {self.most:.2f})"


def ratios(ours: Callable[[], Any], *others: Callable[[], Any]) -> list[Spread]:
    """Seconds of the processor of ``ours`` over those of each other one, all taken in turns, after one warm-up."""
    functions = (ours, *others)
    taken: list[list[float]] = [[] for _ in functions]
    for turn in range(PAIRS + 1):
        for function, times in zip(functions, taken, strict=True):
            began = time.process_time()
            function()
            if turn:
                times.append(time.process_time() - began)
    of_pairs = [[a / b for a, b in zip(taken[0], times, strict=True)] for times in taken[1:]]
    return [Spread(statistics.median(found), min(found), max(found)) for found in of_pairs]


def floor(
    model: nn.Module,
    inputs: dict[str, Any],
    value: Callable[[Any], Tensor | list[Tensor]],
    attends: str = "",
    first: bool = False,
) -> None:
    """One forward, one backward to the attention outputs (of several values one for each), nothing else.

    attends: the class of modules whose output is an attention's, of models that call no kernel for it.
    first: to the first of them alone, so that no gradient of another is kept.
    """
    kernels = {name: getattr(F, name) for name in ("scaled_dot_product_attention", "grid_sample")}
    outs: list[Tensor] = []

    def keep(out: Tensor) -> Tensor:
        outs.append(out if out.requires_grad else out.requires_grad_())
        return out

    def keeping(kernel: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return keep(kernel(*args, **kwargs))

    def hook(module: nn.Module, args: Any, out: Any) -> None:
        keep(out[0] if isinstance(out, tuple) else out)

    hooks = [m.register_forward_hook(hook) for m in model.modules() if type(m).__name__ == attends]
    model.requires_grad_(False)
    for name, kernel in kernels.items():
        setattr(F, name, partial(keeping, kernel))
    try:
        values = value(model(**inputs))
        rest = values if isinstance(values, list) else [values]
        while rest:
            one, *rest = rest
            torch.autograd.grad(one, outs[:1] if first else outs, allow_unused=True, retain_graph=bool(rest))
    finally:
        for name, kernel in kernels.items():
            setattr(F, name, kernel)
        for handle in hooks:
            handle.remove()


def recipe(model: nn.Module, inputs: dict[str, Tensor], value: Callable[[Any], Tensor]) -> Tensor:
    """Eager attention, full backward into the parameters, dense R of the encoder's self-attentions."""
    model.requires_grad_(True).zero_grad()
    output = model(**inputs, output_attentions=True)
    probs = output.attentions if getattr(output, "attentions", None) is not None else output.encoder_attentions
    for attention in probs:
        attention.retain_grad()
    value(output).backward()
    relevance = torch.eye(probs[0].shape[-1])
    with torch.no_grad():
        for attention in probs:
            relevance = relevance + (attention * attention.grad).clamp(min=0).mean(1) @ relevance
    return relevance


def pair(build: Callable[[str], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """The same model with fused and with eager attention."""
    torch.manual_seed(0)
    fused = build("sdpa").eval()
    eager = build("eager").eval()
    eager.load_state_dict(fused.state_dict())
    return fused, eager


def classifier(name: str, build: Callable[[str], nn.Module], inputs: dict[str, Tensor]) -> None:
    """Print the ratios of a classifier."""
    fused, eager = pair(build)

    def value(output: Any) -> Tensor:
        return output.logits[:, 0].sum()

    to_floor, to_recipe = ratios(
        lambda: heedmap.explain(fused, inputs, target=0),
        lambda: floor(fused, inputs, value),
        lambda: recipe(eager, inputs, value),
    )
    print(f"{name:10} heedmap/floor {to_floor}   heedmap/recipe {to_recipe}", flush=True)


def to_floor(
    name: str, model: nn.Module, inputs: dict[str, Any], target: Any, value: Callable[[Any], Tensor], attends: str = ""
) -> None:
    """Print the ratio to the floor alone, of a model for which people have no one recipe; see :func:`floor`."""
    model = model.eval()
    (ratio,) = ratios(
        lambda: heedmap.explain(model, inputs, target=target), lambda: floor(model, inputs, value, attends)
    )
    print(f"{name:10} heedmap/floor {ratio}", flush=True)


def vit(size: int, batch: int = 1, large: bool = False) -> None:
    """ViT-B/16; ``large``: ViT-L/16."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = (
        dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096) if large else {}
    )

    def build(kernel: str) -> nn.Module:
        return ViTForImageClassification(ViTConfig(image_size=size, num_labels=10, attn_implementation=kernel, **sizes))

    inputs = {"pixel_values": torch.randn(batch, 3, size, size)}
    if large or batch > 1:  # the recipe's R is of one picture
        to_floor(
            f"vit-{'l-' * large}{size}x{batch}", build("sdpa"), inputs, 0, lambda output: output.logits[:, 0].sum()
        )
    else:
        classifier(f"vit-{size}", build, inputs)


def clip() -> None:
    """CLIP ViT-B/32: one text and one picture of 224 px."""
    from transformers import CLIPConfig, CLIPModel

    inputs = {"input_ids": torch.randint(5, 20000, (1, 16)), "pixel_values": torch.randn(1, 3, 224, 224)}
    inputs["input_ids"][:, -1] = 49407
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    to_floor("clip-b32", CLIPModel(CLIPConfig()), inputs, 0, lambda output: output.logits_per_image[:, 0].sum())


def t5() -> None:
    """T5-base: 128 words in, 16 out, the next word."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    words = {"input_ids": torch.randint(5, 20000, (1, 128)), "decoder_input_ids": torch.randint(5, 20000, (1, 16))}
    model = T5ForConditionalGeneration(config)
    to_floor("t5-base", model, words, NextToken(7), lambda output: output.logits[:, -1, 7].sum())


def lxmert() -> None:
    """LXMERT-base: 20 words and 36 boxes."""
    from transformers import LxmertConfig, LxmertForQuestionAnswering

    inputs = {
        "input_ids": torch.randint(5, 20000, (1, 20)),
        "attention_mask": torch.ones(1, 20, dtype=torch.long),
        "visual_feats": torch.randn(1, 36, 2048),
        "visual_pos": torch.rand(1, 36, 4),
    }
    model = LxmertForQuestionAnswering(LxmertConfig(num_qa_labels=100))
    to_floor("lxmert", model, inputs, 0, lambda o: o.question_answering_score[:, 0].sum(), "LxmertAttention")


def llama(tokens: int = 4096) -> None:
    """Llama-like: 4 layers of 12 heads of 64, the next word of 4,096."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=4,
        num_attention_heads=12,
        vocab_size=1000,
        max_position_embeddings=tokens,
    )
    inputs = {"input_ids": torch.randint(5, 999, (1, tokens)), "logits_to_keep": 1}
    to_floor("llama-4096", LlamaForCausalLM(config), inputs, NextToken(7), lambda o: o.logits[:, -1, 7].sum())


def bert() -> None:
    """BERT-base at 512 words."""
    from transformers import BertConfig, BertForSequenceClassification

    def build(kernel: str) -> nn.Module:
        return BertForSequenceClassification(BertConfig(num_labels=4, attn_implementation=kernel))

    classifier("bert-512", build, {"input_ids": torch.randint(5, 20000, (1, 512))})


def times(count: int, once: Spread) -> Spread:
    """How many times faster heedmap is than something once for each of ``count`` targets, by the ratio to it for one."""
    return Spread(*(count / ratio for ratio in (once.median, once.most, once.least)))


def bounded(count: int, once: Spread, least: Spread) -> str:
    """The ratio to one forward and a backward for each target, and how much faster than the recipe these are."""
    return f"heedmap/floor {least}   of at most {times(count, once).median * least.median:.1f}"


def detr(queries: int) -> None:
    """DETR-R50 at 800 px: heedmap once for all queries, the recipe once per query (timed for one, multiplied)."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    def build(kernel: str) -> nn.Module:
        backbone = ResNetConfig(out_features=["stage4"])
        config = DetrConfig(
            use_timm_backbone=False,
            backbone=None,
            use_pretrained_backbone=False,
            backbone_config=backbone,
            num_labels=91,
        )
        model = DetrForObjectDetection(config)
        model.config._attn_implementation = kernel
        return model

    fused, eager = pair(build)
    inputs = {"pixel_values": torch.randn(1, 3, 800, 800)}
    targets = [DetectionQuery(query) for query in range(queries)]
    once, least = ratios(
        lambda: heedmap.explain(fused, inputs, target=targets),
        lambda: recipe(eager, inputs, lambda output: output.logits[0, 0, 0]),
        lambda: floor(fused, inputs, lambda output: [output.logits[0, query, 0] for query in range(queries)]),
    )
    print(
        f"detr-{queries:<5} recipe for each query/heedmap {times(queries, once)}   {bounded(queries, once, least)}",
        flush=True,
    )


def classes(count: int = 20) -> None:
    """ViT-B/16 at 224 px, the top classes: heedmap from one forward pass, the recipe once for each."""
    from transformers import ViTConfig, ViTForImageClassification

    def build(kernel: str) -> nn.Module:
        return ViTForImageClassification(ViTConfig(num_labels=100, attn_implementation=kernel))

    fused, eager = pair(build)
    inputs = {"pixel_values": torch.randn(1, 3, 224, 224)}
    once, least = ratios(
        lambda: heedmap.explain(fused, inputs, target=TopClasses(count)),
        lambda: recipe(eager, inputs, lambda output: output.logits[:, 0].sum()),
        lambda: floor(fused, inputs, lambda output: [output.logits[:, label].sum() for label in range(count)]),
    )
    print(
        f"classes-{count} recipe for each class/heedmap {times(count, once)}   {bounded(count, once, least)}",
        flush=True,
    )


def numbered(name: str, model: nn.Module, size: int, target: Any, value: Callable[[Any], Tensor]) -> None:
    """Of a model that is followed by token numbers: the ratio to the floor, and the first call in forward passes.

    proof: what the first call takes beyond later ones, in forward passes.
    """
    model = model.eval()
    inputs = {"pixel_values": torch.randn(1, 3, size, size)}

    def forward() -> None:
        with torch.no_grad():
            model(**inputs)

    once, explain = timed(forward, 3), heedmap.explain  # imported now: that is no part of a call
    gc.collect()  # nor is what the imports left to be collected
    start = time.perf_counter()
    explain(model, inputs, target=target)
    first = time.perf_counter() - start
    ours = timed(lambda: explain(model, inputs, target=target), 3)
    least = timed(lambda: floor(model, inputs, value), 3)
    print(
        f"{name:9} forward {once:6.2f} s   floor {least:6.2f} s   heedmap/floor {ours / least:5.2f}   "
        f"first call/forward {first / once:5.1f}   proof {(first - ours) / once:5.1f}",
        flush=True,
    )


def swin() -> None:
    """Swin-T at 224 px."""
    from transformers import SwinConfig, SwinForImageClassification

    model = SwinForImageClassification(SwinConfig(num_labels=10))
    numbered("swin-224", model, 224, 0, lambda output: output.logits[:, 0].sum())


def rtdetr() -> None:
    """RT-DETR of the size of R18 at 640 px."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3
    )
    model = RTDetrForObjectDetection(config)
    numbered("rtdetr-640", model, 640, DetectionQuery(0, 1), lambda output: output.logits[:, 0, 1].sum())


def deformable() -> None:
    """Deformable DETR with ResNet-50 at 640 px."""
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=["stage2", "stage3", "stage4"])
    config = DeformableDetrConfig(
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=backbone,
        num_labels=91,
    )
    model = DeformableDetrForObjectDetection(config)
    numbered("deformable-640", model, 640, DetectionQuery(0, 1), lambda output: output.logits[:, 0, 1].sum())


def scans() -> None:
    """Of tiny models that mix tokens step by step, two samples of a few words: a first and a later call, a table.

    Seconds of the processor; a later call and a forward pass are the least of three. The models are those of the sweep.
    """
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.sweep.build import built

    def seconds(function: Callable[[], Any]) -> float:
        began = time.process_time()
        function()
        return time.process_time() - began

    for name, family in SCANS.items():
        torch.manual_seed(0)
        subject = built(family, name)
        model, inputs = subject.model.eval(), subject.inputs
        forward = min(seconds(lambda m=model, i=inputs: m(**i)) for _ in range(3))
        flows: list[str] = []

        def explain(m: nn.Module = model, i: Any = inputs, t: Any = subject.target, told: list[str] = flows) -> None:
            try:
                flow = heedmap.explain(m, i, target=t).flow
                told.append(str(sum(row.form == "mixer" for row in flow.attentions)))
            except heedmap.HeedmapError:
                told.append("refused")

        gc.collect()
        first = seconds(explain)
        later = min(seconds(explain) for _ in range(3))
        print(f"| `{name}` | {flows[0]} | {forward:.2f} | {first:.1f} | {later:.1f} |", flush=True)


class Peak:
    """Peak resident memory above the start, in bytes, sampled."""

    def __enter__(self) -> Peak:
        self.start, self.most, self.running = self._now(), 0, True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()

    def _now(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, self._now() - self.start)
            time.sleep(0.01)


def memory(tokens: int = 8192) -> None:
    """Peak memory at 8,192 tokens, 12 layers of 12 heads, above the plain forward and backward."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(num_labels=4, max_position_embeddings=tokens, vocab_size=100)
    model = BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.randint(5, 99, (1, tokens))}
    with Peak() as plain:
        floor(model, inputs, lambda output: output.logits[:, 0].sum())
    with Peak() as ours:
        heedmap.explain(model, inputs, target=0)
    extra = (ours.most - plain.most) / 2**30
    print(
        f"memory    plain {plain.most / 2**30:.2f} GiB   heedmap {ours.most / 2**30:.2f} GiB   extra {extra:.2f} GiB",
        flush=True,
    )


def small() -> None:
    """Of models of two layers of 32 features, in a few words or a small picture: a first and a later call, a table.

    Milliseconds of the processor, the least of five models' first calls and of seven later ones.
    """
    import transformers as tr

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    t5 = tr.T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=100)
    backbone = tr.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    layers = {f"{part}_{size}": count for part in ("encoder", "decoder")
              for size, count in (("layers", 2), ("ffn_dim", 64), ("attention_heads", 4))}  # fmt: skip
    detr = tr.DetrConfig(use_timm_backbone=False, backbone=None, use_pretrained_backbone=False, backbone_config=backbone,
                         d_model=32, num_queries=5, num_labels=3, **layers)  # fmt: skip
    swin = tr.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
    words, said = torch.randint(5, 99, (1, 9)), torch.randint(5, 99, (1, 4))
    cases: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], Any]] = {
        "BERT": (lambda: tr.BertForSequenceClassification(tr.BertConfig(vocab_size=100, **sizes)), {"input_ids": words}, 0),
        "T5": (
            lambda: tr.T5ForConditionalGeneration(t5), {"input_ids": words, "decoder_input_ids": said}, NextToken(7)
        ),
        "DETR": (
            lambda: tr.DetrForObjectDetection(detr), {"pixel_values": torch.randn(1, 3, 96, 96)}, DetectionQuery(0)
        ),
        "Swin": (lambda: tr.SwinForImageClassification(swin), {"pixel_values": torch.randn(1, 3, 32, 32)}, 0),
    }  # fmt: skip
    for name, (make, inputs, target) in cases.items():
        models = [make().eval() for _ in range(6)]
        firsts, later = ([1000 * _spent(m, inputs, target) for m in asked] for asked in (models, [models[-1]] * 7))
        print(f"| {name} | {min(firsts[1:]):.1f} | {min(later):.1f} |", flush=True)


def _spent(model: nn.Module, inputs: dict[str, Tensor], target: Any) -> float:
    """Seconds of the processor in one explanation."""
    gc.collect()
    began = time.process_time()
    heedmap.explain(model, inputs, target=target)
    return time.process_time() - began


def apart(points: Iterable[str]) -> None:
    """Measure each of these points of memory in a process of its own, which gives freed memory back at once."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for point in points:
        subprocess.run([sys.executable, __file__, point], env=environment, check=True)


def held() -> None:
    """Peak memory of a forward and backward pass that keeps the gradients of all attentions, and of one that keeps the first."""
    apart(f"held:{what}:{tokens}" for tokens in (1024, 2048) for what in ("all", "first"))


def held_point(what: str, tokens: int) -> None:
    """One point of :func:`held`: an encoder of 12 layers of 4 heads of 64."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}
    model = BertForSequenceClassification(BertConfig(vocab_size=100, max_position_embeddings=tokens, **sizes)).eval()

    def once(length: int) -> None:
        inputs = {"input_ids": torch.randint(5, 99, (1, length))}
        floor(model, inputs, lambda output: output.logits[0, 0], first=what == "first")

    once(8)  # what is imported and set up is no part of it
    with Peak() as peak:
        once(tokens)
    print(f"held {tokens:6} tokens   gradients of {what:5} {peak.most / 2**20:8.1f} MiB", flush=True)


def curve(longest: int = 32768) -> None:
    """Peak memory of a decoder of 2 layers of 4 heads of 64, above the model: a plain forward and backward pass, and heedmap.

    Nothing is proved: that takes a pass for each bit of the number of tokens.
    """
    lengths = [tokens for tokens in (512, 2048, 8192, 16384, 32768) if tokens <= longest]
    apart(f"curve:{what}:{tokens}" for tokens in lengths for what in ("plain", "heedmap"))


def curve_point(what: str, tokens: int) -> None:
    """One point of :func:`curve`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 1024}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=256, max_position_embeddings=tokens, **sizes)
    model = LlamaForCausalLM(config).eval()

    def once(length: int) -> None:
        inputs = {"input_ids": torch.randint(5, 99, (1, length)), "logits_to_keep": 1}
        if what == "plain":
            floor(model, inputs, lambda output: output.logits[0, -1, 0])
        else:
            heedmap.explain(model, inputs, target=NextToken(0), probe=False)

    once(8)  # what is imported and set up is no part of it
    began = time.process_time()
    with Peak() as peak:
        once(tokens)
    taken = time.process_time() - began
    print(
        f"curve {tokens:6} tokens   {what:8} {peak.most / 2**20:8.1f} MiB   {taken:7.1f} s of the processor", flush=True
    )


def proofs() -> None:
    """What the first call on a model takes, in forward passes of it, each in a process of its own."""
    apart(f"proofs:{kind}:{length}" for kind, length in (("vit", 224), ("vit", 384), ("bert", 512), ("llama", 1024)))


def proofs_point(what: str, size: int) -> None:
    """The first call on a new model, and later ones: the medians of three models, in seconds of the processor."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTForImageClassification,
    )

    ids = {"input_ids": torch.randint(5, 900, (1, size))}
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 12}
    builds: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor]]] = {
        "vit": (
            lambda: ViTForImageClassification(ViTConfig(image_size=size)),
            {"pixel_values": torch.randn(1, 3, size, size)},
        ),
        "bert": (lambda: BertForSequenceClassification(BertConfig()), ids),
        "llama": (lambda: LlamaForCausalLM(LlamaConfig(vocab_size=1000, **sizes)), ids),
    }
    build, inputs = builds[what]

    def spent(function: Callable[[], Any]) -> float:
        began = time.process_time()
        function()
        return time.process_time() - began

    def forward(model: nn.Module) -> None:
        with torch.no_grad():
            model(**inputs)

    heedmap.explain(build().eval(), inputs)  # imports, and what they left to be collected
    gc.collect()
    taken = []
    for _ in range(3):
        model = build().eval()
        forward(model)
        plain, first, later = (
            spent(call) for call in (partial(forward, model), *[partial(heedmap.explain, model, inputs)] * 2)
        )
        taken.append((plain, first / plain, later / plain, (first - later) / plain))
    plain, first, later, proof = map(statistics.median, zip(*taken, strict=True))
    print(
        f"{what}-{size:<6} forward {plain:5.2f} s   first call/forward {first:5.1f}   later {later:5.1f}   proof {proof:5.1f}",
        flush=True,
    )


def first() -> None:
    """Peak memory above the model of a first call, with its proof, and of a later one, in blocks; what is planned."""
    apart(f"first:{what}:{size}" for what, size in (("vit", 8), ("bert", 512), ("bert", 2048), ("llama", 8192)))


def first_point(what: str, size: int) -> None:
    """One point of :func:`first`: ViT-B/16 of so many pictures, BERT-base or a decoder of 2 layers of so many tokens."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTForImageClassification,
    )

    def build() -> nn.Module:
        if what == "vit":
            return ViTForImageClassification(ViTConfig()).eval()
        if what == "bert":
            return BertForSequenceClassification(BertConfig(max_position_embeddings=size)).eval()
        sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 2, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(vocab_size=1000, max_position_embeddings=size, **sizes)).eval()

    def given(count: int) -> dict[str, Tensor]:
        if what == "vit":
            return {"pixel_values": torch.randn(count, 3, 224, 224)}
        return {"input_ids": torch.randint(5, 900, (1, count))}

    heedmap.explain(build(), given(2), memory_budget=1)  # what is imported and set up is no part of it
    model, inputs = build(), given(size)
    gc.collect()
    with Peak() as proving:
        heedmap.explain(model, inputs, memory_budget=1)
    with Peak() as later:
        heedmap.explain(model, inputs, memory_budget=1)
    plan = heedmap.plan(build(), inputs)
    print(
        f"{what}-{size:<6} first call {proving.most / 2**20:6.0f} MiB   later {later.most / 2**20:6.0f} MiB   "
        f"planned with the proof {plan.least / 2**20:6.0f} MiB",
        flush=True,
    )


class Rival(NamedTuple):
    """What another package gives of a model, and heedmap's method of the same name.

    Attributes:
        name: of the package, and of what it computes.
        gives: what its numbers are of.
        run: makes them.
        method: heedmap's method.
        options: of that method.
    """

    name: str
    gives: str
    run: Callable[[], Any]
    method: str
    options: dict[str, Any]


def packages() -> None:
    """Packages that people choose, on the same model and target: how many times heedmap's seconds they take, a table.

    Each in turns with heedmap's method of the same name, and with its own method. A package that is not installed is left out,
    and said so (``pip install captum grad-cam lxt``); none of them is needed by heedmap.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, ViTConfig, ViTForImageClassification

    vit = ViTForImageClassification(ViTConfig(num_labels=10)).eval()
    pixels = {"pixel_values": torch.randn(1, 3, 224, 224)}
    sizes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 12}
    llama_like = LlamaForCausalLM(LlamaConfig(vocab_size=1000, **sizes)).eval().requires_grad_(False)
    words = {"input_ids": torch.randint(5, 999, (1, 384))}
    for made, model, inputs, target in (
        (by_captum, vit, pixels, 0),
        (by_grad_cam, vit, pixels, 0),
        (by_lxt, llama_like, words, NextToken(7)),
    ):
        try:
            rivals = made(model, inputs)
        except ImportError as error:
            print(f"{error.name} is not installed, and is left out", flush=True)
            continue
        for name, gives, run, method, options in rivals:
            explain = partial(heedmap.explain, model, inputs, target=target)
            same, generic = ratios(run, partial(explain, method=method, **options), explain)
            called = ", ".join([f"`{method}`", *(f"{key}={value}" for key, value in options.items())])
            print(f"| {name} | {gives} | {called} | {same} | {generic} |", flush=True)


def by_captum(model: nn.Module, inputs: dict[str, Tensor]) -> list[Rival]:
    """captum's gradients of a classifier of pictures."""
    from captum.attr import InputXGradient, IntegratedGradients

    def logits(picture: Tensor) -> Tensor:
        return model(pixel_values=picture).logits

    (pixels,), steps = inputs.values(), 4
    once, path = InputXGradient(logits), IntegratedGradients(logits)
    return [
        Rival(
            "captum, `InputXGradient`",
            "a number a pixel and channel",
            lambda: once.attribute(pixels.clone().requires_grad_(), target=0),
            "input_x_gradient",
            {"pixels": True},
        ),
        Rival(
            f"captum, `IntegratedGradients`, {steps} steps",
            "a number a pixel and channel",
            lambda: path.attribute(pixels, target=0, n_steps=steps, internal_batch_size=1),
            "integrated_gradients",
            {"steps": steps, "pixels": True},
        ),
    ]


def by_grad_cam(model: nn.Module, inputs: dict[str, Tensor]) -> list[Rival]:
    """pytorch-grad-cam, as its page on vision transformers has it: the first norm of the last layer."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Logits(nn.Module):
        """The logits alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, picture: Tensor) -> Tensor:
            return self.model(pixel_values=picture).logits

    def patches(states: Tensor) -> Tensor:
        side = int((states.shape[1] - 1) ** 0.5)
        return states[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)

    (pixels,) = inputs.values()
    norm = [m for name, m in model.named_modules() if name.endswith("layernorm_before")][-1]
    cam = GradCAM(Logits().eval(), [norm], reshape_transform=patches)
    run = partial(cam, pixels, [ClassifierOutputTarget(0)])
    gives = "a number a patch of the last layer, enlarged"
    return [Rival("pytorch-grad-cam, `GradCAM`", gives, run, "attention_gradcam", {})]


def by_lxt(model: nn.Module, inputs: dict[str, Tensor]) -> list[Rival]:
    """LXT, which writes over functions of transformers: they are put back after each of its runs."""
    import transformers.pytorch_utils as utilities

    # LXT 2.1 imports this for BERT, and transformers 5 has it no more; nothing here calls it.
    vars(utilities).setdefault("find_pruneable_heads_and_indices", None)
    from lxt.efficient import monkey_patch
    from lxt.efficient.models import get_default_map
    from transformers.models.llama import modeling_llama

    classes = [c for c in get_default_map(modeling_llama) if isinstance(c, type)]
    places: list[tuple[Any, str]] = [(c, "forward") for c in classes]
    places += [(modeling_llama, "eager_attention_forward"), (modeling_llama, "ALL_ATTENTION_FUNCTIONS")]
    before = [getattr(*place) for place in places]
    monkey_patch(modeling_llama)
    functions = type(before[-1])()  # it leaves a plain dict, which transformers 5 cannot ask for a function
    functions.update(modeling_llama.ALL_ATTENTION_FUNCTIONS)
    modeling_llama.ALL_ATTENTION_FUNCTIONS = functions
    patched = [getattr(*place) for place in places]

    def put(values: list[Any]) -> None:
        for (owner, name), value in zip(places, values, strict=True):
            setattr(owner, name, value)

    def run() -> Tensor:
        put(patched)
        try:
            embedded = model.get_input_embeddings()(inputs["input_ids"]).requires_grad_()
            logits = model(inputs_embeds=embedded, use_cache=False).logits
            (gradient,) = torch.autograd.grad(logits[0, -1, 7], embedded)
        finally:
            put(before)
        return (embedded * gradient).sum(-1)

    put(before)
    return [Rival("LXT, AttnLRP", "a number a word", run, "attn_lrp", {})]


def methods() -> None:
    """Each method's time in forward passes without gradient, on ViT-B/16 (224 px) and BERT-base (128 words), a table."""
    from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

    vit, bert = ViTForImageClassification(ViTConfig(num_labels=10)), BertForSequenceClassification(BertConfig())
    cases = (
        (vit.eval(), {"pixel_values": torch.randn(1, 3, 224, 224)}),
        (bert.eval(), {"input_ids": torch.randint(5, 20000, (1, 128))}),
    )

    def forward(model: nn.Module, inputs: dict[str, Tensor]) -> None:
        with torch.no_grad():
            model(**inputs)

    for name in heedmap.METHODS:
        ratios = []
        for case in cases:
            before = timed(lambda c=case: forward(*c), 3)
            taken = timed(
                lambda c=case, n=name: heedmap.explain(*c, target=0, method=n), 1 if CARDS[name].is_slow else 3
            )
            ratios.append(2 * taken / (before + timed(lambda c=case: forward(*c), 3)))
        print(f"| `{name}` | {ratios[0]:.1f} | {ratios[1]:.1f} |", flush=True)


POINTS: dict[str, Callable[[str, int], None]] = {
    "curve": curve_point,
    "held": held_point,
    "proofs": proofs_point,
    "first": first_point,
}
"""What a process of its own measures: ``NAME:WHAT:TOKENS``."""

BENCHES: dict[str, Callable[[], None]] = {
    "vit-224": lambda: vit(224),
    "vit-384": lambda: vit(384),
    "vit-224x8": lambda: vit(224, 8),
    "vit-l-384": lambda: vit(384, large=True),
    "bert-512": bert,
    "clip-b32": clip,
    "t5-base": t5,
    "lxmert-base": lxmert,
    "llama-4096": llama,
    "detr-1": lambda: detr(1),
    "detr-20": lambda: detr(20),
    "detr-100": lambda: detr(100),
    "classes-20": classes,
    "swin-224": swin,
    "rtdetr-640": rtdetr,
    "deformable-640": deformable,
    "scans": scans,
    "small": small,
    "memory": memory,
    "held": held,
    "curve": curve,
    "first": first,
    "proofs": proofs,
    "packages": packages,
    "methods": methods,
}

if __name__ == "__main__":
    names = sys.argv[1:]
    if "--pairs" in names:
        at = names.index("--pairs")
        PAIRS = int(names[at + 1])
        del names[at : at + 2]
    if not any(":" in name for name in names):
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {PAIRS} pairs", flush=True)
    for chosen in names or BENCHES:
        if ":" in chosen:
            name, what, tokens = chosen.split(":")
            POINTS[name](what, int(tokens))
        else:
            BENCHES[chosen]()
