"""What recipes share: a model from its configuration and weights, with every weight accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from heedmap.errors import ModelLoadError


def model_from(kind: type[PreTrainedModel], config: PretrainedConfig, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """A ``kind`` with exactly the weights of ``state``.

    transformers renames old parameter names only on its way through ``from_pretrained``; a plain ``load_state_dict``
    that is not strict would leave renamed parameters random.

    Raises:
        ModelLoadError: a parameter is missing, left over, or of another shape.
    """
    model, info = kind.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    wrong = {what: sorted(map(str, keys)) for what, keys in _problems(info).items() if keys}
    if wrong:
        raise ModelLoadError(f"the packaged weights do not fit {kind.__name__}: {wrong}")
    return model.eval()


def _problems(info: Mapping[str, Any]) -> dict[str, Any]:
    return {what: info.get(what) for what in ("missing_keys", "unexpected_keys", "mismatched_keys")}
