"""The notebooks: they run, and are checked in as they ran."""

import ast
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")


def load_tool():
    path = ROOT / "tools" / "notebooks.py"
    spec = importlib.util.spec_from_file_location("tools_notebooks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS]
)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_three():
    assert len(NOTEBOOKS) == 3
    assert tool.PATHS == NOTEBOOKS


@each_notebook
def test_it_is_checked_in_as_it_ran(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert not tool.problems(notebook)
    assert dict(notebook.metadata) == tool.METADATA


@each_notebook
def test_it_installs_only_what_is_not_there(path):
    first = code_cells(read(path))[0].source
    (guard,) = [
        node
        for node in ast.parse(first.replace("%pip", "pass  #")).body
        if isinstance(node, ast.If)
    ]
    assert "find_spec('tf_largebatch') is None" in ast.unparse(guard.test)
    assert re.search(r"^    %pip install ", first, re.M)
    assert first.count("%pip") == 1


@each_notebook
def test_its_links_lead_somewhere(path):
    prose = [c.source for c in read(path).cells if c.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose))
    assert links
    for link in links:
        if not link.startswith("https:"):
            assert (path.parent / link.partition("#")[0]).exists(), link


def notebook_of(**output):
    """Returns a notebook of one cell with one output, in good order."""
    cell = nbformat.v4.new_code_cell("1", execution_count=1)
    cell.outputs = [nbformat.v4.new_output(**output)]
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    "text, found",
    [
        ("runs/mine/report.html and/or https://a.example/home/x", []),
        ("see /home/me/runs:", ["it has the path /home/me/runs"]),
        ("'/tmp/x/y.py'", ["it has the path /tmp/x/y.py"]),
        ("C:\\me\\x", ["it has the path C:\\me\\x"]),
    ],
)
def test_a_path_of_a_machine_is_seen(text, found):
    stream = notebook_of(output_type="stream", text=text)
    assert tool.problems(stream) == found
    data = {"text/plain": text, "image/png": "/tmp/x"}
    shown = notebook_of(output_type="display_data", data=data)
    assert tool.problems(shown) == found


def test_a_large_notebook_is_refused():
    data = {"image/png": "A" * tool.MOST_BYTES}
    (problem,) = tool.problems(
        notebook_of(output_type="display_data", data=data)
    )
    assert "1,000,000 are allowed" in problem


def failing(folder):
    """Writes a notebook whose second cell fails."""
    path = folder / "failing.ipynb"
    cells = [*map(nbformat.v4.new_code_cell, ("print(1)", "1 / 0"))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_a_notebook_that_fails_is_not_written(tmp_path, monkeypatch):
    path = failing(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    with pytest.raises(Exception, match="division by zero"):
        tool.main([path.stem])
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.long
@each_notebook
def test_it_runs(path, tmp_path, monkeypatch):
    # As for a reader, for whom nothing was compiled before.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    folder.mkdir()
    notebook = tool.execute(path, folder)
    assert not tool.problems(notebook)
    shown = [kinds(cell) for cell in code_cells(notebook)]
    assert shown == [kinds(cell) for cell in code_cells(read(path))]


def kinds(cell):
    """Returns of what kinds a cell's outputs are; streams may be silent."""
    return [
        sorted(output.data)
        for output in cell.outputs
        if output.output_type != "stream"
    ]
