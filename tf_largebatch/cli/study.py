r"""Tunes and compares with any number of workers, on any machines.

create fixes the protocol: the rows of a table or some recipes, trials, seeds,
steps, target. run works on it, in this process or in several; start it on as
many machines as there are, at any time. A worker that dies has its run taken
over by another when it has given no sign of life for a minute. status says how
far it is, report writes the report.

ablate goes from one recipe to another, or from one row of a finished study to
another, and sets each hyperparameter in which they differ to the other's
value: by itself, and on top of those before it. It creates and runs; the same
command goes on where it was stopped.

The ledger is an Optuna storage: study.db in the study's folder, or a
PostgreSQL server's with --storage, which must then be given every time. Leave
the password to PGPASSWORD or ~/.pgpass. optuna-dashboard shows either.

example:
  tf-largebatch study create --table=table4 --rows=nesterov,lars_momentum \
    --trials=16 --seeds=10 --out=runs/two
  tf-largebatch study run --out=runs/two --workers=2
  tf-largebatch study status --out=runs/two
  tf-largebatch study report --out=runs/two
  tf-largebatch study ablate --from=nesterov --to=lars_momentum \
    --tuned=runs/two --out=runs/between

  tf-largebatch study create --out=runs/two --storage=postgresql://me@host/db
  tf-largebatch study run --storage=postgresql://me@host/db \
    --name=table4_digits_resnet

  tf-largebatch study create --trials=8 --seeds=5 --target=6 \
    --recipe=bert_tiny/adam_32k/phase1,bert_tiny/lamb_32k/phase1 \
    --space=official_configs/spaces/bert_large/phase1.yaml --out=runs/recipes
  tf-largebatch study ablate --from=resnet50/nesterov_b_32k \
    --to=resnet50/lars_32k --list
"""

import collections
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from tf_largebatch.cli import compare
from tf_largebatch.errors import UserError
from tf_largebatch.study import console

if TYPE_CHECKING:
    from tf_largebatch.study import storage
    from tf_largebatch.study.ablation import Ablation
    from tf_largebatch.study.ledger import Ledger

EXTRA = "study"
POSITIONAL = "action"
FLAGS = flags.FlagValues()
ACTION = flags.DEFINE_enum(
    "action",
    None,
    ["create", "run", "status", "report", "ablate"],
    "what to do; its name alone will do, as in the examples",
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out",
    None,
    "the study's folder; create, ablate: without it runs/NAME; run and status "
    "can do without, if --storage and --name are given",
    flag_values=FLAGS,
)
STORAGE = flags.DEFINE_string(
    "storage",
    None,
    "postgresql://USER@HOST/DATABASE, or sqlite:///FILE; without it the file "
    "study.db in the study's folder",
    flag_values=FLAGS,
)
NAME = flags.DEFINE_string(
    "name",
    None,
    "of the study in its storage; without it TABLE_WORKLOAD, "
    "recipes_EXPERIMENT or ablation_WORKLOAD",
    flag_values=FLAGS,
)
WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "run, ablate: how many processes; 1 is this one. Without it one a core, "
    "but at most 8 and one for four runs; 1 for recipes, which use all cores, "
    "and with --pruner",
    lower_bound=1,
    flag_values=FLAGS,
)
PROTOCOL = flags.DEFINE_string(
    "protocol",
    None,
    "create: the study.yaml of another study, to be run again; instead of all "
    "flags below",
    flag_values=FLAGS,
)
RECIPE = flags.DEFINE_list(
    "recipe",
    [],
    "create: instead of a table's rows, recipes; `tf-largebatch recipes` lists "
    "them",
    flag_values=FLAGS,
)
CONFIG_FILE = flags.DEFINE_multi_string(
    "config_file",
    [],
    "create, ablate: YAML file of settings for all recipes; may be repeated",
    flag_values=FLAGS,
)
PARAMS_OVERRIDE = flags.DEFINE_string(
    "params_override",
    "",
    "create, ablate: settings for all recipes that override all others: "
    "a.b=c,a.d=e, or YAML, or a YAML file",
    flag_values=FLAGS,
)
KEEP_CHECKPOINTS = flags.DEFINE_bool(
    "keep_checkpoints",
    False,
    "create, ablate: leave the checkpoints of recipes' finished runs in "
    "--out/runs; without it they are removed",
    flag_values=FLAGS,
)
FROM = flags.DEFINE_string(
    "from",
    None,
    "ablate: a recipe, or with --tuned a row, to begin with",
    flag_values=FLAGS,
)
TO = flags.DEFINE_string(
    "to", None, "ablate: the one to arrive at", flag_values=FLAGS
)
TUNED = flags.DEFINE_string(
    "tuned",
    None,
    "ablate: folder of a finished study, which has the rows and their tuned "
    "values",
    flag_values=FLAGS,
)
LIST = flags.DEFINE_bool(
    "list",
    False,
    "ablate: print in what the two differ, and run nothing",
    flag_values=FLAGS,
)
TABLE = flags.DEFINE_string(
    "table",
    "table4",
    "create: whose rows: a file of official_configs/tables, another "
    "package's, or a YAML file; see docs/add_your_own.md",
    flag_values=FLAGS,
)
WORKLOAD = flags.DEFINE_string(
    "workload",
    None,
    "create: what is learnt: digits_resnet, tiny_bert or another package's; "
    "without it the table's",
    flag_values=FLAGS,
)
ROWS = flags.DEFINE_list(
    "rows",
    [],
    "create: which rows, of the table's own and its further ones; without it "
    "all of its own",
    flag_values=FLAGS,
)
SPACE = flags.DEFINE_string(
    "space",
    None,
    "create: YAML file with search spaces, as those in "
    "official_configs/spaces; without it that of workload and table, or of "
    "the recipe",
    flag_values=FLAGS,
)
TRIALS = flags.DEFINE_integer(
    "trials",
    None,
    "create: tuning runs of every row that is tuned; without it the table's, "
    "as below",
    flag_values=FLAGS,
)
TUNING_SEEDS = flags.DEFINE_integer(
    "tuning_seeds",
    1,
    "create: tuning runs of every point; the best point is that with the best "
    "median over them",
    lower_bound=1,
    upper_bound=1000,
    flag_values=FLAGS,
)
SEEDS = flags.DEFINE_integer(
    "seeds",
    None,
    "create, ablate: runs of every row at its best point; ablate: 5 without it",
    flag_values=FLAGS,
)
STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "create: length of a run; recipes have trainer.train_steps",
    flag_values=FLAGS,
)
SEED = flags.DEFINE_integer(
    "seed", 0, "create, ablate: of the whole study", flag_values=FLAGS
)
TARGET = flags.DEFINE_float(
    "target",
    None,
    "create, ablate: the value of the metric that is a hit; without it the "
    "workload's, or the public one",
    flag_values=FLAGS,
)
PRUNER = flags.DEFINE_enum(
    "pruner",
    "none",
    ["none", "median"],
    "create: median stops a tuning run that is worse than the median of the "
    "row's earlier ones, after a third of its steps; it still counts. The "
    "first five are never stopped, and which those are depends on the number "
    "of workers",
    flag_values=FLAGS,
)
HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    None,
    "create, ablate: seconds between a worker's signs of life; when four are "
    "missing, its run is taken over (default: 15)",
    lower_bound=1,
    upper_bound=86_400,
    flag_values=FLAGS,
)
OF_ALL = ("action", "out", "storage", "name")
# What other flags are of, if not of create alone.
OF_CREATE, OF_BOTH = ("create",), ("create", "ablate")
OF = {
    "workers": ("run", "ablate"),
    **dict.fromkeys(("seeds", "seed", "target", "heartbeat"), OF_BOTH),
    **dict.fromkeys(
        ("config_file", "params_override", "keep_checkpoints"), OF_BOTH
    ),
    **dict.fromkeys(("from", "to", "tuned", "list"), ("ablate",)),
}
OF_RECIPES = ("config_file", "params_override", "keep_checkpoints")
OF_TABLES = ("table", "workload", "rows", "steps", "pruner")
ABLATION_SEEDS = 5
# Of a protocol, what no study can do without.
PARTS: tuple[str, ...] = ("format", "name", "workload", "table", "steps")
PARTS += ("trials", "seeds", "seed")


def main() -> int:
    """Does with a study what the flags say."""
    if ACTION.value is None:
        raise UserError(
            "study needs an action: create, run, status, report or ablate; "
            "see tf-largebatch study --help"
        )
    check_flags(ACTION.value)
    compare.quiet()
    return ACTIONS[ACTION.value]()


def check_flags(action: str) -> None:
    """Raises UserError for a flag that the action does not have."""
    for name in given():
        of = OF.get(name, OF_CREATE)
        if action not in of:
            raise UserError(
                f"--{name} is a flag of study {' and '.join(of)}, not of study "
                f"{action}"
            )


def given() -> list[str]:
    """Returns the flags that were given, but for those of all actions."""
    return [
        name for name in FLAGS if FLAGS[name].present and name not in OF_ALL
    ]


def refuse(names: Sequence[str], why: str) -> None:
    """Raises UserError where one of some flags was given."""
    for name in given():
        if name in names:
            raise UserError(f"--{name} {why}")


def create() -> int:
    """Makes a study, or says that there is one."""
    study = copied() if PROTOCOL.value else plan()
    folder = folder_of(study)
    ledger = made(folder, study)
    where = f"--out={folder}" + (" --storage=URL" if STORAGE.value else "")
    console.say(
        f"{study['name']}: {ledger.total} runs of {study['steps']} steps, "
        f"{ledger.done} of them done; tf-largebatch study run {where} goes on"
    )
    ledger.close()
    return 0


def folder_of(study: Mapping[str, Any]) -> pathlib.Path:
    """Returns where a study that is created is to be."""
    return pathlib.Path(OUT.value or f"runs/{study['name']}")


def made(folder: pathlib.Path, study: Mapping[str, Any]) -> "Ledger":
    """Returns a study's ledger; makes folder and ledger if there are none."""
    from tf_largebatch.study import folder as folders

    return folders.create(folder, study, address())


def copied() -> dict[str, Any]:
    """Returns the protocol of another study.

    Raises:
        UserError: the file has none, or other flags describe one.
    """
    from tf_largebatch import configs
    from tf_largebatch.study import ledger

    others = [name for name in given() if name != "protocol"]
    refuse(others, "goes without --protocol, whose file says all")
    path = pathlib.Path(PROTOCOL.value)
    study = configs.read(path)
    if "format" in study:
        ledger.check_version(study, path)
    for key in PARTS:
        if key not in study:
            raise UserError(
                f"{path} has no {key!r}, which a study has; give the "
                "study.yaml of a study's folder with --protocol"
            )
    ledger.check_format(study, path)
    if study["workload"].get("python"):
        raise UserError(
            f"the study in {path} is of a model of your own, which only your "
            "program has; run that again with another `out`"
        )
    return named(study)


def plan() -> dict[str, Any]:
    """Returns the protocol that the flags describe."""
    study = named(of_recipes() if RECIPE.value else of_table())
    if TUNING_SEEDS.value > 1:
        study["tuning_seeds"] = TUNING_SEEDS.value
    if PRUNER.value != "none":
        study["pruner"] = PRUNER.value
    return with_options(study)


def named(study: dict[str, Any]) -> dict[str, Any]:
    """Returns a protocol with the name that was given, if one was."""
    if NAME.value is not None:
        study["name"] = checked_name(NAME.value)
    return study


def with_options(study: dict[str, Any]) -> dict[str, Any]:
    """Returns a protocol with what create and ablate both may set."""
    if TARGET.value is not None:
        study["workload"]["target"] = checked_target(study)
    if HEARTBEAT.value is not None:
        study["heartbeat"] = HEARTBEAT.value
    if KEEP_CHECKPOINTS.value:
        study["keep_checkpoints"] = True
    return study


def of_table() -> dict[str, Any]:
    """Returns the protocol of a table on a workload."""
    from tf_largebatch.study import protocol

    refuse(OF_RECIPES, "is for recipes; name them with --recipe")
    return protocol.create(
        TABLE.value,
        WORKLOAD.value,
        trials=TRIALS.value,
        seeds=SEEDS.value,
        seed=SEED.value,
        steps=STEPS.value,
        rows=ROWS.value,
        space=space(),
    )


def of_recipes() -> dict[str, Any]:
    """Returns the protocol of a study of recipes."""
    from tf_largebatch.study import runner

    refuse(
        ["steps"],
        "is not for recipes; give --params_override=trainer.train_steps=N",
    )
    refuse(["pruner"], "is not for recipes, which are judged at their end")
    refuse(OF_TABLES, "is not for recipes; give it or --recipe")
    for flag in (TRIALS, SEEDS):
        if flag.value is None:
            raise UserError(f"recipes need --{flag.name}; give a number")
    return runner.of_recipes().create(
        RECIPE.value,
        space(),
        trials=TRIALS.value,
        seeds=SEEDS.value,
        seed=SEED.value,
        target=TARGET.value,
        config_files=CONFIG_FILE.value,
        params_override=PARAMS_OVERRIDE.value,
    )


def space() -> dict[str, Any] | None:
    """Returns the search spaces that were given, if any were."""
    from tf_largebatch import configs

    return configs.read(pathlib.Path(SPACE.value)) if SPACE.value else None


def ablate() -> int:
    """Goes from one recipe or row to another, or lists what is between."""
    found = between()
    if LIST.value:
        print(found.listed())
        return 0
    seeds = ABLATION_SEEDS if SEEDS.value is None else SEEDS.value
    study = found.study(seeds, SEED.value, TARGET.value)
    study = with_options(named(study))
    folder = folder_of(study)
    return work(made(folder, study), folder)


def between() -> "Ablation":
    """Returns what is between the two that the flags name."""
    from tf_largebatch.study import ablation

    if not FROM.value or not TO.value:
        raise UserError("study ablate needs --from and --to; give two names")
    if TUNED.value:
        refuse(
            ("config_file", "params_override"),
            "goes without --tuned, whose study has all settings",
        )
        folder = pathlib.Path(TUNED.value)
        return ablation.between_rows(folder, FROM.value, TO.value)
    for name in (FROM.value, TO.value):
        if "/" not in name:
            raise UserError(
                f"{name!r} is no recipe; of a row, give the finished study's "
                "folder with --tuned"
            )
    return ablation.between_recipes(
        FROM.value, TO.value, CONFIG_FILE.value, PARAMS_OVERRIDE.value
    )


def checked_name(name: str) -> str:
    """Returns a study's name.

    Raises:
        UserError: it is empty, or looks like that of a row's tuning.
    """
    from tf_largebatch.study import protocol

    if not protocol.is_name(name):
        raise UserError(f"--name is {name!r}; give a name without a slash")
    return name


def checked_target(study: Mapping[str, Any]) -> float:
    """Returns the target that was given.

    Raises:
        UserError: no run can have that value.
    """
    from tf_largebatch.study.results import Metric

    metric = Metric.of(study)
    highest = 1 if metric.is_share else math.inf
    if not 0 <= TARGET.value <= highest or math.isinf(TARGET.value):
        raise UserError(
            f"--target is {TARGET.value:g}; {metric.name} "
            + ("lies between 0 and 1" if metric.is_share else "is not below 0")
        )
    return TARGET.value


def run() -> int:
    """Works on a study until all its runs are finished."""
    return work(found(), out())


def work(ledger: "Ledger", folder: pathlib.Path | None) -> int:
    """Does all runs of a study that are left, and writes its report."""
    ledger.folder = folder
    try:
        with console.saved(ledger, folder):
            console.train(ledger, folder, compare.count(ledger, WORKERS))
        if folder is not None:
            console.publish(ledger, folder)
    finally:
        ledger.close()
    return 0


def status() -> int:
    """Prints how far a study is, a line a row."""
    ledger = found()
    print(table(ledger))
    ledger.close()
    return 0


def table(ledger: "Ledger") -> str:
    """Returns how far a study is, as text."""
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for (row, kind, _), state in ledger.states():
        counts.setdefault((row, kind), collections.Counter())[state.name] += 1
    lines = [f"{ledger.study['name']}: {ledger.done} of {ledger.total} runs"]
    for row in ledger.study["table"]["rows"]:
        for kind, what in (("tune", "tuning"), ("seed", "seeds")):
            found = counts.get((row["name"], kind))
            if found:
                lines.append(f"{row['name']:24} {what:6} {progress(found)}")
    return "\n".join(lines)


def progress(states: Mapping[str, int]) -> str:
    """Returns in words how many runs are in which state."""
    done = states.get("COMPLETE", 0) + states.get("PRUNED", 0)
    total = sum(states.values()) - states.get("FAIL", 0)
    said = [f"{done} of {total} done"]
    for state, what in (
        ("PRUNED", "of them stopped early"),
        ("RUNNING", "under way"),
        ("FAIL", "taken over"),
    ):
        if states.get(state):
            said.append(f"{states[state]} {what}")
    return ", ".join(said)


def report() -> int:
    """Writes the report of a study, finished or not."""
    from tf_largebatch.study import folder as folders

    folder = out()
    if folder is None:
        raise UserError("study report needs --out, a folder to write to")
    ledger = found()
    try:
        folders.write_lines(folder, ledger)
        console.publish(ledger, folder)
    finally:
        ledger.close()
    return 0


def found() -> "Ledger":
    """Returns the ledger of the study that the flags name."""
    from tf_largebatch.study import folder as folders
    from tf_largebatch.study.ledger import Ledger

    url, folder = address(), out()
    if url is not None and NAME.value is not None:
        ledger = Ledger.open(url, NAME.value)
        if folder is not None:
            folders.check(folder, ledger.study, url)
            folders.write_protocol(folder, ledger)
        return ledger
    if folder is None:
        raise UserError(
            f"study {ACTION.value} needs --out, or --storage and --name"
        )
    return folders.take_up(folder, NAME.value, url)


def out() -> pathlib.Path | None:
    """Returns the study's folder, if one is given."""
    return pathlib.Path(OUT.value) if OUT.value else None


def address() -> "storage.URL | None":
    """Returns the storage's address, if one is given."""
    from tf_largebatch.study import storage

    return storage.parse(STORAGE.value) if STORAGE.value else None


ACTIONS = {
    "create": create,
    "run": run,
    "status": status,
    "report": report,
    "ablate": ablate,
}
