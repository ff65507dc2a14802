"""The public surface: every name is there, light to import, and stays what it is after submodules are imported."""

import importlib
import inspect
import subprocess
import sys

import heedmap


def test_every_public_name_is_there() -> None:
    assert all(hasattr(heedmap, name) for name in heedmap.__all__)


def test_importing_heedmap_imports_no_torch() -> None:
    code = "import sys, heedmap; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_explain_stays_a_function() -> None:
    importlib.import_module("heedmap.engine")
    assert inspect.isfunction(heedmap.explain)
    assert inspect.isfunction(heedmap.inspect)
    assert not any(name in sys.modules for name in ("heedmap.explain", "heedmap.inspect", "heedmap.load"))
