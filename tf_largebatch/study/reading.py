"""What a study's figures say, in sentences that are computed from them.

Every sentence holds for the runs at hand and claims nothing beyond them.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tf_largebatch.study import results
from tf_largebatch.study.results import Metric, Row

# A tuned value in the outer tenth of its range may have its optimum outside.
EDGE = 0.1
FEW_SEEDS = 10
FAR = 10  # times the usual spread between seeds
# Part of a metric's value: metrics are float32, and one over 400 examples
# has no exact binary form, so equal results differ in their last digits.
ROUNDING = 1e-6
SAME = "the same"


def findings(rows: Sequence[Row], metric: Metric) -> list[str]:
    """Returns what the rows' medians, hits and spreads say."""
    ranked = results.by_merit(rows, metric)
    if not ranked:
        return ["No row has a run with a fresh seed yet: nothing to compare."]
    return [
        *leaders(ranked, metric),
        *families(ranked, metric),
        *swaps(ranked, metric),
        *changes(ranked, metric),
        *target_hits(ranked, metric),
        *failures(ranked, metric),
        *noise(ranked, metric),
    ]


def leaders(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says which row has the best median and which cannot be told from it."""
    best = ranked[0]
    top = best.test("median")
    first = [row for row in ranked if equal(row.test("median"), top)]
    sentence = (
        f"The {metric.best_word} median test {metric.name} is "
        f"{metric.show(top)}, of {names(first)}."
    )
    if not repeated(ranked):
        return [
            f"{sentence} With a single run in a row there is no spread "
            "between seeds to judge a difference by."
        ]
    others = [row for row in ranked if row not in first]
    close = [row for row in others if overlap(row, best)]
    apart = [row for row in others if row not in close]
    if close:
        own = "its own" if len(first) == 1 else f"that of {best.name}"
        one = len(close) == 1
        sentence += (
            f" The quartile {'range' if one else 'ranges'} of {names(close)} "
            f"{'overlaps' if one else 'overlap'} with {own}: "
            "that difference is within the spread between seeds."
        )
    if apart:
        sentence += f" Without overlap, and worse: {names(apart, metric)}."
    return [sentence]


def families(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Compares the best row with a trust ratio to the best row without."""
    plain = [row for row in ranked if not row.layer_wise]
    adapted = [row for row in ranked if row.layer_wise]
    if not plain or not adapted or not repeated(ranked):
        return []
    gap = abs(plain[0].test("median") - adapted[0].test("median"))
    spread = max(plain[0].spread, adapted[0].spread)
    within = at_most(gap, spread, ranked[0].test("median"))
    verdict = "no larger than" if within else "larger than"
    return [
        "On the question itself: the best median of a plain optimizer is "
        f"{named(plain[0], metric)}, the best of {class_names(adapted)} "
        f"{named(adapted[0], metric)}. The difference, "
        f"{metric.show_gap(gap)}, is {verdict} the quartile range over seeds "
        f"of the wider of the two ({metric.show_gap(spread)})."
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
            f"has a median that is {difference(row, base, metric)}; their "
            "quartile ranges "
            f"{'overlap' if overlap(row, base) else 'do not overlap'}."
        )
    return said


def class_names(rows: Sequence[Row]) -> str:
    """Returns the names of the rows' optimizers as a list in words."""
    return listed(sorted({row.config["optimizer"]["class"] for row in rows}))


def changes(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says what each change makes that some rows have and some have not."""
    known = {row.name: row for row in ranked}
    said: dict[str, list[str]] = {}
    for row in sorted(ranked, key=lambda row: row.number):
        for change, name in row.config.get("changes", {}).items():
            if name in known:
                text = compared(row, known[name], metric)
                said.setdefault(change, []).append(text)
    return [
        f"{change}, each row tuned by itself: {'; '.join(texts)}."
        for change, texts in said.items()
    ]


def compared(row: Row, base: Row, metric: Metric) -> str:
    """Says how a row's median is to another's, and how sure that is."""
    gap = difference(row, base, metric)
    said = f"{row.name} is {gap} {'as' if gap == SAME else 'than'} {base.name}"
    if not repeated([row, base]):
        return said
    touch = "overlap" if overlap(row, base) else "do not overlap"
    return f"{said} (quartile ranges {touch})"


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


def failures(ranked: Sequence[Row], metric: Metric) -> list[str]:
    """Says which rows diverged or are far behind."""
    said = []
    diverged = [
        f"{row.name} ({row.result['diverged']} of {row.seeds})"
        for row in ranked
        if row.result["diverged"]
    ]
    if diverged:
        said.append(f"Runs with fresh seeds diverged in {listed(diverged)}.")
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
    usual = statistics.median(row.spread for row in ranked)
    top = ranked[0].test("median")
    return [
        row
        for row in ranked
        if usual
        and not at_most(abs(row.test("median") - top), FAR * usual, top)
    ]


def cautions(
    rows: Sequence[Row], study: Mapping[str, Any], metric: Metric
) -> list[str]:
    """Returns what a reader should bear in mind, from this study's size."""
    said = [
        "This is a small workload and not "
        f"{study['table']['paper_task']}. The paper's values stand "
        "beside the results as a reference; the sizes of the two cannot be "
        "compared, and an order of the optimizers that is seen here need not "
        "hold for another task, batch or budget."
    ]
    said += unfinished(rows, study)
    said += tuning_limits(rows, study)
    if study["seeds"] < FEW_SEEDS:
        said.append(
            f"Few seeds: medians and quartiles of {study['seeds']} "
            f"{plural(study['seeds'], 'run')} are rough, and no overlap of "
            "two quartile ranges is no test of significance."
        )
    examples = (study["workload"].get("splits") or {}).get("test")
    if examples and metric.is_share:
        said.append(
            f"The test split has {examples} examples, so one example is "
            f"{metric.show_gap(1 / examples)}; smaller steps do not exist."
        )
    return said


def unfinished(rows: Sequence[Row], study: Mapping[str, Any]) -> list[str]:
    """Says which rows lack runs."""
    said = []
    for row in rows:
        missing = []
        done = row.result.get("tuning_trials") or 0
        if row.config["space"] and done < study["trials"]:
            missing.append(f"{done} of {study['trials']} tuning runs")
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
    edges = [text for row in rows for text in at_edge(row)]
    if edges:
        said.append(
            "Best point at an edge of its search space, so better values may "
            f"lie outside: {listed(edges)}."
        )
    lost = [row for row in rows if row.tuning and all_diverged(row)]
    if lost:
        said.append(
            f"Every tuning run of {names(lost)} diverged: the search space "
            "does not fit, and the row says nothing about the optimizer."
        )
    dimensions = max((len(row.config["space"]) for row in rows), default=0)
    if study["trials"] < 4**dimensions:
        said.append(
            f"Few trials: {study['trials']} tuning "
            f"{plural(study['trials'], 'run')} a row in up to {dimensions} "
            "dimensions find a good setting, not the best."
        )
    return said


def at_edge(row: Row) -> list[str]:
    """Returns the row's tuned values in the outer part of their range."""
    said = []
    for name, dimension in row.config["space"].items():
        # A choice has no ends.
        if name not in row.best or dimension["scale"] == "choice":
            continue
        place = results.place(dimension, row.best[name])
        if place < EDGE or place > 1 - EDGE:
            end = "low" if place < EDGE else "high"
            said.append(f"{row.name} ({name} near its {end} end)")
    return said


def all_diverged(row: Row) -> bool:
    """Whether no tuning run of the row ended well."""
    return all(line["diverged"] for line in row.tuning)


def overlap(one: Row, other: Row) -> bool:
    """Whether two rows' quartile ranges have a value in common."""
    return all(
        at_most(low.test("q1"), high.test("q3"), high.test("q3"))
        for low, high in ((one, other), (other, one))
    )


def equal(one: float, other: float) -> bool:
    """Whether two values of a metric differ by no more than rounding."""
    return at_most(abs(one - other), 0, other)


def at_most(one: float, other: float, scale: float) -> bool:
    """Whether a figure is at most another but for the rounding of ``scale``."""
    return one <= other + ROUNDING * abs(scale)


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
