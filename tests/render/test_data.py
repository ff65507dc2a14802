import json
import math

import torch
from hand_made import HOSTILE, segment

from heedmap.data.flow import Flow
from heedmap.render.files import to_json


def test_json_has_the_shape_of_the_explanation(all_kinds):
    data = json.loads(to_json(all_kinds))
    assert data["target"] == list(all_kinds.target)
    assert data["score"] == [8.125]
    assert data["prediction"] == [3]
    assert data["prediction_label"] == ["cat $5 <i>"]
    assert data["segments"]["text"]["labels"] == [list(HOSTILE)]
    assert data["segments"]["image"]["grid"] == [2, 3]
    assert Flow.from_dict(data["flow"]) == all_kinds.flow


def test_numbers_come_back_exactly(make_explanation):
    values = [0.1, 1 / 3, 1e-30, -7.25]
    data = json.loads(to_json(make_explanation(segment(values))))
    assert torch.equal(torch.tensor(data["segments"]["text"]["relevance"]), torch.tensor([values]))


def test_what_json_cannot_say(make_explanation):
    odd = make_explanation(
        segment([math.nan, math.inf]),
        options={"p": math.inf, "t": (1, {2: None}), "d": torch.float32},
        prediction=None,
        prediction_labels=None,
    )
    data = json.loads(to_json(odd), parse_constant=lambda name: 1 / 0)
    assert data["segments"]["text"]["relevance"] == [[None, None]]
    assert data["options"] == {"p": "inf", "t": [1, {"2": None}], "d": "torch.float32"}
    assert data["prediction"] is None
