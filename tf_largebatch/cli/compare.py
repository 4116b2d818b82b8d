"""Runs a table of the paper in small, on real data, on this machine.

Every row of the table gets the same number of tuning runs, at quasi-random
points of its search space. The point with the best validation result is run
again with fresh seeds, and these runs are compared. Progress is shown; what
is interrupted goes on where it was when the same command is given again, and
what is finished goes on with more --seeds. A worker a core trains, up to 8,
each with one thread; how many changes no figure.

Written to --out: report.html (to look at), summary.json (the figures),
trials.jsonl (every run), study.yaml (all settings), plots/*.png, study.db
(the runs as they are done, for optuna-dashboard too).

example:
  tf-largebatch compare --table=table2 --trials=4 --seeds=3 --out=runs/short
"""

import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from tf_largebatch.study import console

if TYPE_CHECKING:
    from tf_largebatch.study.ledger import Ledger

EXTRA = "study"
FLAGS = flags.FlagValues()
TABLE = flags.DEFINE_string(
    "table",
    "table4",
    "which of the paper's tables: table2 (does each optimizer need its own "
    "warmup?), table4 (which optimizer for weights, which for the rest?) or "
    "bert (does BERT need LAMB, bias correction, a schedule without a jump?); "
    "or another package's, or a YAML file, see docs/add_your_own.md",
    flag_values=FLAGS,
)
WORKLOAD = flags.DEFINE_string(
    "workload",
    None,
    "what is learnt: digits_resnet, tiny_bert or another package's; without "
    "it the table's",
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
    "rows",
    [],
    "which rows, of the table's own and its further ones; without it all of "
    "its own",
    flag_values=FLAGS,
)
WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "how many processes; 1 is this one. Without it one a core, but at most 8 "
    "and one for four runs",
    lower_bound=1,
    flag_values=FLAGS,
)
OUT = flags.DEFINE_string(
    "out", None, "folder to write to; without it runs/TABLE", flag_values=FLAGS
)


def main() -> int:
    """Runs the comparison that the flags describe."""
    from tf_largebatch.study import folder as folders
    from tf_largebatch.study import protocol

    quiet()
    study = protocol.create(
        TABLE.value,
        WORKLOAD.value,
        trials=TRIALS.value,
        seeds=SEEDS.value,
        seed=SEED.value,
        steps=STEPS.value,
        rows=ROWS.value,
    )
    folder = pathlib.Path(OUT.value or f"runs/{study['table']['name']}")
    ledger = folders.create(folder, study, None)
    try:
        with console.saved(ledger, folder):
            console.train(ledger, folder, count(ledger, WORKERS))
        console.publish(ledger, folder)
    finally:
        ledger.close()
    return 0


def count(ledger: "Ledger", flag: flags.FlagHolder[int | None]) -> int:
    """Returns how many workers there are to be, here."""
    from tf_largebatch.study import workers

    if flag.value is not None:
        return flag.value
    return workers.usual(ledger.study, ledger.total - ledger.done)


def quiet() -> None:
    """Has other packages say what matters alone; call it before the rest."""
    # Must be set before the first import of Keras.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
