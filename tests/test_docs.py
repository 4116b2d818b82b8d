"""The pages in docs/: what they quote is what the code says."""

import pathlib
import runpy

ROOT = pathlib.Path(__file__).parents[1]


def test_the_page_on_scale_has_the_tables_of_its_script():
    script = runpy.run_path(str(ROOT / "tools/scale.py"))
    page = (ROOT / "docs/scale.md").read_text()
    for work in script["WORKS"]:
        assert script["table"](work) in page


def test_the_page_on_scale_takes_its_work_from_preflights_page():
    """All bytes but the optimizer's, and the operations."""
    script = runpy.run_path(str(ROOT / "tools/scale.py"))
    lines = (ROOT / "docs/preflight.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    found = {row[0]: row for row in rows if len(row) == 9}
    for work in script["WORKS"]:
        _, _, _, teraflops, gigabytes, *_, optimizer = found[work.name]
        own = float(optimizer.split()[0])
        assert abs(work.flops / 1e12 - float(teraflops)) < 0.01
        assert abs(work.traffic / 1e9 - (float(gigabytes) - own)) < 0.011
