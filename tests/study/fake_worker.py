"""A worker whose training is made up: quick, and without TensorFlow.

As a script it is one worker in a process of its own:
``fake_worker.py URL NAME LOG [HANG]``. It appends a line to LOG whenever a run
begins, and with HANG it never ends its first run.
"""

import dataclasses
import pathlib
import sys
import threading
from typing import Any

import optuna

from tf_largebatch.study import runner, storage
from tf_largebatch.study.ledger import Ledger


class FakeTrainer:
    """Makes up what a run measures, from its hyperparameters and its seed."""

    def __init__(self, study: dict[str, Any]):
        self.steps = study["steps"]

    def run(self, row: Any, run: Any, is_hopeless: Any) -> dict[str, Any]:
        rate = run.hyperparameters["learning_rate"]
        value = 1 / (1 + rate + run.seed % 7)
        curve = []
        for step in range(1, self.steps + 1):
            curve.append(
                {
                    "step": step,
                    "loss": rate,
                    "validation": value * step,
                    "validation_loss": rate,
                    "test": value * step / 2,
                }
            )
            if step < self.steps and is_hopeless(step, value * step):
                break
        return {
            **dataclasses.asdict(run),
            "validation": value,
            "validation_loss": rate,
            "test": value / 2,
            "train": value,
            "steps": len(curve),
            "diverged": False,
            "steps_to_target": None,
            "seconds": 0.5,
            "curve": curve,
        }


def fake(study: dict[str, Any]) -> Any:
    """Returns what does a study's runs."""
    return FakeTrainer(study).run


def work(url: str, name: str, log: str, hang: str = "") -> None:
    """Is one worker, until the study is finished."""
    ledger = Ledger.open(storage.parse(url), name)
    for event in runner.execute(ledger, fake, wait=0.2):
        if hasattr(event, "key"):
            with pathlib.Path(log).open("a") as file:
                file.write(f"{event.key}\n")
            if hang:
                threading.Event().wait()


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    work(*sys.argv[1:])
