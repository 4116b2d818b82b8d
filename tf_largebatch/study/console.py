"""What a person who waits for a study sees of it."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tf_largebatch.errors import RunError
from tf_largebatch.folders import replace

if TYPE_CHECKING:
    from tqdm import tqdm

    from tf_largebatch.study.ledger import Ledger, Line
    from tf_largebatch.study.protocol import Run
    from tf_largebatch.study.runner import Train

# Seconds until the progress line looks again at what other workers did.
LOOK = 5


@contextlib.contextmanager
def saved(
    ledger: "Ledger",
    folder: pathlib.Path | None,
    again: str = "the same command",
) -> Iterator[None]:
    """Writes the lines, if there is a folder, also where work is stopped.

    Args:
        ledger: of the study that is worked on.
        folder: of the study.
        again: what goes on with it.
    """
    from tf_largebatch.study import folder as folders

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(
            f"stopped; {ledger.done} runs are saved, and {again} goes on "
            "from there"
        )
        raise
    finally:
        if folder is not None:
            folders.write_lines(folder, ledger)


def train(
    ledger: "Ledger",
    folder: pathlib.Path | None,
    count: int = 1,
    prepare: "Callable[[Mapping[str, Any]], Train] | None" = None,
) -> None:
    """Does the runs that are not done yet, and shows how far it is.

    Args:
        ledger: of the study.
        folder: of the study, if there is one.
        count: how many workers; 1 is this process.
        prepare: as for :func:`tf_largebatch.study.runner.execute`; for one
            worker.

    Raises:
        RunError: workers have all ended, and the study is not finished.
    """
    announce(ledger, folder)
    with progress(ledger) as bar:
        if count == 1:
            alone(ledger, bar, prepare)
        else:
            together(ledger, bar, folder, count)


def alone(
    ledger: "Ledger",
    bar: "tqdm",
    prepare: "Callable[[Mapping[str, Any]], Train] | None",
) -> None:
    """Is the only worker here; see :func:`train`."""
    from tf_largebatch.study import runner

    seen = time.monotonic()
    with contextlib.closing(runner.execute(ledger, prepare)) as events:
        for event in events:
            bar.update(isinstance(event, dict))
            bar.set_description_str(describe(event), refresh=True)
            # Others may work on it too; to look costs something.
            if event is None or time.monotonic() > seen + LOOK:
                bar.update(ledger.done - bar.n)
                seen = time.monotonic()


def together(
    ledger: "Ledger", bar: "tqdm", folder: pathlib.Path | None, count: int
) -> None:
    """Starts workers, and shows how far all are; see :func:`train`."""
    from tf_largebatch.study import workers

    name = ledger.study["name"]
    with workers.started(ledger.url, name, count, folder) as processes:
        for _ in workers.watch(processes, LOOK):
            bar.update(ledger.done - bar.n)
    if not ledger.is_finished():
        raise RunError(
            f"all {count} workers have failed; what they said is above, and "
            f"{ledger.done} of {ledger.total} runs are saved"
        )


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
    print(table(write(ledger, folder)))
    print(f"\nTo look at: {folder / 'report.html'}")


def write(ledger: "Ledger", folder: pathlib.Path) -> dict[str, Any]:
    """Writes the summary and the report, and returns the summary.

    Raises:
        UserError: the folder cannot be written.
    """
    from tf_largebatch.study import folder as folders
    from tf_largebatch.study import protocol, report, summary

    say("writing the report")
    study, lines = ledger.study, ledger.lines
    figures = summary.summarize(
        study,
        lines,
        summary.versions(protocol.packages(study)),
        summary.device(),
    )
    try:
        text = json.dumps(figures, indent=1, allow_nan=False)
        replace(folder / "summary.json", text + "\n")
        report.write(folder, study, lines, figures)
    except OSError as error:
        raise folders.cannot_write(folder, error) from error
    return figures


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
        low, high = shown(test["q1"]), shown(test["q3"])
        lines.append(
            f"{row['name']:24} {shown(test['median'])} ({low} to {high})  "
            f"{shown(train['median'])}  {row['hits']} of {row['seeds']}"
        )
    return "\n".join(lines)


def shown(value: float | None) -> str:
    """Returns a figure as text; a dash where there is none."""
    return "–" if value is None else f"{value:.4f}"


def say(text: str) -> None:
    """Tells the person who waits; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
