"""Runs a table of the paper in small, on real data, on this machine.

Every row of the table gets the same number of tuning runs, at quasi-random
points of its search space. The point with the best validation result is run
again with fresh seeds, and these runs are compared. Progress is shown; what
is interrupted goes on where it was when the same command is given again.

Written to --out: report.html (to look at), summary.json (the figures),
trials.jsonl (every run), study.yaml (all settings), plots/*.png, study.db
(the runs as they are done, for optuna-dashboard too).

example:
  tf-largebatch compare --table=table2 --trials=4 --seeds=3 --out=runs/short
"""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from tqdm import tqdm

    from tf_largebatch.study.ledger import Ledger, Line
    from tf_largebatch.study.protocol import Run

EXTRA = "study"
# Seconds until the progress line looks again at what other workers did.
LOOK = 5
FLAGS = flags.FlagValues()
TABLE = flags.DEFINE_string(
    "table",
    "table4",
    "which of the paper's tables: table2 (does each optimizer need its own "
    "warmup?), table4 (which optimizer for weights, which for the rest?) or "
    "bert (does BERT need LAMB, bias correction, a schedule without a jump?)",
    flag_values=FLAGS,
)
WORKLOAD = flags.DEFINE_string(
    "workload",
    None,
    "what is learnt: digits_resnet or tiny_bert; without it the table's",
    flag_values=FLAGS,
)
TRIALS = flags.DEFINE_integer(
    "trials",
    None,
    "tuning runs of every row that is tuned; without it the table's, as below",
    flag_values=FLAGS,
)
SEEDS = flags.DEFINE_integer(
    "seeds", None, "runs of every row at its best point", flag_values=FLAGS
)
STEPS = flags.DEFINE_integer(
    "steps", None, "length of a run", flag_values=FLAGS
)
SEED = flags.DEFINE_integer(
    "seed", 0, "of the whole comparison", flag_values=FLAGS
)
ROWS = flags.DEFINE_list(
    "rows", [], "further rows, beside the table's own", flag_values=FLAGS
)
OUT = flags.DEFINE_string(
    "out", None, "folder to write to; without it runs/TABLE", flag_values=FLAGS
)


def main() -> int:
    """Runs the comparison that the flags describe."""
    from tf_largebatch.study import folder as folders
    from tf_largebatch.study import protocol

    study = protocol.create(
        TABLE.value,
        WORKLOAD.value,
        trials=TRIALS.value,
        seeds=SEEDS.value,
        seed=SEED.value,
        steps=STEPS.value,
        rows=ROWS.value,
    )
    folder = pathlib.Path(OUT.value or f"runs/{TABLE.value}")
    quiet()
    ledger = folders.create(folder, study, None)
    try:
        with saved(ledger, folder):
            train(ledger, folder)
        publish(ledger, folder)
    finally:
        ledger.close()
    return 0


def quiet() -> None:
    """Has other packages say what matters alone; call it before the rest."""
    # Must be set before the first import of Keras and TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextlib.contextmanager
def saved(ledger: "Ledger", folder: pathlib.Path | None) -> Iterator[None]:
    """Writes the lines, if there is a folder, also where work is stopped."""
    from tf_largebatch.study import folder as folders

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(
            f"stopped; {ledger.done} runs are saved, and the same command "
            "goes on from there"
        )
        raise
    finally:
        if folder is not None:
            folders.write_lines(folder, ledger)


def train(ledger: "Ledger", folder: pathlib.Path | None) -> None:
    """Does the runs that are not done yet, and shows how far it is."""
    from tf_largebatch.study import runner

    announce(ledger, folder)
    with (
        progress(ledger) as bar,
        contextlib.closing(runner.execute(ledger)) as events,
    ):
        seen = time.monotonic()
        for event in events:
            bar.update(isinstance(event, dict))
            bar.set_description_str(describe(event), refresh=True)
            # Others may work on it too; to look costs something.
            if event is None or time.monotonic() > seen + LOOK:
                bar.update(ledger.done - bar.n)
                seen = time.monotonic()


def announce(ledger: "Ledger", folder: pathlib.Path | None) -> None:
    """Says what there is to do."""
    study = ledger.study
    say(
        f"{study['table']['name']} on {study['workload']['name']}: "
        f"{ledger.total} runs of {study['steps']} steps, {ledger.done} of "
        "them done" + (f"; writing to {folder}" if folder else "")
    )


def progress(ledger: "Ledger") -> "tqdm":
    """Returns a line that says how many runs are done, and the time left."""
    from tqdm import tqdm

    return tqdm(
        total=ledger.total,
        initial=ledger.done,
        bar_format="{n}/{total} runs [{elapsed}, {remaining} left] {desc}",
        # In a file, a line now and then will do.
        mininterval=0.1 if sys.stderr.isatty() else 15,
    )


def describe(run: "Run | Line | None") -> str:
    """Returns what a run that begins is, for the progress line."""
    if run is None or isinstance(run, dict):
        return ""
    kind = "tuning" if run.kind == "tune" else "seed"
    return f"{run.row}, {kind} {run.index + 1}"


def publish(ledger: "Ledger", folder: pathlib.Path) -> None:
    """Writes the summary and the report, and prints the figures."""
    from tf_largebatch.study import folder as folders
    from tf_largebatch.study import report, summary

    say("writing the report")
    study, lines = ledger.study, ledger.lines
    figures = summary.summarize(
        study,
        lines,
        summary.versions(study["workload"]["packages"]),
        summary.device(),
    )
    try:
        text = json.dumps(figures, indent=1, allow_nan=False)
        folders.replace(folder / "summary.json", text + "\n")
        report.write(folder, study, lines, figures)
    except OSError as error:
        raise folders.cannot_write(folder, error) from error
    print(table(figures))
    print(f"\nTo look at: {folder / 'report.html'}")


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures of all rows as text, a line a row."""
    name, target = figures["metric"]["name"], figures["target"]
    lines = [
        f"{'row':24} test {name}: median (quartiles); training median; "
        f"runs at {target:g} or better"
    ]
    for row in figures["rows"]:
        test, train = row["test"], row["train"]
        if not row["seeds"]:
            lines.append(f"{row['name']:24} no run with a fresh seed yet")
            continue
        lines.append(
            f"{row['name']:24} {test['median']:.4f} "
            f"({test['q1']:.4f} to {test['q3']:.4f})  "
            f"{train['median']:.4f}  {row['hits']} of {row['seeds']}"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Tells the person who waits; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
