"""The notebooks of the documents run as they stand, in an empty folder, and their explanations show themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient; pip install -e '.[dev]'")
nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat; pip install -e '.[dev]'")
FOLDER = Path(__file__).parent.parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # within Jupyter
LONGEST = 60
"""Seconds of a processor that a notebook may take."""
TOOK = "import os\nprint(sum(os.times()[:4]))"
"""A last cell, which tells them."""


@pytest.fixture
def kernel(warmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter's kernel of Python, by a ``python`` that starts at once."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    command = [str(warmed.with_name("python")), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    backend = "module://matplotlib_inline.backend_inline"  # as a kernel has it
    about = {"argv": command, "display_name": "Python 3", "language": "python", "env": {"MPLBACKEND": backend}}
    (folder / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_explanations(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(TOOK))
    (tmp_path / "empty").mkdir()
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path / "empty")}}).execute()
    assert float(notebook.cells.pop().outputs[0].text) < LONGEST
    shown = [one.data for cell in notebook.cells for one in cell.get("outputs", []) if "data" in one]
    explanations = [data for data in shown if "text/html" in data]
    assert explanations
    for data in explanations:
        assert "What “" in data["text/html"]
        assert data["image/png"].startswith("iVBOR")
    assert not [data for data in shown if "Figure" in data["text/plain"] and "image/png" not in data]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_a_run_leaves(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None and not cell.metadata for cell in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_each_notebook_is_linked() -> None:
    assert NOTEBOOKS
    page = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in page] == []
