"""How much of the relevance that is handed down arrives, on real model classes: ``python tests/lrp/conservation.py``.

It arrives at the input, and at the tokens that a model learned ([CLS], object queries): both are marked here as what carries
relevance, so that nothing else can take any but what the rules themselves lose to biases and to ε.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from tiny_models import BATCH, CASES, livened

from heedmap.lrp.functions import Samples
from heedmap.lrp.mode import RelevanceMode
from heedmap.lrp.replay import pulled
from heedmap.lrp.rules import RULES, Rules
from heedmap.targets import Context, Similarity, as_target

MODELS = ("bert", "vit", "lxmert", "detr", "clip", "bart", "t5", "llama")
TOKENS = ("word_embeddings.weight", "embed_tokens.weight", "token_embedding.weight", "shared.weight", "cls_token",
          "class_embedding", "query_position_embeddings.weight")  # fmt: skip
"""Ends of the names of parameters that are tokens."""


def arrived(name: str, rules: str) -> float:
    """Relevance that arrives at tokens, as a share of what the targets of the batch handed down; float64."""
    torch.manual_seed(7)
    model = copy.deepcopy(livened(CASES[name].build())).double().eval().requires_grad_(False)
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in CASES[name].inputs().items()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:  # tied to the embedding, where it must not count
        head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)
    leaves = [p.requires_grad_() for n, p in model.named_parameters() if n.endswith(TOKENS)]
    for key in ("pixel_values", "visual_feats"):
        if key in inputs:
            inputs[key] = inputs[key].requires_grad_()
            leaves.append(inputs[key])
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None  # whose row autograd would leave out
    samples = Samples(BATCH)
    with RelevanceMode(Rules(RULES[rules], samples)):
        target = Similarity() if CASES[name].target == "pairs" else as_target(CASES[name].target)
        values = target.choose(model(**inputs), Context.of(inputs, getattr(model, "config", None))).values
    start = values.detach() if RULES[rules].starts_with_value else torch.ones_like(values)
    found = pulled(values, leaves, start, samples)
    return float(sum(f.sum() for f in found if f is not None) / start.sum())


if __name__ == "__main__":
    print("| |", " | ".join(f"`{rules}`" for rules in RULES), "|")
    print("|---|" + "---|" * len(RULES))
    for model in MODELS:
        print(
            f"| {type(CASES[model].build()).__name__} |",
            " | ".join(f"{arrived(model, r):.6f}" for r in RULES),
            "|",
            flush=True,
        )
