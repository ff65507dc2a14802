"""Scenes that many tests read, made once."""

import pytest

from heedmap.zoo.world import Scene, Shapes


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return list(Shapes("test", length=1200))
