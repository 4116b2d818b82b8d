"""The words that a report uses, each explained in a line or two."""

from collections.abc import Sequence

from tf_largebatch.study import certainty, results
from tf_largebatch.study.results import Metric, Row

OPTIMIZERS = {
    "Nesterov": (
        "Nesterov momentum: steps along a decaying sum of past gradients, "
        "with one learning rate for all layers."
    ),
    "HeavyBall": "another name of momentum, Nesterov's older sibling.",
    "Adam": (
        "divides each step by the recent size of that parameter's own "
        "gradients; epsilon keeps the divisor from 0."
    ),
    "LARS": (
        "made for large batches: momentum, with the learning rate of every "
        "layer multiplied by its trust ratio."
    ),
    "LAMB": "made for large batches: Adam with a trust ratio for every layer.",
}
MOMENTUM = (
    "steps along a decaying sum of past gradients, as Nesterov does, which "
    "looks one step ahead in doing so."
)
TRUST_RATIO = (
    "the norm of a layer's weights divided by the norm of its update, so that "
    "all layers move in proportion to their size."
)
PURE_LAMB = (
    "LAMB on biases and norms too, in the variant whose trust ratio is 0 where "
    "a norm is 0: variables that start at zero, such as biases, are frozen "
    "there for good."
)
WARMUP = (
    "the learning rate rises from 0 to its peak as (share of the warmup)"
    " to this power: 1 is a straight line, 2 starts more slowly."
)
BIAS_CORRECTION = (
    "Adam's and LAMB's averages of the gradients start at zero and are "
    "divided by the share of their weight that is there; without it the early "
    "steps of Adam are larger."
)
JUMP = (
    "the learning rate decays from step 0, and the warmup overwrites that: "
    "where the warmup ends, the rate drops at once from its peak to what has "
    "decayed by then."
)
MLPERF = (
    f"the mean steps to target of a row's first {certainty.MLPERF_RUNS} runs "
    "without the fastest and the slowest; one that never got there is the "
    "slowest."
)
INTERVAL = (
    "by the bootstrap: as many runs are drawn anew from the row's own, with "
    f"replacement, {certainty.RESAMPLES:,} times, and 95 of 100 medians of "
    "such draws lie in it. Of few runs it is rough. Intervals of differences "
    "are wider the more of them the report tells, as one of many may miss by "
    "chance."
)
TOLD = (
    "the interval of the difference of two medians does not contain 0. Without "
    f"an interval, which needs {certainty.LEAST} runs of each, nothing is told."
)
TURNED_ROUND = (
    "how likely so many runs a row, drawn from those at hand, would put the "
    "row before the best one by their medians; a tie counts half."
)
GAP = "how much worse the test median is than the training median."
# Of metrics, by name.
METRICS = {
    "masked-LM loss": (
        "words are hidden, and the network says how likely each token is in "
        "their place; this is the mean of minus the logarithm of what it says "
        "of the right one."
    ),
}


def terms(rows: Sequence[Row], metric: Metric) -> list[tuple[str, str]]:
    """Returns the words that a study's report needs, explained."""
    classes = {row.optimizer for row in rows}
    explained = [
        ("Heavy ball" if name == "HeavyBall" else name, text)
        for name, text in OPTIMIZERS.items()
        if name in classes
    ]
    if any(row.config["bias_bn_optimizer"] == "Momentum" for row in rows):
        explained.append(("Momentum", MOMENTUM))
    if classes & set(results.LAYER_WISE):
        explained.append(("Trust ratio", TRUST_RATIO))
    if any(freezes_zeros(row) for row in rows):
        explained.append(("Pure LAMB", PURE_LAMB))
    if not all(is_corrected(row) for row in rows):
        explained.append(("Bias correction", BIAS_CORRECTION))
    if any(row.config["settings"].get("discontinuous") for row in rows):
        explained.append(("Jump", JUMP))
    if any(row.config["settings"].get("warmup_fraction") for row in rows):
        explained.append(("Warmup power", WARMUP))
    if metric.name in METRICS:
        name = metric.name[:1].upper() + metric.name[1:]
        explained.append((name, METRICS[metric.name]))
    return explained + statistics(metric) + comparisons(rows)


def statistics(metric: Metric) -> list[tuple[str, str]]:
    """Returns the words of the main table's columns, explained."""
    side = "above" if metric.sign > 0 else "below"
    return [
        (
            "Median, quartiles",
            "half of a row's runs are below the median; half lie between the "
            "quartiles.",
        ),
        (
            "Hits",
            "runs that end at the target of "
            f"{metric.show(metric.target)} or {side} it.",
        ),
        (
            "Diverged",
            "runs whose loss stopped being a finite number. They count with "
            f"the {metric.name} as measured{or_worst(metric)}.",
        ),
        (
            "Steps to target",
            "when the test split was first seen at the target, as the median "
            "of all runs; one that never got there is later than any other.",
        ),
    ]


def or_worst(metric: Metric) -> str:
    """Returns what else a run that diverged may count as, in words."""
    worst = metric.show(metric.worst)
    return f", or with {worst} where that is no number"


def comparisons(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Returns the words by which rows are compared, explained."""
    words = []
    if any(row.result.get("mlperf_steps") is not None for row in rows):
        words.append(("MLPerf's steps", MLPERF))
    if any(row.seeds >= certainty.LEAST for row in rows):
        words.append(("95 % interval", INTERVAL))
    if len(rows) > 1:
        words.append(("Told apart", TOLD))
    if any(row.against.get("flip_chance") for row in rows):
        words.append(("Turned round", TURNED_ROUND))
    if any(row.gap is not None for row in rows):
        words.append(("Gap", GAP))
    return words


def is_corrected(row: Row) -> bool:
    """Whether the row's averages, if it has any, are corrected."""
    optimizer = row.config["optimizer"]
    default = optimizer.get("variant") != "bert_2019"
    return bool(optimizer.get("bias_correction", default))


def freezes_zeros(row: Row) -> bool:
    """Whether the row never moves variables that start at zero."""
    optimizer = row.config["optimizer"]
    return (
        optimizer["class"] == "LAMB"
        and optimizer.get("exclude_from_layer_adaptation") == []
        and (
            optimizer.get("variant") == "flax"
            or optimizer.get("zero_norm_ratio") == 0
        )
    )
