"""`tf-largebatch recipes`."""

import contextlib
import io
import json
import subprocess
import sys

import pytest

from tf_largebatch.cli.main import main
from tf_largebatch.garden import recipes


def test_the_table_has_a_line_for_every_recipe(capsys):
    assert main(["recipes"]) == 0
    title, *lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert title.split()[:2] == ["recipe", "row"]
    assert [line.split()[0] for line in lines] == recipes.names()
    for line in lines:
        recipe = recipes.load(line.split()[0])
        columns = [recipe.row, f"{recipe.batch:,}", f"{recipe.steps:,}"]
        places = [line.index(f" {text} ") for text in columns]
        assert places == sorted(places)
        assert line.endswith(f"  {recipe.expected}")


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
        for field in ("row", "batch", "steps", "expected", "status", "command"):
            assert entry[field] == getattr(recipe, field)
        assert entry["notes"] == recipe.notes


def test_json_has_every_resolved_value(printed):
    for entry in printed:
        config = recipes.experiment_config(entry["name"]).as_dict()
        assert entry["config"] == json.loads(json.dumps(config))
        trainer = entry["config"]["trainer"]
        assert trainer["train_steps"] == entry["steps"]
        # Of the recipe, of the experiment, and of the Garden.
        chosen = trainer["optimizer_config"]["optimizer"]["type"]
        assert chosen.startswith("largebatch_")
        assert entry["config"]["task"]["model"]["num_classes"] == 1000
        assert "max_to_keep" in trainer
