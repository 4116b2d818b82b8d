"""Runs a table of the paper in small, on real data, on this machine.

Every row of the table gets the same number of tuning runs, at quasi-random
points of its search space. The point with the best validation result is run
again with fresh seeds, and these runs are compared. Progress is shown; what
is interrupted goes on where it was when the same command is given again.

Written to --out: report.html (to look at), summary.json (the figures),
trials.jsonl (every run), study.yaml (all settings), plots/*.png.

example:
  tf-largebatch compare --table=table2 --trials=4 --seeds=3 --out=runs/short
"""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from tf_largebatch.study.ledger import Ledger
    from tf_largebatch.study.protocol import Run

EXTRA = "study"
FLAGS = flags.FlagValues()
TABLE = flags.DEFINE_string(
    "table",
    "table4",
    "which of the paper's tables: table2 (does each optimizer need its own "
    "warmup?) or table4 (which optimizer for weights, which for the rest?)",
    flag_values=FLAGS,
)
WORKLOAD = flags.DEFINE_string(
    "workload", "digits_resnet", "what is learnt", flag_values=FLAGS
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
    from tf_largebatch.study import protocol
    from tf_largebatch.study.ledger import Ledger

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
    ledger = Ledger(folder, study)
    try:
        train(study, ledger)
        publish(study, ledger)
    finally:
        ledger.close()
    return 0


def train(study: Mapping[str, Any], ledger: "Ledger") -> None:
    """Does the runs that are not done yet, and shows how far it is."""
    # Must be set before the first import of Keras and TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tqdm import tqdm

    from tf_largebatch.study import runner

    total = runner.count(study)
    say(
        f"{study['table']['name']} on {study['workload']['name']}: {total} "
        f"runs of {study['steps']} steps, {len(ledger.lines)} of them done; "
        f"writing to {ledger.folder}"
    )
    with tqdm(
        total=total,
        initial=len(ledger.lines),
        bar_format="{n}/{total} runs [{elapsed}, {remaining} left] {desc}",
        # In a file, a line now and then will do.
        mininterval=0.1 if sys.stderr.isatty() else 15,
    ) as bar:
        try:
            for run in runner.execute(study, ledger):
                bar.update(run is None)
                bar.set_description_str(describe(run), refresh=True)
        except (KeyboardInterrupt, SystemExit):
            bar.close()
            say(
                f"stopped; {len(ledger.lines)} runs are saved, and the same "
                "command goes on from there"
            )
            raise


def describe(run: "Run | None") -> str:
    """Returns what a run is, for the progress line."""
    if run is None:
        return ""
    kind = "tuning" if run.kind == "tune" else "seed"
    return f"{run.row}, {kind} {run.index + 1}"


def publish(study: Mapping[str, Any], ledger: "Ledger") -> None:
    """Writes the summary and the report, and prints the figures."""
    from tf_largebatch.study import ledger as ledgers
    from tf_largebatch.study import report, summary

    say("writing the report")
    figures = summary.summarize(
        study, ledger.lines, summary.versions(), summary.device()
    )
    try:
        text = json.dumps(figures, indent=1, allow_nan=False)
        ledgers.replace(ledger.folder / "summary.json", text + "\n")
        report.write(ledger.folder, study, ledger.lines, figures)
    except OSError as error:
        raise ledgers.cannot_write(ledger.folder, error) from error
    print(table(figures))
    print(f"\nTo look at: {ledger.folder / 'report.html'}")


def table(figures: Mapping[str, Any]) -> str:
    """Returns the figures of all rows as text, a line a row."""
    name, target = figures["metric"]["name"], figures["target"]
    lines = [
        f"{'row':24} test {name}: median (quartiles); training median; "
        f"runs at {target:g} or better"
    ]
    for row in figures["rows"]:
        test, train = row["test"], row["train"]
        lines.append(
            f"{row['name']:24} {test['median']:.4f} "
            f"({test['q1']:.4f} to {test['q3']:.4f})  "
            f"{train['median']:.4f}  {row['hits']} of {row['seeds']}"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Tells the person who waits; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
