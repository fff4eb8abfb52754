"""The notebooks of the documentation run, in a kernel as their readers have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
# in a process of its own: whatever the client leaves open is not blamed on the next test
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, 4)
client = NotebookClient(
    notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": folder}}
)
try:
    client.execute()
finally:
    nbformat.write(notebook, target)
"""


def executed(source: Path, folder: Path) -> Any:
    """The notebook with its outputs. Fails with the error of its cell."""
    target = folder / "executed.ipynb"
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, source, target, folder],
        env=environment | {"TMPDIR": str(folder), "MPLCONFIGDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return nbformat.read(target, 4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_a_warning_and_shows_its_figures(
    path: Path, tmp_path: Path
) -> None:
    found = outputs(executed(path, tmp_path))
    errors = [output.text for output in found if output.get("name") == "stderr"]
    assert errors == []
    pictures = [output for output in found if "image/png" in output.get("data", {})]
    asked = path.read_text().count("plt.subplots(")
    assert len(pictures) == asked >= 4
    assert list(tmp_path.glob("stemd-*/*/scan.json"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert outputs(notebook) == []
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert (path.parent / link).exists(), link


def test_a_kernel_shows_a_bar_and_takes_it_away(tmp_path: Path) -> None:
    source = tmp_path / "bar.ipynb"
    cell = "import numpy as np\nfrom stemd import api\nfrom stemd.api import progress\n"
    call = "api.com(np.ones((40, 40, 8, 8), np.uint8), progress=True);"
    cells = [
        cell + call,
        "progress._NotebookBar.close = lambda self: None\n" + call,
        "api.com(np.ones((40, 40, 8, 8), np.uint8));",
    ]
    v4 = nbformat.v4
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(text) for text in cells]), source)
    gone, stays, quiet = (each.outputs for each in executed(source, tmp_path).cells)
    assert [output.data["text/html"] for output in gone] == [""]
    assert len(stays) == 1
    assert '<progress value="1600" max="1600">' in stays[0].data["text/html"]
    assert "the array: 1,600 of 1,600" in stays[0].data["text/plain"]
    assert quiet == []
