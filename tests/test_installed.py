"""What pyproject.toml promises of Python is kept by each version that constraints.txt pins."""

import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent


def test_every_pinned_version_installs_on_the_oldest_python() -> None:
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = promised.removeprefix(">=")
    wanted = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name = Requirement(line).name
            try:
                wanted[name] = metadata(name).get("Requires-Python")
            except PackageNotFoundError:  # of another system, or of an extra that is not installed
                continue
    assert len(wanted) > 100
    assert {
        name: python for name, python in wanted.items() if python and f"{oldest}.0" not in SpecifierSet(python)
    } == {}
