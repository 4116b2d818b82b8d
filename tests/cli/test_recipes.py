"""`tf-largebatch recipes`."""

import contextlib
import io
import json
import re
import subprocess
import sys

import pytest

from tf_largebatch.cli.main import main
from tf_largebatch.garden import recipes


def test_the_table_has_a_line_for_every_recipe_or_chain(capsys):
    assert main(["recipes"]) == 0
    title, *lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert title.split()[:2] == ["recipe", "row"]
    named = [
        recipes.parts(line.split()[0]) or [line.split()[0]] for line in lines
    ]
    assert sum(named, []) == recipes.names()
    for line, names in zip(lines, named, strict=True):
        found = [recipes.load(name) for name in names]
        batches = "/".join(f"{recipe.batch:,}" for recipe in found)
        steps = "/".join(f"{recipe.steps:,}" for recipe in found)
        columns = [found[0].row, batches, steps]
        places = [line.index(f" {text} ") for text in columns]
        assert places == sorted(places)
        assert {recipe.row for recipe in found} == {found[0].row}
        assert line.endswith(f"  {found[-1].expected}")


def test_a_chain_is_one_line(capsys):
    assert main(["recipes"]) == 0
    text = capsys.readouterr().out
    (line,) = (x for x in text.splitlines() if "bert_large/adam_65k_32k" in x)
    columns = re.split(r"  +", line)
    assert columns[2:4] == ["65,536/32,768/24", "7,037/1,562/7,299"]
    assert "such as bert_large/adam_32k/phase1." in text


def test_it_says_that_no_result_is_its_own(capsys):
    assert main(["recipes"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "none of it was run at full scale by this project" in text


def test_the_table_waits_for_no_tensorflow():
    code = """
import sys
from tf_largebatch.cli.main import main
main(["recipes"])
assert not {"tensorflow", "keras", "official"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def printed():
    """What `recipes --json` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        assert main(["recipes", "--json"]) == 0
    return json.loads(text.getvalue())


def test_json_has_every_recipe_and_nothing_else(printed):
    assert [entry["name"] for entry in printed] == recipes.names()
    for entry in printed:
        recipe = recipes.load(entry["name"])
        for field in ("row", "batch", "steps", "expected", "status"):
            assert entry[field] == getattr(recipe, field)
        for field in ("command", "experiment", "base"):
            assert entry[field] == getattr(recipe, field)
        assert entry["notes"] == recipe.notes


def test_json_has_every_resolved_value(printed):
    """Compared for some, as to resolve them all takes its time."""
    for entry in printed[::5]:
        config = recipes.experiment_config(entry["name"]).as_dict()
        assert entry["config"] == json.loads(json.dumps(config))
    for entry in printed:
        trainer = entry["config"]["trainer"]
        assert trainer["train_steps"] == entry["steps"]
        # Of the recipe, of the experiment, and of the Garden.
        chosen = trainer["optimizer_config"]["optimizer"]["type"]
        assert chosen.startswith("largebatch_")
        model = entry["config"]["task"]["model"]
        assert model.get("num_classes") == 1000 or "encoder" in model
        assert "max_to_keep" in trainer
