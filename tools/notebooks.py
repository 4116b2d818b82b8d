"""Runs the notebooks of examples/notebooks and writes their outputs anew.

Each runs in an empty folder of its own, and is only written when all its cells
ran. What it leaves out is what would tell of the machine: times of cells, the
version of Python. What it refuses to write, the tests refuse too.

Usage: python tools/notebooks.py [NAME ...]
"""

import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LIMIT = 600  # Seconds for a cell.
MOST_BYTES = 1_000_000
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}
# A file or a folder that lies where it lies on one machine alone.
PLACE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|Users|var|opt|usr|mnt|private|content)"
    r"/[\w./-]*|\b[A-Z]:\\[\w\\.-]*"
)


def execute(path: pathlib.Path, folder: pathlib.Path) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs of its cells, run in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        coalesce_streams=True,
        kernel_name=METADATA["kernelspec"]["name"],
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        timeout=LIMIT,
    )
    # So that cells find the programs that are installed beside this Python.
    programs = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ["PATH"]]
    )
    client.execute(env={**os.environ, "PATH": programs})
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """Returns why a notebook is not to be shown as it is.

    >>> cell = nbformat.v4.new_code_cell("1", execution_count=2)
    >>> problems(nbformat.v4.new_notebook(cells=[cell]))
    ['no cell has an output', 'its cells were run in the order [2]']
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    if not any(cell.outputs for cell in code):
        found.append("no cell has an output")
    order = [cell.execution_count for cell in code]
    if order != list(range(1, len(code) + 1)):
        found.append(f"its cells were run in the order {order}")
    for text in texts(notebook):
        found += [f"it has the path {path}" for path in PLACE.findall(text)]
    size = len(nbformat.writes(notebook).encode())
    if size > MOST_BYTES:
        found.append(f"it has {size:,} bytes; {MOST_BYTES:,} are allowed")
    return found


def texts(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Yields all that is written in a notebook: sources and outputs."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                yield "\n".join(output.traceback)
            yield output.get("text", "")
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield content


def main(names: list[str]) -> int:
    """Runs and writes the notebooks of these names, or all."""
    wanted = [FOLDER / f"{name}.ipynb" for name in names] or PATHS
    for path in wanted:
        print(f"{path.name}: running", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, pathlib.Path(folder))
        found = problems(notebook)
        if found:
            print(f"{path.name} is left as it was: {'; '.join(found)}")
            return 1
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
