"""Small random models of many kinds, saved with their processors as their makers save them."""

from pathlib import Path

import pytest

from . import builders


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """folder("bert"): where that model is saved; built when first asked for."""
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            path = tmp_path_factory.mktemp(name)
            getattr(builders, name)(path)
            built[name] = path
        return built[name]

    return get
