"""Input that means harm: it runs nothing, leaves no folder, tells no secret."""

import ast
import html.parser
import pathlib
import runpy
import socket
import time

import pytest

import tf_largebatch
from tf_largebatch import configs
from tf_largebatch.cli.main import main
from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes, run_folder, settings
from tf_largebatch.study import checking, folder, ledger, own_model, protocol

PACKAGE = pathlib.Path(tf_largebatch.__file__).parent
STUDY = pathlib.Path(__file__).parent / "study"
FakeStudy = runpy.run_path(str(STUDY / "fake_study.py"))["FakeStudy"]
TAG = "<script>alert(1)</script>"
SECRET = "hunter2"


def calls(path):
    """Returns the dotted names of what a file calls, with their nodes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (ast.unparse(node.func), node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def test_only_one_place_reads_yaml_and_nothing_runs_what_it_reads():
    for path in PACKAGE.rglob("*.py"):
        for name, node in calls(path):
            keywords = {word.arg for word in node.keywords}
            last = name.rpartition(".")[2]
            assert name not in ("eval", "exec", "compile", "__import__"), path
            assert last not in ("extractall", "unpack_archive"), path
            assert name not in ("os.system", "os.popen"), path
            assert not {"allow_pickle", "shell"} & keywords, path
            assert name.split(".")[0] not in ("pickle", "marshal", "shelve")
            if name == "yaml.load":
                assert path.name == "configs.py"
                assert ast.unparse(node.args[1]) == "Loader"
            # Of what this process has just written.
            assert name != "yaml.safe_load" or path.name == "run_folder.py"
            assert last not in ("unsafe_load", "full_load"), path


def bomb(merged=False):
    """Returns YAML of less than a kilobyte that stands for gigabytes."""
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [1, 1]"]
    for number in range(1, 14):
        all_nine = ", ".join([f"*a{number - 1}"] * 9)
        value = f"{{<<: [{all_nine}]}}" if merged else f"[{all_nine}]"
        lines.append(f"a{number}: &a{number} {value}")
    return "\n".join(lines)


HARM = {
    "bomb": bomb(),
    "bomb of merged keys": bomb(merged=True),
    "a value inside itself": "trainer: &a {optimizer_config: *a}",
    "a list inside itself": "trainer: &a [*a]",
    "deep": "a: " + "[" * 1000,
    "a program": "!!python/object/apply:os.system ['touch harmed']",
    "a module": "trainer: !!python/module:antigravity x",
    "an object": "trainer: !!python/object/new:os.system ['touch harmed']",
}


def assert_refused(function, *arguments):
    """It is one short line, soon: a bomb would take hours, or all memory."""
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert time.monotonic() - start < 60
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 5000


@pytest.mark.parametrize("harm", HARM)
def test_yaml_that_means_harm_is_one_line_wherever_it_is_read(
    harm, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = HARM[harm]
    (tmp_path / "x.yaml").write_text(text)
    (tmp_path / run_folder.PARAMETERS).write_text(text)
    header = "\n".join(f"# {line}" for line in text.splitlines())
    (tmp_path / "recipe.yaml").write_text(header)
    assert_refused(configs.read, tmp_path / "x.yaml")
    assert_refused(run_folder.read_parameters, str(tmp_path))
    assert_refused(recipes.read_header, tmp_path / "recipe.yaml")
    assert_refused(settings.parse, text)
    assert not (tmp_path / "harmed").exists()


def test_aliases_that_stand_for_little_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1, 2]\nb: [*a, *a]\nc: &c {x: 1}\nd: {<<: *c}")
    found = configs.read(path)
    assert found["b"] == [[1, 2], [1, 2]] and found["d"] == {"x": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "create", "--protocol=x.yaml"],
        ["study", "create", "--table=table4", "--space=x.yaml", "--out=new"],
        ["train", "--recipe=resnet50/lars_32k", "--config_file=x.yaml"],
        ["train", "--recipe=resnet50/lars_32k", "--params_override=x.yaml"],
        ["export", "--checkpoint=run", "--export_dir=new"],
    ],
)
def test_a_bomb_ends_a_command_in_one_line(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(bomb())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "params.yaml").write_text(bomb())
    (tmp_path / "run" / "ckpt-1.index").write_text("")
    (tmp_path / "run" / "checkpoint").write_text(
        'model_checkpoint_path: "ckpt-1"'
    )
    if arguments[0] == "train":
        arguments = [*arguments, "--model_dir=new"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("tf-largebatch: error: ")
    assert said.count("\n") == 1 and len(said) < 500
    assert not (tmp_path / "new").exists()


OUTSIDE = ("../x", "a/../../x", "/etc/x", "..", ".", "", "a//b", "x/", "a\0b")


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_its_folder(name, tmp_path):
    study = FakeStudy.finished("table2", trials=1, seeds=1).plan
    rows = study["table"]["rows"]
    for row in rows:
        if row["name"] == "lars_power_1":
            row["name"] = name
        if row["tuned_as"] == "lars_power_1":
            row["tuned_as"] = name
    run = protocol.Run(name, "seed", 0, 1, {})
    for place in (folder.place, folder.clear):
        assert_refused(place, tmp_path / "study", run)
    plain = ledger.as_json_has_it(study)
    assert_refused(checking.check, plain, "study.yaml")
    assert_refused(
        own_model.row_of, {"name": name, "optimizer": {"class": "LARS"}}
    )
    assert not recipes.exists(f"resnet50/{name}" if name else name)


@pytest.mark.parametrize("name", [*OUTSIDE, "a/b", "../../etc/passwd"])
def test_no_studys_name_is_a_path(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = FakeStudy.finished("table2", trials=1, seeds=1).plan
    plain = {**ledger.as_json_has_it(study), "name": name}
    assert_refused(checking.check, plain, "study.yaml")
    assert_refused(own_model.checked_name, name)
    assert main(["study", "create", f"--name={name}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flag",
    ["--recipe=../../../etc/passwd", "--recipe=resnet50/../../../etc/passwd"],
)
@pytest.mark.parametrize("command", ["train", "preflight"])
def test_a_recipes_name_is_no_path(command, flag, capsys, tmp_path):
    where = [f"--model_dir={tmp_path}/run"] if command == "train" else []
    assert main([command, flag, *where]) == 2
    assert "there is no recipe" in capsys.readouterr().err
    assert not recipes.parts("../resnet50")


def test_a_control_sequence_in_a_name_stays_text(capsys):
    assert main(["compare", "--table=\x1b]0;harm\x07\nnext\u2028line"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and len(said.splitlines()) == 1
    assert "\x1b" not in said and "\x07" not in said
    assert main(["data", "imagenet", "--input=\x1b[2J\nx*"]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and said.count("\n") == 1


class Tags(html.parser.HTMLParser):
    """The tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.found.update(
            name for name, _ in attributes if name.startswith("on")
        )


def test_what_a_user_named_is_text_in_the_report(tmp_path):
    from tf_largebatch.study import report

    study = FakeStudy.finished("table4", trials=2, seeds=2)
    study = study.only("nesterov").renamed(f'{TAG}" onload="alert(2)')
    (row,) = study.plan["table"]["rows"]
    axis = row["space"]["learning_rate"]
    row["space"] = {**row["space"], TAG: axis}
    row["changes"] = {TAG: TAG}
    row["weights_optimizer"] = row["bias_bn_optimizer"] = TAG
    for line in study.lines:
        numbers = line["hyperparameters"]
        line["hyperparameters"] = {**numbers, TAG: numbers["learning_rate"]}
    study = study.with_table(
        title=TAG, name=TAG, question=[TAG], paper=TAG, paper_task=TAG
    ).with_workload(name=TAG, description=TAG, split_text=TAG)
    summary = {**study.summary, "device": TAG, "versions": {TAG: TAG}}
    report.write(tmp_path, study.plan, study.lines, summary)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("&lt;script&gt;") > 10
    assert not {"script", "onload"} & Tags(page).found
    names = [path.name for path in (tmp_path / "plots").iterdir()]
    assert all("/" not in name and "<" not in name for name in names)


@pytest.fixture
def closed():
    """A port that nothing answers on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound and not listening.
        yield unused.getsockname()[1]


WITH_STORAGE = {
    "create": ["--table=table2", "--trials=1", "--seeds=1"],
    "run": ["--name=x", "--workers=2"],
    "status": ["--name=x"],
    "report": ["--name=x"],
    "ablate": [
        *("--from=resnet50/table4/nesterov", "--to=resnet50/table4/lars"),
        "--seeds=1",
    ],
}
URLS = (
    f"postgresql://me:{SECRET}@127.0.0.1:PORT/db",
    f"postgresql://me@127.0.0.1:PORT/db?password={SECRET}",
    f"postgresql://me:{SECRET}@127.0.0.1:PORT/db?sslpassword={SECRET}",
    f"postgresql://me:%20{SECRET}%40@127.0.0.1:PORT/db",
    f"postgresql://me:a@{SECRET}@127.0.0.1:PORT/db",
    f"postgresql://me:{SECRET}@127.0.0.1:port/db",
    f"mysql://me:{SECRET}@127.0.0.1/db",
    f"postgresql://me:{SECRET}",
    SECRET,
)


# Of every action one that nothing answers and one that is no URL.
@pytest.mark.parametrize(
    "action, url",
    [
        *(("status", url) for url in URLS),
        *(
            (action, url)
            for action in WITH_STORAGE
            for url in (URLS[0], URLS[5])
            if action != "status"
        ),
    ],
)
def test_no_password_is_told_by_any_command(
    action, url, closed, tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.chdir(tmp_path)
    storage = f"--storage={url.replace('PORT', str(closed))}"
    arguments = ["study", action, *WITH_STORAGE[action], "--out=new", storage]
    assert main(arguments) == 2
    said = capfd.readouterr()
    # TensorFlow itself may have said something before.
    assert said.err.splitlines()[-1].startswith("tf-largebatch: error: ")
    assert "Traceback" not in said.err
    told = said.out + said.err + caplog.text
    for path in tmp_path.rglob("*"):
        told += path.name + (path.read_text() if path.is_file() else "")
    assert SECRET not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["URL"],
        ["run", "URL"],
        ["run", "--name=URL", "--storage=sqlite:///no.db"],
        ["create", "--table=URL"],
        ["create", "--rows=URL"],
        ["run", "--storag=URL"],
        ["run", "--workers=URL"],
        ["run", "--out=URL"],
    ],
)
def test_no_password_is_told_where_it_is_misplaced(
    arguments, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    url = f"postgresql://me:{SECRET}@host/db"
    assert main(["study", *(x.replace("URL", url) for x in arguments)]) == 2
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_no_password_is_told_when_all_goes_well(
    postgresql, tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("DEBUG")
    storage = f"--storage={postgresql}"
    create = ["study", "create", *WITH_STORAGE["create"], "--steps=12"]
    assert main([*create, "--name=harm", "--out=new", storage]) == 0
    for action in ("status", "report"):
        arguments = ["--name=harm", "--out=new", storage]
        assert main(["study", action, *arguments]) == 0
    said = capfd.readouterr()
    told = said.out + said.err + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"study.yaml", "summary.json"} <= {path.name for path in files}
    told += "".join(path.read_bytes().decode("latin-1") for path in files)
    for secret in ("p@ss/w:rd %", "p%40ss", "p@ss", "w:rd"):
        assert secret not in told
