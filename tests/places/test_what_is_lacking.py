"""Methods that are not defined through mixers say so, and what they name instead works."""

from typing import Any

import pytest
from test_without_mixers import MIXING

import heedmap
from heedmap.errors import UnfollowedAttentionError

pytestmark = pytest.mark.filterwarnings("ignore")

LACKING: dict[str, dict[str, Any]] = {
    "partial_lrp": {"method": "partial_lrp"},
    "transformer_attribution": {"method": "transformer_attribution"},
    "generic by lrp": {"cam": "lrp"},
    "attention_gradcam": {"method": "attention_gradcam"},
}
NAMED = {
    r"relevance of attention matrices .* not defined through windows, merged tokens and other mixers": (
        "'generic' with cam='gradient'",
        "'full_lrp' or 'attn_lrp'",
    ),
    r"not defined for attention in windows and other mixers": ("'generic'",),
}


@pytest.mark.parametrize("name", ["convbert", "fnet", "swin"])
@pytest.mark.parametrize("asked", LACKING.values(), ids=LACKING)
def test_a_refusal_names_what_works(name: str, asked: dict[str, Any]) -> None:
    model, inputs, score = MIXING[name]()
    cause, names = list(NAMED.items())[asked.get("method") == "attention_gradcam"]
    with pytest.raises(UnfollowedAttentionError, match=cause) as refused:
        heedmap.explain(model, inputs, target=score, **asked)
    assert all(words in str(refused.value) for words in (*names, "'integrated_gradients'"))


@pytest.mark.parametrize("name", ["convbert", "fnet", "swin"])
@pytest.mark.parametrize("method", ["generic", "full_lrp", "attn_lrp"])
def test_what_it_names_works(name: str, method: str) -> None:
    model, inputs, score = MIXING[name]()
    found = heedmap.explain(model, inputs, target=score, method=method)
    assert all(float(segment.relevance.abs().max()) > 0 for segment in found.segments.values())
