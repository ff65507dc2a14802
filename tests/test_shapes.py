"""A wrong shape is told where shapes are checked; tests/conformance checks the algebra's on every architecture."""

from __future__ import annotations

import pytest
import torch

from heedmap.relevance.rules import average_heads


@pytest.mark.usefixtures("shapes_checked")
def test_a_wrong_shape_is_told() -> None:
    with pytest.raises(TypeError, match="average_heads"):
        average_heads(torch.ones(2, 3, 4), torch.ones(2, 3, 5))
