"""Targets of time series: a value to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.outputs import Context, get, part
from heedmap.targets.target import Chosen, Target, in_range

SERIES = ("prediction_outputs", "mean_predictions", "params")
"""Names under which models return values to come: themselves, their means, or the parameters of their distribution."""
LOCATIONS = {"student_t": 1, "normal": 0}
"""``config.distribution_output`` → which of the parameters is the mean, before it is scaled."""


@dataclass(frozen=True)
class Forecast(Target):
    """A value to come of a time series.

    From ``prediction_outputs`` (batch, steps, channels) (PatchTST, PatchTSMixer) or ``mean_predictions`` (batch, steps)
    (TimesFM); of a model that gives a distribution (TimeSeriesTransformer, Informer, Autoformer: Student's t or normal) its
    mean, the location times ``scale`` plus ``loc``.

    Attributes:
        step: of the steps to come, from 0; negative from the last.
        channel: which of the series, from 0.

    Examples:
        >>> import heedmap, torch
        >>> class Next(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.read, self.head = torch.nn.Linear(1, 16), torch.nn.Linear(16, 4)
        ...         self.layer = torch.nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        ...     def forward(self, past_values):
        ...         states = self.layer(self.read(past_values))
        ...         return {"prediction_outputs": self.head(states[:, -1])[..., None]}
        >>> target = heedmap.targets.Forecast(step=2)
        >>> heedmap.explain(Next(), {"past_values": torch.randn(1, 32, 1)}, target=target).target
        ('value of step 2',)
    """

    step: int = 0
    channel: int = 0

    def choose(self, output: object, context: Context) -> Chosen:
        """See :meth:`Target.choose`."""
        _, steps, channels = forecast(output, context).shape
        step, channel = in_range(self.step, steps, "step"), in_range(self.channel, channels, "channel")
        values = partial(_at_step, context, step, channel)
        words = f"value of step {step}" + (f" of channel {channel}" if channels > 1 else "")
        scores = values(output)
        return Chosen(scores, (words,) * len(scores), again=values)


def to_come(output: object) -> Tensor | Sequence[Tensor] | None:
    """The part of an output that tells of values to come: a tensor, a tuple of a distribution's parameters, or None."""
    (values, means), parameters = (get(output, name) for name in SERIES[:2]), part(output, SERIES[2])
    if values is not None and values.dim() == 3:
        return values
    if means is not None and means.dim() == 2:
        return means[..., None]
    return parameters if isinstance(parameters, (tuple, list)) else None


def forecast(output: object, context: Context) -> Float[Tensor, "batch steps channels"]:
    """The values to come; TargetError where there are none, or their mean is not known."""
    output = context.read(output)
    given = to_come(output)
    if given is None:
        raise TargetError(
            "Forecast needs prediction_outputs (batch, steps, channels), mean_predictions (batch, steps) or params in the "
            "output; a model that gives params gives them only where it is called with future_values"
        )
    values = given if isinstance(given, Tensor) else _mean(given, output, context)
    return values if values.dim() == 3 else values[..., None]


def _mean(parameters: Sequence[Tensor], output: object, context: Context) -> Tensor:
    kind = context.setting("distribution_output")
    if kind not in LOCATIONS:
        raise TargetError(
            f"the output has the parameters of a distribution ({kind}), and Forecast knows the mean of "
            f"{', '.join(LOCATIONS)}; pass target=callable(output) -> (batch,) tensor"
        )
    mean, loc, scale = parameters[LOCATIONS[kind]], get(output, "loc"), get(output, "scale")
    return mean if loc is None or scale is None else mean * scale + loc


def _at_step(context: Context, step: int, channel: int, output: object) -> Tensor:
    return forecast(output, context)[:, step, channel]
