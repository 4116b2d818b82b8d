"""What a study's figures say, in sentences that are computed from them.

Every sentence holds for the runs at hand and claims nothing beyond them.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_largebatch.study import certainty, protocol, results, spaces
from tf_largebatch.study.results import Metric, Row

# A tuned value in the outer tenth of its range may have its optimum outside.
EDGE = 0.1
FEW_SEEDS = 10
FAR = 10  # times the usual spread between seeds
SAME = "the same"


def findings(
    rows: Sequence[Row], metric: Metric, paper: bool = True
) -> list[str]:
    """Returns what the rows' medians, hits and spreads say.

    Args:
        rows: of the study.
        metric: of the study.
        paper: whether the study asks the paper's question.
    """
    ranked = results.by_merit(rows, metric)
    if not ranked and not any(row.lost for row in rows):
        return ["No row has a run with a fresh seed yet: nothing to compare."]
    if not ranked:
        return failures(rows, metric)
    return [
        *leaders(ranked, metric),
        *sureness(rows, metric),
        *families(ranked, metric, paper),
        *swaps(ranked, metric),
        *changes(ranked, metric),
        *target_hits(ranked, metric),
        *failures(rows, metric),
        *noise(ranked, metric),
    ]


def leaders(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says which row has the best median."""
    top = ranked[0].test("median")
    best = [row for row in ranked if equal(row.test("median"), top)]
    return [
        f"The {metric.best_word} median test {metric.name} is "
        f"{metric.show(top)}, of {names(best)}."
    ]


def families(
    ranked: Sequence[Row], metric: Metric, paper: bool = True
) -> list[str]:
    """Compares the best row with a trust ratio to the best row without."""
    plain = [row for row in ranked if not row.layer_wise]
    adapted = [row for row in ranked if row.layer_wise]
    if not plain or not adapted:
        return []
    gap = abs(plain[0].test("median") - adapted[0].test("median"))
    lead = "On the question itself: the" if paper else "The"
    return [
        f"{lead} best median of a plain optimizer is "
        f"{named(plain[0], metric)}, the best of {class_names(adapted)} "
        f"{named(adapted[0], metric)}. They differ by {metric.show_gap(gap)} "
        f"({told(plain[0], adapted[0])})."
    ]


def swaps(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says what rows lose or gain that take over another row's values."""
    known = {row.name: row for row in ranked}
    said = []
    for row in sorted(ranked, key=lambda row: row.number):
        base = known.get(row.config.get("tuned_as") or "")
        if base is None:
            continue
        said.append(
            f"{row.name}, which takes over the values tuned for {base.name}, "
            f"has a median that is {difference(row, base, metric)} "
            f"({told(row, base)})."
        )
    return said


def told(row: Row, other: Row) -> str:
    """Says whether the runs tell two rows apart."""
    interval = between(row, other)
    if interval is None:
        return "no interval to tell them apart by"
    return "told apart" if is_apart(interval, other) else "not told apart"


def between(row: Row, other: Row) -> Sequence[float] | None:
    """Returns the interval of the difference of two rows' medians.

    As wide as those to the best row, as all are judged together.
    """
    for one, best in ((row, other), (other, row)):
        if one.against.get("best") == best.name:
            return one.against["interval"]
    return certainty.difference_interval(
        row.tests, other.tests, row.against["comparisons"]
    )


def is_apart(interval: Sequence[float], row: Row) -> bool:
    """Whether an interval is without 0, but for the rounding of a metric."""
    (low, high), scale = interval, row.test("median")
    return not (at_most(low, 0, scale) and at_most(-high, 0, scale))


def class_names(rows: Sequence[Row]) -> str:
    """Returns the names of the rows' optimizers as a list in words."""
    return listed(sorted({row.optimizer for row in rows}))


def changes(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says what each change makes that some rows have and some have not."""
    known = {row.name: row for row in ranked}
    said: dict[str, list[str]] = {}
    for row in sorted(ranked, key=lambda row: row.number):
        for change, name in row.config.get("changes", {}).items():
            if name in known:
                base = known[name]
                if row.tuned and base.tuned:
                    change = f"{change}, each row tuned by itself"
                text = compared(row, base, metric)
                said.setdefault(change, []).append(text)
    return [f"{change}: {'; '.join(texts)}." for change, texts in said.items()]


def compared(row: Row, base: Row, metric: Metric) -> str:
    """Says how a row's median is to another's, and how sure that is."""
    gap = difference(row, base, metric)
    than = "as" if gap == SAME else "than"
    return f"{row.name} is {gap} {than} {base.name} ({told(row, base)})"


def difference(row: Row, base: Row, metric: Metric) -> str:
    """Says how much better or worse a row's median is than another's."""
    median, other = row.test("median"), base.test("median")
    if equal(median, other):
        return SAME
    better = metric.merit(median) > metric.merit(other)
    gap = metric.show_gap(abs(median - other))
    return f"{gap} {'better' if better else 'worse'}"


def target_hits(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says which rows reach the target always, and which never."""
    always = [row for row in ranked if row.result["hits"] == row.seeds]
    never = [row for row in ranked if row.result["hits"] == 0]
    rest = [row for row in ranked if row not in (*always, *never)]
    said = [
        f"{runs} of {names(rows) if len(rows) < len(ranked) else all_rows}"
        for runs, rows, all_rows in (
            ("every run", always, "each row"),
            ("no run", never, "any row"),
            ("some but not all runs", rest, "each row"),
        )
        if rows
    ]
    target = metric.show(metric.target)
    return [f"Reached the target of {target}: {'; '.join(said)}."]


def failures(rows: Sequence[Row], metric: Metric) -> list[str]:
    """Says which rows diverged or are far behind."""
    said = []
    ranked = results.by_merit(rows, metric)
    lost = [row for row in rows if row.lost]
    diverged = [
        f"{row.name} ({row.result['diverged']} of {row.seeds})"
        for row in [*ranked, *lost]
        if row.result["diverged"]
    ]
    if diverged:
        said.append(f"Runs with fresh seeds diverged in {listed(diverged)}.")
    if lost:
        said.append(
            f"So many runs of {names(lost)} end without a finite {metric.name} "
            "that the median is infinite, behind every other row."
        )
    behind = far_behind(ranked)
    if behind:
        said.append(
            f"Far behind, by more than {FAR} times the usual spread between "
            f"seeds: {names(behind, metric)}."
        )
    return said


def noise(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Compares the spread between seeds to the differences between rows."""
    if len(ranked) < 2 or not repeated(ranked):
        return []
    usual = statistics.median(row.spread for row in ranked)
    if math.isinf(usual):
        return []
    sentence = (
        "Seeds alone move a row: half of its runs lie within "
        f"{metric.show_gap(usual)} (median of the rows' quartile ranges)."
    )
    behind = far_behind(ranked)
    near = [row for row in ranked if row not in behind]
    if len(near) > 1:
        gap = abs(near[0].test("median") - near[-1].test("median"))
        beside = f" without {names(behind)}" if behind else ""
        sentence += (
            f" The medians of the rows{beside} differ by up to "
            f"{metric.show_gap(gap)}."
        )
    return [sentence]


def repeated(rows: Sequence[Row]) -> bool:
    """Whether every row has a spread over seeds, however rough."""
    return all(row.seeds > 1 for row in rows)


def far_behind(ranked: Sequence[Row]) -> list[Row]:
    """Returns the rows that no spread between seeds explains."""
    if not ranked:
        return []
    usual = statistics.median(row.spread for row in ranked)
    top = ranked[0].test("median")
    return [
        row
        for row in ranked
        if usual
        and not at_most(abs(row.test("median") - top), FAR * usual, top)
    ]


def sureness(rows: Sequence[Row], metric: Metric) -> list[str]:
    """Says which rows the intervals tell from the best one, and which not."""
    others = [row for row in rows if row.against]
    if not others:
        return []
    best = others[0].against["best"]
    judged = [row for row in others if row.against["interval"]]
    apart = [row for row in judged if is_apart(row.against["interval"], row)]
    close = [row for row in judged if row not in apart]
    # Of those whose median is infinite, `failures` says so.
    rest = [row for row in others if row not in judged and not row.lost]
    said = []
    if apart:
        said.append(
            f"Told apart from {best}, by an interval of the difference that "
            f"does not contain 0: {names(apart, metric)}."
        )
    if close:
        said.append(
            f"Not told apart from {best} by these runs, as the interval of "
            f"the difference contains 0: {names(close, metric)}."
        )
    if rest:
        said.append(
            f"Fewer than {certainty.LEAST} runs, or too few with a finite "
            f"{metric.name}, to tell from {best}: {names(rest, metric)}."
        )
    return said


def flips(rows: Sequence[Row]) -> list[str]:
    """Says which row one seed would most often put before the best one."""
    others = [row for row in rows if row.against]
    chances = {
        row.name: row.against["flip_chance"]["1"]
        for row in others
        if "1" in row.against["flip_chance"]
    }
    if not chances:
        return []
    best = others[0].against["best"]
    lead = "One run a row, drawn from those at hand,"
    name = max(chances, key=lambda name: chances[name])
    if not chances[name]:
        return [f"{lead} always has {best} ahead."]
    more = "; no other row has a higher one" if len(chances) > 1 else ""
    return [
        f"{lead} puts {name} before {best} with a chance of "
        f"{percent(chances[name])}{more}."
    ]


def percent(chance: float) -> str:
    r"""Returns a chance as text, never rounded to none or to all.

    >>> percent(0.004), percent(0.314), percent(0)
    ('under 1\xa0%', '31\xa0%', '0\xa0%')
    """
    if 0 < chance < 0.01:
        return f"under 1{results.NO_BREAK}%"
    if 0.99 < chance < 1:
        return f"over 99{results.NO_BREAK}%"
    return f"{100 * chance:.0f}{results.NO_BREAK}%"


def fit(rows: Sequence[Row], metric: Metric) -> list[str]:
    """Says whether rows that fit the training data better are the better ones.

    A row that is ahead on both splits optimises better; one that is ahead on
    the test split alone regularises better.
    """
    both = fitted(rows)
    if len(both) < 2:
        return []
    trained = first(both, metric, lambda row: row.train("median"))
    tested = first(both, metric, lambda row: row.test("median"))
    top = metric.show(trained[0].train("median"))
    if len(trained) == len(both):
        return [
            f"All rows have the same training median, {top}: what differs "
            "on the test split is not how well they fit the training data."
        ]
    verdict = where_the_best_fit_is(trained, tested, metric)
    return [f"The best training median is {top}, of {names(trained)}{verdict}"]


def where_the_best_fit_is(
    trained: Sequence[Row], tested: Sequence[Row], metric: Metric
) -> str:
    """Says how the rows that fit best do on the test split.

    Args:
        trained: the rows with the best training median.
        tested: those with the best test median.
        metric: of the study.
    """
    both = [row for row in trained if row in tested]
    if both:
        who = "" if both == trained else f"{names(both)} of them "
        verb = "has" if len(both) == 1 else "have"
        who = who or ("it " if len(both) == 1 else "they ")
        return (
            f"; {who}{verb} the best test median too, so here what fits best "
            "is also best on new data."
        )
    top = metric.show(tested[0].test("median"))
    return (
        f", but the best test median is {top}, of {names(tested)}: here what "
        f"fits best is not what is best on new data.{unsure(trained)}"
    )


def unsure(rows: Sequence[Row]) -> str:
    """Says which of the rows are not told from the best on the test split."""
    close = [
        row
        for row in rows
        if row.against.get("interval")
        and not is_apart(row.against["interval"], row)
    ]
    if not close:
        return ""
    return (
        f" On the test split these runs do not tell {names(close)} from "
        f"{close[0].against['best']}."
    )


def fitted(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows that have a median on both splits."""
    return [row for row in rows if row.gap is not None]


def first(
    rows: Sequence[Row], metric: Metric, figure: Callable[[Row], float]
) -> list[Row]:
    """Returns the rows with the best figure: several where it is equal."""
    top = max((figure(row) for row in rows), key=metric.merit)
    return [row for row in rows if equal(figure(row), top)]


def cautions(
    rows: Sequence[Row], study: Mapping[str, Any], metric: Metric
) -> list[str]:
    """Returns what a reader should bear in mind, from this study's size."""
    said = [scope(study)]
    said += unfinished(rows, study)
    said += tuning_limits(rows, study)
    if one_split(rows):
        said.append(
            f"Validation and test {metric.name} are the same in every run: "
            "the figures are of the data that the best points were chosen by."
        )
    if study["seeds"] < FEW_SEEDS:
        said.append(
            f"Few seeds: medians and quartiles of {study['seeds']} "
            f"{plural(study['seeds'], 'run')} are rough, and an interval of "
            "so few holds less often than it says."
        )
    examples = (study["workload"].get("splits") or {}).get("test")
    if examples and metric.is_share:
        said.append(
            f"The test split has {examples} examples, so one example is "
            f"{metric.show_gap(1 / examples)}; smaller steps do not exist."
        )
    return said


def scope(study: Mapping[str, Any]) -> str:
    """Says for what the results hold."""
    limits = (
        "an order of the optimizers that is seen here need not hold for "
        "another task, batch or budget."
    )
    if not results.is_the_papers(study):
        return limits[:1].upper() + limits[1:]
    return (
        f"This is a small workload and not {study['table']['paper_task']}. "
        "The paper's values stand beside the results as a reference; the "
        f"sizes of the two cannot be compared, and {limits}"
    )


def one_split(rows: Sequence[Row]) -> bool:
    """Whether rows are tuned on what they are tested on, as far as runs say."""
    lines = [
        line for row in rows for line in row.repeats if not line["diverged"]
    ]
    same = all(line["validation"] == line["test"] for line in lines)
    return bool(lines) and same and any(row.tuned for row in rows)


def unfinished(rows: Sequence[Row], study: Mapping[str, Any]) -> list[str]:
    """Says which rows lack runs."""
    said = []
    for row in rows:
        missing = []
        done = row.result.get("tuning_trials") or 0
        if row.tuned and done < study["trials"]:
            missing.append(f"{done} of {study['trials']} {tried(study)}")
        if row.seeds < study["seeds"]:
            missing.append(
                f"{row.seeds} of {study['seeds']} runs with fresh seeds"
            )
        if missing:
            said.append(f"{row.name} is unfinished: {listed(missing)}.")
    return said


def tuning_limits(rows: Sequence[Row], study: Mapping[str, Any]) -> list[str]:
    """Says where the search may have missed a row's optimum."""
    said = []
    edges = [text for row in rows for text in at_edge(row, study["steps"])]
    if edges:
        said.append(
            "Best point at an edge of its search space, so better values may "
            f"lie outside: {listed(edges)}. Of a value that does not matter, "
            "one best point in five lies there by chance."
        )
    if len({size_of(row) for row in rows if row.tuned}) > 1:
        said.append(
            "The search spaces are not equally large, so the same number of "
            "trials is not the same tuning: see what was searched."
        )
    lost = [row for row in rows if row.tuning and all_diverged(row)]
    if lost:
        said.append(
            f"Every tuning run of {names(lost)} diverged: the search space "
            "does not fit, and the row says nothing about the optimizer."
        )
    dimensions = max((len(row.config["space"]) for row in rows), default=0)
    if dimensions and study["trials"] < 4**dimensions:
        said.append(
            f"Few trials: {study['trials']} {tried(study, study['trials'])} "
            f"a row in up to {dimensions} dimensions find a good setting, not "
            "the best."
        )
    return said


def tried(study: Mapping[str, Any], count: int = 2) -> str:
    """Returns what a search consists of: runs, or points of several runs."""
    several = study.get("tuning_seeds", 1) > 1
    return plural(count, "tuning point" if several else "tuning run")


def at_edge(row: Row, steps: int) -> list[str]:
    """Returns the row's tuned values in the outer part of their range."""
    known = {spaces.STEPS: steps, **row.best}
    said = []
    for name, dimension in row.config["space"].items():
        # A choice has no ends.
        if name not in row.best or dimension["scale"] == "choice":
            continue
        highest = known.get(dimension.get("below"), dimension["high"])
        reached = {**dimension, "high": min(dimension["high"], highest)}
        if reached["high"] <= reached["low"]:
            continue
        place = results.place(reached, row.best[name])
        # Nothing lies below 0, as of label smoothing.
        if place < EDGE and dimension["low"] != 0:
            said.append(f"{row.name} ({name} near its low end)")
        elif place > 1 - EDGE:
            said.append(f"{row.name} ({name} near its high end)")
    return said


def size_of(row: Row) -> tuple[tuple[str, float], ...]:
    """Returns how large a row's search space is: each scale, and its width."""
    sizes = []
    for dimension in row.config["space"].values():
        if dimension["scale"] == "choice":
            width = float(len(dimension["values"]))
        else:
            to_scale, _ = spaces.SCALES[dimension["scale"]]
            width = to_scale(dimension["high"]) - to_scale(dimension["low"])
        sizes.append((dimension["scale"], round(width, 6)))
    return tuple(sorted(sizes))


def all_diverged(row: Row) -> bool:
    """Whether no tuning run of the row ended well."""
    return all(line["diverged"] for line in row.tuning)


def equal(one: float, other: float) -> bool:
    """Whether two values of a metric differ by no more than rounding."""
    return at_most(abs(one - other), 0, other)


def at_most(one: float, other: float, scale: float) -> bool:
    """Whether a figure is at most another but for the rounding of ``scale``."""
    return one <= other + protocol.ROUNDING * abs(scale)


def names(rows: Sequence[Row], metric: Metric | None = None) -> str:
    """Returns the rows' names as a list in words, with medians if asked."""
    return listed([named(row, metric) if metric else row.name for row in rows])


def named(row: Row, metric: Metric) -> str:
    """Returns a row's name with its median."""
    return f"{row.name} ({metric.show(row.test('median'))})"


def listed(texts: Sequence[str]) -> str:
    """Returns texts as a list in words.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def plural(count: int, noun: str) -> str:
    """Returns the noun, with an s unless there is one of it."""
    return noun if count == 1 else f"{noun}s"
