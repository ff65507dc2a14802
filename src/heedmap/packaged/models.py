"""What recipes share: a model from its configuration and weights, with every weight accounted for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from heedmap.errors import ModelLoadError

PROBLEMS = ("missing_keys", "unexpected_keys", "mismatched_keys")


def model_from(kind: type[PreTrainedModel], config: PretrainedConfig, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """A ``kind`` with exactly the weights of ``state``.

    transformers renames old parameter names only on its way through ``from_pretrained``; a plain ``load_state_dict``
    that is not strict would leave renamed parameters random.

    Raises:
        ModelLoadError: a parameter is missing, left over, or of another shape.
    """
    model, info = kind.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    wrong = {problem: sorted(map(str, info[problem])) for problem in PROBLEMS if info.get(problem)}
    if wrong:
        raise ModelLoadError(f"the packaged weights do not fit {kind.__name__}: {wrong}")
    return model.eval()
