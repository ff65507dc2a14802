"""Hand-made explanations: the renderers are tested without any model."""

from collections.abc import Callable

import pytest
import torch
from hand_made import HOSTILE, attention, patches, segment
from PIL import Image

from heedmap.data.flow import Flow, StreamInfo
from heedmap.data.segments import Segment
from heedmap.explanation import Explanation


@pytest.fixture
def make_explanation() -> Callable[..., Explanation]:
    def make(*segments: Segment, **changes) -> Explanation:
        flow = Flow((StreamInfo("text", 9, ("text",), ((0,),)),), (attention(0),), ("a <note>",))
        fields = {
            "segments": {s.name: s for s in segments},
            "target": ('class 3 ("cat" <b>)',),
            "scores": torch.tensor([8.125]),
            "prediction": torch.tensor([3]),
            "prediction_labels": ("cat $5 <i>",),
            "method": "generic",
            "options": {"normalize": True, "cam": "<lrp>"},
            "flow": flow,
        }
        return Explanation(**{**fields, **changes})

    return make


@pytest.fixture
def all_kinds(make_explanation) -> Explanation:
    """One segment of every kind, with labels that try to break out."""
    return make_explanation(
        segment([0.0, 0.1, 0.4, 0.2, 0.3, 0.05, 0.01, 0.02, 0.03], labels=(HOSTILE,)),
        patches(2, 3, {(1, 2): 1.0}),
        segment([0.1, 0.9], name="boxes", kind="boxes", labels=(("cat & dog", "box 2"),)),
        segment([0.1 * i for i in range(60)], name="audio", kind="audio"),
        segment([0.1 * i - 2 for i in range(100)], name="queries", kind="tokens"),
    )


@pytest.fixture
def photo() -> Image.Image:
    return Image.new("RGB", (90, 60), (0, 0, 200))
