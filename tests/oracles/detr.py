"""The paper's rules on DETR, from the attention maps that transformers' own eager model gives out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oracles import rules
from oracles.rules import Matrix


@dataclass(frozen=True)
class DetrMaps:
    """R of one target, with a guard for zero rows, and as the authors' code has it.

    Attributes:
        R_qi: each zero row of R − I stays zero.
        R_qi_unguarded: a zero row makes all of that layer's update NaN, which the authors' code then sets to 0.
        zero_rows: how many rows of R − I that rule 10 divides by were zero.
    """

    R_qi: Matrix
    R_qi_unguarded: Matrix
    R_qq: Matrix
    R_ii: Matrix
    zero_rows: int


def detr(model: torch.nn.Module, inputs: dict[str, Any], query: int, label: int) -> DetrMaps:
    """``model`` is a DetrForObjectDetection in float64 with eager attention."""
    with torch.enable_grad():
        output = model(**inputs, output_attentions=True)
        target = output.logits[0, query, label]
        layers = (*output.encoder_attentions, *output.decoder_attentions, *output.cross_attentions)
        gradients = torch.autograd.grad(target, layers)
    cams = [rules.average_heads(a[0].detach().numpy(), g[0].numpy()) for a, g in zip(layers, gradients, strict=True)]
    encoder, decoder = len(output.encoder_attentions), len(output.decoder_attentions)
    return _rules(cams[:encoder], cams[encoder : encoder + decoder], cams[encoder + decoder :])


def _rules(encoder: list[Matrix], decoder: list[Matrix], cross: list[Matrix]) -> DetrMaps:
    R_ii = np.eye(len(encoder[0]))
    for cam in encoder:
        R_ii = R_ii + cam @ R_ii
    R_qq, zeros = np.eye(len(decoder[0])), 0
    guarded = unguarded = np.zeros_like(cross[0])
    for cam_qq, cam_qi in zip(decoder, cross, strict=True):
        R_qq, guarded, unguarded = R_qq + cam_qq @ R_qq, guarded + cam_qq @ guarded, unguarded + cam_qq @ unguarded
        zeros += len(rules.zero_rows(R_qq)) + len(rules.zero_rows(R_ii))
        guarded = guarded + rules.rule_10(cam_qi, R_qq, R_ii)
        unguarded = unguarded + np.nan_to_num(rules.rule_10(cam_qi, R_qq, R_ii, guard=False))
    return DetrMaps(guarded, unguarded, R_qq, R_ii, zeros)
