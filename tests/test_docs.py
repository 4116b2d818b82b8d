"""The README and the pages: what they show runs, what they quote is so."""

import collections
import doctest
import importlib.util
import pathlib
import re
import runpy
import shlex
import sys
import tomllib

import pytest
import yaml

from tf_largebatch import plugins, rules
from tf_largebatch.cli import main as program
from tf_largebatch.garden import recipes
from tf_largebatch.tf_keras import namespace

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_optimizer"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    EXAMPLE / "README.md",
]
# Its code is the example's, which is installed and run by its own tests.
ADD = ROOT / "docs" / "add_your_own.md"
TOOLS = ("distances", "docs_site", "house", "notebooks", "recipes")


def in_repository(path):
    return path.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=in_repository)


def tool(name):
    """Returns a script of tools/ as a module."""
    path = ROOT / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"tools_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Data classes look there.
    spec.loader.exec_module(module)
    return module


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def commands(page):
    """Returns the words of each command of a page's blocks."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words]


def quoted(page):
    """Returns the words of each command that stands in the running text."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    found = re.findall(r"`(tf-largebatch [^`]+)`", prose)
    return [shlex.split(command.replace("\n", " ")) for command in found]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != ADD], ids=in_repository
)
def test_its_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(block, namespace)  # As a reader would, one after the other.


@each_page
def test_its_commands_parse(page):
    for _, name, *flags in commands_of("tf-largebatch", page) + quoted(page):
        assert name in program.COMMANDS
        module = program.importlib.import_module(f"tf_largebatch.cli.{name}")
        wanted = [flag for flag in flags if flag != "--help"]
        wanted = program.name_argument(module, wanted)
        program.parse(name, module.FLAGS, wanted)
        for file in files_of(module.FLAGS):
            assert file.isupper() or (ROOT / file).exists(), file
        for recipe in recipes_of(module.FLAGS):
            assert recipes.exists(recipe) or recipes.parts(recipe), recipe


def commands_of(first, page):
    return [words for words in commands(page) if words[0] == first]


def files_of(flags):
    return flags["config_file"].value or [] if "config_file" in flags else []


def recipes_of(flags):
    """Returns the recipes that parsed flags name; capitals stand for any."""
    found = []
    for flag in ("recipe", "recipes", "from", "to"):
        value = flags[flag].value if flag in flags else None
        found += value if isinstance(value, list) else [value]
    return [each for each in found if each and "/" in each]


@each_page
def test_its_other_commands_are_of_this_repository(page):
    makefile = text_of(ROOT / "Makefile")
    extras = set(declared_extras())
    for first, *words in commands(page):
        if first == "make":
            target = next(word for word in words if "=" not in word)
            assert re.search(rf"^{target}:", makefile, re.M), target
        elif first == "pip":
            asked = re.findall(r"\[(.*?)\]", " ".join(words))
            assert set(",".join(asked).split(",")) - {""} <= extras
        elif first == "python":
            assert (ROOT / words[0]).is_file(), words[0]
        else:
            assert first in {"tf-largebatch", "tensorboard", "git", "cd"}


def declared_extras():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    return project["optional-dependencies"]


@each_page
def test_the_files_it_names_exist(page):
    folders = "docs|examples|official_configs|tests|tools|tpu_scripts"
    folders += "|tf_largebatch"
    text = re.sub(r"https?://\S+", "", text_of(page))
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_make_targets_in_the_text_exist():
    makefile = text_of(ROOT / "Makefile")
    for page in PAGES:
        for target in re.findall(
            r"`make (?:\w+=\S+ )?([a-z-]+)", text_of(page)
        ):
            assert re.search(rf"^{target}:", makefile, re.M), (page, target)


def anchors(text):
    """Returns the anchors that a page's headings get."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    plain = [re.sub(r"[^\w\s-]", "", each).strip() for each in headings]
    return {re.sub(r"[-\s]+", "-", each.lower()) for each in plain}


def broken_links(page):
    """Returns the relative links of a page that lead nowhere."""
    generated = tool("docs_site").PAGES if page.parent != ROOT else {}
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if name in generated:
            target = ROOT / generated[name]
        is_there = target.exists() and (
            not anchor or anchor in anchors(text_of(target))
        )
        broken += [] if is_there else [link]
    return broken


@each_page
def test_its_links_lead_somewhere(page):
    assert not broken_links(page)


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title, it is\n[a](#a-title-it-is) [b](#no) [c](no.md)")
    assert broken_links(page) == ["#no", "no.md"]


@pytest.mark.parametrize("name", TOOLS)
def test_the_examples_of_its_scripts(name):
    module = tool(name)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted or name == "recipes"


def test_docstrings_lose_their_roles():
    pytest.importorskip("griffe", reason="`make docs` brings it")
    assert doctest.testmod(tool("docs_docstrings")) == (0, 2)


@pytest.mark.parametrize(
    "page, refused",
    [
        ('<script src="https://a.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//a.example/x.css">', True),
        ('<link href="https://a.example/x.png" rel="icon">', True),
        ('<img alt="x" src=http://a.example/x.png>', True),
        ("<style>@import url(https://a.example/x.css)</style>", True),
        ('<a href="https://a.example/">x</a><img src="x.png">', False),
        ('<link rel="canonical" href="https://a.example/">', False),
    ],
)
def test_the_site_loads_nothing_from_elsewhere(page, refused):
    assert bool(tool("docs_site").FETCHED.search(page)) == refused


def test_the_tables_of_variants_name_every_one():
    page = text_of(ROOT / "docs/variants.md")
    for variants in (rules.LARS_VARIANTS, rules.LAMB_VARIANTS):
        for name in variants:
            assert f"`{name}`" in page


RATIOS = ("LARS", "LAMB")  # Which have many variants.


@pytest.mark.parametrize(
    "group",
    [
        *("Nesterov", "Adam"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in RATIOS),
    ],
)
def test_the_distances_are_measured(group):
    """To one in the last digit that is shown: processors round otherwise."""
    page = text_of(ROOT / "docs/variants.md")
    title, _, *lines = tool("distances").table(group).splitlines()
    assert title in page
    rows = page[page.index(title) :].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines):
        (name, *shown), (found, *measured) = cells(row), cells(line)
        assert name == found
        for one, other in zip(shown, measured, strict=True):
            assert abs(percent(one) - percent(other)) <= last_digit(one), row


def cells(row):
    return [cell.strip() for cell in row.split("|")[1:-1]]


def percent(cell):
    return float(cell.removesuffix(" %"))


def last_digit(cell):
    """Returns what one in the second digit is; a zero stays one.

    >>> last_digit("0.89 %"), last_digit("4 %"), last_digit("0")
    (0.01, 0.1, 0.0)
    """
    value = percent(cell)
    return 1.01 * 10 ** (int(f"{value:e}".split("e")[1]) - 1) if value else 0.0


def test_the_recipes_are_those_that_there_are():
    script = tool("recipes")
    page = text_of(ROOT / "docs/recipes.md")
    for folder in script.TITLES:
        assert script.section(folder) in page
    assert set(script.TITLES) == set(recipes.FOLDERS)
    assert script.readme() in text_of(ROOT / "README.md")


def test_every_recipe_has_its_command():
    page = text_of(ROOT / "docs/recipes.md")
    trained = re.findall(r"^tf-largebatch train --recipe=(\S+)", page, re.M)
    names = {recipes.chain_of(name) or name for name in recipes.names()}
    assert collections.Counter(trained) == collections.Counter(names)


def test_the_picture_of_the_house_is_that_of_the_imports():
    script = tool("house")
    assert script.draw() == text_of(script.PICTURE)


def test_imports_point_down_in_the_house():
    imports = tool("house").parts()
    order = sum(tool("house").floors(imports), [])
    assert sorted(order) == sorted(imports)
    for part, others in imports.items():
        assert all(order.index(each) < order.index(part) for each in others)


def test_the_page_on_architecture_has_every_part():
    page = text_of(ROOT / "docs/architecture.md")
    for part in tool("house").parts():
        assert f"`{part}`" in page, part


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


def test_the_digits_it_speaks_of_are_the_workloads():
    path = ROOT / "official_configs" / "workloads" / "digits_resnet.yaml"
    workload = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert f"batches of {workload['batch']}" in text_of(ROOT / "README.md")
    assert workload["splits"]["train"] == 2 * workload["batch"]
    assert sum(workload["splits"].values()) == 1797


def test_what_the_page_on_ones_own_shows_is_in_the_example():
    files = [
        text_of(path)
        for path in EXAMPLE.rglob("*.*")
        if path.suffix in (".py", ".toml", ".yaml")
    ]
    found = blocks(ADD, "(?:python|toml|yaml)")
    assert len(found) >= 10
    for block in found:
        assert any(block in file for file in files), block


def test_the_page_on_ones_own_names_every_group_and_function():
    text = text_of(ADD)
    for group in plugins.GROUPS.values():
        assert f"| `{group}` |" in text
    own = {name for name in vars(namespace) if name[0].islower()} - {"tf"}
    listed = text.partition("has the fewest functions:")[2].partition(".")[0]
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(own)
