"""The scripts for Cloud TPU, run in full against a stand-in for gcloud."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tf_largebatch.garden import recipes
from tf_largebatch.garden.trainer import cut

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = ROOT / "tpu_scripts"
EACH = sorted(
    path.name for path in SCRIPTS.glob("*.sh") if path.name != "settings.sh"
)
# What stands on the machine of the slice in place of the real thing.
SUDO = '#!/bin/bash\nexec "$@"\n'
APT = "#!/bin/bash\n"
PYTHON = """#!/bin/bash
mkdir -p venv/bin
cp "$SLICE/bin/"{pip,uv,tf-largebatch} venv/bin
"""
NOTE = (
    f"#!{sys.executable}"
    + """
import json, os, pathlib, sys
slice = pathlib.Path(os.environ["SLICE"])
with (slice / "{name}.jsonl").open("a") as file:
    file.write(json.dumps([*sys.argv[1:]]) + "\\n")
"""
)
# A training does what the next line of $SLICE/plan says, and ends with its
# last word.
TRAIN = """
import subprocess
if sys.argv[1] == "train":
    plan = slice / "plan"
    now, *later = plan.read_text().splitlines()
    plan.write_text("\\n".join(later))
    print("the training says this", flush=True)
    sys.exit(subprocess.run(["bash", "-c", now], cwd=slice).returncode)
"""
OF_GROUPS_64 = [
    name
    for name in recipes.names()
    if name.startswith("resnet50/") and "72_epochs" not in name
]
OF_A_RUN = {
    "MODEL_DIR": "gs://bucket/run",
    "DATA": "gs://bucket/data",
    "EXPORT_DIR": "gs://bucket/export",
}


class Slice:
    """A slice that is a folder, and the scripts that are to manage it."""

    def __init__(self, folder):
        self.folder = folder
        bin = folder / "bin"
        bin.mkdir()
        gcloud = pathlib.Path(__file__).with_name("gcloud.py").read_text()
        for name, text in {
            # The interpreter itself, for a shim would change the PATH.
            "gcloud": f"#!{sys.executable}\n{gcloud}",
            "sudo": SUDO,
            "apt-get": APT,
            "python3.11": PYTHON,
            "pip": NOTE.format(name="pip"),
            "uv": NOTE.format(name="uv"),
            "tf-largebatch": NOTE.format(name="commands") + TRAIN,
        }.items():
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)
        self.environment = {
            "PATH": f"{bin}:{os.environ['PATH']}",
            "SLICE": str(folder),
            "PROJECT": "my-project",
            "ZONE": "my-zone",
            "POLL": "0.02",
        }

    def start(self, script, **settings):
        """Starts a script; returns its process."""
        return subprocess.Popen(
            [SCRIPTS / script],
            env=self.environment | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script, answer="", **settings):
        """Runs a script; returns its status, output and error output."""
        process = self.start(script, **settings)
        output, errors = process.communicate(answer, timeout=60)
        return process.returncode, output, errors

    def train(self, *plan, **settings):
        """Runs train.sh, of which each training does as is planned."""
        (self.folder / "plan").write_text("\n".join(plan))
        return self.run("train.sh", **OF_A_RUN, **settings)

    def noted(self, name):
        """Returns what was noted under a name, in order."""
        path = self.folder / f"{name}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def calls(self, *words):
        """Returns the calls of gcloud that begin with these words."""
        begin = ["compute", "tpus", *words]
        return [x for x in self.noted("calls") if x[: len(begin)] == begin]

    def trainings(self):
        """Returns the arguments of the trainings."""
        return [x for x in self.noted("commands") if x[0] == "train"]


@pytest.fixture
def empty(tmp_path):
    return Slice(tmp_path)


@pytest.fixture(scope="module")
def created(tmp_path_factory):
    """The folder of a slice that was created, of one machine."""
    new = Slice(tmp_path_factory.mktemp("created"))
    status, _, errors = new.run("create.sh", ACCELERATOR="v3-8")
    assert (status, errors) == (0, "")
    return new.folder


@pytest.fixture
def there(empty, created):
    """A slice that was created, of one machine."""
    shutil.copytree(created, empty.folder, dirs_exist_ok=True)
    empty.environment["ACCELERATOR"] = "v3-8"
    return empty


def test_there_is_a_script_for_each_thing_to_do():
    assert EACH == [
        "create.sh",
        "delete.sh",
        "export.sh",
        "install.sh",
        "stage.sh",
        "train.sh",
        "watch.sh",
    ]


@pytest.mark.parametrize("script", [*EACH, "settings.sh"])
def test_shellcheck_finds_nothing(script):
    check = pathlib.Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [check, "-x", script], cwd=SCRIPTS, capture_output=True, text=True
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("script", EACH)
def test_an_empty_array_is_no_unset_variable(script):
    """As it is in bash 3.2, which macOS has."""
    text = (SCRIPTS / script).read_text()
    for name in re.findall(r"(\w+)=\(\)", text):
        guarded = f'${{{name}[@]+"${{{name}[@]}}"}}'
        assert f"${{{name}[@]" in text
        assert f"${{{name}[@]" not in text.replace(guarded, "")


@pytest.mark.parametrize("missing", ["PROJECT", "ZONE"])
@pytest.mark.parametrize("script", EACH)
def test_none_runs_without_project_and_zone(empty, script, missing):
    status, output, errors = empty.run(script, **OF_A_RUN, **{missing: ""})
    assert (status, output) == (2, "")
    assert errors == (
        f"{script}: error: {missing} is not set; give {missing}=...\n"
    )
    assert not empty.noted("calls")


@pytest.mark.parametrize("script", EACH)
def test_a_dry_run_prints_and_does_nothing(empty, script):
    status, output, errors = empty.run(script, DRY_RUN="1", **OF_A_RUN)
    assert (status, errors) == (0, "")
    assert "gcloud compute tpus" in output and "--zone=my-zone" in output
    assert not empty.noted("calls")


@pytest.mark.parametrize(
    "accelerator, image",
    [
        ("v3-8", "tpu-vm-tf-2.20.0-pjrt"),
        ("v3-32", "tpu-vm-tf-2.20.0-pod-pjrt"),
        ("v5litepod-256", "tpu-vm-tf-2.20.0-pod-pjrt"),
    ],
)
def test_the_image_is_that_of_the_slice(empty, accelerator, image):
    status, output, _ = empty.run("create.sh", ACCELERATOR=accelerator)
    assert status == 0
    (call,) = empty.calls("queued-resources", "create")
    assert f"--accelerator-type={accelerator}" in call
    assert f"--runtime-version={image}" in call and "--spot" in call
    # It waited for the request.
    assert output.splitlines()[:2] == [
        "largebatch: WAITING_FOR_RESOURCES",
        "largebatch: ACTIVE",
    ]


def test_a_slice_that_is_not_preempted_may_be_asked_for(empty):
    status, _, _ = empty.run("create.sh", SPOT="0", RUNTIME="my-image")
    (call,) = empty.calls("queued-resources", "create")
    assert status == 0
    assert "--spot" not in call and "--runtime-version=my-image" in call


def test_a_request_that_fails_ends_it(empty):
    status, _, errors = empty.run("create.sh", REQUEST="FAILED")
    assert status == 2
    assert errors.startswith("create.sh: error: the request for largebatch")
    assert not empty.noted("pip")


def test_a_call_that_fails_ends_no_waiting(empty):
    # The second is the look for the reason.
    (empty.folder / "fails").write_text("describe describe")
    status, output, _ = empty.run("create.sh")
    assert status == 0
    assert output.splitlines()[:3] == [
        "largebatch: UNKNOWN",
        "largebatch: WAITING_FOR_RESOURCES",
        "largebatch: ACTIVE",
    ]
    assert (empty.folder / "vm/installed").exists()


def test_a_request_that_is_deleted_is_not_waited_for(empty):
    status, _, errors = empty.run("create.sh", REQUEST="GONE")
    assert status == 2
    assert "the request for largebatch is GONE" in errors


@pytest.mark.parametrize("failures, status", [(2, 0), (3, 2)])
def test_installing_is_tried_three_times(empty, failures, status):
    (empty.folder / "fails").write_text("scp " * failures)
    found, output, errors = empty.run("create.sh")
    assert found == status
    assert output.count("installing failed") == failures
    assert ("create.sh: error: cannot install" in errors) == bool(status)
    assert (empty.folder / "vm/installed").exists() != bool(status)


def test_a_slice_without_the_package_is_repaired(there):
    (there.folder / "vm/installed").unlink()
    (there.folder / "vm/venv/bin/tf-largebatch").unlink()
    status, _, errors = there.train("exit 0")
    assert (status, errors) == (0, "")
    assert len(there.trainings()) == 1
    # Only there.
    installed = len(there.noted("pip"))
    assert there.train("exit 0")[0] == 0
    assert len(there.noted("pip")) == installed


def test_tensorflow_for_tpus_is_installed_last(there):
    assert there.noted("pip") == [
        ["install", "-q", "-r", "tf-largebatch/tools/uv.txt"]
    ]
    calls = [" ".join(words) for words in there.noted("uv")]
    package, without, tensorflow, library = calls
    assert package.endswith("./tf-largebatch[garden]")
    assert "-b tf-largebatch/build-constraints.txt" in package
    assert without.endswith("uninstall -q tensorflow tensorflow-cpu")
    assert tensorflow.endswith("--no-deps tensorflow-tpu==2.20.0")
    assert "libtpu" in library
    # What is committed is there, and was asked for its recipes.
    assert (there.folder / "vm/tf-largebatch/pyproject.toml").exists()
    assert there.noted("commands") == [["recipes"]]


def test_a_training_that_ends_well(there):
    status, output, errors = there.train(
        "exit 0", OVERRIDE="task.train_data.seed=3"
    )
    assert (status, errors) == (0, "")
    assert output.splitlines()[-1] == "done: gs://bucket/run"
    (arguments,) = there.trainings()
    assert arguments == [
        "train",
        "--recipe=resnet50/nesterov_b_32k",
        "--model_dir=gs://bucket/run",
        "--tpu=local",
        "--params_override="
        "task.train_data.input_path=gs://bucket/data/train-*,"
        "task.validation_data.input_path=gs://bucket/data/validation-*,"
        "trainer.micro_batch_size=64,task.train_data.seed=3",
    ]


@pytest.mark.parametrize(
    "recipe, override, size",
    [
        *((name, "", 64) for name in OF_GROUPS_64),
        ("resnet50/mlperf/lars_32k_72_epochs", "", 128),
        ("resnet50/lars_32k", "trainer.micro_batch_size=256", 256),
    ],
)
def test_a_core_takes_what_fits_and_groups_are_whole(
    empty, recipe, override, size
):
    """Of the 1,024 examples a core has on the slice of 32 by default."""
    status, output, _ = empty.run(
        "train.sh", **OF_A_RUN, RECIPE=recipe, OVERRIDE=override, DRY_RUN="1"
    )
    assert status == 0
    (found,) = set(re.findall(r"micro_batch_size=(\d+)", output))
    assert int(found) == size
    assert output.count("micro_batch_size=") == 1
    values = recipes.load(recipe)
    group = values.value("task.model.backbone.virtual_batch_size")
    assert cut(values.batch, 32, size, group)[0] == size


def test_bert_takes_the_folder_of_its_data(there):
    status, _, _ = there.train("exit 0", RECIPE="bert_large/adam_32k")
    assert status == 0
    (arguments,) = there.trainings()
    assert arguments[3:] == ["--tpu=local", "--data_dir=gs://bucket/data"]


def test_on_several_machines_the_first_speaks_to_the_others(there):
    status, _, _ = there.train(
        'test "$TPU_LOAD_LIBRARY" = 0', ACCELERATOR="v3-32"
    )
    assert status == 0
    assert there.trainings()[0][3] == "--tpu=largebatch"


def test_a_slice_that_is_preempted_is_made_anew(there):
    preempted = "echo PREEMPTED >state; sleep 0.3; exit 143"
    status, output, errors = there.train(preempted, preempted, "exit 0")
    assert (status, errors) == (0, "")
    assert "the slice is PREEMPTED" in output
    assert len(there.calls("queued-resources", "delete")) == 2
    assert len(there.calls("queued-resources", "create")) == 3
    # With the same command, so that it goes on from its checkpoint.
    first, second, third = there.trainings()
    assert first == second == third


def test_a_slice_that_is_gone_is_made(empty):
    status, _, _ = empty.train("exit 0")
    assert status == 0
    assert len(empty.calls("queued-resources", "create")) == 1
    assert len(empty.trainings()) == 1


@pytest.mark.parametrize("failure", [1, 137, 143])
def test_a_training_that_failed_is_started_again(there, failure):
    status, output, _ = there.train(f"exit {failure}", "exit 0")
    assert status == 0
    assert f"ended with {failure}; it is started again" in output
    assert len(there.trainings()) == 2
    assert not there.calls("queued-resources", "delete")


@pytest.mark.parametrize("final", [2, 3, 4])
def test_what_would_fail_again_is_not_started_again(there, final):
    status, output, _ = there.train(f"exit {final}", "exit 0")
    assert status == final
    assert "the training says this" in output
    assert len(there.trainings()) == 1


def test_it_is_not_started_for_ever(there):
    status, _, errors = there.train(*["exit 1"] * 9, RESTARTS="2")
    assert status == 1
    assert "error: started 3 times in vain" in errors
    assert len(there.trainings()) == 3


def test_a_network_that_fails_costs_no_slice(there):
    status, _, _ = there.train("touch down; sleep 1; rm down; exit 0")
    assert status == 0
    assert len(there.trainings()) == 1
    assert not there.calls("queued-resources", "delete")


def test_a_training_whose_first_start_fails_is_started(there):
    (there.folder / "fails").write_text("ssh ssh")
    (there.folder / "vm/train.status").write_text("2")  # Of another one.
    status, _, _ = there.train("exit 0", RESTARTS="0")
    assert status == 0
    assert len(there.trainings()) == 1


def test_a_training_that_was_killed_with_all_its_processes(there):
    """As by a machine that begins anew: the slice is ready again."""
    killed = "kill -KILL $(ps -o ppid= $(ps -o ppid= $$)) $PPID $$"
    status, output, _ = there.train(killed, "exit 0")
    assert status == 0
    assert "processes are gone; it is started again" in output
    assert len(there.trainings()) == 2
    assert not there.calls("queued-resources", "delete")


def test_a_training_outlives_the_script_that_watches_it(there):
    (there.folder / "plan").write_text("touch begun; sleep 2; exit 0\nexit 1")
    watching = there.start("train.sh", **OF_A_RUN)
    assert watching.stdout.readline().startswith("training resnet50")
    while not (there.folder / "begun").exists():
        assert watching.poll() is None
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=60)
    status, _, _ = there.run("train.sh", **OF_A_RUN)
    assert status == 0
    assert len(there.trainings()) == 1


@pytest.mark.parametrize("script", EACH)
@pytest.mark.parametrize("accelerator", ["v3", "v3-", "v3-08", "v3-32x"])
def test_a_slice_has_a_size(empty, script, accelerator):
    status, output, errors = empty.run(
        script, **OF_A_RUN | {"ACCELERATOR": accelerator}
    )
    assert (status, output) == (2, "")
    assert errors == (
        f"{script}: error: ACCELERATOR is {accelerator}; give kind and size, "
        "such as v3-32\n"
    )


def test_a_file_is_no_override(there):
    status, _, errors = there.run(
        "train.sh", **OF_A_RUN | {"OVERRIDE": "settings.yaml"}
    )
    assert status == 2
    assert errors.startswith("train.sh: error: OVERRIDE is settings.yaml; ")


@pytest.mark.parametrize("missing", ["MODEL_DIR", "DATA"])
def test_a_training_needs_folders(there, missing):
    status, _, errors = there.run("train.sh", **OF_A_RUN | {missing: ""})
    assert status == 2
    assert errors == (
        f"train.sh: error: {missing} is not set; give {missing}=...\n"
    )


@pytest.mark.parametrize("answer", ["", "n\n", "yes?\n"])
def test_nothing_is_deleted_unless_one_says_so(there, answer):
    status, _, errors = there.run("delete.sh", answer)
    assert status != 0
    assert not there.calls("queued-resources", "delete")


def test_a_slice_is_deleted_when_one_says_so(there):
    status, _, _ = there.run("delete.sh", "y\n")
    assert status == 0
    assert not (there.folder / "state").exists()


def test_data_is_copied_and_checked(there, tmp_path):
    status, _, _ = there.run("stage.sh", FROM=str(tmp_path), **OF_A_RUN)
    assert status == 0
    copy = ["storage", "rsync", "--recursive", str(tmp_path)]
    assert [*copy, "gs://bucket/data"] in there.noted("calls")
    checks = there.noted("commands")[1:]
    assert checks == [
        ["data", "imagenet", "--input=gs://bucket/data/train-*"],
        ["data", "imagenet", "--input=gs://bucket/data/validation-*"],
    ]


def test_berts_data_is_checked_as_such(there):
    bert = {"RECIPE": "bert_large/lamb_32k"}
    assert there.run("stage.sh", **OF_A_RUN, **bert)[0] == 0
    check = ["data", "bert", "--check=gs://bucket/data"]
    assert there.noted("commands")[1:] == [check]


def test_a_folder_that_is_not_there_is_not_copied(there):
    status, _, errors = there.run("stage.sh", FROM="/nowhere", **OF_A_RUN)
    assert status == 2
    assert "there is no folder /nowhere; give FROM=FOLDER" in errors


def test_what_is_exported_is_evaluated(there):
    assert there.run("export.sh", **OF_A_RUN)[0] == 0
    assert there.noted("commands")[1:] == [
        [
            "export",
            "--checkpoint=gs://bucket/run",
            "--export_dir=gs://bucket/export",
        ],
        ["evaluate", "--saved_model=gs://bucket/export"],
    ]


def test_one_can_watch_it(there):
    there.train("exit 0")
    watching = there.start("watch.sh", **OF_A_RUN)
    seen = [watching.stdout.readline().strip() for _ in range(3)]
    os.killpg(watching.pid, signal.SIGTERM)
    watching.communicate(timeout=60)
    assert seen == [
        "READY",
        "curves: tensorboard --logdir=gs://bucket/run",
        "the training says this",
    ]
