"""Time series and steps of several kinds against dense matrices in float64: which rows are tokens, and which inputs only tell of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from placed_models import CHANNEL, SCALE, Case, apart, made
from torch import Tensor, nn

import heedmap
from oracles import operators as ops
from oracles.seen import seen

CLOSE = 1e-6


@dataclass(frozen=True)
class Series(Case):
    """A model of one stream.

    Attributes:
        segments: names of its segments, whose rows are read from the positions that the explanation says.
        layers: of attention on the way to the target.
    """

    segments: tuple[str, ...] = ()
    layers: int = 2

    def row_of(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """The row that is read of R, (batch, tokens), by the oracle."""
        events = seen(self.eager(model), inputs, self.target, ())[: self.layers]
        R = torch.eye(events[0].out.shape[-1], dtype=torch.float64).expand(2, -1, -1)
        for event in events:
            R = R + ops.whole(event.out, event.gradient) @ R
        return ops.read(R, self.row)


def steps(batch: int, columns: int) -> Tensor:
    """Rows of numbers."""
    return torch.randn(batch, 5, columns)


DECIDED = Series(
    made(
        "DecisionTransformerModel",
        "DecisionTransformerConfig",
        state_dim=3,
        act_dim=2,
        hidden_size=16,
        n_layer=2,
        n_head=2,
    ),
    lambda batch: {
        "states": steps(batch, 3),
        "actions": steps(batch, 2),
        "rewards": steps(batch, 1),
        "returns_to_go": steps(batch, 1),
        "timesteps": torch.arange(5).expand(batch, -1),
        "attention_mask": torch.ones(batch, 5).long(),
    },
    lambda output: SCALE * output.state_preds[:, -1, 1],
    (),
    None,
    -1,
    segments=("returns_to_go", "states", "actions"),
)
FORECAST = Series(
    made(
        "TimesFmModel",
        "TimesFmConfig",
        patch_length=4,
        context_length=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=8,
    ),
    lambda batch: {
        "past_values": torch.randn(batch, 32),
        "past_values_padding": torch.zeros(batch, 32),
        "freq": torch.ones(batch, 1).long(),
    },
    lambda output: SCALE * output.last_hidden_state[:, -1, CHANNEL],
    (),
    None,
    -1,
    segments=("past_values",),
)
LAGGED = Series(
    made(
        "TimeSeriesTransformerModel",
        "TimeSeriesTransformerConfig",
        d_model=16,
        context_length=6,
        prediction_length=3,
        lags_sequence=[1, 2, 3],
        num_time_features=2,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
    ),
    lambda batch: {
        "past_values": torch.randn(batch, 9),
        "past_time_features": torch.randn(batch, 9, 2),
        "past_observed_mask": torch.ones(batch, 9),
        "future_values": torch.randn(batch, 3),
        "future_time_features": torch.randn(batch, 3, 2),
    },
    lambda output: SCALE * output.encoder_last_hidden_state[:, -1, CHANNEL],
    (),
    None,
    -1,
    segments=("past_values",),
)
CASES = {"steps of three kinds, and when they are": DECIDED, "patches": FORECAST, "lags": LAGGED}


@pytest.mark.parametrize("name", CASES)
def test_series(name: str) -> None:
    case = CASES[name]
    model, inputs = case.model(), case.given(2)
    found = heedmap.explain(model, dict(inputs), target=case.target, drop_self=False)
    wanted = case.row_of(model, inputs)
    assert tuple(found.segments)[: len(case.segments)] == case.segments
    for segment in case.segments:
        assert apart(found[segment].double(), wanted.gather(1, found.segments[segment].positions)) <= CLOSE
    places = torch.cat([found.segments[s].positions for s in case.segments], 1).sort(1).values
    assert torch.equal(places, torch.arange(wanted.shape[1]).expand(2, -1))
    alone = heedmap.explain(model, {k: v[1:] for k, v in inputs.items()}, target=case.target, drop_self=False)
    assert all(apart(alone[s].double(), found[s][1:].double()) <= CLOSE for s in case.segments)
