"""The pictures: valid, the same every time, true to the runs."""

import dataclasses
import io
import math
import re
import warnings

import matplotlib
import matplotlib.image
import matplotlib.pyplot
import numpy as np
import pytest

from tf_largebatch.study import plots
from tf_largebatch.study.results import Metric

ACCURACY = Metric("accuracy", 1, 0.97)
LOSS = Metric("loss", -1, 0.5)
KINDS = ["boxes", "curves", "schedules", "search", "progress"]


def draw(study):
    """Draws a study's pictures; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return plots.draw(study.plan, study.rows, study.metric)


@pytest.fixture(scope="module")
def two_rows(table4):
    """A good row and one that lies far behind."""
    return table4.only("nesterov", "lamb")


@pytest.fixture(scope="module")
def drawn(two_rows):
    return draw(two_rows)


def test_every_kind_is_drawn(drawn):
    assert list(drawn) == KINDS
    assert [len(drawn[kind]) for kind in KINDS] == [1, 2, 1, 2, 1]
    files = [picture.file for kind in KINDS for picture in drawn[kind]]
    assert files == [
        "boxes.png",
        "curves-01-nesterov.png",
        "curves-02-lamb.png",
        "schedules.png",
        "search-01-nesterov.png",
        "search-02-lamb.png",
        "progress.png",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_png_of_the_size_they_say(drawn, kind):
    for picture in drawn[kind]:
        pixels = matplotlib.image.imread(io.BytesIO(picture.png))
        assert pixels.shape[:2] == (picture.height, picture.width)
        assert 0.002 < np.mean(pixels[..., :3].min(axis=-1) < 0.5) < 0.5


def test_the_same_study_gives_the_same_bytes_whatever_the_style(
    drawn, two_rows
):
    figures = matplotlib.pyplot.get_fignums()
    style = {"font.size": 30, "axes.facecolor": "black", "text.usetex": True}
    with matplotlib.rc_context(style):
        before = dict(matplotlib.rcParams)
        assert draw(two_rows) == drawn
        assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == figures


def test_pictures_carry_no_date_and_no_version(drawn):
    for kind in KINDS:
        for picture in drawn[kind]:
            chunks = picture.png
            assert b"tEXt" not in chunks and b"tIME" not in chunks


def test_other_results_give_other_pictures(drawn, two_rows):
    other = draw(two_rows.with_tests({"nesterov": [0.96, 0.97, 0.98]}))
    assert other["boxes"] != drawn["boxes"]
    assert other["search"] == drawn["search"]


def test_the_words_for_those_who_do_not_see_say_the_figures(drawn, two_rows):
    median = two_rows.metric.show(two_rows.row("nesterov").test("median"))
    (boxes,) = drawn["boxes"]
    assert f"nesterov: median {median}" in boxes.alt
    assert f"ends at {median}" in drawn["curves"][0].alt
    rate = two_rows.row("lamb").best["learning_rate"]
    assert f"lamb: peak {rate:.3g}" in drawn["schedules"][0].alt
    assert f"learning_rate {rate:.3g}" in drawn["search"][1].alt


@pytest.mark.parametrize(
    "change",
    [
        lambda study: type(study)(study.plan, []),
        lambda study: study.without(kind="seed").without(row="lamb"),
        lambda study: study.without(kind="tune"),
        lambda study: study.with_diverged("nesterov", "seed").with_diverged(
            "lamb", "tune"
        ),
        lambda study: study.with_tests({"nesterov": [0.97]}).with_lost(
            "lamb", [0, 2]
        ),
        lambda study: study.with_lost("lamb", range(5)),
        lambda study: study.only("nesterov").renamed("a $x_1$ % \\ & é 名"),
    ],
    ids=[
        "nothing ran",
        "one row's tuning only",
        "seeds only",
        "one row's seeds and the other's tuning diverged",
        "one seed, and two runs without a number",
        "no run with a number",
        "one row of an odd name",
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_unusual_studies_are_drawn(two_rows, change):
    study = change(two_rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Glyph")
        drawn = plots.draw(study.plan, study.rows, study.metric)
    assert len(drawn["curves"]) == len(plots.measured(study.rows))
    assert all(drawn[kind] for kind in KINDS)


def test_a_study_without_tuning_has_no_search(two_rows):
    drawn = draw(two_rows.fixed())
    assert [len(drawn[kind]) for kind in KINDS] == [1, 2, 1, 0, 0]
    assert "nesterov: peak 0.25. lamb: peak 0.25." in drawn["schedules"][0].alt


def test_rows_without_settings_have_no_schedule(two_rows):
    assert draw(two_rows.fixed(settings={}))["schedules"] == []
    nesterov, lamb = two_rows.plan["table"]["rows"]
    mixed = two_rows.with_table(rows=[nesterov, {**lamb, "settings": {}}])
    (picture,) = draw(mixed)["schedules"]
    assert "nesterov" in picture.alt and "lamb" not in picture.alt


def ends_alone(study, *names):
    """Returns the study with rows that are measured at their end alone."""
    lines = [
        {**line, "curve": line["curve"][-1:]} if line["row"] in names else line
        for line in study.lines
    ]
    return type(study)(study.plan, lines)


@pytest.mark.parametrize(
    "change, names",
    [
        (lambda study: study, ["nesterov", "lamb"]),
        (lambda study: ends_alone(study, "lamb"), ["nesterov"]),
        (lambda study: ends_alone(study, "lamb", "nesterov"), []),
        (lambda study: study.without(kind="seed"), ["nesterov", "lamb"]),
        (
            lambda study: study.without(row="lamb", kind="seed"),
            ["nesterov", "lamb"],
        ),
        (
            lambda study: ends_alone(
                study.without(row="lamb", kind="seed"), "nesterov"
            ),
            [],
        ),
    ],
    ids=["all", "one", "none", "not yet", "one not yet", "none, one not yet"],
)
def test_rows_measured_at_their_end_alone_have_no_curve(
    two_rows, change, names
):
    rows = plots.measured(change(two_rows).rows)
    assert [row.name for row in rows] == names


def test_runs_without_a_number_are_counted_beside_the_boxes(two_rows):
    """They end the box at the last run that has one."""
    study = two_rows.with_lost("nesterov", [0, 1])
    row = study.row("nesterov")
    box = plots.box_statistics(row)
    assert box["med"] == row.test("median") < math.inf
    assert box["q3"] == box["whishi"] == max(row.tests[2:])
    figure = plots.Figure()
    axes = figure.subplots()
    plots.enlarge(axes, study.rows, (0.0, 1.0))
    assert [text.get_text() for text in axes.texts] == ["2 ▸"]


def test_choices_of_words_are_drawn(two_rows):
    study = two_rows.only("lamb")
    (row,) = study.plan["table"]["rows"]
    space = {"kind": {"scale": "choice", "values": ["short", "long"]}}
    lines = [
        {**line, "hyperparameters": {"kind": ["long", "short"][number % 2]}}
        for number, line in enumerate(study.lines)
    ]
    study = study.with_table(rows=[{**row, "space": space}])
    (picture,) = draw(type(study)(study.plan, lines))["search"]
    assert re.search("best at kind (long|short)", picture.alt)


def test_a_row_that_inherits_was_not_searched(table2):
    rows = [row for row in table2.rows if row.config["space"]]
    assert [row.name for row in rows] == ["nesterov_power_2", "lars_power_1"]
    files = [picture.file for picture in draw(table2)["search"]]
    assert files == [
        "search-01-nesterov_power_2.png",
        "search-03-lars_power_1.png",
    ]


def curve(tests, losses=(1.0, 1.0, 1.0)):
    return [
        {"step": step, "test": test, "loss": loss}
        for step, (test, loss) in enumerate(zip(tests, losses), start=1)
    ]


def row_with_curves(table4, *curves):
    """Returns a row whose seeds have these curves."""
    study = table4.only("lars").with_tests({"lars": [0.9] * len(curves)})
    lines = [
        {**line, "curve": made}
        for line, made in zip(study.row("lars").repeats, curves)
    ]
    return type(table4)(study.plan, lines).row("lars")


def test_a_run_that_stopped_stays_in_the_curves_statistics(table4):
    row = row_with_curves(
        table4,
        curve([0.5, 0.6, 0.7]),
        curve([0.5, 0.8, 0.9]),
        curve([0.1, 0.2], [1.0, None]),
    )
    steps, middle, low, high = plots.quartiles(row, "test")
    assert steps.tolist() == [1, 2, 3]
    assert middle.tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert low.tolist() == pytest.approx([0.3, 0.4, 0.45])
    assert high.tolist() == pytest.approx([0.5, 0.7, 0.8])
    _, middle, _, high = plots.quartiles(row, "loss")
    assert middle.tolist() == [1, 1, 1]
    assert np.isnan(high[1:]).all()


def test_a_metric_that_is_no_number_is_the_worst_in_a_curve(table4):
    row = row_with_curves(
        table4,
        curve([0.5, 0.6, 0.7]),
        curve([0.5, None], [1.0, None]),
        curve([0.1, None, None], [1.0, None, None]),
    )
    _, middle, low, high = plots.quartiles(row, "test")
    assert middle.tolist() == [0.5, 0, 0]
    assert high.tolist() == pytest.approx([0.5, 0.3, 0.35])
    lower = dataclasses.replace(row, metric=LOSS)
    _, middle, low, _ = plots.quartiles(lower, "test")
    assert middle[0] == 0.5 and np.isnan(middle[1:]).all()
    assert low.tolist()[:1] == [0.3] and np.isnan(low[1:]).all()


def test_one_explosion_hides_no_other_row(table4):
    explodes = curve([0.5, 0.1, 0.1], [1.0, 1e6, 1e9])
    learns = curve([0.5, 0.6, 0.7], [2.0, 1.0, 0.5])
    rows = [
        row_with_curves(table4, each) for each in (learns, explodes, learns)
    ]
    assert plots.loss_ceiling(rows) == 3.0
    assert plots.loss_ceiling([]) is None


def test_losses_far_from_0_fill_their_axis(table4):
    high = row_with_curves(table4, curve([5, 5, 5], [7.0, 6.5, 6.0]))
    low = row_with_curves(table4, curve([5, 5, 5], [7.0, 2.0, 1.0]))
    assert plots.loss_floor([high]) == pytest.approx(5.9)
    assert plots.loss_ceiling([high]) == pytest.approx(7.35)
    assert plots.loss_floor([high, low]) == 0
    assert plots.loss_floor([]) == 0


def test_the_best_so_far_never_gets_worse(table4):
    row = table4.row("nesterov")
    values = [line["validation"] for line in row.tuning]
    best = plots.best_so_far(row, ACCURACY)
    assert best.tolist() == [max(values[: n + 1]) for n in range(8)]
    best = plots.best_so_far(row, LOSS)
    assert best.tolist() == [min(values[: n + 1]) for n in range(8)]


def test_the_better_rows_later_trials_are_enlarged():
    good = np.array([0.2, 0.90, 0.95, 0.97])
    fair = np.array([0.5, 0.93, 0.94, 0.96])
    bad = np.array([0.1, 0.2, 0.2, 0.3])
    low, high = plots.late_window([good, bad, fair], ACCURACY)
    assert 0.9 < low < 0.94
    assert 0.97 < high < 1
    assert plots.late_window([good[2:], fair[2:]], ACCURACY) is None
    low, high = plots.late_window([1 - good, 1 - bad, 1 - fair], LOSS)
    assert 0 < low < 0.03 and 0.06 < high < 0.1


@pytest.mark.parametrize("values", [[math.nan] * 3, [0.5] * 3, [0.5]])
def test_what_cannot_be_enlarged_is_drawn_all_the_same(values):
    window = plots.late_window([np.array(values)], ACCURACY)
    assert window is None or window[0] < 0.5 < window[1]


def test_rows_of_one_schedule_share_a_line(table2, table4):
    with plots.plain_style():
        (group,) = plots.same_shape(plots.best_rates(table4.plan, table4.rows))
        assert plots.group_label(group[0], table4.rows) == "all 8 rows"
        rates = plots.best_rates(table2.plan, table2.rows)
    assert len(plots.same_shape(rates)) == 4


def test_the_jump_of_berts_schedule_is_drawn(fake_study):
    study = fake_study.finished("bert")
    with plots.plain_style():
        shapes = plots.same_shape(plots.best_rates(study.plan, study.rows))
    assert len(shapes) >= 2
    # The warmup ends at step 64 of 320.
    after = {
        row.name: values[64] for members, values in shapes for row in members
    }
    assert len(after) == 8
    for name, share in after.items():
        # As a share of the highest rate, that of step 63 where there is one.
        assert (share < 0.9) == name.endswith("jump")
        assert share > 0.79


def test_a_line_that_many_rows_share_is_named_in_short(fake_study):
    rows = fake_study.finished("bert").rows
    assert plots.group_label(rows[:2], rows) == "adam, adam_jump"
    many = plots.group_label(rows[3:6], rows)
    assert many == "adam_uncorrected_jump, lamb, lamb_jump"
    many = plots.group_label(rows[3:7], rows)
    assert many == "adam_uncorrected_jump and 3 more"


def test_the_rates_are_those_of_the_best_point(table4):
    rates = plots.best_rates(table4.plan, table4.rows)
    assert [row.name for row, _ in rates] == [row.name for row in table4.rows]
    for row, values in rates:
        assert values.shape == (72,)
        assert values[0] == np.float32(row.best["learning_rate"])


@pytest.mark.parametrize(
    "dimension, ticks",
    [
        (("log", 0.01, 1.0), [0.01, 0.03, 0.1, 0.3, 1.0]),
        (("log", 1e-5, 1e-2), [1e-5, 1e-4, 1e-3, 1e-2]),
        (("log", 0.2, 0.4), [0.2]),
        (("log", 1e-8, 1.0), [1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
        (("log", 0.32, 0.45), [0.32, 0.45]),
        (("one_minus_log", 0.9, 0.999), [0.9, 0.97, 0.99, 0.997, 0.999]),
        (("linear", 0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round_and_in_the_range(dimension, ticks):
    named = dict(zip(("scale", "low", "high"), dimension))
    assert plots.nice_ticks(named) == pytest.approx(ticks)


def test_long_names_are_cut(table4):
    row = table4.only("lars").renamed("x" * 27).rows[0]
    assert plots.label(row) == "x" * 25 + "…"
    assert plots.label(table4.row("lamb_adam_1e-8")) == "lamb_adam_1e-8"


def test_file_names_are_safe_and_differ(table4):
    rows = [table4.only("lars").renamed(name).rows[0] for name in "/é"]
    names = {plots.file_name("search", row) for row in [*rows, *table4.rows]}
    assert "search-01-_.png" in names
    assert len({plots.file_name("search", row) for row in table4.rows}) == 8


@pytest.mark.parametrize(
    "metric, value, text",
    [
        (ACCURACY, 0.9725, "97.25 %"),
        (ACCURACY, 1.0, "100 %"),
        (ACCURACY, 1.05, ""),
        (LOSS, 1.25, "1.25"),
    ],
)
def test_values_on_an_axis(metric, value, text):
    assert plots.value_formatter(metric)(value, 0) == text


def test_points_are_kept_apart_within_their_row():
    offsets = plots.jitter(50)
    assert np.abs(offsets).max() <= 0.2
    assert len(set(offsets.round(6))) == 50
