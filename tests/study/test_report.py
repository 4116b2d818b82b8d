"""The report: one file that opens offline and says what the study holds."""

import copy
import html.parser
import re
import shlex

import pytest

from tf_largebatch import folders
from tf_largebatch.study import protocol, report

VOID = {"meta", "link", "img", "br", "line", "rect"}
BESIDE = {"trials.jsonl", "summary.json", "study.yaml"}
NASTY = """<script>alert('1')</script> & "quoted" $x_1$ {{ 7 * 7 }} \\ é"""


class Page(html.parser.HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.tags = []
        self.tables = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "strong" and {"td"} & set(self.open):
            self.tables[-1][-1][-1] += "*"

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.text += " ".join(data.split()) + " "
        if {"td", "th"} & set(self.open):
            cell = self.tables[-1][-1][-1] + " " + " ".join(data.split())
            self.tables[-1][-1][-1] = cell.replace("* ", "*").strip()

    def table(self, name):
        """Returns the rows of a table as mappings from their head."""
        ids = [a.get("id") for tag, a in self.tags if tag == "table"]
        head, *rows = self.tables[ids.index(name)]
        return [dict(zip(head, row)) for row in rows]

    @property
    def sections(self):
        """The ids of the page's sections, in order."""
        return [
            a["aria-labelledby"] for tag, a in self.tags if tag == "section"
        ]

    def values(self, attribute):
        """Returns all values of an attribute."""
        return [a[attribute] for _, a in self.tags if attribute in a]


def write(study, folder):
    """Writes a study's report and returns the page."""
    report.write(folder, study.plan, study.lines, study.summary)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


without_drawing = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def folder(table4, tmp_path_factory):
    """The folder of a finished study of table 4, with its report."""
    folder = tmp_path_factory.mktemp("table4")
    write(table4, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page2(table2, tmp_path_factory):
    return write(table2, tmp_path_factory.mktemp("table2"))


def test_nothing_is_loaded_from_elsewhere(page, folder):
    source = (folder / "report.html").read_text(encoding="utf-8")
    for address in page.values("src"):
        assert address.startswith("data:image/png;base64,")
    for address in page.values("href"):
        is_inside = address.startswith(("data:", "#")) or address in BESIDE
        assert is_inside or (folder / address).is_file(), address
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [n for _, a in page.tags for n in a if n.startswith("on")]
    for word in ("http:", "https:", "url(", "@import"):
        assert word not in source
    (policy,) = [
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")


def test_every_picture_is_in_the_page_and_beside_it(page, folder):
    pictures = [a for tag, a in page.tags if tag == "img"]
    files = sorted((folder / "plots").iterdir())
    # Boxes, schedules and progress; curves and search of each of 8 rows.
    assert len(pictures) == len(files) == 3 + 2 * 8
    assert len({picture["src"] for picture in pictures}) == len(files)
    for picture in pictures:
        assert len(picture["alt"]) > 20
        assert int(picture["width"]) > int(picture["height"]) / 3 > 100
    linked = [a for a in page.values("href") if a.startswith("plots/")]
    assert set(linked) == {f"plots/{file.name}" for file in files}


def test_no_file_is_left_half_written(folder):
    assert not list(folder.rglob("*.new"))


def test_the_table_has_the_summarys_figures(page, table4):
    head, *cells = page.tables[0]
    assert len(cells) == 8
    for row, found in zip(table4.summary["rows"], cells):
        test = row["test"]
        by_title = dict(zip(head, found))
        assert by_title["Row"] == row["name"]
        words = by_title["Optimizer of the weights"]
        assert words == row["weights_optimizer"]
        median, quartiles = by_title["Test median"], by_title["Test quartiles"]
        assert float(median.strip("* %")) == round(100 * test["median"], 2)
        assert quartiles == f"{test['q1']:.2%} to {test['q3']:.2%}".replace(
            "%", " %"
        )
        assert by_title["Hits"] == f"{row['hits']} of 5"
        assert by_title["Diverged"] == f"{row['diverged']} of 5"
        rate = f"learning rate {row['best']['learning_rate']:.3g}"
        assert by_title["Tuned values"].startswith(rate)
    steps = [dict(zip(head, found))["Steps to target"] for found in cells]
    # More than half of the runs of Adam with 1e-8 and of LAMB never got there.
    assert [number for number, step in enumerate(steps) if step == "–"] == [
        3,
        5,
    ]
    assert all(step.isdigit() for step in steps if step != "–")


def test_the_settings_say_what_was_given_and_what_was_searched(page, page2):
    lars = page.table("setups-table")[2]
    assert lars == {
        "Row": "lars",
        "Given": "LARS, momentum 0.929, exclude_from_layer_adaptation nothing, "
        "exclude_from_weight_decay nothing",
        "Searched": "learning_rate 1 to 100 (log), "
        "weight_decay 1e-05 to 0.01 (log)",
    }
    alike = (
        "Given to all rows: schedule cosine, label_smoothing 0.1, gamma_0 1."
    )
    assert alike in page.text
    rows = {row["Row"]: row for row in page2.table("setups-table")}
    assert rows["nesterov_power_1"]["Searched"] == "as nesterov_power_2"
    for name in ("nesterov_power_1", "nesterov_power_2"):
        assert f"warmup_power {name[-1]}" in rows[name]["Given"]
    assert "final_fraction 8.51e-07" in rows["nesterov_power_2"]["Given"]
    assert "discontinuous" not in page2.text


def test_a_row_off_the_scale_says_so(folder):
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert source.count("off the scale") == 1
    assert source.count('<svg class="strip"') == 8


def test_table_2_is_shown_by_warmup_power_as_in_the_paper(page2, table2):
    def cell(name, split):
        median = table2.row(name).result[split]["median"]
        star = "*" if name in ("nesterov_power_2", "lars_power_1") else ""
        return f"{star}{median:.2%}".replace("%", " %")

    for table, split in zip(page2.tables[1:3], ("test", "train")):
        assert table[0][1:] == ["Nesterov", "LARS"]
        assert table[1:] == [
            [
                f"Power {power}",
                cell(f"nesterov_power_{power}", split),
                cell(f"lars_power_{power}", split),
            ]
            for power in (1, 2)
        ]
    assert page2.tables[3] == [
        ["The paper's, on ImageNet", "Nesterov", "LARS"],
        ["Power 1", "75.79 %", "*75.97 %"],
        ["Power 2", "*75.92 %", "75.69 %"],
    ]


ALL = [
    *("question", "reading", "results", "done", "sure", "fits", "boxes"),
    *("curves", "schedules", "search", "progress"),
]


def test_a_study_with_all_there_is_has_all_sections(page):
    assert page.sections == ALL


def test_every_row_has_its_intervals(page, table4):
    best, *others = page.table("sure-table")
    # The best row comes first in this study's table.
    summary = table4.summary
    assert [row["Row"] for row in [best, *others]] == [
        row["name"] for row in summary["rows"]
    ]
    for row, cells in zip(summary["rows"], [best, *others]):
        assert cells["Test median"] == f"{row['test']['median']:.2%}".replace(
            "%", "\N{NO-BREAK SPACE}%"
        ).replace("\N{NO-BREAK SPACE}", " ")
        low, high = row["median_interval"]
        interval = cells["95 % interval"].replace(" %", "%")
        assert interval == f"{low:.2%} to {high:.2%}"
    last = list(best)[3:]
    assert last == [
        "Difference to nesterov (percentage points)",
        "95 % interval of the difference",
        "Turned round at 1 seed",
        "Turned round at 3 seeds",
    ]
    assert [best[name] for name in last] == ["–"] * 4
    for found, cells in zip(summary["differences"], others):
        assert found["best"] == "nesterov"
        difference, interval, *flips = (cells[name] for name in last)
        assert float(difference) == pytest.approx(100 * found["difference"])
        low, high = interval.replace("\N{MINUS SIGN}", "-").split(" to ")
        ends = [100 * end for end in found["interval"]]
        assert [float(low), float(high)] == pytest.approx(ends)
        for chance, text in zip(found["flip_chance"].values(), flips):
            words = chance and chance < 0.01
            assert text == ("under 1 %" if words else f"{100 * chance:.0f} %")


@without_drawing
def test_training_and_test_are_ranked_side_by_side(table4, tmp_path):
    """By hand: gaps of 1, 5, 2 and 1 points."""
    tests = {"nesterov": 0.97, "lars": 0.95, "lamb": 0.95, "adam_1e-8": 0.94}
    trains = {"nesterov": 0.98, "lars": 1.0, "lamb": 0.97, "adam_1e-8": 0.95}
    study = table4.only(*tests).with_tests(
        {name: [value] * 3 for name, value in tests.items()}
    )
    for name, value in trains.items():
        study = study.with_runs(name, range(3), train=value)
    page = write(study, tmp_path)
    head, *rows = page.tables[-1]
    assert head == [
        *("Row", "Training median", "Rank", "Test median", "Rank"),
        *("Gap (percentage points)", "Rank"),
    ]
    assert rows == [
        ["nesterov", "98.00 %", "2", "97.00 %", "1", "1.00", "1"],
        ["lars", "100.00 %", "1", "95.00 %", "2", "5.00", "4"],
        ["lamb", "97.00 %", "3", "95.00 %", "2", "2.00", "3"],
        ["adam_1e-8", "95.00 %", "4", "94.00 %", "4", "1.00", "1"],
    ]
    labels = [x for x in page.values("aria-label") if x.startswith("Rank")]
    assert labels == ["Rank in training", "Rank in the test", "Rank by the gap"]
    assert "95.00 %, of" not in page.text and "but the best test" in page.text


@without_drawing
def test_ranks_of_a_metric_to_be_lowered(table4, tmp_path):
    study = table4.only("nesterov", "lars").with_workload(
        metric={"name": "loss", "direction": "min"}, target=0.5
    )
    study = study.with_tests({"nesterov": [0.5] * 3, "lars": [0.4] * 3})
    study = study.with_runs("nesterov", range(3), train=0.3)
    study = study.with_runs("lars", range(3), train=0.35)
    page = write(study, tmp_path)
    assert page.tables[-1][1:] == [
        ["nesterov", "0.3", "1", "0.5", "2", "0.2", "2"],
        ["lars", "0.35", "2", "0.4", "1", "0.05", "1"],
    ]
    (nesterov, lars) = page.table("sure-table")
    assert nesterov["Difference to lars"] == "\N{MINUS SIGN}0.1"
    assert lars["Difference to lars"] == "–"


@without_drawing
def test_mlperfs_figure_is_beside_the_steps(table4, tmp_path):
    def steps(study):
        page = write(study, tmp_path)
        head = list(page.table("main-table")[0])
        return head, [
            (row["Steps to target"], row.get("MLPerf's steps"))
            for row in page.table("main-table")
        ]

    study = table4.only("nesterov", "lars")
    for index, count in enumerate([60, 54, None, 66, 72]):
        study = study.with_runs("lars", [index], steps_to_target=count)
    study = study.with_runs("nesterov", [0, 1], steps_to_target=None)
    head, found = steps(study)
    assert head.index("MLPerf's steps") == head.index("Steps to target") + 1
    assert found[0][1] == "–" and found[1] == ("66", "66")
    head, found = steps(study.without(index=4, kind="seed"))
    assert "MLPerf's steps" not in head


@without_drawing
def test_one_run_a_row_is_not_sure(table4, tmp_path):
    study = table4.with_plan(seeds=1).only("nesterov", "lars")
    study = study.with_tests({"nesterov": [0.98], "lars": [0.97]})
    assert write(study, tmp_path).sections == [x for x in ALL if x != "sure"]


@without_drawing
def test_one_row_is_compared_to_none(table4, tmp_path):
    page = write(table4.only("lars"), tmp_path)
    (row,) = page.table("sure-table")
    assert list(row) == ["Row", "Test median", "95 % interval"]


@without_drawing
def test_a_study_of_somebody_elses_has_no_word_of_the_paper(table4, tmp_path):
    study = table4.only("nesterov", "lars").of_nobodys()
    page = write(study.with_table(title="Mine", question=[]), tmp_path)
    assert "aper" not in page.text and "ImageNet" not in page.text
    assert "Optimizers compared on digits_resnet." in page.text
    assert page.sections == ALL[1:]
    head = list(page.table("main-table")[0])
    assert not [name for name in head if "paper" in name]


@without_drawing
def test_warmups_of_somebody_elses_have_no_square_of_the_papers(
    table2, tmp_path
):
    page = write(table2.of_nobodys(), tmp_path)
    assert len(page.tables) == 6
    assert "By warmup power" in page.text and "as in" not in page.text


@without_drawing
def test_a_study_without_tuning_speaks_of_none(table4, tmp_path):
    study = table4.only("nesterov", "lars").fixed()
    page = write(study, tmp_path)
    assert "no row is tuned: all values are given." in page.text
    assert "every row is run with 5 fresh random seeds" in page.text
    assert page.sections == [x for x in ALL if x not in ("search", "progress")]
    for row in page.table("main-table"):
        assert row["Values"].startswith("momentum 0.9")
        assert row["Values"].endswith(" learning rate 0.25")
    for word in ("validation split", "chosen", "search space"):
        assert word not in page.text


@without_drawing
def test_rows_with_given_values_beside_rows_that_are_tuned(table4, tmp_path):
    nesterov, lars = table4.only("nesterov", "lars").plan["table"]["rows"]
    (given,) = table4.only("lars").fixed().plan["table"]["rows"]
    study = table4.only("nesterov", "lars").with_table(rows=[nesterov, given])
    page = write(study.without(kind="tune", row="lars"), tmp_path)
    assert "the row that is tuned gets 8 training runs at" in page.text
    assert "Of 1 row all values are given." in page.text
    assert "take over" not in page.text
    assert page.sections == ALL


@without_drawing
def test_recipes_measured_at_their_end_alone(table4, tmp_path):
    """As the runs of a study of recipes are, on one split and no other."""
    study = (
        table4.only("nesterov", "lars")
        .of_nobodys()
        .fixed(
            settings={},
            recipe="resnet50/lars_32k",
            optimizer={"class": "adamw"},
        )
    )
    lines = [
        {
            **line,
            "curve": line["curve"][-1:],
            "train": None,
            "validation": line["test"],
        }
        for line in study.lines
    ]
    text = "Both are the same examples"
    study = type(study)(study.plan, lines).with_workload(split_text=text)
    del study.plan["workload"]["splits"]
    page = write(study, tmp_path)
    assert f"judged by accuracy. {text}." in page.text
    missing = ("fits", "curves", "schedules", "search", "progress")
    assert page.sections == [name for name in ALL if name not in missing]
    head = page.table("main-table")[0]
    assert "Training median" not in head and head["Values"] == "–"
    assert len(list((tmp_path / "plots").iterdir())) == 1


@without_drawing
def test_tuning_on_what_is_tested_is_not_denied(table4, tmp_path, page):
    study = table4.only("nesterov", "lars")
    lines = [{**line, "validation": line["test"]} for line in study.lines]
    same = write(type(study)(study.plan, lines), tmp_path)
    assert "never chosen by" in page.text
    assert "never chosen by" not in same.text
    assert "the data that the best points were chosen by" in same.text


@without_drawing
def test_points_of_several_seeds(table4, tmp_path):
    study = table4.only("nesterov", "lars").with_plan(tuning_seeds=2)
    page = write(study, tmp_path)
    assert (
        "each of the 2 rows of the table gets 8 quasi-random points of its "
        "search space, each with 2 runs of different seeds. The point with "
        "the best median accuracy on the validation split is chosen."
    ) in page.text


@without_drawing
def test_runs_without_a_number_are_shown_as_the_worst(table4, tmp_path):
    study = table4.only("nesterov", "lars", "lamb").with_lost("lars", [0, 1])
    page = write(study.with_lost("lamb", range(4)), tmp_path)
    nesterov, lars, lamb = page.table("main-table")
    assert lars["Test quartiles"].endswith(" to ∞")
    assert lars["Diverged"] == "2 of 5"
    assert lamb["Test median"].strip("*") == "∞"
    assert lamb["Diverged"] == "4 of 5"
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert source.count("off the scale ▸") == 1
    assert "infinite, behind every other row" in page.text
    only = write(study.only("lars").with_lost("lars", range(5)), tmp_path)
    assert "no figure" in only.text and "no run yet" not in only.text


def test_only_studies_of_warmups_have_squares(page, page2):
    # The results, the settings, how sure it is, and whether it optimises.
    assert len(page.tables) == 4
    assert len(page2.tables) == 7
    assert "By warmup power, as in the paper" in page2.text
    assert "each of the 8 rows of the table gets 8" in page.text
    assert "each of the 2 rows that are tuned gets 8" in page2.text
    assert "does not suit the other. Is that so here?" in page2.text
    assert "Is that so here?" not in page.text


def test_the_same_study_gives_the_same_bytes(folder, table4, tmp_path):
    """Whatever the order of the ledger's lines."""
    shuffled = type(table4)(table4.plan, table4.lines[::-1])
    write(shuffled, tmp_path)
    files = [x.relative_to(folder) for x in folder.rglob("*") if x.is_file()]
    assert len(files) == 20
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


@without_drawing
def test_text_of_the_users_is_text(table4, tmp_path):
    study = table4.only("lars").renamed(NASTY)
    page = write(study.with_workload(description=NASTY), tmp_path)
    assert page.text.count(NASTY) >= 4
    assert "script" not in {tag for tag, _ in page.tags}
    for file in (tmp_path / "plots").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9_-]+\.png", file.name)


@without_drawing
def test_a_study_in_which_nothing_has_run_yet(table4, tmp_path):
    page = write(type(table4)(table4.plan, []), tmp_path)
    assert "made from 0 finished runs" in page.text
    assert "nothing to compare" in page.text
    assert all("no run yet" in row for row in page.tables[0][1:])


@without_drawing
@pytest.mark.parametrize(
    "left_out, words",
    [
        ({"kind": "seed"}, "nothing to compare"),
        ({"row": "lars"}, "lars is unfinished"),
        ({"kind": "seed", "row": "nesterov"}, "nesterov is unfinished: 0 of 5"),
        ({"index": 4, "kind": "seed"}, "4 of 5 runs with fresh seeds"),
    ],
)
def test_an_unfinished_study_is_shown_as_far_as_it_is(
    table4, tmp_path, left_out, words
):
    study = table4.only("nesterov", "lars").without(**left_out)
    page = write(study, tmp_path)
    assert words in page.text
    assert f"made from {len(study.lines)} finished runs" in page.text


@without_drawing
def test_a_study_in_which_every_run_diverged(table4, tmp_path):
    study = table4.only("lars").with_diverged("lars", "tune")
    page = write(study.with_diverged("lars", "seed"), tmp_path)
    assert "Every tuning run of lars diverged" in page.text
    assert "5 of 5" in page.tables[0][1]


@without_drawing
def test_a_metric_to_be_lowered(table4, tmp_path):
    study = table4.only("nesterov", "lars").with_workload(
        metric={"name": "loss", "direction": "min"}, target=0.98
    )
    page = write(study, tmp_path)
    assert "The lowest median test loss is" in page.text
    assert "%" not in "".join(page.tables[0][1][3:10])


@without_drawing
def test_rows_that_the_paper_does_not_have_are_named(fake_study, tmp_path):
    study = fake_study.finished(rows=["heavy_ball", "lars"])
    page = write(study, tmp_path)
    assert "Not in the paper: heavy_ball." in page.text


def test_a_failed_write_keeps_the_old_report(folder, table4, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}

    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        folders.replace(folder / "report.html", b"new")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    "sizes",
    [
        {"trials": 3, "seeds": 2, "seed": 11, "steps": 24},
        {"rows": ["heavy_ball", "lamb_ratio_1"]},
        {"rows": ["lars", "nesterov"]},
    ],
)
def test_the_command_makes_the_same_study(fake_study, sizes):
    plan = fake_study.finished(**sizes).plan
    program, command, *flags = shlex.split(report.command(plan))
    given = dict(flag.removeprefix("--").split("=") for flag in flags)
    assert (program, command) == ("tf-largebatch", "compare")
    assert given.pop("out") == "NEW_FOLDER"
    rows = [name for name in given.pop("rows", "").split(",") if name]
    numbers = {n: int(given.pop(n)) for n in ("trials", "seeds", "seed")}
    again = protocol.create(
        given.pop("table"),
        given.pop("workload"),
        steps=int(given.pop("steps")),
        rows=rows,
        **numbers,
    )
    assert again == plan
    assert not given


def test_a_study_with_another_name_and_heartbeat_is_compares(table4):
    plan = table4.plan
    named = {**plan, "name": "another", "heartbeat": 3}
    assert report.command(named) == report.command(plan)
    assert named["heartbeat"] == 3


def changed(study, change):
    """Returns a study's protocol with one thing changed."""
    plan = copy.deepcopy(study.plan)
    change(plan)
    return plan


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.update(tuning_seeds=3),
        lambda plan: plan.update(pruner="median"),
        lambda plan: plan.update(trials=0),
        lambda plan: plan["workload"].update(target=0.9),
        lambda plan: plan["workload"].update(name="mine"),
        lambda plan: plan["table"].update(name="mine"),
        lambda plan: plan["table"].update(title="Mine"),
        lambda plan: plan["table"]["rows"][0].update(name="mine"),
        lambda plan: plan["table"]["rows"][0]["optimizer"].update(momentum=0.5),
        lambda plan: plan["table"]["rows"][0]["space"].popitem(),
    ],
)
def test_a_study_that_compare_cannot_make_is_made_from_its_protocol(
    table4, change
):
    assert report.command(changed(table4, change)).splitlines() == [
        "tf-largebatch study create --protocol=study.yaml --out=NEW_FOLDER",
        "tf-largebatch study run --out=NEW_FOLDER",
    ]


@without_drawing
def test_a_study_of_ones_own_model_is_called_again(table4, tmp_path):
    study = table4.only("lars").with_workload(python=True)
    words = "the same call of tf_largebatch.study.compare with another `out`"
    assert report.command(study.plan) == words
    assert words in write(study, tmp_path).text


@pytest.mark.parametrize(
    "count, text",
    [(66.0, "66"), (66.333, "66.3"), (12345.0, "12345"), (None, "–")],
)
def test_steps_as_text(count, text):
    assert report.steps(count) == text


def test_intervals_as_text():
    assert report.between(None, str) == "–"
    assert report.between([1, 2], lambda end: f"{end} %") == "1 % to 2 %"


@pytest.mark.parametrize(
    "value, place", [(0.9, 0), (0.95, 60), (1.0, 120), (0.5, 0), (2, 120)]
)
def test_the_axis_of_the_small_box_plots(value, place):
    axis = report.Axis(0.9, 1.0)
    assert axis(value) == pytest.approx(place, abs=0.05)
    assert axis.holds(value) == (0.9 <= value <= 1)
