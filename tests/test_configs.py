"""The reading of YAML files: what is read, and the one line on what is not."""

import math

import pytest

from tf_largebatch import configs
from tf_largebatch.errors import UserError


@pytest.fixture
def read(tmp_path):
    """A function that writes a text into a file and reads it as YAML."""

    def write_and_read(text):
        path = tmp_path / "space.yaml"
        if isinstance(text, str):
            text = text.encode()
        path.write_bytes(text)
        return configs.read(path)

    return write_and_read


def message_of(function, *arguments):
    """Returns the one line that a function ends with."""
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-4", 1e-4),
        ("-2E5", -2e5),
        ("1.5e3", 1500.0),
        (".5e3", 500.0),
        ("6.e-6", 6e-6),
        ("+1e+2", 100.0),
        ("3", 3),
        ("0.97", 0.97),
        (".inf", math.inf),
        ("e5", "e5"),
        ("1e", "1e"),
        ("1e-4x", "1e-4x"),
        ("'1e-4'", "1e-4"),
        ("true", True),
    ],
)
def test_numbers_are_read_as_a_person_means_them(read, text, value):
    found = read(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("rate: 1\nrate: 2", ["'rate'", "twice", "line 2"]),
        ("a:\n  low: 1\n  low: 2", ["'low'", "twice", "line 3"]),
        ("a: [}", ["line 1"]),
        ("a: b: c", ["line 1"]),
        ("a: b\n\tc: d", ["line 2"]),
        ("a: !!python/object:os.system x", ["line 1"]),
        ("? [1]\n: 2", ["unhashable", "line 1"]),
        ("a: \x01", ["not YAML"]),
        ("a: " + "[" * 3000, ["nested too deeply"]),
        ("a: &b [*b]", ["an alias stands for what it is in", "line 1"]),
        ("a: 2020-13-45", ["not YAML"]),
        ("a: !!timestamp never", ["not YAML"]),
        ("a: !!bool maybe", ["not YAML"]),
        ("a: !!int many", ["not YAML"]),
        ("- 1", ["no mapping"]),
        ("", ["no mapping"]),
        (b"\xff\xfe\xff", ["cannot read"]),
    ],
)
def test_what_is_no_yaml_mapping_is_one_line(read, text, words):
    message = message_of(read, text)
    assert "space.yaml" in message
    for word in words:
        assert word in message


def test_merged_keys_may_be_given_again(read):
    found = read(
        "first: &first {power: 1.0, final: 0.5}\n"
        "deep: {second: &second {<<: *first, power: 2.0}}\n"
        "third: {<<: *second, final: 0.25}\n"
    )
    assert found["deep"]["second"] == {"power": 2.0, "final": 0.5}
    assert found["third"] == {"power": 2.0, "final": 0.25}


def test_a_file_that_is_not_there(tmp_path):
    message = message_of(configs.read, tmp_path / "none.yaml")
    assert "none.yaml" in message
    assert "No such file" in message


def test_a_folder_is_no_file(tmp_path):
    assert "Is a directory" in message_of(configs.read, tmp_path)


@pytest.mark.parametrize("kind", ["tables", "workloads"])
def test_an_unknown_name_lists_the_known_ones(kind):
    message = message_of(configs.load, kind, "tabel4")
    assert "'tabel4'" in message
    assert configs.names(kind)
    assert ", ".join(configs.names(kind)) in message


@pytest.mark.parametrize("name", ["../tables/table4", "table4.yaml", ""])
def test_a_name_is_no_path(name):
    assert "table4" in message_of(configs.load, "tables", name)


def test_every_yaml_file_of_the_project_can_be_read():
    paths = sorted(configs.root().rglob("*.yaml"))
    assert len(paths) >= 5
    for path in paths:
        # A recipe may be its base unchanged.
        based = "\n# base: " in path.read_text(encoding="utf-8")
        assert configs.read(path) or based


def test_names_are_those_of_the_files():
    assert {"table2", "table4"} <= set(configs.names("tables"))
    assert "digits_resnet" in configs.names("workloads")
    assert configs.names("no_such_kind") == []


def test_an_installed_package_has_its_configs_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "PACKAGE", tmp_path / "tf_largebatch")
    assert configs.root() == tmp_path / "official_configs"
    inside = tmp_path / "tf_largebatch" / "official_configs"
    inside.mkdir(parents=True)
    assert configs.root() == inside
