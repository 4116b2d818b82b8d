"""The report: one file that opens offline and says what the study holds."""

import html.parser
import re
import shlex

import pytest

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

    def values(self, attribute):
        """Returns all values of an attribute."""
        return [a[attribute] for _, a in self.tags if attribute in a]


def write(study, folder):
    """Writes a study's report and returns the page."""
    report.write(folder, study.plan, study.lines, study.summary)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


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
    assert steps[5] == "–"
    assert all(step.isdigit() for step in steps[:5] + steps[6:])


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


def test_only_studies_of_warmups_have_squares(page, page2):
    assert len(page.tables) == 1
    assert len(page2.tables) == 4
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


def test_text_of_the_users_is_text(table4, tmp_path):
    study = table4.only("lars").renamed(NASTY)
    page = write(study.with_workload(description=NASTY), tmp_path)
    assert page.text.count(NASTY) >= 4
    assert "script" not in {tag for tag, _ in page.tags}
    for file in (tmp_path / "plots").iterdir():
        assert re.fullmatch(r"[A-Za-z0-9_-]+\.png", file.name)


def test_a_study_in_which_nothing_has_run_yet(table4, tmp_path):
    page = write(type(table4)(table4.plan, []), tmp_path)
    assert "made from 0 finished runs" in page.text
    assert "nothing to compare" in page.text
    assert all("no run yet" in row for row in page.tables[0][1:])


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


def test_a_study_in_which_every_run_diverged(table4, tmp_path):
    study = table4.only("lars").with_diverged("lars", "tune")
    page = write(study.with_diverged("lars", "seed"), tmp_path)
    assert "Every tuning run of lars diverged" in page.text
    assert "5 of 5" in page.tables[0][1]


def test_a_metric_to_be_lowered(table4, tmp_path):
    study = table4.only("nesterov", "lars").with_workload(
        metric={"name": "loss", "direction": "min"}, target=0.98
    )
    page = write(study, tmp_path)
    assert "The lowest median test loss is" in page.text
    assert "%" not in "".join(page.tables[0][1][3:10])


def test_rows_that_the_paper_does_not_have_are_named(fake_study, tmp_path):
    study = fake_study.finished(rows=["heavy_ball"]).only("heavy_ball", "lars")
    page = write(study, tmp_path)
    assert "Not in the paper: heavy_ball." in page.text


def test_a_failed_write_keeps_the_old_report(folder, table4, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}

    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        report.replace(folder / "report.html", b"new")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    "sizes",
    [
        {"trials": 3, "seeds": 2, "seed": 11, "steps": 24},
        {"rows": ["heavy_ball", "lamb_ratio_1"]},
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


@pytest.mark.parametrize(
    "value, place", [(0.9, 0), (0.95, 60), (1.0, 120), (0.5, 0), (2, 120)]
)
def test_the_axis_of_the_small_box_plots(value, place):
    axis = report.Axis(0.9, 1.0)
    assert axis(value) == pytest.approx(place, abs=0.05)
    assert axis.holds(value) == (0.9 <= value <= 1)
