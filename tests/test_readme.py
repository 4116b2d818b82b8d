"""What the README shows works as it stands there."""

import pathlib
import re
import shlex

import yaml

from tf_largebatch import rules
from tf_largebatch.cli import main as program

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    namespace: dict = {}
    for block in blocks:
        exec(block, namespace)  # As a reader would, one after the other.


def test_its_commands_parse():
    commands = re.findall(r"^tf-largebatch (\w+) ?(.*?)(?:#.*)?$", README, re.M)
    assert len(commands) >= 4
    for name, flags in commands:
        assert name in program.COMMANDS
        module = program.importlib.import_module(f"tf_largebatch.cli.{name}")
        wanted = [flag for flag in shlex.split(flags) if flag != "--help"]
        wanted = program.name_argument(module, wanted)
        program.parse(name, module.FLAGS, wanted)


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (?:\w+=\S+ )?([a-z-]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_its_tables_name_every_variant():
    for variants in (rules.LARS_VARIANTS, rules.LAMB_VARIANTS):
        for name in variants:
            assert f"`{name}`" in README


def test_the_digits_it_speaks_of_are_the_workloads():
    path = ROOT / "official_configs" / "workloads" / "digits_resnet.yaml"
    workload = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert f"batches of {workload['batch']}" in README
    assert workload["splits"]["train"] == 2 * workload["batch"]
    assert sum(workload["splits"].values()) == 1797
