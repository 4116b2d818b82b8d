"""What a report says in words is what the runs show."""

import pytest

from tf_largebatch.study import certainty, reading
from tf_largebatch.study.results import Metric

GOOD = [0.9700, 0.9725, 0.9750, 0.9775, 0.9800]
CLOSE = [0.9675, 0.9700, 0.9725, 0.9750, 0.9775]
APART = [0.9500, 0.9525, 0.9550, 0.9575, 0.9600]
FAR_BEHIND = [0.1, 0.2, 0.3, 0.3, 0.4]


def said(study):
    """Returns the findings as one text with plain spaces."""
    sentences = reading.findings(study.rows, study.metric)
    return "\n".join(sentences).replace("\N{NO-BREAK SPACE}", " ")


def warned(study):
    """Returns the cautions as one text with plain spaces."""
    sentences = reading.cautions(study.rows, study.plan, study.metric)
    return "\n".join(sentences).replace("\N{NO-BREAK SPACE}", " ")


def sure(study):
    """Returns how sure the differences are, as one text."""
    rows = study.rows
    sentences = [*reading.sureness(rows, study.metric), *reading.flips(rows)]
    return "\n".join(sentences).replace("\N{NO-BREAK SPACE}", " ")


def fitted(study):
    """Returns what training and test say together, as one text."""
    sentences = reading.fit(study.rows, study.metric)
    return "\n".join(sentences).replace("\N{NO-BREAK SPACE}", " ")


def two(table4, nesterov, lars):
    """Returns a study of two rows with these test metrics."""
    study = table4.only("nesterov", "lars")
    return study.with_tests({"nesterov": nesterov, "lars": lars})


def to_lower(study, target):
    """Returns the study with its metric taken for a loss."""
    metric = {"name": "loss", "direction": "min"}
    return study.with_workload(metric=metric, target=target)


def test_the_best_row_leads(table4):
    text = said(two(table4, GOOD, APART))
    assert "highest median test accuracy is 97.50 %, of nesterov." in text
    assert "\nTold apart from nesterov, by an interval" in text
    assert "does not contain 0: lars (95.50 %)." in text
    assert "Not told apart" not in text


def test_rows_that_lie_close_are_not_told_apart(table4):
    text = said(two(table4, CLOSE, GOOD))
    assert "97.50 %, of lars." in text
    assert "\nNot told apart from lars by these runs" in text
    assert "contains 0: nesterov (97.25 %)." in text
    assert "\nTold apart" not in text


@pytest.mark.parametrize("noise", [0, 1.2e-7])
def test_a_tie_has_two_leaders(table4, noise):
    """Also where the medians differ in the digits that float32 has not."""
    text = said(two(table4, GOOD, [x + noise for x in GOOD]))
    assert "is 97.50 %" in text
    assert "of nesterov and lars." in text or "of lars and nesterov." in text
    assert "worse" not in text


def test_one_seed_has_no_spread(table4):
    text = said(two(table4, [0.98], [0.97]))
    assert "98.00 %, of nesterov." in text
    assert "Fewer than 5 runs, or too few with a finite accuracy" in text
    assert "percentage points (no interval to tell them apart by)." in text
    assert "Seeds alone" not in text


def test_nothing_finished_is_nothing_said(table4):
    study = table4.without(kind="seed")
    assert "nothing to compare" in said(study)
    assert said(study).count("\n") == 0


@pytest.mark.parametrize(
    "lars, verdict",
    [
        (CLOSE, "0.25 percentage points (not told apart)."),
        (APART, "2.00 percentage points (told apart)."),
        ([0.97, 0.98], "0.00 percentage points (no interval to tell them"),
    ],
)
def test_the_question_itself(table4, lars, verdict):
    text = said(two(table4, GOOD, lars))
    assert "the best median of a plain optimizer is nesterov (97.50 %)" in text
    assert f"They differ by {verdict}" in text


def test_the_question_is_judged_as_all_rows_are_together(table4):
    """By the wider intervals of many comparisons, as the table has them."""
    gap = [x - 0.0075 for x in GOOD]
    study = two(table4, GOOD, gap)
    (row,) = [row for row in study.rows if row.against]
    assert reading.between(*study.rows) == row.against["interval"]
    names = ["nesterov", "lars", "lamb", "adam_1e-8"]
    more = table4.only(*names).with_tests(
        {"nesterov": GOOD, "lars": gap, "lamb": APART, "adam_1e-8": APART}
    )
    wider = more.row("lars").against["interval"]
    assert reading.between(more.row("nesterov"), more.row("lars")) == wider
    assert wider[0] < row.against["interval"][0]


@pytest.mark.parametrize("name", ["adam_1e-8", "nesterov"])
def test_the_question_needs_both_kinds_of_optimizer(table4, name):
    assert "question" not in said(table4.only("adam_1e-6", name))
    assert "question" not in said(table4.only("lars", "lamb"))


@pytest.mark.parametrize(
    "swapped, words",
    [
        (APART, "2.00 percentage points worse (told apart)."),
        (CLOSE, "0.25 percentage points worse (not told apart)."),
        (GOOD, "a median that is the same (not told apart)."),
        ([x + 1e-7 for x in GOOD], "a median that is the same"),
        ([x + 0.01 for x in GOOD], "1.00 percentage points better"),
    ],
)
def test_what_another_rows_values_cost(table2, swapped, words):
    study = table2.with_tests(
        {"nesterov_power_2": GOOD, "nesterov_power_1": swapped}
    )
    (sentence,) = [
        line
        for line in said(study).split("\n")
        if "nesterov_power_1, which" in line
    ]
    assert "takes over the values tuned for nesterov_power_2" in sentence
    assert words in sentence


def test_a_swap_in_a_metric_to_be_lowered(table2):
    study = to_lower(table2, 0.5).with_tests(
        {"nesterov_power_2": GOOD, "nesterov_power_1": APART}
    )
    assert "has a median that is 0.02 better" in said(study)


def test_who_reaches_the_target(table4):
    study = table4.only("nesterov", "lars", "lamb").with_tests(
        {"nesterov": GOOD, "lars": CLOSE, "lamb": APART}
    )
    assert (
        "Reached the target of 97.00 %: every run of nesterov; "
        "no run of lamb; some but not all runs of lars."
    ) in said(study)


@pytest.mark.parametrize(
    "tests, words",
    [
        (GOOD, "97.00 %: every run of each row."),
        (APART, "97.00 %: no run of any row."),
        (CLOSE, "97.00 %: some but not all runs of each row."),
    ],
)
def test_all_rows_alike_are_not_listed(table4, tests, words):
    assert words in said(two(table4, tests, tests))


def test_a_target_to_get_below(table4):
    study = to_lower(two(table4, [0.3, 0.4] * 3, [0.6, 0.7] * 3), 0.5)
    text = said(study)
    assert "The lowest median test loss is 0.35, of nesterov." in text
    assert "target of 0.5: every run of nesterov; no run of lars." in text
    assert "does not contain 0: lars (0.65)." in text


def test_diverged_runs_are_counted(table4):
    study = table4.only("nesterov", "lars").with_diverged("lars", "seed")
    assert "diverged in lars (5 of 5)." in said(study)
    assert "diverged" not in said(table4)


def test_a_row_far_behind_is_named_and_set_aside(table4):
    study = table4.only("nesterov", "lars", "lamb").with_tests(
        {"nesterov": GOOD, "lars": CLOSE, "lamb": FAR_BEHIND}
    )
    text = said(study)
    assert "Far behind, by more than 10 times the usual spread" in text
    assert "between seeds: lamb (30.00 %)." in text
    assert "The medians of the rows without lamb differ by up to 0.25" in text


def test_one_row_left_differs_from_no_other(table4):
    study = two(table4, GOOD, FAR_BEHIND)
    study = study.with_tests({"lars": [0.3, 0.3, 0.3, 0.301, 0.302]})
    text = said(study)
    assert "Far behind" in text
    assert "differ by up to" not in text


def test_the_spread_between_seeds(table4):
    text = said(two(table4, GOOD, CLOSE))
    assert "half of its runs lie within 0.50 percentage points" in text
    assert "medians of the rows differ by up to 0.25 percentage" in text
    assert "Far behind" not in text


def test_rows_that_agree_to_the_last_digit(table4):
    text = said(two(table4, [0.98] * 5, [0.97] * 5))
    assert "does not contain 0: lars" in text
    assert "Far behind" not in text


def test_unfinished_rows_are_named_once_each(table4):
    study = table4.without(row="lars", kind="seed").without(row="lamb")
    text = warned(study)
    assert "lars is unfinished: 0 of 5 runs with fresh seeds." in text
    assert (
        "lamb is unfinished: 0 of 8 tuning runs and "
        "0 of 5 runs with fresh seeds."
    ) in text
    assert text.count("unfinished") == 2
    assert "unfinished" not in warned(table4)


def test_a_row_that_inherits_lacks_no_tuning(table2):
    assert "unfinished" not in warned(table2)
    study = table2.without(row="lars_power_2")
    assert "lars_power_2 is unfinished: 0 of 5 runs" in warned(study)


@pytest.mark.parametrize(
    "learning_rate, words",
    [
        (0.011, "nesterov (learning_rate near its low end)"),
        (0.95, "nesterov (learning_rate near its high end)"),
        (0.1, None),
    ],
)
def test_a_best_point_at_an_edge(table4, learning_rate, words):
    study = table4.only("nesterov").with_best(
        "nesterov", learning_rate=learning_rate, weight_decay=1e-3
    )
    assert ("at an edge" in warned(study)) == bool(words)
    assert not words or words in warned(study)


def test_an_end_beyond_which_nothing_lies_is_no_edge(table4):
    study = table4.only("nesterov")
    (row,) = study.plan["table"]["rows"]
    space = {
        "label_smoothing": {"scale": "linear", "low": 0, "high": 0.2},
        "warmup_steps": {
            **{"scale": "integer", "low": 10, "high": 900},
            "below": "steps",
        },
    }
    rows = [{**row, "space": space}]
    best = {"label_smoothing": 0.0, "warmup_steps": 40}
    found = study.with_best("nesterov", **best).with_table(rows=rows)
    assert "at an edge" not in warned(found)
    # Of 72 steps.
    best = {"label_smoothing": 0.19, "warmup_steps": 71}
    text = warned(study.with_best("nesterov", **best).with_table(rows=rows))
    assert "(label_smoothing near its high end)" in text
    assert "(warmup_steps near its high end)" in text


def test_spaces_of_unequal_size_are_named(table4, table2):
    study = table4.only("nesterov", "lars")
    words = "The search spaces are not equally large"
    for each in (study, table4, table2):
        assert words not in warned(each)
    nesterov, lars = study.plan["table"]["rows"]
    rate = {"scale": "log", "low": 0.01, "high": 0.1}
    decay = {"weight_decay": lars["space"]["weight_decay"]}
    for space in ({"learning_rate": rate, **decay}, decay):
        rows = [nesterov, {**lars, "space": space}]
        assert words in warned(study.with_table(rows=rows))


def test_a_space_where_all_diverges(table4):
    study = table4.with_diverged("lars", "tune")
    assert "Every tuning run of lars diverged" in warned(study)
    assert "Every tuning run" not in warned(table4)


@pytest.mark.parametrize(
    "sizes, few_trials, few_seeds",
    [
        ({"trials": 15, "seeds": 9}, True, True),
        ({"trials": 16, "seeds": 10}, False, False),
        ({"trials": 1, "seeds": 1}, True, True),
    ],
)
def test_small_studies_are_called_small(
    fake_study, sizes, few_trials, few_seeds
):
    text = warned(fake_study.finished(**sizes))
    assert ("Few trials" in text) == few_trials
    assert ("Few seeds" in text) == few_seeds
    one = sizes["trials"] == 1
    assert ("Few trials: 1 tuning run a row" in text) == one
    assert ("quartiles of 1 run are rough" in text) == one


def test_how_small_a_difference_can_be(table4):
    assert "400 examples, so one example is 0.25 percentage" in warned(table4)
    assert "examples, so" not in warned(to_lower(table4, 0.5))
    assert "examples, so" not in warned(table4.with_workload(splits={}))


def test_it_says_that_this_is_not_imagenet(table4):
    assert warned(table4).startswith("This is a small workload")


@pytest.mark.parametrize(
    "texts, words",
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
    ],
)
def test_lists_in_words(texts, words):
    assert reading.listed(texts) == words


def test_the_metric_that_the_made_up_studies_have(table4):
    assert table4.metric == Metric("accuracy", 1, 0.97)


def with_changes(study, **changes):
    """Returns the study with ``changes`` of its rows, by name."""
    rows = [
        {**row, "changes": changes.get(row["name"], {})}
        for row in study.plan["table"]["rows"]
    ]
    table = {**study.plan["table"], "rows": rows}
    return type(study)({**study.plan, "table": table}, study.lines)


@pytest.mark.parametrize(
    "lars, words",
    [
        (APART, "lars is 2.00 percentage points worse than nesterov (told apa"),
        (CLOSE, "worse than nesterov (not told apart)."),
        (GOOD, "lars is the same as nesterov (not told apart)."),
        ([0.95], "worse than nesterov (no interval to tell them apart by)."),
    ],
)
def test_what_a_change_makes(table4, lars, words):
    study = with_changes(two(table4, GOOD, lars), lars={"With X": "nesterov"})
    assert words in said(study)
    assert "With X, each row tuned by itself: lars is" in said(study)


def test_a_change_is_followed_through_all_rows_that_have_it(table4):
    study = table4.only("nesterov", "lars", "lars_momentum", "lamb").with_tests(
        {"nesterov": GOOD, "lars": APART, "lars_momentum": GOOD, "lamb": APART}
    )
    study = with_changes(
        study,
        lars={"With X": "nesterov"},
        lars_momentum={"With Y": "nesterov"},
        lamb={"With X": "lars_momentum", "With Y": "lars"},
    )
    # Five pairs are judged, all at one level.
    assert {x.against["comparisons"] for x in study.rows if x.against} == {5}
    lars, lamb = study.row("lars"), study.row("lamb")
    wide = certainty.difference_interval(lamb.tests, lars.tests, 5)
    assert reading.between(lamb, lars) == wide
    assert wide != certainty.difference_interval(lamb.tests, lars.tests)
    text = said(study)
    first, second = (
        next(line for line in text.splitlines() if line.startswith(change))
        for change in ("With X", "With Y")
    )
    assert first.count("percentage points worse") == 2
    assert "; lamb is 2.00" in first and "than lars_momentum" in first
    assert second.count("is the same as") == 2


def test_a_change_from_a_row_without_runs_is_not_spoken_of(table4):
    study = two(table4, GOOD, APART).without(row="nesterov", kind="seed")
    assert "With X" not in said(
        with_changes(study, lars={"With X": "nesterov"})
    )


def test_the_questions_other_side_is_named_as_it_is(table4):
    study = table4.only("adam_1e-8", "lamb_adam_1e-8")
    assert "the best of LAMB lamb_adam_1e-8" in said(study)
    assert "the best of LARS lars" in said(two(table4, GOOD, CLOSE))
    both = table4.only("nesterov", "lars", "lamb")
    assert "the best of LAMB and LARS" in said(both)


def test_rows_that_are_tuned_by_nobody_were_not_tuned_by_themselves(table4):
    study = with_changes(two(table4, GOOD, CLOSE), lars={"With X": "nesterov"})
    assert "With X: lars is 0.25 percentage points worse" in said(study.fixed())


def test_rows_without_their_own_search_say_whose_values_they_have(table2):
    assert "takes over the values tuned for" in said(table2)


def test_only_the_papers_studies_ask_its_question(table4):
    study = two(table4, GOOD, CLOSE)
    rows, metric = study.rows, study.metric
    text = "\n".join(reading.findings(rows, metric, paper=False))
    assert "\nThe best median of a plain optimizer is nesterov" in text
    assert "question" not in text
    assert "On the question itself: the best median" in said(study)


def test_other_studies_do_not_speak_of_the_paper(table4):
    text = warned(table4.of_nobodys())
    assert text.startswith("An order of the optimizers that is seen here")
    assert "paper" not in text and "ImageNet" not in text


def test_nothing_is_said_of_a_search_that_there_was_not(table4):
    text = warned(table4.fixed().with_plan(trials=0))
    for word in ("trials", "tuning", "unfinished", "search"):
        assert word not in text


def test_searches_of_several_seeds_consist_of_points(table4):
    study = table4.only("lars").with_plan(tuning_seeds=2)
    text = warned(study)
    assert "lars is unfinished: 4 of 8 tuning points." in text
    assert "Few trials: 8 tuning points a row in up to 2 dimensions" in text
    assert "1 tuning point a row" in warned(study.with_plan(trials=1))


@pytest.mark.parametrize(
    "change, same",
    [
        (lambda line: line, False),
        (lambda line: {**line, "validation": line["test"]}, True),
        (
            lambda line: {
                **line,
                "validation": line["test"] + (line["index"] == 3),
            },
            False,
        ),
        (lambda line: {**line, "validation": 0, "diverged": True}, False),
    ],
)
def test_tuning_on_what_is_tested_is_said(table4, change, same):
    study = table4.only("nesterov", "lars")
    study = type(study)(study.plan, [change(line) for line in study.lines])
    words = "Validation and test accuracy are the same in every run"
    assert (words in warned(study)) == same
    assert words not in warned(study.fixed())


def test_rows_whose_median_run_has_no_number_are_not_left_out(table4):
    study = table4.only("nesterov", "lars", "lamb").with_lost("lars", range(3))
    text = said(study)
    assert "diverged in lars (3 of 5)" in text
    assert (
        "So many runs of lars end without a finite loss that the median is "
        "infinite, behind every other row." in text
    )
    assert "of lamb." in text.splitlines()[0]
    assert "too few with a finite" not in text
    alone = said(study.only("lars")).splitlines()
    assert len(alone) == 2 and set(alone) < set(text.splitlines())


def test_runs_without_a_number_widen_a_row_beyond_any(table4):
    tests = {"nesterov": [0.5] * 5, "lars": [0.6] * 5}
    study = table4.only("nesterov", "lars").with_tests(tests)
    text = said(study.with_lost("lars", [0, 1]))
    assert "0.10 (no interval to tell" in text or "Seeds alone" not in text
    assert "inf" not in text.replace("finite", "")


def test_intervals_tell_rows_apart_or_do_not(table4):
    study = table4.only("nesterov", "lars", "lamb").with_tests(
        {"nesterov": GOOD, "lars": CLOSE, "lamb": APART}
    )
    first, second, third = sure(study).splitlines()
    assert first == (
        "Told apart from nesterov, by an interval of the difference that does "
        "not contain 0: lamb (95.50 %)."
    )
    assert second == (
        "Not told apart from nesterov by these runs, as the interval of the "
        "difference contains 0: lars (97.25 %)."
    )
    # Of 25 pairs of runs lars is ahead in 6 and level in 4.
    assert third == (
        "One run a row, drawn from those at hand, puts lars before nesterov "
        "with a chance of 32 %; no other row has a higher one."
    )


def test_intervals_of_a_metric_to_be_lowered(table4):
    text = sure(to_lower(two(table4, GOOD, APART), 0.5))
    assert text.startswith("Told apart from lars, ")
    assert text.endswith(" drawn from those at hand, always has lars ahead.")
    text = sure(to_lower(two(table4, GOOD, CLOSE), 0.5))
    assert text.startswith("Not told apart from lars ")
    assert text.endswith("puts nesterov before lars with a chance of 32 %.")


@pytest.mark.parametrize("noise, apart", [(1e-7, False), (1e-5, True)])
def test_an_interval_contains_0_but_for_rounding(table4, noise, apart):
    low = two(table4, [0.97 + noise] * 5, [0.97] * 5)
    assert sure(low).startswith("Told apart") == apart


def test_rows_without_an_interval_are_named(table4):
    study = table4.only("nesterov", "lars", "lamb").with_tests(
        {"nesterov": GOOD, "lars": [0.5], "lamb": APART}
    )
    words = "Fewer than 5 runs, or too few with a finite accuracy, to tell from"
    assert f"{words} nesterov: lars (50.00 %)." in sure(study)
    assert words not in sure(study.only("nesterov", "lamb"))


@pytest.mark.parametrize("names", [[], ["lars"]])
def test_nothing_is_sure_of_one_row(table4, names):
    assert sure(table4.only(*names)) == ""


def test_few_seeds_have_no_fewer_to_draw(table4):
    study = two(table4, [0.98], [0.97]).with_plan(seeds=1)
    assert "One run" not in sure(study)
    assert "Fewer than 5 runs" in sure(study)


@pytest.mark.parametrize(
    "chance, text",
    [
        (0, "0 %"),
        (0.004, "under 1 %"),
        (0.0149, "1 %"),
        (0.325, "32 %"),
        (0.996, "over 99 %"),
        (1, "100 %"),
    ],
)
def test_chances_as_text(chance, text):
    assert reading.percent(chance).replace("\N{NO-BREAK SPACE}", " ") == text


def with_fit(table4, train, test):
    """Returns a study of rows that always have these metrics."""
    study = table4.only(*train).with_tests(
        {name: [value] * 5 for name, value in test.items()}
    )
    for name, value in train.items():
        study = study.with_runs(name, range(5), train=value)
    return study


@pytest.mark.parametrize(
    "train, test, words",
    [
        (
            (0.99, 0.98, 0.97),
            (0.95, 0.94, 0.93),
            "99.00 %, of nesterov; it has the best test median too, so here "
            "what fits best is also best on new data.",
        ),
        (
            (0.97, 0.98, 0.99),
            (0.95, 0.94, 0.93),
            "99.00 %, of lamb, but the best test median is 95.00 %, of "
            "nesterov: here what fits best is not what is best on new data.",
        ),
        (
            (0.99, 0.99, 0.97),
            (0.95, 0.96, 0.95),
            "99.00 %, of nesterov and lars; lars of them has the best test "
            "median too, so here what fits best is also best on new data.",
        ),
        (
            (0.99, 0.99, 0.97),
            (0.96, 0.96, 0.95),
            "99.00 %, of nesterov and lars; they have the best test median",
        ),
        (
            (1, 1, 1),
            (0.96, 0.97, 0.95),
            "All rows have the same training median, 100.00 %: what differs "
            "on the test split is not how well they fit the training data.",
        ),
    ],
)
def test_whether_what_fits_best_is_best(table4, train, test, words):
    names = ("nesterov", "lars", "lamb")
    study = with_fit(table4, dict(zip(names, train)), dict(zip(names, test)))
    assert words in fitted(study)


def test_fitting_well_is_a_low_loss(table4):
    study = with_fit(
        table4, {"nesterov": 0.1, "lars": 0.2}, {"nesterov": 0.5, "lars": 0.4}
    )
    text = fitted(to_lower(study, 0.5))
    assert "0.1, of nesterov, but the best test median is 0.4, of lars" in text


def test_a_better_fit_that_is_not_told_from_the_best(table4):
    study = two(table4, GOOD, CLOSE).with_runs("lars", range(5), train=1.0)
    words = "On the test split these runs do not tell lars from nesterov."
    assert words in fitted(study)
    study = two(table4, GOOD, APART).with_runs("lars", range(5), train=1.0)
    assert "not what is best" in fitted(study)
    assert "do not tell" not in fitted(study)


def test_rows_without_a_training_metric_have_no_fit(table4):
    study = two(table4, GOOD, CLOSE).with_runs("lars", range(5), train=None)
    assert fitted(study) == ""
