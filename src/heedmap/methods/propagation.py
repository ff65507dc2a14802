"""Methods on relevance propagation: the relevance of attention matrices, and of the input itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from heedmap.lrp.rules import RULES
from heedmap.methods.layers import last_maps, min_max
from heedmap.methods.method import Method
from heedmap.methods.rollout import Rollout
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.relevance.chain import AnyMatrix

CHOICES = {"rules": tuple(RULES)}


def _partial(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    relevances = run.relevances(options).attentions

    def matrix(index: int) -> AnyMatrix:
        if index not in relevances:
            return run.zeros(index)
        relevance = relevances[index].clamp(min=0) if options["positive"] else relevances[index]
        cam = run.matrix(run.attentions[index], lambda rows: relevance[:, :, rows].mean(1))
        return min_max(run, index, cam) if options["min_max"] == "matrix" else cam

    return last_maps(run, matrix)


PARTIAL_LRP = Method(
    name="partial_lrp",
    summary="the LRP relevance of the last layer's attention, mean over heads",
    source="Voita et al., ACL 2019, arXiv 1905.09418; as the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4",
    options={
        "rules": "chefer",
        "share_constants": False,
        "positive": False,
        "min_max": "none",
        "drop_self": True,
    },
    choices={**CHOICES, "min_max": ("none", "matrix")},
    prepare=_partial,
)


def _attribution(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    relevances = run.relevances(options)
    return Rollout(run, partial(run.relevance_cam, relevances=relevances), options, through=False).rows


TRANSFORMER_ATTRIBUTION = Method(
    name="transformer_attribution",
    summary="LRP relevance of attention weighted by its gradient, the product of (that + identity) over the layers",
    source="Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838; cross-attention as the baseline of the same, ICCV 2021",
    options={
        "rules": "chefer",
        "share_constants": False,
        "normalize": False,
        "start_layer": 0,
        "drop_self": True,
    },
    choices=CHOICES,
    prepare=_attribution,
)


def _leaves(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Mapping[int, Tensor]]:
    return [run.relevances(options, inputs=True).leaves for run in runs]


FULL_LRP = Method(
    name="full_lrp",
    summary="LRP relevance of the input itself: embeddings, patches, boxes, pixels",
    source="Bach et al., PLoS ONE 2015; as the baseline of Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838",
    options={"rules": "chefer", "share_constants": False, "pixels": False},
    choices=CHOICES,
    attribute=_leaves,
)

ATTN_LRP = Method(
    name="attn_lrp",
    summary="LRP relevance of the input by rules made for attention: softmax by its Taylor expansion, uniform products",
    source="Achtibat et al., AttnLRP, ICML 2024, arXiv 2402.05602",
    options={"rules": "attn_lrp", "share_constants": True, "pixels": False},
    choices={"rules": ("attn_lrp",)},
    attribute=_leaves,
)
