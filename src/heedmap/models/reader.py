"""A model read at one of its submodules, where its own output leaves out what is to be explained."""

from __future__ import annotations

from typing import Any

from torch import nn


class OutputOf(nn.Module):
    """``model`` as it is, but its output is that of its submodule ``name``, the last time that it ran.

    Args:
        model: any model.
        name: dotted path of a submodule that runs in each forward pass.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.submodule = name
        self.config = model.config
        self.training = model.training

    def forward(self, **inputs: Any) -> Any:
        """Run the whole model; return the submodule's output."""
        outputs: list[Any] = []
        handle = self.model.get_submodule(self.submodule).register_forward_hook(lambda _m, _a, out: outputs.append(out))
        try:
            self.model(**inputs)
        finally:
            handle.remove()
        return outputs[-1]

    def generate(self, **settings: Any) -> Any:
        """The model's own ``generate``."""
        inner: Any = self.model
        return inner.generate(**settings)
